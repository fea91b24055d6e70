import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from resfit_safety.wrench_limits import Tool, WrenchConfig, WrenchLimits, WristLimits

LIMITS = {"left": WristLimits(20.0, 2.0), "right": WristLimits(20.0, 2.0)}
STEP = 50  # ns between stamps


def config(window=1, tare=1, wrists=("right",)):
    return WrenchConfig({w: LIMITS[w] for w in wrists}, window, tare, max_age=0.5)


def started(window=1, tare=1, bias=(0.0,) * 6):
    """In episode 1, tared; the newest stamp is 0."""
    limits = WrenchLimits(config(window, tare), 0.0)
    limits.start(1, -tare * STEP, 0.0)
    for i in range(tare):
        limits.add("right", (i - tare + 1) * STEP, bias, 0.0)
    assert limits.judge(0.0).motion_allowed
    return limits


def feed(limits, forces, bias=(0.0,) * 6):
    """Force along z, one sample a step; for each whether motion was allowed."""
    return [
        limits.add("right", (i + 1) * STEP, np.add([0, 0, f, 0, 0, 0], bias), 0.0).motion_allowed
        for i, f in enumerate(forces)
    ]


wrenches = st.lists(st.floats(-100, 100), min_size=6, max_size=6)


@given(wrenches, wrenches)
def test_without_filter_each_sample_is_judged_by_its_tared_magnitudes(bias, wrench):
    limits = started(bias=bias)
    verdict = limits.add("right", STEP, wrench, 0.0)
    difference = np.subtract(wrench, bias)
    force, torque = np.linalg.norm(difference[:3]), np.linalg.norm(difference[3:])
    np.testing.assert_allclose([verdict.force[0], verdict.torque[0]], [force, torque], atol=1e-9)
    assert verdict.motion_allowed == (force <= 20.0 and torque <= 2.0)
    assert (verdict.episode_id, verdict.stamp) == (1, STEP)
    assert bool(verdict.reason) != verdict.motion_allowed


@given(st.integers(0, 3), st.integers(1, 6), wrenches)
def test_a_peak_passes_the_median_if_longer_than_half_the_window(half, length, bias):
    window = 2 * half + 1
    limits = started(window, bias=bias)
    feed(limits, [0.0] * window, bias)
    allowed = [
        limits.add("right", 10_000 + i, np.add([0, 0, 30.0, 0, 0, 0], bias), 0.0).motion_allowed
        for i in range(length)
    ]
    # (window + 1) / 2 samples until it passes.
    assert allowed == [i < half for i in range(length)]


def test_a_stop_stands_until_the_next_episode():
    limits = started()
    assert feed(limits, [0.0, 25.0, 0.0]) == [True, False, False]
    verdict = limits.judge(0.0)
    assert verdict.reason == "wrench right: expected a force of at most 20 N, found 25.0 N"
    limits.start(1, 0, 0.0)
    assert not limits.judge(0.0).motion_allowed
    limits.start(2, 3 * STEP, 0.0)
    verdict = limits.judge(0.0)
    assert verdict.motion_allowed and verdict.episode_id == 2
    limits.add("right", 9000, [0, 0, 0, 0, 3.0, 0], 0.0)
    assert "expected a torque of at most 2 N m, found 3.0 N m" in limits.judge(0.0).reason
    limits.finish()
    assert not limits.judge(0.0).motion_allowed
    verdict = limits.add("right", 9001, np.zeros(6), 0.0)
    assert verdict.motion_allowed and verdict.episode_id == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("window", [1, 5])
def test_nan_and_infinity_stop_at_once_whatever_the_filter(bad, window):
    limits = started(window)
    feed(limits, [1.0] * window)
    verdict = limits.add("right", 10_000, [0, bad, 0, 0, 0, 0], 0.0)
    assert not verdict.motion_allowed
    assert verdict.reason.startswith("wrench right: expected 6 finite values, found [0.0, ")
    assert math.isnan(verdict.force[0])
    limits.start(2, 0, 0.0)
    assert limits.judge(0.0).motion_allowed is False
    limits.start(3, 10_001, 0.0)
    assert limits.add("right", 10_001, np.zeros(6), 0.0).motion_allowed


def test_silence_is_named_after_max_age_and_a_stall_of_the_listener_does_not_count():
    limits = WrenchLimits(config(), 100.0)
    assert limits.judge(100.4).reason == "wrench right: no message yet"
    assert "expected a message within 0.5 s, found none for 0.60 s" in limits.judge(100.6).reason
    assert limits.add("right", 10, np.zeros(6), 101.0).motion_allowed
    limits.start(1, 0, 101.0)
    limits.excuse(2.0)
    assert limits.judge(103.5).motion_allowed
    verdict = limits.judge(103.51)
    assert not verdict.motion_allowed and verdict.episode_id == 1
    assert not limits.add("right", 20, np.zeros(6), 103.6).motion_allowed


