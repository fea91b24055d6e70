"""The scripted expert's successful episodes, from several processes, in the order of the seeds."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from resfit_rl.base_policies.scripted import ScriptedExpert
from resfit_rl.control import ChunkSchedule
from resfit_rl.demonstrations.dataset import Demonstration, DemonstrationsError
from resfit_rl.evaluation import rollout
from resfit_rl.simulation import Simulation
from resfit_rl.tasks import get_task

# One each per process: making a simulation takes seconds.
_simulation: Simulation
_expert: ScriptedExpert


def record(
    task_name: str, image_size: tuple[int, int], seed: int, workers: int
) -> Generator[tuple[int, Demonstration | None], None, None]:
    """(seed, demonstration, or None when the expert failed) for `seed`, `seed` + 1, ... for ever.

    Raises:
        DemonstrationsError: a worker process died.
    """
    pool = ProcessPoolExecutor(
        workers,
        # A forked OpenGL library does not work.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(task_name, image_size),
    )
    pending: deque[tuple[int, Future[Demonstration | None]]] = deque()
    try:
        while True:
            # One more than can run: none waits while the parent writes.
            while len(pending) <= workers:
                pending.append((seed, pool.submit(_record_one, seed)))
                seed += 1
            number, future = pending.popleft()
            yield number, future.result()
    except BrokenProcessPool:
        raise DemonstrationsError(
            "recording: expected worker processes to live, found one dead (its output is above)"
        ) from None
    finally:
        # Nobody waits for what they are at, and an episode takes seconds.
        for process in multiprocessing.active_children():
            process.terminate()
        pool.shutdown(cancel_futures=True)


def _begin(task_name: str, image_size: tuple[int, int]) -> None:
    global _simulation, _expert
    _simulation = Simulation(get_task(task_name), image_size=image_size)
    _expert = ScriptedExpert(task_name)


def _record_one(seed: int) -> Demonstration | None:
    episode = rollout(_simulation, _expert, ChunkSchedule(1), seed, further_steps=1)
    if not episode.success:
        return None
    # The first success is the last frame; the one after it only gave that frame its action.
    observations = [frame.observation(_simulation.task) for frame in episode.frames[:-1]]
    return Demonstration(
        images={
            camera: np.stack([observation.images[camera] for observation in observations])
            for camera in _simulation.task.cameras
        },
        state=np.stack([observation.state for observation in observations]),
        action=episode.actions,
    )
