from setuptools import find_packages, setup

setup(
    name="resfit_viewing",
    version="0.1.0",
    description="Watching the graph: episodes as MCAP, markers, live views in Rerun, Foxglove",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.example",
    packages=find_packages(exclude=["test", "test.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/resfit_viewing"]),
        ("share/resfit_viewing", ["package.xml"]),
    ],
    entry_points={
        "console_scripts": [
            "episode_mcap = resfit_viewing.executables:episode_mcap",
            "foxglove_view = resfit_viewing.executables:foxglove_view",
            "markers = resfit_viewing.executables:markers",
            "rerun_view = resfit_viewing.executables:rerun_view",
        ]
    },
    zip_safe=True,
)
