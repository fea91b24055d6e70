"""What happens to an episode: states, outcomes and counters; no ROS and no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

FORMAT = "resfit-supervisor/1"
# A label may overtake the reports of executed steps it builds on, at most as many as one
# subscription keeps.
LABEL_LEAD = 20


class State(IntEnum):
    """As in EpisodeState.msg."""

    IDLE = 0
    RESETTING = 1
    RUNNING = 2
    PAUSED = 3
    FINISHED = 4


class Outcome(IntEnum):
    """As in EpisodeState.msg."""

    NONE = 0
    SUCCESS = 1
    FAILURE = 2
    SAFETY_STOP = 3
    TIMEOUT = 4
    ABORTED = 5


REWARD = dict.fromkeys(Outcome, 0.0) | {Outcome.SUCCESS: 1.0}
# After a time limit returns bootstrap: not done.
DONE = dict.fromkeys(Outcome, False) | dict.fromkeys(
    (Outcome.SUCCESS, Outcome.FAILURE, Outcome.SAFETY_STOP), True
)
LABELS = (Outcome.SUCCESS, Outcome.FAILURE, Outcome.ABORTED)
UNDER_WAY = (State.RESETTING, State.RUNNING, State.PAUSED)


class Refused(Exception):
    """An event that is not possible now; the text says why. Nothing has changed."""


@dataclass(frozen=True)
class _Pending:
    outcome: Outcome
    stamp: int
    reason: str


class EpisodeMachine:
    """The episodes of a run directory, one after another.

    Each method is an event. It raises Refused, and changes nothing, where the event is not
    possible. An episode ends with exactly one outcome.

    Args:
        max_steps: time limit, steps.
        base_seed: the seed of episode n is base_seed + n unless one is given.
        saved: what `save` returned in a former process, or None.
        last_used_id: largest episode id found in the store; ids continue past it.

    Attributes:
        state, outcome, reason: as in EpisodeState.
        episode_id: of the newest episode, 0 before the first.
        seed: of its start state.
        start_stamp: of observation 0, ns.
        steps: executed steps of it.
        end_step: number of its transitions, once it has ended.
        finished, succeeded, aborted: counters over the run directory's life.

    Raises:
        ValueError: max_steps < 1, or `saved` is not what `save` returns.
    """

    def __init__(
        self,
        max_steps: int,
        base_seed: int = 0,
        saved: Mapping[str, Any] | None = None,
        last_used_id: int = 0,
    ) -> None:
        if max_steps < 1:
            raise ValueError(f"max_steps: expected >= 1, found {max_steps}")
        self.max_steps = max_steps
        self.base_seed = base_seed
        self.state = State.IDLE
        self.outcome = Outcome.NONE
        self.reason = ""
        self.episode_id = self.finished = self.succeeded = self.aborted = 0
        self.seed = self.start_stamp = self.steps = self.end_step = 0
        self._stamp = 0  # of the newest observation known
        self._pending: _Pending | None = None
        if saved is not None:
            self._load(saved)
        self.episode_id = max(self.episode_id, last_used_id)

    def save(self) -> dict[str, Any]:
        """JSON-ready; all that must survive the process."""
        return {
            "format": FORMAT,
            "episode_id": self.episode_id,
            "under_way": self.under_way,
            "finished": self.finished,
            "succeeded": self.succeeded,
            "aborted": self.aborted,
        }

    def _load(self, saved: Mapping[str, Any]) -> None:
        if not isinstance(saved, Mapping) or saved.get("format") != FORMAT:
            raise ValueError(f"expected format {FORMAT}, found {saved!r}")
        for name in ("episode_id", "finished", "succeeded", "aborted"):
            value = saved.get(name)
            if type(value) is not int or value < 0:
                raise ValueError(f"{name}: expected a whole number >= 0, found {value!r}")
            setattr(self, name, value)
        if saved.get("under_way"):
            self.aborted += 1
            self.reason = f"episode {self.episode_id} was under way when the supervisor ended"

    @property
    def under_way(self) -> bool:
        return self.state in UNDER_WAY

    @property
    def reward(self) -> float:
        return REWARD[self.outcome]

    @property
    def done(self) -> bool:
        return DONE[self.outcome]

    @property
    def pending(self) -> Outcome:
        """The outcome that follows unless something comes before `grace_elapsed`; or NONE."""
        return self._pending.outcome if self._pending else Outcome.NONE

    # -- events -----------------------------------------------------------------------------------

    def start(self, seed: int | None = None) -> int:
        """A new episode is wanted: the robot must be reset. Returns its id."""
        if self.under_way:
            raise Refused(f"episode {self.episode_id} is {self.state.name}")
        self.episode_id += 1
        self.seed = self.base_seed + self.episode_id if seed is None else seed
        self.state, self.outcome, self.reason = State.RESETTING, Outcome.NONE, ""
        self.start_stamp = self.steps = self.end_step = self._stamp = 0
        return self.episode_id

    def reset_done(self, episode_id: int, start_stamp: int) -> None:
        """The robot is at observation 0, of `start_stamp`, ns."""
        self._require(episode_id, State.RESETTING)
        self.state, self.start_stamp, self._stamp = State.RUNNING, start_stamp, start_stamp

    def reset_failed(self, episode_id: int, reason: str) -> None:
        """The robot could not be reset: aborted."""
        self._require(episode_id, State.RESETTING)
        self._finish(Outcome.ABORTED, 0, f"reset_robot: {reason}")

    def pause(self) -> None:
        self._require(self.episode_id, State.RUNNING)
        self.state = State.PAUSED

    def resume(self) -> None:
        self._require(self.episode_id, State.PAUSED)
        self.state = State.RUNNING

    def label(self, episode_id: int, label: int, step: int | None) -> None:
        """A labeler says how the episode ended.

        Args:
            label: Outcome.SUCCESS, FAILURE or ABORTED.
            step: index of the observation judged; None: the newest.
        """
        if label not in LABELS:
            raise Refused(f"label: expected one of {[int(x) for x in LABELS]}, found {label}")
        if label == Outcome.ABORTED:
            self._require(episode_id, *UNDER_WAY)
            self._finish(Outcome.ABORTED, self.steps, "aborted by the labeler")
            return
        self._require(episode_id, State.RUNNING, State.PAUSED)
        if self.pending is Outcome.SAFETY_STOP:
            raise Refused(f"episode {episode_id} ends with a safety stop")
        highest = min(self.max_steps, self.steps + LABEL_LEAD)
        end_step = self.steps if step is None else step
        if not 1 <= end_step <= highest:
            raise Refused(
                f"label of episode {episode_id}: expected a step in [1, {highest}], "
                f"found {end_step}"
            )
        self._finish(Outcome(label), end_step, "")

    def executed(self, episode_id: int, step: int, stamp: int, fault: str) -> None:
        """The driver executed `step`, which led to the observation of `stamp`, ns.

        Args:
            fault: why the gate refused the request; empty when it did not.
        """
        self._require(episode_id, State.RUNNING, State.PAUSED)
        if stamp < self._stamp:
            self.abort(
                "clock jumped back: executed_action: expected a stamp after "
                f"{self._stamp} ns, found {stamp} ns"
            )
            return
        if not self.steps <= step < self.max_steps:
            raise Refused(
                f"executed_action of episode {episode_id}: expected a step in "
                f"[{self.steps}, {self.max_steps}), found {step}"
            )
        self.steps, self._stamp = step + 1, stamp
        if fault:
            self._finish(Outcome.SAFETY_STOP, self.steps, fault)
        elif self._pending is not None:
            if stamp >= self._pending.stamp:
                self.grace_elapsed()
        elif self.steps == self.max_steps:
            self._pending = _Pending(Outcome.TIMEOUT, stamp, "")

    def safety_stop(self, episode_id: int, stamp: int, reason: str) -> None:
        """The safety monitor forbids motion.

        Args:
            stamp: of the wrench judged, ns. When it is of a later observation than the newest
                one known, the report of the step before it is still under way and waited for.
        """
        self._require(episode_id, State.RUNNING, State.PAUSED)
        if self.pending is Outcome.SAFETY_STOP:
            raise Refused(f"episode {episode_id} ends with a safety stop already")
        self._pending = _Pending(Outcome.SAFETY_STOP, stamp, reason)
        if stamp <= self._stamp or self.steps == self.max_steps:
            self.grace_elapsed()

    def grace_elapsed(self) -> None:
        """Nothing came before the pending outcome."""
        if self._pending is None:
            raise Refused("no outcome is pending")
        pending = self._pending
        self._finish(pending.outcome, self.steps, pending.reason)

    def abort(self, reason: str) -> None:
        """A needed node is lost, or the clock jumped back."""
        self._require(self.episode_id, *UNDER_WAY)
        self._finish(Outcome.ABORTED, self.steps, reason)

    def _require(self, episode_id: int, *states: State) -> None:
        if episode_id != self.episode_id:
            raise Refused(f"expected episode {self.episode_id}, found {episode_id}")
        if self.state not in states:
            raise Refused(
                f"episode {episode_id}: expected {' or '.join(s.name for s in states)}, "
                f"found {self.state.name}"
            )

    def _finish(self, outcome: Outcome, end_step: int, reason: str) -> None:
        if outcome is not Outcome.ABORTED and end_step == 0:
            # Without a transition it is not data.
            outcome, reason = Outcome.ABORTED, f"before the first step: {reason}"
        self.state, self.outcome, self.reason = State.FINISHED, outcome, reason
        self.end_step, self._pending = end_step, None
        if outcome is Outcome.ABORTED:
            self.aborted += 1
        else:
            self.finished += 1
            self.succeeded += outcome is Outcome.SUCCESS
