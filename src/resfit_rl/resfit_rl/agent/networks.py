"""Encoder, critic ensemble and actor.

Images are (B, H, W, 3) uint8 throughout; features are (B, P, C): P patches of all cameras, C
channels. States and actions are normalised.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from resfit_rl.agent.config import AgentConfig
from resfit_rl.agent.spec import AgentSpec


def _patch_grid(size: tuple[int, int], camera: str) -> tuple[int, int]:
    """Rows and columns of patches the two convolutions leave of an image of `size` pixels."""
    grid = tuple(((edge - 8) // 4 + 1 - 3) // 2 + 1 for edge in size)
    if min(size) < 16:
        raise ValueError(f"camera {camera}: expected at least 16 x 16 pixels, found {size}")
    return grid[0], grid[1]


class TransformerLayer(nn.Module):
    """Pre-norm self-attention and MLP over patches (B, P, C)."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp_in = nn.Linear(dim, mlp_ratio * dim)
        self.mlp_out = nn.Linear(mlp_ratio * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, patches, dim = x.shape
        qkv = self.qkv(self.attention_norm(x)).reshape(batch, patches, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        x = x + self.projection(attended.transpose(1, 2).reshape(batch, patches, dim))
        return x + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x))))


class CameraEncoder(nn.Module):
    """Shallow ViT of one camera: (B, H, W, 3) uint8 -> (B, P, C) float32."""

    def __init__(self, camera: str, size: tuple[int, int], config: AgentConfig) -> None:
        super().__init__()
        rows, columns = _patch_grid(size, camera)
        self.patches = rows * columns
        dim = config.embed_dim
        self.conv_in = nn.Conv2d(3, dim, kernel_size=8, stride=4)
        self.conv_out = nn.Conv2d(dim, dim, kernel_size=3, stride=2)
        self.positions = nn.Parameter(torch.randn(1, self.patches, dim) * 0.02)
        self.layers = nn.ModuleList(
            TransformerLayer(dim, config.encoder_heads, config.encoder_mlp_ratio)
            for _ in range(config.encoder_layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.to(self.positions.dtype).permute(0, 3, 1, 2)
        # Pixels in [0, 1], by scaling the weights: far fewer numbers than the images.
        x = F.conv2d(x, self.conv_in.weight / 255.0, self.conv_in.bias, self.conv_in.stride)
        x = self.conv_out(F.relu(x))
        x = x.flatten(2).transpose(1, 2) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Encoder(nn.Module):
    """One CameraEncoder per camera, concatenated along the patches.

    Without a camera one learned patch, (1, 1, C), stands for all pictures of a batch.
    """

    def __init__(self, spec: AgentSpec, config: AgentConfig) -> None:
        super().__init__()
        self.names = list(spec.cameras)
        # A list, as a camera's name need not be a valid module name.
        self.cameras = nn.ModuleList(
            CameraEncoder(name, size, config) for name, size in spec.cameras.items()
        )
        self.patches = sum(_count_patches(spec).values())
        if not self.names:
            self.patches = 1
            self.patch = nn.Parameter(torch.randn(1, 1, config.embed_dim) * 0.02)

    def forward(self, images: dict[str, torch.Tensor]) -> torch.Tensor:
        if not self.names:
            return self.patch
        features = [
            encoder(images[name]) for name, encoder in zip(self.names, self.cameras, strict=True)
        ]
        return torch.cat(features, dim=1)


def _count_patches(spec: AgentSpec) -> dict[str, int]:
    return {name: math.prod(_patch_grid(size, name)) for name, size in spec.cameras.items()}


class EnsembleLinear(nn.Module):
    """E linear layers as one batched product: (E, B, in) -> (E, B, out)."""

    def __init__(self, heads: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(heads, 1, outputs))
        for head in self.weight:
            nn.init.orthogonal_(head.data)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class EnsembleLayerNorm(nn.Module):
    """LayerNorm with its own affine terms per head, on (E, B, D)."""

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads, 1, dim))
        self.bias = nn.Parameter(torch.zeros(heads, 1, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:]) * self.weight + self.bias


