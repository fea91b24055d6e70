from setuptools import find_packages, setup

setup(
    name="resfit_policy",
    version="0.1.0",
    description="The policy that acts: a frozen base policy and the residual learnt beside it",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.example",
    packages=find_packages(exclude=["test", "test.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/resfit_policy"]),
        ("share/resfit_policy", ["package.xml"]),
    ],
    entry_points={"console_scripts": ["policy = resfit_policy.executables:policy"]},
    zip_safe=True,
)
