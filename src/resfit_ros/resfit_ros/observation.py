"""From the messages of cameras and proprioception to one Observation per stamp."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from resfit_interfaces.msg import PrivilegedState
from resfit_rl.observation import FrozenCheck, Observation
from resfit_rl.tasks import PoseTerm, StateError, Task, assemble_state
from resfit_ros import qos
from resfit_ros.conversions import (
    NANOSECONDS,
    ConversionError,
    image_to_array,
    joint_positions,
    pose_to_array,
    stamp_to_ns,
)
from resfit_ros.parameters import declare

# Messages kept of one source; older ones give way.
CAPACITY = 100
# rad or m, of any joint: the robot is in the picture, or the camera on it, and shows that.
LEAST_MOTION = 0.1


class _FrozenCameraError(Exception):
    """A camera shows what it showed before, although the robot moved."""


class ClockJumpError(Exception):
    """A source's stamps went back: whatever was gathered belongs to another time."""


@dataclass(frozen=True)
class Match:
    """One value of each source.

    Attributes:
        stamp: of the first source, ns.
        values: source -> value; None where the match is a repetition of the newest one.
    """

    stamp: int
    values: Mapping[str, Any] | None


@dataclass(frozen=True)
class _Item:
    stamp: int
    value: Any
    arrival: float


class StampMatcher:
    """Brings together the values of several sources that belong to one stamp.

    The first source sets the stamps; each other one gives the value nearest in time. A source's
    stamps must not decrease; the same stamp again replaces the value.

    Args:
        sources: names; each is needed.
        slop_ns: largest difference of stamps within one match; 0 wants equal stamps.
        max_age: s of the steady clock that an incomplete match may wait.
    """

    def __init__(self, sources: Sequence[str], slop_ns: int, max_age: float) -> None:
        self._sources = tuple(sources)
        self._slop = slop_ns
        self._max_age = max_age
        self.clear()

    def clear(self) -> None:
        """Forget all values and stamps."""
        self._waiting: dict[str, deque[_Item]] = {n: deque(maxlen=CAPACITY) for n in self._sources}
        self._newest: dict[str, int] = {}
        self._emitted: dict[str, int] = {}
        self._repeated: set[str] = set()

    def add(self, source: str, stamp: int, value: Any, now: float) -> list[Match]:
        """Take in one value; the matches it completes, in the order of their stamps.

        Args:
            value: None stands for a message that came but cannot be used: nothing matches it.
            now: s of a steady clock.

        Raises:
            ClockJumpError: the stamp is before this source's last one. Everything before it is
                forgotten, the value itself is kept.
        """
        before = self._newest.get(source)
        if before is not None and stamp < before:
            self.clear()
            self.add(source, stamp, value, now)
            raise ClockJumpError(
                f"clock jumped back: {source}: expected a stamp after {before / NANOSECONDS:.3f} s,"
                f" found {stamp / NANOSECONDS:.3f} s"
            )
        self._newest[source] = stamp
        emitted = self._emitted.get(source)
        if emitted is not None and stamp <= emitted:
            return self._repetition(source) if value is not None else []
        waiting = self._waiting[source]
        if waiting and waiting[-1].stamp == stamp:
            # The first arrival counts for the age, however often the message is repeated.
            now = waiting.pop().arrival
        waiting.append(_Item(stamp, value, now))
        matches = []
        while match := self._next():
            matches.append(match)
        return matches

    def discard(self) -> None:
        """The newest match turned out bad: a repetition of it is to be a match of its own."""
        self._emitted = {name: stamp - 1 for name, stamp in self._emitted.items()}

    def expired(self, now: float) -> list[str]:
        """Sources that failed to complete a match within max_age; what waited for them is dropped.

        A source whose message came but could not be used is not among them.
        """
        missing: list[str] = []
        while True:
            oldest = min(
                (queue[0] for queue in self._waiting.values() if queue),
                key=lambda item: item.arrival,
                default=None,
            )
            if oldest is None or now - oldest.arrival < self._max_age:
                return missing
            for name in self._sources:
                near = self._nearest(name, oldest.stamp)
                if name not in missing and near is None:
                    missing.append(name)
            self._drop(dict.fromkeys(self._sources, oldest.stamp))

    def _next(self) -> Match | None:
        first = self._sources[0]
        for pivot in self._waiting[first]:
            found = {name: self._nearest(name, pivot.stamp) for name in self._sources}
            complete = all(
                # Nearer ones can still come while the newest is before the pivot.
                item is not None and item.value is not None and self._newest[name] >= pivot.stamp
                for name, item in found.items()
            )
            if complete:
                items = {name: item for name, item in found.items() if item is not None}
                self._emitted = {name: item.stamp for name, item in items.items()}
                self._repeated.clear()
                self._drop(self._emitted)
                return Match(pivot.stamp, {name: item.value for name, item in items.items()})
        return None

    def _nearest(self, name: str, stamp: int) -> _Item | None:
        item = min(self._waiting[name], key=lambda item: abs(item.stamp - stamp), default=None)
        return item if item is not None and abs(item.stamp - stamp) <= self._slop else None

    def _drop(self, until: Mapping[str, int]) -> None:
        for name, stamp in until.items():
            queue = self._waiting[name]
            while queue and queue[0].stamp <= stamp:
                queue.popleft()

    def _repetition(self, source: str) -> list[Match]:
        self._repeated.add(source)
        if len(self._repeated) < len(self._sources):
            return []
        self._repeated.clear()
        return [Match(self._emitted[self._sources[0]], None)]


