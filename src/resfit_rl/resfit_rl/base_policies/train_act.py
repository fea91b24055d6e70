"""How LeRobot's ACT is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resfit_rl.agent.spec import AgentSpec
from resfit_rl.base_policies.act import ACTSize, NormalisedACT, save_act
from resfit_rl.base_policies.training import ChunkDataset, Training
from resfit_rl.tasks import Task


@dataclass(frozen=True)
class ACTTraining(Training):
    """All terms of ACT and of its training; one YAML file."""

    chunk_size: int
    vision_backbone: str  # a ResNet of torchvision, or 'conv', which is ten times cheaper
    replace_final_stride_with_dilation: bool
    dim_model: int
    n_heads: int
    dim_feedforward: int
    n_encoder_layers: int
    n_decoder_layers: int
    dropout: float
    use_vae: bool
    latent_dim: int
    n_vae_encoder_layers: int
    kl_weight: float

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("chunk_size", "n_heads", "latent_dim"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: expected >= 1, found {getattr(self, key)}")
        if self.dim_model % self.n_heads:
            raise ValueError(
                f"dim_model: expected a multiple of n_heads = {self.n_heads}, "
                f"found {self.dim_model}"
            )

    def size(self) -> ACTSize:
        return ACTSize(**{key: getattr(self, key) for key in ACTSize.__dataclass_fields__})

    @property
    def backbone(self) -> str:
        return "act.backbone"

    @property
    def predicted_actions(self) -> int:
        return self.chunk_size

    def build(self, spec: AgentSpec, data: ChunkDataset, device: torch.device) -> NormalisedACT:
        model = NormalisedACT(spec, self.size())
        model.fit_statistics(data.states, data.actions)
        return model

    def loss(
        self,
        model: NormalisedACT,
        images: Mapping[str, torch.Tensor],
        state: torch.Tensor,
        action: torch.Tensor,
        is_pad: torch.Tensor,
    ) -> torch.Tensor:
        return model.loss(images, state, action, is_pad, self.kl_weight)

    def export(
        self, model: NormalisedACT, task: Task, folder: Path, made: Mapping[str, Any]
    ) -> None:
        save_act(model, task, folder, made)
