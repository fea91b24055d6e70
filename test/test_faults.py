"""Each fault on the way from sensors to the robot: a clear reason, and the robot holds.

The bridge's topics pass through a link of the test's own, which can spoil or drop messages.
"""

import math
import os
import signal
import subprocess
import time
import uuid
from types import SimpleNamespace

import pytest
from geometry_msgs.msg import WrenchStamped
from rclpy.clock import Clock as RclpyClock
from rclpy.clock import ClockType
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState

from resfit_interfaces.msg import ActionCommand, EpisodeState, ExecutedAction, NodeHeartbeat
from resfit_interfaces.srv import LabelEpisode, StartEpisode
from resfit_ros import qos

CAMERA = "cameras/agentview/image_raw"
NOW = 4294967295
LINKS = {
    CAMERA: (Image, qos.SENSOR),
    "joint_states": (JointState, qos.SENSOR),
    "wrenches/right": (WrenchStamped, qos.SENSOR),
}


class Link:
    """Passes messages on through `spoil`, a function message -> message or None (dropped)."""

    def __init__(self, node, source, target, kind, profile) -> None:
        self.spoil = lambda message: message
        self._publisher = node.create_publisher(kind, target, profile)
        node.create_subscription(kind, source, self._pass_on, profile)

    def _pass_on(self, message) -> None:
        message = self.spoil(message)
        if message is not None:
            self._publisher.publish(message)


class Labeler:
    """A labeler of the test's own: heartbeat and service calls."""

    def __init__(self, observer) -> None:
        self._observer = observer
        self.id = uuid.uuid4().hex
        self._heartbeat = observer.node.create_publisher(NodeHeartbeat, "heartbeat", qos.HEARTBEAT)
        self.timer = observer.node.create_timer(
            0.2, self._beat, clock=RclpyClock(clock_type=ClockType.STEADY_TIME)
        )

    def _beat(self) -> None:
        self._heartbeat.publish(
            NodeHeartbeat(role="labeler", session_id=self.id, state=NodeHeartbeat.READY)
        )

    def start(self) -> StartEpisode.Response:
        request = StartEpisode.Request(labeler_id=self.id)
        return self._observer.call(StartEpisode, "start_episode", request)

    def label(self, label: int, episode_id: int) -> LabelEpisode.Response:
        request = LabelEpisode.Request(
            labeler_id=self.id, episode_id=episode_id, label=label, step=NOW
        )
        return self._observer.call(LabelEpisode, "label_episode", request)


