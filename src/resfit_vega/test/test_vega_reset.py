"""The way to a start: asked for, confirmed, refused, gone, stopped."""

import threading
import time

import numpy as np
import pytest
from neighbours import COMMANDED_JOINTS, ELBOW, HOLDING, Shared, swinging

from resfit_interfaces.msg import EpisodeState, NodeHeartbeat
from resfit_interfaces.srv import ResetRobot
from resfit_rl.robots.vega import vega_description
from resfit_rl.simulation.vega.model import start_posture
from resfit_ros.conversions import stamp_to_ns

POSTURE = np.array([start_posture()[joint] for joint in COMMANDED_JOINTS])
AWAY = {"R_arm_j4": -2.4, "L_arm_j3": 0.6, "R_arm_j6": 0.2, "head_j2": 0.5, "L_ff_j1": -0.8}
SPEED = 0.5  # reset_speed of the driver
SPREAD = 0.02


def put_away(graph, robot):
    """The robot is held where no episode starts."""
    # Let go of it for a moment, else it would be held where it was before.
    robot.memory[Shared.STOPPED] = 1
    graph.wait_heartbeat(NodeHeartbeat.ERROR)
    robot.place(**AWAY)
    time.sleep(0.1)
    robot.good()
    graph.wait_heartbeat(NodeHeartbeat.READY)
    graph.received.clear()


@pytest.fixture
def away(driver, robot):
    put_away(driver, robot)
    return driver


class Watch:
    """The robot's commands, as often as they change."""

    def __init__(self, robot):
        self.commands, self.times = [robot.command], [time.monotonic()]
        self._ended = False
        self._thread = threading.Thread(target=self._run, args=(robot,))
        self._thread.start()

    def _run(self, robot):
        while not self._ended:
            command = robot.command
            if not np.array_equal(command, self.commands[-1]):
                self.commands.append(command)
                self.times.append(time.monotonic())
            time.sleep(0.002)

    def end(self):
        self._ended = True
        self._thread.join()
        return np.array(self.commands), np.array(self.times)


def test_a_confirmed_reset_goes_slowly_to_a_start_and_answers_when_it_is_there(away, robot):
    graph = away
    assert np.abs(robot.positions - POSTURE).max() > 0.5
    assert graph.confirm().success
    watch = Watch(robot)
    begun = time.monotonic()
    answer = graph.reset(seed=5)
    took = time.monotonic() - begun
    commands, _ = watch.end()
    assert answer.success, answer.message
    arms = slice(0, 14)
    offset = robot.command - POSTURE
    assert np.abs(offset[arms]).max() <= SPREAD + 1e-6 and np.abs(offset[arms]).min() > 0
    assert np.abs(offset[14:]).max() < 1e-6
    np.testing.assert_allclose(robot.positions[arms], robot.command[arms], atol=HOLDING)
    # From one setpoint to the next no joint was faster than asked for: 5 setpoints a period.
    largest = SPEED * vega_description().velocity * 0.01
    assert (np.abs(np.diff(commands, axis=0)) <= 2.5 * largest).all()
    assert len(commands) > 50 and took > 1.0
    # Observation 0 has the stamp of the answer.
    stamp = stamp_to_ns(answer.start_stamp)
    graph.wait(
        lambda: stamp in [stamp_to_ns(m.header.stamp) for m in graph.received["joint_states"]],
        "observation 0",
    )
    joints = graph.received["joint_states"]
    first = next(m for m in joints if stamp_to_ns(m.header.stamp) == stamp)
    np.testing.assert_allclose(first.position[:14], robot.positions[:14], atol=2e-3)
    moved = [m for m in graph.executed(0) if not m.held]
    assert len(moved) > 10 and not any(m.fault for m in graph.executed(0))
    # Nothing but wrenches goes on until the episode runs.
    time.sleep(0.3)
    count = len(graph.executed(0))
    wrenches = len(graph.received["wrenches/left"])
    time.sleep(0.5)
    assert len(graph.executed(0)) == count
    assert len(graph.received["wrenches/left"]) - wrenches >= 3
    # The same seed, the same start; another, another.
    goal = robot.command
    for seed, same in ((5, True), (6, False)):
        assert graph.confirm().success
        assert graph.reset(seed=seed).success
        assert np.allclose(robot.command, goal, atol=1e-6) is same


