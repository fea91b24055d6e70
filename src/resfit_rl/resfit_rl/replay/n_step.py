"""n-step returns within one episode."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class NStepTargets:
    """Per transition t of an episode of T transitions.

    Attributes:
        reward: float32 (T,), sum over the window of gamma^k * r[t + k].
        discount: float32 (T,), gamma^m with m the window's length, or 0 if the window ends with
            the episode being done: what multiplies the value of the observation `next_index`.
        next_index: int64 (T,), t + m, index of an observation, 0..T.
    """

    reward: NDArray[np.float32]
    discount: NDArray[np.float32]
    next_index: NDArray[np.int64]


def n_step_targets(length: int, reward: float, done: bool, n: int, gamma: float) -> NStepTargets:
    """Targets of an episode with a sparse reward on its last transition.

    A window holds n transitions, or fewer where the episode ends first. At the end it stops for
    good when `done`; after a time limit (reward 0, not done) it bootstraps from the last
    observation with the discount of the transitions it did hold. It never reaches another episode.

    Args:
        length: T >= 1.
        reward: of the last transition; all others have 0.
        done: whether the last transition is terminal.
        n: window length >= 1.
        gamma: discount per step.
    """
    if length < 1 or n < 1:
        raise ValueError(f"n-step targets: expected length >= 1 and n >= 1, found {length}, {n}")
    index = np.arange(length)
    window = np.minimum(n, length - index)
    reaches_end = index + window == length
    powers = np.asarray(gamma, dtype=np.float64) ** np.arange(n + 1)
    returns = np.where(reaches_end, powers[window - 1] * reward, 0.0)
    discount = np.where(reaches_end & done, 0.0, powers[window])
    return NStepTargets(
        reward=returns.astype(np.float32),
        discount=discount.astype(np.float32),
        next_index=(index + window).astype(np.int64),
    )
