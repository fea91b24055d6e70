"""Entry points of the executables."""

from resfit_ros.start import start


def episode_mcap() -> int:
    return start("resfit_viewing.episode_mcap")


def foxglove_view() -> int:
    return start("resfit_viewing.foxglove_view")


def markers() -> int:
    return start("resfit_viewing.markers")


def rerun_view() -> int:
    return start("resfit_viewing.rerun_view")
