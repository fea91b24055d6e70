"""The gate on a way between episodes: apply or fault, whatever episode anything is for."""

import math
from dataclasses import replace

import numpy as np
import pytest
from vega_cell import bounds, checker, free_positions, gate_config, home, index, with_torso

from resfit_rl.robots.vega import COMMANDED_JOINTS
from resfit_safety.action_gate import ActionGate, SafetyVerdict, Situation
from resfit_safety.reset_path import reset_path

SIZE = len(COMMANDED_JOINTS)
LOWER, UPPER = bounds()
CONFIG = gate_config(max_safety_age=0.2, needed_roles=("supervisor",), max_held_steps=10)
SAFE = SafetyVerdict(episode_id=0, stamp=700, motion_allowed=True, reason="", received=10.0)


def situation(measured, **changes):
    normal = Situation(
        now=10.1,
        episode_id=0,
        step=0,
        stamp=0,
        safety=SAFE,
        joint_positions=with_torso(measured),
        heartbeat_ages={"supervisor": 0.1},
    )
    return replace(normal, **changes)


def nudged(change=0.03):
    positions = home()
    positions[index("L_arm_j1")] -= change
    return positions


def test_a_whole_way_passes_and_ends_at_its_goal():
    start = free_positions(np.random.default_rng(3), 0.4)
    path = reset_path(
        start,
        home(),
        checker=checker(),
        limits=CONFIG.motion_limits,
        lower=LOWER,
        upper=UPPER,
        speed=0.3,
    )
    gate = ActionGate(CONFIG, start, checker())
    for command in path:
        verdict = gate.commit(gate.judge_reset(command, situation(gate.last_action)))
        assert (verdict.kind, verdict.reason) == ("apply", "")
    np.testing.assert_array_equal(gate.last_action, np.float32(home()))


@pytest.mark.parametrize(
    ("action", "changes", "reason"),
    [
        (nudged(), {"emergency_stop": "the person"}, "emergency stop: the person"),
        (nudged()[:5], {}, r"action: expected shape \(29,\)"),
        (np.full(SIZE, math.nan), {}, "action R_arm_j1: expected a finite value"),
        (nudged(0.5), {}, "action L_arm_j1: expected a change of at most"),
        (nudged(), {"safety": None}, "safety: expected a verdict, found none"),
        (
            nudged(),
            {"safety": replace(SAFE, motion_allowed=False, reason="wrench right: NaN")},
            "safety: wrench right: NaN",
        ),
        (nudged(), {"now": 10.3}, "safety: expected a verdict of the last 0.2 s"),
        (nudged(), {"heartbeat_ages": {}}, "heartbeat of supervisor: expected one"),
    ],
)
def test_anything_amiss_ends_the_way(action, changes, reason):
    gate = ActionGate(CONFIG, home(), checker())
    verdict = gate.judge_reset(action, situation(home(), **changes))
    assert verdict.kind == "fault"
    np.testing.assert_array_equal(verdict.action, np.float32(home()))
    with pytest.raises(AssertionError, match=f"^{reason}"):
        raise AssertionError(verdict.reason)


def test_what_the_robot_measures_ends_the_way_too():
    gate = ActionGate(CONFIG, home(), checker())
    assert gate.judge_reset(nudged(), situation(home())).kind == "apply"
    lagging = home()
    lagging[index("R_arm_j5")] += 0.5
    assert gate.judge_reset(nudged(), situation(lagging)).reason.startswith("step of R_arm_j5")
    moved = situation(home())
    moved.joint_positions["torso_j1"] = 0.6
    assert gate.judge_reset(nudged(), moved).reason.startswith("joint torso_j1: expected")
    # A verdict on another episode, of a stop in it or not, is as good as one on none.
    other = replace(SAFE, episode_id=3)
    assert gate.judge_reset(nudged(), situation(home(), safety=other)).kind == "apply"


def test_a_command_into_the_table_ends_the_way():
    down, steps = home(), 0
    gate = ActionGate(CONFIG, home(), checker())
    while True:
        down[index("R_arm_j4")] += 0.02
        verdict = gate.commit(gate.judge_reset(down, situation(gate.last_action)))
        if verdict.fault:
            break
        steps += 1
    assert "table" in verdict.reason and steps > 1, (verdict.reason, steps)
