from setuptools import find_packages, setup

setup(
    name="resfit_teleop_ui",
    version="0.1.0",
    description="Labelers of episodes: a keyboard in a terminal, and a simulation's success check",
    license="Apache-2.0",
    maintainer="resfit maintainers",
    maintainer_email="maintainers@resfit.example",
    packages=find_packages(exclude=["test", "test.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/resfit_teleop_ui"]),
        ("share/resfit_teleop_ui", ["package.xml"]),
    ],
    entry_points={
        "console_scripts": [
            "ab_test_auto = resfit_teleop_ui.executables:ab_test_auto",
            "ab_test_keyboard = resfit_teleop_ui.executables:ab_test_keyboard",
            "auto_labeler = resfit_teleop_ui.executables:auto_labeler",
            "keyboard_labeler = resfit_teleop_ui.executables:keyboard_labeler",
        ]
    },
    zip_safe=True,
)
