"""Which classes an algorithm's name stands for."""

from __future__ import annotations

from typing import Any

import torch

from resfit_rl.agent.agent import Agent
from resfit_rl.agent.config import AgentConfig
from resfit_rl.agent.filtered_bc import FilteredBC
from resfit_rl.agent.ibrl import IBRL, IBRLPolicy
from resfit_rl.agent.normaliser import Normaliser
from resfit_rl.agent.residual_policy import ResidualPolicy
from resfit_rl.agent.residual_ppo import ResidualPPO, ResidualPPOPolicy
from resfit_rl.agent.residual_td3 import ResidualTD3
from resfit_rl.agent.spec import AgentSpec
from resfit_rl.agent.speed import Speed

_CLASSES: dict[str, tuple[Any, type[ResidualPolicy]]] = {
    "residual_td3": (ResidualTD3, ResidualPolicy),
    "ibrl": (IBRL, IBRLPolicy),
    "filtered_bc": (FilteredBC, ResidualPolicy),
    "residual_ppo": (ResidualPPO, ResidualPPOPolicy),
}


def make_agent(
    config: AgentConfig,
    spec: AgentSpec,
    normaliser: Normaliser,
    seed: int,
    device: torch.device | str = "cpu",
    speed: Speed | None = None,
) -> Agent:
    """The agent of the configuration's algorithm.

    Args:
        speed: of an off-policy algorithm; None for what suits the device.
    """
    kind = _CLASSES[config.algorithm][0]
    further = {"speed": speed} if issubclass(kind, ResidualTD3) else {}
    agent: Agent = kind(config, spec, normaliser, seed, device, **further)
    return agent


def policy_class(config: AgentConfig) -> type[ResidualPolicy]:
    """What acts for the configuration's algorithm."""
    return _CLASSES[config.algorithm][1]
