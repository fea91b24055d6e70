"""Entry points of the executables."""

from resfit_ros.start import start


def ab_test_auto() -> int:
    return start("resfit_teleop_ui.ab_test_auto")


def ab_test_keyboard() -> int:
    return start("resfit_teleop_ui.ab_test_keyboard")


def auto_labeler() -> int:
    return start("resfit_teleop_ui.auto_labeler")


def keyboard_labeler() -> int:
    return start("resfit_teleop_ui.keyboard_labeler")
