"""Coffee: a pod into the coffee machine's holder, then the lid shut."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from robosuite.models.objects import MujocoXMLObject

from resfit_rl.simulation.scenes.table_scene import TableScene, scene_object

_MACHINE, _POD, _STAND = "coffee_machine", "coffee_pod", "coffee_stand"
_HINGE = f"{_MACHINE}_hinge"
# m, world frame, and rad: where the machine's holder is, its front towards the robot's right hand.
_MACHINE_LOWER, _MACHINE_UPPER = (
    np.array([-0.225, -0.015, -1.75]),
    np.array([-0.18, 0.02, -1.4]),
)
_STAND_LOWER, _STAND_UPPER = np.array([-0.28, -0.185]), np.array([-0.2, -0.145])
_POD_OFF = 0.005  # m, from the stand's middle in x and in y
_POD_ON_STAND = 0.1 + 0.049  # m, the pod's middle above the table
_LID_OPEN = (1.75, 1.85)  # rad, at the start
_LID_CLOSED = 0.2
# m, in the machine's frame: the holder's bottom, its rim, half its inner width, half of the pod.
_FLOOR, _RIM, _INSIDE, _POD_HALF = 0.139, 0.25, 0.031, 0.049


class Coffee(TableScene):
    """GR1 puts a pod into the machine and shuts the lid.

    Bodies: coffee_pod; coffee_stand, under it; coffee_machine and its lid, coffee_machine_lid.
    """

    table_top = 0.92
    fixtures = (f"{_MACHINE}_lid",)
    camera_poses: ClassVar = {"agentview": ((0.24, -0.42, 1.48), (-0.22, -0.06, 1.13))}

    @property
    def lid_angle(self) -> float:
        """Of the lid, rad; 0 is shut."""
        return float(self.sim.data.get_joint_qpos(_HINGE))

    @lid_angle.setter
    def lid_angle(self, angle: float) -> None:
        self.sim.data.set_joint_qpos(_HINGE, angle)
        self.sim.data.set_joint_qvel(_HINGE, 0.0)

    def make_objects(self) -> list[MujocoXMLObject]:
        fixed = [scene_object(name, free=False) for name in (_MACHINE, _STAND)]
        return [scene_object(_POD), *fixed]

    def place(self) -> None:
        x, y, yaw = self.rng.uniform(_MACHINE_LOWER, _MACHINE_UPPER)
        self._stand_at(_MACHINE, x, y, yaw)
        self.lid_angle = self.rng.uniform(*_LID_OPEN)
        x, y = self.rng.uniform(_STAND_LOWER, _STAND_UPPER)
        self._stand_at(_STAND, x, y)
        x, y = np.add((x, y), self.rng.uniform(-_POD_OFF, _POD_OFF, 2))
        yaw = self.rng.uniform(-np.pi, np.pi)
        self.put(_POD, (x, y, self.table_top + _POD_ON_STAND + 0.001), yaw)

    def _stand_at(self, name: str, x: float, y: float, yaw: float = 0.0) -> None:
        """Place a body without joints on the table."""
        body = self.sim.model.body_name2id(self._body(name))
        self.sim.model.body_pos[body] = (x, y, self.table_top)
        self.sim.model.body_quat[body] = (np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))

    def _check_success(self) -> bool:
        return self._pod_in_holder() and self.lid_angle < _LID_CLOSED

    def _pod_in_holder(self) -> bool:
        """Whether the pod's middle is within the holder and the pod is below the holder's rim."""
        pod = self.position(_POD) - self.position(_MACHINE)
        x, y, z = self.rotation(_MACHINE).inv().apply(pod)
        return bool(np.hypot(x, y) < _INSIDE and _FLOOR < z < _RIM - _POD_HALF)
