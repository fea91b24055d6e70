"""What the scenes share: a table, two arms, named bodies, starts drawn from the scene's seed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from robosuite.environments.manipulation.two_arm_env import TwoArmEnv
from robosuite.models.arenas import TableArena
from robosuite.models.objects import MujocoXMLObject
from robosuite.models.tasks import ManipulationTask
from scipy.spatial.transform import Rotation

_OBJECTS = Path(__file__).parent / "objects"
# Where robosuite, too, puts what a start does without, m.
_AWAY = (10.0, 10.0, 10.0)
_Point = tuple[float, float, float]


class TableScene(TwoArmEnv):
    """A table in front of one two-armed robot, or of two arms side by side.

    A scene gives `objects`, places them in `place` and judges in `_check_success`.

    Attributes:
        fixtures: bodies that do not move, for Frame.privileged, beside the objects.
        camera_poses: camera -> position (m, world frame) and the point it looks at.
    """

    table_size = (0.8, 1.4, 0.05)
    table_top = 0.8  # m above the floor
    arm_distance = 0.6  # m between the bases of two arms
    fixtures: tuple[str, ...] = ()
    camera_poses: ClassVar[dict[str, tuple[_Point, _Point]]] = {}

    @abstractmethod
    def make_objects(self) -> list[MujocoXMLObject]:
        """The objects; called once."""

    @abstractmethod
    def place(self) -> None:
        """Put the objects where an episode starts, drawing from `self.rng`."""

    def reward(self, action: Any = None) -> float:
        return float(self._check_success())

    def put(self, name: str, position: Sequence[float], yaw: float = 0.0) -> None:
        """Place the free object `name`, m and rad about the vertical, world frame; at rest."""
        x, y, z, w = Rotation.from_euler("z", yaw).as_quat()
        joint = self._free_joint(name)
        self.sim.data.set_joint_qpos(joint, [*position, w, x, y, z])
        self.sim.data.set_joint_qvel(joint, np.zeros(6))

    def put_away(self, name: str) -> None:
        """Take the free object `name` out of the scene."""
        self.put(name, _AWAY)

    def position(self, body: str) -> NDArray[np.float64]:
        """(3,) m, world frame, of an object's or any other body."""
        return np.array(self.sim.data.body_xpos[self.sim.model.body_name2id(self._body(body))])

    def rotation(self, body: str) -> Rotation:
        """Of an object's or any other body, world frame."""
        w, x, y, z = self.sim.data.body_xquat[self.sim.model.body_name2id(self._body(body))]
        return Rotation.from_quat([x, y, z, w])

    def touched_by_robot(self, name: str) -> bool:
        """Whether any part of a robot touches the object `name`."""
        model = next(entry for entry in self.model.mujoco_objects if entry.name == name)
        robots = [
            part for robot in self.robots for part in (robot.robot_model, *robot.gripper.values())
        ]
        return any(self.check_contact(part, model) for part in robots)

    # What robosuite calls.

    def _load_model(self) -> None:
        super()._load_model()
        several = len(self.robots) > 1
        for index, robot in enumerate(self.robots):
            base = np.array(robot.robot_model.base_xpos_offset["table"](self.table_size[0]))
            base[1] += (index - 0.5) * self.arm_distance if several else 0.0
            robot.robot_model.set_base_xpos(base)
        arena = TableArena(table_full_size=self.table_size, table_offset=(0.0, 0.0, self.table_top))
        arena.set_origin([0, 0, 0])
        for camera, (position, target) in self.camera_poses.items():
            arena.set_camera(camera, pos=position, quat=_looking_at(position, target))
        self.model = ManipulationTask(
            mujoco_arena=arena,
            mujoco_robots=[robot.robot_model for robot in self.robots],
            mujoco_objects=self.make_objects(),
        )

    def _reset_internal(self) -> None:
        super()._reset_internal()
        self.place()

    def _body(self, name: str) -> str:
        for entry in self.model.mujoco_objects:
            if entry.name == name:
                return str(entry.root_body)
        return name

    def _free_joint(self, name: str) -> str:
        (joint,) = next(e.joints for e in self.model.mujoco_objects if e.name == name)[:1]
        return str(joint)


def scene_object(name: str, *, free: bool = True) -> MujocoXMLObject:
    """The object of objects/<name>.xml; `free` gives it six degrees of freedom.

    The file's root body holds one body 'object' and the sites bottom_site, top_site and
    horizontal_radius_site, as robosuite wants; geoms of group 0 collide, of group 1 are seen.
    """
    joints = [{"type": "free", "damping": "0.0005"}] if free else None
    return MujocoXMLObject(
        str(_OBJECTS / f"{name}.xml"),
        name=name,
        joints=joints,
        obj_type="all",
        duplicate_collision_geoms=True,
    )


def _looking_at(position: Sequence[float], target: Sequence[float]) -> NDArray[np.float64]:
    """Quaternion w, x, y, z of a camera that looks along its -z with its y up."""
    back = np.subtract(position, target).astype(np.float64)
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    x, y, z, w = Rotation.from_matrix(np.stack([right, np.cross(back, right), back], 1)).as_quat()
    return np.array([w, x, y, z])
