"""Node that judges the wrench of every wrist."""

import time
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from resfit_interfaces.msg import EpisodeState, NodeHeartbeat, SafetyStatus
from resfit_rl.tasks import get_task
from resfit_ros import conversions, qos
from resfit_ros.heartbeat import Heartbeat
from resfit_ros.parameters import ConfigurationError, declare
from resfit_ros.run import run_node
from resfit_safety.wrench_limits import Tool, WrenchConfig, WrenchLimits, WrenchVerdict, WristLimits

PERIOD = 0.05  # s; the longest time without a verdict
WRIST_PARAMETERS = ("max_force", "max_torque", "tool_mass", "tool_center_of_mass")
STALL = 4 * PERIOD  # s without any callback: this process was kept from running


class SafetyMonitor(Node):
    """Publishes SafetyStatus for each complete set of new wrenches, at each stop, and at 20 Hz."""

    def __init__(self) -> None:
        super().__init__("safety_monitor")
        positive = (1e-3, 1e6)
        task = get_task(declare(self, "task", str, "Task, by name; names the wrists."))
        force = declare(
            self, "max_force", 25.0, "Largest force at a wrist after the tare, N.", range=positive
        )
        torque = declare(
            self,
            "max_torque",
            5.0,
            "Largest torque at a wrist after the tare, N m.",
            range=positive,
        )
        limits = {
            wrist: WristLimits(
                declare(
                    self,
                    f"wrists.{wrist}.max_force",
                    force,
                    f"max_force of wrist {wrist}, N.",
                    range=positive,
                ),
                declare(
                    self,
                    f"wrists.{wrist}.max_torque",
                    torque,
                    f"max_torque of wrist {wrist}, N m.",
                    range=positive,
                ),
            )
            for wrist in task.wrists
        }
        tools = {wrist: tool for wrist in task.wrists if (tool := _declare_tool(self, wrist))}
        config = WrenchConfig(
            limits,
            tools=tools,
            filter_window=declare(
                self,
                "filter_window",
                1,
                "Samples of the median filter, odd; delays by (window - 1) / 2 samples.",
                range=(1, 101),
            ),
            tare_samples=declare(
                self,
                "tare_samples",
                1,
                "Samples after a reset whose mean is the zero of the episode.",
                range=(1, 10_000),
            ),
            max_age=declare(
                self,
                "max_wrench_age",
                1.0,
                "Longest silence of a wrist, s of wall time.",
                range=(2 * STALL, 60.0),
            ),
            max_identical=declare(
                self,
                "max_identical_wrenches",
                5,
                "The same reading of a wrist, bit for bit, that many times in a row while the hand "
                "moves by more than 5 mm is a frozen sensor: a stop; 0: never.",
                range=(0, 10_000),
            ),
        )
        _refuse_unknown_wrists(self, task.wrists)
        self._awake = time.monotonic()
        self._limits = WrenchLimits(config, self._awake)
        self._new = set[str]()
        self._allowed: bool | None = None
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._heartbeat = Heartbeat(self, "safety")
        self._publisher = self.create_publisher(SafetyStatus, "safety_status", qos.EVENT)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
        self.create_subscription(EpisodeState, "episode_state", self._on_episode, qos.LATCHED)
        for wrist in config.limits:
            self.create_subscription(
                WrenchStamped, f"wrenches/{wrist}", partial(self._on_wrench, wrist), qos.SENSOR
            )
            # Whether the hand moves, and how its weight lies.
            self.create_subscription(
                PoseStamped,
                f"end_effectors/{wrist}/pose",
                partial(self._on_pose, wrist),
                qos.SENSOR,
            )
        self.create_timer(PERIOD, self._on_timer, clock=steady)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)
        self.get_logger().info(
            "limits: "
            + "; ".join(
                f"wrist {name}: {limit.max_force:g} N, {limit.max_torque:g} N m"
                for name, limit in config.limits.items()
            )
        )

    def _on_wrench(self, wrist: str, message: WrenchStamped) -> None:
        stamp = conversions.stamp_to_ns(message.header.stamp)
        wrench = conversions.wrench_to_array(message.wrench)
        verdict = self._limits.add(wrist, stamp, wrench, self._now())
        self._new.add(wrist)
        complete = len(self._new) == len(self._limits.config.limits)
        if complete or not verdict.motion_allowed:
            self._publish(verdict)

    def _on_pose(self, wrist: str, message: PoseStamped) -> None:
        self._limits.place(wrist, conversions.pose_to_array(message.pose))

    def _on_episode(self, message: EpisodeState) -> None:
        if message.state == EpisodeState.RUNNING:
            since = conversions.stamp_to_ns(message.start_stamp)
            self._limits.start(message.episode_id, since, self._now())
        elif message.state != EpisodeState.PAUSED:
            self._limits.finish()
        self._on_timer()

    def _on_timer(self) -> None:
        now = self._now()
        self._publish(self._limits.judge(now))
        defect = self._limits.defect(now)
        # An episode with a sensor that is known to be broken need not even start.
        self._heartbeat.set(NodeHeartbeat.ERROR if defect else NodeHeartbeat.READY, defect)

    def _now(self) -> float:
        """s of the steady clock. Messages that wait after a stall of this process are not late."""
        now = time.monotonic()
        if now - self._awake > STALL:
            self._limits.excuse(now - self._awake)
        self._awake = now
        return now

    def _publish(self, verdict: WrenchVerdict) -> None:
        self._new.clear()
        limits = self._limits.config.limits
        status = SafetyStatus(
            motion_allowed=verdict.motion_allowed,
            episode_id=verdict.episode_id,
            reason=verdict.reason,
            wrist=list(limits),
            force=verdict.force,
            max_force=[limit.max_force for limit in limits.values()],
            torque=verdict.torque,
            max_torque=[limit.max_torque for limit in limits.values()],
        )
        status.header.stamp = conversions.ns_to_stamp(verdict.stamp)
        self._publisher.publish(status)
        if verdict.motion_allowed != self._allowed:
            self._allowed = verdict.motion_allowed
            if verdict.motion_allowed:
                self.get_logger().info("motion allowed")
            elif verdict.episode_id:
                self.get_logger().error(f"episode {verdict.episode_id}: stop: {verdict.reason}")
            else:
                self.get_logger().warning(f"motion not allowed: {verdict.reason}")

    def _publish_diagnostics(self) -> None:
        verdict = self._limits.judge(self._now())
        values: dict[str, object] = {"episode": verdict.episode_id}
        for (name, limit), force, torque in zip(
            self._limits.config.limits.items(), verdict.force, verdict.torque, strict=True
        ):
            values[f"{name} force"] = f"{force:.1f} of {limit.max_force:g} N"
            values[f"{name} torque"] = f"{torque:.2f} of {limit.max_torque:g} N m"
        self._diagnostics.publish(
            conversions.diagnostics(
                self.get_clock().now().to_msg(),
                self.get_fully_qualified_name(),
                DiagnosticStatus.OK if verdict.motion_allowed else DiagnosticStatus.ERROR,
                verdict.reason or "motion allowed",
                values,
            )
        )


