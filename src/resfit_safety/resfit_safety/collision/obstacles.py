"""What stands around a robot, in the frame of its root link, m."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Box:
    """A solid box: a table top, a shelf.

    Attributes:
        name: for the reasons of refusals.
        center: (3,) m.
        size: (3,) m, whole edges.
        quaternion: of its orientation, w, x, y, z.
        margin: m, distance that is kept; None: the checker's.
        may_touch: links that need not keep it.

    Raises:
        ValueError: a size, a margin or a quaternion that cannot be.
    """

    name: str
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    quaternion: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    margin: float | None = None
    may_touch: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        _require(self.name, "margin", self.margin is None or self.margin > 0, self.margin)
        _require(self.name, "center", np.isfinite(self.center).all(), self.center)
        sizes = np.array(self.size)
        _require(self.name, "size", (sizes > 0).all() and np.isfinite(sizes).all(), self.size)
        length = np.linalg.norm(self.quaternion)
        _require(self.name, "quaternion", abs(length - 1) < 1e-6, self.quaternion)


@dataclass(frozen=True)
class HalfSpace:
    """All that lies behind a plane: a wall, the floor.

    Attributes:
        name: for the reasons of refusals.
        normal: (3,) unit vector out of the solid, towards the robot.
        offset: m; free is where normal @ point > offset.
        margin: m, distance that is kept; None: the checker's.
        may_touch: links that need not keep it.

    Raises:
        ValueError: a normal, an offset or a margin that cannot be.
    """

    name: str
    normal: tuple[float, float, float]
    offset: float
    margin: float | None = None
    may_touch: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        _require(self.name, "margin", self.margin is None or self.margin > 0, self.margin)
        _require(self.name, "offset", np.isfinite(self.offset), self.offset)
        length = np.linalg.norm(self.normal)
        _require(self.name, "normal", abs(length - 1) < 1e-6, self.normal)


Obstacle = Box | HalfSpace


def _require(name: str, what: str, holds: bool | np.bool_, found: object) -> None:
    if not holds:
        raise ValueError(f"obstacle {name}: {what}: expected a possible one, found {found}")
