"""What a driver hears from the graph, and its gate's verdict on it."""

import time
from collections.abc import Callable, Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from resfit_driver.stepping import Stepping
from resfit_interfaces.msg import (
    ActionCommand,
    EmergencyStop,
    EpisodeState,
    NodeHeartbeat,
    SafetyStatus,
)
from resfit_ros import qos
from resfit_ros.conversions import stamp_to_ns
from resfit_safety.action_gate import ActionGate, Command, SafetyVerdict, Situation, Verdict

# Whom the robot does not move without. The labeler is the person: a lost terminal stops it.
NEEDED_ROLES = ("policy", "safety", "supervisor", "labeler")


class Gating:
    """Keeps the newest command, safety verdict, heartbeats and emergency stop for the gate.

    Args:
        node: owner of the subscriptions, on relative topic names.
        gate: judges; the caller commits what it applies.
        stepping: of the driver; the episode's state moves it.
        on_news: called after each message that may make a step due.

    Attributes:
        emergency_stop: why the emergency stop is engaged; empty when it is not. It stays until
            someone releases it, whatever becomes of the node that engaged it.
        late_commands: of the present episode, that came after their step was held.
        stop_to_hold: s from the arrival of the newest stop of the safety monitor until the gate
            gave the hold for it, which is then commanded; None before the first.
    """

    def __init__(
        self, node: Node, gate: ActionGate, stepping: Stepping, on_news: Callable[[], None]
    ) -> None:
        self.emergency_stop = ""
        self.late_commands = 0
        self.stop_to_hold: float | None = None
        self._stopped: float | None = None  # s, when the stop came that no step has met yet
        self._node = node
        self._gate = gate
        self._stepping = stepping
        self._on_news = on_news
        self._command: Command | None = None
        self._held_last = False
        self._safety: SafetyVerdict | None = None
        self._heard: dict[str, float] = {}  # role -> s
        self._policy_error = ""
        node.create_subscription(ActionCommand, "action_command", self._on_command, qos.COMMAND)
        node.create_subscription(SafetyStatus, "safety_status", self._on_safety, qos.EVENT)
        node.create_subscription(NodeHeartbeat, "heartbeat", self._on_heartbeat, qos.HEARTBEAT)
        node.create_subscription(EmergencyStop, "emergency_stop", self._on_stop, qos.LATCHED)

    def reset(self) -> None:
        """The robot is at the start of an episode: what was commanded before is of no concern."""
        self._command = None
        self._held_last = False
        self.late_commands = 0

    def stepped(self, verdict: Verdict) -> None:
        """The verdict's action is applied: the next step wants a new command."""
        self._command = None
        self._held_last = verdict.held

    def judge(
        self, joint_positions: Mapping[str, float], self_collisions: Collection[str] = ()
    ) -> Verdict:
        """The gate's verdict at this moment; arguments as in Situation."""
        verdict = self._gate.judge(self._command, self._situation(joint_positions, self_collisions))
        if verdict.kind == "late" and self._command is not None:
            # A repetition of a command that was executed is no news.
            self.late_commands += self._command.step == self._stepping.step - 1 and self._held_last
            self._command = None
        if verdict.fault and self._stopped is not None:
            # A final verdict is carried out at once.
            self.stop_to_hold = time.monotonic() - self._stopped
            self._stopped = None
        return verdict

    def judge_reset(
        self, action: NDArray[np.float64], joint_positions: Mapping[str, float]
    ) -> Verdict:
        """The gate's verdict on a command, (A,), of the way to a start position."""
        return self._gate.judge_reset(action, self._situation(joint_positions, ()))

    def _situation(
        self, joint_positions: Mapping[str, float], self_collisions: Collection[str]
    ) -> Situation:
        now = time.monotonic()
        return Situation(
            now=now,
            episode_id=self._stepping.episode_id,
            step=self._stepping.step,
            stamp=self._stepping.stamp,
            safety=self._safety,
            joint_positions=joint_positions,
            self_collisions=self_collisions,
            heartbeat_ages={role: now - heard for role, heard in self._heard.items()},
            policy_error=self._policy_error,
            emergency_stop=self.emergency_stop,
        )

    @property
    def stop_to_hold_ms(self) -> str:
        """For diagnostics."""
        return "" if self.stop_to_hold is None else f"{1e3 * self.stop_to_hold:.1f}"

    def follow(self, message: EpisodeState) -> None:
        """Let `stepping` follow the supervisor; what it cannot do is logged."""
        now = time.monotonic_ns()
        if message.state == EpisodeState.RUNNING:
            problem = self._stepping.run(
                message.episode_id, stamp_to_ns(message.start_stamp), message.max_steps, now
            )
            if problem:
                self._node.get_logger().error(problem)
        elif message.state == EpisodeState.PAUSED:
            self._stepping.pause(message.episode_id)
        elif (
            message.state != EpisodeState.RESETTING
            or message.episode_id > self._stepping.episode_id
        ):
            self._stepping.finish(message.episode_id, now)

    def _on_command(self, message: ActionCommand) -> None:
        self._command = Command(
            message.episode_id,
            message.step,
            stamp_to_ns(message.header.stamp),
            np.array(message.action),
        )
        self._on_news()

    def _on_safety(self, message: SafetyStatus) -> None:
        allowed = self._safety is None or self._safety.motion_allowed
        if message.motion_allowed:
            self._stopped = None
        elif allowed and message.episode_id == self._stepping.episode_id:
            self._stopped = time.monotonic()
        self._safety = SafetyVerdict(
            message.episode_id,
            stamp_to_ns(message.header.stamp),
            message.motion_allowed,
            message.reason,
            time.monotonic(),
        )
        self._on_news()

    def _on_heartbeat(self, message: NodeHeartbeat) -> None:
        self._heard[message.role] = time.monotonic()
        if message.role == "policy":
            in_error = message.state == NodeHeartbeat.ERROR
            self._policy_error = message.message if in_error else ""

    def _on_stop(self, message: EmergencyStop) -> None:
        if message.engaged:
            if not self.emergency_stop:
                self._node.get_logger().error(f"EMERGENCY STOP: {message.reason}")
            self.emergency_stop = message.reason or "engaged without a reason"
        elif self.emergency_stop:
            self._node.get_logger().warning(f"emergency stop released: {message.reason}")
            self.emergency_stop = ""
        self._on_news()
