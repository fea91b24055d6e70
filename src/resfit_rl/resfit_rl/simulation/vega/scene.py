"""What Vega's scenes share: a room, a table before the robot, a bin, starts drawn from a seed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import NDArray

BOX = mujoco.mjtGeom.mjGEOM_BOX
TABLE_TOP = 0.9  # m above the floor
_TABLE_MIDDLE, _TABLE_HALF = (0.66, 0.0), (0.33, 0.65, 0.02)
_WALL = 0.004  # m, half the thickness of a bin's wall
_WOOD, _METAL = (0.76, 0.62, 0.44, 1.0), (0.35, 0.36, 0.38, 1.0)
_WALL_PAINT = (0.72, 0.76, 0.8, 1.0)


class VegaScene:
    """Things on a table in front of Vega, which stands at the origin and faces +x.

    A scene adds its things in `build`, puts them in `place` and judges in `success`.

    Attributes:
        objects: bodies whose poses are in Frame.privileged.
        robot: indices of the robot's bodies in the model; set when that is made.
        bin_half: (3,) m, half of the bin's inner width, depth and height.
    """

    objects: tuple[str, ...] = ()
    robot: frozenset[int] = frozenset()
    bin_half = (0.1, 0.1, 0.03)

    @abstractmethod
    def build(self, spec: mujoco.MjSpec) -> None:
        """Add the scene's own bodies to `spec`."""

    @abstractmethod
    def place(self, data: mujoco.MjData, rng: np.random.Generator) -> None:
        """Put the things where an episode starts, drawing from `rng`."""

    @abstractmethod
    def success(self, model: mujoco.MjModel, data: mujoco.MjData) -> bool:
        """Whether the task is done."""

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Room and table, then the scene's own things."""
        world = spec.worldbody
        world.add_geom(
            name="floor",
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            size=(4.0, 4.0, 0.1),
            rgba=(0.5, 0.52, 0.55, 1.0),
            group=1,
        )
        world.add_geom(
            name="wall", type=BOX, pos=(2.2, 0, 1.5), size=(0.05, 4, 1.5), rgba=_WALL_PAINT, group=1
        )
        spec.visual.headlight.ambient = (0.35, 0.35, 0.35)
        spec.visual.headlight.diffuse = (0.25, 0.25, 0.25)
        world.add_light(pos=(0.3, 0.6, 2.8), dir=(0.1, -0.2, -1.0), diffuse=(0.6, 0.6, 0.6))
        x, y = _TABLE_MIDDLE
        length, width, thick = _TABLE_HALF
        table = world.add_body(name="table", pos=(x, y, TABLE_TOP - thick))
        table.add_geom(
            name="table_top", type=BOX, size=_TABLE_HALF, rgba=_WOOD, group=1, friction=(0.9, 0, 0)
        )
        leg = (TABLE_TOP - 2 * thick) / 2
        for side in (-1, 1):
            for end in (-1, 1):
                table.add_geom(
                    type=BOX,
                    pos=(end * (length - 0.04), side * (width - 0.04), -thick - leg),
                    size=(0.025, 0.025, leg),
                    rgba=_METAL,
                    group=1,
                )
        self.build(spec)

    def add_bin(self, spec: mujoco.MjSpec, colour: Sequence[float]) -> None:
        """The body 'bin', its origin in the middle of its floor; it stands fast where it is put."""
        body = spec.worldbody.add_body(name="bin", mocap=True)
        depth, width, height = self.bin_half
        colour = (*colour, 1.0)
        body.add_geom(type=BOX, pos=(0, 0, _WALL), size=(depth, width, _WALL), rgba=colour, group=1)
        for sign in (-1, 1):
            for along_x in (True, False):
                body.add_geom(
                    type=BOX,
                    pos=(sign * (depth + _WALL), 0, height)
                    if along_x
                    else (0, sign * (width + _WALL), height),
                    size=(_WALL, width + 2 * _WALL, height) if along_x else (depth, _WALL, height),
                    rgba=colour,
                    group=1,
                )

    def in_bin(self, data: mujoco.MjData, point: NDArray[np.float64]) -> bool:
        """Whether `point`, (3,) m, world frame, is inside the bin."""
        body = data.body("bin")
        local = body.xmat.reshape(3, 3).T @ (point - body.xpos)
        depth, width, height = self.bin_half
        return bool(abs(local[0]) < depth and abs(local[1]) < width and 0 < local[2] < 2 * height)

    def held(self, model: mujoco.MjModel, data: mujoco.MjData, body: str) -> bool:
        """Whether the robot touches the free body `body` or what hangs on it."""
        root = model.body(body).id
        for contact in data.contact[: data.ncon]:
            bodies = model.geom_bodyid[contact.geom]
            if root in model.body_rootid[bodies] and not self.robot.isdisjoint(bodies.tolist()):
                return True
        return False


def put(data: mujoco.MjData, body: str, position: Sequence[float], yaw: float = 0.0) -> None:
    """Place a free or mocap body, m and rad about the vertical, world frame; at rest."""
    model = data.model
    quaternion = (np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
    mocap = model.body(body).mocapid[0]
    if mocap >= 0:
        data.mocap_pos[mocap], data.mocap_quat[mocap] = position, quaternion
        return
    joint = model.body(body).jntadr[0]
    first, speed = model.jnt_qposadr[joint], model.jnt_dofadr[joint]
    data.qpos[first : first + 7] = (*position, *quaternion)
    data.qvel[speed : speed + 6] = 0.0
