"""Entry points of the executables."""

from resfit_ros.start import start


def episode_supervisor() -> int:
    return start("resfit_safety.episode_supervisor")


def safety_monitor() -> int:
    return start("resfit_safety.safety_monitor")
