"""BoxCleanup: two hands lift a lid by the handles at its ends and close an open box with it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from robosuite.models.objects import MujocoXMLObject

from resfit_rl.simulation.scenes.table_scene import TableScene, scene_object

# Where the lid's origin, its plate's lower face, is over the box's bottom when the box is closed,
# and over the table when the lid lies on it, m.
_CLOSED_HEIGHT = 0.107
_LYING_HEIGHT = 0.012
# What still is closed: the rim leaves the lid 7 mm to each side, and a lid that has an edge on the
# rim lies 6 mm high and 2 degrees off level at least.
_OFF_CENTRE = 0.02  # m, horizontally
_OFF_HEIGHT = 0.004  # m
_OFF_LEVEL = np.radians(2.0)


class BoxCleanup(TableScene):
    """The lid lies between the robots and the box; both are as long as the hands are apart."""

    camera_poses: ClassVar = {"agentview": ((0.68, 0.0, 1.42), (-0.03, 0.0, 0.92))}

    def make_objects(self) -> list[MujocoXMLObject]:
        return [scene_object("box_body"), scene_object("box_lid")]

    def place(self) -> None:
        x, y, yaw = self.rng.uniform([0.1, -0.03, -0.08], [0.15, 0.03, 0.08])
        self.put("box_body", (x, y, self.table_top), yaw)
        x, y, yaw = self.rng.uniform([-0.17, -0.04, -0.12], [-0.12, 0.04, 0.12])
        self.put("box_lid", (x, y, self.table_top + _LYING_HEIGHT), yaw)

    def _check_success(self) -> bool:
        """Whether the lid lies level on the box's rim, its inset inside."""
        box = self.rotation("box_body")
        lid = box.inv() * self.rotation("box_lid")
        off = box.inv().apply(self.position("box_lid") - self.position("box_body"))
        tilt = np.arccos(np.clip(lid.as_matrix()[2, 2], -1.0, 1.0))
        return bool(
            np.linalg.norm(off[:2]) < _OFF_CENTRE
            and abs(off[2] - _CLOSED_HEIGHT) < _OFF_HEIGHT
            and tilt < _OFF_LEVEL
        )
