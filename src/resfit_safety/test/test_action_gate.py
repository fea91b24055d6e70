import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resfit_rl.tasks import get_task
from resfit_safety.action_gate import (
    ActionGate,
    Command,
    GateConfig,
    SafetyVerdict,
    Situation,
)

NAN = math.nan
LOCKSTEP = GateConfig(
    action_names=("x", "gripper"),
    action_lower=(-1.0, 0.0),
    action_upper=(1.0, 1.0),
    action_change=(0.5, 1.0),
    hold_template=(0.0, NAN),
    joint_limits={"elbow": (-2.0, 2.0)},
    needed_roles=("policy", "safety"),
)
REAL_TIME = replace(LOCKSTEP, max_safety_age=0.2, max_held_steps=2)
START = (0.0, 0.25)
SAFE = SafetyVerdict(episode_id=3, stamp=700, motion_allowed=True, reason="", received=10.0)
NORMAL = Situation(
    now=10.1,
    episode_id=3,
    step=7,
    stamp=700,
    safety=SAFE,
    joint_positions={"elbow": 0.5, "other": NAN},
    heartbeat_ages={"policy": 0.1, "safety": 0.1},
)


def command(action=(0.5, 1.0), **changes):
    return replace(Command(episode_id=3, step=7, stamp=700, action=action), **changes)


def judge(command, situation=NORMAL, config=LOCKSTEP):
    return ActionGate(config, START).judge(command, situation)


def test_a_good_command_passes_unchanged():
    verdict = judge(command())
    assert (verdict.kind, verdict.reason, verdict.final) == ("apply", "", True)
    assert verdict.action.dtype == np.float32
    np.testing.assert_array_equal(verdict.action, [0.5, 1.0])


@pytest.mark.parametrize(
    ("request_", "changes", "kind", "reason"),
    [
        (command((NAN, 1.0)), {}, "fault", "action x: expected a finite value, found nan"),
        (command((0.0, math.inf)), {}, "fault", "action gripper: .* found inf"),
        (command((0.0,)), {}, "fault", r"expected shape \(2,\), found \(1,\)"),
        (command((NAN,)), {}, "fault", "expected finite values"),
        (command(step=6, stamp=650), {}, "late", "expected step 7, stamp 700 ns, found step 6"),
        (command(stamp=650), {}, "late", "found step 7, stamp 650 ns"),
        (command(step=8, stamp=750), {}, "hold", "found step 8, stamp 750 ns"),
        (command(step=6, stamp=750), {}, "hold", "found step 6, stamp 750 ns"),
        (command(episode_id=2), {}, "hold", "expected episode 3, found 2"),
        (command(episode_id=4), {}, "hold", "expected episode 3, found 4"),
        (command((1.1, 1.0)), {}, "fault", r"action x: expected a value in \[-1, 1\], found 1.1"),
        (command((0.5, -0.1)), {}, "fault", r"action gripper: expected a value in \[0, 1\]"),
        (command((0.6, 1.0)), {}, "fault", "action x: .* change of at most 0.5 from 0, found 0.6"),
        (None, {}, "hold", "no command for step 7 yet$"),
        (
            None,
            {"policy_error": "camera a: frozen"},
            "hold",
            "no command for step 7 yet: policy: camera a: frozen",
        ),
        (command(), {"episode_id": 0}, "hold", "no episode is running"),
        (
            command(),
            {"joint_positions": {"elbow": 2.5}},
            "fault",
            r"joint elbow: expected a measured position in \[-2, 2\], found 2.5",
        ),
        (command(), {"joint_positions": {"elbow": NAN}}, "fault", "joint elbow: .* found nan"),
        (None, {"joint_positions": {}}, "fault", "joint elbow: .* found None"),
        (
            None,
            {"self_collisions": ["left_hand and head"]},
            "fault",
            "self-collision: expected none, found left_hand and head",
        ),
        (command(), {"safety": None}, "hold", "safety: expected a verdict, found none"),
        (
            command(),
            {"safety": replace(SAFE, motion_allowed=False, reason="wrench right: 30 N")},
            "fault",
            "safety: wrench right: 30 N",
        ),
        (
            command(),
            {"safety": replace(SAFE, motion_allowed=False, stamp=650, reason="silent")},
            "fault",
            "safety: silent",
        ),
        (
            command(),
            {"safety": replace(SAFE, motion_allowed=False, episode_id=2, reason="old")},
            "hold",
            "expected a verdict in episode 3, found one in 2",
        ),
        (command(), {"safety": replace(SAFE, episode_id=0)}, "hold", "found one in 0"),
        (
            command(),
            {"heartbeat_ages": {"safety": 0.1}},
            "hold",
            "heartbeat of policy: expected one, found none",
        ),
        (
            command(),
            {"heartbeat_ages": {"policy": 0.1, "safety": 2.5}},
            "hold",
            "heartbeat of safety: expected within 2 s, found none for 2.5 s",
        ),
    ],
)
@pytest.mark.parametrize("config", [LOCKSTEP, REAL_TIME])
def test_what_is_refused_and_why(request_, changes, kind, reason, config):
    verdict = judge(request_, replace(NORMAL, **changes), config)
    assert verdict.kind == kind
    assert re.search(reason, verdict.reason), verdict.reason
    np.testing.assert_array_equal(verdict.action, [0.0, 0.25])


