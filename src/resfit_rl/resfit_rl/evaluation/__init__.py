"""Rollouts of a policy in simulation."""

from resfit_rl.evaluation.candidate import (
    Candidate,
    EvaluationError,
    LoadedCandidate,
    load_candidate,
)
from resfit_rl.evaluation.parallel import EpisodeResult, run_episodes
from resfit_rl.evaluation.rollout import Rollout, rollout
from resfit_rl.evaluation.statistics import wilson_interval

__all__ = [
    "Candidate",
    "EpisodeResult",
    "EvaluationError",
    "LoadedCandidate",
    "Rollout",
    "load_candidate",
    "rollout",
    "run_episodes",
    "wilson_interval",
]
