"""What a process spends its time on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class TimeShares:
    """Seconds by activity of one thread; what is in none of them is 'other'."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._since = time.monotonic()

    @contextmanager
    def measure(self, activity: str) -> Iterator[None]:
        """Count the time inside as `activity`; not to be nested."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.add(activity, time.monotonic() - start)

    def add(self, activity: str, seconds: float) -> None:
        """Count `seconds`, which passed outside of any `measure`, as `activity`."""
        self._seconds[activity] = self._seconds.get(activity, 0.0) + seconds

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count as `target` what a `measure` of `source` has counted."""
        self.add(source, -seconds)
        self.add(target, seconds)

    def seconds(self) -> dict[str, float]:
        """Activity -> s since the start, 'other' and 'all' included."""
        elapsed = time.monotonic() - self._since
        other = elapsed - sum(self._seconds.values())
        return self._seconds | {"other": max(0.0, other), "all": elapsed}


def table(processes: Mapping[str, Mapping[str, float]]) -> str:
    """'collector: environment 61 %, ...' for each process, from its seconds; largest first."""
    lines = []
    for name, seconds in processes.items():
        total = max(seconds.get("all", 0.0), 1e-9)
        parts = sorted(((s, a) for a, s in seconds.items() if a != "all"), reverse=True)
        shares = ", ".join(f"{a} {100 * s / total:.0f} %" for s, a in parts if s / total >= 0.005)
        lines.append(f"{name}: {shares} of {total:.0f} s")
    return "\n".join(lines)


def added(
    first: Mapping[str, Mapping[str, float]], second: Mapping[str, Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Sum of two measurements, process by process, activity by activity."""
    total: dict[str, dict[str, float]] = {}
    for measured in (first, second):
        for name, seconds in measured.items():
            own = total.setdefault(name, {})
            for activity, value in seconds.items():
                own[activity] = own.get(activity, 0.0) + value
    return total
