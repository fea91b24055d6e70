"""Base actions from chunks that are predicted ahead of need, beside the control loop."""

from __future__ import annotations

import time
from concurrent.futures import Executor, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resfit_rl.base_policies.interface import BasePolicy, BasePolicyError
from resfit_rl.control.chunk_schedule import ChunkSchedule
from resfit_rl.observation import Observation

FloatArray = NDArray[np.float32]


class LateChunkError(Exception):
    """The chunk of a step was not predicted in time and no other one covers the step."""


@dataclass(frozen=True, eq=False)
class BaseAction:
    """Base action of one step.

    Attributes:
        action: (A,) float32, robot units.
        source: step whose observation it was predicted from.
        wait: s that the caller waited for the prediction.
    """

    action: FloatArray
    source: int
    wait: float


@dataclass(frozen=True, eq=False)
class _Chunk:
    source: int
    actions: Future[FloatArray]


class ChunkedBase:
    """Predicts chunks in a worker thread, `schedule.lead` steps before they are needed.

    While every observation comes and the caller waits as long as it takes, the base action of each
    step is the one of the schedule, however long a prediction takes. Where the observation that a
    chunk was due from is lost, the next one takes its place.

    Args:
        base_policy: called in the worker only.
        schedule: which observation a chunk is predicted from.
        action_dim: A.
        worker: runs one task after the other, in the order given (one thread).

    Raises:
        ValueError: the policy's chunks are too short for the schedule.
    """

    def __init__(
        self, base_policy: BasePolicy, schedule: ChunkSchedule, action_dim: int, worker: Executor
    ) -> None:
        schedule.require_chunk_size(base_policy.chunk_size)
        self._base_policy = base_policy
        self._schedule = schedule
        self._expected = (base_policy.chunk_size, action_dim)
        self._worker = worker
        self._reset: Future[None] | None = None
        self._chunks: dict[int, _Chunk] = {}  # by the step they were due from, increasing

    def reset(self, seed: int) -> None:
        """Begin an episode; predictions of the last one are forgotten."""
        for chunk in self._chunks.values():
            chunk.actions.cancel()
        self._chunks.clear()
        self._reset = self._worker.submit(self._base_policy.reset, seed)

    def observe(self, step: int, observation: Observation) -> None:
        """Start the prediction that is due from this observation, if any; steps increase."""
        due = self._schedule.newest_source(step)
        if due in self._chunks:
            return
        self._chunks[due] = _Chunk(step, self._worker.submit(self._predict, observation))
        for old in [d for d, c in self._chunks.items() if c.source + self._expected[0] <= step]:
            self._chunks.pop(old).actions.cancel()

    def action(
        self, step: int, timeout: float | None = None, *, fall_back: bool = False
    ) -> BaseAction:
        """Base action of `step`, which `observe` has been given.

        Args:
            timeout: s to wait for the chunk; None waits as long as it takes.
            fall_back: whether a chunk predicted before may stand in for a late one.

        Raises:
            LateChunkError: not ready within `timeout`, and none stands in.
            BasePolicyError: the policy could not act, or its chunk is misshaped or not finite.
        """
        start = time.monotonic()
        wanted = self._chunks.get(self._schedule.source(step))
        if wanted is None:
            # Its observation was lost together with the following ones.
            if not self._chunks:
                raise LateChunkError(f"step {step}: expected an observation first, found none")
            wanted = next(reversed(self._chunks.values()))
        try:
            if self._reset is not None:
                self._reset.result(timeout)
                self._reset = None
            left = None if timeout is None else max(0.0, start + timeout - time.monotonic())
            actions = wanted.actions.result(left)
        except FutureTimeoutError:
            standing_in = [
                chunk
                for chunk in self._chunks.values()
                if fall_back and chunk.actions.done() and step - chunk.source < self._expected[0]
            ]
            if not standing_in:
                raise LateChunkError(
                    f"step {step}: expected the chunk predicted from step {wanted.source} within "
                    f"{1e3 * (timeout or 0.0):.0f} ms, found it late"
                ) from None
            wanted = standing_in[-1]
            actions = wanted.actions.result()
        return BaseAction(actions[step - wanted.source], wanted.source, time.monotonic() - start)

    def _predict(self, observation: Observation) -> FloatArray:
        chunk = np.asarray(self._base_policy.predict_chunk(observation), dtype=np.float32)
        if chunk.shape != self._expected or not np.isfinite(chunk).all():
            raise BasePolicyError(
                f"base policy: expected a finite chunk of {self._expected}, found {chunk.shape} "
                f"with {int((~np.isfinite(chunk)).sum())} NaN or inf"
            )
        return chunk
