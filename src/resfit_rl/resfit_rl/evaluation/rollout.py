"""One episode of a policy in simulation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from resfit_rl.base_policies.interface import BasePolicy
from resfit_rl.control import ChunkedBase, ChunkSchedule
from resfit_rl.simulation import Frame, Simulator

if TYPE_CHECKING:
    from resfit_rl.agent import ResidualPolicy


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

    def wrench_norms(self) -> dict[str, NDArray[np.float64]]:
        """wrist -> (frames, 2) float64: force (N) and torque (N m), tared at the first frame."""
        return {
            wrist: np.linalg.norm(
                (np.array([frame.wrenches[wrist] for frame in self.frames]) - first).reshape(
                    -1, 2, 3
                ),
                axis=2,
            )
            for wrist, first in self.frames[0].wrenches.items()
        }

    def wrench_peaks(self) -> dict[str, tuple[float, float]]:
        """wrist -> largest force (N) and torque (N m) of the episode, tared at its first frame."""
        peaks = {wrist: norms.max(axis=0) for wrist, norms in self.wrench_norms().items()}
        return {wrist: (float(force), float(torque)) for wrist, (force, torque) in peaks.items()}


def rollout(
    simulation: Simulator,
    base_policy: BasePolicy,
    schedule: ChunkSchedule,
    seed: int,
    *,
    residual: ResidualPolicy | None = None,
    max_steps: int | None = None,
    further_steps: int = 0,
) -> Rollout:
    """Run `base_policy` from the start state of `seed` until success or the time limit.

    Args:
        residual: acts on top, without noise; None for the base policy alone.
        max_steps: None for the task's.
        further_steps: steps after the first success.

    Raises:
        ValueError: the policy's chunk is too short for the schedule, or the residual's images or
            state are not those of this simulation.
        BasePolicyError: the policy could not act, or its chunk is misshaped or not finite.
    """
    task = simulation.task
    frames = [simulation.reset(seed)]
    actions: list[NDArray[np.float32]] = []
    limit = task.max_steps if max_steps is None else max_steps
    success = False
    if residual is not None:
        # Here, as it brings torch, which a policy without a network does without.
        from resfit_rl.control.residual_action import residual_action

        generator = np.random.default_rng(seed)  # asked for, though no noise is drawn
    with ThreadPoolExecutor(1) as worker:
        base = ChunkedBase(base_policy, schedule, task.action_dim, worker)
        base.reset(seed)
        while len(actions) < limit:
            step = len(actions)
            observation = frames[-1].observation(task)
            base.observe(step, observation)
            action = base.action(step).action
            if residual is not None:
                _, action = residual_action(
                    residual, residual.spec, observation, action, "none", generator
                )
            actions.append(action)
            frames.append(simulation.step(actions[-1]))
            if frames[-1].success and not success:
                success = True
                limit = len(actions) + further_steps
    return Rollout(
        seed, success, tuple(frames), np.array(actions, np.float32).reshape(-1, task.action_dim)
    )