@pytest.fixture
def faulty(launch_sim, observer, domain_id, tmp_path):
    """The graph with links between the bridge and everything else, and a labeler."""
    graph = launch_sim(
        "task:=square",
        "base_policy:=scripted",
        f"run_dir:={tmp_path / 'run'}",
        "driver:=none",
        "labeler:=none",
        "learner:=false",
    )
    remaps = [f"{topic}:=true/{topic}" for topic in (*LINKS, "action_command")]
    bridge = subprocess.Popen(
        ["ros2", "run", "resfit_sim_bridge", "sim_bridge", "--ros-args", "-p", "task:=square"]
        + [part for remap in remaps for part in ("-r", remap)],
        env={**os.environ, "ROS_DOMAIN_ID": str(domain_id), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=(tmp_path / "bridge.log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    node = observer.node
    links = {
        topic: Link(node, f"true/{topic}", topic, kind, profile)
        for topic, (kind, profile) in LINKS.items()
    }
    links["action_command"] = Link(
        node, "action_command", "true/action_command", ActionCommand, qos.COMMAND
    )
    yield SimpleNamespace(
        graph=graph,
        links=links,
        observer=observer,
        labeler=Labeler(observer),
        states=observer.collect(EpisodeState, "episode_state", qos.LATCHED),
        executed=observer.collect(ExecutedAction, "executed_action", qos.EVENT),
        heartbeats=observer.collect(NodeHeartbeat, "heartbeat", qos.HEARTBEAT),
        joints=observer.collect(JointState, "true/joint_states", qos.SENSOR),
        clock=node.create_publisher(Clock, "/clock", qos.CLOCK),
    )
    os.killpg(bridge.pid, signal.SIGINT)
    assert bridge.wait(20) == 0


def _resized(message):
    message.height, message.width, message.step = 64, 64, 192
    message.data = message.data[: 64 * 192]
    return message


def _encoded(message):
    message.encoding = "bgr8"
    return message


def _nan_joint(message):
    message.position[-1] = math.nan
    return message


def _nan_wrench(message):
    message.wrench.torque.y = math.nan
    return message


def _pushed(message):
    message.wrench.force.x = 5000.0
    return message


def _nan_action(message):
    message.action[2] = math.nan
    return message


def _drop(message):
    return None


# What is spoilt, and what must then be said: by the episode's end, or by the policy.
FAULTS = {
    "camera missing": (CAMERA, _drop, "policy", "agentview"),
    "camera size": (CAMERA, _resized, "policy", "expected 84x84 pixels, found 64x64"),
    "camera encoding": (CAMERA, _encoded, "policy", "expected encoding rgb8, found 'bgr8'"),
    "NaN in state": ("joint_states", _nan_joint, "policy", "finger_joint2"),
    "NaN in wrench": ("wrenches/right", _nan_wrench, "safety_stop", "right"),
    "wrench over threshold": ("wrenches/right", _pushed, "safety_stop", "right"),
    "wrench silent": ("wrenches/right", _drop, "safety_stop", "right"),
    "NaN in action": ("action_command", _nan_action, "safety_stop", "action z"),
}


@pytest.mark.timeout(420)
def test_faults_hold_the_robot(faulty):
    for name, (topic, spoil, by, text) in FAULTS.items():
        episode = _start(faulty)
        faulty.links[topic].spoil = spoil
        if by == "policy":
            _wait(
                lambda text=text: any(
                    h.role == "policy" and h.state == NodeHeartbeat.ERROR and text in h.message
                    for h in faulty.heartbeats[-40:]
                ),
                name,
                faulty,
            )
        else:
            _wait(lambda: faulty.states[-1].state == EpisodeState.FINISHED, name, faulty)
            end = faulty.states[-1]
            assert end.outcome == EpisodeState.OUTCOME_SAFETY_STOP, (name, end)
            assert text in end.reason, (name, end.reason)
            assert (end.reward, end.done) == (0.0, True)
        _assert_held(faulty, name)
        faulty.links[topic].spoil = lambda message: message
        if faulty.states[-1].state == EpisodeState.RUNNING:
            answer = faulty.labeler.label(LabelEpisode.Request.ABORT, episode)
            assert answer.accepted, answer.message


@pytest.mark.timeout(120)
def test_second_labeler_and_clock_that_jumps_back(faulty):
    episode = _start(faulty)
    second = Labeler(faulty.observer)
    time.sleep(0.5)
    answer = second.label(LabelEpisode.Request.SUCCESS, episode)
    assert not answer.accepted and faulty.labeler.id[:8] in answer.message, answer.message
    assert faulty.states[-1].state == EpisodeState.RUNNING
    second.timer.cancel()

    stamp = faulty.joints[-1].header.stamp

    def jumped_and_noticed() -> bool:
        # Again and again: of a topic of depth 1 the driver's next message may take one's place.
        faulty.clock.publish(Clock(clock=type(stamp)(sec=stamp.sec - 100)))
        return faulty.states[-1].state == EpisodeState.FINISHED

    _wait(jumped_and_noticed, "clock", faulty)
    assert faulty.states[-1].outcome == EpisodeState.OUTCOME_ABORTED
    assert "clock" in faulty.states[-1].reason, faulty.states[-1].reason
    _assert_held(faulty, "clock")


def _start(faulty) -> int:
    """Start an episode as soon as all are ready; returns once it has made three steps."""
    reason = []

    def accepted() -> bool:
        answer = faulty.labeler.start()
        reason.append(answer.message)
        if not answer.accepted:
            time.sleep(0.3)
        return answer.accepted

    _wait(accepted, "an accepted start", faulty, 60.0)
    already = len(faulty.executed)
    _wait(lambda: len(faulty.executed) >= already + 3, "three steps", faulty, 30.0)
    return faulty.states[-1].episode_id


def _assert_held(faulty, name: str) -> None:
    time.sleep(0.5)  # what was under way when the fault came
    before = faulty.joints[-1].position
    applied = sum(not e.held for e in faulty.executed)
    time.sleep(1.0)
    assert list(faulty.joints[-1].position) == list(before), name
    assert sum(not e.held for e in faulty.executed) == applied, name


def _wait(condition, what: str, faulty, timeout: float = 20.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, (
            f"{what}: not within {timeout} s; newest state {faulty.states[-1:]}; policy "
            f"{[h.message for h in faulty.heartbeats if h.role == 'policy'][-1:]};\n"
            f"{faulty.graph.log[-3000:]}"
        )
        time.sleep(0.02)
