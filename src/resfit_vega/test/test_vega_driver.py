"""The driver at its work, and when something is wrong with the robot; one for all tests."""

import time

import numpy as np
import pytest
from neighbours import ELBOW, HOLDING, PARTS, Shared, swinging

from resfit_interfaces.msg import EpisodeState, NodeHeartbeat


def test_an_episode(driver, robot):
    graph = driver
    graph.run(swinging(), max_steps=40)
    graph.wait(lambda: len(graph.executed()) == 40, "40 steps")
    executed = graph.executed()
    assert [m.step for m in executed] == list(range(40))
    applied = [m for m in executed if not m.held]
    # On a busy machine this test's policy is late at times.
    assert len(applied) > 25 and not any(m.fault for m in executed)
    swing = np.array([0.1 * (1 - np.cos(0.2 * m.step)) for m in applied])
    found = np.array([m.action[ELBOW] for m in applied])
    np.testing.assert_allclose(found - found[0], swing - swing[0], atol=1e-4)
    # No step beyond max_steps; it holds there, and has followed.
    time.sleep(0.3)
    assert len(graph.executed()) == 40
    np.testing.assert_allclose(robot.command, executed[-1].action, atol=1e-6)
    np.testing.assert_allclose(robot.positions[:14], robot.command[:14], atol=HOLDING)
    # Setpoints went out between the commands.
    assert robot.commands > 3 * len(applied)
    graph.state(EpisodeState.FINISHED)
    graph.wait_heartbeat(NodeHeartbeat.READY)
    graph.wait(lambda: graph.received["executed_action"][-1].episode_id == 0, "held steps")


def test_a_command_that_the_gate_refuses_never_reaches_the_robot(driver, robot):
    graph = driver
    start = robot.command

    def policy(step, positions):
        action = start.copy()
        action[ELBOW] += 0.5 if step == 3 else 0.0
        return action

    graph.run(policy)
    fault = graph.fault()
    assert fault.step >= 3 and fault.held
    assert "action R_arm_j4: expected a change of at most 0.135" in fault.reason
    time.sleep(0.2)
    assert graph.executed()[-1] == fault
    assert abs(robot.command[ELBOW] - start[ELBOW]) < 0.06


def frozen(part):
    def freeze(robot):
        robot.memory[Shared.FROZEN] = PARTS.index(part)

    return freeze


def torso_moved(robot):
    robot.memory[Shared.TORSO][0] = 0.53


def nan_wrench(robot):
    robot.nan = True


def put(place, value):
    def put_there(robot):
        robot.memory[place] = value

    return put_there


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (put(Shared.STOPPED, 1), "the robot's own emergency stop: expected it released, found but"),
        (frozen("left_hand"), "left_hand: expected a new state within 0.2 s, found none for 0.2"),
        (nan_wrench, "wrench right: expected 6 finite values, found ["),
        (torso_moved, "joint torso_j1: expected a measured position in [0.48, 0.52], found 0.53"),
        (put(Shared.ERROR, 3), "motor controllers: expected no error, found one of R_arm_j4"),
        (put(Shared.LIFECYCLE, 1), "connection to the robot: expected it ready, found it faulted"),
    ],
    ids=["emergency stop", "frozen", "nan", "torso", "controller", "connection"],
)
def test_what_is_wrong_with_the_robot_ends_the_episode(driver, robot, wrong, reason):
    graph = driver
    graph.run(swinging())
    graph.wait(lambda: len(graph.executed()) > 5, "steps")
    begun = time.monotonic()
    wrong(robot)
    fault = graph.fault()
    took = time.monotonic() - begun
    assert reason in fault.reason, fault.reason
    assert took < 0.2 + (0.2 if "within 0.2 s" in reason else 0.0)
    graph.wait_heartbeat(NodeHeartbeat.ERROR, reason[:30])
    # Nothing is commanded: the motors hold the last setpoint, and the robot rests.
    commands, command = robot.commands, robot.command
    time.sleep(0.3)
    assert robot.commands == commands
    np.testing.assert_array_equal(robot.command, command)
    np.testing.assert_allclose(robot.positions[:14], command[:14], atol=HOLDING)
    graph.state(EpisodeState.FINISHED)
    graph.wait(lambda: len(graph.executed(0)) > 0, "held steps")
    assert graph.confirm().success
    answer = graph.reset()
    assert reason[:30] in answer.message
    robot.good()
    graph.wait_heartbeat(NodeHeartbeat.READY)
    graph.wait(lambda: robot.commands > commands, "the robot held again")
    np.testing.assert_allclose(robot.command[:14], robot.positions[:14], atol=HOLDING)


def test_a_lost_connection_is_said_and_mended_by_a_person(driver, robot):
    graph = driver
    graph.run(swinging())
    graph.wait(lambda: len(graph.executed()) > 5, "steps")
    robot.memory[Shared.CONNECTED] = 0
    assert "dexcontrol: reading: transport error" in graph.fault().reason
    graph.wait_heartbeat(NodeHeartbeat.ERROR, "dexcontrol: reading: transport error")
    assert graph.lifecycle() == "unconfigured" and not graph.change("CONFIGURE")
    np.testing.assert_allclose(robot.positions[:14], robot.command[:14], atol=2 * HOLDING)
    robot.good()
    before = robot.command
    assert graph.change("CONFIGURE") and graph.change("ACTIVATE")
    graph.wait_heartbeat(NodeHeartbeat.READY)
    graph.state(EpisodeState.FINISHED)
    np.testing.assert_allclose(robot.command[:14], before[:14], atol=HOLDING)
