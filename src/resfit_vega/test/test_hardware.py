"""What the SDK itself makes of our calls, on its own stand-in for a robot; and on a robot.

./resfit test -m hardware src/resfit_vega moves nothing: it reads.
"""

import time

import numpy as np
import pytest

from resfit_rl.robots.vega import COMMANDED_JOINTS, vega_description
from resfit_vega.condition import Condition, disagreement
from resfit_vega.hardware import Hardware, HardwareError

PROFILE = "vega_1_f5d6"
LOWER, UPPER = vega_description().position_lower, vega_description().position_upper
LIMITS = dict(zip(COMMANDED_JOINTS, zip(LOWER, UPPER, strict=True), strict=True))


@pytest.fixture
def hardware():
    pytest.importorskip("dexcontrol", reason="Dexmate's SDK is not installed")
    hardware = Hardware(PROFILE, simulation=True)
    yield hardware
    hardware.close()


def reached(hardware, positions):
    end = time.monotonic() + 2
    while not np.allclose(hardware.read().positions, positions, atol=1e-6):
        assert time.monotonic() < end, hardware.read().positions - positions
        time.sleep(0.01)


def test_joints_limits_and_order_are_ours(hardware):
    assert disagreement(hardware.limits, LIMITS) == ""
    positions = np.clip(np.linspace(-0.2, 0.2, 29), LOWER, UPPER)
    hardware.command(positions)
    reached(hardware, positions)
    # By the SDK's own names: of the hands its order is another.
    for part in ("left_arm", "right_hand", "head"):
        for joint, position in hardware._robot.get_joint_pos_dict(part).items():
            assert position == pytest.approx(positions[COMMANDED_JOINTS.index(joint)], abs=1e-6)
    measurement = hardware.read()
    torso = {joint: (-1.0, 1.0) for joint in ("torso_j1", "torso_j2", "torso_j3")}
    assert Condition(LIMITS, torso, 0.2).problem(measurement, 0.0) == ""
    assert {wrist: len(wrench) for wrist, wrench in measurement.wrenches.items()} == {
        "right": 6,
        "left": 6,
    }
    hardware.stop()


def test_states_are_new_ones(hardware):
    first = hardware.read().stamps
    time.sleep(0.1)
    second = hardware.read().stamps
    assert all(second[part] > first[part] for part in first) and len(first) == 6


def test_what_the_sdk_refuses_is_one_line_and_moves_nothing(hardware):
    beyond = np.zeros(29)
    beyond[15] = UPPER[15] + 1e-9
    far = np.zeros(29)
    far[0] = 0.4
    for positions, reason in (
        (beyond, "is outside limits"),
        (far, "exceeding max_step 0.3"),
        (np.full(29, np.nan), "NaN"),
    ):
        with pytest.raises(HardwareError, match=f"^dexcontrol: command: .*{reason}") as error:
            hardware.command(positions)
        assert "\n" not in str(error.value)
    assert not hardware.read().positions.any()


def test_the_robots_own_emergency_stop(hardware):
    hardware._robot.estop.activate()
    end = time.monotonic() + 2
    while not (found := hardware.read().emergency_stop):
        assert time.monotonic() < end
        time.sleep(0.01)
    assert found == "software"
    with pytest.raises(HardwareError, match="E-stop active"):
        hardware.command(np.zeros(29))


def test_nothing_can_be_read_when_closed(hardware):
    hardware.close()
    with pytest.raises(HardwareError, match=r"^dexcontrol: reading: "):
        hardware.read()


def test_a_model_without_our_hands_is_refused(hardware):
    with pytest.raises(HardwareError, match="right_hand"):
        Hardware("vega_1", simulation=True)


@pytest.mark.hardware
def test_a_real_vega_says_all_that_is_needed():
    """Put the robot where it may enable its motors: connecting does."""
    hardware = Hardware(PROFILE)
    try:
        assert disagreement(hardware.limits, LIMITS) == ""
        measurements = []
        for _ in range(60):
            measurements.append(hardware.read())
            time.sleep(0.05)
        last = measurements[-1]
        assert last.connection == "" and last.controller_errors == ()
        for values in (last.positions, last.velocities, last.torso, *last.wrenches.values()):
            assert np.isfinite(values).all()
        for part in last.stamps:
            changes = np.count_nonzero(np.diff([m.stamps[part] for m in measurements]))
            assert changes > 50, f"{part}: {changes} new states in 59 periods"
        assert max(last.wrench_ages.values()) < 0.1
    finally:
        hardware.close()
