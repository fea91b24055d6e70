from setuptools import find_packages, setup

setup(
    name="resfit_learner",
    version="0.1.0",
    description="Nodes that store episodes and learn the residual from them",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.example",
    packages=find_packages(exclude=["test", "test.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/resfit_learner"]),
        ("share/resfit_learner", ["package.xml"]),
    ],
    entry_points={
        "console_scripts": [
            "learner = resfit_learner.executables:learner",
            "episode_recorder = resfit_learner.executables:episode_recorder",
            "record_demonstrations = resfit_learner.executables:record_demonstrations",
        ]
    },
    zip_safe=True,
)
