"""Demonstrations by the scripted expert, in a LeRobotDataset."""

from resfit_rl.demonstrations.dataset import (
    Demonstration,
    DemonstrationsError,
    DemonstrationsIdentity,
    load_demonstrations,
)

__all__ = [
    "Demonstration",
    "DemonstrationsError",
    "DemonstrationsIdentity",
    "load_demonstrations",
]
