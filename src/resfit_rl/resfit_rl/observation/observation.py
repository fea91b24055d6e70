"""One synchronised observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Observation:
    """All sensors at one stamp.

    Attributes:
        images: camera -> (H, W, 3) uint8 RGB.
        state: (S,) float32, in the order of the task's state layout.
        privileged: name -> (7,) float64 pose in the world frame, m and quaternion x, y, z, w.
            Simulator only, for scripted policies; empty on a robot.
    """

    images: Mapping[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    privileged: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
