"""What base policy, residual and robot want, and what the wrists feel, as arrows; no ROS here."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resfit_viewing.robot import ShownRobot

Color = tuple[float, float, float, float]

COLORS: dict[str, Color] = {
    "base_action": (0.2, 0.5, 1.0, 1.0),
    "residual": (1.0, 0.55, 0.0, 1.0),
    "executed_action": (0.2, 0.8, 0.3, 1.0),
    "held": (0.6, 0.6, 0.6, 1.0),
    "force": (0.9, 0.15, 0.15, 1.0),
    "torque": (0.65, 0.3, 0.85, 1.0),
    "allowed": (0.3, 0.85, 0.4, 1.0),
    "stopped": (0.95, 0.2, 0.2, 1.0),
}
_KEPT = 50  # observations and commands that an answer may still come for


@dataclass(frozen=True, eq=False)
class Arrow:
    """From `start` to `end`, (3,) m, world frame.

    Attributes:
        kind: a key of COLORS, which says what it means.
        of: the end effector or wrist.
    """

    kind: str
    of: str
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    color: Color


@dataclass(frozen=True)
class StepArrows:
    """Arrows of one step, at the observation of `stamp`, ns."""

    stamp: int
    arrows: tuple[Arrow, ...]


class ActionArrows:
    """Arrows at the end effectors, of commands and of what was executed of them.

    They start where the end effector was in the observation that was acted on. The base action's
    points to where that asks it to be, the residual's from there to where the whole action does.

    Args:
        scale: length of an arrow over the way it stands for, which is centimetres a step.
    """

    def __init__(self, robot: ShownRobot, scale: float) -> None:
        self._robot = robot
        self._scale = scale
        self._joints: OrderedDict[int, Mapping[str, float]] = OrderedDict()
        self._commands: OrderedDict[tuple[int, int], int] = OrderedDict()

    def observe(self, stamp: int, joints: Mapping[str, float]) -> None:
        """Joint positions (rad, m) of the observation of `stamp`, ns."""
        _keep(self._joints, stamp, joints)

    def command(
        self,
        stamp: int,
        episode_id: int,
        step: int,
        base_action: ArrayLike,
        action: ArrayLike,
    ) -> StepArrows | None:
        """Of base action and residual; None where the observation is not known.

        Args:
            stamp: of the observation, ns.
            base_action, action: (A,) robot units.

        Raises:
            ValueError: another number of actions than the task's.
        """
        _keep(self._commands, (episode_id, step), stamp)
        if stamp not in self._joints:
            return None
        self._robot.move(self._joints[stamp])
        base, whole = self._ends(base_action), self._ends(action)
        arrows = []
        for name in self._robot.end_effectors:
            start = self._robot.position(name)
            arrows.append(_arrow("base_action", name, start, base[name]))
            arrows.append(_arrow("residual", name, base[name], whole[name]))
        return StepArrows(stamp, tuple(arrows))

    def executed(
        self, episode_id: int, step: int, action: ArrayLike, held: bool
    ) -> StepArrows | None:
        """Of what the robot did in that step; None where its command is not known."""
        stamp = self._commands.get((episode_id, step))
        if stamp is None or stamp not in self._joints:
            return None
        self._robot.move(self._joints[stamp])
        color = COLORS["held" if held else "executed_action"]
        ends = self._ends(action)
        return StepArrows(
            stamp,
            tuple(
                Arrow("executed_action", name, self._robot.position(name), ends[name], color)
                for name in self._robot.end_effectors
            ),
        )

    def _ends(self, action: ArrayLike) -> dict[str, NDArray[np.float64]]:
        ends = {}
        for name, asked in self._robot.asked(action).items():
            start = self._robot.position(name)
            ends[name] = start + self._scale * (asked - start)
        return ends


def wrench_arrows(
    robot: ShownRobot, wrist: str, wrench: ArrayLike, force_scale: float, torque_scale: float
) -> tuple[Arrow, Arrow]:
    """Force and torque at a wrist, as its sensor measures them, not tared.

    Args:
        wrench: (6,) N and N m, in the sensor's frame.
        force_scale, torque_scale: m per N and per N m.
    """
    start, rotation = robot.wrist(wrist)
    values = np.asarray(wrench, np.float64)
    return (
        _arrow("force", wrist, start, start + rotation @ values[:3] * force_scale),
        _arrow("torque", wrist, start, start + rotation @ values[3:] * torque_scale),
    )


def safety_text(
    allowed: bool,
    reason: str,
    wrists: Sequence[str],
    force: Sequence[float],
    max_force: Sequence[float],
) -> tuple[str, Color]:
    """The safety monitor's verdict for a person, and its colour."""
    text = "motion allowed" if allowed else f"STOP: {reason}"
    for wrist, found, limit in zip(wrists, force, max_force, strict=True):
        text += f"\n{wrist}: {found:.1f} of {limit:g} N"
    return text, COLORS["allowed" if allowed else "stopped"]


def _arrow(kind: str, of: str, start: NDArray[np.float64], end: NDArray[np.float64]) -> Arrow:
    return Arrow(kind, of, start, end, COLORS[kind])


def _keep(kept: OrderedDict, key: object, value: object) -> None:
    kept[key] = value
    while len(kept) > _KEPT:
        kept.popitem(last=False)
