from setuptools import find_packages, setup

setup(
    name="resfit_ros",
    version="0.1.0",
    description="The ROS edge that the nodes share: conversions, QoS, heartbeat, parameters",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.example",
    packages=find_packages(exclude=["test", "test.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/resfit_ros"]),
        ("share/resfit_ros", ["package.xml"]),
    ],
    zip_safe=True,
)