def test_silence_before_an_episode_does_not_count_but_motion_waits_for_a_message():
    limits = WrenchLimits(config(), 0.0)
    assert limits.defect(0.0) == "wrench right: no message yet"
    limits.add("right", 10, np.zeros(6), 0.0)
    assert limits.defect(0.0) == ""
    assert "found none for 7.00 s" in limits.defect(7.0)
    limits.start(1, 20, 7.0)
    assert limits.judge(7.4).reason == "wrench right: taring, 1 samples to go"
    assert limits.judge(7.4).episode_id == 0
    verdict = limits.judge(7.6)
    assert (verdict.motion_allowed, verdict.episode_id) == (False, 1)
    limits.start(2, 30, 8.0)
    assert limits.add("right", 30, np.zeros(6), 8.4).motion_allowed


def test_repeating_one_measurement_keeps_it_young_but_does_not_fill_the_filter():
    limits = started(window=3)
    feed(limits, [0.0, 0.0, 30.0])
    for now in (0.3, 0.6, 0.9):
        verdict = limits.add("right", 3 * STEP, [0, 0, 30.0, 0, 0, 0], now)
        assert verdict.motion_allowed
    assert not limits.add("right", 4 * STEP, [0, 0, 30.0, 0, 0, 0], 1.0).motion_allowed


def test_until_the_tare_is_complete_there_is_no_verdict_for_the_episode_but_no_stop_either():
    limits = WrenchLimits(config(tare=3), 0.0)
    limits.add("right", 10, [50.0, 0, 0, 0, 0, 0], 0.0)
    limits.add("right", 20, [10.0, 0, 0, 0, 0, 0], 0.0)
    limits.start(7, 20, 0.0)
    verdict = limits.judge(0.0)
    assert (verdict.motion_allowed, verdict.episode_id) == (False, 0)
    assert verdict.reason == "wrench right: taring, 2 samples to go"
    # Simulated time may stand still meanwhile.
    limits.add("right", 20, [10.0, 0, 0, 0, 0, 0], 0.1)
    verdict = limits.add("right", 30, [16.0, 0, 0, 0, 0, 0], 0.2)
    assert (verdict.motion_allowed, verdict.episode_id) == (True, 7)
    np.testing.assert_allclose(verdict.force, [4.0])
    # A broken sensor is a stop even then.
    limits.start(8, 40, 0.0)
    verdict = limits.add("right", 40, [math.nan] * 6, 0.2)
    assert (verdict.motion_allowed, verdict.episode_id) == (False, 8)


def test_two_wrists():
    limits = WrenchLimits(config(wrists=("left", "right")), 0.0)
    limits.add("left", 10, np.zeros(6), 0.0)
    assert limits.judge(0.0).reason == "wrench right: no message yet"
    limits.add("right", 20, np.zeros(6), 0.3)
    verdict = limits.judge(0.3)
    assert verdict.motion_allowed and verdict.stamp == 10
    assert limits.judge(0.6).reason.startswith("wrench left: expected a message within 0.5 s")
    with pytest.raises(ValueError, match=r"wrench left: expected 6 values, found shape \(5,\)"):
        limits.add("left", 30, np.zeros(5), 0.0)


def test_stamps_that_go_back_are_passed_on_and_empty_the_filter():
    limits = started(window=3)
    feed(limits, [0.0] * 5)
    verdict = limits.add("right", 1, [0, 0, 30.0, 0, 0, 0], 0.0)
    assert verdict.stamp == 1 and not verdict.motion_allowed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), "at least one wrist"),
        (({"right": WristLimits(0.0, 1.0)},), "max_force of wrist right: expected > 0"),
        (({"right": WristLimits(1.0, math.nan)},), "max_torque of wrist right: .* found nan"),
        ((LIMITS, 2), "filter_window: expected an odd number, found 2"),
        ((LIMITS, 1, 0), "tare_samples: expected >= 1"),
        ((LIMITS, 1, 1, math.inf), "max_wrench_age: expected > 0 and finite"),
        ((LIMITS, 1, 1, 1.0, {}, 1), "max_identical: expected 0, or 2 and more, found 1"),
    ],
)
def test_a_wrong_configuration_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WrenchConfig(*arguments)


def with_tool(mass=2.0, center=(0.1, 0.0, 0.0)):
    config = WrenchConfig({"right": LIMITS["right"]}, tools={"right": Tool(mass, center)})
    limits = WrenchLimits(config, 0.0)
    limits.start(1, -STEP, 0.0)
    return limits


