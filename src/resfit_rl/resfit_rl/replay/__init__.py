"""Replay of transitions: n-step targets, the buffer, demonstrations as episodes."""

from resfit_rl.replay.buffer import ReplayBuffer
from resfit_rl.replay.n_step import NStepTargets, n_step_targets
from resfit_rl.replay.offline import demonstrations_identity, offline_episodes

__all__ = [
    "NStepTargets",
    "ReplayBuffer",
    "demonstrations_identity",
    "n_step_targets",
    "offline_episodes",
]
