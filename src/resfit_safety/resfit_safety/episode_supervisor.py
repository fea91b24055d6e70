"""Node that decides when an episode starts, how it ends, and who may say so."""

import copy
import json
import math
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.task import Future

from resfit_interfaces.msg import (
    EpisodeState,
    ExecutedAction,
    LearnerStatus,
    NodeHeartbeat,
    SafetyStatus,
)
from resfit_interfaces.srv import LabelEpisode, PauseEpisode, ResetRobot, StartEpisode
from resfit_rl.episode_store import EpisodeStore, claim_role
from resfit_rl.episode_store.atomic_file import write_atomically
from resfit_rl.tasks import get_task
from resfit_ros import conversions, qos
from resfit_ros.heartbeat import Heartbeat
from resfit_ros.parameters import declare
from resfit_ros.run import run_node
from resfit_safety.episode_machine import EpisodeMachine, Outcome, Refused, State

PERIOD = 0.05  # s, of the checks of time limits
# s that a node must have been there: its topics and services may be known later than its heartbeat.
DISCOVERY = 1.0
NOW = 4294967295  # LabelEpisode.step: the newest observation
# s of wall time before a pending outcome counts: a label of the last observation may be under way,
# or the report of the step after which motion was forbidden.
GRACE = {Outcome.TIMEOUT: 0.5, Outcome.SAFETY_STOP: 0.2}
RECENT_EPISODES = 20  # of which the success rate is told
# s of silence, three heartbeats, from which on the driver may be lost.
DOUBT = 0.6
NEEDED = ("driver", "policy", "safety", "recorder")
STATES = {
    NodeHeartbeat.STARTING: "starting",
    NodeHeartbeat.READY: "ready",
    NodeHeartbeat.BUSY: "busy",
    NodeHeartbeat.ERROR: "in error",
}


@dataclass
class _Peer:
    """One process that sends heartbeats."""

    role: str
    session: str
    first: float  # s of the steady clock
    seen: float
    state: int = NodeHeartbeat.STARTING
    message: str = ""

    @property
    def name(self) -> str:
        return f"{self.role} {self.session[:8]}"


