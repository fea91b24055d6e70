from setuptools import find_packages, setup

setup(
    name="resfit_driver",
    version="0.1.0",
    description="What the driver nodes of all robots are made of",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.example",
    packages=find_packages(exclude=["test", "test.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/resfit_driver"]),
        ("share/resfit_driver", ["package.xml"]),
    ],
    zip_safe=True,
)
