"""How base action, residual and exploration noise become the action that is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resfit_rl.agent import AgentSpec, ResidualPolicy, combine
from resfit_rl.agent.residual_policy import NoiseMode
from resfit_rl.observation import Observation

FloatArray = NDArray[np.float32]


def noise_generator(seed: int, episode_id: int, step: int) -> np.random.Generator:
    """Generator of one step's noise: the same step gets the same noise, whatever ran before."""
    return np.random.default_rng([seed, episode_id, step])


def residual_action(
    policy: ResidualPolicy | None,
    spec: AgentSpec,
    observation: Observation,
    base_action: FloatArray,
    noise: NoiseMode,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Residual and action for one observation.

    Args:
        policy: None for the base action alone, without noise.
        spec: the robot's limits, within which the action always is.
        base_action: (A,) float32, robot units.
        noise: mode of the exploration noise; 'none' is deterministic, 'warm_up' leaves the actor's
            residual out.

    Returns:
        residual (A,) float32, normalised units, noise included; action (A,) float32, robot units.

    Raises:
        ValueError: an observation of other shapes than the spec's, NaN or infinity.
    """
    lower, upper = spec.action_lower, spec.action_upper
    residual: FloatArray
    if policy is None:
        residual = np.zeros(spec.action_dim, np.float32)
        return residual, combine(base_action, residual, lower, upper)
    residual = policy.residual(observation.images, observation.state, base_action)
    if noise == "warm_up":
        # The warm-up is the base action's, also where an untrained actor would not give 0.
        residual = np.zeros_like(residual)
    residual = residual + policy.exploration_noise(rng, noise)
    # The demonstrations' range, with its floor, may reach beyond the robot's.
    action: FloatArray = np.clip(policy.combine(base_action, residual), lower, upper)
    return residual, action
