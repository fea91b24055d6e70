"""What the graph is told of a measurement: all joints, and where the hands are."""

from __future__ import annotations

import copy

import mujoco
import numpy as np

from resfit_rl.robots.vega import COMMANDED_JOINTS, TORSO_JOINTS, vega_description
from resfit_rl.simulation import Frame
from resfit_rl.simulation.vega.model import SIDES
from resfit_safety.vega_cell import VegaCell
from resfit_vega.hardware import Measurement


class Frames:
    """Args:
    cell: its torso posture is that of the hands' poses.
    base_height: m, of the robot's root link in the world frame.
    """

    def __init__(self, cell: VegaCell, base_height: float) -> None:
        # Of the checker's model, but not of its state: that may be another thread's.
        self._robot = copy.copy(cell.checker.robot)
        self._robot.data = mujoco.MjData(self._robot.model)
        self._bodies = {
            end: self._robot.model.body(f"{side}_hand_base").id for end, side in SIDES.items()
        }
        self._origin = np.array([0.0, 0.0, base_height])
        mimics = vega_description().mimics.values()
        self._names = (*COMMANDED_JOINTS, *vega_description().mimics, *TORSO_JOINTS)
        self._sources = np.array([COMMANDED_JOINTS.index(mimic.joint) for mimic in mimics])
        self._multipliers = np.array([mimic.multiplier for mimic in mimics])
        self._offsets = np.array([mimic.offset for mimic in mimics])

    def frame(self, measurement: Measurement) -> Frame:
        """Fingers' outer joints, which are not measured, follow the inner ones."""
        positions, velocities = measurement.positions, measurement.velocities
        self._robot.place(positions)
        data = self._robot.data
        return Frame(
            images={},
            joint_names=self._names,
            joint_position=np.concatenate(
                [
                    positions,
                    positions[self._sources] * self._multipliers + self._offsets,
                    measurement.torso,
                ]
            ),
            joint_velocity=np.concatenate(
                [
                    velocities,
                    velocities[self._sources] * self._multipliers,
                    np.zeros(len(TORSO_JOINTS)),
                ]
            ),
            end_effectors={
                end: np.concatenate([data.xpos[body] + self._origin, np.roll(data.xquat[body], -1)])
                for end, body in self._bodies.items()
            },
            wrenches=measurement.wrenches,
            privileged={},
            success=False,
            self_collisions=(),
        )
