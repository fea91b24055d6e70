"""The one gate through which every action passes on its way to a robot.

A driver holds one ActionGate and never applies anything but the action of its verdicts:

    gate = ActionGate(GateConfig.of_task(task), start_action, collision_checker)
    ...
    gate.reset(start_action)                      # after each reset of the robot
    verdict = gate.judge(command, situation)      # as often as wanted: it changes nothing
    if verdict.final or at_deadline:              # in lockstep there is no deadline: wait on
        verdict = gate.commit(verdict)            # once a step, as its action is applied
        robot.step(verdict.action)                # report verdict.held, .fault, .reason

The way to a start position between episodes goes by `judge_reset` and `commit`, command by command.

In order: finite values, shape, the episode and observation it is for, position limits, change
against the last action; of absolute joint positions also velocity, acceleration, step against the
measured position, and collisions on the way from the last command and from the measured position;
then the measured joints, the wrench, the age of the verdict on it, heartbeats. The first that fails
is named.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resfit_safety.motion_limits import TOLERANCE, MotionLimits

Kind = Literal["apply", "late", "hold", "fault"]


class _ActionSpace(Protocol):
    """What the gate reads of a resfit_rl.tasks.Task."""

    action_names: tuple[str, ...]
    action_lower: tuple[float, ...]
    action_upper: tuple[float, ...]
    action_change: tuple[float, ...]
    hold_template: tuple[float, ...]


class CollisionChecker(Protocol):
    """Knows what absolute positions of its joints, in the order of an action, would hit."""

    joints: tuple[str, ...]

    def violation(self, start: ArrayLike, end: ArrayLike) -> str:
        """What is too near on the straight way between two positions (A,); empty for nothing."""
        ...


@dataclass(frozen=True)
class GateConfig:
    """Limits the gate enforces; A is the number of action dimensions.

    Attributes:
        action_names: one per dimension.
        action_lower, action_upper: robot units.
        action_change: largest change of a dimension against the last applied action.
        hold_template: the action that holds position; NaN means 'as last applied'.
        joint_limits: joint -> (lowest, highest) measured position, rad or m.
        max_safety_age: s since the newest safety verdict arrived, for a robot in real time. None,
            for lockstep: the verdict must be on the newest observation or a later one instead.
        needed_roles: nodes whose heartbeat must be fresh.
        max_heartbeat_age: s.
        max_held_steps: held steps in a row that are no fault yet; None: any number.
        motion_limits: of actions that are absolute joint positions; None: of no others.

    Raises:
        ValueError: lengths that differ, a limit that is not finite, lower >= upper, a negative
            change or age.
    """

    action_names: tuple[str, ...]
    action_lower: tuple[float, ...]
    action_upper: tuple[float, ...]
    action_change: tuple[float, ...]
    hold_template: tuple[float, ...]
    joint_limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    max_safety_age: float | None = None
    needed_roles: tuple[str, ...] = ()
    max_heartbeat_age: float = 2.0
    max_held_steps: int | None = None
    motion_limits: MotionLimits | None = None

    @classmethod
    def of_task(
        cls,
        task: _ActionSpace,
        *,
        joint_limits: Mapping[str, tuple[float, float]] | None = None,
        max_safety_age: float | None = None,
        needed_roles: Sequence[str] = (),
        max_heartbeat_age: float = 2.0,
        max_held_steps: int | None = None,
        motion_limits: MotionLimits | None = None,
    ) -> GateConfig:
        """The limits of `task`, and those of the robot and the mode it runs in."""
        return cls(
            task.action_names,
            task.action_lower,
            task.action_upper,
            task.action_change,
            task.hold_template,
            dict(joint_limits or {}),
            max_safety_age,
            tuple(needed_roles),
            max_heartbeat_age,
            max_held_steps,
            motion_limits,
        )

    def __post_init__(self) -> None:
        size = len(self.action_names)
        for name in ("action_lower", "action_upper", "action_change", "hold_template"):
            values = getattr(self, name)
            if len(values) != size:
                raise ValueError(f"gate: {name}: expected {size} values, found {len(values)}")
            if name != "hold_template" and not np.isfinite(values).all():
                raise ValueError(f"gate: {name}: expected finite values, found {list(values)}")
        for dimension, lower, upper, change in zip(
            self.action_names,
            self.action_lower,
            self.action_upper,
            self.action_change,
            strict=True,
        ):
            if not lower < upper:
                raise ValueError(
                    f"gate: action {dimension}: expected lower < upper, found {lower} and {upper}"
                )
            if change < 0:
                raise ValueError(
                    f"gate: action_change of {dimension}: expected >= 0, found {change}"
                )
        for dimension, value, lower, upper in zip(
            self.action_names,
            self.hold_template,
            self.action_lower,
            self.action_upper,
            strict=True,
        ):
            if not (np.isnan(value) or lower <= value <= upper):
                raise ValueError(
                    f"gate: hold_template of {dimension}: expected NaN or a value in "
                    f"[{lower:g}, {upper:g}], found {value}"
                )
        for joint, (lower, upper) in self.joint_limits.items():
            if not lower < upper:  # Also false with NaN.
                raise ValueError(
                    f"gate: joint {joint}: expected lower < upper, found {lower} and {upper}"
                )
        for name in ("max_safety_age", "max_heartbeat_age", "max_held_steps"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"gate: {name}: expected >= 0, found {value}")
        if self.motion_limits is not None and len(self.motion_limits.joints) != size:
            raise ValueError(
                f"gate: motion_limits: expected {size} joints, "
                f"found {len(self.motion_limits.joints)}"
            )


@dataclass(frozen=True, eq=False)
class Command:
    """A requested action.

    Attributes:
        episode_id: it is meant for.
        step: index of the observation acted on.
        stamp: of that observation, ns.
        action: (A,), robot units.
    """

    episode_id: int
    step: int
    stamp: int
    action: ArrayLike


@dataclass(frozen=True)
class SafetyVerdict:
    """The newest judgement of the safety monitor.

    Attributes:
        episode_id: the episode it knew to be running, 0 for none.
        stamp: of the oldest wrench it judged, ns.
        motion_allowed: False: hold.
        reason: why not.
        received: s of the driver's steady clock.
    """

    episode_id: int
    stamp: int
    motion_allowed: bool
    reason: str
    received: float


@dataclass(frozen=True)
class Situation:
    """What the driver knows at this moment.

    Attributes:
        now: s of the driver's steady clock.
        episode_id: the episode that is RUNNING; 0 when none is (a paused one is not).
        step: index of the newest observation in it.
        stamp: of the newest observation, ns.
        safety: the newest verdict; None before the first.
        joint_positions: measured, by joint, rad or m; more than needed is fine. Motion limits and
            a collision checker need those of all their joints.
        self_collisions: what touches what, as the robot reports it, one text per contact.
        heartbeat_ages: role -> s since its last heartbeat; a role never heard is left out.
        policy_error: what the policy says keeps it from commands; empty for nothing.
        emergency_stop: who engaged it; empty when it is released.
    """

    now: float
    episode_id: int
    step: int
    stamp: int
    safety: SafetyVerdict | None
    joint_positions: Mapping[str, float] = field(default_factory=dict)
    self_collisions: Collection[str] = ()
    heartbeat_ages: Mapping[str, float] = field(default_factory=dict)
    policy_error: str = ""
    emergency_stop: str = ""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What must happen.

    Attributes:
        kind: 'apply': the request passed; 'late': it was for an older observation and must be
            forgotten; 'hold': something is still missing; 'fault': the request, the robot or the
            wrench is out of bounds and the episode must end.
        action: (A,) float32, robot units: the action to apply, in every case. For all kinds but
            'apply' it is the one that holds position.
        reason: names the thing, the expected and the found; empty for 'apply'.
    """

    kind: Kind
    action: NDArray[np.float32]
    reason: str = ""

    @property
    def final(self) -> bool:
        """Whether waiting cannot better it: apply or fault."""
        return self.kind in ("apply", "fault")

    @property
    def held(self) -> bool:
        return self.kind != "apply"

    @property
    def fault(self) -> bool:
        return self.kind == "fault"


