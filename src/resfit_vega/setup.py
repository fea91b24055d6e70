from setuptools import find_packages, setup

setup(
    name="resfit_vega",
    version="0.1.0",
    description="Driver of Dexmate's Vega",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.example",
    packages=find_packages(exclude=["test", "test.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/resfit_vega"]),
        ("share/resfit_vega", ["package.xml"]),
    ],
    entry_points={"console_scripts": ["vega_driver = resfit_vega.executables:vega_driver"]},
    zip_safe=True,
)
