"""What every algorithm offers the learner."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from resfit_rl.agent.config import AgentConfig
from resfit_rl.agent.networks import Actor, Encoder
from resfit_rl.agent.normaliser import Normaliser
from resfit_rl.agent.residual_policy import ResidualPolicy
from resfit_rl.agent.spec import AgentSpec

if TYPE_CHECKING:  # The replay is made of batches, and knows this package.
    from resfit_rl.replay import ReplayBuffer


class DivergedError(RuntimeError):
    """A loss or a gradient became NaN or infinite; the weights are still those before it."""


class Agent(ABC):
    """Encoder, actor, normaliser and random state; an algorithm adds the rest.

    Everything random comes from one CPU generator, so a run is reproducible, and `state_dict` can
    continue it bit for bit (on a CPU).

    Attributes:
        updates: made so far; what one is, is the algorithm's.
    """

    _MODULES: ClassVar[tuple[str, ...]] = ("encoder", "actor", "normaliser")
    _OPTIMISERS: ClassVar[tuple[str, ...]] = ("encoder_optimiser", "actor_optimiser")

    def __init__(
        self,
        config: AgentConfig,
        spec: AgentSpec,
        normaliser: Normaliser,
        seed: int,
        device: torch.device | str,
    ) -> None:
        self.config = config
        self.spec = spec
        self.device = torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = Encoder(spec, config)
            modules = self._build(encoder.patches)
            actor = Actor(spec, config, encoder.patches)
        self.encoder = encoder.to(self.device)
        self.actor = actor.to(self.device)
        for name, module in modules.items():
            setattr(self, name, module.to(self.device))
        self.normaliser = copy.deepcopy(normaliser).to(self.device)
        self.encoder_optimiser = self._adam(self.encoder, config.encoder_lr)
        self.actor_optimiser = self._adam(self.actor, config.actor_lr)
        self.generator = torch.Generator().manual_seed(seed)
        self.updates = 0

    @abstractmethod
    def _build(self, patches: int) -> dict[str, nn.Module]:
        """The algorithm's own networks by attribute, made on the CPU from the global generator."""

    @abstractmethod
    def updates_owed(self, environment_steps: int, replay: ReplayBuffer) -> int:
        """Updates to make before another episode is taken in, after so many control steps."""

    @abstractmethod
    def update(self, replay: ReplayBuffer, blocks: int = 1) -> dict[str, float]:
        """Make `blocks` blocks of updates; see the algorithm for what a block is.

        Returns:
            Means over the newest block, by name.

        Raises:
            DivergedError: a loss or gradient is not finite; neither that step nor a later one of
                these blocks was applied.
            ValueError: the replay is empty.
        """

    def warm_up(self, environment_steps: int) -> bool:
        """Whether episodes are still collected with the base action and uniform noise."""
        return environment_steps < self.config.warmup_steps

    def policy(self) -> ResidualPolicy:
        """A copy for inference, on the CPU."""
        policy = ResidualPolicy(self.config, self.spec, self.encoder, self.actor, self.normaliser)
        return policy.to("cpu")

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

    def _adam(self, module: nn.Module, learning_rate: float) -> torch.optim.Adam:
        # Fused: one call for all tensors. Capturable: its step count lies on the GPU.
        return torch.optim.Adam(
            module.parameters(),
            lr=learning_rate,
            fused=True,
            capturable=self.device.type == "cuda",
        )

    def _base(self, base_action: torch.Tensor) -> torch.Tensor:
        """(B, A) robot units -> normalised; 0 where the algorithm does without a base policy."""
        if not self.config.base_policy:
            return torch.zeros_like(base_action)
        return self.normaliser.normalise_action(base_action)

    def _require_finite(self, values: dict[str, torch.Tensor], first_update: int) -> None:
        """DivergedError naming the first update, of `values` (U,) by name, that is not finite."""
        for offset, finite in enumerate(torch.stack(list(values.values())).isfinite().all(dim=0)):
            if finite:
                continue
            name = next(name for name, value in values.items() if not value[offset].isfinite())
            raise DivergedError(
                f"update {first_update + offset}: {name}: expected a finite number, found "
                f"{float(values[name][offset])}"
            )
