"""A batch of n-step transitions."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Batch:
    """B transitions; actions in robot units, states as recorded.

    Attributes:
        images, next_images: camera -> (B, H, W, 3) uint8.
        state, next_state: (B, S) float32.
        base_action, next_base_action, action: (B, A) float32; `action` is what was executed.
        reward: (B,) float32, sum of gamma^k r_k over the window.
        discount: (B,) float32, gamma^n where the return bootstraps at the next observation, else 0.
    """

    images: dict[str, torch.Tensor]
    state: torch.Tensor
    base_action: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    discount: torch.Tensor
    next_images: dict[str, torch.Tensor]
    next_state: torch.Tensor
    next_base_action: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""

        def move(value: torch.Tensor) -> torch.Tensor:
            return value.to(device, non_blocking=True)

        return Batch(
            images={k: move(v) for k, v in self.images.items()},
            state=move(self.state),
            base_action=move(self.base_action),
            action=move(self.action),
            reward=move(self.reward),
            discount=move(self.discount),
            next_images={k: move(v) for k, v in self.next_images.items()},
            next_state=move(self.next_state),
            next_base_action=move(self.next_base_action),
        )
