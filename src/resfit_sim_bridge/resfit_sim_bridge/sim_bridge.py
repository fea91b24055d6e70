"""The driver of a simulated robot."""

import atexit
import sys
import time
from dataclasses import replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock as RclpyClock
from rclpy.clock import ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from resfit_driver.gating import NEEDED_ROLES, Gating
from resfit_driver.sensors import FrameError, FrameNames, SensorPublishers, require_finite
from resfit_driver.step_report import StepReport
from resfit_driver.stepping import Due, Phase, Stepping
from resfit_driver.wake_timer import WakeTimer
from resfit_interfaces.msg import EpisodeState, ExecutedAction, NodeHeartbeat, TaskState
from resfit_interfaces.srv import ResetRobot
from resfit_rl.simulation import Frame, RenderOptions, SimulationError, make_simulation
from resfit_rl.tasks import get_task, task_names
from resfit_ros import qos
from resfit_ros.conversions import NANOSECONDS, diagnostics, ns_to_stamp
from resfit_ros.heartbeat import Heartbeat
from resfit_ros.parameters import ConfigurationError, declare
from resfit_ros.run import ExitRequest, run_node
from resfit_safety.action_gate import ActionGate, GateConfig, Verdict
from resfit_safety.vega_cell import VegaCell, load_vega_cell

WAITING_PERIOD = 0.1  # s, of clock and wrench while time stands still
REPEAT_PERIOD = 1.0  # s, of the observation while time stands still, and of attempts to recover


