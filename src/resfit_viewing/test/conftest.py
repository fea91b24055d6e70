"""A graph of real node processes, each test in its own namespace."""

import signal
import subprocess
import sys
import time
import uuid

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor

DOMAIN_ID = 21


class Graph:
    """A node of the test's own, and processes beside it."""

    def __init__(self, tmp_path):
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=DOMAIN_ID)
        self.namespace = f"/test_{uuid.uuid4().hex[:12]}"
        self.node = rclpy.create_node(
            "test", namespace=self.namespace, context=self._context, use_global_arguments=False
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._folder = tmp_path
        self._processes = []

    def listen(self, kind, topic, profile):
        """A list that fills with the messages of a topic."""
        found = []
        self.node.create_subscription(kind, topic, found.append, profile)
        return found

    def start(self, module, environment, **parameters):
        """A node as a process, and the file with all it writes."""
        log = self._folder / f"{module}_{len(self._processes)}.log"
        arguments = [f"{name}:={value}" for name, value in parameters.items()]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", f"resfit_viewing.{module}", "--ros-args"]
                + ["-r", f"__ns:={self.namespace}"]
                + [word for argument in arguments for word in ("-p", argument)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment | {"ROS_DOMAIN_ID": str(DOMAIN_ID)},
            )
        self._processes.append(process)
        return process, log

    def wait_until(self, condition, what, timeout=60.0, each=lambda: None):
        """Spin, calling `each` every 0.1 s, until `condition()`."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"expected {what}"
            each()
            self._executor.spin_once(timeout_sec=0.1)

    def close(self):
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.shutdown()


@pytest.fixture
def graph(tmp_path):
    graph = Graph(tmp_path)
    yield graph
    graph.close()
