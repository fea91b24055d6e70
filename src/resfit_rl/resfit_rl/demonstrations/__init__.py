"""Demonstrations: recorded by the scripted expert, converted, read back; always checked."""

from resfit_rl.demonstrations.demonstration import Demonstration, DemonstrationsError
from resfit_rl.demonstrations.identity import DemonstrationsIdentity
from resfit_rl.demonstrations.reading import load_demonstrations, read_identity

__all__ = [
    "Demonstration",
    "DemonstrationsError",
    "DemonstrationsIdentity",
    "load_demonstrations",
    "read_identity",
]
