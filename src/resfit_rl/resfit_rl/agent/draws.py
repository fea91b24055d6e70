"""All random numbers of a block of updates, drawn before it runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from resfit_rl.agent.config import AgentConfig
from resfit_rl.agent.spec import AgentSpec


@dataclass(frozen=True)
class Draws:
    """Random numbers of U updates with K cameras; of one update without the leading dimension.

    Drawn by a CPU generator whatever the device: the same seed gives the same numbers everywhere,
    and the block itself is a function without hidden state, as CUDA graphs need it.

    Attributes:
        shift: (U, 2, K, 2, B) int64, of observation and next observation, per camera, in rows and
            columns; see shifted_frames.
        smoothing: (U, B, A) float32, standard normal, of the target policy.
        heads: (U, M) int64, the critics whose minimum makes the target.
    """

    shift: torch.Tensor
    smoothing: torch.Tensor
    heads: torch.Tensor

    def of(self, update: int) -> Draws:
        """Those of one update."""
        return Draws(self.shift[update], self.smoothing[update], self.heads[update])


def draw(generator: torch.Generator, config: AgentConfig, spec: AgentSpec, updates: int) -> Draws:
    """Random numbers of `updates` updates."""
    batch, pad = config.batch_size, config.shift_pad
    cameras = len(spec.cameras)
    return Draws(
        shift=torch.randint(-pad, pad + 1, (updates, 2, cameras, 2, batch), generator=generator),
        smoothing=torch.randn(updates, batch, spec.action_dim, generator=generator),
        heads=torch.stack(
            [
                torch.randperm(config.ensemble_size, generator=generator)[: config.target_subset]
                for _ in range(updates)
            ]
        ),
    )
