"""What several seeds say together: mean and interquartile mean, and how sure each is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

FloatArray = NDArray[np.float64]
_REPETITIONS = 5000


@dataclass(frozen=True)
class Aggregate:
    """A number over runs, and the bounds of its bootstrap interval."""

    value: float
    low: float
    high: float


def mean(scores: FloatArray) -> FloatArray:
    """(..., runs, tasks) -> (...)."""
    values: FloatArray = scores.mean(axis=(-2, -1))
    return values


def interquartile_mean(scores: FloatArray) -> FloatArray:
    """(..., runs, tasks) -> (...): mean of the middle half of all runs of all tasks.

    Of n runs in all, the n // 4 lowest and highest are left out.
    """
    flat = scores.reshape(*scores.shape[:-2], -1)
    return np.asarray(trim_mean(flat, 0.25, axis=-1), np.float64)


def aggregate(
    scores: FloatArray,
    statistic: Callable[[FloatArray], FloatArray],
    confidence: float = 0.95,
    seed: int = 0,
) -> Aggregate:
    """`statistic` of `scores` with its percentile interval by stratified bootstrap.

    Runs are drawn anew, with replacement, within each task on its own (Agarwal et al. 2021), so no
    task counts more in one draw than in another.

    Args:
        scores: (runs, tasks).
        statistic: mean or interquartile_mean.

    Raises:
        ValueError: not two axes, none of length 0.
    """
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f"scores: expected (runs, tasks), found shape {scores.shape}")
    runs, tasks = scores.shape
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, runs, (_REPETITIONS, runs, tasks))
    values = statistic(scores[drawn, np.arange(tasks)])
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return Aggregate(float(statistic(scores)), float(low), float(high))
