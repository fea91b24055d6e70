"""One update of ResFiT, written out plainly: what the fast agent is compared with.

The equations are those of "Residual off-policy RL for finetuning behavior cloning policies",
section 3.3. Loops stand where the agent has batched products, and nothing is fused. Nothing here
is shared with the agent but its configuration and the form of a batch.

Symbols: o, s, a, b are images, state, executed action and base action; a prime marks those n steps
later; f features, Q_h critic head h, pi the residual policy; a bar marks the target networks.
Shapes: B samples, S state, A action, P patches of all cameras, C channels, E heads.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from resfit_rl.agent import AgentConfig, AgentSpec, Batch

StateDict = Mapping[str, torch.Tensor]


class Draws(Protocol):
    """Random numbers of one update with K cameras.

    Attributes:
        shift: int64 (2, K, 2, B), pixels within -pad..pad: [observation, next observation] x
            [cameras in the spec's order] x [rows, columns] x samples.
        smoothing: float32 (B, A), standard normal.
        heads: int64 (target_subset,), the heads whose minimum makes the target.
    """

    @property
    def shift(self) -> torch.Tensor: ...
    @property
    def smoothing(self) -> torch.Tensor: ...
    @property
    def heads(self) -> torch.Tensor: ...


# -- networks -------------------------------------------------------------------------------------


class TransformerLayer(nn.Module):
    """x + W o(norm(x)), then x + MLP(norm(x)), on (B, P, C).

    o joins softmax(q k^T / sqrt(d)) v of each attention head, d its width.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.projection = nn.Linear(dim, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp_in = nn.Linear(dim, mlp_ratio * dim)
        self.mlp_out = nn.Linear(mlp_ratio * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = self.attention_norm(x)
        query = self._by_head(self.query(normed))
        key = self._by_head(self.key(normed))
        value = self._by_head(self.value(normed))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        attended = torch.softmax(scores, dim=-1) @ value
        x = x + self.projection(attended.transpose(1, 2).flatten(2))
        hidden = F.gelu(self.mlp_in(self.mlp_norm(x)))
        return x + self.mlp_out(hidden)

    def _by_head(self, x: torch.Tensor) -> torch.Tensor:
        """(B, P, heads * d) -> (B, heads, P, d)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class CameraEncoder(nn.Module):
    """(B, 3, H, W) in [0, 1] -> (B, p, C): p patches of one camera."""

    def __init__(self, height: int, width: int, config: AgentConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.conv_in = nn.Conv2d(3, dim, kernel_size=8, stride=4)
        self.conv_out = nn.Conv2d(dim, dim, kernel_size=3, stride=2)
        self.positions = nn.Parameter(0.02 * torch.randn(_patches(height, width), dim))
        self.layers = nn.ModuleList(
            TransformerLayer(dim, config.encoder_heads, config.encoder_mlp_ratio)
            for _ in range(config.encoder_layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        grid = self.conv_out(F.relu(self.conv_in(image)))
        x = grid.flatten(2).transpose(1, 2) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


def _patches(height: int, width: int) -> int:
    """Patches that both convolutions leave of an image."""
    patches = 1
    for edge in (height, width):
        after_first = (edge - 8) // 4 + 1
        patches *= (after_first - 3) // 2 + 1
    return patches


class Encoder(nn.Module):
    """Images of all cameras, in the spec's order, -> features f (B, P, C)."""

    def __init__(self, spec: AgentSpec, config: AgentConfig) -> None:
        super().__init__()
        self.cameras = nn.ModuleList(
            CameraEncoder(height, width, config) for height, width in spec.cameras.values()
        )
        self.patches = sum(_patches(height, width) for height, width in spec.cameras.values())

    def forward(self, images: Sequence[torch.Tensor]) -> torch.Tensor:
        features = []
        for camera, image in zip(self.cameras, images, strict=True):
            features.append(camera(image))
        return torch.cat(features, dim=1)


class Critic(nn.Module):
    """Q_h(f, s, a) of E heads on one embedding z.

    z = sum over channels c of m_c * relu(norm(W [f_c, s, a] + w)), f_c the P patches of channel c
    and m the learned map; Q_h = MLP_h([z, s, a]).
    """

    def __init__(self, spec: AgentSpec, config: AgentConfig, patches: int) -> None:
        super().__init__()
        side = spec.state_dim + spec.action_dim
        embedding: list[nn.Module] = [nn.Linear(patches + side, config.spatial_dim)]
        if config.layer_norm:
            embedding.append(nn.LayerNorm(config.spatial_dim))
        embedding.append(nn.ReLU())
        self.embedding = nn.Sequential(*embedding)
        scale = 1.0 / math.sqrt(config.embed_dim)
        self.channel_map = nn.Parameter(scale * torch.randn(config.embed_dim, config.spatial_dim))
        self.heads = nn.ModuleList()
        for _ in range(config.ensemble_size):
            layers = _hidden_layers(
                config.spatial_dim + side,
                config.critic_hidden_dim,
                config.critic_hidden_layers,
                config.layer_norm,
            )
            self.heads.append(nn.Sequential(*layers, nn.Linear(config.critic_hidden_dim, 1)))

    def forward(
        self,
        features: torch.Tensor,
        state: torch.Tensor,
        action: torch.Tensor,
        heads: Sequence[int],
    ) -> list[torch.Tensor]:
        """(B, P, C), (B, S), (B, A) -> Q (B,) of each of `heads`."""
        side = torch.cat([state, action], dim=-1)
        channels = features.transpose(1, 2)
        side_of_each = side[:, None].expand(-1, channels.shape[1], -1)
        embedded = self.embedding(torch.cat([channels, side_of_each], dim=-1))
        z = (self.channel_map * embedded).sum(dim=1)
        x = torch.cat([z, side], dim=-1)
        return [self.heads[h](x)[:, 0] for h in heads]


class Actor(nn.Module):
    """pi(f, s, b) = scale * tanh(MLP([relu(norm(W f + w)), s, b])), f flattened: (B, A)."""

    def __init__(self, spec: AgentSpec, config: AgentConfig, patches: int) -> None:
        super().__init__()
        self.scale = config.residual_scale
        inputs = patches * config.embed_dim
        self.compress = nn.Sequential(
            *_hidden_layers(inputs, config.actor_feature_dim, 1, config.layer_norm)
        )
        width = config.actor_feature_dim + spec.state_dim + spec.action_dim
        layers = _hidden_layers(
            width, config.actor_hidden_dim, config.actor_hidden_layers, config.layer_norm
        )
        self.mlp = nn.Sequential(*layers, nn.Linear(config.actor_hidden_dim, spec.action_dim))

    def forward(
        self, features: torch.Tensor, state: torch.Tensor, base: torch.Tensor
    ) -> torch.Tensor:
        compressed = self.compress(features.flatten(1))
        x = torch.cat([compressed, state, base], dim=-1)
        return self.scale * torch.tanh(self.mlp(x))


def _hidden_layers(inputs: int, width: int, count: int, layer_norm: bool) -> list[nn.Module]:
    """`count` times linear, LayerNorm if wanted, ReLU."""
    layers: list[nn.Module] = []
    for _ in range(count):
        layers.append(nn.Linear(inputs, width))
        if layer_norm:
            layers.append(nn.LayerNorm(width))
        layers.append(nn.ReLU())
        inputs = width
    return layers


# -- weights --------------------------------------------------------------------------------------


def reference_weights(
    encoder_state: StateDict, critic_state: StateDict, actor_state: StateDict
) -> dict[str, dict[str, torch.Tensor]]:
    """The agent's weights, or its targets', under the names and shapes of the networks here.

    The agent's fused tensors come apart: query, key and value; the heads. What it keeps in two
    parts, the critic's embedding, is joined.

    Args:
        encoder_state, critic_state, actor_state: state dicts of the agent's networks.

    Returns:
        "encoder", "critic" and "actor" -> state dict, new tensors of the dtype given.

    Raises:
        ValueError: a tensor that nothing here takes.
    """
    left = {
        "encoder": dict(encoder_state), "critic": dict(critic_state), "actor": dict(actor_state),
    }  # fmt: skip
    found: dict[str, dict[str, torch.Tensor]] = {"encoder": {}, "critic": {}, "actor": {}}

    encoder = found["encoder"]
    for name in list(left["encoder"]):
        if ".qkv." in name:
            parts = left["encoder"].pop(name).chunk(3, dim=0)
            for part, tensor in zip(("query", "key", "value"), parts, strict=True):
                encoder[name.replace("qkv", part)] = tensor
        elif name.endswith(".positions"):
            encoder[name] = left["encoder"].pop(name)[0]
        else:
            encoder[name] = left["encoder"].pop(name)

    critic = found["critic"]
    critic["channel_map"] = left["critic"].pop("channel_map")
    of_patches = left["critic"].pop("embed_patches.weight")
    of_side = left["critic"].pop("embed_side.weight")
    critic["embedding.0.weight"] = torch.cat([of_patches, of_side], dim=1)
    critic["embedding.0.bias"] = left["critic"].pop("embed_patches.bias")
    for kind in ("weight", "bias"):
        if f"embed_norm.{kind}" in left["critic"]:
            critic[f"embedding.1.{kind}"] = left["critic"].pop(f"embed_norm.{kind}")
    # A linear layer, LayerNorm if there is one, ReLU: every `period`-th is a linear layer.
    period = 3 if "embed_norm.weight" in critic_state else 2
    for name in [name for name in left["critic"] if name.startswith("q.")]:
        _, layer, kind = name.split(".")
        # (E, inputs, outputs) for the weights of linear layers, (E, 1, outputs) for all else.
        linear = kind == "weight" and int(layer) % period == 0
        for head, tensor in enumerate(left["critic"].pop(name)):
            critic[f"heads.{head}.{layer}.{kind}"] = tensor.T if linear else tensor[0]

    actor = found["actor"]
    layers = [int(name.split(".")[1]) for name in left["actor"] if name.startswith("body.")]
    last = max(layers) + 2  # After the ReLU.
    for name in list(left["actor"]):
        if name.startswith("compress."):
            actor[name] = left["actor"].pop(name)
        elif name.startswith("body."):
            actor[name.replace("body", "mlp")] = left["actor"].pop(name)
        elif name.startswith("last."):
            actor[name.replace("last", f"mlp.{last}")] = left["actor"].pop(name)

    unused = [f"{network}: {name}" for network, state in left.items() for name in state]
    if unused:
        raise ValueError(f"weights: expected every tensor used, found left over {unused}")
    return {
        network: {name: tensor.detach().clone() for name, tensor in state.items()}
        for network, state in found.items()
    }


# -- returns --------------------------------------------------------------------------------------


def n_step_return(
    rewards: Sequence[float], done: bool, t: int, n: int, gamma: float
) -> tuple[float, float, int]:
    """R = sum over k < m of gamma^k r_{t+k}, m = n or what is left of the episode.

    Args:
        rewards: r of each transition of one episode.
        done: whether the last of them is terminal.
        t: transition the window begins with.
        n: window length >= 1.
        gamma: discount per step.

    Returns:
        (R, discount, next_index): discount gamma^m multiplies the value of the observation
        next_index = t + m; it is 0 where the window reaches the end and the episode is done.
    """
    total, discount, index = 0.0, 1.0, t
    for _ in range(n):
        if index == len(rewards):
            break
        total += discount * rewards[index]
        discount *= gamma
        index += 1
    if index == len(rewards) and done:
        discount = 0.0
    return total, discount, index


# -- learning -------------------------------------------------------------------------------------


class ReferenceAgent:
    """Networks, their targets and one Adam each; see `update`.

    The weights come from `load_weights`: until then they are torch's random ones.

    Args:
        config, spec: as the agent's.
        action_lower, action_upper: (A,), robot units, mapped to -1 and 1.
        state_mean, state_std: (S,).
        dtype: of weights and sums.
        device: of weights and sums; batches and draws may lie elsewhere.
    """

    def __init__(
        self,
        config: AgentConfig,
        spec: AgentSpec,
        action_lower: np.ndarray | torch.Tensor,
        action_upper: np.ndarray | torch.Tensor,
        state_mean: np.ndarray | torch.Tensor,
        state_std: np.ndarray | torch.Tensor,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.spec = spec
        self.dtype = dtype
        self.device = torch.device(device)
        self.action_lower = self._number(torch.as_tensor(action_lower))
        self.action_upper = self._number(torch.as_tensor(action_upper))
        self.state_mean = self._number(torch.as_tensor(state_mean))
        self.state_std = self._number(torch.as_tensor(state_std))
        self.encoder = Encoder(spec, config).to(self.device, dtype)
        self.critic = Critic(spec, config, self.encoder.patches).to(self.device, dtype)
        self.actor = Actor(spec, config, self.encoder.patches).to(self.device, dtype)
        self._start()

    def load_weights(
        self, encoder_state: StateDict, critic_state: StateDict, actor_state: StateDict
    ) -> None:
        """Start from the agent's weights: targets are copies, the optimisers begin anew.

        Raises:
            ValueError, RuntimeError: a tensor that is not used, missing or of another shape.
        """
        weights = reference_weights(encoder_state, critic_state, actor_state)
        self.encoder.load_state_dict(weights["encoder"])
        self.critic.load_state_dict(weights["critic"])
        self.actor.load_state_dict(weights["actor"])
        self._start()

    def _start(self) -> None:
        self.target_critic = copy.deepcopy(self.critic)
        self.target_actor = copy.deepcopy(self.actor)
        self.encoder_optimiser = _adam(self.encoder, self.config.encoder_lr)
        self.critic_optimiser = _adam(self.critic, self.config.critic_lr)
        self.actor_optimiser = _adam(self.actor, self.config.actor_lr)

    def update(self, batch: Batch, draws: Draws, learn_actor: bool) -> dict[str, float]:
        """Critic and encoder, then the actor if it learns, then the targets.

        theta <- Adam(theta, clip(grad loss)) for each of them, clip scaling the gradient of one
        network to a norm of at most grad_clip. f is computed once, before the critic's step; the
        actor's loss has the critic after it.

        Returns:
            critic_loss, q_mean, target_mean, critic_grad_norm, encoder_grad_norm (before clipping)
            and, when the actor learned, actor_loss, actor_grad_norm, residual_norm (mean L2,
            normalised units).
        """
        state = self.normalise_state(batch.state)
        action = self.normalise_action(batch.action).clamp(-1.0, 1.0)
        base = self.normalise_base(batch.base_action)
        target = self.target(batch, draws)

        features = self.features(batch.images, draws.shift[0])
        critic_loss, q = self.critic_loss(features, state, action, target)
        critic_norm, encoder_norm = self._descend(
            critic_loss,
            [self.critic, self.encoder],
            [self.critic_optimiser, self.encoder_optimiser],
        )
        metrics = {
            "critic_loss": critic_loss.item(),
            "q_mean": q.mean().item(),
            "target_mean": target.mean().item(),
            "critic_grad_norm": critic_norm,
            "encoder_grad_norm": encoder_norm,
        }

        if learn_actor:
            actor_loss, residual = self.actor_loss(features, state, base)
            (actor_norm,) = self._descend(actor_loss, [self.actor], [self.actor_optimiser])
            metrics["actor_loss"] = actor_loss.item()
            metrics["actor_grad_norm"] = actor_norm
            metrics["residual_norm"] = residual.norm(dim=-1).mean().item()
            _polyak(self.target_actor, self.actor, self.config.tau)
        _polyak(self.target_critic, self.critic, self.config.tau)
        return metrics

    @torch.no_grad()
    def target(self, batch: Batch, draws: Draws) -> torch.Tensor:
        """y = R_n + discount * min over the drawn heads h of Qbar_h(f', s', a'), (B,).

        a' = clamp(b' + pibar(f', s', b') + clip(sigma eps, -c, c), -1, 1), sigma the exploration's
        deviation, c noise_clip, eps standard normal; f' comes from the encoder as it is now.
        """
        features = self.features(batch.next_images, draws.shift[1])
        state = self.normalise_state(batch.next_state)
        base = self.normalise_base(batch.next_base_action)
        noise = self.config.exploration_std * self._number(draws.smoothing)
        noise = noise.clamp(-self.config.noise_clip, self.config.noise_clip)
        residual = self.target_actor(features, state, base)
        action = (base + residual + noise).clamp(-1.0, 1.0)
        values = self.target_critic(features, state, action, draws.heads.tolist())
        smallest = values[0]
        for value in values[1:]:
            smallest = torch.minimum(smallest, value)
        return self._number(batch.reward) + self._number(batch.discount) * smallest

    def critic_loss(
        self,
        features: torch.Tensor,
        state: torch.Tensor,
        action: torch.Tensor,
        target: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """1/E sum_h 1/B sum_i (Q_h(f_i, s_i, a_i) - y_i)^2, and Q (E, B)."""
        q = self.critic(features, state, action, range(self.config.ensemble_size))
        loss = torch.zeros_like(target[0])
        for value in q:
            loss = loss + ((value - target) ** 2).mean()
        return loss / self.config.ensemble_size, torch.stack(q)

    def actor_loss(
        self, features: torch.Tensor, state: torch.Tensor, base: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """-1/E sum_h 1/B sum_i Q_h(f_i, s_i, clamp(b_i + pi(f_i, s_i, b_i), -1, 1)), and pi (B, A).

        f is a constant here.
        """
        features = features.detach()
        residual = self.actor(features, state, base)
        action = (base + residual).clamp(-1.0, 1.0)
        q = self.critic(features, state, action, range(self.config.ensemble_size))
        loss = torch.zeros_like(residual[0, 0])
        for value in q:
            loss = loss - value.mean()
        return loss / self.config.ensemble_size, residual

    @torch.no_grad()
    def policy_action(
        self, images: Mapping[str, torch.Tensor], state: torch.Tensor, base: torch.Tensor
    ) -> torch.Tensor:
        """clamp(b + pi(f, s, b), -1, 1), (B, A) normalised, of images as they are.

        Args:
            images: camera -> (B, H, W, 3) uint8.
            state: (B, S), as recorded.
            base: (B, A), robot units.
        """
        features = self.features(images, None)
        unit_base = self.normalise_base(base)
        residual = self.actor(features, self.normalise_state(state), unit_base)
        return (unit_base + residual).clamp(-1.0, 1.0)

    def features(
        self, images: Mapping[str, torch.Tensor], shift: torch.Tensor | None
    ) -> torch.Tensor:
        """f (B, P, C) of images, camera -> (B, H, W, 3) uint8, shifted by (K, 2, B) pixels."""
        prepared = []
        for camera, name in enumerate(self.spec.cameras):
            image = (self._number(images[name]) / 255.0).permute(0, 3, 1, 2)
            if shift is not None:
                image = shift_images(image, shift[camera], self.config.shift_pad)
            prepared.append(image)
        return self.encoder(prepared)

    def normalise_action(self, action: torch.Tensor) -> torch.Tensor:
        """2 (a - lower) / (upper - lower) - 1, (B, A)."""
        extent = self.action_upper - self.action_lower
        return 2.0 * (self._number(action) - self.action_lower) / extent - 1.0

    def normalise_base(self, base: torch.Tensor) -> torch.Tensor:
        """As an action; 0 without a base policy."""
        unit = self.normalise_action(base)
        return unit if getattr(self.config, "base_policy", True) else torch.zeros_like(unit)

    def normalise_state(self, state: torch.Tensor) -> torch.Tensor:
        """(s - mean) / std, (B, S)."""
        return (self._number(state) - self.state_mean) / self.state_std

    def _number(self, value: torch.Tensor) -> torch.Tensor:
        return value.to(self.device, self.dtype)

    def _descend(
        self, loss: torch.Tensor, modules: list[nn.Module], optimisers: list[torch.optim.Adam]
    ) -> list[float]:
        """A step of `modules` alone down `loss`; the norm of each gradient before clipping."""
        parameters = [p for module in modules for p in module.parameters()]
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        norms = []
        for module, optimiser in zip(modules, optimisers, strict=True):
            norms.append(_clip(module, self.config.grad_clip))
            optimiser.step()
        return norms


def shift_images(images: torch.Tensor, shift: torch.Tensor, pad: int) -> torch.Tensor:
    """x'[r, c] = x[r + dr, c + dc], each index limited to the image: pad by `pad`, then crop.

    Args:
        images: (B, 3, H, W), floating point.
        shift: (2, B) int64, (dr, dc) of each image, within -pad..pad.
        pad: pixels replicated on each side.
    """
    height, width = images.shape[-2:]
    shifted = []
    for image, dr, dc in zip(images, *shift.tolist(), strict=True):
        padded = F.pad(image[None], (pad, pad, pad, pad), mode="replicate")[0]
        top, left = pad + dr, pad + dc
        shifted.append(padded[:, top : top + height, left : left + width])
    return torch.stack(shifted)


def _clip(module: nn.Module, limit: float) -> float:
    """g <- g min(1, limit / |g|), |g| over all tensors of `module`; |g|."""
    norm = nn.utils.clip_grad_norm_(module.parameters(), limit, foreach=False)
    return norm.item()


def _adam(module: nn.Module, learning_rate: float) -> torch.optim.Adam:
    return torch.optim.Adam(
        module.parameters(),
        lr=learning_rate,
        betas=(0.9, 0.999),
        eps=1e-8,
        foreach=False,
        fused=False,
    )


@torch.no_grad()
def _polyak(target: nn.Module, source: nn.Module, tau: float) -> None:
    """thetabar <- thetabar + tau (theta - thetabar)."""
    for slow, fast in zip(target.parameters(), source.parameters(), strict=True):
        slow.lerp_(fast, tau)
