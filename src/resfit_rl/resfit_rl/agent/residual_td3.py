"""Off-policy learning of the residual: TD3 with an ensemble of critics (REDQ) on n-step returns."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from resfit_rl.agent.augmentation import random_shift
from resfit_rl.agent.batch import Batch
from resfit_rl.agent.config import AgentConfig
from resfit_rl.agent.networks import Actor, Critic, Encoder
from resfit_rl.agent.normaliser import Normaliser
from resfit_rl.agent.residual_policy import ResidualPolicy
from resfit_rl.agent.spec import AgentSpec


class DivergedError(RuntimeError):
    """A loss or a gradient became NaN or infinite; the weights are still those before it."""


class ResidualTD3:
    """Networks, targets, optimisers and random state of the learner.

    The encoder learns from the critic's loss only and has no target copy; the actor sees detached
    features. Everything random comes from one CPU generator, so a run is reproducible and
    `state_dict` can continue it bit for bit (on a CPU).
    """

    def __init__(
        self,
        config: AgentConfig,
        spec: AgentSpec,
        normaliser: Normaliser,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.spec = spec
        self.device = torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = Encoder(spec, config)
            critic = Critic(spec, config, encoder.patches)
            actor = Actor(spec, config, encoder.patches)
        self.encoder = encoder.to(self.device)
        self.critic = critic.to(self.device)
        self.actor = actor.to(self.device)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.normaliser = copy.deepcopy(normaliser).to(self.device)
        self.encoder_optimiser = _adam(self.encoder, config.encoder_lr)
        self.critic_optimiser = _adam(self.critic, config.critic_lr)
        self.actor_optimiser = _adam(self.actor, config.actor_lr)
        self.generator = torch.Generator().manual_seed(seed)
        self.updates = 0  # critic updates made

    # -- learning ---------------------------------------------------------------------------------

    def update(self, batch: Batch) -> dict[str, float]:
        """One critic update; at every utd_ratio-th after the critic's warm-up one of the actor.

        Returns:
            critic_loss, q_mean, target_mean, critic_grad_norm, encoder_grad_norm and, when the
            actor learned, actor_loss, actor_grad_norm, residual_norm (mean L2, normalised units).

        Raises:
            DivergedError: a loss or gradient is not finite; that step is not applied.
        """
        batch = batch.to(self.device)
        images = self._shifted(batch.images)
        state = self.normaliser.normalise_state(batch.state)
        base = self.normaliser.normalise_action(batch.base_action)
        action = self.normaliser.normalise_action(batch.action).clamp(-1.0, 1.0)
        target = self._target(batch)

        features = self.encoder(images)
        loss, q = self.critic_loss(features, state, action, target)
        self.encoder_optimiser.zero_grad(set_to_none=True)
        self.critic_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        metrics = {
            "critic_loss": float(loss.detach()),
            "q_mean": float(q.detach().mean()),
            "target_mean": float(target.mean()),
            "critic_grad_norm": self._clip(self.critic),
            "encoder_grad_norm": self._clip(self.encoder),
        }
        self._require_finite(metrics)
        self.encoder_optimiser.step()
        self.critic_optimiser.step()
        self.updates += 1

        since_warmup = self.updates - self.config.critic_warmup_updates
        if since_warmup > 0 and since_warmup % self.config.utd_ratio == 0:
            metrics |= self._update_actor(features.detach(), state, base)
            _polyak(self.target_actor, self.actor, self.config.tau)
        _polyak(self.target_critic, self.critic, self.config.tau)
        return metrics

    def critic_loss(
        self,
        features: torch.Tensor,
        state: torch.Tensor,
        action: torch.Tensor,
        target: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(mean over heads of each head's MSE against `target` (B,), Q (E, B))."""
        q = self.critic(features, state, action)
        return (q - target[None]).square().mean(), q

    def actor_loss(
        self, features: torch.Tensor, state: torch.Tensor, base: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(-mean Q over heads and batch of the combined action, residual (B, A)).

        `features` are detached here, whatever the caller did.
        """
        features = features.detach()
        residual = self.actor(features, state, base)
        q = self.critic(features, state, (base + residual).clamp(-1.0, 1.0))
        return -q.mean(), residual

    @torch.no_grad()
    def _target(self, batch: Batch) -> torch.Tensor:
        """(B,): n-step reward + discount * minimum over a random subset of target heads."""
        features = self.encoder(self._shifted(batch.next_images))
        state = self.normaliser.normalise_state(batch.next_state)
        base = self.normaliser.normalise_action(batch.next_base_action)
        noise = torch.randn(base.shape, generator=self.generator) * self.config.exploration_std
        noise = noise.clamp_(-self.config.noise_clip, self.config.noise_clip).to(self.device)
        residual = self.target_actor(features, state, base) + noise
        q = self.target_critic(features, state, (base + residual).clamp(-1.0, 1.0))
        heads = torch.randperm(self.config.ensemble_size, generator=self.generator)
        subset = heads[: self.config.target_subset].to(self.device)
        return batch.reward + batch.discount * q[subset].amin(dim=0)

    def _update_actor(
        self, features: torch.Tensor, state: torch.Tensor, base: torch.Tensor
    ) -> dict[str, float]:
        loss, residual = self.actor_loss(features, state, base)
        parameters = list(self.actor.parameters())
        # Gradients of the actor alone: the critic's own are left as they are.
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters), strict=True
        ):
            parameter.grad = gradient
        metrics = {
            "actor_loss": float(loss.detach()),
            "actor_grad_norm": self._clip(self.actor),
            "residual_norm": float(residual.detach().norm(dim=-1).mean()),
        }
        self._require_finite(metrics)
        self.actor_optimiser.step()
        return metrics

    def _shifted(self, images: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            name: random_shift(images[name], self.config.shift_pad, self.generator)
            for name in self.spec.cameras
        }

    def _clip(self, module: nn.Module) -> float:
        return float(nn.utils.clip_grad_norm_(module.parameters(), self.config.grad_clip))

    def _require_finite(self, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            if not torch.isfinite(torch.tensor(value)):
                raise DivergedError(
                    f"update {self.updates + 1}: {name}: expected a finite number, found {value}"
                )

    # -- acting and saving ------------------------------------------------------------------------

    def policy(self) -> ResidualPolicy:
        """A copy for inference, on the CPU."""
        policy = ResidualPolicy(self.config, self.spec, self.encoder, self.actor, self.normaliser)
        return policy.to("cpu")

    _MODULES = ("encoder", "critic", "actor", "target_critic", "target_actor", "normaliser")
    _OPTIMISERS = ("encoder_optimiser", "critic_optimiser", "actor_optimiser")

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue: weights, targets, optimisers, generator, counter."""
        state: dict[str, Any] = {
            name: getattr(self, name).state_dict() for name in self._MODULES + self._OPTIMISERS
        }
        state["generator"] = self.generator.get_state()
        state["updates"] = self.updates
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict; KeyError or RuntimeError when it does not fit."""
        for name in self._MODULES + self._OPTIMISERS:
            getattr(self, name).load_state_dict(state[name])
        self.generator.set_state(state["generator"].cpu())
        self.updates = int(state["updates"])


def _adam(module: nn.Module, learning_rate: float) -> torch.optim.Adam:
    # Fused: one call for all tensors, which matters with small networks on one core.
    return torch.optim.Adam(module.parameters(), lr=learning_rate, fused=True)


@torch.no_grad()
def _polyak(target: nn.Module, source: nn.Module, tau: float) -> None:
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), tau)
