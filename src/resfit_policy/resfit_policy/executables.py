"""Entry points of the executables."""

from resfit_ros.start import start


def policy() -> int:
    return start("resfit_policy.policy")
