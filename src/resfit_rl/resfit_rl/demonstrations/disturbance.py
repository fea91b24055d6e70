"""An expert that is pushed off its path now and then, so that what it records shows recovery."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resfit_rl.base_policies.interface import BasePolicy
from resfit_rl.observation import Observation
from resfit_rl.tasks import Task

_LENGTHS = (3, 10)  # steps, both included
# Chance that a step begins a disturbance: with 6.5 steps each, about a fifth of all steps are in
# one.
_CHANCE = 1 / 27
# Last words of the names of actions that move an arm; all others move a gripper's fingers.
_ARM_ACTIONS = ("x", "y", "z", "roll", "pitch", "yaw", "rx", "ry", "rz")


class DisturbedExpert:
    """A BasePolicy: the expert's action plus, at random times, an offset held for a while.

    Args:
        expert: a policy of single actions.
        size: largest offset of an arm's action, as a share of half its range.
    """

    chunk_size = 1

    def __init__(self, expert: BasePolicy, task: Task, size: float) -> None:
        self._expert = expert
        self.identity = disturbed_identity(expert.identity, size)
        self._lower, self._upper = np.array(task.action_lower), np.array(task.action_upper)
        arm = [name.rpartition("_")[2] in _ARM_ACTIONS for name in task.action_names]
        self._size = size * np.array(arm) * (self._upper - self._lower) / 2
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._expert.reset(seed)
        # Not the expert's own stream: with size 0 it would act as it does alone.
        self._rng = np.random.default_rng([seed, 1])
        self._steps_left = 0
        self._offset = np.zeros(len(self._size))
        self._own: list[NDArray[np.float32]] = []

    def predict_chunk(self, observation: Observation) -> NDArray[np.float32]:
        """(1, A) float32: what the robot shall do, disturbed or not."""
        own = self._expert.predict_chunk(observation)[0]
        self._own.append(own)
        if not self._steps_left and self._rng.random() < _CHANCE:
            self._steps_left = int(self._rng.integers(_LENGTHS[0], _LENGTHS[1] + 1))
            self._offset = self._size * self._rng.uniform(-1, 1, len(self._size))
        if not self._steps_left:
            return own[None]
        self._steps_left -= 1
        disturbed = np.clip(own + self._offset, self._lower, self._upper)
        return disturbed.astype(np.float32)[None]

    def own_actions(self) -> NDArray[np.float32]:
        """(T, A) float32: what the expert wanted in each step since the reset."""
        return np.array(self._own, np.float32)


def disturbed_identity(identity: str, size: float) -> str:
    """Of an expert disturbed by `size`; 0 leaves it as it is."""
    return f"{identity}:disturbed-{size:g}" if size else identity
