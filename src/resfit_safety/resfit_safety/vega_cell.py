"""What stands around Vega and what its commands must keep, from one strict YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resfit_rl.configuration import dataclass_from_mapping, load_dataclass
from resfit_rl.robots.vega import (
    ARM_JOINTS,
    COMMANDED_JOINTS,
    HEAD_JOINTS,
    TORSO_JOINTS,
    is_hand_link,
    vega_description,
)
from resfit_safety.collision import Box, HalfSpace, MotionChecker
from resfit_safety.motion_limits import MotionLimits


@dataclass(frozen=True, eq=False)
class VegaCell:
    """What the gate needs beyond a task.

    Attributes:
        checker: of links against each other and against what stands around.
        motion_limits: of the 29 commanded joints.
        torso_limits: joint -> rad; the checker holds for this posture only.
    """

    checker: MotionChecker
    motion_limits: MotionLimits
    torso_limits: dict[str, tuple[float, float]]


def load_vega_cell(path: Path | str, period: float) -> VegaCell:
    """Read `path`, such as config/cells/vega_twin.yaml; takes some seconds.

    Args:
        period: s between two commands.

    Raises:
        ValueError: names the file, the key, the expected and the found.
        RobotDescriptionError: Vega's description is not here.
    """
    file = load_dataclass(path, _File)
    description = vega_description()
    hands = frozenset(filter(is_hand_link, description.links))
    try:
        torso = _numbers(file.torso, len(TORSO_JOINTS), "torso")
        obstacles = [
            *(_box(entry, f"boxes[{i}]", file, hands) for i, entry in enumerate(file.boxes)),
            *(
                _half_space(entry, f"half_spaces[{i}]", file, hands)
                for i, entry in enumerate(file.half_spaces)
            ),
        ]
        unknown = set(map(str, file.hands_may_touch)) - {o.name for o in obstacles}
        if unknown:
            raise ValueError(
                f"hands_may_touch: expected some of {sorted(o.name for o in obstacles)}, "
                f"found {min(unknown)}"
            )
        stiff = {*ARM_JOINTS["R"], *ARM_JOINTS["L"], *HEAD_JOINTS}
        return VegaCell(
            checker=MotionChecker(
                description,
                fixed=dict(zip(TORSO_JOINTS, torso, strict=True)),
                obstacles=obstacles,
                margin=file.margin,
                resolution=file.resolution,
            ),
            motion_limits=MotionLimits(
                joints=COMMANDED_JOINTS,
                period=period,
                velocity=tuple(description.velocity.tolist()),
                acceleration=tuple((file.acceleration * description.velocity).tolist()),
                measured_step=tuple(
                    file.arm_step if joint in stiff else file.hand_step
                    for joint in COMMANDED_JOINTS
                ),
            ),
            torso_limits={
                joint: (angle - file.torso_tolerance, angle + file.torso_tolerance)
                for joint, angle in zip(TORSO_JOINTS, torso, strict=True)
            },
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


@dataclass(frozen=True)
class _File:
    torso: list
    torso_tolerance: float
    margin: float
    resolution: float
    acceleration: float
    arm_step: float
    hand_step: float
    hands_may_touch: list
    boxes: list
    half_spaces: list

    def __post_init__(self) -> None:
        for key in ("torso_tolerance", "acceleration", "arm_step", "hand_step"):
            if not getattr(self, key) > 0:
                raise ValueError(f"{key}: expected > 0, found {getattr(self, key)}")


@dataclass(frozen=True)
class _BoxEntry:
    name: str
    center: list
    size: list


@dataclass(frozen=True)
class _HalfSpaceEntry:
    name: str
    normal: list
    offset: float


def _box(entry: Any, where: str, file: _File, hands: frozenset[str]) -> Box:
    box = dataclass_from_mapping(_mapping(entry, where), _BoxEntry, where)
    return Box(
        box.name,
        _numbers(box.center, 3, f"{where}: center"),
        _numbers(box.size, 3, f"{where}: size"),
        may_touch=hands if box.name in file.hands_may_touch else frozenset(),
    )


def _half_space(entry: Any, where: str, file: _File, hands: frozenset[str]) -> HalfSpace:
    space = dataclass_from_mapping(_mapping(entry, where), _HalfSpaceEntry, where)
    return HalfSpace(
        space.name,
        _numbers(space.normal, 3, f"{where}: normal"),
        space.offset,
        may_touch=hands if space.name in file.hands_may_touch else frozenset(),
    )


def _mapping(entry: Any, where: str) -> dict[Any, Any]:
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected a mapping of keys, found {entry!r}")
    return entry


def _numbers(values: list, size: int, where: str) -> tuple[Any, ...]:
    if len(values) != size or not all(
        isinstance(value, int | float) and np.isfinite(value) for value in values
    ):
        raise ValueError(f"{where}: expected {size} numbers, found {values}")
    return tuple(float(value) for value in values)
