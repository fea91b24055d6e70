"""Residual PPO: on-policy learning of the same residual, to compare sample efficiency with."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from resfit_rl.agent.agent import Agent
from resfit_rl.agent.config import AgentConfig, ResidualPPOConfig
from resfit_rl.agent.networks import Actor, Critic, Encoder
from resfit_rl.agent.normaliser import Normaliser
from resfit_rl.agent.residual_policy import NoiseMode, ResidualPolicy
from resfit_rl.agent.spec import AgentSpec

if TYPE_CHECKING:
    from resfit_rl.replay import ReplayBuffer

_FORWARD_BATCH = 256  # observations of a pass without gradients


class Deviation(nn.Module):
    """Standard deviation of the Gaussian residual, one for each dimension of the action."""

    def __init__(self, action_dim: int, initial: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.full((action_dim,), math.log(initial)))


class ResidualPPOPolicy(ResidualPolicy):
    """The mean residual; exploration is Gaussian with the learned deviation, not clipped."""

    def __init__(
        self,
        config: AgentConfig,
        spec: AgentSpec,
        encoder: Encoder,
        actor: Actor,
        normaliser: Normaliser,
        deviation: Deviation | None = None,
    ) -> None:
        """`deviation`: None for the configuration's."""
        super().__init__(config, spec, encoder, actor, normaliser)
        self.deviation = Deviation(spec.action_dim, config.exploration_std)
        if deviation is not None:
            self.deviation.load_state_dict(deviation.state_dict())
        self.requires_grad_(False)

    def exploration_noise(self, rng: np.random.Generator, mode: NoiseMode) -> NDArray[np.float32]:
        """See ResidualPolicy.exploration_noise; 'explore' has the learned deviation."""
        if mode != "explore":
            return super().exploration_noise(rng, mode)
        scale = self.deviation.log.exp().cpu().numpy()
        return (rng.standard_normal(self.spec.action_dim) * scale).astype(np.float32)


def advantages(
    values: torch.Tensor, reward: float, done: bool, gamma: float, gae_lambda: float
) -> torch.Tensor:
    """Generalised advantage estimation of one episode.

    A_t = sum over k of (gamma * lambda)^k * d_{t+k}, d_t = r_t + gamma * V_{t+1} - V_t; the last
    transition alone has a reward, and V_T counts where the episode is not done (a time limit).

    Args:
        values: (T + 1,) V of each observation.

    Returns:
        (T,).
    """
    following = values[1:].clone()
    if done:
        following[-1] = 0.0
    delta = gamma * following - values[:-1]
    delta[-1] += reward
    result = torch.empty_like(delta)
    running = torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        running = delta[t] + gamma * gae_lambda * running
        result[t] = running
    return result