def test_lockstep_waits_for_the_verdict_on_this_observation_however_old():
    stale = replace(NORMAL, safety=replace(SAFE, stamp=699))
    verdict = judge(command(), stale)
    assert verdict.kind == "hold" and not verdict.final
    assert "expected a verdict on stamp 700 ns or later, found one on 699 ns" in verdict.reason
    assert judge(command(), replace(NORMAL, now=1e6)).kind == "apply"


def test_real_time_wants_a_young_verdict():
    assert judge(command(), replace(NORMAL, now=10.2), REAL_TIME).kind == "apply"
    verdict = judge(command(), replace(NORMAL, now=10.21), REAL_TIME)
    assert verdict.kind == "hold"
    assert "expected a verdict of the last 0.2 s, found one 0.210 s old" in verdict.reason


def test_rate_and_hold_follow_the_last_applied_action():
    gate = ActionGate(LOCKSTEP, START)
    gate.commit(gate.judge(command((0.5, 1.0)), NORMAL))
    # Judging alone records nothing.
    for _ in range(3):
        assert gate.judge(command((1.0, 1.0)), NORMAL).kind == "apply"
    np.testing.assert_array_equal(gate.last_action, [0.5, 1.0])
    held = gate.commit(gate.judge(None, NORMAL))
    np.testing.assert_array_equal(held.action, [0.0, 1.0])
    assert "from 0, found 1" in gate.judge(command((1.0, 1.0)), NORMAL).reason
    gate.reset((1.0, 0.5))
    assert gate.judge(command((1.0, 1.0)), NORMAL).kind == "apply"
    np.testing.assert_array_equal(gate.hold_action, [0.0, 0.5])


def test_too_many_held_steps_in_a_row_are_a_fault():
    gate = ActionGate(REAL_TIME, START)
    good, waiting = gate.judge(command(), NORMAL), gate.judge(None, NORMAL)
    kinds = [gate.commit(v).kind for v in (waiting, waiting, good, waiting, waiting, waiting)]
    assert kinds == ["hold", "hold", "apply", "hold", "hold", "fault"]
    verdict = gate.commit(waiting)
    assert verdict.reason == (
        "held steps in a row: expected at most 2, found 4; last: no command for step 7 yet"
    )
    gate.reset(START)
    assert gate.commit(waiting).kind == "hold"


anything = st.one_of(
    st.floats(width=32), st.floats(-1.5, 1.5, width=32), st.sampled_from([-1.0, 0.0, 1.0])
)


@given(st.lists(st.lists(anything, min_size=1, max_size=3), max_size=20))
def test_no_action_out_of_bounds_ever_comes_out(actions):
    gate = ActionGate(LOCKSTEP, START)
    for action in actions:
        before = gate.last_action
        verdict = gate.commit(gate.judge(command(action), NORMAL))
        out = verdict.action
        assert out.shape == (2,) and np.isfinite(out).all()
        assert (out >= [-1.0, 0.0]).all() and (out <= [1.0, 1.0]).all()
        if verdict.kind == "apply":
            np.testing.assert_allclose(out, action, atol=2e-6)
            assert (np.abs(out - before) <= np.array([0.5, 1.0]) + 2e-6).all()
        else:
            assert verdict.kind == "fault" and verdict.reason
            np.testing.assert_array_equal(out, [0.0, before[1]])


def test_rounding_beyond_a_limit_is_clipped():
    gate = ActionGate(replace(LOCKSTEP, action_change=(2.0, 1.0)), START)
    verdict = gate.judge(command((1.0 + 5e-7, -5e-7)), NORMAL)
    assert verdict.kind == "apply"
    np.testing.assert_array_equal(verdict.action, [1.0, 0.0])


def test_limits_of_a_task():
    task = get_task("square")
    gate = ActionGate(GateConfig.of_task(task), (0.0,) * 6 + (-1.0,))
    np.testing.assert_array_equal(gate.hold_action, [0, 0, 0, 0, 0, 0, -1])
    with pytest.raises(ValueError, match=r"gate: start action gripper: .* found 3"):
        gate.reset((0.0,) * 6 + (3.0,))
    with pytest.raises(ValueError, match="gate: start action: expected shape"):
        gate.reset((0.0,))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action_lower": (0.0,)}, "action_lower: expected 2 values, found 1"),
        ({"action_upper": (NAN, 1.0)}, "action_upper: expected finite"),
        ({"action_lower": (1.0, 0.0)}, "action x: expected lower < upper"),
        ({"action_change": (-1.0, 1.0)}, "action_change of x: expected >= 0"),
        ({"hold_template": (2.0, NAN)}, "hold_template of x: expected NaN or a value in"),
        ({"joint_limits": {"elbow": (NAN, 1.0)}}, "joint elbow: expected lower < upper"),
        ({"max_safety_age": NAN}, "max_safety_age: expected >= 0, found nan"),
        ({"max_held_steps": -1}, "max_held_steps: expected >= 0, found -1"),
    ],
)
def test_a_wrong_configuration_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(LOCKSTEP, **changes)
