from setuptools import find_packages, setup

setup(
    name="resfit_safety",
    version="0.1.0",
    description="Action gate, wrench limits, episode supervision",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.example",
    packages=find_packages(exclude=["test", "test.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/resfit_safety"]),
        ("share/resfit_safety", ["package.xml"]),
    ],
    entry_points={
        "console_scripts": [
            "episode_supervisor = resfit_safety.executables:episode_supervisor",
            "safety_monitor = resfit_safety.executables:safety_monitor",
        ]
    },
    zip_safe=True,
)
