"""The driver from its start to its end, by a signal or a kill."""

import time

import numpy as np
import pytest
from neighbours import FORM, HOLDING, NO_SDK, Shared, end_driver, start_driver, swinging

from resfit_interfaces.msg import EpisodeState, NodeHeartbeat
from resfit_rl.robots.vega import COMMANDED_JOINTS, TORSO_JOINTS
from resfit_ros.conversions import stamp_to_ns


def test_lifecycle(start, graph, robot):
    start()
    graph.wait_heartbeat(NodeHeartbeat.STARTING, "not configured")
    assert graph.lifecycle() == "unconfigured" and not graph.change("ACTIVATE")
    assert "expected the driver active" in graph.confirm().message
    assert graph.change("CONFIGURE") and graph.lifecycle() == "inactive"
    graph.wait_heartbeat(NodeHeartbeat.BUSY, "not active")
    # It reads, and commands nothing.
    joints = graph.received["joint_states"]
    graph.wait(lambda: len(joints) > 10, "joint states")
    assert not graph.received["executed_action"] and robot.commands == 0
    assert "expected the driver active" in graph.reset().message
    named = dict(zip(joints[-1].name, joints[-1].position, strict=True))
    assert [named[j] for j in COMMANDED_JOINTS] == pytest.approx(robot.positions, abs=1e-3)
    assert [named[joint] for joint in TORSO_JOINTS] == [0.5, 1.8, 1.3] and len(named) == 42
    stamps = [stamp_to_ns(m.header.stamp) for m in joints]
    assert np.all(np.diff(stamps) > 0) and abs(stamps[-1] - time.time_ns()) < 1e9
    pose = graph.received["end_effectors/right/pose"][-1].pose
    expected = robot._twin._end_effectors()["right"]
    assert (pose.position.x, pose.position.z) == pytest.approx(expected[[0, 2]], abs=2e-3)
    assert abs(pose.orientation.w) == pytest.approx(abs(expected[6]), abs=2e-3)

    before = robot.positions
    assert graph.change("ACTIVATE")
    graph.wait_heartbeat(NodeHeartbeat.READY)
    graph.wait(lambda: robot.commands > 0, "a command")
    np.testing.assert_allclose(robot.command, before, atol=2e-3)
    graph.wait(lambda: len(graph.executed(0)) > 5, "held steps")
    assert all(m.held and not m.fault for m in graph.executed(0))
    assert graph.change("DEACTIVATE")
    graph.wait_heartbeat(NodeHeartbeat.BUSY, "not active")
    commands = robot.commands
    time.sleep(0.2)
    assert robot.commands == commands and robot.memory[Shared.CLOSED] == 0
    assert graph.change("CLEANUP") and robot.memory[Shared.CLOSED] == 1
    graph.wait_heartbeat(NodeHeartbeat.STARTING)
    assert graph.change("CONFIGURE") and graph.change("ACTIVATE")
    graph.wait_heartbeat(NodeHeartbeat.READY)
    assert graph.change("ACTIVE_SHUTDOWN") and robot.memory[Shared.CLOSED] == 2


def test_without_the_sdk_one_line_says_what_to_install(start, graph, robot):
    process = start_driver(robot.memory.filename, sdk=NO_SDK)
    assert not graph.change("CONFIGURE") and graph.lifecycle() == "unconfigured"
    graph.wait_heartbeat(NodeHeartbeat.ERROR, "pip install dexcontrol==0.8.0")
    errors = end_driver(process)[1]
    assert errors.count("pip install dexcontrol") == 1 and errors.count("\n") == 1, errors


def test_a_robot_that_is_not_as_described_is_not_configured(start, graph, robot):
    robot.memory[Shared.TORSO][1] = 1.7
    start()
    assert not graph.change("CONFIGURE")
    graph.wait_heartbeat(
        NodeHeartbeat.ERROR,
        "joint torso_j2: expected a measured position in [1.78, 1.82], found 1.7",
    )
    robot.good()
    robot.memory[Shared.STOPPED] = 1
    assert graph.change("CONFIGURE") and not graph.change("ACTIVATE")
    graph.wait_heartbeat(NodeHeartbeat.ERROR, "own emergency stop: expected it released")
    robot.good()
    assert graph.change("ACTIVATE")
    graph.wait_heartbeat(NodeHeartbeat.READY)


def test_a_killed_driver_leaves_the_robot_holding(start, graph, robot):
    process = start_driver(robot.memory.filename, autostart=True, reset_speed=0.5)
    graph.wait_heartbeat(NodeHeartbeat.READY)
    time.sleep(0.5)  # until it has heard all others
    graph.run(swinging())
    graph.wait(lambda: len(graph.executed()) > 12, "steps")
    process.kill()
    process.communicate()
    command, commands = robot.command, robot.commands
    time.sleep(0.5)
    assert robot.commands == commands
    np.testing.assert_array_equal(robot.command, command)
    np.testing.assert_allclose(robot.positions[:14], command[:14], atol=HOLDING)
    # The next one takes it over as it stands.
    graph.heartbeats.clear()
    process = start_driver(robot.memory.filename, autostart=True, reset_speed=0.5)
    graph.wait_heartbeat(NodeHeartbeat.READY)
    graph.wait(lambda: robot.commands > commands, "a command")
    np.testing.assert_allclose(robot.command[:14], command[:14], atol=HOLDING)
    end_driver(process)


def test_on_the_sdks_own_stand_in_for_a_robot(graph, robot, tmp_path):
    """The SDK itself takes a whole reset and an episode, and refuses nothing."""
    pytest.importorskip("dexcontrol", reason="Dexmate's SDK is not installed")
    cell = tmp_path / "cell.yaml"
    text = FORM.read_text().replace("torso: []", "torso: [0.0, 0.0, 0.0]")  # there it stands
    text = text.replace("boxes:", "boxes: []").replace("[table]", "[]")
    cell.write_text("".join(line for line in text.splitlines(True) if "center:" not in line))
    graph.received.clear()
    graph.heartbeats.clear()
    process = start_driver(
        robot.memory.filename,
        sdk=None,
        cell=cell,
        sdk_simulation=True,
        autostart=True,
        reset_speed=0.5,
    )
    graph.wait_heartbeat(NodeHeartbeat.READY)
    time.sleep(0.5)  # until it has heard all others
    graph.run(swinging(), max_steps=60)
    graph.wait(lambda: len(graph.executed()) == 60, "60 steps")
    assert not any(m.fault for m in graph.executed())
    assert sum(not m.held for m in graph.executed()) > 40
    graph.state(EpisodeState.FINISHED)
    end_driver(process)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"use_sim_time": True}, "parameter 'use_sim_time': expected false on a real robot"),
        ({"task": "can"}, "parameter 'task': expected one of Vega's, found 'can'"),
        ({"cell": "/none.yaml", "autostart": True}, "/none.yaml"),
    ],
)
def test_wrong_parameters_are_named(robot, parameters, message):
    errors = end_driver(start_driver(robot.memory.filename, **parameters), code=1)[1]
    assert message in errors and errors.count("\n") == 1, errors
