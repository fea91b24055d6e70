"""Which weights were there after how many episodes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from resfit_rl.episode_store.atomic_file import write_atomically
from resfit_rl.learning.announcement import Announcement

_FILE = "weights_log.json"


class WeightsLog:
    """The newest weights by the number of episodes learned from, kept over restarts.

    Args:
        ahead: how far back they are asked for.
    """

    def __init__(self, run_dir: Path, ahead: int) -> None:
        self._path = run_dir / _FILE
        self._ahead = ahead
        self._entries: dict[int, tuple[Announcement, bool]] = {}
        if self._path.exists():
            try:
                for number, (weights, warm_up) in json.loads(self._path.read_text()).items():
                    self._entries[int(number)] = (Announcement(**weights), bool(warm_up))
            except (ValueError, TypeError):
                # Only a killed run's own next episode would be collected with newer weights.
                self._entries = {}

    def add(self, episodes: int, weights: Announcement, warm_up: bool) -> None:
        """Those after `episodes` episodes.

        Raises:
            OSError: it could not be written.
        """
        self._entries[episodes] = (weights, warm_up)
        kept = sorted(self._entries)[-(self._ahead + 2) :]
        self._entries = {number: self._entries[number] for number in kept}
        values = {
            number: (asdict(weights), warm_up)
            for number, (weights, warm_up) in self._entries.items()
        }
        write_atomically(self._path, (json.dumps(values, indent=1) + "\n").encode())

    def __contains__(self, episodes: int) -> bool:
        return episodes in self._there()

    def at(self, episodes: int) -> tuple[Announcement, bool]:
        """(weights, whether for the warm-up) after `episodes` episodes, else the oldest kept.

        ValueError when there are none.
        """
        there = self._there()
        older = [number for number in there if number <= episodes]
        return there[max(older) if older else min(there)]

    def __bool__(self) -> bool:
        return bool(self._there())

    def _there(self) -> dict[int, tuple[Announcement, bool]]:
        return {n: entry for n, entry in self._entries.items() if Path(entry[0].path).exists()}
