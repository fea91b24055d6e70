"""How far a run is."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

RECENT_EPISODES = 50  # whose success is told
_WINDOW = 60.0  # s that rates are taken over


class Progress:
    """Rates, success while training, and the time left.

    Args:
        target: control steps of the whole run.
        recent: success of the newest episodes, oldest first.
    """

    def __init__(self, target: int, recent: Iterable[bool]) -> None:
        self._target = target
        self._recent = deque(recent, maxlen=RECENT_EPISODES)
        self._points: deque[tuple[float, int, int]] = deque()

    def episode(self, success: bool) -> None:
        """One more was taken in."""
        self._recent.append(success)

    def point(self, steps: int, updates: int) -> None:
        """So many control steps and updates are made by now."""
        now = time.monotonic()
        self._points.append((now, steps, updates))
        while len(self._points) > 2 and self._points[1][0] < now - _WINDOW:
            self._points.popleft()

    @property
    def success(self) -> float:
        """Of the newest episodes; NaN before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else float("nan")

    def rates(self) -> tuple[float, float]:
        """(control steps, updates) a second of late; 0 where nothing is known."""
        if len(self._points) < 2:
            return 0.0, 0.0
        (start, steps, updates), (end, more_steps, more_updates) = (
            self._points[0],
            self._points[-1],
        )
        seconds = max(end - start, 1e-9)
        return (more_steps - steps) / seconds, (more_updates - updates) / seconds

    def line(self, phase: str, steps: int, updates: int, updates_left: int) -> str:
        """For the user.

        Args:
            updates_left: to make until the run's end.
        """
        steps_rate, updates_rate = self.rates()
        text = (
            f"steps {steps:,}/{self._target:,} ({phase.replace('_', ' ')})  updates {updates:,}  "
            f"{steps_rate:.1f} steps/s  {updates_rate:.1f} updates/s"
        )
        if self._recent:
            text += f"  success {sum(self._recent)}/{len(self._recent)} of the last episodes"
        # Whichever takes longer at the rates of late, where they are known.
        left = [
            number / rate
            for number, rate in (
                (self._target - steps, steps_rate),
                (updates_left, updates_rate),
            )
            if number > 0 and rate > 0.0
        ]
        return f"{text}  {_duration(max(left))} left" if left else text


def _duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
