import math
import time

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseStamped
from hypothesis import given
from hypothesis import strategies as st
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState

from resfit_interfaces.msg import PrivilegedState
from resfit_rl.tasks import get_task
from resfit_ros import conversions as c
from resfit_ros import qos
from resfit_ros.observation import (
    CAPACITY,
    ClockJumpError,
    Match,
    ObservationSynchroniser,
    StampMatcher,
)

SOURCES = ("camera", "joints", "pose")


def exact() -> StampMatcher:
    return StampMatcher(SOURCES, 0, 1.0)


@given(st.permutations([(n, s) for n in SOURCES for s in (10, 20, 30)]))
def test_every_whole_stamp_once_in_order_whatever_the_interleaving(order):
    # Each source keeps its own order, as a topic does.
    queues = {name: iter((10, 20, 30)) for name in SOURCES}
    matcher = exact()
    matches = []
    for name, _ in order:
        stamp = next(queues[name])
        matches += matcher.add(name, stamp, (name, stamp), 0.0)
    assert matches == [Match(s, {n: (n, s) for n in SOURCES}) for s in (10, 20, 30)]


def test_a_lost_value_costs_its_stamp_only():
    matcher = exact()
    assert not matcher.add("camera", 10, "a", 0.0)
    assert not matcher.add("joints", 10, "b", 0.0)
    for name in SOURCES:
        matches = matcher.add(name, 20, name, 0.1)
    assert [m.stamp for m in matches] == [20]
    assert matcher.expired(9.0) == []


def test_a_repetition_is_told_apart_and_must_be_whole():
    matcher = exact()
    for name in SOURCES:
        matcher.add(name, 10, name, 0.0)
    assert not matcher.add("camera", 10, "again", 1.0)
    assert not matcher.add("camera", 10, "again", 1.0)
    assert not matcher.add("joints", 10, "again", 1.0)
    assert matcher.add("pose", 10, "again", 1.0) == [Match(10, None)]
    assert not matcher.add("pose", 10, "again", 2.0)


def test_what_is_missing_is_named_after_max_age_and_a_repetition_mends_it():
    matcher = exact()
    matcher.add("camera", 10, "a", 5.0)
    matcher.add("pose", 10, "c", 5.5)
    # Repeating what is there does not make it young.
    matcher.add("camera", 10, "a", 5.9)
    assert matcher.expired(5.99) == []
    assert matcher.expired(6.0) == ["joints"]
    assert matcher.expired(6.6) == []
    for name in SOURCES:
        matches = matcher.add(name, 10, name, 7.0)
    assert [m.stamp for m in matches] == [10]


def test_an_unusable_value_neither_matches_nor_counts_as_missing():
    matcher = exact()
    for name in SOURCES:
        assert not matcher.add(name, 10, None if name == "joints" else name, 0.0)
    assert matcher.expired(2.0) == []
    for name in SOURCES:
        matches = matcher.add(name, 10, name, 3.0)
    assert [m.stamp for m in matches] == [10]


def test_a_discarded_match_can_come_again():
    matcher = exact()
    for name in SOURCES:
        matcher.add(name, 10, "bad", 0.0)
    matcher.discard()
    for name in SOURCES:
        matches = matcher.add(name, 10, "good", 1.0)
    assert matches == [Match(10, dict.fromkeys(SOURCES, "good"))]


def test_stamps_that_go_back_clear_everything():
    matcher = exact()
    for name in SOURCES:
        matcher.add(name, 2_000_000_000, name, 0.0)
    with pytest.raises(
        ClockJumpError, match=r"clock jumped back: camera: .* after 2.000 s, found 0.500"
    ):
        matcher.add("camera", 500_000_000, "new", 1.0)
    matcher.add("joints", 500_000_000, "new", 1.0)
    assert matcher.add("pose", 500_000_000, "new", 1.0) == [
        Match(500_000_000, dict.fromkeys(SOURCES, "new"))
    ]


def test_nearest_stamps_within_the_slop():
    matcher = StampMatcher(("camera", "joints"), 5, 1.0)
    for stamp in (90, 97, 101):
        assert not matcher.add("joints", stamp, stamp, 0.0)
    assert matcher.add("camera", 99, "a", 0.0) == [Match(99, {"camera": "a", "joints": 97})]
    # 108 is near enough, but 111 may be nearer.
    assert not matcher.add("joints", 108, 108, 0.0)
    assert not matcher.add("camera", 110, "b", 0.0)
    assert matcher.add("joints", 111, 111, 0.0) == [Match(110, {"camera": "b", "joints": 111})]
    # Nothing within 5 of 130.
    assert not matcher.add("camera", 130, "c", 0.0)
    assert not matcher.add("joints", 136, 136, 0.0)
    assert matcher.expired(1.0) == ["joints", "camera"]


def test_memory_is_bounded():
    matcher = exact()
    for stamp in range(3 * CAPACITY):
        matcher.add("camera", stamp, stamp, 0.0)
    assert len(matcher._waiting["camera"]) == CAPACITY


