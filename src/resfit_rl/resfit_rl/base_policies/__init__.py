"""Base policies behind one interface."""

from resfit_rl.base_policies.identity import base_policy_identity
from resfit_rl.base_policies.interface import BasePolicy, BasePolicyError
from resfit_rl.base_policies.loading import load_base_policy

__all__ = ["BasePolicy", "BasePolicyError", "base_policy_identity", "load_base_policy"]
