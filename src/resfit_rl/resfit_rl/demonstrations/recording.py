"""The scripted expert's episodes, from several processes, in the order of the seeds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_end

import numpy as np

from resfit_rl.base_policies.scripted import ScriptedExpert
from resfit_rl.control import ChunkSchedule
from resfit_rl.demonstrations.demonstration import (
    Demonstration,
    DemonstrationsError,
    require_sound,
)
from resfit_rl.demonstrations.disturbance import DisturbedExpert
from resfit_rl.demonstrations.episode_files import Attempt, EpisodeFiles
from resfit_rl.evaluation import rollout
from resfit_rl.simulation import make_simulation
from resfit_rl.tasks import Task, get_task


@dataclass(frozen=True)
class Recording:
    """What is recorded.

    Attributes:
        image_size: (height, width), pixels.
        disturbance: see DisturbedExpert.
        seed: of the first episode tried; the next ones count up.
        episodes: successes wanted.
    """

    task: str
    image_size: tuple[int, int]
    disturbance: float
    seed: int
    episodes: int


def record(
    recording: Recording, files: EpisodeFiles, workers: int
) -> Generator[Attempt, None, None]:
    """All attempts up to the last success wanted, in the order of the seeds.

    Which ones they are depends on the seeds alone: not on the number of processes, nor on what was
    on disk before.

    Raises:
        DemonstrationsError: a worker process died, or the expert does what the task does not allow.
        OSError: an episode could not be written; those before are on disk.
        BasePolicyError: the expert cannot act.
    """
    kept = files.kept()
    pool: ProcessPoolExecutor | None = None
    pending: deque[Attempt | Future[Attempt]] = deque()
    seed, missing = recording.seed, recording.episodes
    try:
        while missing:
            # One more than can run, and none that can only be too much.
            while _running(pending) <= workers and _hopeful(pending) < missing:
                if seed in kept:
                    pending.append(kept[seed])
                else:
                    pool = pool or _pool(recording, files, workers)
                    pending.append(_submit(pool, seed))
                seed += 1
            first = pending[0]
            if isinstance(first, Future):
                if not first.done():
                    running = [f for f in pending if isinstance(f, Future) and not f.done()]
                    wait(running, return_when=FIRST_COMPLETED)
                    continue
                first = first.result()
            pending.popleft()
            missing -= first.steps is not None
            yield first
    except BrokenProcessPool:
        raise DemonstrationsError(
            "recording: expected worker processes to live, found one dead (its output is above)"
        ) from None
    finally:
        if pool is not None:
            # Nobody waits for what they are at, and an episode takes seconds.
            for process in multiprocessing.active_children():
                process.terminate()
            pool.shutdown(cancel_futures=True)


def _running(pending: deque[Attempt | Future[Attempt]]) -> int:
    return sum(isinstance(entry, Future) and not entry.done() for entry in pending)


def _hopeful(pending: deque[Attempt | Future[Attempt]]) -> int:
    """How many may yet turn out to be successes, or are."""
    return sum(isinstance(entry, Future) or entry.steps is not None for entry in pending)


def _pool(recording: Recording, files: EpisodeFiles, workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        workers,
        # A forked OpenGL library does not work.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(recording, files),
    )


def _submit(pool: ProcessPoolExecutor, seed: int) -> Future[Attempt]:
    # This may start a process, which inherits the mask: Ctrl-C is for the parent alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(_record_one, seed)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


class _Recorder:
    """What a worker process makes once: making a simulation takes seconds."""

    def __init__(self, recording: Recording, files: EpisodeFiles) -> None:
        self._task: Task = get_task(recording.task)
        self._image_size = recording.image_size
        self._simulation = make_simulation(self._task, image_size=recording.image_size)
        self._expert = DisturbedExpert(
            ScriptedExpert(recording.task), self._task, recording.disturbance
        )
        self._files = files

    def record(self, seed: int) -> Attempt:
        return self._files.write(seed, self._episode(seed))

    def _episode(self, seed: int) -> Demonstration | None:
        episode = rollout(self._simulation, self._expert, ChunkSchedule(1), seed, further_steps=1)
        if not episode.success:
            return None
        # The first success is the last frame; the one after it only gave that frame its action.
        observations = [frame.observation(self._task) for frame in episode.frames[:-1]]
        demonstration = Demonstration(
            images={
                camera: np.stack([observation.images[camera] for observation in observations])
                for camera in self._task.cameras
            },
            state=np.stack([observation.state for observation in observations]),
            action=self._expert.own_actions(),
        )
        # Now, not when all are recorded.
        require_sound(demonstration, self._task, self._image_size, f"recording: seed {seed}")
        return demonstration


_recorder: _Recorder


def _begin(recording: Recording, files: EpisodeFiles) -> None:
    global _recorder
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _recorder = _Recorder(recording, files)


def _record_one(seed: int) -> Attempt:
    return _recorder.record(seed)


def _end_with_parent() -> None:
    """A killed parent cannot end its workers, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_end([parent.sentinel])
        os._exit(1)
