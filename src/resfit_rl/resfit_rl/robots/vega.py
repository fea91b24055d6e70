"""Dexmate's Vega with two F5D6 hands, as its URDF and SRDF of the package dexmate-urdf say."""

from __future__ import annotations

import functools
import importlib.util
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_MODEL = Path("robots", "humanoid", "vega_1")
_FINGERS = ("th_j0", "th_j1", "ff_j1", "mf_j1", "rf_j1", "lf_j1")

ARM_JOINTS = {side: tuple(f"{side}_arm_j{i}" for i in range(1, 8)) for side in "RL"}
HAND_JOINTS = {side: tuple(f"{side}_{finger}" for finger in _FINGERS) for side in "RL"}
HEAD_JOINTS = ("head_j1", "head_j2", "head_j3")
COMMANDED_JOINTS = (
    *ARM_JOINTS["R"],
    *ARM_JOINTS["L"],
    *HAND_JOINTS["R"],
    *HAND_JOINTS["L"],
    *HEAD_JOINTS,
)
"""The 29 of an action, in its order: right arm, left arm, right hand, left hand, head."""
TORSO_JOINTS = ("torso_j1", "torso_j2", "torso_j3")


_HAND_LINKS = ("hand", "th_", "ff_", "mf_", "rf_", "lf_")


def is_hand_link(link: str) -> bool:
    """Whether `link` is of a hand: its base or a finger's."""
    return link[:2] in ("R_", "L_") and link[2:].startswith(_HAND_LINKS)


class RobotDescriptionError(Exception):
    """A robot's description is not there or not as expected; names the file."""


@dataclass(frozen=True)
class Mimic:
    """A joint that follows another one: position = multiplier * joint + offset."""

    joint: str
    multiplier: float
    offset: float


@dataclass(frozen=True, eq=False)
class VegaDescription:
    """Facts of the URDF and the SRDF.

    Attributes:
        urdf, srdf: files; meshes are named relative to the URDF's folder.
        position_lower, position_upper: (29,) rad, of COMMANDED_JOINTS.
        velocity: (29,) rad/s, largest.
        effort: (29,) N m, largest.
        mimics: the 10 joints of the fingers that follow one of the 12 commanded.
        links: all, in the order of the URDF.
        allowed_pairs: links that may touch, as frozensets of two.
    """

    urdf: Path
    srdf: Path
    position_lower: NDArray[np.float64]
    position_upper: NDArray[np.float64]
    velocity: NDArray[np.float64]
    effort: NDArray[np.float64]
    mimics: dict[str, Mimic]
    links: tuple[str, ...]
    allowed_pairs: frozenset[frozenset[str]]


@functools.cache
def vega_description(model: str = "vega_1_f5d6") -> VegaDescription:
    """Read the description once.

    Raises:
        RobotDescriptionError: dexmate-urdf is not installed, or lacks the model or a joint.
    """
    spec = importlib.util.find_spec("dexmate_urdf")
    if spec is None or spec.origin is None:
        raise RobotDescriptionError(
            "Vega: expected the package dexmate-urdf, found none: pip install dexmate-urdf"
        )
    folder = Path(spec.origin).parent / _MODEL
    urdf, srdf = folder / f"{model}.urdf", folder / f"{model}.srdf"
    for file in (urdf, srdf):
        if not file.is_file():
            raise RobotDescriptionError(f"{file}: expected Vega's description, found no file")
    robot = ElementTree.parse(urdf).getroot()
    joints = {joint.get("name"): joint for joint in robot.findall("joint")}
    limits = []
    for name in COMMANDED_JOINTS:
        limit = joints[name].find("limit") if name in joints else None
        if limit is None:
            raise RobotDescriptionError(f"{urdf}: joint {name}: expected limits, found none")
        limits.append([float(limit.get(key, "nan")) for key in _LIMITS])
    lower, upper, velocity, effort = np.array(limits).T
    mimics = {}
    for follower, joint in joints.items():
        mimic = joint.find("mimic")
        if follower is not None and mimic is not None:
            mimics[follower] = Mimic(
                str(mimic.get("joint")),
                float(mimic.get("multiplier", "1")),
                float(mimic.get("offset", "0")),
            )
    allowed = frozenset(
        frozenset((str(pair.get("link1")), str(pair.get("link2"))))
        for pair in ElementTree.parse(srdf).getroot().findall("disable_collisions")
    )
    links = tuple(str(link.get("name")) for link in robot.findall("link"))
    return VegaDescription(urdf, srdf, lower, upper, velocity, effort, mimics, links, allowed)


def urdf_without_base_sensors(description: VegaDescription) -> ElementTree.Element:
    """The URDF's root element, less the links that are fixed to its base; meshes as they are."""
    robot = ElementTree.parse(description.urdf).getroot()
    for joint in robot.findall("joint"):
        parent, child = joint.find("parent"), joint.find("child")
        if (
            parent is not None
            and child is not None
            and parent.get("link") == "base"
            and joint.get("type") == "fixed"
        ):
            robot.remove(joint)
            robot.remove(
                next(ln for ln in robot.findall("link") if ln.get("name") == child.get("link"))
            )
    return robot


_LIMITS = ("lower", "upper", "velocity", "effort")