class Graph:
    """A synchroniser and publishers of its topics in one process."""

    def __init__(self, **timing: int) -> None:
        self.task = get_task("square")
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("observer", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.observations: list = []
        self.errors: list[str] = []
        self.repeats: list[int] = []
        ObservationSynchroniser(
            self.node,
            self.task,
            (6, 8),
            lambda stamp, observation: self.observations.append((stamp, observation)),
            self.errors.append,
            0.4,
            privileged=True,
            on_repeat=self.repeats.append,
            **timing,
        )
        kinds = {f"cameras/{name}/image_raw": Image for name in self.task.cameras}
        kinds |= {
            "joint_states": JointState,
            "end_effectors/right/pose": PoseStamped,
            "privileged_state": PrivilegedState,
        }
        self.publishers = {
            topic: self.node.create_publisher(kind, topic, qos.SENSOR)
            for topic, kind in kinds.items()
        }
        self.until(lambda: all(p.get_subscription_count() for p in self.publishers.values()))

    def send(self, stamp: int, skip: str = "", only: str = "", **changes: object) -> None:
        size = changes.get("size", (6, 8))
        for topic, publisher in self.publishers.items():
            if topic == skip or not topic.startswith(only):
                continue
            if topic.startswith("cameras"):
                message = c.array_to_image(
                    np.full((*size, 3), stamp % 256, np.uint8), c.ns_to_stamp(stamp), "eye"
                )
                message.encoding = changes.get("encoding", "rgb8")
            elif topic == "joint_states":
                fingers = self.task.state_layout[1].joints
                message = JointState(
                    name=list(fingers), position=[changes.get("joint", 0.04), -0.04]
                )
            elif topic == "privileged_state":
                message = PrivilegedState(
                    names=["nut"], poses=[c.array_to_pose([1, 2, 3, 0, 0, 0, 1])]
                )
            else:
                message = PoseStamped(pose=c.array_to_pose([0.1, 0.2, 0.3, -1, 0, 0, 0]))
            message.header.stamp = c.ns_to_stamp(stamp)
            publisher.publish(message)

    def until(self, condition, timeout: float = 5.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, (self.errors, len(self.observations))
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()


@pytest.fixture
def graph():
    graph = Graph()
    yield graph
    graph.close()


def test_observations_from_messages(graph):
    graph.send(7)
    graph.until(lambda: graph.observations)
    stamp, observation = graph.observations[0]
    assert stamp == 7 and set(observation.images) == set(graph.task.cameras)
    assert (observation.images["agentview"] == 7).all()
    np.testing.assert_allclose(
        observation.state, [0.1, 0.2, 0.3, 1, 0, 0, 0, 0.04, -0.04], atol=1e-6
    )
    np.testing.assert_array_equal(observation.privileged["nut"], [1, 2, 3, 0, 0, 0, 1])
    graph.send(7)
    graph.until(lambda: graph.repeats)
    assert graph.repeats == [7] and len(graph.observations) == 1 and not graph.errors


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"size": (6, 9)}, "expected 8x6 pixels, found 9x6"),
        ({"encoding": "bgr8"}, "expected encoding rgb8, found 'bgr8'"),
        ({"joint": math.nan}, "joint gripper0_right_finger_joint1: expected a position, found nan"),
        ({"skip": "cameras/agentview/image_raw"}, "camera agentview: no image for 0.4 s"),
        ({"skip": "end_effectors/right/pose"}, "end effector right: no pose for 0.4 s"),
        ({"skip": "joint_states"}, "joint_states: no message for 0.4 s"),
    ],
)
def test_bad_input_is_named_kept_out_and_mended_by_good(graph, bad, error):
    graph.send(7, **bad)
    graph.until(lambda: any(error in text for text in graph.errors))
    assert not graph.observations
    graph.send(7)
    graph.until(lambda: graph.observations)
    assert graph.observations[0][0] == 7


def test_a_clock_that_jumps_back(graph):
    graph.send(2_000_000_000)
    graph.until(lambda: graph.observations)
    graph.send(1_000_000_000)
    graph.until(lambda: len(graph.observations) == 2)
    assert graph.errors == [
        error for error in graph.errors if error.startswith("clock jumped back: ")
    ]
    assert len(graph.errors) == 1 and graph.observations[1][0] == 1_000_000_000


def test_a_frozen_camera_is_named_once_the_robot_has_moved_and_mended_by_another_picture():
    graph = Graph(max_identical=4)
    try:
        same = [256 * k for k in range(1, 9)]  # the picture is that of the stamp's last 8 bits
        for k, stamp in enumerate(same[:6]):
            graph.send(stamp, joint=0.001 * k)
        graph.until(lambda: len(graph.observations) == 6)
        assert not graph.errors  # at rest the same picture is none
        graph.send(same[6], joint=0.2)
        graph.until(lambda: graph.errors)
        assert graph.errors[0] == (
            "camera agentview, robot0_eye_in_hand: frozen: expected another picture, found the "
            "same one in 7 observations while a joint moved 0.20 rad or m"
        )
        # The driver sends the observation again while it waits: no other one, and no better one.
        graph.send(same[6], joint=0.2)
        graph.until(lambda: len(graph.errors) == 2)
        assert "in 7 observations" in graph.errors[1] and len(graph.observations) == 6
        graph.send(same[7] + 1, joint=0.2)
        graph.until(lambda: len(graph.observations) == 7)
    finally:
        graph.close()


def test_cameras_with_a_clock_of_their_own():
    """Pictures of the right age, the stamp is the driver's; who listens later gets the same."""
    milliseconds = 1_000_000
    graph = Graph(slop_ns=20 * milliseconds, camera_delay_ns=60 * milliseconds)
    try:
        taken = [33 * i * milliseconds + i for i in range(1, 8)]  # the picture shows i
        for stamp in taken:
            graph.send(stamp, only="cameras")
        for step in (100, 150, 200):
            for topic in ("joint_states", "end_effectors", "privileged_state"):
                graph.send(step * milliseconds, only=topic)
        graph.until(lambda: len(graph.observations) == 3)
        assert [stamp // milliseconds for stamp, _ in graph.observations] == [100, 150, 200]
        seen = [int(o.images["agentview"][0, 0, 0]) for _, o in graph.observations]
        nearest = [min(taken, key=lambda t: abs(t - s * milliseconds)) for s in (40, 90, 140)]
        assert seen == [stamp % 256 for stamp in nearest]
        assert not graph.errors
    finally:
        graph.close()
