"""A graph of real node processes, each test in its own namespace."""

import signal
import subprocess
import sys
import time
import uuid

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor

from resfit_interfaces.msg import NodeHeartbeat
from resfit_ros import qos


class Graph:
    """A node of the test's own, and processes beside it."""

    def __init__(self, tmp_path):
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.namespace = f"/test_{uuid.uuid4().hex[:12]}"
        self.node = rclpy.create_node(
            "test", namespace=self.namespace, context=self._context, use_global_arguments=False
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._logs = tmp_path
        self._processes = []
        self.heartbeats = []
        self.listen(NodeHeartbeat, "heartbeat", qos.HEARTBEAT, self.heartbeats)

    def listen(self, kind, topic, profile, into=None):
        """All messages of a topic, as they come."""
        found = [] if into is None else into
        self.node.create_subscription(kind, topic, found.append, profile)
        return found

    def start(self, module, **parameters):
        """A node as a process; `.log()` gives all it wrote."""
        arguments = [f"-p {name}:={value}".split(" ", 1) for name, value in parameters.items()]
        path = self._logs / f"{module}_{len(self._processes)}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"resfit_learner.{module}", "--ros-args"]
                + ["-r", f"__ns:={self.namespace}"]
                + [word for pair in arguments for word in pair],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        process.log = path.read_text
        self._processes.append(process)
        return process

    def wait(self, condition, timeout=120.0):
        """Handle messages until `condition()` is true; its value."""
        end = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < end, "\n".join(p.log() for p in self._processes)
            self._executor.spin_once(timeout_sec=0.02)
        return value

    def spin(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.02)

    def wait_for_state(self, state, text="", timeout=120.0):
        """Until the newest heartbeat has this state and its message holds `text`."""
        self.heartbeats.clear()
        self.wait(
            lambda: (
                self.heartbeats
                and self.heartbeats[-1].state == state
                and text in self.heartbeats[-1].message
            ),
            timeout,
        )

    def close(self):
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def graph(tmp_path):
    graph = Graph(tmp_path)
    yield graph
    graph.close()
