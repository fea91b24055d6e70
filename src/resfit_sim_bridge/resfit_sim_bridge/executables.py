"""Entry points of the executables."""

from resfit_ros.start import start


def sim_bridge() -> int:
    return start("resfit_sim_bridge.sim_bridge")
