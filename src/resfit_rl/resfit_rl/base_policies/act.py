"""LeRobot's ACT as a base policy, and its checkpoint folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACT
from lerobot.utils.constants import OBS_ENV_STATE, OBS_IMAGES, OBS_STATE
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from resfit_rl.agent.spec import AgentSpec
from resfit_rl.base_policies.checkpoint_folder import replaced_folder
from resfit_rl.base_policies.identity import base_policy_identity
from resfit_rl.base_policies.interface import BasePolicyError
from resfit_rl.observation import Observation
from resfit_rl.tasks import Task

FORMAT = "resfit-act/1"
_FLOOR = 1e-2  # of a deviation: a dimension that hardly moves must not amplify rounding


@dataclass(frozen=True)
class ACTSize:
    """The terms of ACTConfig that a checkpoint of ours may vary."""

    chunk_size: int
    vision_backbone: str  # a ResNet of torchvision, or 'conv', which is ten times cheaper
    replace_final_stride_with_dilation: bool
    dim_model: int
    n_heads: int
    dim_feedforward: int
    n_encoder_layers: int
    n_decoder_layers: int
    dropout: float
    # Of the variational encoder, which is there while training only.
    use_vae: bool = False
    latent_dim: int = 32
    n_vae_encoder_layers: int = 4


class NormalisedACT(nn.Module):
    """ACT with its statistics: raw observations in, robot units out.

    Buffers: state_mean, state_std (S,), action_mean, action_std (A,), float32.
    """

    state_mean: torch.Tensor
    state_std: torch.Tensor
    action_mean: torch.Tensor
    action_std: torch.Tensor

    def __init__(self, spec: AgentSpec, size: ACTSize) -> None:
        super().__init__()
        self.spec = spec
        self.size = size
        images = {
            f"{OBS_IMAGES}.{name}": PolicyFeature(FeatureType.VISUAL, (3, *pixels))
            for name, pixels in spec.cameras.items()
        }
        # LeRobot's ACT wants pictures or a state of the scene, which here is in the state.
        state = PolicyFeature(FeatureType.STATE, (spec.state_dim,))
        scene = {OBS_ENV_STATE: PolicyFeature(FeatureType.ENV, (spec.state_dim,))}
        small = size.vision_backbone == "conv"
        config = ACTConfig(
            input_features={**images, OBS_STATE: state} | ({} if images else scene),
            output_features={"action": PolicyFeature(FeatureType.ACTION, (spec.action_dim,))},
            n_action_steps=size.chunk_size,
            pretrained_backbone_weights=None,
            device="cpu",
            **(asdict(size) | ({"vision_backbone": "resnet18"} if small else {})),
        )
        self.act = ACT(config)
        if not images:
            pass
        elif small:
            self.act.backbone = ConvBackbone()
            self.act.encoder_img_feat_input_proj = nn.Conv2d(
                ConvBackbone.channels[-1], size.dim_model, kernel_size=1
            )
        else:
            _with_group_norm(self.act)
        for name, length in (("state", spec.state_dim), ("action", spec.action_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(length))
            self.register_buffer(f"{name}_std", torch.ones(length))

    def fit_statistics(self, states: NDArray[np.float32], actions: NDArray[np.float32]) -> None:
        """Means and deviations of (N, S) and (N, A)."""
        for name, values in (("state", states), ("action", actions)):
            wide = values.astype(np.float64)
            getattr(self, f"{name}_mean").copy_(torch.from_numpy(wide.mean(axis=0)))
            deviation = np.maximum(wide.std(axis=0), _FLOOR)
            getattr(self, f"{name}_std").copy_(torch.from_numpy(deviation))

    def forward(self, images: Mapping[str, torch.Tensor], state: torch.Tensor) -> torch.Tensor:
        """Images (B, H, W, 3) uint8 and states (B, S) -> normalised actions (B, chunk, A)."""
        return self._act(images, state)[0]

    def loss(
        self,
        images: Mapping[str, torch.Tensor],
        state: torch.Tensor,
        action: torch.Tensor,
        is_pad: torch.Tensor,
        kl_weight: float = 0.0,
    ) -> torch.Tensor:
        """L1 on normalised actions, and the VAE's divergence from a unit Gaussian.

        Args:
            action: (B, chunk, A), robot units.
            is_pad: (B, chunk) bool, actions that count for nothing.
        """
        target = self.normalise_action(action)
        extra = {"action": target, "action_is_pad": is_pad} if self.size.use_vae else {}
        predicted, (mean, log_variance) = self._act(images, state, **extra)
        valid = ~is_pad.unsqueeze(-1)
        error = (predicted.float() - target).abs() * valid
        loss = error.sum() / (valid.sum() * target.shape[-1])
        if mean is None or log_variance is None:
            return loss
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(-1)
        return loss + kl_weight * divergence.mean()

    def _act(
        self, images: Mapping[str, torch.Tensor], state: torch.Tensor, **extra: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor | None, torch.Tensor | None]]:
        pictures = [
            # Pixels to about [-2, 2].
            (images[name].permute(0, 3, 1, 2).float() / 255.0 - 0.5) / 0.25
            for name in self.spec.cameras
        ]
        state = (state - self.state_mean) / self.state_std
        seen = {OBS_IMAGES: pictures} if pictures else {OBS_ENV_STATE: state}
        return self.act({**seen, OBS_STATE: state, **extra})

    def normalise_action(self, action: torch.Tensor) -> torch.Tensor:
        """(..., A), robot units -> normalised."""
        return (action - self.action_mean) / self.action_std

    def denormalise_action(self, action: torch.Tensor) -> torch.Tensor:
        """Inverse of normalise_action."""
        return action * self.action_std + self.action_mean


class ConvBackbone(nn.Sequential):
    """Four strided convolutions, 1/32 of the size, in place of a ResNet."""

    channels = (32, 64, 128, 256)

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        before = 3
        for channels in self.channels:
            first = not layers
            layers += [
                nn.Conv2d(before, channels, 8, 4, 2)
                if first
                else nn.Conv2d(before, channels, 3, 2, 1),
                nn.GroupNorm(channels // 16, channels),
                nn.ReLU(),
            ]
            before = channels
        super().__init__(*layers)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, H, W) -> feature_map (B, 256, H / 32, W / 32)."""
        return {"feature_map": super().forward(images)}


