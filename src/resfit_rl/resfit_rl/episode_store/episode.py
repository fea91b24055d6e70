"""One recorded episode in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Outcome = Literal["success", "failure", "safety_stop", "timeout"]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Episode:
    """T transitions between T + 1 observations.

    Attributes:
        task, implementation: identity of the task; see resfit_rl.tasks.Task.
        base_policy: identity of the base policy that acted.
        episode_id: unique in its run directory, from 1.
        seed: of the start state.
        outcome: why it ended.
        reward: of the last transition, 1 for success; all others have 0.
        done: False for a time limit only, where returns bootstrap.
        images: camera -> (T + 1, H, W, 3) uint8.
        state: (T + 1, S) float32.
        base_action: (T + 1, A) float32, robot units; the last one is at the terminal observation.
        executed_action: (T, A) float32, robot units, as applied after the gate.
        policy_version: (T,) int64, weights that acted; 0 for none.
        stamps: (T + 1,) int64, ns of the graph's clock, strictly increasing.
    """

    task: str
    implementation: str
    base_policy: str
    episode_id: int
    seed: int
    outcome: Outcome
    reward: float
    done: bool
    images: dict[str, NDArray[np.uint8]]
    state: FloatArray
    base_action: FloatArray
    executed_action: FloatArray
    policy_version: NDArray[np.int64]
    stamps: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.executed_action)