class SimBridge(Node):
    """Simulation, sensors and the gate, on the interfaces that a robot's driver has.

    Everything runs in one thread: OpenGL wants it, and a step that is due runs in the callback of
    the message that made it due.
    """

    def __init__(self) -> None:
        super().__init__("sim_bridge")
        self._declare_parameters()
        self._heartbeat = Heartbeat(self, "driver")
        self._heartbeat.publish()
        try:
            self._simulation = make_simulation(
                self._task, image_size=self._image_size, rendering=self._rendering
            )
        except SimulationError as error:
            raise ConfigurationError(str(error)) from None
        # Before EGL's own end, and also when a signal ends this constructor.
        atexit.register(self._simulation.close)
        steady = RclpyClock(clock_type=ClockType.STEADY_TIME)
        period = round(NANOSECONDS / self._task.control_frequency)
        self._stepping = Stepping(period, self._real_time, round(self._deadline * period))
        self._gate = self._make_gate()
        self._next: tuple[Frame, ExecutedAction] | None = None  # computed, not published yet
        self._broken = ""  # why the simulation cannot go on
        self._gating = Gating(self, self._gate, self._stepping, self._on_news)
        self._report = StepReport(self, self._stepping)
        self._wake = WakeTimer(self, self._stepping, self._advance, lambda: bool(self._broken))

        self._sensors = SensorPublishers(
            self,
            self._task,
            {camera: self._simulation.field_of_view(camera) for camera in self._task.cameras},
            self._names,
            self._publish_privileged,
        )
        self._clock_publisher = self.create_publisher(Clock, "/clock", qos.CLOCK)
        self._executed = self.create_publisher(ExecutedAction, "executed_action", qos.EVENT)
        self._task_state = (
            self.create_publisher(TaskState, "task_state", qos.EVENT)
            if self._publish_task_state
            else None
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)

        # Later than that of any driver before, unless that one ran ahead of wall time.
        self._time = time.time_ns()
        self._reset(0, self._seed)

        self.create_subscription(EpisodeState, "episode_state", self._on_episode, qos.LATCHED)
        self.create_service(ResetRobot, "reset_robot", self._on_reset)
        self.create_timer(WAITING_PERIOD, self._while_waiting, clock=steady)
        self.create_timer(1.0, self._diagnose, clock=steady)
        self._advance()
        height, width = self._image_size
        self.get_logger().info(
            f"{self._task.implementation} in {'real time' if self._real_time else 'lockstep'}, "
            f"cameras {', '.join(self._task.cameras)} at {width}x{height}"
        )

    def _declare_parameters(self) -> None:
        self._task = get_task(
            declare(
                self,
                "task",
                "square",
                f"Task: {', '.join(task_names())}, or a robosuite environment.",
            )
        )
        mode = declare(
            self,
            "mode",
            "lockstep",
            "lockstep: a step is taken when its action has come, nothing is dropped. "
            "real_time: control periods of wall time, a late action is not executed.",
            choices=("lockstep", "real_time"),
        )
        self._real_time = mode == "real_time"
        self._image_size = tuple(
            declare(self, f"image_{side}", 84, f"{side} of all cameras, pixels.", range=(8, 2048))
            for side in ("height", "width")
        )
        self._rendering = RenderOptions(
            shadows=declare(self, "shadows", False, "Render shadows."),
            reflections=declare(self, "reflections", False, "Render reflections; slow on a CPU."),
            multisampling=declare(
                self, "multisampling", 0, "Samples a pixel against jagged edges.", range=(0, 16)
            ),
            coarseness=declare(
                self,
                "coarseness",
                0.4,
                "Detail of meshes that is left out, in pixels of a thing 1 m away; 0: none.",
                range=(0.0, 10.0),
            ),
        )
        self._deadline = declare(
            self,
            "action_deadline",
            0.5,
            "real_time: share of the control period after which an action is late. Physics and "
            "rendering take the rest.",
            range=(0.05, 1.0),
        )
        self._max_held_steps = declare(
            self,
            "max_held_steps",
            10,
            "real_time: steps in a row without an action in time that are no fault yet.",
            range=(0, 1000),
        )
        self._max_safety_age = declare(
            self,
            "max_safety_age",
            0.2,
            "real_time: age of the newest safety verdict that still allows motion, s.",
            range=(0.01, 10.0),
        )
        self._heartbeat_timeout = declare(
            self,
            "heartbeat_timeout",
            2.0,
            f"The robot holds when {', '.join(NEEDED_ROLES)} was silent for longer, s.",
            range=(0.3, 60.0),
        )
        self._cell = self._read_cell(
            declare(
                self,
                "cell",
                "",
                "File with what stands around the robot and how fast its joints may be: needed by "
                "tasks whose actions are joint positions, for the others none.",
            )
        )
        self._joint_limit_margin = declare(
            self,
            "joint_limit_margin",
            0.05,
            "How far a measured joint may be beyond the limits of its model, which are soft in "
            "simulation, rad or m.",
            range=(0.0, 1.0),
        )
        self._seed = declare(
            self, "seed", 0, "Start state before the first reset_robot.", range=(0, 2**63 - 1)
        )
        self._publish_privileged = declare(
            self, "publish_privileged", True, "Publish privileged_state, for scripted policies."
        )
        self._publish_task_state = declare(
            self, "publish_task_state", True, "Publish task_state, for the auto-labeler."
        )
        self._names = FrameNames(
            declare(self, "world_frame", "world", "Frame of poses."),
            declare(
                self, "camera_frame", "{camera}_optical_frame", "Optical frames; {camera}: name."
            ),
            declare(
                self, "wrist_frame", "{wrist}_force_torque", "Frames of wrenches; {wrist}: name."
            ),
        )

    def _make_gate(self) -> ActionGate:
        margin = self._joint_limit_margin
        config = GateConfig.of_task(
            self._task,
            joint_limits={
                joint: (lower - margin, upper + margin)
                for joint, (lower, upper) in self._simulation.joint_limits.items()
            },
            max_safety_age=self._max_safety_age if self._real_time else None,
            needed_roles=NEEDED_ROLES,
            max_heartbeat_age=self._heartbeat_timeout,
            max_held_steps=self._max_held_steps if self._real_time else None,
        )
        checker = None
        if self._cell is not None:
            config = replace(config, motion_limits=self._cell.motion_limits)
            checker = self._cell.checker
        return ActionGate(config, self._simulation.start_action, checker)

    def _read_cell(self, path: str) -> VegaCell | None:
        if bool(path) != bool(self._task.joint_actions):
            expected = "a file of config/cells" if self._task.joint_actions else "none"
            raise ConfigurationError(
                f"parameter 'cell': task {self._task.name}: expected {expected}, found '{path}'"
            )
        if not path:
            return None
        try:
            return load_vega_cell(path, 1 / self._task.control_frequency)
        except ValueError as error:
            raise ConfigurationError(f"parameter 'cell': {error}") from None

    # -- what comes in ----------------------------------------------------------------------------

    def _on_news(self) -> None:
        self._tell_state()
        self._advance()

    def _on_episode(self, message: EpisodeState) -> None:
        before = self._stepping.phase
        self._gating.follow(message)
        if before is Phase.PAUSED and self._stepping.running:
            # Who was silent during the pause may need to see where it is.
            self._publish_sensors()
        self._report.moved_on(before, self._gating.late_commands)
        self._advance()

    def _on_reset(
        self, request: ResetRobot.Request, response: ResetRobot.Response
    ) -> ResetRobot.Response:
        if self._stepping.phase in (Phase.RUNNING, Phase.PAUSED):
            response.message = (
                f"reset_robot: expected no running episode, found {self._stepping.episode_id}"
            )
        elif self._gating.emergency_stop:
            response.message = f"reset_robot: emergency stop: {self._gating.emergency_stop}"
        elif request.episode_id == 0:
            response.message = "reset_robot: expected an episode_id from 1 on, found 0"
        else:
            self._reset(request.episode_id, request.seed)
            response.message = self._broken
        response.success = not response.message
        response.start_stamp = ns_to_stamp(self._stepping.stamp)
        if response.success:
            self.get_logger().info(f"episode {request.episode_id}: reset with seed {request.seed}")
        else:
            self.get_logger().error(response.message)
        self._advance()
        return response

    # -- steps ------------------------------------------------------------------------------------

    def _reset(self, episode_id: int, seed: int) -> None:
        self._next = None
        self._gating.reset()
        self._time += self._stepping.period
        self._attempted = time.monotonic()
        try:
            self._frame = self._simulated(lambda: self._simulation.reset(seed))
        except FrameError as error:
            self._break(f"reset with seed {seed}: {error}")
            return
        self._stepping.reset(episode_id, self._time, time.monotonic_ns())
        self._gate.reset(self._simulation.start_action)
        self._broken = ""
        self._tell_state()
        self._report.reset()
        self._publish_sensors()

    def _advance(self) -> None:
        """Do what is due, and wake up again when something becomes due by itself."""
        stepping = self._stepping
        verdict = self._judge() if stepping.awaits_command else None
        due = stepping.due(time.monotonic_ns(), verdict is not None and verdict.final)
        if due is Due.STEP:
            self._step(self._gate.commit(verdict), stepping.episode_id)
        elif due is Due.IDLE and not self._broken:
            self._step(Verdict("hold", self._gate.hold_action, "no episode is running"), 0)
        if due is Due.PUBLISH or (due is Due.STEP and self._next and not self._real_time):
            self._publish_step()
        self._wake.schedule()

    def _judge(self) -> Verdict:
        frame = self._frame
        return self._gating.judge(
            dict(zip(frame.joint_names, frame.joint_position, strict=True)), frame.self_collisions
        )

    def _step(self, verdict: Verdict, episode_id: int) -> None:
        """Simulate one step; what it gives is published when its time has come."""
        executed = self._report.executed_action(verdict, episode_id)
        try:
            frame = self._simulated(lambda: self._simulation.step(verdict.action))
        except FrameError as error:
            # No observation follows, so none may bear the stamp of the next one.
            self._time += self._stepping.period
            executed.header.stamp = ns_to_stamp(self._time)
            executed.held = executed.fault = True
            executed.reason = str(error)
            executed.action = self._gate.hold_action
            self._break(str(error))
            if episode_id:
                self._report.refuse(executed)
                self._executed.publish(executed)
            return
        if verdict.fault:
            self._report.refuse(executed)
        self._gating.stepped(verdict)
        if episode_id:
            self._report.stepped(verdict)
        self._next = frame, executed
        self._stepping.computed()

    def _publish_step(self) -> None:
        self._frame, executed = self._next
        self._next = None
        self._time += self._stepping.period
        executed.header.stamp = ns_to_stamp(self._time)
        now = time.monotonic_ns()
        self._stepping.published(self._time, now)
        self._report.published(now)
        # First which step it is, then the observation: it can be acted on as soon as it is whole.
        self._executed.publish(executed)
        self._publish_sensors()
        if executed.episode_id and self._task_state is not None:
            state = TaskState(
                episode_id=executed.episode_id,
                step=executed.step + 1,
                success=self._frame.success,
            )
            state.header.stamp = executed.header.stamp
            self._task_state.publish(state)

    def _simulated(self, call) -> Frame:
        """What the simulation gives. FrameError on any failure in it, or values not finite."""
        try:
            frame = call()
            require_finite(frame)
            return frame
        except (FrameError, ExitRequest):
            raise
        except Exception as error:
            # MuJoCo and robosuite raise whatever they like; the driver must stay and say so.
            raise FrameError(f"simulation: {type(error).__name__}: {error}") from error

    def _break(self, reason: str) -> None:
        self._broken = reason
        self.get_logger().error(reason)
        self._tell_state()

    def _tell_state(self) -> None:
        if self._broken:
            self._heartbeat.set(NodeHeartbeat.ERROR, self._broken)
        elif self._gating.emergency_stop:
            self._heartbeat.set(
                NodeHeartbeat.BUSY, f"emergency stop: {self._gating.emergency_stop}"
            )
        else:
            self._heartbeat.set(NodeHeartbeat.READY)

    # -- what goes out ----------------------------------------------------------------------------

    def _publish_sensors(self) -> None:
        self._publish_clock()
        self._sensors.publish(self._frame, self._stepping.stamp)
        self._sent = self._wrench_sent = time.monotonic()
        self._wake.observed()

    def _publish_clock(self) -> None:
        self._clock_publisher.publish(Clock(clock=ns_to_stamp(self._time)))

    def _while_waiting(self) -> None:
        self._publish_clock()
        now = time.monotonic()
        if self._broken:
            # The episode under way ends first: its supervisor was told by the fault.
            if self._stepping.phase is Phase.IDLE and now - self._attempted >= REPEAT_PERIOD:
                self._reset(0, self._seed)
        elif now - self._sent >= REPEAT_PERIOD:
            self._publish_sensors()
        elif now - self._wrench_sent >= 0.9 * WAITING_PERIOD:
            self._sensors.publish_wrenches(self._frame, self._stepping.stamp)
            self._wrench_sent = now
        if not self._real_time:
            # A heartbeat that was missing may be back.
            self._advance()

    def _diagnose(self) -> None:
        period = self._stepping.period / NANOSECONDS
        values = self._report.values() | {
            "real-time factor": f"{period / np.median(self._report.periods or [np.nan]):.2f}",
            "late commands": self._gating.late_commands,
            "safety stop to hold, ms": self._gating.stop_to_hold_ms,
            "emergency stop": self._gating.emergency_stop or "released",
        }
        level = DiagnosticStatus.ERROR if self._broken else DiagnosticStatus.OK
        self._diagnostics.publish(
            diagnostics(
                ns_to_stamp(self._time),
                self.get_fully_qualified_name(),
                level,
                self._broken,
                values,
            )
        )


def main() -> int:
    return run_node(SimBridge)


if __name__ == "__main__":
    sys.exit(main())
