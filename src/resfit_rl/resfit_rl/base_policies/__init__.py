"""Base policies behind one interface."""

from resfit_rl.base_policies.identity import BASE_POLICIES, LEROBOT_TYPES, base_policy_identity
from resfit_rl.base_policies.interface import BasePolicy, BasePolicyError
from resfit_rl.base_policies.loading import load_base_policy

__all__ = [
    "BASE_POLICIES",
    "LEROBOT_TYPES",
    "BasePolicy",
    "BasePolicyError",
    "base_policy_identity",
    "load_base_policy",
]
