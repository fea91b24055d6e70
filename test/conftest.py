"""The real graph in its own processes, watched from outside."""

import itertools
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor

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

    def kill(self, node: str) -> None:
        os.kill(self.pid(node), signal.SIGKILL)

    def interrupt(self, timeout: float = 40.0) -> int:
        """Ctrl-C; the launch's exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout)

    def left_over(self) -> list[str]:
        """Command lines of processes of this launch that are still there."""
        return [command for _, command in _processes_of_session(self.process.pid)]

    def destroy(self) -> None:
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
