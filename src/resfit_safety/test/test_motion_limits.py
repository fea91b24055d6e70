import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resfit_safety.motion_limits import TOLERANCE, MotionLimits

LIMITS = MotionLimits(
    joints=("shoulder", "elbow"),
    period=0.1,
    velocity=(2.0, 1.0),  # 0.2 and 0.1 a period
    acceleration=(5.0, 4.0),  # 0.05 and 0.04 a period, squared
    measured_step=(0.3, 0.15),
)


def array(*values):
    return np.array(values)


@pytest.mark.parametrize(
    ("command", "last", "before_last", "found"),
    [
        ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), ""),
        ((0.05, -0.04), (0.0, 0.0), (0.0, 0.0), ""),
        ((0.2, 0.0), (0.0, 0.0), (-0.2, 0.0), ""),
        ((0.2, 0.0), (0.0, 0.0), (-0.15, 0.0), ""),
        (
            (0.21, 0.0),
            (0.0, 0.0),
            (-0.2, 0.0),
            "velocity of shoulder: expected at most 2 /s, found 2.1 /s",
        ),
        (
            (0.0, -0.11),
            (0.0, 0.0),
            (0.0, 0.1),
            "velocity of elbow: expected at most 1 /s, found -1.1 /s",
        ),
        (
            (0.051, 0.0),
            (0.0, 0.0),
            (0.0, 0.0),
            "acceleration of shoulder: expected at most 5 /s2, found 5.1 /s2",
        ),
        (
            (0.0, 0.1),
            (0.0, 0.1),
            (0.0, 0.05),
            "acceleration of elbow: expected at most 4 /s2, found -5 /s2",
        ),
    ],
)
def test_velocity_and_acceleration(command, last, before_last, found):
    assert LIMITS.violation(array(*command), array(*last), array(*before_last)) == found


def test_step_against_the_measured_position():
    command = array(0.5, 0.1)
    assert LIMITS.step_violation(command, {"shoulder": 0.2, "elbow": 0.2, "more": 9.0}) == ""
    assert LIMITS.step_violation(command, array(0.2, 0.2)) == ""
    assert LIMITS.step_violation(command, {"shoulder": 0.19, "elbow": 0.2}) == (
        "step of shoulder: expected a command within 0.3 of its measured position 0.19, found 0.5"
    )
    missing = LIMITS.step_violation(command, {"shoulder": 0.2})
    assert "step of elbow: expected a command within 0.15 of its measured position nan" in missing
    assert "step of elbow" in LIMITS.step_violation(command, array(0.2, math.nan))


angles = st.lists(st.floats(-0.5, 0.5, width=32), min_size=2, max_size=2).map(np.array)


@given(angles, angles, angles, angles)
def test_exactly_what_is_beyond_a_limit_is_named(command, last, before_last, measured):
    velocity = np.abs(command - last) / 0.1
    acceleration = np.abs(command - 2 * last + before_last) / 0.01
    step = np.abs(command - measured)
    slack = np.array([TOLERANCE / 0.1, TOLERANCE / 0.01, TOLERANCE]) * 1.01
    text = LIMITS.violation(command, last, before_last) or LIMITS.step_violation(command, measured)
    kind, joint = re.match(r"(\w*)(?: of (\w+))?", text).groups()
    values = {"velocity": velocity, "acceleration": acceleration, "step": step}
    largest = {"velocity": LIMITS.velocity, "acceleration": LIMITS.acceleration}
    largest["step"] = LIMITS.measured_step
    if kind:
        i = LIMITS.joints.index(joint)
        assert values[kind][i] > largest[kind][i]
    else:
        for (name, found), allowance in zip(values.items(), slack, strict=True):
            assert (found <= np.array(largest[name]) + allowance).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"period": 0.0}, "period: expected a time > 0, found 0"),
        ({"period": math.nan}, "period"),
        ({"velocity": (1.0,)}, "velocity: expected 2 values, found 1"),
        ({"acceleration": (1.0, 0.0)}, "acceleration of elbow: expected > 0, found 0"),
        ({"measured_step": (math.nan, 1.0)}, "measured_step of shoulder: expected > 0, found nan"),
    ],
)
def test_a_wrong_configuration_is_refused(changes, message):
    values = {
        "joints": LIMITS.joints,
        "period": LIMITS.period,
        "velocity": LIMITS.velocity,
        "acceleration": LIMITS.acceleration,
        "measured_step": LIMITS.measured_step,
    }
    with pytest.raises(ValueError, match=message):
        MotionLimits(**(values | changes))
