"""One episode of a base policy in simulation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resfit_rl.base_policies.interface import BasePolicy
from resfit_rl.control import ChunkSchedule
from resfit_rl.simulation import Frame, Simulation


@dataclass(frozen=True, eq=False)
class Rollout:
    """An episode of T steps.

    Attributes:
        seed: of the start state and of whatever is random in the policy.
        success: whether the last frame is a success.
        frames: T + 1 frames; the last one is the first success, or the time limit's. With
            `further_steps` more frames follow.
        actions: (T, A) float32, robot units, T counting the further steps too.
    """

    seed: int
    success: bool
    frames: tuple[Frame, ...]
    actions: NDArray[np.float32]

    def wrench_peaks(self) -> dict[str, tuple[float, float]]:
        """wrist -> largest force (N) and torque (N m) of the episode, tared at its first frame."""
        peaks = {}
        for wrist, first in self.frames[0].wrenches.items():
            tared = np.array([frame.wrenches[wrist] for frame in self.frames]) - first
            norms = np.linalg.norm(tared.reshape(-1, 2, 3), axis=2).max(axis=0)
            peaks[wrist] = (float(norms[0]), float(norms[1]))
        return peaks


def rollout(
    simulation: Simulation,
    base_policy: BasePolicy,
    schedule: ChunkSchedule,
    seed: int,
    *,
    max_steps: int | None = None,
    further_steps: int = 0,
) -> Rollout:
    """Run `base_policy` from the start state of `seed` until success or the time limit.

    Args:
        max_steps: None for the task's.
        further_steps: steps after the first success.

    Raises:
        ValueError: the policy's chunk is too short for the schedule.
    """
    schedule.require_chunk_size(base_policy.chunk_size)
    task = simulation.task
    base_policy.reset(seed)
    frames = [simulation.reset(seed)]
    actions: list[NDArray[np.float32]] = []
    limit = task.max_steps if max_steps is None else max_steps
    success = False
    while len(actions) < limit:
        step = len(actions)
        if schedule.is_source(step):
            following = base_policy.predict_chunk(frames[-1].observation(task))
        if step % schedule.replan_interval == 0:
            chunk = following
        actions.append(chunk[step - schedule.source(step)])
        frames.append(simulation.step(actions[-1]))
        if frames[-1].success and not success:
            success = True
            limit = len(actions) + further_steps
    return Rollout(
        seed, success, tuple(frames), np.array(actions, np.float32).reshape(-1, task.action_dim)
    )
