"""Evaluations of a training run, in processes of their own."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from resfit_rl.base_policies import BasePolicyError
from resfit_rl.evaluation import Candidate, EvaluationError, run_episodes
from resfit_rl.processes import end, end_with_parent, start_without_ctrl_c
from resfit_rl.simulation import SimulationError
from resfit_rl.training.scores import Score

# In a row, after which the run ends.
MAX_FAILURES = 3


@dataclass(frozen=True)
class EvaluationJob:
    """What is to be evaluated.

    Attributes:
        milestone: control steps that it stands for; 0 is the base policy alone.
        environment_steps: control steps learned from.
        updates: critic updates made.
        weights: file of the residual; None for the base policy alone.
    """

    milestone: int
    environment_steps: int
    updates: int
    weights: Path | None


class Evaluator:
    """Runs one job after the other, each on the same start states.

    Args:
        candidate: base policy and how it is run; a job adds the residual.
        seeds: of the start states.
        workers: processes that run the episodes.
        log: called with a line for each problem that is being dealt with.
    """

    def __init__(
        self,
        candidate: Candidate,
        seeds: Sequence[int],
        workers: int,
        log: Callable[[str], None],
    ) -> None:
        self._log = log
        self._failures = 0  # in a row
        self._candidate = candidate
        self._seeds = seeds
        self._workers = workers
        self._jobs: deque[EvaluationJob] = deque()
        self._running: _Running | None = None

    @property
    def pending(self) -> int:
        """Jobs that are not finished."""
        return len(self._jobs) + (self._running is not None)

    @property
    def under_way(self) -> str:
        """'evaluation at 10000 steps: 12 of 50 episodes' of the job that runs, or ''."""
        running = self._running
        if running is None:
            return ""
        return (
            f"evaluation at {running.job.milestone:,} steps: {running.done} of "
            f"{len(self._seeds)} episodes"
        )

    def add(self, job: EvaluationJob) -> None:
        """Evaluate it after those that were added before."""
        self._jobs.append(job)
        self._start()

    def take(self) -> list[Score]:
        """Scores found since the last call.

        Raises:
            EvaluationError: an evaluation failed again and again.
        """
        if self._running is None:
            return []
        try:
            successes = self._running.poll()
        except EvaluationError as error:
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                text = f"{error}, {self._failures} times in a row; its output is above"
                raise EvaluationError(text) from error
            self._log(f"{error}; running it again")
            self._jobs.appendleft(self._running.job)
            self.close()
            self._start()
            return []
        if successes is None:
            return []
        self._failures = 0
        job, seconds = self._running.job, time.monotonic() - self._running.start
        self.close()
        self._start()
        return [
            Score(
                milestone=job.milestone,
                environment_steps=job.environment_steps,
                updates=job.updates,
                policy="base" if job.weights is None else job.weights.name,
                successes=sum(successes),
                episodes=len(successes),
                first_seed=self._seeds[0],
                outcomes=[int(success) for success in successes],
                seconds=round(seconds, 1),
            )
        ]

    def close(self) -> None:
        """Give up the job that runs."""
        if self._running is not None:
            self._running.end()
            self._running = None

    def _start(self) -> None:
        if self._running is None and self._jobs:
            job = self._jobs.popleft()
            residual = None if job.weights is None else str(job.weights)
            candidate = replace(self._candidate, residual=residual)
            self._running = _Running(job, candidate, self._seeds, self._workers)


class _Running:
    """A job in its process."""

    def __init__(
        self, job: EvaluationJob, candidate: Candidate, seeds: Sequence[int], workers: int
    ) -> None:
        self.job = job
        self.start = time.monotonic()
        self.done = 0
        # A process between: the pool of run_episodes ends processes that this one may have started.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_evaluate, args=(candidate, seeds, workers, theirs), name="evaluation"
        )
        start_without_ctrl_c(self._process)
        theirs.close()

    def poll(self) -> list[bool] | None:
        """Success of each episode once all are done."""
        try:
            while self._connection.poll():
                message = self._connection.recv()
                if isinstance(message, str):
                    raise EvaluationError(message)
                if isinstance(message, list):
                    return message
                self.done = message
        except (EOFError, OSError):
            self._process.join(1.0)
            raise EvaluationError(
                f"evaluation at {self.job.milestone:,} steps: its process died (exit code "
                f"{self._process.exitcode})"
            ) from None
        return None

    def end(self) -> None:
        end(self._process)
        self._connection.close()


def _evaluate(
    candidate: Candidate, seeds: Sequence[int], workers: int, connection: Connection
) -> None:
    """Main function of an evaluation's process."""
    end_with_parent()
    found: list[bool] = []
    try:
        for episode in run_episodes(candidate, seeds, workers):
            found.append(episode.success)
            connection.send(len(found))
        connection.send(found)
    except (BasePolicyError, EvaluationError, SimulationError, ValueError, OSError) as error:
        connection.send(f"evaluation: {error}")
