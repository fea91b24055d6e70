"""Tasks: what a robot is asked to do, and its interface."""

from resfit_rl.tasks.registry import get_task
from resfit_rl.tasks.state import StateError, assemble_state
from resfit_rl.tasks.task import JointTerm, PoseTerm, Task, UnknownTaskError

__all__ = [
    "JointTerm",
    "PoseTerm",
    "StateError",
    "Task",
    "UnknownTaskError",
    "assemble_state",
    "get_task",
]
