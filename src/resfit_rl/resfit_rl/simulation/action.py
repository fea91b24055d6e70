"""What an action must be before it moves anything in a simulation."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resfit_rl.simulation.error import SimulationError
from resfit_rl.tasks import Task


def require_action(action: ArrayLike, task: Task) -> NDArray[np.float64]:
    """`action` as (A,) float64; SimulationError: wrong shape, NaN or infinity."""
    action = np.asarray(action, np.float64)
    if action.shape != (task.action_dim,):
        raise SimulationError(f"action: expected shape ({task.action_dim},), found {action.shape}")
    if not np.isfinite(action).all():
        raise SimulationError(f"action: expected finite values, found {action.tolist()}")
    return action