def declare_sensor_checks(node: Node) -> dict[str, int]:
    """Declare what makes messages one observation that can be used.

    Returns:
        Keyword arguments of ObservationSynchroniser; the same for all nodes of a graph, or they
        see different pictures.
    """
    return {
        "slop_ns": round(
            declare(
                node,
                "stamp_slop",
                0.0,
                "Largest difference of stamps within one observation, s; 0: sensors share stamps.",
                range=(0.0, 1.0),
            )
            * NANOSECONDS
        ),
        "camera_delay_ns": round(
            declare(
                node,
                "camera_delay",
                0.0,
                "An observation takes the pictures of this long before its stamp, s.",
                range=(0.0, 1.0),
            )
            * NANOSECONDS
        ),
        "max_identical": declare(
            node,
            "max_identical_images",
            10,
            "The same picture of a camera, bit for bit, in that many observations in a row while a "
            "joint moves by more than 0.1 rad or m is a frozen camera: no observation; 0: never.",
            range=(0, 10_000),
        ),
    }


class ObservationSynchroniser:
    """Subscribes to a task's sensors and hands out each complete observation once, in order.

    All callbacks run in the node's executor. An observation that cannot be used is never handed
    out; `on_error` then gets one line that names the thing, the expected and the found. It is
    called again for each such observation, with the same text while the cause is the same.

    Args:
        node: owner of the subscriptions, on relative topic names.
        task: its cameras and state layout say what is needed.
        image_size: (height, width) of every camera, pixels.
        on_observation: called with (stamp in ns, observation).
        on_error: called with the text.
        max_age_s: s of wall time that an incomplete observation may wait for the rest.
        privileged: also wait for privileged_state.
        on_repeat: called with the stamp when the newest observation came again as a whole, as a
            waiting driver sends it.
        slop_ns: largest difference of stamps within one observation, for cameras that run on
            their own; the stamp of joint_states is the observation's, and a picture serves once.
        camera_delay_ns: an observation takes the pictures taken this long before its stamp. As
            much as a picture's way into the graph plus its period: then nothing is waited for,
            and whoever puts observations together takes the same pictures.
        max_identical: the same picture of a camera in that many observations in a row while a
            joint moves by more than LEAST_MOTION makes them unusable; 0: never.
    """

    def __init__(
        self,
        node: Node,
        task: Task,
        image_size: tuple[int, int],
        on_observation: Callable[[int, Observation], None],
        on_error: Callable[[str], None],
        max_age_s: float,
        privileged: bool = False,
        *,
        on_repeat: Callable[[int], None] = lambda stamp: None,
        slop_ns: int = 0,
        camera_delay_ns: int = 0,
        max_identical: int = 0,
    ) -> None:
        self._task = task
        self._image_size = image_size
        self._on_observation = on_observation
        self._on_error = on_error
        self._on_repeat = on_repeat
        self._max_age = max_age_s
        self._privileged = privileged
        self._camera_delay = camera_delay_ns
        self._cameras = {f"camera {name}": name for name in task.cameras}
        self._frozen = {c: FrozenCheck(max_identical, LEAST_MOTION) for c in task.cameras}
        self._end_effectors = {
            f"end effector {term.end_effector}": term.end_effector
            for term in task.state_layout
            if isinstance(term, PoseTerm)
        }
        # The driver's stamps, so that those of executed actions mean the same observations.
        sources = ["joint_states", *self._cameras, *self._end_effectors]
        sources += ["privileged_state"] if privileged else []
        self._matcher = StampMatcher(sources, slop_ns, max_age_s)

        def subscribe(
            source: str, kind: type, topic: str, convert: Callable[[Any], object]
        ) -> None:
            node.create_subscription(
                kind, topic, lambda m: self._on_message(source, m, convert), qos.SENSOR
            )

        for source, camera in self._cameras.items():
            subscribe(
                source,
                Image,
                f"cameras/{camera}/image_raw",
                lambda m, camera=camera: image_to_array(m, camera, image_size),
            )
        subscribe("joint_states", JointState, "joint_states", joint_positions)
        for source, name in self._end_effectors.items():
            subscribe(
                source,
                PoseStamped,
                f"end_effectors/{name}/pose",
                lambda m: pose_to_array(m.pose),
            )
        if privileged:
            subscribe("privileged_state", PrivilegedState, "privileged_state", _privileged_poses)
        node.create_timer(
            max_age_s / 4, self._check_age, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def _on_message(self, source: str, message: Any, convert: Callable[[Any], object]) -> None:
        value = None
        try:
            value = convert(message)
        except ConversionError as error:
            self._on_error(str(error))
        try:
            stamp = stamp_to_ns(message.header.stamp)
            stamp += self._camera_delay if source in self._cameras else 0
            matches = self._matcher.add(source, stamp, value, time.monotonic())
        except ClockJumpError as error:
            self._on_error(str(error))
            return
        for match in matches:
            if match.values is None:
                self._on_repeat(match.stamp)
                continue
            try:
                observation = self._observation(match.values)
                self._refuse_frozen(match.stamp, observation.images, match.values["joint_states"])
            except (StateError, ConversionError, _FrozenCameraError) as error:
                self._matcher.discard()
                self._on_error(str(error))
                continue
            self._on_observation(match.stamp, observation)

    def _observation(self, values: Mapping[str, Any]) -> Observation:
        return Observation(
            {camera: values[source] for source, camera in self._cameras.items()},
            assemble_state(
                self._task,
                values["joint_states"],
                {name: values[source] for source, name in self._end_effectors.items()},
            ),
            values["privileged_state"] if self._privileged else {},
        )

    def _refuse_frozen(
        self, stamp: int, images: Mapping[str, NDArray], joints: Mapping[str, float]
    ) -> None:
        position = np.array([joints[name] for name in sorted(joints)])
        frozen = [c for c, f in self._frozen.items() if f.add(stamp, images[c], position)]
        if frozen:
            check = self._frozen[frozen[0]]
            raise _FrozenCameraError(
                f"camera {', '.join(frozen)}: frozen: expected another picture, found the same one "
                f"in {check.count} observations while a joint moved {check.motion:.2f} rad or m"
            )

    def _check_age(self) -> None:
        nouns = {"camera": "image", "end effector": "pose"}
        missing = self._matcher.expired(time.monotonic())
        if missing:
            self._on_error(
                "; ".join(
                    f"{source}: no {nouns.get(source.rpartition(' ')[0], 'message')} "
                    f"for {self._max_age:.1f} s"
                    for source in missing
                )
            )


def _privileged_poses(message: PrivilegedState) -> dict[str, Any]:
    if len(message.names) != len(message.poses):
        raise ConversionError(
            f"privileged_state: expected {len(message.names)} poses (one a name), "
            f"found {len(message.poses)}"
        )
    poses = {
        name: pose_to_array(pose) for name, pose in zip(message.names, message.poses, strict=True)
    }
    for name, pose in poses.items():
        if not np.isfinite(pose).all():
            raise ConversionError(
                f"privileged_state: {name}: expected 7 finite values, found {pose.tolist()}"
            )
    return poses