def _declare_tool(node: Node, wrist: str) -> Tool | None:
    mass = declare(
        node,
        f"wrists.{wrist}.tool_mass",
        0.0,
        f"Gravity compensation of what hangs behind wrist {wrist}, kg; 0: none; negative where the "
        "sensor reads what the wrist does to the hand. The frame of the sensor is that of the pose "
        f"end_effectors/{wrist}.",
        range=(-50.0, 50.0),
    )
    center = declare(
        node,
        f"wrists.{wrist}.tool_center_of_mass",
        [0.0, 0.0, 0.0],
        f"Its center of mass in the sensor's frame of wrist {wrist}, m.",
    )
    if len(center) != 3 or not all(abs(value) <= 1 for value in center):
        raise ConfigurationError(
            f"parameter 'wrists.{wrist}.tool_center_of_mass': expected 3 values within 1 m, "
            f"found {list(center)}"
        )
    return Tool(mass, tuple(center)) if mass else None


def _refuse_unknown_wrists(node: Node, wrists: tuple[str, ...]) -> None:
    """A limit for a wrist that does not exist would protect nothing."""
    known = {f"wrists.{wrist}.{limit}" for wrist in wrists for limit in WRIST_PARAMETERS}
    for name in node._parameter_overrides:
        if name.startswith("wrists.") and name not in known:
            raise ConfigurationError(
                f"parameter '{name}': expected one of {', '.join(sorted(known))}"
            )


def main() -> int:
    return run_node(SafetyMonitor)
