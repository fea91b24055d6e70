"""The package's two nodes in processes of their own, and the rest of the graph in this one."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
import rclpy
from geometry_msgs.msg import WrenchStamped
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock

from resfit_interfaces.msg import (
    EpisodeState,
    ExecutedAction,
    LearnerStatus,
    NodeHeartbeat,
    SafetyStatus,
)
from resfit_interfaces.srv import LabelEpisode, PauseEpisode, ResetRobot, StartEpisode
from resfit_ros import conversions, qos

# Test files are imported by path: what they import from beside them must be found.
sys.path.insert(0, str(Path(__file__).parent))

DOMAIN_ID = 14
SECOND = 1_000_000_000
STEP = SECOND // 20
TIMEOUT = 1.5  # s, of heartbeats
START_TIMEOUT = 60.0  # s, for a node to come up on a busy machine


def wait_until(condition, what="", timeout=15.0):
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, f"expected {what() if callable(what) else what}"
        time.sleep(0.002)
    return value


class Process:
    """One node, and what it has written."""

    def __init__(self, module, log_file, **parameters):
        arguments = ["--ros-args"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={value}"]
        self.log_file = log_file
        with log_file.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    f"import sys; from resfit_safety.{module} import main; sys.exit(main())",
                    *arguments,
                ],
                env={
                    **os.environ,
                    "ROS_DOMAIN_ID": str(DOMAIN_ID),
                    "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
                    "OMP_NUM_THREADS": "1",
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self):
        return self.log_file.read_text()

    def wait_for(self, text):
        wait_until(
            lambda: text in self.output, lambda: f"{text!r} in:\n{self.output}", START_TIMEOUT
        )

    def end(self, number=signal.SIGINT):
        """Exit code after the signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self):
        """Exit code."""
        return self.process.wait(START_TIMEOUT)


