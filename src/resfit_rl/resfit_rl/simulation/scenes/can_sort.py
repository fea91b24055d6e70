"""CanSort: one can, red or blue, into the bin of its colour."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from robosuite.models.objects import MujocoXMLObject

from resfit_rl.simulation.scenes.table_scene import TableScene, scene_object

_COLOURS = ("red", "blue")
# m, world frame: x and y; the red bin is at the right hand, the blue one at the left.
_BINS = {"red": (-0.2, -0.31), "blue": (-0.2, 0.31)}
_BIN_INSIDE, _BIN_RIM = 0.08, 0.07  # half the width between the walls, height above the table, m
_CAN_HALF_HEIGHT = 0.055
# Where the can stands: both hands reach it.
_CAN_LOWER, _CAN_UPPER = np.array([-0.26, -0.06]), np.array([-0.18, 0.06])


class CanSort(TableScene):
    """GR1 takes a red can with its right hand, a blue one with its left.

    Bodies: can_red or can_blue, the other one is put away; bin_red and bin_blue, fixed.
    """

    # At the waist of the robot: its arms reach a lower table at the edge only.
    table_top = 0.97
    camera_poses: ClassVar = {"frontview": ((0.42, 0.0, 1.85), (-0.28, 0.0, 1.07))}

    def make_objects(self) -> list[MujocoXMLObject]:
        bins = []
        for colour in _COLOURS:
            bins.append(scene_object(f"bin_{colour}", free=False))
            x, y = _BINS[colour]
            bins[-1].get_obj().set("pos", f"{x} {y} {self.table_top}")
        return [*(scene_object(f"can_{colour}") for colour in _COLOURS), *bins]

    def place(self) -> None:
        colour = _COLOURS[int(self.rng.integers(2))]
        x, y = self.rng.uniform(_CAN_LOWER, _CAN_UPPER)
        yaw = self.rng.uniform(-np.pi, np.pi)
        for other in _COLOURS:
            self.put_away(f"can_{other}")
        self.put(f"can_{colour}", (x, y, self.table_top + _CAN_HALF_HEIGHT + 0.001), yaw)

    def _check_success(self) -> bool:
        return any(
            self._in_bin(colour) and not self.touched_by_robot(f"can_{colour}")
            for colour in _COLOURS
        )

    def _in_bin(self, colour: str) -> bool:
        """Whether the can's middle is between the walls of its bin and below their rim."""
        x, y, z = self.position(f"can_{colour}") - self.position(f"bin_{colour}")
        return bool(max(abs(x), abs(y)) < _BIN_INSIDE and 0.0 < z < _BIN_RIM)
