from setuptools import find_packages, setup

setup(
    name="resfit_sim_bridge",
    version="0.1.0",
    description="Driver of a simulated robot on the interfaces of the graph",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.example",
    packages=find_packages(exclude=["test", "test.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/resfit_sim_bridge"]),
        ("share/resfit_sim_bridge", ["package.xml"]),
    ],
    entry_points={"console_scripts": ["sim_bridge = resfit_sim_bridge.executables:sim_bridge"]},
    zip_safe=True,
)