class World:
    """Driver, policy, recorder, labelers, learner: their messages without their work."""

    step_ns = STEP
    heartbeat_timeout = TIMEOUT
    wait_until = staticmethod(wait_until)

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN_ID)
        self.node = rclpy.create_node("world", context=self.context)
        self._publishers = {
            kind: self.node.create_publisher(kind, topic, profile)
            for kind, topic, profile in (
                (NodeHeartbeat, "heartbeat", qos.HEARTBEAT),
                (ExecutedAction, "executed_action", qos.EVENT),
                (WrenchStamped, "wrenches/right", qos.SENSOR),
                (LearnerStatus, "learner_status", qos.LATCHED),
                (Clock, "/clock", qos.CLOCK),
            )
        }
        self.states = []
        self.statuses = []  # (s of the steady clock, message)
        self.resets = []
        self.node.create_subscription(
            EpisodeState, "episode_state", self.states.append, qos.LATCHED
        )
        self.node.create_subscription(
            SafetyStatus,
            "safety_status",
            lambda message: self.statuses.append((time.monotonic(), message)),
            qos.EVENT,
        )
        self.node.create_service(ResetRobot, "reset_robot", self._on_reset)
        self._clients = {
            kind: self.node.create_client(kind, name)
            for kind, name in (
                (StartEpisode, "start_episode"),
                (LabelEpisode, "label_episode"),
                (PauseEpisode, "pause_episode"),
            )
        }
        self.beats = {}  # name -> [role, session, state, message]
        self.now = 10 * SECOND
        self.force = 0.0
        self.silent = False
        self.reset_answer = (True, "")
        self.node.create_timer(0.05, self._tick)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def join(self, name, role=None):
        """A node of this name (and role) sends heartbeats from now on; a new session."""
        session = uuid.uuid4().hex
        self.beats[name] = [role or name, session, NodeHeartbeat.READY, ""]
        return session

    def everyone(self):
        """As before an episode: all there and healthy."""
        self.force, self.silent, self.reset_answer = 0.0, False, (True, "")
        self.publish(LearnerStatus())
        for name in ("driver", "policy", "recorder", "labeler"):
            if name not in self.beats:
                self.join(name)
        for name in list(self.beats):
            if name not in ("driver", "policy", "recorder", "labeler"):
                del self.beats[name]

    def publish(self, message):
        self._publishers[type(message)].publish(message)

    def tick_clock(self, stamp):
        self.publish(Clock(clock=conversions.ns_to_stamp(stamp)))

    def wrench(self, force, stamp=None):
        message = WrenchStamped(wrench=conversions.array_to_wrench([0, 0, force, 0, 0, 0]))
        message.header.stamp = conversions.ns_to_stamp(stamp or self.now)
        self.publish(message)

    def execute(self, step, force=0.0, stamp=None, **fields):
        """One control step of the driver."""
        self.now = stamp or self.now + STEP
        self.force = force
        self.wrench(force)
        message = ExecutedAction(episode_id=self.state.episode_id, step=step, **fields)
        message.header.stamp = conversions.ns_to_stamp(self.now)
        self.publish(message)

    @property
    def state(self):
        return self.states[-1]

    def call(self, kind, **fields):
        client = self._clients[kind]
        assert client.wait_for_service(START_TIMEOUT)
        if "labeler_id" not in fields:
            fields["labeler_id"] = self.beats["labeler"][1]
        future = client.call_async(kind.Request(**fields))
        wait_until(future.done, f"an answer of {kind.__name__}")
        return future.result()

    def start(self, **fields):
        """A running episode; tries again while heartbeats are not known yet."""
        answer = None

        def accepted():
            nonlocal answer
            answer = self.call(StartEpisode, **fields)
            return answer.accepted or time.sleep(0.1)

        wait_until(accepted, lambda: f"a start, found {answer.message}", START_TIMEOUT)
        self.reaches(EpisodeState.RUNNING)
        assert self.state.episode_id == answer.episode_id
        wait_until(
            lambda: self.statuses and self.statuses[-1][1].episode_id == answer.episode_id,
            lambda: f"a verdict in the episode, found {self.statuses[-1:]}, {self.states[-1:]}",
        )
        return answer.episode_id

    def reaches(self, state, outcome=EpisodeState.OUTCOME_NONE):
        wait_until(
            lambda: self.states and (self.state.state, self.state.outcome) == (state, outcome),
            lambda: f"state {state}, outcome {outcome}, found {self.states[-1:]}",
            START_TIMEOUT,
        )
        return self.state

    def close(self):
        self._executor.shutdown()
        self._thread.join(5.0)
        self.node.destroy_node()
        self.context.shutdown()

    def _tick(self):
        for role, session, state, text in list(self.beats.values()):
            self.publish(NodeHeartbeat(role=role, session_id=session, state=state, message=text))
        if not self.silent:
            self.wrench(self.force)

    def _on_reset(self, request, response):
        self.resets.append((request.episode_id, request.seed))
        response.success, response.message = self.reset_answer
        self.now += SECOND
        self.wrench(0.0)
        response.start_stamp = conversions.ns_to_stamp(self.now)
        return response


@pytest.fixture(scope="session")
def session_world():
    world = World()
    yield world
    world.close()


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="session")
def start_process(tmp_path_factory):
    started = []

    def start(module, **parameters):
        log_file = tmp_path_factory.mktemp("log") / f"{module}.log"
        started.append(Process(module, log_file, **parameters))
        return started[-1]

    yield start
    for process in started:
        if process.process.poll() is None:
            process.process.kill()
            process.process.wait()


@pytest.fixture(scope="session")
def start_supervisor(start_process, run_dir):
    def start():
        return start_process(
            "episode_supervisor",
            task="square",
            run_dir=run_dir,
            max_steps=5,
            seed=100,
            heartbeat_timeout=TIMEOUT,
            max_updates_owed=10,
            use_sim_time=True,
        )

    return start


@pytest.fixture(scope="session")
def monitor(start_process):
    return start_process(
        "safety_monitor", task="square", max_force=20.0, max_torque=2.0, max_wrench_age=1.0
    )


@pytest.fixture(scope="session")
def supervisor(start_supervisor):
    return start_supervisor()


@pytest.fixture(scope="session")
def _both_are_up(monitor, supervisor):
    monitor.wait_for("limits: ")
    supervisor.wait_for("next is episode ")


@pytest.fixture
def world(session_world, _both_are_up):
    session_world.everyone()
    return session_world
