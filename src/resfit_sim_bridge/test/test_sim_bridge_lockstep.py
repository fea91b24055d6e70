import time

import numpy as np
import pytest

from resfit_interfaces.msg import EpisodeState, NodeHeartbeat
from resfit_ros.conversions import stamp_to_ns

IMAGES = ("cameras/agentview/image_raw", "cameras/robot0_eye_in_hand/image_raw")
SENSORS = (*IMAGES, "joint_states", "end_effectors/right/pose", "wrenches/right")
PERIOD = 50_000_000


@pytest.fixture
def graph(lockstep):
    yield lockstep
    lockstep.fault_file.unlink(missing_ok=True)
    lockstep.silent = set()
    lockstep.state(EpisodeState.FINISHED)


def values(graph, stamp):
    """Everything the sensors said at this stamp, without stamps."""
    joints = graph.at("joint_states", stamp)
    pose = graph.at("end_effectors/right/pose", stamp).pose
    wrench = graph.at("wrenches/right", stamp).wrench
    poses = graph.at("privileged_state", stamp).poses
    images = [bytes(graph.at(topic, stamp).data) for topic in IMAGES]
    return list(joints.name), list(joints.position), pose, wrench, poses, images


def test_same_seed_same_observation_and_another_one_for_another_seed(graph):
    first = graph.start(seed=7)
    seen = values(graph, first)
    after = graph.step(0, first, [0.5, 0, 0, 0, 0, 0, 1])
    assert values(graph, after)[1] != seen[1]
    graph.state(EpisodeState.FINISHED)
    other = graph.start(seed=8)
    assert values(graph, other)[4] != seen[4]
    graph.state(EpisodeState.FINISHED)
    again = graph.start(seed=7)
    assert again > other > after
    assert values(graph, again) == seen
    images = [np.frombuffer(image, np.uint8) for image in seen[5]]
    assert images[0].std() > 5 and images[1].std() > 5 and not np.array_equal(*images)


def test_a_step_needs_command_and_verdict_of_its_observation(graph):
    stamp = graph.start()
    graph.verdict(stamp)
    time.sleep(0.3)
    assert not graph.executed()
    graph.command(0, stamp, [0.1, 0, 0, 0, 0, 0, 1])
    graph.wait(lambda: graph.executed(), "step 0")
    executed = graph.executed()[0]
    assert (executed.step, executed.held, executed.fault, executed.reason) == (0, False, False, "")
    np.testing.assert_array_equal(executed.action, np.float32([0.1, 0, 0, 0, 0, 0, 1]))
    assert stamp_to_ns(executed.header.stamp) == stamp + PERIOD
    for topic in (*SENSORS, "privileged_state", "cameras/agentview/camera_info", "task_state"):
        graph.at(topic, stamp + PERIOD)
    task_state = graph.at("task_state", stamp + PERIOD)
    assert (task_state.episode_id, task_state.step) == (graph.episode_id, 1)
    # The old verdict does not do for the next step, nor does the old command.
    graph.command(1, stamp + PERIOD)
    graph.command(0, stamp)
    time.sleep(0.3)
    assert len(graph.executed()) == 1
    graph.verdict(stamp + PERIOD)
    time.sleep(0.3)
    assert len(graph.executed()) == 1  # Depth 1: the newest command was the old one.
    graph.command(1, stamp + PERIOD)
    graph.wait(lambda: len(graph.executed()) == 2, "step 1")
    assert stamp_to_ns(graph.messages("/clock")[-1].clock) >= stamp + PERIOD


def test_frames_names_and_intrinsics(graph):
    stamp = graph.start()
    info = graph.at("cameras/agentview/camera_info", stamp)
    image = graph.at(IMAGES[0], stamp)
    assert (info.width, info.height) == (image.width, image.height) == (32, 32)
    assert info.header.frame_id == image.header.frame_id == "agentview_optical_frame"
    # The model's agentview has a vertical field of view of 45 degrees.
    assert info.k[4] == pytest.approx(16 / np.tan(np.radians(22.5))) and info.k[5] == 15.5
    assert graph.at("wrenches/right", stamp).header.frame_id == "right_force_torque"
    assert graph.at("end_effectors/right/pose", stamp).header.frame_id == "world"
    joints = graph.at("joint_states", stamp)
    assert len(joints.name) == len(joints.position) == len(joints.velocity) == 9


def test_waiting_repeats_wrench_and_observation_with_the_same_stamp_and_the_clock_goes_on(graph):
    stamp = graph.start()
    time.sleep(2.4)
    counts = {topic: graph.stamps(topic).count(stamp) for topic in SENSORS}
    assert 15 <= counts["wrenches/right"] <= 30
    assert all(counts[t] in (2, 3, 4) for t in SENSORS if t != "wrenches/right"), counts
    clocks = [m for t, m in graph.received["/clock"] if t > time.monotonic() - 1]
    assert len(clocks) >= 5
    assert {stamp_to_ns(m.clock) for m in clocks} == {stamp}


