"""Imitation-bootstrapped reinforcement learning: the critics choose whose action is taken."""

from __future__ import annotations

import copy

import torch

from resfit_rl.agent.config import AgentConfig
from resfit_rl.agent.draws import Draws
from resfit_rl.agent.networks import Actor, Critic, Encoder
from resfit_rl.agent.normaliser import Normaliser
from resfit_rl.agent.residual_policy import ResidualPolicy
from resfit_rl.agent.residual_td3 import ResidualTD3
from resfit_rl.agent.spec import AgentSpec


class IBRLPolicy(ResidualPolicy):
    """Takes the base action or the actor's own, whichever the mean of the target critics prefers.

    The residual it gives is the difference to the base action, so all that follows is as for a
    residual policy; noise is added to whichever was chosen.
    """

    def __init__(
        self,
        config: AgentConfig,
        spec: AgentSpec,
        encoder: Encoder,
        actor: Actor,
        normaliser: Normaliser,
        critic: Critic | None = None,
    ) -> None:
        """`critic`: None for an untrained one."""
        super().__init__(config, spec, encoder, actor, normaliser)
        self.critic = copy.deepcopy(critic or Critic(spec, config, encoder.patches))
        self.requires_grad_(False)

    def _residual(
        self, features: torch.Tensor, state: torch.Tensor, base: torch.Tensor
    ) -> torch.Tensor:
        own = self.actor(features, state, torch.zeros_like(base)).clamp(-1.0, 1.0)
        base_q = self.critic(features, state, base.clamp(-1.0, 1.0)).mean(dim=0)
        own_q = self.critic(features, state, own).mean(dim=0)
        return torch.where((own_q > base_q)[:, None], own - base, torch.zeros_like(base))


class IBRL(ResidualTD3):
    """IBRL (Hu et al. 2023) on ResFiT's networks.

    The actor gives whole actions and does not see the base policy's. The target bootstraps from the
    better of two actions: y = R + discount * max over {base, actor} of the minimum over the drawn
    target heads.
    """

    def actor_loss(
        self, features: torch.Tensor, state: torch.Tensor, base: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See ResidualTD3; of the actor's action alone."""
        return super().actor_loss(features, state, torch.zeros_like(base))

    def policy(self) -> IBRLPolicy:
        """A copy for inference, on the CPU."""
        policy = IBRLPolicy(
            self.config, self.spec, self.encoder, self.actor, self.normaliser, self.target_critic
        )
        return policy.to("cpu")

    def _next_q(
        self, features: torch.Tensor, state: torch.Tensor, base: torch.Tensor, draws: Draws
    ) -> torch.Tensor:
        own = super()._next_q(features, state, torch.zeros_like(base), draws)
        return torch.maximum(own, self._target_q(features, state, base.clamp(-1.0, 1.0), draws))
