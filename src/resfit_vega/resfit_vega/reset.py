"""The way back to where episodes start; no ROS, no SDK."""

from __future__ import annotations

import threading
import traceback

import numpy as np
from numpy.typing import NDArray

from resfit_rl.robots.vega import ARM_JOINTS, COMMANDED_JOINTS
from resfit_rl.simulation.vega.model import start_posture
from resfit_safety.reset_path import ResetPathError, reset_path
from resfit_safety.vega_cell import VegaCell

_DRAWS = 20  # of start positions, where things are so near that some of them are not free

_Positions = NDArray[np.float64]


def start_positions(
    seed: int, spread: float, cell: VegaCell, lower: _Positions, upper: _Positions
) -> _Positions:
    """(29,) rad: the tasks' start posture, its arms off by up to `spread`, rad, and free.

    Raises:
        ResetPathError: the posture itself is too near to something.
    """
    rng = np.random.default_rng(seed)
    arms = [COMMANDED_JOINTS.index(joint) for side in "RL" for joint in ARM_JOINTS[side]]
    posture = start_posture()
    middle = np.array([posture[joint] for joint in COMMANDED_JOINTS])
    for _ in range(_DRAWS):
        positions = middle.copy()
        positions[arms] += rng.uniform(-spread, spread, len(arms))
        positions = np.clip(positions, lower, upper)
        obstacle = cell.checker.nearest(positions)
        if obstacle is None:
            return positions
    raise ResetPathError(f"reset: start positions: {obstacle}")


class ResetPlan:
    """A path to start positions, looked for in a thread: that may take seconds.

    The cell's checker is that thread's until `done`.

    Args:
        start: (29,) rad, measured, at rest, within the limits of commands.
        speed: share of the largest velocities and accelerations, in (0, 1].
        spread: rad, of the arms' start positions.

    Attributes:
        start: as given.
        path: (N, 29) rad, a command a period; empty until done, or with a problem.
        problem: why there is none; empty until done.
    """

    def __init__(
        self,
        start: _Positions,
        seed: int,
        *,
        cell: VegaCell,
        lower: _Positions,
        upper: _Positions,
        speed: float,
        spread: float,
    ) -> None:
        self.start = start
        self.path = np.empty((0, len(start)))
        self.problem = ""

        def plan() -> None:
            try:
                self.path = reset_path(
                    start,
                    start_positions(seed, spread, cell, lower, upper),
                    checker=cell.checker,
                    limits=cell.motion_limits,
                    lower=lower,
                    upper=upper,
                    speed=speed,
                    seed=seed % 2**32,
                )
            except ResetPathError as error:
                self.problem = str(error)
            except Exception as error:
                # Without it this would look like a path of no steps.
                self.problem = f"reset path: {type(error).__name__}: {error}"
                traceback.print_exc()

        self._thread = threading.Thread(target=plan, name="reset_plan", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()
