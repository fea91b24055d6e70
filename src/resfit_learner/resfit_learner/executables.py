"""Entry points of the executables."""

from resfit_ros.start import start


def learner() -> int:
    return start("resfit_learner.learner")


def episode_recorder() -> int:
    return start("resfit_learner.episode_recorder")


def record_demonstrations() -> int:
    return start("resfit_rl.demonstrations.__main__")