def test_weight_by_hand():
    """2 kg 0.1 m out along x, the sensor upright: 19.6 N down, and x cross -z is +y."""
    np.testing.assert_allclose(
        Tool(2.0, (0.1, 0.0, 0.0)).wrench([0, 0, 0, 1]), [0, 0, -19.6133, 0, 1.96133, 0]
    )
    # Turned by 90 degrees about x, the sensor's y axis is up.
    turned = Rotation.from_rotvec([np.pi / 2, 0, 0]).as_quat()
    np.testing.assert_allclose(
        Tool(2.0, (0.0, 0.0, 0.0)).wrench(turned)[:3], [0, -19.6133, 0], atol=1e-9
    )


def test_a_compensated_hand_may_turn_and_one_without_may_not():
    tool = Tool(2.0, (0.1, 0.0, 0.0))
    plain, compensated = started(), with_tool()
    upright, turned = [0, 0, 0, 1], Rotation.from_rotvec([np.pi, 0, 0]).as_quat()
    assert not plain.add(
        "right", STEP, tool.wrench(turned) - tool.wrench(upright), 0.0
    ).motion_allowed
    compensated.place("right", [0, 0, 0, *upright])
    assert compensated.add("right", 0, tool.wrench(upright), 0.0).motion_allowed
    compensated.place("right", [0, 0, 0, *turned])
    verdict = compensated.add("right", STEP, tool.wrench(turned), 0.0)
    assert verdict.motion_allowed and verdict.force[0] < 1e-9
    push = np.add(tool.wrench(turned), [0, 0, 21, 0, 0, 0])
    assert "found 21.0 N" in compensated.add("right", 2 * STEP, push, 0.0).reason


def test_without_a_pose_of_the_hand_nothing_moves():
    limits = with_tool()
    verdict = limits.add("right", 0, np.zeros(6), 0.0)
    assert "no pose of its hand yet" in verdict.reason and not verdict.motion_allowed
    limits.place("right", [0, 0, 0, 0, 0, 0, 1])
    assert limits.add("right", STEP, np.zeros(6), 0.0).motion_allowed
    limits.place("right", [0, 0, 0, math.nan, 0, 0, 1])
    assert "pose of hand right: expected a quaternion" in limits.judge(0.0).reason


def test_a_tool_at_an_unknown_wrist():
    with pytest.raises(ValueError, match=r"tool: expected one of .*right.*, found lft"):
        WrenchConfig({"right": LIMITS["right"]}, tools={"lft": Tool(1.0, (0, 0, 0))})


def at(x, angle=0.0):
    """Pose of a hand, m and rad about x."""
    return [x, 0, 0, *Rotation.from_rotvec([angle, 0, 0]).as_quat()]


def moving(limits, readings, poses, stamps=None):
    """One reading after each pose, a step apart unless said otherwise; for each the reason."""
    reasons = []
    for k, (reading, pose) in enumerate(zip(readings, poses, strict=True)):
        limits.place("right", pose)
        stamp = (k + 1) * STEP if stamps is None else stamps[k]
        reasons.append(limits.add("right", stamp, [reading, 0, 0, 0, 0, 0], 0.0).reason)
    return reasons


def test_the_same_reading_from_a_hand_that_moves_is_a_frozen_sensor():
    limits = started()
    reasons = moving(limits, [1.0, *[2.0] * 6], [at(0.002 * k) for k in range(7)])
    assert reasons[:5] == [""] * 5
    assert reasons[5] == (
        "wrench right: frozen: expected another reading, found the same one 5 times while the "
        "hand moved 8 mm"
    )
    # It stands until the next episode, and is known to be broken until it reads something else.
    limits.place("right", at(0.02))
    assert not limits.add("right", 900, [3.0, 0, 0, 0, 0, 0], 0.0).motion_allowed
    assert limits.defect(0.0) == ""
    limits.start(2, 900, 0.0)
    assert limits.judge(0.0).motion_allowed


def test_a_hand_that_turns_moves():
    reasons = moving(started(), [2.0] * 6, [at(0.0, 0.02 * k) for k in range(6)])
    assert "found the same one 5 times" in reasons[4]


def test_at_rest_or_while_time_stands_still_the_same_reading_is_none():
    still = moving(started(), [2.0] * 50, [at(0.001)] * 50)
    noisy = moving(
        started(), [2.0 + 1e-12 * k for k in range(50)], [at(0.01 * k) for k in range(50)]
    )
    waiting = moving(started(), [2.0] * 50, [at(0.01 * k) for k in range(50)], [STEP] * 50)
    assert not any(still) and not any(noisy) and not any(waiting)
    never = WrenchLimits(WrenchConfig({"right": LIMITS["right"]}, max_identical=0), 0.0)
    assert not any(moving(never, [2.0] * 50, [at(0.01 * k) for k in range(50)]))


def test_a_sensor_that_froze_at_rest_is_found_as_soon_as_the_hand_moves():
    limits = started()
    assert not any(moving(limits, [2.0] * 20, [at(0.0)] * 20))
    limits.place("right", at(0.006))
    assert "found the same one 20 times while the hand moved 6 mm" in limits.judge(0.0).reason
