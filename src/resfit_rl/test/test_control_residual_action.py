from pathlib import Path

import numpy as np
import pytest
import torch

from resfit_rl.agent import Normaliser, ResidualPolicy, combine, load_agent_config
from resfit_rl.control.residual_action import noise_generator, residual_action
from resfit_rl.observation import Observation
from resfit_rl.tasks import get_task

CONFIG = load_agent_config(Path(__file__).parents[3] / "config/agents/cpu.yaml")
SPEC = get_task("square").agent_spec((20, 24))


@pytest.fixture
def observation():
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (20, 24, 3), np.uint8) for name in SPEC.cameras}
    return Observation(images, rng.normal(size=SPEC.state_dim).astype(np.float32))


def policy_with_a_residual(normaliser):
    policy = ResidualPolicy.initial(CONFIG, SPEC, normaliser)
    generator = torch.Generator().manual_seed(0)
    for parameter in policy.actor.parameters():
        parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return policy


def test_base_alone_is_the_base_within_the_limits(observation):
    base = np.linspace(-2, 2, 7, dtype=np.float32)
    residual, action = residual_action(
        None, SPEC, observation, base, "explore", noise_generator(0, 1, 2)
    )
    assert not residual.any()
    np.testing.assert_array_equal(action, np.clip(base, -1, 1))


def test_residual_and_noise_are_added_in_normalised_units(observation):
    normaliser = Normaliser(-np.full(7, 0.5), np.full(7, 0.25), np.zeros(9), np.ones(9))
    policy = policy_with_a_residual(normaliser)
    base = np.linspace(-0.4, 0.2, 7, dtype=np.float32)
    pure, _ = residual_action(policy, SPEC, observation, base, "none", noise_generator(0, 1, 2))
    assert np.abs(pure).min() > 0 and np.abs(pure).max() <= CONFIG.residual_scale + 1e-6
    residual, action = residual_action(
        policy, SPEC, observation, base, "explore", noise_generator(3, 1, 2)
    )
    noise = np.clip(
        np.random.default_rng([3, 1, 2]).normal(0.0, CONFIG.exploration_std, 7),
        -CONFIG.noise_clip,
        CONFIG.noise_clip,
    )
    np.testing.assert_allclose(residual - pure, noise, atol=1e-6)
    np.testing.assert_array_equal(
        action, combine(base, residual, np.full(7, -0.5, np.float32), np.full(7, 0.25, np.float32))
    )


def test_the_warm_up_leaves_the_actor_out(observation):
    policy = policy_with_a_residual(Normaliser.from_spec(SPEC))
    residual, _ = residual_action(
        policy, SPEC, observation, np.zeros(7, np.float32), "warm_up", noise_generator(3, 1, 2)
    )
    noise = np.random.default_rng([3, 1, 2]).uniform(-1, 1, 7) * CONFIG.warmup_noise
    np.testing.assert_allclose(residual, noise, atol=1e-7)


def test_the_same_step_has_the_same_noise_and_another_one_another(observation):
    def residual(*seed):
        policy = ResidualPolicy.initial(CONFIG, SPEC, Normaliser.from_spec(SPEC))
        base = np.zeros(7, np.float32)
        rng = noise_generator(*seed)
        return residual_action(policy, SPEC, observation, base, "warm_up", rng)[0]

    np.testing.assert_array_equal(residual(0, 1, 2), residual(0, 1, 2))
    for other in [(1, 1, 2), (0, 2, 2), (0, 1, 3)]:
        assert (residual(*other) != residual(0, 1, 2)).all()


def test_a_range_beyond_the_robots_limits_is_not_used(observation):
    # A constant dimension of the demonstrations gets a floor on its range.
    ones = np.ones((4, 7), np.float32)
    normaliser = Normaliser.fit([ones], [np.zeros((4, 9), np.float32)])
    policy = ResidualPolicy.initial(CONFIG, SPEC, normaliser)
    for step in range(20):
        _, action = residual_action(
            policy, SPEC, observation, ones[0], "warm_up", noise_generator(0, 0, step)
        )
        assert action.max() <= 1.0


def test_nan_is_refused(observation):
    base = np.full(7, np.nan, np.float32)
    with pytest.raises(ValueError, match="base action: expected 7 finite values"):
        residual_action(None, SPEC, observation, base, "none", noise_generator(0, 0, 0))
