"""A batch of n-step transitions."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Batch:
    """B transitions; actions in robot units, states as recorded.

    Images are indices into stored frames: a replay on the learner's device copies none of them
    before they are shifted.

    Attributes:
        frames: camera -> (N, H, W, 3) uint8.
        frame, next_frame: (B,) int64, which of `frames`.
        state, next_state: (B, S) float32.
        base_action, next_base_action, action: (B, A) float32; `action` is what was executed.
        reward: (B,) float32, sum of gamma^k r_k over the window.
        discount: (B,) float32, gamma^n where the return bootstraps at the next observation, else 0.
    """

    frames: dict[str, torch.Tensor]
    frame: torch.Tensor
    next_frame: torch.Tensor
    state: torch.Tensor
    next_state: torch.Tensor
    base_action: torch.Tensor
    next_base_action: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    discount: torch.Tensor

    @property
    def images(self) -> dict[str, torch.Tensor]:
        """camera -> (B, H, W, 3) uint8, of the observations."""
        return {name: frames.index_select(0, self.frame) for name, frames in self.frames.items()}

    @property
    def next_images(self) -> dict[str, torch.Tensor]:
        """camera -> (B, H, W, 3) uint8, of the next observations."""
        return {
            name: frames.index_select(0, self.next_frame) for name, frames in self.frames.items()
        }
