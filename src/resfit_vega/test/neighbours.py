"""The driver's neighbours: the twin as its robot, and those who talk to it over ROS.

The twin's physics run in the test's process, so that they go on when the driver is killed.
"""

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

import mujoco
import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, WrenchStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from resfit_interfaces.msg import (
    ActionCommand,
    EmergencyStop,
    EpisodeState,
    ExecutedAction,
    NodeHeartbeat,
    SafetyStatus,
)
from resfit_interfaces.srv import ResetRobot
from resfit_rl.robots.vega import COMMANDED_JOINTS, vega_description
from resfit_rl.simulation.vega.model import TIMESTEP, TORSO_POSTURE
from resfit_rl.simulation.vega.twin import VegaTwin
from resfit_rl.tasks import get_task
from resfit_ros import qos
from resfit_ros.conversions import ns_to_stamp, stamp_to_ns

DOMAIN_ID = 33
FAKE_SDK = Path(__file__).parent / "fake_sdk"
NO_SDK = Path(__file__).parent / "no_sdk"
CELL = Path(__file__).parents[3] / "config" / "cells" / "vega_twin.yaml"
FORM = CELL.with_name("vega_real.yaml")
SUBSTEPS = 4  # of physics, from one state that the robot sends to the next
ELBOW = COMMANDED_JOINTS.index("R_arm_j4")
FINGER = COMMANDED_JOINTS.index("L_th_j0")
LIMITS = vega_description().position_lower, vega_description().position_upper
HOLDING = 0.02  # rad, of the twin's servos
PARTS = ("right_arm", "left_arm", "right_hand", "left_hand", "head", "torso")

Shared = runpy.run_path(str(FAKE_SDK / "dexcontrol" / "__init__.py"))["Shared"]


class Robot:
    """The twin, moved in real time by what is in the shared file."""

    def __init__(self, file):
        self.memory = np.memmap(file, np.float64, "w+", shape=(Shared.SIZE,))
        self._twin = VegaTwin(get_task("woolly_ball_pnp"), rendering=None)
        self.lock = threading.Lock()
        self._ended = False
        self.good()
        self.place()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def good(self):
        """Nothing is wrong with it."""
        self.memory[Shared.CONNECTED] = 1
        self.memory[Shared.STOPPED] = self.memory[Shared.LIFECYCLE] = 0
        self.memory[Shared.FROZEN] = self.memory[Shared.ERROR] = -1
        self.memory[Shared.TORSO] = TORSO_POSTURE
        self.nan = False

    def place(self, **positions):
        """At rest, where an episode starts but for the given joints, rad."""
        with self.lock:
            self._twin.reset(0)
            data, model = self._twin._data, self._twin._model
            for joint, position in positions.items():
                data.qpos[model.joint(joint).qposadr[0]] = position
                data.ctrl[COMMANDED_JOINTS.index(joint)] = position
            data.qvel[:] = 0
            mujoco.mj_forward(model, data)
            self.memory[Shared.COMMAND] = data.ctrl
            self._tell()

    @property
    def positions(self):
        return np.array(self.memory[Shared.POSITION])

    @property
    def command(self):
        return np.array(self.memory[Shared.COMMAND])

    @property
    def commands(self):
        return int(self.memory[Shared.COMMANDS])

    def end(self):
        self._ended = True
        self._thread.join()

    def _tell(self):
        frame = self._twin._frame()
        self.memory[Shared.POSITION] = frame.joint_position[: len(COMMANDED_JOINTS)]
        self.memory[Shared.VELOCITY] = frame.joint_velocity[: len(COMMANDED_JOINTS)]
        wrenches = np.concatenate([frame.wrenches[wrist] for wrist in ("right", "left")])
        if self.nan:
            wrenches[2] = np.nan
        self.memory[Shared.WRENCH] = wrenches
        self.memory[Shared.STAMP] = time.time_ns()

    def _run(self):
        due = time.monotonic()
        while not self._ended:
            with self.lock:
                data, model = self._twin._data, self._twin._model
                data.ctrl[:] = self.memory[Shared.COMMAND]
                mujoco.mj_step(model, data, SUBSTEPS)
                mujoco.mj_forward(model, data)
                self._tell()
            due = max(due + SUBSTEPS * TIMESTEP, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))


