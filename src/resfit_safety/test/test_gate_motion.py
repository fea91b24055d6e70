"""The gate with absolute joint positions: Vega's 29."""

import math
from collections import Counter
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from vega_cell import (
    PERIOD,
    adversary,
    bounds,
    checker,
    contacts,
    free_positions,
    gate_config,
    home,
    index,
    limits,
    with_torso,
)

from resfit_rl.robots.vega import COMMANDED_JOINTS, vega_description
from resfit_safety.action_gate import ActionGate, Command, GateConfig, SafetyVerdict, Situation

SIZE = len(COMMANDED_JOINTS)
LOWER, UPPER = bounds()
CONFIG = gate_config(needed_roles=("policy",))
SAFE = SafetyVerdict(episode_id=3, stamp=700, motion_allowed=True, reason="", received=10.0)


def situation(measured, **changes):
    normal = Situation(
        now=10.1,
        episode_id=3,
        step=7,
        stamp=700,
        safety=SAFE,
        joint_positions=with_torso(measured),
        heartbeat_ages={"policy": 0.1},
    )
    return replace(normal, **changes)


def command(action, **changes):
    return replace(Command(episode_id=3, step=7, stamp=700, action=action), **changes)


class Named:
    """A checker that refuses motions which end with the head turned right; it keeps them."""

    joints = COMMANDED_JOINTS

    def __init__(self):
        self.asked = []

    def violation(self, start, end):
        self.asked.append((start, end))
        return "collision head and wall: here" if end[index("head_j2")] < 0 else ""


def moved(**changes):
    positions = home()
    for joint, change in changes.items():
        positions[index(joint)] += change
    return positions


def test_what_is_wrong_is_named_in_the_order_of_the_checks():
    """Everything is wrong at first; then one thing after the other is put right."""
    start = moved(head_j3=1.4)
    measured = moved(head_j3=1.4, L_arm_j1=-0.5)
    config = replace(CONFIG, motion_limits=limits(acceleration=(4.0,) * SIZE))
    gate = ActionGate(config, start, Named())
    bad = start.copy()
    bad[index("head_j2")] = -0.001
    bad[index("head_j3")] = 1.5
    bad[index("R_arm_j1")] += 0.2
    bad[index("R_arm_j2")] += 0.05
    bad[index("R_arm_j3")] = math.nan
    stopped = replace(SAFE, motion_allowed=False, reason="wrench right: 80 N")
    old = replace(SAFE, stamp=600)
    wrong = situation(measured, safety=stopped, heartbeat_ages={})
    wrong.joint_positions["torso_j1"] = 0.6

    def reason(kind, action=bad, now=wrong, **changes):
        verdict = gate.judge(command(action, **changes), now)
        assert verdict.kind == kind and verdict.action == pytest.approx(start)
        return verdict.reason

    assert reason("fault", [*bad, 0.0], stamp=650).startswith("action: expected finite values")
    assert reason("fault", stamp=650).startswith("action R_arm_j3: expected a finite value")
    bad[index("R_arm_j3")] = start[index("R_arm_j3")]
    assert reason("fault", [*bad, 0.0]).startswith("action: expected shape (29,)")
    assert reason("fault").startswith("action head_j3: expected a value in [-1.378, 1.483]")
    bad[index("head_j3")] = start[index("head_j3")]
    assert reason("fault").startswith("action R_arm_j1: expected a change of at most 0.12")
    gate.config = replace(gate.config)
    gate._change = np.full(SIZE, 10.0)
    assert reason("fault") == "velocity of R_arm_j1: expected at most 2.4 /s, found 4 /s"
    bad[index("R_arm_j1")] = start[index("R_arm_j1")]
    assert reason("fault") == "acceleration of R_arm_j2: expected at most 4 /s2, found 20 /s2"
    bad[index("R_arm_j2")] = start[index("R_arm_j2")]
    assert reason("fault") == (
        "step of L_arm_j1: expected a command within 0.4 of its measured position 0.85, found 1.35"
    )
    wrong.joint_positions["L_arm_j1"] = start[index("L_arm_j1")]
    assert reason("fault") == "collision head and wall: here"
    bad[index("head_j2")] = 0.001
    assert reason("fault").startswith("joint torso_j1: expected a measured position in [0.49")
    wrong.joint_positions["torso_j1"] = 0.5
    assert reason("fault") == "safety: wrench right: 80 N"
    wrong = replace(wrong, safety=old)
    assert "found step 7, stamp 650 ns" in reason("late", now=wrong, stamp=650)
    assert "expected a verdict on stamp 700 ns or later" in reason("hold", now=wrong)
    wrong = replace(wrong, safety=SAFE)
    assert reason("hold", now=wrong) == "heartbeat of policy: expected one, found none"
    verdict = gate.judge(command(bad), replace(wrong, heartbeat_ages={"policy": 0.0}))
    assert verdict.kind == "apply" and verdict.action == pytest.approx(bad)


