"""Entry points of the executables."""

from resfit_ros.start import start


def auto_labeler() -> int:
    return start("resfit_teleop_ui.auto_labeler")


def keyboard_labeler() -> int:
    return start("resfit_teleop_ui.keyboard_labeler")