def _with_group_norm(module: nn.Module) -> None:
    """Put GroupNorm in place of the backbone's frozen BatchNorm.

    Frozen statistics belong to pretrained weights; without those they normalise nothing.
    """
    for name, child in module.named_children():
        if isinstance(child, FrozenBatchNorm2d):
            channels = child.weight.shape[0]
            setattr(module, name, nn.GroupNorm(channels // 16, channels))
        else:
            _with_group_norm(child)


class ACTBasePolicy:
    """A trained ACT; see BasePolicy. Safe to call from any one thread at a time."""

    def __init__(self, model: NormalisedACT, identity: str, device: torch.device | str) -> None:
        self._model = model.to(device).eval().requires_grad_(False)
        self._device = device
        self._lower = model.spec.action_lower
        self._upper = model.spec.action_upper
        self.identity = identity

    @property
    def chunk_size(self) -> int:
        return self._model.size.chunk_size

    def reset(self, seed: int) -> None:
        """Nothing to forget: a prediction depends on one observation."""

    @torch.inference_mode()
    def predict_chunk(self, observation: Observation) -> NDArray[np.float32]:
        """(chunk_size, A) float32, robot units, within the action limits.

        Raises:
            BasePolicyError: a missing camera, another image size, or another state length.
        """
        spec = self._model.spec
        images = {}
        for name, pixels in spec.cameras.items():
            image = observation.images.get(name)
            if image is None or image.shape != (*pixels, 3):
                found = None if image is None else image.shape
                raise BasePolicyError(f"camera {name}: expected {(*pixels, 3)}, found {found}")
            images[name] = torch.from_numpy(np.array(image))[None].to(self._device)
        if observation.state.shape != (spec.state_dim,):
            raise BasePolicyError(
                f"state: expected ({spec.state_dim},), found {observation.state.shape}"
            )
        state = torch.from_numpy(np.array(observation.state))[None].to(self._device)
        chunk = self._model.denormalise_action(self._model(images, state))[0].cpu().numpy()
        return np.clip(chunk, self._lower, self._upper)


def save_act(model: NormalisedACT, task: Task, folder: Path, made: Mapping[str, Any]) -> None:
    """Write config.json and model.safetensors (float16) as a whole: the folder is renamed last.

    Args:
        made: how the checkpoint came about (command, steps, data, measured success), for people.
    """
    half = {name: value.detach().cpu().half() for name, value in model.act.state_dict().items()}
    tensors = {f"act.{name}": value.contiguous() for name, value in half.items()}
    tensors |= {name: value.detach().cpu() for name, value in model.named_buffers(recurse=False)}
    config = {
        "format": FORMAT,
        "task": task.name,
        "implementation": task.implementation,
        "spec": model.spec.as_dict(),
        "act": asdict(model.size),
        "made": dict(made),
    }
    with replaced_folder(folder) as new:
        save_file(tensors, new / "model.safetensors")
        (new / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_act(folder: Path | str, task: Task, device: torch.device | str = "cpu") -> ACTBasePolicy:
    """Read a checkpoint folder of `task`.

    Raises:
        BasePolicyError: missing, truncated or corrupt files, another task or implementation;
            names the expected and the found.
    """
    folder = Path(folder)
    config_file = folder / "config.json"
    weights_file = folder / "model.safetensors"
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BasePolicyError(
            f"{config_file}: expected an ACT checkpoint, found: {error}"
        ) from error
    expected = {"format": FORMAT, "task": task.name, "implementation": task.implementation}
    for key, value in expected.items():
        found = config.get(key) if isinstance(config, dict) else None
        if found != value:
            raise BasePolicyError(f"{config_file}: {key}: expected {value}, found {found}")
    identity = base_policy_identity("act", task, folder)
    try:
        model = NormalisedACT(AgentSpec.from_dict(config["spec"]), ACTSize(**config["act"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BasePolicyError(
            f"{config_file}: expected spec and act as written, found: {error!r}"
        ) from error
    try:
        model.load_state_dict({k: v.float() for k, v in load_file(weights_file).items()})
    except (RuntimeError, OSError, SafetensorError) as error:
        size = weights_file.stat().st_size
        raise BasePolicyError(
            f"{weights_file}: expected the whole weights that config.json describes, "
            f"found {size} bytes: {error}"
        ) from error
    sizes = list(model.spec.cameras.values())
    if problem := task.agent_spec(*sizes[:1]).difference(model.spec):
        raise BasePolicyError(f"{config_file}: {problem}")
    return ACTBasePolicy(model, identity, device)