class ActionGate:
    """Judges each requested action against limits, robot, safety verdict and heartbeats.

    Args:
        start_action: (A,), robot units: stands for the last applied action until there is one.
        collision_checker: for actions that are absolute joint positions; None: nothing is checked.

    Raises:
        ValueError: start_action is not A finite values within the limits; a checker of another
            number of joints.
    """

    def __init__(
        self,
        config: GateConfig,
        start_action: ArrayLike,
        collision_checker: CollisionChecker | None = None,
    ) -> None:
        self.config = config
        self._checker = collision_checker
        if collision_checker is not None and len(collision_checker.joints) != len(
            config.action_names
        ):
            raise ValueError(
                f"gate: collision checker: expected {len(config.action_names)} joints, "
                f"found {len(collision_checker.joints)}"
            )
        self._lower = np.array(config.action_lower, np.float64)
        self._upper = np.array(config.action_upper, np.float64)
        self._change = np.array(config.action_change, np.float64)
        self._template = np.array(config.hold_template, np.float64)
        self.reset(start_action)

    def reset(self, start_action: ArrayLike) -> None:
        """The robot was reset: forget the last applied action. Raises as the constructor."""
        action = np.asarray(start_action, np.float64)
        problem = self._malformed(action) or self._outside(action)
        if problem:
            raise ValueError(f"gate: start {problem}")
        self._last = self._before_last = action
        self._held_in_row = 0

    @property
    def last_action(self) -> NDArray[np.float32]:
        """(A,) float32: as last applied, or the start action."""
        return self._last.astype(np.float32)

    @property
    def hold_action(self) -> NDArray[np.float32]:
        """(A,) float32: the action that holds position now."""
        return np.where(np.isnan(self._template), self._last, self._template).astype(np.float32)

    def judge(self, command: Command | None, situation: Situation) -> Verdict:
        """The verdict on `command` (None: there is none) in this situation; nothing is recorded."""
        if situation.episode_id == 0:
            return self._hold("no episode is running")
        if problem := self._emergency(situation):
            return self._fault(problem)
        kind: Kind = "hold"
        waiting = f"no command for step {situation.step} yet"
        if situation.policy_error:
            waiting += f": policy: {situation.policy_error}"
        if command is not None:
            action = np.asarray(command.action, np.float64)
            if problem := self._malformed(action):
                return self._fault(problem)
            kind, waiting = self._mismatch(command, situation)
            if not waiting and (problem := self._refused(action, situation)):
                return self._fault(problem)
        if problem := self._robot(situation) or self._stopped(situation):
            return self._fault(problem)
        if waiting:
            return Verdict(kind, self.hold_action, waiting)
        if waiting := self._unsafe(situation) or self._silent(situation):
            return self._hold(waiting)
        return self._apply(action)

    def judge_reset(self, action: ArrayLike, situation: Situation) -> Verdict:
        """The verdict on one command of a way between episodes: apply or fault.

        Nothing is waited for: what would let a step of an episode wait ends the way. The safety
        monitor's newest verdict counts, whichever episode it is for. Nothing is recorded.

        Args:
            action: (A,), robot units.
            situation: its episode, step and stamp do not matter.
        """
        requested = np.asarray(action, np.float64)
        problem = (
            self._emergency(situation)
            or self._malformed(requested)
            or self._refused(requested, situation)
            or self._robot(situation)
            or self._disallowed(situation)
            or self._silent(situation)
        )
        return self._fault(problem) if problem else self._apply(requested)

    def commit(self, verdict: Verdict) -> Verdict:
        """Record that the verdict's action is applied now.

        Returns:
            The verdict to report: the same, or a fault once more than max_held_steps steps of an
            episode in a row were held.
        """
        self._before_last = self._last
        self._last = verdict.action.astype(np.float64)
        self._held_in_row = self._held_in_row + 1 if verdict.held else 0
        limit = self.config.max_held_steps
        if verdict.held and not verdict.fault and limit is not None and self._held_in_row > limit:
            return replace(
                verdict,
                kind="fault",
                reason=f"held steps in a row: expected at most {limit}, found "
                f"{self._held_in_row}; last: {verdict.reason}",
            )
        return verdict

    def _apply(self, action: NDArray[np.float64]) -> Verdict:
        return Verdict("apply", np.clip(action, self._lower, self._upper).astype(np.float32))

    def _hold(self, reason: str) -> Verdict:
        return Verdict("hold", self.hold_action, reason)

    def _fault(self, reason: str) -> Verdict:
        return Verdict("fault", self.hold_action, reason)

    # Each of these returns what is wrong, or an empty text.

    def _emergency(self, situation: Situation) -> str:
        return f"emergency stop: {situation.emergency_stop}" if situation.emergency_stop else ""

    def _malformed(self, action: NDArray[np.float64]) -> str:
        expected = self._lower.shape
        bad = np.flatnonzero(~np.isfinite(action))
        if len(bad) and action.shape == expected:
            name = self.config.action_names[bad[0]]
            return f"action {name}: expected a finite value, found {action[bad[0]]}"
        if len(bad):
            return f"action: expected finite values, found {action.tolist()}"
        if action.shape != expected:
            return f"action: expected shape {expected}, found {action.shape}"
        return ""

    def _mismatch(self, command: Command, situation: Situation) -> tuple[Kind, str]:
        if command.episode_id != situation.episode_id:
            return "hold", (
                f"command: expected episode {situation.episode_id}, found {command.episode_id}"
            )
        expected = (situation.step, situation.stamp)
        found = (command.step, command.stamp)
        if found == expected:
            return "hold", ""
        kind: Kind = "late" if found < expected and command.stamp <= situation.stamp else "hold"
        return kind, (
            f"command: expected step {expected[0]}, stamp {expected[1]} ns, "
            f"found step {found[0]}, stamp {found[1]} ns"
        )

    def _refused(self, action: NDArray[np.float64], situation: Situation) -> str:
        return (
            self._outside(action)
            or self._too_fast(action)
            or self._too_sudden(action, situation)
            or self._collides(action, situation)
        )

    def _outside(self, action: NDArray[np.float64]) -> str:
        outside = (action < self._lower - TOLERANCE) | (action > self._upper + TOLERANCE)
        for i in np.flatnonzero(outside):
            return (
                f"action {self.config.action_names[i]}: expected a value in "
                f"[{self._lower[i]:g}, {self._upper[i]:g}], found {action[i]:g}"
            )
        return ""

    def _too_fast(self, action: NDArray[np.float64]) -> str:
        for i in np.flatnonzero(np.abs(action - self._last) > self._change + TOLERANCE):
            return (
                f"action {self.config.action_names[i]}: expected a change of at most "
                f"{self._change[i]:g} from {self._last[i]:g}, found {action[i]:g}"
            )
        return ""

    def _too_sudden(self, action: NDArray[np.float64], situation: Situation) -> str:
        limits = self.config.motion_limits
        if limits is None:
            return ""
        return limits.violation(action, self._last, self._before_last) or limits.step_violation(
            action, situation.joint_positions
        )

    def _collides(self, action: NDArray[np.float64], situation: Situation) -> str:
        checker = self._checker
        if checker is None:
            return ""
        positions = situation.joint_positions
        measured = np.array([positions.get(joint, np.nan) for joint in checker.joints])
        for i in np.flatnonzero(~np.isfinite(measured)):
            return (
                f"joint {checker.joints[i]}: expected a measured position, "
                f"found {positions.get(checker.joints[i])}"
            )
        # Rounding may take an action beyond a limit, where it is clipped to before it is applied.
        target = np.clip(action, self._lower, self._upper)
        problem = checker.violation(self._last, target)
        if not problem and np.abs(measured - self._last).max() > TOLERANCE:
            problem = checker.violation(measured, target)
        return problem

    def _robot(self, situation: Situation) -> str:
        for joint, (lower, upper) in self.config.joint_limits.items():
            position = situation.joint_positions.get(joint)
            if position is None or not lower <= position <= upper:  # Also true with NaN.
                return (
                    f"joint {joint}: expected a measured position in [{lower:g}, {upper:g}], "
                    f"found {position}"
                )
        if situation.self_collisions:
            return f"self-collision: expected none, found {', '.join(situation.self_collisions)}"
        return ""

    def _stopped(self, situation: Situation) -> str:
        safety = situation.safety
        if safety is None or safety.motion_allowed or safety.episode_id != situation.episode_id:
            return ""
        # Fresh or not: a stop stands until the next reset.
        return f"safety: {safety.reason}"

    def _unsafe(self, situation: Situation) -> str:
        safety = situation.safety
        if safety is None:
            return "safety: expected a verdict, found none"
        if safety.episode_id != situation.episode_id:
            # Until the monitor knows of this episode it has not tared for it either.
            return (
                f"safety: expected a verdict in episode {situation.episode_id}, "
                f"found one in {safety.episode_id}"
            )
        if self.config.max_safety_age is None:
            if safety.stamp < situation.stamp:
                return (
                    f"safety: expected a verdict on stamp {situation.stamp} ns or later, "
                    f"found one on {safety.stamp} ns"
                )
            return ""
        return self._old(safety, situation)

    def _disallowed(self, situation: Situation) -> str:
        safety = situation.safety
        if safety is None:
            return "safety: expected a verdict, found none"
        if not safety.motion_allowed:
            return f"safety: {safety.reason}"
        return self._old(safety, situation)

    def _old(self, safety: SafetyVerdict, situation: Situation) -> str:
        limit = self.config.max_safety_age
        if limit is not None and not situation.now - safety.received <= limit:
            return (
                f"safety: expected a verdict of the last {limit:g} s, "
                f"found one {situation.now - safety.received:.3f} s old"
            )
        return ""

    def _silent(self, situation: Situation) -> str:
        for role in self.config.needed_roles:
            age = situation.heartbeat_ages.get(role)
            if age is None:
                return f"heartbeat of {role}: expected one, found none"
            if not age <= self.config.max_heartbeat_age:
                return (
                    f"heartbeat of {role}: expected within {self.config.max_heartbeat_age:g} s, "
                    f"found none for {age:.1f} s"
                )
        return ""
