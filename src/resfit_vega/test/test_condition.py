from dataclasses import replace

import numpy as np
import pytest

from resfit_rl.robots.vega import COMMANDED_JOINTS, TORSO_JOINTS
from resfit_vega.condition import Condition, disagreement
from resfit_vega.hardware import Measurement

JOINT_LIMITS = {joint: (-1.0, 1.0) for joint in COMMANDED_JOINTS}
TORSO_LIMITS = {joint: (0.4, 0.6) for joint in TORSO_JOINTS}
GOOD = Measurement(
    positions=np.zeros(29),
    velocities=np.zeros(29),
    torso=np.full(3, 0.5),
    wrenches={"right": np.zeros(6), "left": np.zeros(6)},
    stamps={"head": 5, "torso": 7},
    wrench_ages={"right": 0.0, "left": 0.1},
    emergency_stop="",
    controller_errors=(),
    connection="",
)


def changed(values, index, value):
    values = values.copy()
    values[index] = value
    return values


def problem(measurement):
    return Condition(JOINT_LIMITS, TORSO_LIMITS, 0.2).problem(measurement, 10.0)


def test_a_good_measurement_has_no_problem():
    assert problem(GOOD) == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"connection": "found it stopped"}, "connection to the robot: found it stopped"),
        ({"emergency_stop": "button"}, "own emergency stop: expected it released, found button"),
        ({"controller_errors": ("head_j1",)}, "expected no error, found one of head_j1"),
        (
            {"positions": changed(GOOD.positions, 3, np.nan)},
            "joint R_arm_j4: expected a finite position, found nan",
        ),
        (
            {"velocities": changed(GOOD.positions, 28, np.inf)},
            "joint head_j3: expected a finite velocity, found inf",
        ),
        (
            {"torso": np.array([0.5, np.nan, 0.5])},
            "joint torso_j2: expected a finite position, found nan",
        ),
        (
            {"wrenches": {"right": np.zeros(6), "left": np.full(6, np.nan)}},
            "wrench left: expected 6 finite values, found [nan",
        ),
        (
            {"wrenches": {"right": np.zeros(3), "left": np.zeros(6)}},
            "wrench right: expected 6 finite values, found [0.0, 0.0, 0.0]",
        ),
        (
            {"wrench_ages": {"right": 0.0, "left": np.inf}},
            "wrench left: expected a new state within 0.2 s, found none for inf s",
        ),
        (
            {"torso": np.array([0.5, 0.5, 0.61])},
            "joint torso_j3: expected a measured position in [0.4, 0.6], found 0.61",
        ),
        (
            {"positions": changed(GOOD.positions, 20, -1.01)},
            "joint L_th_j0: expected a measured position in [-1, 1], found -1.01",
        ),
    ],
)
def test_what_is_wrong_is_named(changes, expected):
    assert expected in problem(replace(GOOD, **changes))


def test_a_part_is_silent_when_its_stamp_stays_whatever_the_robots_clock_says():
    condition = Condition(JOINT_LIMITS, TORSO_LIMITS, 0.2)
    assert condition.problem(GOOD, 10.0) == ""
    assert condition.problem(replace(GOOD, stamps={"head": 5, "torso": 8}), 10.1) == ""
    assert condition.ages["head"] == pytest.approx(0.1) and condition.ages["torso"] == 0.0
    late = replace(GOOD, stamps={"head": 5, "torso": 9})
    assert condition.problem(late, 10.25) == (
        "head: expected a new state within 0.2 s, found none for 0.25 s"
    )
    # Set back, the clock gives another stamp all the same.
    assert condition.problem(replace(GOOD, stamps={"head": 2, "torso": 1}), 10.3) == ""


def test_limits_that_differ_and_joints_that_lack_are_named():
    expected = {"a": (-1.0, 1.0), "b": (0.0, 2.0)}
    assert disagreement(expected | {"c": (0, 0)}, expected) == ""
    assert disagreement({"a": (-1.0, 1.0)}, expected) == (
        "joint b: expected the robot to have it, found a"
    )
    assert disagreement(expected | {"b": (0.0, 2.1)}, expected) == (
        "joint b: expected the limits 0 and 2 of dexmate-urdf, found 0 and 2.1"
    )
    assert "found nan and nan" in disagreement(expected | {"a": (np.nan, np.nan)}, expected)