def test_no_reset_without_a_persons_word_which_is_good_for_one(driver):
    graph = driver
    unconfirmed = "expected a person's confirmation of the scene (confirm_scene) of the last 60 s"
    assert unconfirmed in graph.reset().message
    assert "good for one reset within 60 s" in graph.confirm().message
    assert graph.reset().success
    assert unconfirmed in graph.reset().message
    assert graph.confirm().success
    graph.episode_id = -1
    assert "expected an episode_id from 1 on" in graph.reset().message
    graph.episode_id = 100
    # Not while an episode runs, and no confirmation for the next one then either.
    graph.run(swinging())
    graph.wait(lambda: len(graph.executed()) > 3, "steps")
    running = graph.episode_id
    assert f"expected no running episode, found {running}" in graph.confirm().message
    answer = graph.call(
        graph.resetting, ResetRobot.Request(episode_id=graph.episode_id + 1, seed=0)
    )
    assert f"expected no running episode, found {running}" in answer.message
    assert not any(m.fault for m in graph.executed())


def under_way(graph, robot):
    """A reset on its way, and the future of its answer."""
    assert graph.confirm().success
    before = robot.command
    future = graph.ask_reset()
    graph.wait(lambda: abs(robot.command[ELBOW] - before[ELBOW]) > 0.05, "motion")
    return future


def stopped(graph, robot, future, cause):
    """`cause` ends the reset, and the robot rests; the reason that is answered."""
    begun = time.monotonic()
    cause()
    graph.wait(future.done, "an answer")
    assert time.monotonic() - begun < 0.25
    command = robot.command
    time.sleep(0.3)
    # No more than the rest of a period's way.
    way = SPEED * vega_description().velocity * 0.05
    assert (np.abs(robot.command - command) <= way + 1e-6).all()
    np.testing.assert_allclose(robot.positions[:14], robot.command[:14], atol=HOLDING)
    assert not future.result().success
    return future.result().message


def test_the_emergency_stop_in_a_reset_holds_within_a_period(away, robot):
    graph = away
    future = under_way(graph, robot)
    watch = Watch(robot)
    pressed = time.monotonic()
    graph.stop_robot(True, "the red key")
    graph.wait(future.done, "an answer")
    time.sleep(0.3)
    _, times = watch.end()
    assert future.result().message == "reset: emergency stop: the red key"
    # A period, and what the messages take.
    assert times[-1] - pressed < 0.05 + 0.03
    np.testing.assert_allclose(robot.positions[:14], robot.command[:14], atol=HOLDING)
    assert graph.confirm().success
    assert graph.reset().message == "reset_robot: emergency stop: the red key"
    graph.wait_heartbeat(NodeHeartbeat.BUSY, "emergency stop: the red key")
    graph.stop_robot(False)
    graph.wait_heartbeat(NodeHeartbeat.READY)
    # Released, it is held, and goes on only when it is asked to again.
    before = robot.positions
    time.sleep(0.3)
    np.testing.assert_allclose(robot.positions[:14], before[:14], atol=2e-3)
    assert graph.reset().success


def test_whatever_is_amiss_ends_a_reset(away, robot):
    graph = away

    def ended(cause):
        future = under_way(graph, robot)
        message = stopped(graph, robot, future, cause)
        graph.allowed, graph.reason = True, ""
        robot.good()
        graph.wait_heartbeat(NodeHeartbeat.READY)
        put_away(graph, robot)
        return message

    def wrench():
        graph.allowed, graph.reason = False, "wrench right: 60 N"

    def button():
        robot.memory[Shared.STOPPED] = 1

    def given_up():
        graph.state(EpisodeState.FINISHED)

    assert ended(wrench) == "reset: safety: wrench right: 60 N"
    assert "the robot's own emergency stop" in ended(button)
    assert f"the supervisor ended episode {graph.episode_id + 1}" in ended(given_up)
    future = under_way(graph, robot)
    another = graph.call(graph.resetting, ResetRobot.Request(episode_id=graph.episode_id + 1))
    assert "expected no other one" in another.message
    graph.state(EpisodeState.FINISHED)
    graph.wait(future.done, "an answer")
