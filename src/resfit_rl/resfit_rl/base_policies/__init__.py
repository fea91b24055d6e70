"""Base policies behind one interface."""

from resfit_rl.base_policies.interface import BasePolicy, BasePolicyError

__all__ = ["BasePolicy", "BasePolicyError"]
