"""The real driver in a process of its own, on a stand-in for the SDK whose robot is our twin."""

import sys
import time
from pathlib import Path

import pytest

from resfit_interfaces.msg import EpisodeState, NodeHeartbeat

sys.path.insert(0, str(Path(__file__).parent))
from neighbours import Graph, Robot, Shared, end_driver, kill_drivers, start_driver


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    robot = Robot(tmp_path_factory.mktemp("vega") / "shared")
    yield robot
    kill_drivers()
    robot.end()


@pytest.fixture(scope="module")
def graph():
    graph = Graph()
    yield graph
    graph.close()


@pytest.fixture
def start(robot, graph):
    """Called with parameters: a driver on the robot; it must end well by a signal."""
    _begin(robot, graph)
    processes = []

    def starting(**parameters):
        processes.append(start_driver(robot.memory.filename, **parameters))
        return processes[-1]

    yield starting
    try:
        for process in processes:
            end_driver(process)
    finally:
        kill_drivers()


@pytest.fixture(scope="module")
def _process(robot, graph):
    process = start_driver(robot.memory.filename, autostart=True, reset_speed=0.5)
    graph.wait_heartbeat(NodeHeartbeat.READY)
    time.sleep(0.5)  # until it has heard all others
    yield
    end_driver(process)


@pytest.fixture
def driver(_process, robot, graph):
    """The graph of a driver that is active and well, with a robot at its start."""
    _begin(robot, graph)
    graph.wait_heartbeat(NodeHeartbeat.READY)
    graph.received.clear()
    yield graph
    graph.policy = None
    graph.stop_robot(False)
    graph.state(EpisodeState.FINISHED)


def _begin(robot, graph):
    robot.good()
    robot.place()
    robot.memory[[Shared.COMMANDS, Shared.HOLDS, Shared.CLOSED]] = 0
    graph.received.clear()
    graph.heartbeats.clear()
    graph.allowed, graph.reason, graph.silent = True, "", set()
