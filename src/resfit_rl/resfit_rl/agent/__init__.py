"""The residual agent: configuration, networks, learning and the policy that acts."""

from resfit_rl.agent.batch import Batch
from resfit_rl.agent.config import AgentConfig, load_agent_config
from resfit_rl.agent.normaliser import Normaliser, combine
from resfit_rl.agent.residual_policy import (
    PolicyFileError,
    ResidualPolicy,
    exploration_noise,
    load_policy,
    read_policy_metadata,
    save_policy,
)
from resfit_rl.agent.residual_td3 import DivergedError, ResidualTD3
from resfit_rl.agent.spec import AgentSpec

__all__ = [
    "AgentConfig",
    "AgentSpec",
    "Batch",
    "DivergedError",
    "Normaliser",
    "PolicyFileError",
    "ResidualPolicy",
    "ResidualTD3",
    "combine",
    "exploration_noise",
    "load_agent_config",
    "load_policy",
    "read_policy_metadata",
    "save_policy",
]
