"""Scaling of actions to [-1, 1] and of states to zero mean and unit deviation."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from resfit_rl.agent.spec import AgentSpec

# A dimension that hardly moves in the data would otherwise turn rounding into large values.
ACTION_RANGE_FLOOR = 1e-2
STATE_DEVIATION_FLOOR = 1e-2

FloatArray = NDArray[np.float32]


class Normaliser(nn.Module):
    """Affine maps with fixed coefficients; travels in checkpoints and policy files as buffers.

    Buffers: action_lower, action_upper float32 (A,) robot units, mapped to -1 and 1; state_mean,
    state_std float32 (S,).
    """

    action_lower: torch.Tensor
    action_upper: torch.Tensor
    state_mean: torch.Tensor
    state_std: torch.Tensor

    def __init__(
        self,
        action_lower: FloatArray,
        action_upper: FloatArray,
        state_mean: FloatArray,
        state_std: FloatArray,
    ) -> None:
        super().__init__()
        for name, value in (
            ("action_lower", action_lower),
            ("action_upper", action_upper),
            ("state_mean", state_mean),
            ("state_std", state_std),
        ):
            array = np.asarray(value, dtype=np.float32)
            if array.ndim != 1 or not np.isfinite(array).all():
                raise ValueError(
                    f"normaliser: {name}: expected finite values (n,), found {array.tolist()}"
                )
            self.register_buffer(name, torch.from_numpy(array.copy()))
        if not bool((self.action_lower < self.action_upper).all()):
            raise ValueError(
                "normaliser: expected action_lower < action_upper, found "
                f"{self.action_lower.tolist()} and {self.action_upper.tolist()}"
            )
        if not bool((self.state_std > 0).all()):
            raise ValueError(
                f"normaliser: state_std: expected > 0, found {self.state_std.tolist()}"
            )

    @staticmethod
    def fit(actions: Iterable[FloatArray], states: Iterable[FloatArray]) -> Normaliser:
        """From the demonstrations: arrays (T, A) in robot units and (T, S)."""
        action = np.concatenate([np.asarray(a, dtype=np.float64) for a in actions])
        state = np.concatenate([np.asarray(s, dtype=np.float64) for s in states])
        lower, upper = action.min(axis=0), action.max(axis=0)
        lacking = np.maximum(ACTION_RANGE_FLOOR - (upper - lower), 0.0) / 2.0
        return Normaliser(
            (lower - lacking).astype(np.float32),
            (upper + lacking).astype(np.float32),
            state.mean(axis=0).astype(np.float32),
            np.maximum(state.std(axis=0), STATE_DEVIATION_FLOOR).astype(np.float32),
        )

    @staticmethod
    def from_spec(spec: AgentSpec) -> Normaliser:
        """Without data: the robot's action limits; states unchanged."""
        return Normaliser(
            spec.action_lower,
            spec.action_upper,
            np.zeros(spec.state_dim, np.float32),
            np.ones(spec.state_dim, np.float32),
        )

    @staticmethod
    def empty(spec: AgentSpec) -> Normaliser:
        """Of the right shapes, to load a state dict into."""
        return Normaliser.from_spec(spec)

    def normalise_action(self, action: torch.Tensor) -> torch.Tensor:
        """(..., A) robot units -> (..., A), [-1, 1] within the bounds."""
        return 2.0 * (action - self.action_lower) / (self.action_upper - self.action_lower) - 1.0

    def denormalise_action(self, action: torch.Tensor) -> torch.Tensor:
        """Inverse of normalise_action."""
        return self.action_lower + (action + 1.0) * 0.5 * (self.action_upper - self.action_lower)

    def normalise_state(self, state: torch.Tensor) -> torch.Tensor:
        """(..., S) -> (..., S)."""
        return (state - self.state_mean) / self.state_std

    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """(lower, upper), float32 (A,) robot units."""
        return self.action_lower.cpu().numpy().copy(), self.action_upper.cpu().numpy().copy()


def combine(
    base_action: FloatArray, residual: FloatArray, lower: FloatArray, upper: FloatArray
) -> FloatArray:
    """clamp(normalise(base) + residual, -1, 1), back in robot units.

    Args:
        base_action: float32 (A,), robot units.
        residual: float32 (A,), normalised units, exploration noise included.
        lower, upper: float32 (A,), the normaliser's action bounds, robot units.

    Returns:
        float32 (A,), robot units, within the bounds. Where the residual is 0 and the base lies
        within the bounds it is the base bit for bit.

    Raises:
        ValueError: unequal shapes, NaN or infinity.
    """
    base = np.asarray(base_action, dtype=np.float32)
    added = np.asarray(residual, dtype=np.float32)
    for name, value in (("base action", base), ("residual", added)):
        if value.shape != lower.shape or not np.isfinite(value).all():
            raise ValueError(
                f"{name}: expected {lower.shape[0]} finite values, found {value.tolist()}"
            )
    low, high = lower.astype(np.float64), upper.astype(np.float64)
    unit = np.clip(2.0 * (base - low) / (high - low) - 1.0 + added, -1.0, 1.0)
    moved = np.clip((low + (unit + 1.0) * 0.5 * (high - low)).astype(np.float32), lower, upper)
    # Normalising and back rounds: an unmoved dimension must not change at all.
    return np.where(added == 0.0, np.clip(base, lower, upper), moved)
