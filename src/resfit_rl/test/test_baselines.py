"""RLPD, IBRL, Filtered BC and residual PPO behind the agent's interface."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_reference_equality import CONFIG, NORMALISER, SPEC, episode, replay

from resfit_rl.agent import (
    IBRL,
    FilteredBC,
    ResidualPPO,
    ResidualPPOConfig,
    ResidualTD3,
    load_policy,
    make_agent,
    save_policy,
)
from resfit_rl.agent.draws import draw
from resfit_rl.agent.residual_ppo import advantages
from resfit_rl.replay import ReplayBuffer

PPO = ResidualPPOConfig(
    **CONFIG.as_dict() | {"algorithm": "residual_ppo"},
    rollout_steps=20, epochs=2, gae_lambda=0.9, clip_ratio=0.2, entropy_weight=0.01,
)  # fmt: skip
CLASSES = {
    "residual_td3": ResidualTD3,
    "ibrl": IBRL,
    "filtered_bc": FilteredBC,
    "residual_ppo": ResidualPPO,
}


def agent(algorithm, **changes):
    config = PPO if algorithm == "residual_ppo" else CONFIG
    changes = {"critic_warmup_updates": 0, "algorithm": algorithm} | changes
    return make_agent(dataclasses.replace(config, **changes), SPEC, NORMALISER, 3)


def observation(seed=0):
    rng = np.random.default_rng(seed)
    images = {name: rng.integers(0, 256, (*s, 3), np.uint8) for name, s in SPEC.cameras.items()}
    return images, rng.normal(size=3).astype(np.float32)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("algorithm", CLASSES)
def test_each_learns_saves_continues_and_acts(algorithm, tmp_path):
    learning, buffer = agent(algorithm), replay()
    assert type(learning) is CLASSES[algorithm]
    assert learning.updates_owed(30, buffer) > 0
    before = weights(learning.actor)
    metrics = learning.update(buffer)
    assert not torch.equal(before, weights(learning.actor))
    assert all(math.isfinite(value) for value in metrics.values()) and learning.updates > 0

    other = agent(algorithm)
    other.load_state_dict(copy.deepcopy(learning.state_dict()))
    assert other.updates_owed(30, buffer) == learning.updates_owed(30, buffer)
    buffer.add(rollout(9))
    if learning.updates_owed(50, buffer):
        assert learning.update(buffer) == other.update(buffer)

    policy = learning.policy()
    path = save_policy(policy, tmp_path / "policy.safetensors", 1, "t", "i", "b")
    loaded, _ = load_policy(path, "t", SPEC)
    assert type(loaded) is type(policy)
    images, state = observation()
    base = np.array([0.1, 0.2], np.float32)
    residual = policy.residual(images, state, base)
    np.testing.assert_array_equal(residual, loaded.residual(images, state, base))
    rngs = [np.random.default_rng(0) for _ in range(2)]
    np.testing.assert_array_equal(
        policy.exploration_noise(rngs[0], "explore"), loaded.exploration_noise(rngs[1], "explore")
    )


def rollout(episode_id, length=25):
    """A new success, long enough to be a rollout of PPO."""
    return episode(episode_id, length, "success", np.random.default_rng(episode_id))


# -- IBRL -----------------------------------------------------------------------------------------


def test_ibrl_bootstraps_from_the_better_of_both_actions():
    learning, buffer = agent("ibrl", exploration_std=0.0), replay()
    learning.update(buffer, 3)
    batch = buffer.gather(buffer.draw(learning.generator, 8, 0.5))
    drawn = draw(learning.generator, learning.config, SPEC, 1).of(0)
    features, state = learning._observe(
        batch.frames, batch.next_frame, batch.next_state, drawn.shift[1]
    )
    base = learning.normaliser.normalise_action(batch.next_base_action)
    own = learning.target_actor(features, state, torch.zeros_like(base)).clamp(-1, 1)
    values = [
        learning.target_critic(features, state, action)[drawn.heads].amin(dim=0)
        for action in (base.clamp(-1, 1), own)
    ]
    expected = batch.reward + batch.discount * torch.maximum(*values)
    torch.testing.assert_close(learning.target(batch, drawn), expected)
    assert not torch.equal(*values)


def test_ibrl_takes_the_action_that_the_critics_prefer():
    policy = agent("ibrl", zero_init_residual=False, residual_scale=1.0).policy()
    images, state = observation()
    base = np.array([0.1, 0.2], np.float32)
    chosen = set()
    for sign in (1.0, -1.0):
        with torch.no_grad():
            # The other way round, the critics prefer the other one.
            policy.critic.q[-1].weight.mul_(sign)
            policy.critic.q[-1].bias.mul_(sign)
        residual = policy.residual(images, state, base)
        chosen.add(bool(np.any(residual)))
        if np.any(residual):
            action = policy.combine(base, residual)
            lower, upper = policy.normaliser.bounds()
            with torch.inference_mode():
                tensors = {k: torch.tensor(v)[None] for k, v in images.items()}
                own = policy.actor(
                    policy.encoder(tensors),
                    policy.normaliser.normalise_state(torch.tensor(state)[None]),
                    torch.zeros(1, 2),
                )[0].numpy()
            np.testing.assert_allclose(
                action, lower + (own.clip(-1, 1) + 1) / 2 * (upper - lower), atol=1e-5
            )
    assert chosen == {True, False}


# -- Filtered BC ----------------------------------------------------------------------------------


def test_filtered_bc_comes_to_the_successful_actions():
    learning = agent("filtered_bc", residual_scale=2.0, actor_lr=1e-2, shift_pad=0, batch_size=32)
    buffer = replay()
    losses = [learning.update(buffer)["cloning_loss"] for _ in range(80)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    drawn = buffer.draw(torch.Generator().manual_seed(0), 200, 0.0, successes_only=True)
    successes = [held for held in buffer.held if held.reward > 0]
    allowed = torch.cat([held.frames[:-1] for held in successes])
    assert torch.isin(drawn, allowed).all() and len(successes) == 1
    assert learning.updates_owed(30, ReplayBuffer(SPEC, 10, 3, 0.9, [])) == 0


# -- residual PPO ---------------------------------------------------------------------------------


@given(
    length=st.integers(1, 12),
    reward=st.sampled_from([0.0, 1.0]),
    timeout=st.booleans(),
    seed=st.integers(0, 99),
)
def test_advantages_are_the_sum_written_out(length, reward, timeout, seed):
    gamma, lam = 0.9, 0.8
    done = not timeout
    value = torch.from_numpy(np.random.default_rng(seed).normal(size=length + 1))
    rewards = [0.0] * (length - 1) + [reward]
    delta = [
        rewards[t]
        + gamma * float(value[t + 1]) * (0.0 if done and t + 1 == length else 1.0)
        - float(value[t])
        for t in range(length)
    ]
    expected = [
        sum((gamma * lam) ** k * delta[t + k] for k in range(length - t)) for t in range(length)
    ]
    found = advantages(value, reward, done, gamma, lam)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_ppo_learns_from_each_rollout_once():
    learning, buffer = agent("residual_ppo"), replay()
    steps = sum(len(held) for held in buffer.held)
    minibatches = 2 * math.ceil(steps / CONFIG.batch_size)
    assert learning.updates_owed(steps, buffer) == minibatches
    learning.update(buffer)
    assert learning.updates == minibatches and learning.updates_owed(steps, buffer) == 0
    with pytest.raises(ValueError, match="an episode to learn from"):
        learning.update(buffer)
    buffer.add(rollout(5, length=19))
    assert learning.updates_owed(steps + 19, buffer) == 0  # Less than a rollout.
    buffer.add(rollout(6, length=1))
    assert learning.updates_owed(steps + 20, buffer) == 2 * math.ceil(20 / CONFIG.batch_size)


def test_ppos_first_pass_has_the_ratio_one():
    learning, buffer = agent("residual_ppo"), replay()
    index, samples, log_old, advantage, returns = learning._rollout(buffer, buffer.held)
    mean, _, taken = learning._forward(buffer, index)
    torch.testing.assert_close(learning._log_probability(mean, taken), log_old)
    torch.testing.assert_close(taken, samples)
    assert abs(float(advantage.mean())) < 1e-5
    # By hand: log N(x; mean, sigma), summed over dimensions.
    sigma = CONFIG.exploration_std
    expected = (
        -0.5 * ((samples - mean) / sigma) ** 2 - math.log(sigma * (2 * math.pi) ** 0.5)
    ).sum(-1)
    torch.testing.assert_close(log_old, expected.detach(), rtol=1e-4, atol=1e-3)
    assert len(returns) == len(index)


def test_ppo_explores_with_the_learned_deviation():
    policy = agent("residual_ppo").policy()
    with torch.no_grad():
        policy.deviation.log.copy_(torch.tensor([0.5, 0.02]).log())
    rng = np.random.default_rng(0)
    noise = np.stack([policy.exploration_noise(rng, "explore") for _ in range(2000)])
    np.testing.assert_allclose(noise.std(axis=0), [0.5, 0.02], rtol=0.1)
    assert not policy.exploration_noise(rng, "none").any()
