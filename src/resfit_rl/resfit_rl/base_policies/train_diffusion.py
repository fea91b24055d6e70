"""How LeRobot's Diffusion Policy is trained."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from resfit_rl.agent.spec import AgentSpec
from resfit_rl.base_policies.interface import BasePolicyError
from resfit_rl.base_policies.lerobot_policy import save_lerobot
from resfit_rl.base_policies.training import ChunkDataset, Training
from resfit_rl.tasks import Task

os.environ.setdefault("HF_HUB_OFFLINE", "1")

_IMAGE, _STATE, _ACTION = "observation.images.", "observation.state", "action"
_FLOOR = 1e-2  # of a range: a dimension that hardly moves must not amplify rounding


@dataclass(frozen=True)
class DiffusionTraining(Training):
    """All terms of Diffusion Policy and of its training; one YAML file.

    A base policy predicts from one observation, so there is no history of them.
    """

    horizon: int  # actions that are denoised, a multiple of 2 ** len(down_dims)
    n_action_steps: int  # the first ones of them: the chunk
    vision_backbone: str  # a ResNet of torchvision
    resize: int  # pixels, height and width that the backbone sees; 0 for the camera's
    spatial_softmax_num_keypoints: int
    use_separate_rgb_encoder_per_camera: bool
    down_dims: list  # channels of the U-Net's stages
    kernel_size: int
    n_groups: int
    diffusion_step_embed_dim: int
    use_film_scale_modulation: bool
    noise_scheduler_type: str  # DDPM or DDIM
    num_train_timesteps: int
    num_inference_steps: int
    beta_schedule: str
    beta_start: float
    beta_end: float
    prediction_type: str  # epsilon or sample
    do_mask_loss_for_padding: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("horizon", "n_action_steps", "num_train_timesteps", "num_inference_steps"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: expected >= 1, found {getattr(self, key)}")
        factor = 2 ** len(self.down_dims)
        if not self.down_dims or self.horizon % factor:
            raise ValueError(
                f"horizon: expected a multiple of {factor} for {len(self.down_dims)} down_dims, "
                f"found {self.horizon}"
            )
        if self.n_action_steps > self.horizon:
            raise ValueError(
                f"n_action_steps: expected <= horizon = {self.horizon}, found {self.n_action_steps}"
            )

    @property
    def backbone(self) -> str:
        return "policy.diffusion.rgb_encoder"

    @property
    def predicted_actions(self) -> int:
        return self.horizon

    def build(self, spec: AgentSpec, data: ChunkDataset, device: torch.device) -> TrainedDiffusion:
        return TrainedDiffusion(spec, self, _statistics(data), device)

    def loss(
        self,
        model: TrainedDiffusion,
        images: Mapping[str, torch.Tensor],
        state: torch.Tensor,
        action: torch.Tensor,
        is_pad: torch.Tensor,
    ) -> torch.Tensor:
        return model.loss(images, state, action, is_pad)

    def export(
        self, model: TrainedDiffusion, task: Task, folder: Path, made: Mapping[str, Any]
    ) -> None:
        save_lerobot(
            model.policy, model.preprocessor, model.postprocessor, task, model.spec, folder, made
        )


class TrainedDiffusion(nn.Module):
    """LeRobot's policy with its processors: raw observations and actions in, loss out."""

    def __init__(
        self,
        spec: AgentSpec,
        config: DiffusionTraining,
        statistics: dict[str, dict[str, NDArray[np.float32]]],
        device: torch.device,
    ) -> None:
        super().__init__()
        from lerobot.configs.types import FeatureType, PolicyFeature
        from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
        from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
        from lerobot.policies.factory import make_pre_post_processors

        self.spec = spec
        settings = {
            key: getattr(config, key)
            for key in DiffusionTraining.__annotations__
            if key in DiffusionConfig.__dataclass_fields__
        }
        images = {
            f"{_IMAGE}{name}": PolicyFeature(FeatureType.VISUAL, (3, *pixels))
            for name, pixels in spec.cameras.items()
        }
        lerobot_config = DiffusionConfig(
            **settings
            | {
                "down_dims": tuple(config.down_dims),
                "resize_shape": (config.resize, config.resize) if config.resize else None,
            },
            n_obs_steps=1,
            input_features=images | {_STATE: PolicyFeature(FeatureType.STATE, (spec.state_dim,))},
            output_features={_ACTION: PolicyFeature(FeatureType.ACTION, (spec.action_dim,))},
            # Frozen statistics belong to pretrained weights, which are not at hand.
            pretrained_backbone_weights=None,
            use_group_norm=True,
            push_to_hub=False,
            device=device.type,
        )
        try:
            self.policy = DiffusionPolicy(lerobot_config)
        except ImportError as error:
            raise BasePolicyError(f"diffusion: {error}") from error
        self.preprocessor, self.postprocessor = make_pre_post_processors(
            lerobot_config,
            dataset_stats={
                key: {name: torch.from_numpy(value) for name, value in values.items()}
                for key, values in statistics.items()
            },
        )

    def loss(
        self,
        images: Mapping[str, torch.Tensor],
        state: torch.Tensor,
        action: torch.Tensor,
        is_pad: torch.Tensor,
    ) -> torch.Tensor:
        """Images (B, H, W, 3) uint8, states (B, S), actions (B, horizon, A), is_pad (B, horizon).

        LeRobot's own loss.
        """
        batch = {
            f"{_IMAGE}{name}": images[name].permute(0, 3, 1, 2).float() / 255.0
            for name in self.spec.cameras
        }
        batch = self.preprocessor(
            batch | {_STATE: state, _ACTION: action, f"{_ACTION}_is_pad": is_pad}
        )
        batch[_STATE] = batch[_STATE].unsqueeze(1)  # one observation: a time axis of one
        return self.policy.forward(batch)[0]


def _statistics(data: ChunkDataset) -> dict[str, dict[str, NDArray[np.float32]]]:
    found = {}
    for name, frames in data.images.items():
        sums = np.zeros((2, 3))
        for frame in frames:
            pixels = frame.reshape(-1, 3) / 255.0
            sums += [pixels.mean(axis=0), np.square(pixels).mean(axis=0)]
        mean, square = sums / len(frames)
        deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
        found[f"{_IMAGE}{name}"] = {
            "mean": mean.astype(np.float32).reshape(3, 1, 1),
            "std": np.maximum(deviation, _FLOOR).astype(np.float32).reshape(3, 1, 1),
        }
    for key, values in ((_STATE, data.states), (_ACTION, data.actions)):
        low, high = values.min(axis=0), values.max(axis=0)
        widen = np.maximum(_FLOOR - (high - low), 0.0) / 2
        found[key] = {
            "min": (low - widen).astype(np.float32),
            "max": (high + widen).astype(np.float32),
        }
    return found
