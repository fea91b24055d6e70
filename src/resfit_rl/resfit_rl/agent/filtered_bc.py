"""Filtered behaviour cloning: cloning goes on with the robot's own successes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch

from resfit_rl.agent.batch import Batch
from resfit_rl.agent.draws import Draws
from resfit_rl.agent.residual_td3 import ResidualTD3

if TYPE_CHECKING:
    from resfit_rl.replay import ReplayBuffer


class FilteredBC(ResidualTD3):
    """Regresses base + residual on the executed actions of demonstrations and of successes.

    loss = mean over batch and dimensions of (clamp(base + residual) - action)^2, normalised units;
    it reaches actor and encoder. The critics are there and never learn.
    """

    _METRICS: ClassVar[tuple[str, ...]] = (
        "cloning_loss", "residual_norm", "actor_grad_norm", "encoder_grad_norm",
    )  # fmt: skip
    _ACTOR_METRICS: ClassVar[tuple[str, ...]] = ()

    def _transitions(self, replay: ReplayBuffer) -> torch.Tensor:
        return replay.draw(
            self.generator,
            self.config.batch_size,
            self.config.offline_fraction,
            successes_only=True,
        )

    def updates_owed(self, environment_steps: int, replay: ReplayBuffer) -> int:
        """As for ResidualTD3; none while there is no success to learn from."""
        if not replay.offline_transitions and not any(held.reward > 0.0 for held in replay.held):
            return 0
        return super().updates_owed(environment_steps, replay)

    def _update(self, batch: Batch, draws: Draws, learn_actor: bool) -> torch.Tensor:
        features, state = self._observe(batch.frames, batch.frame, batch.state, draws.shift[0])
        base = self._base(batch.base_action)
        action = self.normaliser.normalise_action(batch.action).clamp(-1.0, 1.0)
        residual = self._network("actor", features, state, base)
        loss = ((base + residual).clamp(-1.0, 1.0) - action).square().mean()
        actor_norm, encoder_norm = self._step(
            loss, (self.actor, self.actor_optimiser), (self.encoder, self.encoder_optimiser)
        )
        size = residual.detach().norm(dim=-1).mean()
        return torch.stack([loss.detach(), size, actor_norm, encoder_norm])
