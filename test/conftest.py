"""The real graph in its own processes, watched from outside, and spoilt on purpose."""

import copy
import itertools
import os
import re
import signal
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest
import rclpy
from geometry_msgs.msg import WrenchStamped
from rclpy.clock import Clock as RclpyClock
from rclpy.clock import ClockType
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState

from resfit_interfaces.msg import ActionCommand, EpisodeState, ExecutedAction, NodeHeartbeat
from resfit_interfaces.srv import LabelEpisode, StartEpisode
from resfit_ros import qos

_domains = itertools.count(40)


class RunningGraph:
    """One `ros2 launch` of the suite, with its output."""

    def __init__(self, command: list[str], log_file: Path, domain_id: int) -> None:
        self.log_file = log_file
        self.domain_id = domain_id
        environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain_id),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }
        with log_file.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def wait_for(self, pattern: str, timeout: float, count: int = 1, after: int = 0) -> re.Match:
        """The `count`-th match of `pattern` in the output behind character `after`."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            found = list(re.finditer(pattern, self.log[after:]))
            if len(found) >= count:
                return found[count - 1]
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        found = len(re.findall(pattern, self.log[after:]))
        raise AssertionError(
            f"expected {count} x {pattern!r} within {timeout} s, found {found}, launch exit code "
            f"{self.process.poll()}; the end of {self.log_file}:\n{self.log[-6000:]}"
        )

    def wait_until(self, condition: Callable[[], object], timeout: float, what: str) -> None:
        """AssertionError naming `what` when `condition()` has not become true."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, (
                f"expected {what} within {timeout} s; the end of {self.log_file}:\n"
                f"{self.log[-6000:]}"
            )
            time.sleep(0.05)

    def pid(self, node: str) -> int:
        """Of the newest process of a node."""
        found = re.findall(rf"\[{node}-\d+\]: process started with pid \[(\d+)\]", self.log)
        assert found, f"{node} was not started"
        return int(found[-1])

    def kill(self, node: str, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid(node), number)

    def interrupt(self, timeout: float = 40.0) -> int:
        """Ctrl-C; the launch's exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout)

    def left_over(self) -> list[str]:
        """Command lines of processes of this launch that are still there."""
        return [command for _, command in _processes_of_session(self.process.pid)]

    def destroy(self) -> None:
        for pid, _ in _processes_of_session(self.process.pid):
            os.kill(pid, signal.SIGCONT)  # What was stopped hears of the end as well.
        if self.process.poll() is None:
            try:
                self.interrupt(15.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for pid, _ in _processes_of_session(self.process.pid):
            os.kill(pid, signal.SIGKILL)


def _processes_of_session(session: int) -> list[tuple[int, str]]:
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            state, member_of = fields[0], int(fields[3])
            command = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if member_of == session and state != "Z":
            found.append((int(folder.name), command))
    return found


class Observer:
    """A node of the test's own in the graph."""

    def __init__(self, domain_id: int) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self.node = rclpy.create_node("observer", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def collect(self, kind: type, topic: str, qos: object) -> list:
        """A list that fills with the messages of a topic."""
        received: list = []
        self.node.create_subscription(kind, topic, received.append, qos)
        return received

    def call(self, kind: type, name: str, request: object, timeout: float = 20.0) -> object:
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(timeout), f"service {name}: not there after {timeout} s"
        future = client.call_async(request)
        end = time.monotonic() + timeout
        while not future.done():
            assert time.monotonic() < end, f"service {name}: no answer within {timeout} s"
            time.sleep(0.01)
        return future.result()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(5.0)
        self.node.destroy_node()
        self.context.shutdown()


class Link:
    """Passes the messages of a topic on to another one, in their order.

    Attributes:
        spoil: message -> message, or None: dropped.
        delay: -> s that the next message waits.
    """

    def __init__(self, node, source: str, target: str, kind: type, profile: object) -> None:
        self._publisher = node.create_publisher(kind, target, profile)
        self._waiting: deque = deque()  # (s of the steady clock, message)
        self.mend()
        node.create_subscription(kind, source, self._pass_on, profile)
        node.create_timer(0.005, self._deliver, clock=RclpyClock(clock_type=ClockType.STEADY_TIME))

    def mend(self) -> None:
        """From now on everything passes, at once."""
        self.spoil = lambda message: message
        self.delay = lambda: 0.0

    def freeze(self) -> None:
        """The next message again and again, with the stamps of those that it stands for."""
        frozen: list = []

        def repeat(message):
            if not frozen:
                frozen.append(copy.deepcopy(message))
            frozen[0].header.stamp = message.header.stamp
            return frozen[0]

        self.spoil = repeat

    def cut(self) -> None:
        self.spoil = lambda message: None

    def _pass_on(self, message) -> None:
        message = self.spoil(message)
        if message is not None:
            self._waiting.append((time.monotonic() + self.delay(), message))
            self._deliver()

    def _deliver(self) -> None:
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            self._publisher.publish(self._waiting.popleft()[1])


class Labeler:
    """A labeler of the test's own: heartbeat and service calls."""

    NOW = 4294967295

    def __init__(self, observer: Observer) -> None:
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

    def start(self, timeout: float = 20.0) -> StartEpisode.Response:
        request = StartEpisode.Request(labeler_id=self.id)
        return self._observer.call(StartEpisode, "start_episode", request, timeout)

    def label(self, label: int, episode_id: int) -> LabelEpisode.Response:
        request = LabelEpisode.Request(
            labeler_id=self.id, episode_id=episode_id, label=label, step=self.NOW
        )
        return self._observer.call(LabelEpisode, "label_episode", request)


class RelayedGraph:
    """A graph with links between its simulated robot and everything else, and a labeler.

    Attributes:
        links: topic -> Link.
        states, executed, heartbeats: messages so far.
        joints: likewise, as the robot sent them.
    """

    def __init__(self, graph: RunningGraph, observer: Observer, topics: list[str]) -> None:
        self.graph = graph
        self.observer = observer
        node = observer.node
        self.links = {topic: _link(node, topic) for topic in topics}
        self.labeler = Labeler(observer)
        self.clock = node.create_publisher(Clock, "/clock", qos.CLOCK)
        self.states: list[EpisodeState] = observer.collect(
            EpisodeState, "episode_state", qos.LATCHED
        )
        self.executed: list[ExecutedAction] = observer.collect(
            ExecutedAction, "executed_action", qos.EVENT
        )
        self.heartbeats: list[NodeHeartbeat] = observer.collect(
            NodeHeartbeat, "heartbeat", qos.HEARTBEAT
        )
        self.joints: list[JointState] = observer.collect(
            JointState, "true/joint_states" if "joint_states" in topics else "joint_states",
            qos.SENSOR,
        )  # fmt: skip

    def start(self, steps: int = 3, timeout: float = 200.0) -> int:
        """Start an episode as soon as all are ready; returns once it has made some steps."""

        def accepted() -> bool:
            answer = self.labeler.start(timeout)  # The supervisor may only be coming up.
            if not answer.accepted:
                time.sleep(0.3)
            return answer.accepted

        self.wait(accepted, "an accepted start", timeout)
        already = len(self.executed)
        self.wait(lambda: len(self.executed) >= already + steps, f"{steps} steps", timeout)
        return self.states[-1].episode_id

    def finish(self, episode: int) -> None:
        """Throw the episode away, unless it has ended."""
        if self.states[-1].state == EpisodeState.RUNNING:
            answer = self.labeler.label(LabelEpisode.Request.ABORT, episode)
            assert answer.accepted, answer.message
            self.wait(lambda: self.ended, "the end of the episode")

    @property
    def ended(self) -> bool:
        return self.states[-1].state == EpisodeState.FINISHED

    def complaint(self, role: str, text: str) -> bool:
        """Whether a node of this role has lately said that it is in error with this text in it."""
        return any(
            h.role == role and h.state == NodeHeartbeat.ERROR and text in h.message
            for h in self.heartbeats[-40:]
        )

    def assert_still(self, name: str) -> None:
        """No joint moves and no command is executed."""
        time.sleep(0.5)  # what was under way when the fault came
        before = self.joints[-1].position
        applied = sum(not e.held for e in self.executed)
        time.sleep(1.0)
        assert list(self.joints[-1].position) == list(before), name
        assert sum(not e.held for e in self.executed) == applied, name

    def wait(self, condition: Callable[[], object], what: str, timeout: float = 30.0) -> None:
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, (
                f"{what}: not within {timeout} s; newest state {self.states[-1:]}; policy "
                f"{[h.message for h in self.heartbeats if h.role == 'policy'][-1:]};\n"
                f"{self.graph.log[-3000:]}"
            )
            time.sleep(0.02)


def _link(node, topic: str) -> Link:
    if topic == "action_command":
        # The one topic towards the robot, which reads the newest only.
        return Link(node, topic, f"true/{topic}", ActionCommand, qos.COMMAND)
    kind = {"cameras": Image, "joint_states": JointState, "wrenches": WrenchStamped}
    return Link(node, f"true/{topic}", topic, kind[topic.partition("/")[0]], qos.SENSOR)


@pytest.fixture
def domain_id() -> int:
    """Another one for each test, so that no graph hears of another."""
    return next(_domains)


@pytest.fixture
def launch_sim(tmp_path, domain_id):
    """Function that starts `ros2 launch resfit_bringup FILE` with the given arguments."""
    graphs = []

    def start(*arguments: str, file: str = "sim.launch.py") -> RunningGraph:
        log_file = tmp_path / f"launch_{len(graphs)}.log"
        command = ["ros2", "launch", "resfit_bringup", file, *arguments]
        graphs.append(RunningGraph(command, log_file, domain_id))
        return graphs[-1]

    yield start
    for graph in graphs:
        graph.destroy()


@pytest.fixture
def observer(domain_id):
    observer = Observer(domain_id)
    yield observer
    observer.close()


@pytest.fixture(scope="module")
def launch_relayed(tmp_path_factory):
    """Function that starts a launch file with links at the given topics of its robot."""
    started: list[tuple[RunningGraph, Observer]] = []

    def start(topics: list[str], *arguments: str, file: str) -> RelayedGraph:
        folder, domain_id = tmp_path_factory.mktemp("relayed"), next(_domains)
        relayed = str(Path(__file__).with_name("relayed.launch.py"))
        given = [f"file:={file}", f"topics:={' '.join(topics)}", f"run_dir:={folder / 'run'}"]
        command = ["ros2", "launch", relayed, *given, "labeler:=none", *arguments]
        graph, observer = RunningGraph(command, folder / "log", domain_id), Observer(domain_id)
        started.append((graph, observer))
        return RelayedGraph(graph, observer, topics)

    yield start
    for graph, observer in started:
        graph.destroy()
        observer.close()


@pytest.fixture(scope="session")
def quick_agent(tmp_path_factory) -> Path:
    """config/agents/cpu.yaml with a warm-up that a test can wait for."""
    text = (Path(__file__).parents[1] / "config" / "agents" / "cpu.yaml").read_text()
    for key, value in (("warmup_steps", 60), ("critic_warmup_updates", 20)):
        text, found = re.subn(rf"(?m)^{key}: .*$", f"{key}: {value}", text)
        assert found == 1, key
    path = tmp_path_factory.mktemp("agent") / "quick.yaml"
    path.write_text(text)
    return path
