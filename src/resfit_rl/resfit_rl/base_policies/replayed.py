"""A recorded action sequence as a base policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resfit_rl.base_policies.identity import base_policy_identity
from resfit_rl.base_policies.interface import BasePolicyError
from resfit_rl.observation import Observation
from resfit_rl.tasks import Task


class ReplayedPolicy:
    """Gives the recorded actions one after another and repeats the last; see BasePolicy."""

    chunk_size = 1

    def __init__(self, actions: NDArray[np.float32], identity: str) -> None:
        """
        Args:
            actions: (T, A) float32, robot units.
        """
        self._actions = actions
        self._next = 0
        self.identity = identity

    def reset(self, seed: int) -> None:
        """Back to the first action."""
        self._next = 0

    def predict_chunk(self, observation: Observation) -> NDArray[np.float32]:
        """(1, A): the next recorded action, whatever the observation."""
        action = self._actions[min(self._next, len(self._actions) - 1)]
        self._next += 1
        return action[None]


def load_replayed(path: Path | str, task: Task) -> ReplayedPolicy:
    """From a .npy file of actions (T, A). BasePolicyError names the expected and the found."""
    try:
        actions = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BasePolicyError(f"{path}: expected a .npy file of actions, found: {error}") from error
    if actions.ndim != 2 or actions.shape[1] != task.action_dim or not len(actions):
        raise BasePolicyError(f"{path}: expected (T, {task.action_dim}), found {actions.shape}")
    if not np.isfinite(actions).all():
        raise BasePolicyError(f"{path}: expected finite actions, found NaN or infinity")
    identity = base_policy_identity("replayed", task, path)
    return ReplayedPolicy(actions.astype(np.float32), identity)
