"""All that the simulated robot's sensors say at one instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resfit_rl.observation import Observation
from resfit_rl.tasks import Task, assemble_state


@dataclass(frozen=True, eq=False)
class Frame:
    """One instant of the simulation.

    Attributes:
        images: camera -> (H, W, 3) uint8 RGB, right side up; empty without rendering.
        joint_names: the robots' joints, grippers included.
        joint_position: (J,) float64, rad or m.
        joint_velocity: (J,) float64, rad/s or m/s.
        end_effectors: name -> (7,) float64, position in m and quaternion x, y, z, w, world frame;
            of objects too that the task's state holds.
        wrenches: wrist -> (6,) float64, force in N and torque in N m, sensor frame, not tared.
        privileged: object -> (7,) float64 pose, world frame. Objects that the task has put out of
            the scene are left out.
        success: the task's own check.
        self_collisions: 'geomA-geomB' (of Vega 'linkA-linkB') for each contact of the robots with
            themselves or each other; contacts within one gripper are left out, since fingers close
            on each other.
    """

    images: Mapping[str, NDArray[np.uint8]]
    joint_names: tuple[str, ...]
    joint_position: NDArray[np.float64]
    joint_velocity: NDArray[np.float64]
    end_effectors: Mapping[str, NDArray[np.float64]]
    wrenches: Mapping[str, NDArray[np.float64]]
    privileged: Mapping[str, NDArray[np.float64]]
    success: bool
    self_collisions: tuple[str, ...]

    def observation(self, task: Task) -> Observation:
        """What a policy sees of this frame; StateError as `assemble_state`."""
        positions = dict(zip(self.joint_names, self.joint_position.tolist(), strict=True))
        return Observation(
            images=self.images,
            state=assemble_state(task, positions, self.end_effectors),
            privileged=self.privileged,
        )
