"""Vega's arms and hands, led by goals: a script sets goals, each step moves the joints there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from resfit_rl.base_policies.scripted.two_hands import Arm, ArmsExpert
from resfit_rl.observation import Observation
from resfit_rl.robots.vega import COMMANDED_JOINTS, HAND_JOINTS
from resfit_rl.simulation.vega.kinematics import Kinematics
from resfit_rl.tasks import Task

Vector = NDArray[np.float64]

_LETTERS = {"right": "R", "left": "L"}
_FINGER_STEP = 0.08  # rad each step
_ARM_STEP = 0.035  # rad each step

# Angles of HAND_JOINTS: turn and bend of the thumb, then index to little finger, rad. The thumb
# stands across the palm; both bends go from the limit that opens to what closes on nothing.
OPEN = np.array([1.2, 0.16, 0.2, 0.2, 0.2, 0.2])
CLOSED = np.array([1.2, -0.3, -0.9, -0.9, -0.9, -0.9])


class VegaExpert(ArmsExpert):
    """One episode of a script; the fingers' goals are angles of HAND_JOINTS, rad."""

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        super().__init__(task, rng)
        self._kinematics = Kinematics()
        self._joints: Vector = np.empty(0)  # the last action
        self._hands = {
            side: np.array([COMMANDED_JOINTS.index(name) for name in HAND_JOINTS[letter]])
            for side, letter in _LETTERS.items()
        }

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """(29,) float32; BasePolicyError: an observation without a pose that it needs."""
        self._look(observation)
        next(self._script, None)  # holds when the script is over
        for side, arm in self.arms.items():
            position, rotation = self._lead(side, arm)
            joints = self._kinematics.reach(side, self._joints, position, rotation, _ARM_STEP)
            hand = self._hands[side]
            joints[hand] += np.clip(arm.fingers - joints[hand], -_FINGER_STEP, _FINGER_STEP)
            self._joints = joints
        action = np.clip(self._joints, self._task.action_lower, self._task.action_upper)
        return action.astype(np.float32)

    def _look(self, observation: Observation) -> None:
        measured = observation.state.astype(np.float64)
        self.objects = observation.privileged
        first = not self.arms
        for side in _LETTERS:
            position, rotation = self._kinematics.hand(side, measured)
            if first:
                fingers = measured[self._hands[side]]
                self.arms[side] = Arm(position, rotation, position, rotation, fingers)
                self._command[side] = (position, rotation, np.zeros(3))
            self.arms[side].position, self.arms[side].rotation = position, rotation
        if first:
            self._joints = measured


def hand_rotation(side: str, yaw: float, pitch: float, roll: float) -> Rotation:
    """Of a hand's mount in the world frame, all in rad.

    Args:
        yaw: how far the fingers point inwards, from straight ahead.
        pitch: how far they point down.
        roll: how far the palm faces down; at 0 it faces the other hand.
    """
    fingers = np.array([np.cos(pitch), 0.0, -np.sin(pitch)])
    inwards = np.array([0.0, 1.0 if side == "right" else -1.0, 0.0])
    down = np.array([-np.sin(pitch), 0.0, -np.cos(pitch)])
    palm = np.cos(roll) * inwards + np.sin(roll) * down
    # In the mount's frame the fingers point along -x, the palm faces -z.
    turned = Rotation.from_matrix(np.stack([-fingers, np.cross(palm, fingers), -palm], axis=1))
    return Rotation.from_euler("z", yaw * inwards[1]) * turned


def raised(position: Vector, height: float) -> Vector:
    """The place `height`, m, above `position`."""
    return position + np.array([0.0, 0.0, height])
