from setuptools import find_packages, setup

setup(
    name="resfit_rl",
    version="0.1.0",
    description="Residual off-policy fine-tuning of a cloned policy; knows nothing of ROS",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.example",
    packages=find_packages(exclude=["test", "test.*"]),
    package_data={"resfit_rl.simulation.scenes": ["objects/*.xml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/resfit_rl"]),
        ("share/resfit_rl", ["package.xml"]),
    ],
    zip_safe=False,
)