class Critic(nn.Module):
    """Spatial embedding shared by E Q heads.

    Each feature channel's patch vector is joined with state and action, embedded, weighted by a
    learned (channel x embedding) map and summed over channels; the heads see that beside state and
    action.
    """

    def __init__(self, spec: AgentSpec, config: AgentConfig, patches: int) -> None:
        super().__init__()
        side = spec.state_dim + spec.action_dim
        heads, hidden, spatial = (
            config.ensemble_size, config.critic_hidden_dim, config.spatial_dim,
        )  # fmt: skip
        self.heads = heads
        # linear([patches, side]) in two parts: the side part is the same for each channel.
        joint = torch.empty(spatial, patches + side)
        nn.init.orthogonal_(joint)
        self.embed_patches = nn.Linear(patches, spatial)
        self.embed_side = nn.Linear(side, spatial, bias=False)
        with torch.no_grad():
            self.embed_patches.weight.copy_(joint[:, :patches])
            self.embed_side.weight.copy_(joint[:, patches:])
            self.embed_patches.bias.zero_()
        self.embed_norm = nn.LayerNorm(spatial) if config.layer_norm else nn.Identity()
        self.channel_map = nn.Parameter(
            torch.randn(config.embed_dim, spatial) / math.sqrt(config.embed_dim)
        )
        layers: list[nn.Module] = []
        width = spatial + side
        for _ in range(config.critic_hidden_layers):
            layers.append(EnsembleLinear(heads, width, hidden))
            if config.layer_norm:
                layers.append(EnsembleLayerNorm(heads, hidden))
            layers.append(nn.ReLU())
            width = hidden
        layers.append(EnsembleLinear(heads, width, 1))
        self.q = nn.Sequential(*layers)

    def forward(
        self, features: torch.Tensor, state: torch.Tensor, action: torch.Tensor
    ) -> torch.Tensor:
        """(B, P, C), (B, S), (B, A) -> Q (E, B)."""
        side = torch.cat([state, action], dim=-1)
        x = self.embed_patches(features.transpose(1, 2)) + self.embed_side(side)[:, None]
        x = (F.relu(self.embed_norm(x)) * self.channel_map).sum(dim=1)
        x = torch.cat([x, side], dim=-1)
        return self.q(x.expand(self.heads, -1, -1)).squeeze(-1)


class Actor(nn.Module):
    """Residual action, (B, A) within [-scale, scale]; exactly 0 at initialisation.

    Without `zero_init_residual` the last layer starts as the others do.
    """

    def __init__(self, spec: AgentSpec, config: AgentConfig, patches: int) -> None:
        super().__init__()
        self.scale = config.residual_scale
        self.compress = nn.Sequential(
            nn.Linear(patches * config.embed_dim, config.actor_feature_dim),
            nn.LayerNorm(config.actor_feature_dim) if config.layer_norm else nn.Identity(),
            nn.ReLU(),
        )
        layers: list[nn.Module] = []
        width = config.actor_feature_dim + spec.state_dim + spec.action_dim
        for _ in range(config.actor_hidden_layers):
            layers.append(nn.Linear(width, config.actor_hidden_dim))
            if config.layer_norm:
                layers.append(nn.LayerNorm(config.actor_hidden_dim))
            layers.append(nn.ReLU())
            width = config.actor_hidden_dim
        self.body = nn.Sequential(*layers)
        self.last = nn.Linear(width, spec.action_dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight)
                nn.init.zeros_(module.bias)
        if config.zero_init_residual:
            nn.init.zeros_(self.last.weight)

    def forward(
        self, features: torch.Tensor, state: torch.Tensor, base_action: torch.Tensor
    ) -> torch.Tensor:
        """(B, P, C), (B, S), (B, A) -> residual (B, A), normalised action units."""
        compressed = self.compress(features.flatten(1)).expand(len(state), -1)
        x = torch.cat([compressed, state, base_action], dim=-1)
        return torch.tanh(self.last(self.body(x))) * self.scale
