"""Episodes of a policy on worker processes, the same ones for any number of them."""

from __future__ import annotations

import functools
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resfit_rl.control import ChunkSchedule
from resfit_rl.evaluation.candidate import (
    Candidate,
    EvaluationError,
    LoadedCandidate,
    load_candidate,
)
from resfit_rl.evaluation.rollout import rollout
from resfit_rl.processes import end_with_parent
from resfit_rl.simulation import RenderOptions, Simulator, make_simulation
from resfit_rl.tasks import get_task

# Parts of an episode of which pictures are kept.
PICTURE_TIMES = ("start", "1/4", "middle", "3/4", "end")


@dataclass(frozen=True, eq=False)
class EpisodeResult:
    """What is kept of an episode of T steps.

    Attributes:
        seed: of the start state and of whatever is random in the policy.
        success: whether the last frame is a success.
        steps: T.
        wrench_norms: wrist -> (T + 1, 2) float64, force (N) and torque (N m), tared at the first
            frame.
        action_change: (A,) float32, largest change from step to step, robot units.
        pictures: for each of PICTURE_TIMES camera -> (H, W, 3) uint8; empty without rendering.
        seconds: that the episode took.
        identity: of the policy.
        schedule: that the policy was run with.
    """

    seed: int
    success: bool
    steps: int
    wrench_norms: dict[str, NDArray[np.float64]]
    action_change: NDArray[np.float32]
    pictures: tuple[dict[str, NDArray[np.uint8]], ...]
    seconds: float
    identity: str
    schedule: ChunkSchedule

    @property
    def outcome(self) -> str:
        return "success" if self.success else "failure"

    def wrench_peaks(self) -> dict[str, tuple[float, float]]:
        """wrist -> largest force (N) and torque (N m)."""
        peaks = {wrist: norms.max(axis=0) for wrist, norms in self.wrench_norms.items()}
        return {wrist: (float(force), float(torque)) for wrist, (force, torque) in peaks.items()}


def run_episodes(
    candidate: Candidate, seeds: Sequence[int], workers: int
) -> Generator[EpisodeResult, None, None]:
    """One result per seed, in their order.

    Each episode depends on its seed alone, so the results are the same for any number of workers.
    Close the generator to end the processes early.

    Raises:
        EvaluationError: a worker process died, or the candidate's residual does not fit.
        BasePolicyError, SimulationError, ValueError: the candidate cannot be made or cannot act.
    """
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        max(1, min(workers, len(seeds))),
        # A forked OpenGL library does not work.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
    )
    try:
        pending = deque(pool.submit(_run_one, candidate, seed) for seed in seeds)
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise EvaluationError(
            "evaluation: expected worker processes to live, found one dead (its output is above)"
        ) from None
    finally:
        # Nobody waits for what they are at, and an episode takes seconds.
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    # Ctrl-C goes to all processes of a terminal; the parent ends these.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    # Here, as a policy without a network needs no torch in the parent.
    import torch

    # Each process has a core; and sums depend on the number of threads.
    torch.set_num_threads(1)


@functools.lru_cache(maxsize=1)  # making a simulation takes seconds
def _made(candidate: Candidate) -> tuple[Simulator, LoadedCandidate]:
    loaded = load_candidate(candidate)
    rendering = RenderOptions() if candidate.rendering else None
    simulation = make_simulation(
        get_task(candidate.task), image_size=candidate.image_size, rendering=rendering
    )
    return simulation, loaded


def _run_one(candidate: Candidate, seed: int) -> EpisodeResult:
    simulation, loaded = _made(candidate)
    start = time.monotonic()
    episode = rollout(
        simulation,
        loaded.base,
        loaded.schedule,
        seed,
        residual=loaded.residual,
        max_steps=candidate.max_steps,
    )
    seconds = time.monotonic() - start
    chosen = np.linspace(0, len(episode.actions), len(PICTURE_TIMES)).round().astype(int)
    return EpisodeResult(
        seed=seed,
        success=episode.success,
        steps=len(episode.actions),
        wrench_norms=episode.wrench_norms(),
        action_change=np.abs(np.diff(episode.actions, axis=0)).max(axis=0, initial=0),
        pictures=tuple(dict(episode.frames[i].images) for i in chosen)
        if candidate.rendering
        else (),
        seconds=seconds,
        identity=loaded.identity,
        schedule=loaded.schedule,
    )
