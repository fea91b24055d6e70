"""Tasks: what a robot is asked to do, and its interface."""

from resfit_rl.tasks.registry import get_task, task_names
from resfit_rl.tasks.state import StateError, assemble_state
from resfit_rl.tasks.task import (
    JointTerm,
    PoseTerm,
    RelativeTerm,
    StateTerm,
    Task,
    UnknownTaskError,
    rotation_vector,
)

__all__ = [
    "JointTerm",
    "PoseTerm",
    "RelativeTerm",
    "StateError",
    "StateTerm",
    "Task",
    "UnknownTaskError",
    "assemble_state",
    "get_task",
    "rotation_vector",
    "task_names",
]
