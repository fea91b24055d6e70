"""Where Vega's hands are, and which joint positions bring them somewhere."""

from __future__ import annotations

import functools

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from resfit_rl.robots.vega import ARM_JOINTS, COMMANDED_JOINTS
from resfit_rl.simulation.vega.model import SIDES, start_posture, vega_spec

_DAMPING = 0.03
_POSTURE_GAIN = (
    0.05  # per iteration, towards the start posture where the hand's pose leaves freedom
)
_ITERATIONS = 8
_CLOSE = 1e-4  # m, and rad


class Kinematics:
    """Of a private copy of the model; joint vectors are (29,), rad, in COMMANDED_JOINTS' order."""

    def __init__(self) -> None:
        self._model = _model()
        self._data = mujoco.MjData(self._model)
        joints = [self._model.joint(name) for name in COMMANDED_JOINTS]
        self._positions = np.array([joint.qposadr[0] for joint in joints])
        self._arms = {
            side: np.array([COMMANDED_JOINTS.index(name) for name in ARM_JOINTS[letter]])
            for side, letter in SIDES.items()
        }
        self._columns = {
            side: np.array([joints[index].dofadr[0] for index in arm])
            for side, arm in self._arms.items()
        }
        self._sites = {side: self._model.site(side).id for side in SIDES}
        self._limits = np.array([joint.range for joint in joints])
        posture = start_posture()
        self._rest = np.array([posture[name] for name in COMMANDED_JOINTS])

    def hand(self, side: str, joints: NDArray[np.float64]) -> tuple[NDArray[np.float64], Rotation]:
        """Position, (3,) m, and rotation of the hand's mount in the world frame."""
        self._data.qpos[self._positions] = joints
        mujoco.mj_kinematics(self._model, self._data)
        site = self._sites[side]
        rotation = Rotation.from_matrix(self._data.site_xmat[site].reshape(3, 3))
        return self._data.site_xpos[site].copy(), rotation

    def reach(
        self,
        side: str,
        joints: NDArray[np.float64],
        position: NDArray[np.float64],
        rotation: Rotation,
        step: float,
    ) -> NDArray[np.float64]:
        """(29,): `joints` with one arm changed so that its hand comes nearer to a pose.

        Damped least squares within the joints' limits. What the pose leaves free goes to the
        start posture.

        Args:
            step: rad, largest change of a joint.
        """
        arm, columns, site = self._arms[side], self._columns[side], self._sites[side]
        lower = np.maximum(self._limits[arm, 0] + 0.01, joints[arm] - step)
        upper = np.minimum(self._limits[arm, 1] - 0.01, joints[arm] + step)
        upper = np.maximum(lower, upper)
        goal = joints.copy()
        jacobian = np.empty((6, self._model.nv))
        for _ in range(_ITERATIONS):
            reached, turned = self.hand(side, goal)
            error = np.concatenate([position - reached, (rotation * turned.inv()).as_rotvec()])
            mujoco.mj_comPos(self._model, self._data)
            mujoco.mj_jacSite(self._model, self._data, jacobian[:3], jacobian[3:], site)
            inner = jacobian[:, columns]
            inverse = inner.T @ np.linalg.inv(inner @ inner.T + _DAMPING**2 * np.eye(6))
            free = np.eye(len(arm)) - inverse @ inner
            change = inverse @ error + free @ (_POSTURE_GAIN * (self._rest[arm] - goal[arm]))
            goal[arm] = np.clip(goal[arm] + change, lower, upper)
            if np.abs(error).max() < _CLOSE:
                break
        return goal


@functools.cache
def _model() -> mujoco.MjModel:
    return vega_spec().compile()
