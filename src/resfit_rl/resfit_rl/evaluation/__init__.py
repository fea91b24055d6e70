"""Rollouts of a policy in simulation."""

from resfit_rl.evaluation.rollout import Rollout, rollout
from resfit_rl.evaluation.statistics import wilson_interval

__all__ = ["Rollout", "rollout", "wilson_interval"]