class EpisodeSupervisor(Node):
    """The one authority on episodes. It never waits in a callback."""

    def __init__(self) -> None:
        super().__init__("episode_supervisor")
        task = get_task(declare(self, "task", str, "Task, by name."))
        run_dir = Path(declare(self, "run_dir", str, "Run directory; made when missing."))
        max_steps = declare(
            self,
            "max_steps",
            0,
            "Time limit of an episode, steps; 0: the task's own.",
            range=(0, 1_000_000),
        )
        base_seed = declare(
            self,
            "seed",
            0,
            "Start of the series of seeds: episode n has seed + n.",
            range=(0, 2**62),
        )
        self._timeout = declare(
            self,
            "heartbeat_timeout",
            2.0,
            "Silence after which a node counts as lost, s of wall time.",
            range=(0.3, 600.0),
        )
        self._reset_timeout = declare(
            self,
            "reset_timeout",
            30.0,
            "Longest time for a reset of the robot, s of wall time.",
            range=(0.1, 3600.0),
        )
        self._max_updates_owed = declare(
            self,
            "max_updates_owed",
            0,
            "No new episode while the learner owes more updates than this; 0: no such limit.",
            range=(0, 2**62),
        )
        self._task = task
        run_dir.mkdir(parents=True, exist_ok=True)
        self._claim = claim_role(run_dir, "supervisor")
        self._file = run_dir.absolute() / "supervisor.json"
        self._machine = self._restored(
            max_steps or task.max_steps, base_seed, EpisodeStore(run_dir).next_id() - 1
        )
        self._recent: deque[bool] = deque(maxlen=RECENT_EPISODES)  # newest ones: success
        self._peers: dict[str, _Peer] = {}  # by session
        self._labeler = ""  # session of the active one
        self._members: dict[str, str] = {}  # role -> session, of the episode under way
        self._learner: LearnerStatus | None = None
        self._learner_alive = False
        self._reset: tuple[Future, float] | None = None  # and its deadline
        self._grace: float | None = None  # when the pending outcome counts
        self._safety_stamp = 0
        self._unsaved = False
        self._refusal = ""
        self._checked = time.monotonic()

        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._heartbeat = Heartbeat(self, "supervisor")
        self._publisher = self.create_publisher(EpisodeState, "episode_state", qos.LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
        self.create_subscription(NodeHeartbeat, "heartbeat", self._on_heartbeat, qos.HEARTBEAT)
        self.create_subscription(ExecutedAction, "executed_action", self._on_executed, qos.EVENT)
        self.create_subscription(SafetyStatus, "safety_status", self._on_safety, qos.EVENT)
        self.create_subscription(LearnerStatus, "learner_status", self._on_learner, qos.LATCHED)
        self._reset_robot = self.create_client(ResetRobot, "reset_robot")
        self.create_service(StartEpisode, "start_episode", self._on_start)
        self.create_service(LabelEpisode, "label_episode", self._on_label)
        self.create_service(PauseEpisode, "pause_episode", self._on_pause)
        self._jump = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False
            ),
            post_callback=self._on_jump,
        )
        self.create_timer(PERIOD, self._check, clock=steady)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)
        machine = self._machine
        if machine.reason:
            self.get_logger().warning(machine.reason + ": it counts as aborted")
        self.get_logger().info(
            f"task {task.name}: {machine.max_steps} steps an episode; next is episode "
            f"{machine.episode_id + 1} ({machine.succeeded}/{machine.finished} succeeded so far)"
        )
        self._save(machine)
        self._publish()
        self._heartbeat.set(NodeHeartbeat.READY)

    def close(self) -> None:
        """End the episode under way, so that nobody takes it for a running one."""
        if self._machine.under_way:
            self._abort("the supervisor ended")
        self._claim.close()

    # -- persistence ------------------------------------------------------------------------------

    def _restored(self, max_steps: int, base_seed: int, last_used_id: int) -> EpisodeMachine:
        try:
            saved = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            saved = None
        except ValueError as error:
            raise ValueError(f"{self._file}: expected JSON, found {error}") from error
        try:
            return EpisodeMachine(max_steps, base_seed, saved, last_used_id)
        except ValueError as error:
            raise ValueError(f"{self._file}: {error}") from error

    def _save(self, machine: EpisodeMachine) -> None:
        """Raises OSError."""
        write_atomically(self._file, (json.dumps(machine.save()) + "\n").encode())
        self._unsaved = False

    def _save_or_say(self) -> None:
        try:
            self._save(self._machine)
        except OSError as error:
            if not self._unsaved:
                self.get_logger().error(f"{error}; trying again")
            self._unsaved = True

    # -- what others say --------------------------------------------------------------------------

    def _on_heartbeat(self, message: NodeHeartbeat) -> None:
        session, role = message.session_id, message.role
        if session not in self._peers:
            self._peers[session] = _Peer(role, session, time.monotonic(), 0.0)
            if role == "learner" and not self._learner_alive:
                self._learner_alive = True
                self.get_logger().info("learner is there")
        peer = self._peers[session]
        peer.seen, peer.state, peer.message = time.monotonic(), message.state, message.message
        member = self._members.get(role, session)
        if role != "labeler" and member != session and self._machine.under_way:
            self._abort(
                f"{role}: expected session {member[:8]}, found {session[:8]}: it was restarted"
            )

    def _on_executed(self, message: ExecutedAction) -> None:
        fault = (message.reason or "fault without a reason") if message.fault else ""
        stamp = conversions.stamp_to_ns(message.header.stamp)
        self._try(self._machine.executed, message.episode_id, message.step, stamp, fault)

    def _on_safety(self, message: SafetyStatus) -> None:
        machine = self._machine
        if message.episode_id != machine.episode_id or not machine.under_way:
            return
        stamp = conversions.stamp_to_ns(message.header.stamp)
        if stamp < self._safety_stamp:
            self._abort(
                "clock jumped back: safety_status: expected a stamp after "
                f"{self._safety_stamp} ns, found {stamp} ns"
            )
            return
        self._safety_stamp = stamp
        # With the driver the wrenches fall silent as well. Whether it is lost is then told first,
        # by its heartbeat: that is no failure of the policy's. A stop that stands is repeated.
        if not message.motion_allowed and not self._driver_in_doubt():
            self._try(machine.safety_stop, message.episode_id, stamp, message.reason)

    def _on_learner(self, message: LearnerStatus) -> None:
        self._learner = message

    def _on_jump(self, jump: TimeJump) -> None:
        text = f"clock jumped back by {-jump.delta.nanoseconds / 1e9:.3f} s"
        if self._machine.under_way:
            self._abort(text)
        else:
            self.get_logger().warning(text)

    # -- services ---------------------------------------------------------------------------------

    def _on_start(self, request: Any, response: Any) -> Any:
        try:
            self._require_labeler(request.labeler_id)
            machine = copy.copy(self._machine)
            machine.start(request.seed if request.use_seed else None)
            members = self._ready_members()
            # The id is taken on disk before anyone can use it.
            self._save(machine)
        except (Refused, OSError) as refused:
            response.message = str(refused)
            if response.message != self._refusal:
                self._refusal = response.message
                self.get_logger().info(f"no new episode: {refused}")
            return response
        self._machine = machine
        self._refusal = ""
        self._members = members | {"labeler": request.labeler_id}
        self._safety_stamp = 0
        self._grace = None
        self.get_logger().info(f"episode {machine.episode_id}: resetting, seed {machine.seed}")
        self._publish()
        future = self._reset_robot.call_async(
            ResetRobot.Request(episode_id=machine.episode_id, seed=machine.seed)
        )
        self._reset = (future, time.monotonic() + self._reset_timeout)
        episode_id = machine.episode_id
        future.add_done_callback(lambda done: self._on_reset(episode_id, done))
        response.accepted, response.episode_id = True, episode_id
        return response

    def _on_reset(self, episode_id: int, future: Future) -> None:
        if self._reset is None or future is not self._reset[0]:
            return
        self._reset = None
        answer = future.result()
        if answer.success:
            stamp = conversions.stamp_to_ns(answer.start_stamp)
            self._try(self._machine.reset_done, episode_id, stamp)
        else:
            self._try(self._machine.reset_failed, episode_id, answer.message)

    def _on_label(self, request: Any, response: Any) -> Any:
        step = None if request.step == NOW else request.step
        return self._answer(
            request, response, self._machine.label, request.episode_id, request.label, step
        )

    def _on_pause(self, request: Any, response: Any) -> Any:
        event = self._machine.pause if request.pause else self._machine.resume
        return self._answer(request, response, event)

    def _answer(self, request: Any, response: Any, event: Any, *arguments: Any) -> Any:
        try:
            self._require_labeler(request.labeler_id)
            self._apply(event, *arguments)
            response.accepted = True
        except Refused as refused:
            response.message = str(refused)
        return response

    def _require_labeler(self, session: str) -> None:
        """Refused unless `session` is the active labeler, or may become it."""
        if session == self._labeler and self._alive(session):
            return
        if self._alive(self._labeler):
            raise Refused(
                f"labeler {session[:8]}: expected the active labeler {self._labeler[:8]}, "
                "which is still there"
            )
        peer = self._peers.get(session)
        if peer is None or peer.role != "labeler" or not self._alive(session):
            raise Refused(f"labeler {session[:8]}: expected its heartbeat, found none")
        self._labeler = session
        self.get_logger().info(f"labeler {session[:8]} is the active one")

    def _ready_members(self) -> dict[str, str]:
        """The one session of each needed role; Refused when one is not ready."""
        members = {}
        for role in NEEDED:
            peers = [p for p in self._peers.values() if p.role == role and self._alive(p.session)]
            if not peers:
                raise Refused(f"{role}: expected its heartbeat, found none")
            if len(peers) > 1:
                raise Refused(f"{role}: expected one, found {', '.join(p.name for p in peers)}")
            members[role] = peers[0].session
        for session in (*members.values(), self._labeler):
            peer = self._peers[session]
            if peer.state != NodeHeartbeat.READY:
                text = f"{peer.role} is {STATES.get(peer.state, peer.state)}"
                raise Refused(text + (f": {peer.message}" if peer.message else ""))
            if time.monotonic() - peer.first < DISCOVERY:
                raise Refused(f"{peer.role} has only just come up")
        if not self._reset_robot.service_is_ready():
            raise Refused("reset_robot: expected the driver's service, found none")
        status = self._learner
        if (
            self._max_updates_owed
            and self._learner_alive
            and status is not None
            and status.updates_owed > self._max_updates_owed
        ):
            raise Refused(f"learner owes {status.updates_owed} updates")
        return members

    # -- time -------------------------------------------------------------------------------------

    def _alive(self, session: str) -> bool:
        peer = self._peers.get(session)
        return peer is not None and time.monotonic() - peer.seen <= self._timeout

    def _driver_in_doubt(self) -> bool:
        peer = self._peers.get(self._members.get("driver", ""))
        return peer is None or time.monotonic() - peer.seen > DOUBT

    def _check(self) -> None:
        now = time.monotonic()
        # After a stall of this process the heartbeats sent meanwhile are still to be taken in.
        stalled = now - self._checked > self._timeout / 2
        self._checked = now
        if stalled:
            return
        if self._machine.under_way:
            for role, session in self._members.items():
                if not self._alive(session):
                    silence = now - self._peers[session].seen
                    self._abort(f"{role}: expected a heartbeat, found none for {silence:.1f} s")
                    break
        if self._reset is not None and now > self._reset[1]:
            self._cancel_reset()
            self._try(
                self._machine.reset_failed,
                self._machine.episode_id,
                f"expected an answer within {self._reset_timeout:g} s, found none",
            )
        if self._grace is not None and now >= self._grace:
            self._try(self._machine.grace_elapsed)
        for session in [s for s in self._peers if not self._alive(s)]:
            peer = self._peers.pop(session)
            alive = any(p.role == peer.role for p in self._peers.values())
            if peer.role == "learner" and not alive:
                self._learner_alive = False
                self.get_logger().warning("learner is lost: collection goes on without it")

    def _cancel_reset(self) -> None:
        if self._reset is not None:
            future, _ = self._reset
            self._reset = None
            self._reset_robot.remove_pending_request(future)

    # -- consequences -----------------------------------------------------------------------------

    def _abort(self, reason: str) -> None:
        self._try(self._machine.abort, reason)

    def _try(self, event: Any, *arguments: Any) -> None:
        """An event that nobody waits for an answer to."""
        try:
            self._apply(event, *arguments)
        except Refused as refused:
            self.get_logger().debug(str(refused))

    def _apply(self, event: Any, *arguments: Any) -> None:
        """Feed the machine, and tell everyone when its state is another one. Raises Refused."""
        machine = self._machine
        before, pending = machine.state, machine.pending
        event(*arguments)
        if machine.pending is not pending:
            self._grace = None
            if machine.pending is not Outcome.NONE:
                self._grace = time.monotonic() + GRACE[machine.pending]
        if machine.state is before:
            return
        if machine.state is State.FINISHED and machine.outcome is not Outcome.ABORTED:
            self._recent.append(machine.outcome is Outcome.SUCCESS)
        # First the robot, then the books.
        self._publish()
        text = f"episode {machine.episode_id}: "
        if machine.state is not State.FINISHED:
            self.get_logger().info(text + machine.state.name.lower())
            return
        self._cancel_reset()
        outcome = machine.outcome.name.lower().replace("_", " ")
        text += f"{outcome} after {machine.end_step} steps"
        text += f" ({machine.succeeded}/{machine.finished} succeeded)"
        text += f": {machine.reason}" if machine.reason else ""
        log = self.get_logger()
        if machine.outcome in (Outcome.SAFETY_STOP, Outcome.ABORTED):
            log.warning(text)
        else:
            log.info(text)
        self._save_or_say()

    def _publish(self) -> None:
        machine = self._machine
        message = EpisodeState(
            task=self._task.name,
            state=int(machine.state),
            episode_id=machine.episode_id,
            seed=machine.seed,
            max_steps=machine.max_steps,
            start_stamp=conversions.ns_to_stamp(machine.start_stamp),
            outcome=int(machine.outcome),
            reward=machine.reward,
            done=machine.done,
            end_step=machine.end_step,
            reason=machine.reason,
            episodes_finished=machine.finished,
            episodes_succeeded=machine.succeeded,
            episodes_aborted=machine.aborted,
            recent_success_rate=sum(self._recent) / len(self._recent) if self._recent else math.nan,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _publish_diagnostics(self) -> None:
        if self._unsaved:
            self._save_or_say()
        machine = self._machine
        now = time.monotonic()
        values: dict[str, object] = {
            "episode": machine.episode_id,
            "state": machine.state.name,
            "step": machine.steps,
            "finished": machine.finished,
            "succeeded": machine.succeeded,
            "aborted": machine.aborted,
            "active labeler": self._labeler[:8],
        }
        values |= {
            peer.name: f"{STATES.get(peer.state, peer.state)}, {now - peer.seen:.1f} s ago"
            for peer in self._peers.values()
        }
        roles = {peer.role for peer in self._peers.values()}
        missing = [role for role in (*NEEDED, "labeler", "learner") if role not in roles]
        self._diagnostics.publish(
            conversions.diagnostics(
                self.get_clock().now().to_msg(),
                self.get_fully_qualified_name(),
                DiagnosticStatus.WARN if missing or self._unsaved else DiagnosticStatus.OK,
                f"no {', '.join(missing)}" if missing else machine.state.name,
                values,
            )
        )


def main() -> int:
    return run_node(EpisodeSupervisor)
