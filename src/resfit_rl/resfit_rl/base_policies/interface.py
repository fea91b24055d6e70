"""The one interface behind which every base policy stands."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resfit_rl.observation import Observation


class BasePolicyError(Exception):
    """A base policy cannot be loaded or cannot act; names the thing, the expected and the found."""


class BasePolicy(Protocol):
    """A frozen policy that predicts the next actions from one observation."""

    @property
    def identity(self) -> str:
        """Names kind and weights, for example 'act:3f2a...'; recorded with all that it produced."""

    @property
    def chunk_size(self) -> int:
        """Actions of one prediction; 1 for a policy that must see each observation."""

    def reset(self, seed: int) -> None:
        """Forget the last episode; `seed` makes whatever is random in it repeatable."""

    def predict_chunk(self, observation: Observation) -> NDArray[np.float32]:
        """Actions for this and the following steps, (chunk_size, A) float32, robot units."""
