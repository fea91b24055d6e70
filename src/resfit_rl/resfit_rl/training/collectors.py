"""Who collects: processes beside the learner's, or the learner's own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Protocol

from resfit_rl.agent import PolicyFileError
from resfit_rl.base_policies import BasePolicyError
from resfit_rl.episode_store import Episode, EpisodeStore, StoredEpisode
from resfit_rl.episode_store.store import read_header
from resfit_rl.processes import end, end_with_parent, start_without_ctrl_c
from resfit_rl.simulation import SimulationError
from resfit_rl.training.collector import Assignment, Collector, CollectorSettings

RETRY_PERIOD = 2.0  # s, between attempts to write to a full disk
# Deaths in a row, without an episode between them, after which the run ends.
MAX_DEATHS = 3
_EXPECTED = (BasePolicyError, SimulationError, PolicyFileError, ValueError, OSError)


class CollectionError(Exception):
    """No more episodes can be collected; says why."""


class Collectors(Protocol):
    """One or more collectors of one run.

    Attributes:
        in_flight: ids of the episodes that are being collected.
    """

    in_flight: set[int]

    @property
    def free(self) -> bool:
        """Whether one more episode can be assigned."""

    def assign(self, assignment: Assignment) -> None:
        """Have the episode collected and stored."""

    def take(self, timeout: float) -> list[StoredEpisode]:
        """Episodes stored since the last call; waits up to `timeout` s when there are none.

        Raises:
            CollectionError: collecting failed.
        """

    def seconds(self) -> dict[str, float]:
        """What the collectors spent their time on, s by activity, summed over them."""

    def close(self) -> None:
        """End; an episode under way is given up. A second call does nothing."""


class OwnCollector:
    """Collects in this process, while nobody learns."""

    def __init__(
        self, settings: CollectorSettings, run_dir: Path, log: Callable[[str], None]
    ) -> None:
        self.in_flight: set[int] = set()
        self._store = EpisodeStore(run_dir)
        self._log = log
        try:
            self._collector = Collector(settings)
        except _EXPECTED as error:
            raise CollectionError(str(error)) from error
        self._problem = ""
        self._closed = False
        self._seconds: dict[str, float] = {}
        self._episode: Episode | None = None  # collected, not on disk yet

    @property
    def free(self) -> bool:
        return self._episode is None

    def assign(self, assignment: Assignment) -> None:
        try:
            self._episode = self._collector.collect(assignment)
        except _EXPECTED as error:
            raise CollectionError(f"episode {assignment.episode_id}: {error}") from error
        self.in_flight = {assignment.episode_id}

    def take(self, timeout: float) -> list[StoredEpisode]:
        if self._episode is None:
            return []
        try:
            with self._collector.time.measure("transfer"):
                stored = self._store.write(self._episode)
        except FileExistsError as error:
            raise CollectionError(str(error)) from error
        except OSError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                self._log(f"{error}; trying again each {RETRY_PERIOD:.0f} s")
            time.sleep(RETRY_PERIOD if timeout else 0.0)
            return []
        self._problem, self._episode, self.in_flight = "", None, set()
        return [stored]

    def seconds(self) -> dict[str, float]:
        return self._seconds if self._closed else self._collector.time.seconds()

    def close(self) -> None:
        if not self._closed:
            self._seconds = self._collector.time.seconds()
            self._collector.close()
        self._closed = True


@dataclass(frozen=True)
class _Stored:
    episode: StoredEpisode
    seconds: dict[str, float]


@dataclass(frozen=True)
class _Problem:
    text: str


@dataclass(frozen=True)
class _Failure:
    text: str


class CollectorProcesses:
    """Each collector in a process of its own, started anew when it dies.

    Args:
        count: processes.
        log: called with a line for each problem that is being dealt with.
    """

    def __init__(
        self, settings: CollectorSettings, run_dir: Path, count: int, log: Callable[[str], None]
    ) -> None:
        self.in_flight: set[int] = set()
        self._settings = settings
        self._run_dir = run_dir
        self._log = log
        self._ended: dict[str, float] = {}  # seconds of processes that are no more
        self._processes = [_CollectorProcess(settings, run_dir, k) for k in range(count)]

    @property
    def free(self) -> bool:
        return any(process.assignment is None for process in self._processes)

    def assign(self, assignment: Assignment) -> None:
        next(p for p in self._processes if p.assignment is None).assign(assignment)
        self.in_flight.add(assignment.episode_id)

    def take(self, timeout: float) -> list[StoredEpisode]:
        if self.in_flight and timeout:
            wait([process.connection for process in self._processes], timeout)
        stored = []
        for process in self._processes:
            for message in process.messages():
                if isinstance(message, _Failure):
                    raise CollectionError(message.text)
                if isinstance(message, _Problem):
                    self._log(message.text)
                    continue
                stored.append(message.episode)
                self.in_flight.discard(message.episode.episode_id)
            if process.dead and (found := self._replace(process)):
                stored.append(found)
        return stored

    def seconds(self) -> dict[str, float]:
        total = dict(self._ended)
        for process in self._processes:
            for activity, seconds in process.seconds.items():
                total[activity] = total.get(activity, 0.0) + seconds
        return total

    def close(self) -> None:
        self._ended = self.seconds()
        for process in self._processes:
            process.end()
        self._processes = []
        self.in_flight = set()

    def _replace(self, dead: _CollectorProcess) -> StoredEpisode | None:
        """Start another one for its episode; that episode where it had been stored already."""
        code, deaths = dead.exit_code, dead.deaths + 1
        doing = (
            f"at episode {dead.assignment.episode_id}" if dead.assignment else "between episodes"
        )
        text = f"collector {dead.number} died {doing} (exit code {code})"
        if deaths >= MAX_DEATHS:
            raise CollectionError(
                f"{text}, {deaths} times in a row: expected it to live; its output is above"
            )
        self._log(f"{text}; starting it anew")
        for activity, seconds in dead.seconds.items():
            self._ended[activity] = self._ended.get(activity, 0.0) + seconds
        dead.end()
        fresh = _CollectorProcess(self._settings, self._run_dir, dead.number, deaths)
        self._processes[self._processes.index(dead)] = fresh
        if dead.assignment is None:
            return None
        path = EpisodeStore(self._run_dir).path(dead.assignment.episode_id)
        if path.exists():
            # Killed between the writing and the telling of it.
            self.in_flight.discard(dead.assignment.episode_id)
            return read_header(path)
        fresh.assign(dead.assignment)
        return None


class _CollectorProcess:
    """One of them, seen from the learner's process."""

    def __init__(
        self, settings: CollectorSettings, run_dir: Path, number: int, deaths: int = 0
    ) -> None:
        self.number = number
        self.deaths = deaths
        self.assignment: Assignment | None = None
        self.seconds: dict[str, float] = {}
        self._broken = False
        # A forked OpenGL or CUDA library does not work.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_collect, args=(settings, run_dir, theirs), name=f"collector {number}"
        )
        start_without_ctrl_c(self._process)
        theirs.close()

    @property
    def dead(self) -> bool:
        return self._broken or not self._process.is_alive()

    @property
    def exit_code(self) -> int | None:
        self._process.join(1.0)
        return self._process.exitcode

    def assign(self, assignment: Assignment) -> None:
        self.assignment = assignment
        try:
            self.connection.send(assignment)
        except OSError:
            self._broken = True

    def messages(self) -> list[_Stored | _Problem | _Failure]:
        """What it said since the last call."""
        found = []
        try:
            while self.connection.poll():
                message = self.connection.recv()
                if isinstance(message, _Stored):
                    self.assignment, self.deaths = None, 0
                    self.seconds = message.seconds
                found.append(message)
        except (EOFError, OSError):
            self._broken = True
        return found

    def end(self) -> None:
        end(self._process)
        self.connection.close()


def _collect(settings: CollectorSettings, run_dir: Path, connection: Connection) -> None:
    """Main function of a collector's process."""
    end_with_parent()
    try:
        collector = Collector(settings)
        store = EpisodeStore(run_dir)
        while True:
            with collector.time.measure("waiting"):
                assignment = connection.recv()
            episode = collector.collect(assignment)
            with collector.time.measure("transfer"):
                stored = _write(store, episode, connection)
            connection.send(_Stored(stored, collector.time.seconds()))
    except EOFError:
        return
    except _EXPECTED as error:
        connection.send(_Failure(str(error)))


def _write(store: EpisodeStore, episode: Episode, connection: Connection) -> StoredEpisode:
    """Write it, however long the disk is full."""
    problem = ""
    while True:
        try:
            return store.write(episode)
        except FileExistsError:
            raise
        except OSError as error:
            if str(error) != problem:
                problem = str(error)
                text = f"episode {episode.episode_id} is kept in memory: {error}"
                connection.send(_Problem(f"{text}; trying again each {RETRY_PERIOD:.0f} s"))
            time.sleep(RETRY_PERIOD)
