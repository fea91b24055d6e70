"""Labelers in processes of their own, before the supervisor's three services."""

import contextlib
import os
import re
import select
import subprocess
import sys
import threading
import time

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

from resfit_interfaces.msg import (
    EmergencyStop,
    EpisodeState,
    EpisodeStored,
    ExecutedAction,
    LearnerStatus,
    NodeHeartbeat,
    SafetyStatus,
    TaskState,
)
from resfit_interfaces.srv import LabelEpisode, PauseEpisode, StartEpisode
from resfit_ros import qos

DOMAIN_ID = 17


def wait_until(condition, what, timeout=15.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"expected {what() if callable(what) else what}"
        time.sleep(0.01)


class Supervisor:
    """The service contract of the episode supervisor, with every call recorded."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN_ID)
        self.node = rclpy.create_node("supervisor", context=self.context)
        self._publishers = {
            kind: self.node.create_publisher(kind, topic, profile)
            for kind, topic, profile in (
                (EpisodeState, "episode_state", qos.LATCHED),
                (EpisodeStored, "episode_stored", qos.EVENT),
                (TaskState, "task_state", qos.EVENT),
                (ExecutedAction, "executed_action", qos.EVENT),
                (SafetyStatus, "safety_status", qos.EVENT),
                (NodeHeartbeat, "heartbeat", qos.HEARTBEAT),
            )
        }
        self.node.create_subscription(
            EmergencyStop, "emergency_stop", lambda m: self.stops.append(m), qos.LATCHED
        )
        self.node.create_service(StartEpisode, "start_episode", self._start)
        self.node.create_service(LabelEpisode, "label_episode", self._label)
        self.node.create_service(PauseEpisode, "pause_episode", self._pause)
        self.reset()
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def reset(self):
        """As after a start; the learner's latched status is forgotten with its publisher."""
        self.calls = []
        self.stops = []  # emergency stops and releases
        self.refusal = ""
        self.state = EpisodeState(task="square", max_steps=300)
        self.publish(self.state)
        if LearnerStatus in self._publishers:
            self.node.destroy_publisher(self._publishers.pop(LearnerStatus))

    def publish(self, message):
        if type(message) is LearnerStatus and LearnerStatus not in self._publishers:
            self._publishers[LearnerStatus] = self.node.create_publisher(
                LearnerStatus, "learner_status", qos.LATCHED
            )
        self._publishers[type(message)].publish(message)

    def wait_until(self, condition, what):
        wait_until(condition, what)

    @contextlib.contextmanager
    def confirmation(self, refusal=""):
        """Be also the driver of a real robot, whose scene a person confirms."""

        def confirm(request, response):
            self.calls.append(request)
            response.success, response.message = not refusal, refusal
            return response

        service = self.node.create_service(Trigger, "confirm_scene", confirm)
        try:
            self.wait_until(lambda: self.node.count_clients("confirm_scene"), "a client")
            time.sleep(0.5)  # for the client to find the service
            yield
        finally:
            self.node.destroy_service(service)

    def labels(self):
        return [call for call in self.calls if isinstance(call, LabelEpisode.Request)]

    def finish(self, outcome, end_step=0):
        state = self.state
        state.state, state.outcome, state.end_step = EpisodeState.FINISHED, outcome, end_step
        state.reward = float(outcome == EpisodeState.OUTCOME_SUCCESS)
        if outcome == EpisodeState.OUTCOME_ABORTED:
            state.episodes_aborted += 1
        else:
            state.episodes_finished += 1
            state.episodes_succeeded += int(state.reward)
        self.publish(state)

    def close(self):
        self._executor.shutdown()
        self._thread.join(5.0)
        self.node.destroy_node()
        self.context.shutdown()

    def _start(self, request, response):
        self.calls.append(request)
        response.message = self.refusal
        response.accepted = not self.refusal
        if response.accepted:
            self.state.episode_id += 1
            self.state.seed = request.seed if request.use_seed else 1000
            self.state.state = EpisodeState.RUNNING
            self.state.outcome = EpisodeState.OUTCOME_NONE
            response.episode_id = self.state.episode_id
            self.publish(self.state)
        return response

    def _label(self, request, response):
        self.calls.append(request)
        response.message = self.refusal
        response.accepted = not self.refusal
        if response.accepted:
            self.finish(request.label, min(request.step, 300))
        return response

    def _pause(self, request, response):
        self.calls.append(request)
        self.state.state = EpisodeState.PAUSED if request.pause else EpisodeState.RUNNING
        self.publish(self.state)
        response.accepted = True
        return response


@pytest.fixture(scope="session")
def running_supervisor():
    supervisor = Supervisor()
    yield supervisor
    supervisor.close()


@pytest.fixture
def supervisor(running_supervisor):
    running_supervisor.reset()
    return running_supervisor


class Process:
    """A labeler, and what it has written."""

    def __init__(self, module, arguments=(), prefix=(), **streams):
        environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN_ID), "TERM": "xterm"}
        environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        code = f"import sys; from {module} import main; sys.exit(main())"
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", code, *arguments], env=environment, **streams
        )
        self.output = ""
        self._reader = None
        self._stop_reading = threading.Event()

    def read_from(self, file_descriptor):
        def read():
            while not self._stop_reading.is_set():
                if not select.select([file_descriptor], [], [], 0.05)[0]:
                    continue
                try:
                    data = os.read(file_descriptor, 4096)
                except OSError:
                    return
                if not data:
                    return
                self.output += data.decode(errors="replace")

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()

    def stop_reading(self):
        self._stop_reading.set()
        if self._reader is not None:
            self._reader.join()

    def wait_for(self, pattern, after=0, timeout=15.0):
        """Position behind the first match of `pattern` in the output after `after`."""
        wait_until(
            lambda: re.search(pattern, self.output[after:]),
            lambda: f"{pattern!r} in {self.output[after:]!r}",
            timeout,
        )
        return after + re.search(pattern, self.output[after:]).end()

    def exit_code(self, timeout=15.0):
        return self.process.wait(timeout)

    def destroy(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.stop_reading()


@pytest.fixture
def start_process():
    started = []

    def start(*arguments, **named):
        started.append(Process(*arguments, **named))
        return started[-1]

    yield start
    for process in started:
        process.destroy()
