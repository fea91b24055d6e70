"""The real bridge in a process of its own; policy, safety and supervisor are played by the test."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.clock import Clock as RclpyClock
from rclpy.clock import ClockType
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState

from resfit_interfaces.msg import (
    ActionCommand,
    EmergencyStop,
    EpisodeState,
    ExecutedAction,
    NodeHeartbeat,
    PrivilegedState,
    SafetyStatus,
    TaskState,
)
from resfit_interfaces.srv import ResetRobot
from resfit_ros import qos
from resfit_ros.conversions import ns_to_stamp, stamp_to_ns

DOMAIN_ID = 16
# The real node; only while the file $FAULT exists does the simulation fail as it says.
BRIDGE = """
import dataclasses, os, sys
from resfit_rl.simulation import Simulation
from resfit_sim_bridge.sim_bridge import main
step = Simulation.step
def failing_step(self, action):
    frame = step(self, action)
    fault = open(os.environ["FAULT"]).read() if os.path.exists(os.environ["FAULT"]) else ""
    if fault == "raise":
        raise RuntimeError("unstable")
    if fault == "nan":
        wrenches = {wrist: wrench * float("nan") for wrist, wrench in frame.wrenches.items()}
        return dataclasses.replace(frame, wrenches=wrenches)
    return frame
