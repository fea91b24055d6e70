"""What the keyboard labeler shows: a function of its state alone."""

import math
import textwrap
from dataclasses import dataclass, field

from resfit_interfaces.msg import EpisodeState, LearnerStatus, NodeHeartbeat, SafetyStatus
from resfit_teleop_ui.labeler import OUTCOMES

STATES = {
    EpisodeState.IDLE: "IDLE",
    EpisodeState.RESETTING: "RESETTING",
    EpisodeState.RUNNING: "RUNNING",
    EpisodeState.PAUSED: "PAUSED",
    EpisodeState.FINISHED: "FINISHED",
}
KEYS = (
    "space roll out  s success  f failure  p pause/resume  r reset (abort)  "
    "e EMERGENCY STOP  u release it  q quit"
)
DRIVER_STATES = {
    NodeHeartbeat.STARTING: "starting",
    NodeHeartbeat.READY: "ready",
    NodeHeartbeat.BUSY: "holds",
    NodeHeartbeat.ERROR: "in error",
}
DRIVER_TIMEOUT = 2.0  # s without a heartbeat after which the driver's last one is not shown
SAFETY_TIMEOUT = 1.0  # s without a verdict after which the last one is not shown as the present one
BAR = 30  # characters


@dataclass(frozen=True)
class ScreenState:
    """Everything on the screen.

    Attributes:
        supervisor_available: whether its services are there.
        episode, safety, learner: newest message, None before the first.
        driver: its newest heartbeat, `driver_age` s old.
        emergency_stop: whether it is engaged.
        safety_age: s of wall time since `safety` came.
        step: index of the newest observation of the episode.
        control_frequency: Hz.
        outcomes: how often each outcome was seen by this labeler.
        message: what the labeler has to say.
        question: awaits y or n; empty when there is none.
    """

    supervisor_available: bool = False
    episode: EpisodeState | None = None
    safety: SafetyStatus | None = None
    safety_age: float = 0.0
    driver: NodeHeartbeat | None = None
    driver_age: float = 0.0
    emergency_stop: bool = False
    learner: LearnerStatus | None = None
    step: int = 0
    control_frequency: float = 20.0
    outcomes: dict[str, int] = field(default_factory=dict)
    message: str = ""
    question: str = ""


def render(state: ScreenState, width: int) -> list[str]:
    """Lines of at most `width` characters, without control characters."""
    lines = [
        f"resfit labeler{'   ' + state.episode.task if state.episode else ''}",
        "",
        *_episode(state),
        f"robot     {_robot(state)}",
        f"safety    {_safety(state)}",
        f"learner   {_learner(state.learner)}",
        "",
        f"> {state.question or state.message}",
        "",
        KEYS,
    ]
    return [part for line in lines for part in _fit(_printable(line), width)]


def _episode(state: ScreenState) -> list[str]:
    episode = state.episode
    if not state.supervisor_available:
        return ["episode   no episode supervisor", "step      -", *_outcomes(state)]
    if episode is None:
        return ["episode   no state yet", "step      -", *_outcomes(state)]
    title = f"episode   {episode.episode_id}   {STATES.get(episode.state, '?')}"
    step = "step      -"
    if episode.state == EpisodeState.FINISHED:
        title += f": {OUTCOMES.get(episode.outcome, '?')}, reward {episode.reward:g}"
        title += f", {episode.end_step} steps"
    elif episode.state in (EpisodeState.RUNNING, EpisodeState.PAUSED) and episode.max_steps:
        done = min(state.step, episode.max_steps)
        left = (episode.max_steps - done) / state.control_frequency
        bar = "#" * (BAR * done // episode.max_steps)
        step = f"step      {done} / {episode.max_steps}   [{bar:-<{BAR}}]   {left:.1f} s left"
    if episode.reason:
        title += f"   ({episode.reason})"
    return [title, step, *_outcomes(state)]


def _outcomes(state: ScreenState) -> list[str]:
    counts = "   ".join(f"{name} {count}" for name, count in state.outcomes.items())
    lines = [f"outcomes  {counts or 'none yet'}"]
    if state.episode is not None and state.episode.episodes_finished:
        good, all_ = state.episode.episodes_succeeded, state.episode.episodes_finished
        lines.append(f"success   {100 * good / all_:.0f} % ({good} of {all_} since the run began)")
    else:
        lines.append("success   -")
    return lines


def _robot(state: ScreenState) -> str:
    driver = state.driver
    text = "EMERGENCY STOP; " if state.emergency_stop else ""
    if driver is None:
        return text + "no driver yet"
    if state.driver_age > DRIVER_TIMEOUT:
        return text + f"driver SILENT for {state.driver_age:.0f} s"
    text += f"driver {DRIVER_STATES.get(driver.state, '?')}"
    return text + (f": {driver.message}" if driver.message else "")


def _safety(state: ScreenState) -> str:
    safety = state.safety
    if safety is None:
        return "no verdict yet"
    if state.safety_age > SAFETY_TIMEOUT:
        return f"SILENT for {state.safety_age:.0f} s"
    if not safety.motion_allowed:
        return f"STOP: {safety.reason}"
    wrists = (
        f"{wrist} {force:.0f} of {max_force:g} N, {torque:.1f} of {max_torque:g} N m"
        for wrist, force, max_force, torque, max_torque in zip(
            safety.wrist,
            safety.force,
            safety.max_force,
            safety.torque,
            safety.max_torque,
            strict=False,
        )
    )
    return "motion allowed   " + "   ".join(wrists)


def _learner(learner: LearnerStatus | None) -> str:
    if learner is None:
        return "none"
    speed = learner.updates_per_second
    rate = "-" if math.isnan(speed) else f"{speed:.1f}"
    text = (
        f"{learner.phase}   version {learner.policy_version}   "
        f"updates owed {learner.updates_owed}   {learner.episodes} episodes   "
        f"{rate} updates/s"
    )
    return f"{text}   {learner.message}" if learner.message else text


def _fit(line: str, width: int) -> list[str]:
    """A long line goes on below, indented: the end of a reason often says the most."""
    return textwrap.wrap(line, width, subsequent_indent="  ", drop_whitespace=True) or [""]


def _printable(line: str) -> str:
    """Text of other nodes must not steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in line)
