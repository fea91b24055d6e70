"""From the messages of a running graph to episodes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from resfit_rl.episode_store.episode import Episode, FloatArray, Outcome
from resfit_rl.observation import Observation

if TYPE_CHECKING:
    from resfit_rl.tasks import Task

# Observations come before the messages that say which step they belong to: by a few, or by as many
# as wait for a recorder that fell behind.
RECENT_OBSERVATIONS = 100


class IncompleteEpisodeError(Exception):
    """An episode with a hole, which is not data; names episode, step and what is missing."""


@dataclass(frozen=True)
class _Command:
    stamp: int
    base_action: FloatArray
    policy_version: int


@dataclass(frozen=True)
class _Executed:
    action: FloatArray
    held: bool


@dataclass(frozen=True)
class _End:
    outcome: Outcome
    reward: float
    done: bool
    step: int
    deadline: float


@dataclass
class _Trace:
    """What is known of one episode so far; everything by step."""

    seed: int | None = None  # None until it began
    stamps: dict[int, int] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)  # the inverse of stamps
    observations: dict[int, Observation] = field(default_factory=dict)
    commands: dict[int, _Command] = field(default_factory=dict)
    executed: dict[int, _Executed] = field(default_factory=dict)
    end: _End | None = None


class EpisodeAssembler:
    """Puts episodes together from observations, commands and executed actions.

    The messages come on different topics, so in any order. The observation of step 0 is that of the
    start stamp, the one of step k + 1 that of the stamp given with executed action k. When an
    episode has ended, `poll` hands it out as soon as it is complete, at the latest `wait` after.

    Args:
        base_policy: identity of the base policy.
        wait: s, for messages still under way when an episode ends.
        clock: s, steady.
    """

    def __init__(
        self, task: Task, base_policy: str, wait: float, clock: Callable[[], float]
    ) -> None:
        self._task = task
        self._base_policy = base_policy
        self._wait = wait
        self._clock = clock
        self._recent: OrderedDict[int, Observation] = OrderedDict()
        self._traces: dict[int, _Trace] = {}

    @property
    def pending(self) -> bool:
        """Whether an ended episode has not been handed out yet."""
        return any(trace.end for trace in self._traces.values())

    def observation(self, stamp: int, observation: Observation) -> None:
        """Take in one complete observation; `stamp` in ns."""
        self._recent[stamp] = observation
        while len(self._recent) > RECENT_OBSERVATIONS:
            self._recent.popitem(last=False)
        for trace in self._traces.values():
            if stamp in trace.steps:
                trace.observations[trace.steps[stamp]] = observation

    def command(
        self,
        episode_id: int,
        step: int,
        stamp: int,
        base_action: Sequence[float],
        policy_version: int,
    ) -> None:
        """Take in what the policy asked for.

        Args:
            stamp: of the observation acted on, ns.
            base_action: (A,), robot units.

        Raises:
            ValueError: base_action is not A finite values.
        """
        action = self._action(f"episode {episode_id}, step {step}: base action", base_action)
        if episode_id:
            trace = self._trace(episode_id)
            trace.commands[step] = _Command(stamp, action, policy_version)
            self._set_stamp(trace, step, stamp)

    def executed(
        self, episode_id: int, step: int, stamp: int, action: Sequence[float], held: bool
    ) -> None:
        """Take in what the robot did.

        Args:
            stamp: of the observation that followed, ns.
            action: (A,), robot units, as applied.
            held: whether it was the hold action.

        Raises:
            ValueError: action is not A finite values.
        """
        values = self._action(f"episode {episode_id}, step {step}: executed action", action)
        if episode_id:
            trace = self._trace(episode_id)
            trace.executed[step] = _Executed(values, held)
            self._set_stamp(trace, step + 1, stamp)

    def begin(self, episode_id: int, seed: int, start_stamp: int) -> None:
        """The episode runs; a second call for the same one (after a pause) changes nothing."""
        trace = self._trace(episode_id)
        if trace.seed is not None:
            return
        for other in [i for i, t in self._traces.items() if i < episode_id and t.end is None]:
            del self._traces[other]
        trace.seed = seed
        self._set_stamp(trace, 0, start_stamp)

    def end(
        self, episode_id: int, outcome: Outcome, reward: float, done: bool, end_step: int
    ) -> bool:
        """The episode is over after `end_step` transitions. False if its begin was never seen."""
        trace = self._traces.get(episode_id)
        if trace is None or trace.seed is None:
            self._traces.pop(episode_id, None)
            return False
        if trace.end is None:
            trace.end = _End(outcome, reward, done, end_step, self._clock() + self._wait)
        return True

    def abort(self, episode_id: int) -> None:
        """Forget the episode."""
        self._traces.pop(episode_id, None)

    def poll(self) -> list[Episode | IncompleteEpisodeError]:
        """Ended episodes that are complete or have waited long enough, each once, by id."""
        results: list[Episode | IncompleteEpisodeError] = []
        for episode_id, trace in sorted(self._traces.items()):
            if trace.end is None:
                continue
            expired = self._clock() >= trace.end.deadline
            if not expired and self._missing(trace, trace.end.step, terminal_base=True):
                break  # Handed out in order.
            del self._traces[episode_id]
            try:
                results.append(self._episode(episode_id, trace, trace.end))
            except IncompleteEpisodeError as error:
                results.append(error)
        return results

    def _trace(self, episode_id: int) -> _Trace:
        return self._traces.setdefault(episode_id, _Trace())

    def _set_stamp(self, trace: _Trace, step: int, stamp: int) -> None:
        # The newest counts: after a pause a moving clock has newer observations than the last step,
        # and the gate lets a command pass for the newest one only.
        known = trace.stamps.get(step)
        if known is not None:
            if stamp <= known:
                return
            del trace.steps[known]
            trace.observations.pop(step, None)
        trace.stamps[step] = stamp
        trace.steps[stamp] = step
        if stamp in self._recent:
            trace.observations[step] = self._recent[stamp]

    def _action(self, what: str, values: Sequence[float]) -> FloatArray:
        action = np.array(values, np.float32)
        if action.shape != (self._task.action_dim,) or not np.isfinite(action).all():
            raise ValueError(
                f"{what}: expected {self._task.action_dim} finite values, found {action.tolist()}"
            )
        return action

    def _base_action(self, trace: _Trace, step: int) -> FloatArray | None:
        """Of the command that was for this very observation, else of a held step as applied."""
        command = trace.commands.get(step)
        if command is not None and command.stamp == trace.stamps.get(step):
            return command.base_action
        executed = trace.executed.get(step)
        return executed.action if executed is not None and executed.held else None

    def _missing(self, trace: _Trace, length: int, terminal_base: bool) -> str | None:
        """'step k: what' of the first hole in `length` transitions, or None."""
        for step in range(length + 1):
            if step not in trace.stamps:
                return f"step {step - 1}: no executed action"
            if step not in trace.observations:
                return f"step {step}: no observation of stamp {trace.stamps[step]} ns"
            if step < length and step not in trace.executed:
                return f"step {step}: no executed action"
            if (step < length or terminal_base) and self._base_action(trace, step) is None:
                return f"step {step}: no command for its observation"
            if step and trace.stamps[step] <= trace.stamps[step - 1]:
                return f"step {step}: no stamp after {trace.stamps[step - 1]} ns"
        return None

    def _episode(self, episode_id: int, trace: _Trace, end: _End) -> Episode:
        length = end.step
        terminal_base = self._base_action(trace, length)
        if terminal_base is None and not end.done:
            # The return would bootstrap with it; one step earlier everything is known.
            length -= 1
        if length < 1:
            raise IncompleteEpisodeError(
                f"episode {episode_id} ({end.outcome}): expected at least 1 transition, "
                f"found {max(length, 0)}"
            )
        if missing := self._missing(trace, length, terminal_base=not end.done):
            raise IncompleteEpisodeError(
                f"episode {episode_id} ({end.outcome} after {end.step} steps): "
                f"expected every message, found a hole at {missing}"
            )
        base = [self._base_action(trace, step) for step in range(length + 1)]
        if base[-1] is None:
            # The episode is done: no target reads it.
            base[-1] = base[-2]
        observations = [trace.observations[step] for step in range(length + 1)]
        versions = [
            trace.commands[step].policy_version if step in trace.commands else 0
            for step in range(length)
        ]
        return Episode(
            task=self._task.name,
            implementation=self._task.implementation,
            base_policy=self._base_policy,
            episode_id=episode_id,
            seed=trace.seed or 0,
            outcome=end.outcome,
            reward=float(end.reward),
            done=bool(end.done),
            images={
                camera: np.stack([observation.images[camera] for observation in observations])
                for camera in self._task.cameras
            },
            state=np.stack([observation.state for observation in observations]),
            base_action=np.stack([action for action in base if action is not None]),
            executed_action=np.stack([trace.executed[step].action for step in range(length)]),
            policy_version=np.array(versions, np.int64),
            stamps=np.array([trace.stamps[step] for step in range(length + 1)], np.int64),
        )
