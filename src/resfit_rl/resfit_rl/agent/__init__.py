"""The residual agent: configuration, networks, learning and the policy that acts."""

from resfit_rl.agent.agent import Agent, DivergedError
from resfit_rl.agent.algorithms import make_agent, policy_class
from resfit_rl.agent.batch import Batch
from resfit_rl.agent.config import ALGORITHMS, AgentConfig, ResidualPPOConfig, load_agent_config
from resfit_rl.agent.filtered_bc import FilteredBC
from resfit_rl.agent.ibrl import IBRL
from resfit_rl.agent.normaliser import Normaliser, combine
from resfit_rl.agent.residual_policy import (
    PolicyFileError,
    ResidualPolicy,
    exploration_noise,
    load_policy,
    read_policy_metadata,
    save_policy,
)
from resfit_rl.agent.residual_ppo import ResidualPPO
from resfit_rl.agent.residual_td3 import ResidualTD3
from resfit_rl.agent.spec import AgentSpec
from resfit_rl.agent.speed import Speed

__all__ = [
    "ALGORITHMS",
    "IBRL",
    "Agent",
    "AgentConfig",
    "AgentSpec",
    "Batch",
    "DivergedError",
    "FilteredBC",
    "Normaliser",
    "PolicyFileError",
    "ResidualPPO",
    "ResidualPPOConfig",
    "ResidualPolicy",
    "ResidualTD3",
    "Speed",
    "combine",
    "exploration_noise",
    "load_agent_config",
    "load_policy",
    "make_agent",
    "policy_class",
    "read_policy_metadata",
    "save_policy",
]