Simulation.step = failing_step
sys.exit(main())
"""


def start_bridge(fault_file="/nonexistent", **parameters):
    command = [sys.executable, "-c", BRIDGE, "--ros-args"]
    for name, value in ({"image_width": 32, "image_height": 32} | parameters).items():
        command += ["-p", f"{name}:={value}"]
    environment = os.environ | {
        "ROS_DOMAIN_ID": str(DOMAIN_ID),
        "OMP_NUM_THREADS": "1",
        "FAULT": str(fault_file),
    }
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


class Graph:
    """The bridge's neighbours. Every message is kept, by topic, with the time it came."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN_ID)
        self.node = rclpy.create_node("neighbours", context=self.context)
        self.received = defaultdict(list)
        for kind, topic, profile in (
            (Image, "cameras/agentview/image_raw", qos.SENSOR),
            (Image, "cameras/robot0_eye_in_hand/image_raw", qos.SENSOR),
            (CameraInfo, "cameras/agentview/camera_info", qos.SENSOR),
            (JointState, "joint_states", qos.SENSOR),
            (PoseStamped, "end_effectors/right/pose", qos.SENSOR),
            (WrenchStamped, "wrenches/right", qos.SENSOR),
            (PrivilegedState, "privileged_state", qos.SENSOR),
            (TaskState, "task_state", qos.EVENT),
            (ExecutedAction, "executed_action", qos.EVENT),
            (Clock, "/clock", qos.CLOCK),
        ):
            self.node.create_subscription(
                kind,
                topic,
                lambda m, t=topic: self.received[t].append((time.monotonic(), m)),
                profile,
            )
        self.driver = None
        self.node.create_subscription(NodeHeartbeat, "heartbeat", self._on_heartbeat, qos.HEARTBEAT)
        self._command = self.node.create_publisher(ActionCommand, "action_command", qos.COMMAND)
        self._safety = self.node.create_publisher(SafetyStatus, "safety_status", qos.EVENT)
        self._state = self.node.create_publisher(EpisodeState, "episode_state", qos.LATCHED)
        self._heartbeat = self.node.create_publisher(NodeHeartbeat, "heartbeat", qos.HEARTBEAT)
        self._stop = self.node.create_publisher(EmergencyStop, "emergency_stop", qos.LATCHED)
        self._reset = self.node.create_client(ResetRobot, "reset_robot")
        self.silent = set()
        self.node.create_timer(0.2, self._beat, clock=RclpyClock(clock_type=ClockType.STEADY_TIME))
        self.episode_id = self.start_stamp = 0
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    @property
    def ready(self):
        return self.driver.state == NodeHeartbeat.READY

    def close(self):
        self._executor.shutdown()
        self._thread.join(5)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def _on_heartbeat(self, message):
        if message.role == "driver":
            self.driver = message

    def _beat(self):
        for role in {"policy", "safety", "supervisor", "labeler"} - self.silent:
            self._heartbeat.publish(NodeHeartbeat(role=role, state=NodeHeartbeat.READY))

    def wait(self, condition, what, timeout=30.0):
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"expected {what}"
            time.sleep(0.005)

    def messages(self, topic):
        return [message for _, message in self.received[topic]]

    def executed(self, episode_id=None):
        wanted = self.episode_id if episode_id is None else episode_id
        return [m for m in self.messages("executed_action") if m.episode_id == wanted]

    def stamps(self, topic):
        return [stamp_to_ns(m.header.stamp) for m in self.messages(topic)]

    def at(self, topic, stamp):
        """The first message of this stamp, ns."""
        self.wait(lambda: stamp in self.stamps(topic), f"{topic} of stamp {stamp}")
        return self.messages(topic)[self.stamps(topic).index(stamp)]

    def reset_robot(self, episode_id, seed):
        assert self._reset.wait_for_service(60.0)
        future = self._reset.call_async(ResetRobot.Request(episode_id=episode_id, seed=seed))
        self.wait(future.done, "an answer to reset_robot")
        return future.result()

    def state(self, state, max_steps=100):
        self._state.publish(
            EpisodeState(
                state=state,
                episode_id=self.episode_id,
                max_steps=max_steps,
                start_stamp=ns_to_stamp(self.start_stamp),
            )
        )

    def start(self, seed=0, max_steps=100):
        """Reset and run the next episode; the stamp of its observation 0."""
        self.episode_id += 1
        answer = self.reset_robot(self.episode_id, seed)
        assert answer.success, answer.message
        self.start_stamp = stamp_to_ns(answer.start_stamp)
        self.state(EpisodeState.RUNNING, max_steps)
        return self.start_stamp

    def command(self, step, stamp, action=(0.0,) * 7, episode_id=None):
        message = ActionCommand(
            episode_id=self.episode_id if episode_id is None else episode_id,
            step=step,
            action=np.array(action, np.float32),
        )
        message.header.stamp = ns_to_stamp(stamp)
        self._command.publish(message)

    def verdict(self, stamp, allowed=True, reason=""):
        message = SafetyStatus(episode_id=self.episode_id, motion_allowed=allowed, reason=reason)
        message.header.stamp = ns_to_stamp(stamp)
        self._safety.publish(message)

    def stop_robot(self, engaged, reason):
        self._stop.publish(EmergencyStop(engaged=engaged, reason=reason))

    def step(self, step, stamp, action=(0.0,) * 7):
        """One lockstep step; the stamp of the next observation."""
        self.command(step, stamp, action)
        self.verdict(stamp)
        self.wait(lambda: len(self.executed()) > step, f"step {step}")
        return stamp_to_ns(self.executed()[step].header.stamp)


def run_graph(folder, end_signal, **parameters):
    """Yields a Graph with a bridge that is READY; ends the bridge with a signal."""
    fault_file = folder / "fault"
    bridge = start_bridge(fault_file, **parameters)
    graph = Graph()
    graph.fault_file = fault_file
    try:
        graph.wait(
            lambda: bridge.poll() is not None or (graph.driver and graph.ready),
            "a ready bridge",
            120.0,
        )
        assert bridge.poll() is None, bridge.stderr.read()
        yield graph
    finally:
        bridge.send_signal(end_signal)
        output, errors = bridge.communicate(timeout=60)
        graph.close()
    assert bridge.returncode == 0, errors
    assert "Traceback" not in output + errors, errors


@pytest.fixture(scope="module")
def lockstep(tmp_path_factory):
    yield from run_graph(tmp_path_factory.mktemp("lockstep"), signal.SIGINT, mode="lockstep")


@pytest.fixture(scope="module")
def real_time(tmp_path_factory):
    yield from run_graph(
        tmp_path_factory.mktemp("real_time"), signal.SIGTERM, mode="real_time", max_held_steps=5
    )
