"""Two keyboard labelers before the real episode supervisor, whose other nodes are stood in for."""

import os
import pty
import threading

import pytest
import rclpy
from builtin_interfaces.msg import Time
from rclpy.executors import SingleThreadedExecutor

from resfit_interfaces.msg import NodeHeartbeat
from resfit_interfaces.srv import ResetRobot
from resfit_ros.heartbeat import Heartbeat

NAMESPACE = "/real"


@pytest.fixture
def peers():
    """Driver, policy, safety and recorder, as far as the supervisor needs them."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=17)
    node = rclpy.create_node("peers", context=context, namespace=NAMESPACE)
    for role in ("driver", "policy", "safety", "recorder"):
        Heartbeat(node, role).set(NodeHeartbeat.READY)

    def reset(request, response):
        response.success, response.start_stamp = True, Time(sec=1)
        return response

    node.create_service(ResetRobot, "reset_robot", reset)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield
    executor.shutdown()
    thread.join(5.0)
    node.destroy_node()
    context.shutdown()


@pytest.fixture
def start_labeler(start_process):
    opened = []

    def start():
        master, slave = pty.openpty()
        opened.extend((master, slave))
        labeler = start_process(
            "resfit_teleop_ui.keyboard_labeler",
            ["--ros-args", "-r", f"__ns:={NAMESPACE}"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        labeler.read_from(master)
        labeler.press = lambda keys: os.write(master, keys.encode())
        return labeler

    yield start
    for file_descriptor in opened:
        os.close(file_descriptor)


def test_only_one_labeler_labels(peers, start_process, start_labeler, tmp_path):
    start_process(
        "resfit_safety.episode_supervisor",
        [
            *("--ros-args", "-r", f"__ns:={NAMESPACE}"),
            *("-p", "task:=square", "-p", f"run_dir:={tmp_path}"),
        ],
    )
    first, second = start_labeler(), start_labeler()
    first.wait_for("IDLE", timeout=40.0)
    second.wait_for("IDLE", timeout=40.0)

    at = 0
    while "RUNNING" not in first.output:
        first.press(" ")
        at = first.wait_for(r"> (start refused|episode 1 started)|RUNNING", at)
    second.wait_for("RUNNING")
    second.press("s")
    second.wait_for("> success refused: labeler .* expected the active labeler")

    first.press("p")
    first.wait_for("PAUSED")
    second.wait_for("PAUSED")
    first.press("p")
    first.wait_for("> resumed")
    first.press("r")
    first.wait_for("FINISHED: aborted")
    first.press("q")
    assert first.exit_code() == 0
    second.press("q")
    assert second.exit_code() == 0
