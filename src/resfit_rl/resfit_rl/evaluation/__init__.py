"""Rollouts of a policy in simulation."""

from resfit_rl.evaluation.parallel import (
    Candidate,
    EpisodeResult,
    EvaluationError,
    run_episodes,
)
from resfit_rl.evaluation.rollout import Rollout, rollout
from resfit_rl.evaluation.statistics import wilson_interval

__all__ = [
    "Candidate",
    "EpisodeResult",
    "EvaluationError",
    "Rollout",
    "rollout",
    "run_episodes",
    "wilson_interval",
]
