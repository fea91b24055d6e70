from setuptools import find_packages, setup

setup(
    name="resfit_cameras",
    version="0.1.0",
    description="Cameras of the real robot on the interfaces of the graph",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.example",
    packages=find_packages(exclude=["test", "test.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/resfit_cameras"]),
        ("share/resfit_cameras", ["package.xml"]),
    ],
    entry_points={
        "console_scripts": [
            "zed_camera = resfit_cameras.executables:zed_camera",
            "opencv_camera = resfit_cameras.executables:opencv_camera",
        ]
    },
    zip_safe=True,
)
