"""Poses of things in MuJoCo as (7,): position, m, and quaternion x, y, z, w; copies."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray


def body_pose(data: mujoco.MjData, body: int) -> NDArray[np.float64]:
    return _pose(data.xpos[body], data.xquat[body])


def site_pose(data: mujoco.MjData, site: int) -> NDArray[np.float64]:
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, data.site_xmat[site])
    return _pose(data.site_xpos[site], quaternion)


def _pose(position: NDArray[np.float64], wxyz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([position, wxyz[1:], wxyz[:1]])