def test_both_ways_to_a_command_are_checked():
    named = Named()
    gate = ActionGate(replace(CONFIG, action_change=(1.0,) * SIZE), home(), named)
    target = moved(head_j1=0.01)
    assert gate.judge(command(target), situation(home())).kind == "apply"
    assert len(named.asked) == 1  # it is where it was sent to
    lagging = moved(head_j1=-0.02)
    assert gate.judge(command(target), situation(lagging)).kind == "apply"
    (_, _), (last, _), (measured, end) = named.asked
    assert last == pytest.approx(home()) and measured == pytest.approx(lagging)
    assert end == pytest.approx(target)
    unknown = situation(home())
    del unknown.joint_positions["head_j1"]
    found = ActionGate(replace(CONFIG, motion_limits=None), home(), named)
    assert found.judge(command(target), unknown).reason == (
        "joint head_j1: expected a measured position, found None"
    )


def test_velocity_and_acceleration_follow_what_was_applied():
    gate = ActionGate(replace(CONFIG, motion_limits=limits(acceleration=(24.0,) * SIZE)), home())
    for k, change in enumerate((0.06, 0.18, 0.24)):
        verdict = gate.commit(
            gate.judge(command(moved(L_arm_j1=-change)), situation(gate.last_action))
        )
        assert verdict.kind == "apply", (k, verdict.reason)
    # A held step stops it, from where it has to gather speed again.
    held = gate.commit(gate.judge(None, situation(gate.last_action)))
    assert held.kind == "hold" and held.action == pytest.approx(moved(L_arm_j1=-0.24))
    verdict = gate.judge(command(moved(L_arm_j1=-0.31)), situation(gate.last_action))
    assert verdict.reason.startswith("acceleration of L_arm_j1")
    gate.reset(home())
    assert gate.judge(command(moved(L_arm_j1=-0.06)), situation(home())).kind == "apply"
    assert gate.judge(command(moved(L_arm_j1=-0.07)), situation(home())).kind == "fault"


def test_a_configuration_of_other_joints_is_refused():
    with pytest.raises(ValueError, match="motion_limits: expected 2 joints, found 29"):
        GateConfig(("a", "b"), (0, 0), (1, 1), (1, 1), (0, 0), motion_limits=limits())
    with pytest.raises(ValueError, match="collision checker: expected 2 joints, found 29"):
        ActionGate(GateConfig(("a", "b"), (0, 0), (1, 1), (1, 1), (0, 0)), (0, 0), checker())


def test_no_command_that_is_executed_breaks_a_limit_or_touches():
    rng = np.random.default_rng(7)
    data = mujoco.MjData(checker().robot.model)
    velocity = vega_description().velocity
    # The change of an action would catch what is too fast before the velocity does.
    config = replace(CONFIG, action_change=(10.0,) * SIZE)
    starts = [home(), *(free_positions(rng, 0.4) for _ in range(60))]
    kinds = ("walk", "down", "together", "edge", "jump", "broken", "drift")
    outcomes, steps = Counter(), 0
    for k in range(2000):
        kind, start = kinds[k % len(kinds)], starts[rng.integers(len(starts))]
        gate = ActionGate(config, start, checker())
        policy = adversary(kind, rng, start)
        action = next(policy)
        before, last = start, gate.last_action.astype(float)
        lag = rng.choice([0.0, 0.3])
        measured = start
        for _ in range(7):
            action = np.float32(action) if rng.uniform() < 0.5 else action
            verdict = gate.commit(gate.judge(command(action), situation(measured)))
            out = verdict.action.astype(float)
            assert np.isfinite(out).all()
            assert (out >= np.float32(LOWER)).all() and (out <= np.float32(UPPER)).all()
            if verdict.kind != "apply":
                assert verdict.kind == "fault" and verdict.reason
                np.testing.assert_array_equal(out, np.float32(last))
                outcomes[kind, verdict.reason.split()[0]] += 1
                break
            steps += 1
            assert (np.abs(out - action) < 3e-6).all()
            assert (np.abs(out - last) / PERIOD <= velocity + 1e-4).all()
            assert (np.abs(out - 2 * last + before) / PERIOD**2 <= 8 * velocity + 2e-3).all()
            assert (np.abs(out - measured) <= 0.4 + 2e-6).all()
            # It follows, perhaps late, on the straight way.
            now = out - lag * (out - measured)
            if steps % 4 == 0:
                for share in (0.5, 1.0):
                    assert not contacts(checker(), data, measured + share * (now - measured))
                assert not contacts(checker(), data, out)
            before, last, measured = last, out, now
            action = policy.send(out)
        else:
            outcomes[kind, "ran"] += 1
    assert steps > 4000
    causes = {cause for _, cause in outcomes}
    assert {"collision", "velocity", "acceleration", "action", "ran"} <= causes, outcomes
    assert outcomes["down", "collision"] > 20 and outcomes["together", "collision"] > 20
    assert outcomes["jump", "ran"] == outcomes["broken", "ran"] == 0
