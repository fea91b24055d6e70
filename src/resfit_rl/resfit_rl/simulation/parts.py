"""A MuJoCo model and what in it is the robot: all that is needed to show it in another pose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import mujoco


@dataclass(frozen=True, eq=False)
class ModelParts:
    """A model of its own (nobody simulates it) with indices into it.

    Attributes:
        robot: bodies of the robot or robots.
        end_effectors: name -> site whose pose is published under that name.
        wrists: name -> site in whose frame its force-torque sensor measures.
        bases: end effector -> body in whose frame delta poses are given; empty without them.
        objects: name in Frame.privileged -> body.
    """

    model: mujoco.MjModel
    robot: frozenset[int]
    end_effectors: Mapping[str, int]
    wrists: Mapping[str, int]
    bases: Mapping[str, int] = field(default_factory=dict)
    objects: Mapping[str, int] = field(default_factory=dict)
