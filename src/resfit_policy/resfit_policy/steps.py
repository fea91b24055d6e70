"""Which step of the episode an observation belongs to."""

from collections import OrderedDict
from dataclasses import dataclass

from resfit_rl.observation import Observation

# Observations come before the messages that say which step they belong to, by a few at most.
RECENT = 32


@dataclass(frozen=True, eq=False)
class Step:
    """Observation of one step; `stamp` in ns, `arrival` in s of a steady clock."""

    index: int
    stamp: int
    observation: Observation
    arrival: float


class StepTracker:
    """Gives the observations of one episode with their steps, each once, in order.

    Nothing is counted, so nothing can be counted wrongly: the start stamp says which observation is
    that of step 0, and the executed action of step k says which is that of step k + 1. An episode
    whose observation 0 was never seen gives none. A stamp before the newest one means that the
    clock was set back: everything is forgotten.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget observations, steps and the episode."""
        self._observations: OrderedDict[int, tuple[Observation, float]] = OrderedDict()
        self._steps: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self._episode_id = 0
        self._last: int | None = None

    def observation(self, stamp: int, observation: Observation, arrival: float) -> None:
        """Take in a complete observation."""
        if self._observations and stamp < next(reversed(self._observations)):
            self.clear()
        self._observations[stamp] = (observation, arrival)
        while len(self._observations) > RECENT:
            self._observations.popitem(last=False)

    def executed(self, episode_id: int, step: int, stamp: int) -> None:
        """Take in that `step` was executed and led to the observation of `stamp`."""
        self._set(stamp, episode_id, step + 1)

    def begin(self, episode_id: int, start_stamp: int) -> None:
        """From now on give the steps of this episode."""
        self._episode_id = episode_id
        self._last = None
        self._set(start_stamp, episode_id, 0)

    def next(self) -> Step | None:
        """The next step whose observation has come, or None."""
        for stamp, (observation, arrival) in self._observations.items():
            episode_id, step = self._steps.get(stamp, (0, 0))
            follows = step == 0 if self._last is None else step > self._last
            if episode_id and episode_id == self._episode_id and follows:
                self._last = step
                return Step(step, stamp, observation, arrival)
        return None

    def _set(self, stamp: int, episode_id: int, step: int) -> None:
        self._steps[stamp] = (episode_id, step)
        while len(self._steps) > RECENT:
            self._steps.popitem(last=False)