def test_nan_action_is_a_fault_and_never_reaches_the_robot(graph):
    stamp = graph.start()
    stamp = graph.step(0, stamp, [0, 0, 0, 0, 0, 0, 1])
    graph.verdict(stamp)
    graph.command(1, stamp, [0, float("nan"), 0, 0, 0, 0, 0])
    graph.wait(lambda: len(graph.executed()) == 2, "the fault")
    executed = graph.executed()[1]
    assert executed.fault and executed.held
    assert executed.reason == "action y: expected a finite value, found nan"
    # Holding: no motion, the gripper as it was.
    np.testing.assert_array_equal(executed.action, np.float32([0, 0, 0, 0, 0, 0, 1]))
    stamp = stamp_to_ns(executed.header.stamp)
    graph.verdict(stamp)
    graph.command(2, stamp)
    time.sleep(0.3)
    assert len(graph.executed()) == 2


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ([0, 0, 0, 0, 0, 0, 1.5], "action gripper: expected a value in"),
        ([0.0] * 6, r"action: expected shape (7,), found (6,)"),
    ],
)
def test_bad_actions_are_faults(graph, action, reason):
    stamp = graph.start()
    graph.command(0, stamp, action)
    graph.wait(lambda: graph.executed(), "the fault")
    assert graph.executed()[0].fault and reason in graph.executed()[0].reason


def test_a_safety_stop_is_a_fault_without_any_command(graph):
    stamp = graph.start()
    graph.verdict(stamp, allowed=False, reason="wrist right: force: expected <= 600 N, found 700 N")
    graph.wait(lambda: graph.executed(), "the stop")
    executed = graph.executed()[0]
    assert executed.fault and "wrist right: force" in executed.reason


def test_commands_of_other_episodes_are_never_executed(graph):
    stamp = graph.start()
    graph.verdict(stamp)
    graph.command(0, stamp, episode_id=graph.episode_id - 1)
    time.sleep(0.2)
    graph.command(0, stamp, episode_id=graph.episode_id + 1)
    time.sleep(0.2)
    assert not graph.executed()


@pytest.mark.parametrize("role", ["supervisor", "labeler"])
def test_silence_holds_the_robot_until_it_is_heard_again(graph, role):
    stamp = graph.start()
    graph.silent = {role}
    time.sleep(2.5)
    graph.verdict(stamp)
    graph.command(0, stamp)
    time.sleep(0.5)
    assert not graph.executed()
    graph.silent = set()
    graph.wait(lambda: graph.executed(), "step 0")
    assert not graph.executed()[0].held


def test_paused_robot_holds_and_goes_on_with_the_same_observation(graph):
    stamp = graph.step(0, graph.start())
    graph.state(EpisodeState.PAUSED)
    time.sleep(0.2)
    graph.verdict(stamp)
    graph.command(1, stamp)
    time.sleep(0.3)
    assert len(graph.executed()) == 1
    assert "expected no running episode" in graph.reset_robot(99, 0).message
    repeats = graph.stamps(IMAGES[0]).count(stamp)
    graph.state(EpisodeState.RUNNING)
    graph.wait(lambda: len(graph.executed()) == 2, "step 1")
    assert graph.stamps(IMAGES[0]).count(stamp) > repeats


def test_no_step_from_max_steps_on(graph):
    stamp = graph.step(0, graph.start(max_steps=1))
    graph.verdict(stamp)
    graph.command(1, stamp)
    time.sleep(0.3)
    assert len(graph.executed()) == 1


def test_reset_is_refused_while_running(graph):
    graph.step(0, graph.start())
    answer = graph.reset_robot(graph.episode_id + 1, 0)
    assert not answer.success
    assert answer.message == (f"reset_robot: expected no running episode, found {graph.episode_id}")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise", "simulation: RuntimeError: unstable"),
        ("nan", "simulation: wrench right: expected finite values, found [nan"),
    ],
)
def test_a_failing_simulation_is_a_fault_and_an_error_until_the_episode_is_over(
    graph, fault, reason
):
    stamp = graph.start()
    graph.fault_file.write_text(fault)
    graph.command(0, stamp)
    graph.verdict(stamp)
    graph.wait(lambda: graph.executed(), "the fault")
    executed = graph.executed()[0]
    assert executed.fault and executed.held and reason in executed.reason
    graph.wait(lambda: graph.driver.state == NodeHeartbeat.ERROR, "an ERROR heartbeat")
    assert reason in graph.driver.message
    assert stamp_to_ns(executed.header.stamp) not in graph.stamps(IMAGES[0])
    graph.fault_file.unlink()
    graph.state(EpisodeState.FINISHED)
    graph.wait(lambda: graph.ready, "a bridge that is ready again")
    graph.step(0, graph.start())


def test_emergency_stop(graph):
    """Without a command and a verdict, as when policy and safety monitor hang."""
    stamp = graph.start(seed=3)
    graph.stop_robot(True, "a person")
    graph.wait(lambda: graph.executed(), "a report of the stop")
    executed = graph.executed()[0]
    assert executed.held and executed.fault
    assert executed.reason == "emergency stop: a person"
    graph.wait(lambda: graph.driver.state == NodeHeartbeat.BUSY, "a busy driver")
    assert graph.driver.message == "emergency stop: a person"
    # Nothing moves any more, whatever is commanded.
    after = stamp_to_ns(executed.header.stamp)
    graph.command(1, after)
    graph.verdict(after)
    graph.state(EpisodeState.FINISHED)
    answer = graph.reset_robot(graph.episode_id + 1, 0)
    assert not answer.success
    assert answer.message == "reset_robot: emergency stop: a person"
    assert len(graph.executed()) == 1
    graph.stop_robot(False, "a person")
    graph.wait(lambda: graph.ready, "a driver that is ready again")
    stamp = graph.start(seed=3)
    graph.step(0, stamp)
