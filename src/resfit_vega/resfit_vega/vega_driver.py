"""The driver of a real Vega.

| transition | what it does |
| --- | --- |
| configure | connects; checks that robot, description and cell agree; sensors are published |
| activate | commands where the robot is, and from then on, at 20 Hz, what passes the gate |
| deactivate | commands nothing: the motors hold the last setpoint; an episode ends by a fault |
| cleanup, shutdown | disconnects; the SDK asks the robot to hold where it is |
| error | the connection was lost: it says why and is unconfigured; a person starts it again |

Steps are in real time as those of sim_bridge: a command goes out as soon as it and its verdict are
there, the next observation is read and published at the tick. Whenever something is wrong with the
robot, or an emergency stop is engaged, nothing is commanded; after that it is held where it is.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from std_srvs.srv import Trigger

from resfit_driver.gating import NEEDED_ROLES, Gating
from resfit_driver.sensors import FrameNames, SensorPublishers
from resfit_driver.step_report import StepReport
from resfit_driver.stepping import Due, Phase, Stepping
from resfit_driver.wake_timer import WakeTimer
from resfit_interfaces.msg import EpisodeState, ExecutedAction, NodeHeartbeat
from resfit_interfaces.srv import ResetRobot
from resfit_rl.robots.vega import (
    COMMANDED_JOINTS,
    HAND_JOINTS,
    TORSO_JOINTS,
    RobotDescriptionError,
    vega_description,
)
from resfit_rl.simulation import Frame
from resfit_rl.tasks import get_task
from resfit_ros import qos
from resfit_ros.conversions import NANOSECONDS, ns_to_stamp
from resfit_ros.heartbeat import Heartbeat
from resfit_ros.lifecycle import ERROR, FAILURE, SUCCESS, DiagnosedLifecycleNode
from resfit_ros.parameters import ConfigurationError, declare
from resfit_ros.run import run_node
from resfit_safety.action_gate import ActionGate, GateConfig, Verdict
from resfit_safety.vega_cell import VegaCell, load_vega_cell
from resfit_vega.condition import Condition, disagreement
from resfit_vega.frames import Frames
from resfit_vega.hardware import Hardware, HardwareError, Measurement
from resfit_vega.reset import ResetPlan
from resfit_vega.setpoints import Setpoints

WAITING_PERIOD = 0.1  # s, of wrenches while time stands still
REPEAT_PERIOD = 1.0  # s, of the observation while time stands still
SETTLE_STEPS = 10  # after the last command of a reset, until the robot must be there

FINGERS = frozenset((*HAND_JOINTS["R"], *HAND_JOINTS["L"]))


@dataclass
class _Reset:
    """A reset under way.

    Attributes:
        answer: gets why it failed, or an empty text.
        next: index of the path's next command; -1 while the path is looked for.
        settled: steps since the last command.
    """

    episode_id: int
    plan: ResetPlan
    answer: Future
    next: int = -1
    settled: int = 0


class VegaDriver(DiagnosedLifecycleNode):
    """Hardware, sensors and the gate, on the interfaces that all drivers have.

    Everything but the setpoints and the search for a path runs in the executor's thread.
    """

    def __init__(self) -> None:
        super().__init__("vega_driver")
        self._declare_parameters()
        self._heartbeat = Heartbeat(self, "driver")
        self._heartbeat.publish()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        period = round(NANOSECONDS / self._task.control_frequency)
        self._stepping = Stepping(period, True, round(self._deadline * period))
        self._bounds = np.array([self._task.action_lower, self._task.action_upper])
        self._cell: VegaCell | None = None
        self._frames: Frames | None = None
        self._gate: ActionGate | None = None
        self._gating: Gating | None = None
        self._hardware: Hardware | None = None
        self._condition: Condition | None = None
        self._setpoints: Setpoints | None = None
        self._active = False
        self._anchored = False  # the gate's last command is where the robot holds
        self._problem = ""  # what is wrong with the robot
        self._lost = ""  # why the connection is gone
        self._refused: tuple[str, float] = ("", 0.0)  # by the SDK: why, and until when it counts
        self._measurement: Measurement | None = None  # the newest whose values are finite
        self._frame: Frame | None = None
        self._executed_next: ExecutedAction | None = None
        self._reset: _Reset | None = None
        self._plan: ResetPlan | None = None  # of the last reset
        self._confirmed_until = 0.0
        self._stamp = 0
        self._sent = self._wrench_sent = 0.0
        self._report = StepReport(self, self._stepping)
        self._wake = WakeTimer(self, self._stepping, self._advance, lambda: self._hardware is None)

        # Cameras are nodes of their own.
        self._sensors = SensorPublishers(
            self, replace(self._task, cameras=()), {}, self._names, privileged=False
        )
        self._executed = self.create_publisher(ExecutedAction, "executed_action", qos.EVENT)
        self.create_subscription(EpisodeState, "episode_state", self._on_episode, qos.LATCHED)
        # Of a group of its own: its answer takes a while, in which all else goes on.
        self.create_service(
            ResetRobot, "reset_robot", self._on_reset, callback_group=ReentrantCallbackGroup()
        )
        self.create_service(Trigger, "confirm_scene", self._on_confirm)
        self.create_timer(WAITING_PERIOD, self._while_waiting, clock=steady)
        self.create_timer(1.0, self._diagnose, clock=steady)
        if self._autostart and not self.bring_up():
            raise ConfigurationError(self.reason)

    def _declare_parameters(self) -> None:
        if self.get_parameter("use_sim_time").value:
            raise ConfigurationError(
                "parameter 'use_sim_time': expected false on a real robot, found true"
            )
        self._task = get_task(
            declare(self, "task", "woolly_ball_pnp", "Task: woolly_ball_pnp or package_handover.")
        )
        if self._task.joint_actions != COMMANDED_JOINTS:
            raise ConfigurationError(
                f"parameter 'task': expected one of Vega's, found '{self._task.name}'"
            )
        self._cell_path = declare(
            self,
            "cell",
            str,
            "File with what stands around the robot and how fast its joints may be; "
            "config/cells/vega_real.yaml is a form to fill in.",
        )
        self._profile = declare(
            self, "profile", "vega_1_f5d6", "The SDK's name of the robot's model."
        )
        self._sdk_simulation = declare(
            self,
            "sdk_simulation",
            False,
            "No robot: the SDK's own stand-in, which is at once wherever it is told to be.",
        )
        self._autostart = declare(
            self,
            "autostart",
            False,
            "Configure and activate at the start, which ends with exit code 1 when that fails; "
            "otherwise the lifecycle services do.",
        )
        self._deadline = declare(
            self,
            "action_deadline",
            0.9,
            "Share of the control period after which an action is late.",
            range=(0.05, 1.0),
        )
        self._max_held_steps = declare(
            self,
            "max_held_steps",
            10,
            "Steps in a row without an action in time that are no fault yet.",
            range=(0, 1000),
        )
        self._max_safety_age = declare(
            self,
            "max_safety_age",
            0.2,
            "Age of the newest safety verdict that still allows motion, s.",
            range=(0.01, 10.0),
        )
        self._heartbeat_timeout = declare(
            self,
            "heartbeat_timeout",
            2.0,
            f"The robot holds when {', '.join(NEEDED_ROLES)} was silent for longer, s.",
            range=(0.3, 60.0),
        )
        self._max_state_age = declare(
            self,
            "max_state_age",
            0.2,
            "Silence of a part of the robot or of a wrist's sensor that is a fault, s.",
            range=(0.05, 5.0),
        )
        self._joint_limit_margin = declare(
            self,
            "joint_limit_margin",
            0.03,
            "How far a measured joint may be beyond the limits of its description, rad.",
            range=(0.0, 0.2),
        )
        self._max_speed = declare(
            self,
            "max_speed",
            1.0,
            "Share of the joints' largest velocities that a command may ask for; one that asks for "
            "more ends the episode.",
            range=(0.01, 1.0),
        )
        self._setpoint_frequency = declare(
            self,
            "setpoint_frequency",
            100.0,
            "Setpoints a second, on the straight way from one command to the next, Hz.",
            range=(20.0, 500.0),
        )
        self._reset_speed = declare(
            self,
            "reset_speed",
            0.15,
            "Share of the joints' largest velocities and accelerations on the way to a start.",
            range=(0.01, 1.0),
        )
        self._start_spread = declare(
            self,
            "start_spread",
            0.02,
            "How far the arms' joints start from the start posture, at most, rad.",
            range=(0.0, 0.2),
        )
        self._reset_tolerance = declare(
            self,
            "reset_tolerance",
            0.05,
            "How far arms and head may be from where a reset brought them, rad.",
            range=(0.005, 0.5),
        )
        self._require_confirmation = declare(
            self,
            "require_confirmation",
            True,
            "A reset needs a person's word, by confirm_scene, that the scene is set up and nobody "
            "is in reach.",
        )
        self._confirmation_time = declare(
            self,
            "confirmation_time",
            60.0,
            "How long that word holds, s; it is good for one reset.",
            range=(1.0, 3600.0),
        )
        self._base_height = declare(
            self,
            "base_height",
            0.055,
            "Height of the robot's link 'base' in the frame of poses, m.",
            range=(-1.0, 1.0),
        )
        self._names = FrameNames(
            declare(self, "world_frame", "world", "Frame of poses."),
            "{camera}",
            declare(
                self, "wrist_frame", "{wrist}_force_torque", "Frames of wrenches; {wrist}: name."
            ),
        )

    # -- lifecycle --------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.guarded(self._configure)

    def _configure(self) -> TransitionCallbackReturn:
        try:
            self._connect()
        except (HardwareError, ValueError, RobotDescriptionError, OSError) as error:
            self._release()
            return self._fail(str(error))
        self.reason = self._lost = self._problem = ""
        self._refused = ("", 0.0)
        self._report.reset()
        self._stepping.reset(0, self._stamp, time.monotonic_ns())
        self._executed_next = None
        self.get_logger().info(
            f"{self._task.name}: connected to {self._profile}; nothing is commanded until it is "
            "activated"
        )
        self._wake.schedule()
        return SUCCESS

    def _connect(self) -> None:
        if self._cell is None:
            self._cell = load_vega_cell(self._cell_path, 1 / self._task.control_frequency)
            self._frames = Frames(self._cell, self._base_height)
        description = vega_description()
        limits = dict(
            zip(
                COMMANDED_JOINTS,
                zip(description.position_lower, description.position_upper, strict=True),
                strict=True,
            )
        )
        self._hardware = Hardware(self._profile, self._sdk_simulation)
        if problem := disagreement(self._hardware.limits, limits):
            raise HardwareError(problem)
        margin = self._joint_limit_margin
        self._condition = Condition(
            {joint: (low - margin, high + margin) for joint, (low, high) in limits.items()},
            self._cell.torso_limits,
            self._max_state_age,
        )
        measurement = self._hardware.read()
        problem = self._condition.not_finite(measurement) or self._condition.torso(measurement)
        if problem:
            raise HardwareError(problem)
        if self._gate is None:
            self._gate = self._make_gate(measurement)
            self._gating = Gating(self, self._gate, self._stepping, self._on_news)
        self._setpoints = Setpoints(
            self._hardware.command, 1 / self._task.control_frequency, self._setpoint_frequency
        )

    def _make_gate(self, measurement: Measurement) -> ActionGate:
        share, limits = self._max_speed, self._cell.motion_limits
        velocity = tuple(share * value for value in limits.velocity)
        config = GateConfig.of_task(
            self._task,
            joint_limits=self._condition.limits,
            max_safety_age=self._max_safety_age,
            needed_roles=NEEDED_ROLES,
            max_heartbeat_age=self._heartbeat_timeout,
            max_held_steps=self._max_held_steps,
            motion_limits=replace(limits, velocity=velocity),
        )
        return ActionGate(config, self._held(measurement), self._cell.checker)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.guarded(lambda: self._activate(state))

    def _activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._read()
        if problem := self._lost or self._problem:
            return self._fail(f"activate: {problem}")
        super().on_activate(state)
        self.reason = ""
        self._active = True
        if not self._gating.emergency_stop:
            self._anchor()
        self.get_logger().info("active: holding where it is")
        return SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.guarded(lambda: self._deactivate(state))

    def _deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._leave(self._lost or "the driver was deactivated")
        super().on_deactivate(state)
        return ERROR if self._lost else SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.guarded(self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.guarded(self._release)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Whatever failed, the node can be configured anew."""
        if self._hardware is not None:
            try:
                self._hardware.stop()
            except HardwareError as error:
                self.get_logger().error(str(error))
        return self.guarded(self._release)

    def _leave(self, reason: str) -> None:
        """Command nothing more; an episode or a reset under way ends."""
        self._freeze()
        self._active = False
        self._confirmed_until = 0.0
        self._finish_reset(reason)
        if self._stepping.phase in (Phase.READY, Phase.RUNNING, Phase.PAUSED):
            executed = self._report.executed_action(
                Verdict("fault", self._gate.hold_action, reason), self._stepping.episode_id
            )
            self._report.refuse(executed)
            self._stamp = self._next_stamp()
            executed.header.stamp = ns_to_stamp(self._stamp)
            self._executed.publish(executed)
        self._executed_next = None
        self._stepping.reset(0, self._stamp, time.monotonic_ns())

    def _release(self) -> TransitionCallbackReturn:
        if self._active:
            self._leave("the driver was shut down")
        setpoints, self._setpoints = self._setpoints, None
        if setpoints is not None:
            setpoints.end()
        hardware, self._hardware = self._hardware, None
        if hardware is not None:
            try:
                hardware.close()
            except HardwareError as error:
                self.get_logger().error(str(error))
        return SUCCESS

    def _fail(self, reason: str) -> TransitionCallbackReturn:
        self.reason = reason
        if not self.starting:
            self.get_logger().error(reason)
        return FAILURE

    def guarded(self, step: Callable[[], TransitionCallbackReturn]) -> TransitionCallbackReturn:
        try:
            return super().guarded(step)
        finally:
            self._tell_state()

    def close(self) -> None:
        self._release()

    # -- what comes in ----------------------------------------------------------------------------

    def _on_news(self) -> None:
        if self._gating.emergency_stop:
            self._freeze()
        self._tell_state()
        self._advance()

    def _on_episode(self, message: EpisodeState) -> None:
        if self._gating is None:
            return
        reset = self._reset
        if (
            reset is not None
            and message.episode_id >= reset.episode_id
            and (message.state, message.episode_id) != (EpisodeState.RESETTING, reset.episode_id)
        ):
            # Who asked for it does not wait for it any more: it must not move on its own.
            self._finish_reset(f"reset: the supervisor ended episode {reset.episode_id}")
        before = self._stepping.phase
        self._gating.follow(message)
        if before is Phase.PAUSED and self._stepping.running:
            # Who was silent during the pause may need to see where it is.
            self._publish_sensors()
        self._report.moved_on(before, self._gating.late_commands)
        self._advance()

    def _on_confirm(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self._active:
            response.message = "confirm_scene: expected the driver active, found it is not"
        elif self._reset is not None:
            response.message = "confirm_scene: expected no reset under way, found one"
        elif self._stepping.phase in (Phase.RUNNING, Phase.PAUSED):
            response.message = (
                f"confirm_scene: expected no running episode, found {self._stepping.episode_id}"
            )
        else:
            self._confirmed_until = time.monotonic() + self._confirmation_time
            response.success = True
            response.message = f"good for one reset within {self._confirmation_time:g} s"
        self.get_logger().info(f"scene confirmed: {response.message}")
        return response

    async def _on_reset(
        self, request: ResetRobot.Request, response: ResetRobot.Response
    ) -> ResetRobot.Response:
        response.message = self._reset_refusal(request.episode_id)
        if not response.message:
            self._confirmed_until = 0.0
            response.message = await self._start_reset(request.episode_id, request.seed)
        response.success = not response.message
        response.start_stamp = ns_to_stamp(self._stamp)
        if response.success:
            self.get_logger().info(f"episode {request.episode_id}: reset with seed {request.seed}")
        else:
            self.get_logger().error(response.message)
        return response

    def _reset_refusal(self, episode_id: int) -> str:
        if not self._active:
            return "reset_robot: expected the driver active, found it is not"
        if self._stepping.phase in (Phase.RUNNING, Phase.PAUSED):
            return f"reset_robot: expected no running episode, found {self._stepping.episode_id}"
        if self._reset is not None:
            return f"reset_robot: expected no other one, found that for {self._reset.episode_id}"
        if self._gating.emergency_stop:
            return f"reset_robot: emergency stop: {self._gating.emergency_stop}"
        if self._problem or not self._anchored:
            return f"reset_robot: {self._problem or 'expected the robot held, found it is not yet'}"
        if self._plan is not None and not self._plan.done:
            return "reset_robot: the search for a path of the last reset has not ended yet"
        if episode_id == 0:
            return "reset_robot: expected an episode_id from 1 on, found 0"
        if self._require_confirmation and time.monotonic() > self._confirmed_until:
            return (
                "reset_robot: expected a person's confirmation of the scene (confirm_scene) of "
                f"the last {self._confirmation_time:g} s, found none"
            )
        return ""

    # -- the way to a start -----------------------------------------------------------------------

    def _start_reset(self, episode_id: int, seed: int) -> Future:
        # No episode from now on, and time goes on.
        self._stepping.reset(0, self._stamp, time.monotonic_ns())
        self._executed_next = None
        self._plan = ResetPlan(
            self._held(self._measurement),
            seed,
            cell=self._cell,
            lower=self._bounds[0],
            upper=self._bounds[1],
            speed=min(self._reset_speed, self._max_speed),
            spread=self._start_spread,
        )
        self._reset = _Reset(episode_id, self._plan, Future(executor=self.executor))
        self._tell_state()
        self._advance()
        return self._reset.answer

    def _reset_step(self, reset: _Reset) -> Verdict:
        """The verdict to apply in this period."""
        hold = Verdict("hold", self._gate.hold_action, "a reset is under way")
        stop = self._gating.emergency_stop
        problem = self._problem or (f"emergency stop: {stop}" if stop else reset.plan.problem)
        if problem:
            self._finish_reset(f"reset: {problem}")
            return Verdict("fault", self._gate.hold_action, problem)
        if not reset.plan.done:
            return hold
        path = reset.plan.path
        if reset.next < 0:
            self._gate.reset(reset.plan.start)
            reset.next = 0
            self.get_logger().info(
                f"episode {reset.episode_id}: on the way to its start, "
                f"{len(path) / self._task.control_frequency:.1f} s"
            )
        if reset.next == len(path):
            reset.settled += 1
            return hold
        verdict = self._gating.judge_reset(
            path[reset.next], self._joint_positions(self._measurement)
        )
        reset.next += 1
        if verdict.fault:
            self._finish_reset(f"reset: {verdict.reason}")
        return self._apply(verdict)

    def _arrived(self, reset: _Reset) -> bool:
        """Whether the robot has come to rest at its start; if so, it is at observation 0.

        That is the one which has just gone out: another so soon would find no picture of its own.
        """
        if reset.settled < SETTLE_STEPS:
            return False
        goal = self._gate.last_action
        for joint, found, expected in zip(
            COMMANDED_JOINTS, self._measurement.positions, goal, strict=True
        ):
            # Fingers may rest on something.
            if joint not in FINGERS and not abs(found - expected) <= self._reset_tolerance:
                self._finish_reset(
                    f"reset: joint {joint}: expected within {self._reset_tolerance:g} of "
                    f"{expected:.4g}, found {found:.4g}"
                )
                return False
        self._gate.reset(goal)
        self._gating.reset()
        self._stepping.reset(reset.episode_id, self._stamp, time.monotonic_ns())
        self._report.reset()
        self._finish_reset("")
        return True

    def _finish_reset(self, problem: str) -> None:
        """Answer it; a problem leaves the robot holding where it is."""
        reset, self._reset = self._reset, None
        if reset is not None:
            reset.answer.set_result(problem)

    # -- steps ------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Do all that is due, and wake up again when something becomes due by itself."""
        stepping = self._stepping
        while self._hardware is not None and not self._lost:
            verdict = self._judge() if stepping.awaits_command else None
            due = stepping.due(time.monotonic_ns(), verdict is not None and verdict.final)
            if due is Due.STEP:
                self._step(self._apply(verdict), stepping.episode_id)
            elif due is Due.IDLE:
                self._idle()
            elif due is Due.PUBLISH:
                self._publish_step()
            else:
                break
        if self._lost and self._hardware is not None:
            self.reason = self._lost
            # The way into error processing is a transition that fails.
            self.trigger_deactivate() if self._active else self.trigger_cleanup()
        self._wake.schedule()

    def _judge(self) -> Verdict:
        if self._problem:
            return Verdict("fault", self._gate.hold_action, self._problem)
        verdict = self._gating.judge(self._joint_positions(self._measurement))
        if not self._anchored and not verdict.fault:
            reason = "the robot: expected it held since its reset, found it was let go"
            return Verdict("fault", self._gate.hold_action, reason)
        return verdict

    def _apply(self, verdict: Verdict) -> Verdict:
        """The one place from where a command reaches the robot."""
        verdict = self._gate.commit(verdict)
        # Rounded to float32 it may lie beyond a limit, where the SDK would refuse it.
        self._setpoints.go(np.clip(verdict.action.astype(np.float64), *self._bounds))
        return verdict

    def _anchor(self) -> None:
        """Hold the robot where it is measured, and go on from there."""
        action = self._held(self._measurement)
        self._gate.reset(action)
        self._setpoints.start(action)
        self._apply(Verdict("hold", self._gate.hold_action, "held where it is"))
        self._anchored = True
        self._tell_state()

    def _freeze(self) -> None:
        """Command nothing: the motors hold the last setpoint."""
        if self._setpoints is not None:
            self._setpoints.stop()
        self._anchored = False

    def _idle(self) -> None:
        reset = self._reset
        if not self._active:
            self._executed_next = None
            self._stepping.computed()
            return
        if reset is None:
            if not (self._anchored or self._problem or self._gating.emergency_stop):
                self._anchor()
            self._step(Verdict("hold", self._gate.hold_action, "no episode is running"), 0)
            return
        verdict = self._reset_step(reset)
        if not self._arrived(reset):
            self._step(verdict, 0)

    def _step(self, verdict: Verdict, episode_id: int) -> None:
        """The verdict is applied; what it led to is published when its time has come."""
        self._executed_next = executed = self._report.executed_action(verdict, episode_id)
        if verdict.fault and episode_id:
            self._report.refuse(executed)
        if episode_id:
            self._gating.stepped(verdict)
            self._report.stepped(verdict)
        self._stepping.computed()

    def _publish_step(self) -> None:
        executed, self._executed_next = self._executed_next, None
        whole = self._observe()
        if executed is not None:
            executed.header.stamp = ns_to_stamp(self._stamp)
            if executed.episode_id and not whole:
                # No observation follows, so the episode ends here.
                executed.fault = True
                executed.reason = executed.reason or self._problem
                self._report.refuse(executed)
        now = time.monotonic_ns()
        self._stepping.published(self._stamp, now)
        self._report.published(now)
        # First which step it is, then the observation: it can be acted on as soon as it is whole.
        if executed is not None:
            self._executed.publish(executed)
        if whole:
            self._publish_sensors()

    # -- what the robot says ----------------------------------------------------------------------

    def _observe(self) -> bool:
        """Read a new observation; whether it is fit to be published."""
        whole = self._read()
        self._stamp = self._next_stamp()
        if whole:
            self._frame = self._frames.frame(self._measurement)
        return whole

    def _read(self) -> bool:
        """Take in a measurement, and what is wrong with it; whether all its values are finite."""
        now = time.monotonic()
        whole = True
        try:
            measurement = self._hardware.read()
            problem = self._condition.problem(measurement, now)
            whole = not self._condition.not_finite(measurement)
        except HardwareError as error:
            self._lost = problem = str(error)
            whole = False
        if whole:
            self._measurement = measurement
        if failure := self._setpoints.take_failure():
            self._refused = failure, now + REPEAT_PERIOD
        if now < self._refused[1]:
            problem = problem or self._refused[0]
        if problem:
            self._freeze()
        # What was wrong at any time of an episode must end it.
        if problem or self._stepping.phase is Phase.IDLE:
            if problem and not self._problem:
                self.get_logger().error(f"{problem}: nothing is commanded")
            self._problem = problem
        self._tell_state()
        return whole

    def _held(self, measurement: Measurement) -> np.ndarray:
        """(29,) float64, rad: the command that holds the robot where it is."""
        return self._task.start_action({}, self._joint_positions(measurement))

    def _joint_positions(self, measurement: Measurement) -> dict[str, float]:
        return dict(
            zip(
                (*COMMANDED_JOINTS, *TORSO_JOINTS),
                (*measurement.positions.tolist(), *measurement.torso.tolist()),
                strict=True,
            )
        )

    def _next_stamp(self) -> int:
        """System time, ns; later than any before, also where the clock was set back."""
        return max(time.time_ns(), self._stamp + 1)

    # -- what goes out ----------------------------------------------------------------------------

    def _publish_sensors(self) -> None:
        self._sensors.publish(self._frame, self._stamp)
        self._sent = self._wrench_sent = time.monotonic()
        self._wake.observed()

    def _while_waiting(self) -> None:
        """Between reset and end of an episode without steps: the wrenches go on."""
        if self._hardware is None or time.monotonic() - self._wrench_sent < 0.9 * WAITING_PERIOD:
            return
        if self._read():
            self._sensors.publish_wrenches(
                self._frames.frame(self._measurement), self._next_stamp()
            )
            self._wrench_sent = time.monotonic()
            if self._frame is not None and self._wrench_sent - self._sent >= REPEAT_PERIOD:
                self._publish_sensors()
        self._advance()

    def _tell_state(self) -> None:
        self._heartbeat.set(*self._state())

    def _state(self) -> tuple[int, str]:
        """State of the heartbeat, and why."""
        problem = self._problem if self._hardware is not None else ""
        if self.reason or problem:
            return NodeHeartbeat.ERROR, self.reason or problem
        if self._hardware is None:
            return NodeHeartbeat.STARTING, "not configured"
        if not self._active:
            return NodeHeartbeat.BUSY, "not active"
        if self._gating.emergency_stop:
            return NodeHeartbeat.BUSY, f"emergency stop: {self._gating.emergency_stop}"
        if not self._anchored:
            return NodeHeartbeat.BUSY, "not held again yet"
        if self._reset is not None:
            return NodeHeartbeat.BUSY, f"reset for episode {self._reset.episode_id}"
        return NodeHeartbeat.READY, ""

    def _diagnose(self) -> None:
        self._tell_state()
        state, message = self._state()
        values: dict[str, object] = {
            "scene confirmed": time.monotonic() < self._confirmed_until,
            **self._report.values(),
        }
        if self._gating is not None:
            values["late commands"] = self._gating.late_commands
            values["safety stop to hold, ms"] = self._gating.stop_to_hold_ms
            values["emergency stop"] = self._gating.emergency_stop or "released"
        if self._hardware is not None:
            values |= {
                f"age of {part}, ms": f"{1e3 * age:.0f}"
                for part, age in self._condition.ages.items()
            }
        self.publish_diagnostics(state, message, values)


def main() -> int:
    return run_node(VegaDriver)


if __name__ == "__main__":
    sys.exit(main())
