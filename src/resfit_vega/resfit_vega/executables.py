"""Entry points of the executables."""

from resfit_ros.start import start


def vega_driver() -> int:
    return start("resfit_vega.vega_driver")