class Graph:
    """The driver's neighbours: supervisor, safety monitor, labeler, and a policy."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN_ID)
        self.node = rclpy.create_node("neighbours", context=self.context)
        self.received = defaultdict(list)
        self.heartbeats = []
        self.allowed, self.reason = True, ""
        self.silent = set()
        self.policy = None  # called with step and measured positions: the action, or None
        self.episode_id = self.start_stamp = 0
        self._running = False
        self._answered = -1
        for kind, topic, profile, callback in (
            (JointState, "joint_states", qos.SENSOR, self._on_observation),
            (ExecutedAction, "executed_action", qos.EVENT, self._on_observation),
            (PoseStamped, "end_effectors/right/pose", qos.SENSOR, None),
            (WrenchStamped, "wrenches/left", qos.SENSOR, None),
        ):
            self.node.create_subscription(
                kind, topic, lambda m, t=topic, c=callback: self._keep(t, m, c), profile
            )
        self.node.create_subscription(NodeHeartbeat, "heartbeat", self._on_heartbeat, qos.HEARTBEAT)
        self._command = self.node.create_publisher(ActionCommand, "action_command", qos.COMMAND)
        self._safety = self.node.create_publisher(SafetyStatus, "safety_status", qos.EVENT)
        self._state = self.node.create_publisher(EpisodeState, "episode_state", qos.LATCHED)
        self._heartbeat = self.node.create_publisher(NodeHeartbeat, "heartbeat", qos.HEARTBEAT)
        self._stop = self.node.create_publisher(EmergencyStop, "emergency_stop", qos.LATCHED)
        self.resetting = self.node.create_client(ResetRobot, "reset_robot")
        self._confirm = self.node.create_client(Trigger, "confirm_scene")
        self._change = self.node.create_client(ChangeState, "vega_driver/change_state")
        self._get = self.node.create_client(GetState, "vega_driver/get_state")
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.node.create_timer(0.2, self._beat, clock=steady)
        self.node.create_timer(0.05, self._judge, clock=steady)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def close(self):
        self._executor.shutdown()
        self._thread.join(5)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    # -- what it plays ----------------------------------------------------------------------------

    def _keep(self, topic, message, callback):
        self.received[topic].append(message)
        if callback is not None:
            callback()

    def _on_heartbeat(self, message):
        if message.role == "driver":
            self.heartbeats.append(message)

    def _beat(self):
        for role in {"policy", "safety", "supervisor", "labeler"} - self.silent:
            self._heartbeat.publish(NodeHeartbeat(role=role, state=NodeHeartbeat.READY))

    def _judge(self):
        episode_id = self.episode_id if self._running else 0
        message = SafetyStatus(
            episode_id=episode_id, motion_allowed=self.allowed, reason=self.reason
        )
        message.header.stamp = ns_to_stamp(time.time_ns())
        self._safety.publish(message)

    def _on_observation(self):
        """Answer the newest observation once, when it is known which step it is of."""
        if not self._running or self.policy is None or not self.received["joint_states"]:
            return
        joints = self.received["joint_states"][-1]
        stamp = stamp_to_ns(joints.header.stamp)
        steps = {stamp_to_ns(m.header.stamp): m.step + 1 for m in self.executed()[-3:]}
        step = {self.start_stamp: 0, **steps}.get(stamp)
        if step is None or step <= self._answered:
            return
        self._answered = step
        action = self.policy(step, np.array(joints.position[: len(COMMANDED_JOINTS)]))
        if action is not None:
            message = ActionCommand(
                episode_id=self.episode_id, step=step, action=np.array(action, np.float32)
            )
            message.header.stamp = joints.header.stamp
            self._command.publish(message)

    # -- what a test does -------------------------------------------------------------------------

    def wait(self, condition, what, timeout=20.0):
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, f"expected {what}, found {self.heartbeats[-1:]}"
            time.sleep(0.002)

    def wait_heartbeat(self, state, text=""):
        self.wait(
            lambda: (
                self.heartbeats
                and self.heartbeats[-1].state == state
                and text in self.heartbeats[-1].message
            ),
            f"a heartbeat of state {state} with {text!r}",
        )

    def call(self, client, request):
        assert client.wait_for_service(30.0)
        future = client.call_async(request)
        self.wait(future.done, "an answer")
        return future.result()

    def change(self, transition):
        request = ChangeState.Request()
        request.transition.id = getattr(Transition, f"TRANSITION_{transition}")
        return self.call(self._change, request).success

    def lifecycle(self):
        return self.call(self._get, GetState.Request()).current_state.label

    def confirm(self):
        return self.call(self._confirm, Trigger.Request())

    def ask_reset(self, seed=0):
        """The future answer for the next episode."""
        assert self.resetting.wait_for_service(30.0)
        self.episode_id += 1
        self.state(EpisodeState.RESETTING)
        return self.resetting.call_async(ResetRobot.Request(episode_id=self.episode_id, seed=seed))

    def reset(self, seed=0):
        future = self.ask_reset(seed)
        self.wait(future.done, "an answer to reset_robot", 40.0)
        answer = future.result()
        self.start_stamp = stamp_to_ns(answer.start_stamp)
        return answer

    def state(self, state, max_steps=1000):
        self._running = state == EpisodeState.RUNNING
        self._state.publish(
            EpisodeState(
                state=state,
                episode_id=self.episode_id,
                max_steps=max_steps,
                start_stamp=ns_to_stamp(self.start_stamp),
            )
        )

    def run(self, policy, max_steps=1000):
        """Confirm, reset, and run the next episode with this policy."""
        assert self.confirm().success
        answer = self.reset()
        assert answer.success, answer.message
        self.policy, self._answered = policy, -1
        self.state(EpisodeState.RUNNING, max_steps)
        self._on_observation()

    def stop_robot(self, engaged, reason="the person"):
        self._stop.publish(EmergencyStop(engaged=engaged, reason=reason))

    def executed(self, episode_id=None):
        wanted = self.episode_id if episode_id is None else episode_id
        return [m for m in self.received["executed_action"] if m.episode_id == wanted]

    def fault(self):
        """The executed action that ends the episode."""
        self.wait(lambda: self.executed() and self.executed()[-1].fault, "a fault")
        return self.executed()[-1]


def swinging():
    """A policy that swings an elbow and closes a thumb, from where it finds the robot."""
    start = []

    def policy(step, positions):
        start.append(positions)
        action = start[0].copy()
        action[ELBOW] += 0.1 * (1 - np.cos(0.2 * step))
        action[FINGER] += min(0.5, 0.02 * step)
        return np.clip(action, *LIMITS)

    return policy


def start_driver(file, sdk=FAKE_SDK, **parameters):
    """Args:
    file: shared with the robot.
    sdk: folder that comes first in the search for the SDK; None: the one that is installed.
    """
    command = [sys.executable, "-m", "resfit_vega.vega_driver", "--ros-args"]
    for name, value in ({"cell": CELL} | parameters).items():
        command += ["-p", f"{name}:={value}"]
    path = os.environ.get("PYTHONPATH", "")
    environment = {
        "ROS_DOMAIN_ID": str(DOMAIN_ID),
        "OMP_NUM_THREADS": "1",
        "FAKE_VEGA": str(file),
        "PYTHONPATH": path if sdk is None else f"{sdk}{os.pathsep}{path}",
    }
    _drivers.append(
        subprocess.Popen(
            command,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )
    return _drivers[-1]


_drivers = []


def kill_drivers():
    """Those that a failed test has left: the next ones must not hear them."""
    while _drivers:
        process = _drivers.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


def end_driver(process, code=0):
    """stdout and stderr after SIGINT, or, with an exit code that is not 0, by itself."""
    if code == 0 and process.poll() is None:
        process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert "Traceback" not in output + errors, errors
    return output, errors