class ResidualPPO(Agent):
    """PPO (Schulman et al. 2017) of a Gaussian residual, with the encoder trained by the value.

    Once `rollout_steps` transitions came in that it has not learned from, one block passes over
    them `epochs` times; an update is a minibatch. Probabilities before the block are those of the
    weights at its start: exact where those collected the episodes, near it where a graph was still
    acting with the version before. The sample is read from the executed action, so where the
    clamped action hit a limit it is that limit's.
    """

    config: ResidualPPOConfig
    value: Critic
    deviation: Deviation
    _MODULES: ClassVar[tuple[str, ...]] = (
        "encoder", "value", "actor", "deviation", "normaliser",
    )  # fmt: skip
    _OPTIMISERS: ClassVar[tuple[str, ...]] = (
        "encoder_optimiser", "value_optimiser", "actor_optimiser", "deviation_optimiser",
    )  # fmt: skip

    def __init__(
        self,
        config: ResidualPPOConfig,
        spec: AgentSpec,
        normaliser: Normaliser,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(config, spec, normaliser, seed, device)
        self.value_optimiser = self._adam(self.value, config.critic_lr)
        self.deviation_optimiser = self._adam(self.deviation, config.actor_lr)
        self.learned_until = 0  # newest episode id learned from

    def _build(self, patches: int) -> dict[str, nn.Module]:
        one_head = dataclasses.replace(self.config, ensemble_size=1, target_subset=1)
        return {
            "value": Critic(self.spec, one_head, patches),
            "deviation": Deviation(self.spec.action_dim, self.config.exploration_std),
        }

    def updates_owed(self, environment_steps: int, replay: ReplayBuffer) -> int:
        """The minibatches of a block once a rollout is complete, else none."""
        steps = sum(len(held) for held in replay.held if held.episode_id > self.learned_until)
        if steps < self.config.rollout_steps:
            return 0
        return self.config.epochs * math.ceil(steps / self.config.batch_size)

    def update(self, replay: ReplayBuffer, blocks: int = 1) -> dict[str, float]:
        """See Agent.update: blocks after the first have nothing to learn from and are left out.

        Returns:
            actor_loss, value_loss, entropy (nats), actor_grad_norm, value_grad_norm,
            encoder_grad_norm, residual_norm, kl (of the old policy to the new, estimated), means
            over the block.
        """
        fresh = [held for held in replay.held if held.episode_id > self.learned_until]
        if not fresh:
            raise ValueError("residual PPO: expected an episode to learn from, found none")
        index, samples, log_old, advantage, returns = self._rollout(replay, fresh)
        rows: list[dict[str, torch.Tensor]] = []
        before = self.updates
        for _ in range(self.config.epochs):
            order = torch.randperm(len(index), generator=self.generator)
            for part in order.split(self.config.batch_size):
                rows.append(
                    self._minibatch(
                        replay,
                        index[part],
                        *(x[part.to(self.device)] for x in (samples, log_old, advantage, returns)),
                    )
                )
                self._require_finite({k: v[None] for k, v in rows[-1].items()}, before + len(rows))
                self.updates += 1
        self.learned_until = fresh[-1].episode_id
        return {name: float(torch.stack([row[name] for row in rows]).mean()) for name in rows[0]}

    def policy(self) -> ResidualPPOPolicy:
        """A copy for inference, on the CPU."""
        policy = ResidualPPOPolicy(
            self.config, self.spec, self.encoder, self.actor, self.normaliser, self.deviation
        )
        return policy.to("cpu")

    def state_dict(self) -> dict[str, Any]:
        """See Agent.state_dict."""
        return super().state_dict() | {"learned_until": self.learned_until}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See Agent.load_state_dict."""
        super().load_state_dict(state)
        self.learned_until = int(state["learned_until"])

    @torch.no_grad()
    def _rollout(self, replay: ReplayBuffer, fresh: list[Any]) -> tuple[torch.Tensor, ...]:
        """Indices, samples (N, A), their log-probabilities, advantages and returns (N,)."""
        index, samples, log_old, advantage, returns = [], [], [], [], []
        for held in fresh:
            means, values, taken = [], [], []
            for part in held.frames.split(_FORWARD_BATCH):
                mean, value, sample = self._forward(replay, part)
                means.append(mean)
                values.append(value)
                taken.append(sample)
            value = torch.cat(values)
            gained = advantages(
                value, held.reward, held.done, self.config.gamma, self.config.gae_lambda
            )
            index.append(held.frames[:-1])
            samples.append(torch.cat(taken)[:-1])
            log_old.append(self._log_probability(torch.cat(means)[:-1], samples[-1]))
            advantage.append(gained)
            returns.append(gained + value[:-1])
        joined = torch.cat(advantage)
        joined = (joined - joined.mean()) / (joined.std(correction=0) + 1e-8)
        return (torch.cat(index), torch.cat(samples), torch.cat(log_old), joined,
                torch.cat(returns))  # fmt: skip

    def _forward(
        self, replay: ReplayBuffer, index: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean residual (B, A), V (B,) and the residual that was executed (B, A)."""
        batch = replay.gather(index.to(replay.device))
        images = {name: image.to(self.device) for name, image in batch.images.items()}
        state = self.normaliser.normalise_state(batch.state.to(self.device))
        base = self._base(batch.base_action.to(self.device))
        action = self.normaliser.normalise_action(batch.action.to(self.device)).clamp(-1.0, 1.0)
        features = self.encoder(images)
        value = self.value(features, state, torch.zeros_like(base))[0]
        return self.actor(features.detach(), state, base), value, action - base

    def _log_probability(self, mean: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        """(B,), of a Gaussian with the learned deviation."""
        normal = torch.distributions.Normal(mean, self.deviation.log.exp())
        return normal.log_prob(sample).sum(dim=-1)

    def _minibatch(
        self,
        replay: ReplayBuffer,
        index: torch.Tensor,
        sample: torch.Tensor,
        log_old: torch.Tensor,
        advantage: torch.Tensor,
        returns: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        mean, value, _ = self._forward(replay, index)
        log_new = self._log_probability(mean, sample)
        ratio = (log_new - log_old).exp()
        clipped = ratio.clamp(1.0 - self.config.clip_ratio, 1.0 + self.config.clip_ratio)
        entropy = (self.deviation.log + 0.5 * math.log(2.0 * math.pi * math.e)).sum()
        actor_loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
        value_loss = (value - returns).square().mean()
        loss = actor_loss + value_loss - self.config.entropy_weight * entropy
        learners = {
            "encoder": (self.encoder, self.encoder_optimiser),
            "value": (self.value, self.value_optimiser),
            "actor": (self.actor, self.actor_optimiser),
            "deviation": (self.deviation, self.deviation_optimiser),
        }
        for module, _ in learners.values():
            module.zero_grad(set_to_none=True)
        loss.backward()
        norms = {
            name: nn.utils.clip_grad_norm_(module.parameters(), self.config.grad_clip)
            for name, (module, _) in learners.items()
        }
        metrics = {
            "actor_loss": actor_loss.detach(),
            "value_loss": value_loss.detach(),
            "entropy": entropy.detach(),
            "actor_grad_norm": norms["actor"],
            "value_grad_norm": norms["value"],
            "encoder_grad_norm": norms["encoder"],
            "residual_norm": mean.detach().norm(dim=-1).mean(),
            "kl": (log_old - log_new).detach().mean(),
        }
        if torch.stack([*norms.values(), loss.detach()]).isfinite().all():
            for _, optimiser in learners.values():
                optimiser.step()
        return metrics
