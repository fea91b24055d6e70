"""The agent against its equations, on networks small enough to do the sums again."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resfit_rl.agent import (
    AgentConfig,
    AgentSpec,
    Batch,
    DivergedError,
    Normaliser,
    PolicyFileError,
    ResidualPolicy,
    ResidualTD3,
    combine,
    exploration_noise,
    load_policy,
    save_policy,
)
from resfit_rl.agent.augmentation import random_shift
from resfit_rl.agent.draws import draw
from resfit_rl.episode_store import Episode
from resfit_rl.replay import ReplayBuffer

SPEC = AgentSpec(
    {"front": (16, 20), "wrist": (18, 16)}, 3, 2,
    np.array([-1, -2], np.float32), np.array([1, 2], np.float32),
)  # fmt: skip
CONFIG = AgentConfig(
    algorithm="residual_td3", total_steps=1000, offline_episodes=10,
    batch_size=4, offline_fraction=0.5, buffer_capacity=100, utd_ratio=2, n_step=3, gamma=0.9,
    tau=0.1, critic_lr=1e-3, actor_lr=1e-3, encoder_lr=1e-3, grad_clip=1.0, ensemble_size=5,
    target_subset=2, shift_pad=2, base_policy=True, residual_scale=0.2, zero_init_residual=True,
    exploration_std=0.1, noise_clip=0.15, warmup_steps=10, warmup_noise=0.3,
    critic_warmup_updates=3, embed_dim=8, encoder_layers=1, encoder_heads=2, encoder_mlp_ratio=2,
    spatial_dim=8, critic_hidden_dim=8, critic_hidden_layers=1, actor_feature_dim=8,
    actor_hidden_dim=8, actor_hidden_layers=1, layer_norm=True,
)  # fmt: skip
NORMALISER = Normaliser(
    np.array([-0.5, -1], np.float32), np.array([0.7, 1.5], np.float32),
    np.array([1, 2, 3], np.float32), np.array([0.5, 2, 1], np.float32),
)  # fmt: skip


def agent(**changes):
    return ResidualTD3(dataclasses.replace(CONFIG, **changes), SPEC, NORMALISER, seed=3)


def batch(size=4, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def vector(width):
        return torch.randn((size, width), generator=generator)

    frames = {
        name: torch.randint(0, 256, (2 * size, *s, 3), generator=generator, dtype=torch.uint8)
        for name, s in SPEC.cameras.items()
    }
    return Batch(
        frames=frames, frame=torch.arange(size), next_frame=torch.arange(size, 2 * size),
        state=vector(3), next_state=vector(3), base_action=vector(2), next_base_action=vector(2),
        action=vector(2), reward=vector(1)[:, 0],
        discount=torch.tensor([0.9, 0.81, 0.0, 0.729])[:size],
    )  # fmt: skip


def draws(seed=0, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    return draw(torch.Generator().manual_seed(seed), config, SPEC, 1).of(0)


def episode(episode_id, length=6, outcome="success"):
    rng = np.random.default_rng(episode_id)
    images = {
        name: rng.integers(0, 256, (length + 1, *size, 3), np.uint8)
        for name, size in SPEC.cameras.items()
    }
    done = outcome != "timeout"
    return Episode(
        "t", "i", "b", episode_id, 0, outcome, float(outcome == "success"), done, images,
        rng.normal(size=(length + 1, 3)).astype(np.float32),
        rng.uniform(-0.5, 0.7, (length + 1, 2)).astype(np.float32),
        rng.uniform(-0.5, 0.7, (length, 2)).astype(np.float32),
        np.zeros(length, np.int64), np.arange(length + 1),
    )  # fmt: skip


def replay(offline=2, online=("failure", "timeout", "success")):
    buffer = ReplayBuffer(
        SPEC, 100, CONFIG.n_step, CONFIG.gamma, [episode(100 + k) for k in range(offline)]
    )
    for k, outcome in enumerate(online, start=1):
        buffer.add(episode(k, outcome=outcome))
    return buffer


def trained(blocks=4, **changes):
    learning = agent(**changes)
    learning.update(replay(), blocks)
    return learning


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def observation(seed=0):
    rng = np.random.default_rng(seed)
    images = {name: rng.integers(0, 256, (*s, 3), np.uint8) for name, s in SPEC.cameras.items()}
    return images, rng.normal(size=3).astype(np.float32)


# -- the target -----------------------------------------------------------------------------------


def test_target_by_hand():
    learning = trained(shift_pad=0, exploration_std=0.0)
    sample, drawn = batch(), draws(shift_pad=0)
    found = learning.target(sample, drawn)
    # The same again in float64, from the definition.
    encoder, actor, critic = (
        copy.deepcopy(m).double()
        for m in (learning.encoder, learning.target_actor, learning.target_critic)
    )
    lower = torch.tensor([-0.5, -1.0], dtype=torch.float64)
    upper = torch.tensor([0.7, 1.5], dtype=torch.float64)
    mean, std = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 2.0, 1.0])
    base = 2 * (sample.next_base_action.double() - lower) / (upper - lower) - 1
    state = (sample.next_state.double() - mean) / std
    features = encoder(sample.next_images)
    action = (base + actor(features, state, base)).clamp(-1, 1)
    q = critic(features, state, action)
    lowest = torch.minimum(q[drawn.heads[0]], q[drawn.heads[1]])
    expected = sample.reward + sample.discount * lowest
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    assert found[2] == sample.reward[2]  # Discount 0: nothing beyond the end.


def test_target_smoothing_is_clipped():
    learning = agent(exploration_std=50.0, noise_clip=0.15, shift_pad=0)
    seen = []
    learning.target_critic.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    sample = batch()
    learning.target(sample, draws(shift_pad=0))
    base = learning.normaliser.normalise_action(sample.next_base_action)
    # Untrained, the residual is 0; such a deviation takes nearly all noise to its limits.
    expected = (seen[0] - base)[base.abs() < 0.8]
    assert expected.abs().max() <= 0.15 + 1e-6 and (expected.abs() > 0.149).any()


def test_every_head_is_drawn_equally_often():
    generator = torch.Generator().manual_seed(0)
    heads = draw(generator, CONFIG, SPEC, 4000).heads
    assert (heads[:, 0] != heads[:, 1]).all()
    counts = torch.bincount(heads.flatten(), minlength=5)
    assert (counts - 1600).abs().max() < 5 * (8000 * 0.2 * 0.8) ** 0.5


def test_critic_loss_is_the_mean_of_each_heads_mse():
    learning = trained()
    sample = batch()
    state = learning.normaliser.normalise_state(sample.state)
    features = learning.encoder(sample.images)
    target = torch.tensor([1.0, -2.0, 0.5, 0.0])
    loss, q = learning.critic_loss(features, state, sample.action, target)
    by_head = [((q[head] - target) ** 2).mean() for head in range(5)]
    torch.testing.assert_close(loss, sum(by_head) / 5)
    assert len({round(float(value.detach()), 6) for value in by_head}) == 5  # Heads differ.


# -- who learns from what -------------------------------------------------------------------------


def test_the_actors_loss_reaches_the_actor_alone():
    learning = trained()
    sample = batch()
    features = learning.encoder(sample.images)
    loss, _ = learning.actor_loss(features, sample.state, sample.base_action)
    parameters = {name: list(getattr(learning, name).parameters()) for name in ("encoder", "actor")}
    everything = parameters["encoder"] + parameters["actor"]
    gradients = torch.autograd.grad(loss, everything, allow_unused=True)
    count = len(parameters["encoder"])
    assert all(gradient is None for gradient in gradients[:count])
    assert all(gradient is not None for gradient in gradients[count:])
    assert sum(float(g.abs().sum()) for g in gradients[count:]) > 0


def test_the_critics_loss_reaches_critic_and_encoder_and_no_target():
    learning = trained(1)
    before = {n: weights(getattr(learning, n)) for n in learning._MODULES[:-1]}
    learning.update(replay())
    changed = {n: not torch.equal(before[n], weights(getattr(learning, n))) for n in before}
    # Update 3 is the last of the critic's warm-up: a block of one.
    assert learning.updates == 3
    assert changed == {
        "encoder": True, "critic": True, "actor": False, "target_critic": True,
        "target_actor": False,
    }  # fmt: skip
    expected = torch.lerp(before["target_critic"], weights(learning.critic), 0.1)
    torch.testing.assert_close(weights(learning.target_critic), expected)


def test_the_actor_learns_once_in_a_block_after_the_critics_warm_up():
    learning = agent()
    seen = []
    for _ in range(5):
        before = weights(learning.actor)
        metrics = learning.update(replay())
        moved = not torch.equal(before, weights(learning.actor))
        assert moved == ("actor_loss" in metrics)
        seen.append((learning.updates, moved))
    assert seen == [(2, False), (3, False), (5, True), (7, True), (9, True)]


def test_updates_owed():
    learning, buffer = agent(), replay()
    assert learning.updates_owed(9, buffer) == 0
    assert learning.updates_owed(10, buffer) == 3
    assert learning.updates_owed(14, buffer) == 3 + 2 * 4
    learning.update(buffer, 2)
    assert learning.updates == 3 and learning.updates_owed(14, buffer) == 8
    assert learning.updates_owed(5000, buffer) == 2 * (1000 - 10)  # total_steps
    assert learning.updates_owed(14, replay(0, ())) == 0


def test_gradients_are_clipped():
    learning = agent(grad_clip=1e-3)
    metrics = learning.update(replay())
    assert metrics["critic_grad_norm"] > 1e-3
    norm = torch.cat([p.grad.flatten() for p in learning.critic.parameters()]).norm()
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_learning_lowers_the_critics_error_on_fixed_targets():
    learning = agent(critic_lr=1e-2, encoder_lr=1e-2, shift_pad=0, batch_size=32)
    buffer = ReplayBuffer(SPEC, 100, 1, 0.0, [episode(1), episode(2)])
    losses = [learning.update(buffer)["critic_loss"] for _ in range(120)]
    assert np.mean(losses[-5:]) < 0.1 * losses[0]


def test_a_nan_stops_before_the_weights_change():
    learning = trained(2)  # 3 updates
    bad = replay()
    bad._reward.fill_(float("nan"))
    before = {n: weights(getattr(learning, n)) for n in ("encoder", "critic", "actor")}
    with pytest.raises(DivergedError, match="update 4: critic_loss: expected a finite number"):
        learning.update(bad, 3)
    assert all(torch.equal(before[n], weights(getattr(learning, n))) for n in before)
    assert learning.updates == 3


def test_nothing_after_the_first_nan_is_applied():
    learning = agent(critic_warmup_updates=0)
    good, bad = batch(), dataclasses.replace(batch(seed=1), reward=torch.full((4,), float("nan")))
    twin = copy.deepcopy(learning)
    drawn = draw(torch.Generator().manual_seed(1), CONFIG, SPEC, 3)
    learning._block([good, bad, good], drawn, learn_actor=True)
    twin._update(good, drawn.of(0), learn_actor=False)
    for name in ("encoder", "critic", "actor"):
        assert torch.equal(weights(getattr(learning, name)), weights(getattr(twin, name)))


def test_without_the_base_policy_the_action_is_the_actors_alone():
    learning = trained(base_policy=False, zero_init_residual=False, residual_scale=1.0)
    policy = learning.policy()
    images, state = observation()
    found = [
        policy.combine(base, policy.residual(images, state, base))
        for base in (np.array([-0.4, 1.0], np.float32), np.array([0.6, -0.9], np.float32))
    ]
    np.testing.assert_array_equal(*found)
    sample = batch()
    moved = dataclasses.replace(sample, next_base_action=sample.next_base_action + 1.0)
    assert torch.equal(learning.target(sample, draws()), learning.target(moved, draws()))


# -- saving ---------------------------------------------------------------------------------------


def test_state_continues_bit_for_bit():
    one, buffer = trained(3), replay()
    state = copy.deepcopy(one.state_dict())
    other = ResidualTD3(CONFIG, SPEC, Normaliser.from_spec(SPEC), seed=77)
    other.load_state_dict(state)
    for _ in range(4):
        assert one.update(buffer) == other.update(buffer)
    for name in one._MODULES:
        a, b = getattr(one, name).state_dict(), getattr(other, name).state_dict()
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_blocks_at_once_are_the_same_as_one_by_one():
    one, other, buffer = agent(), agent(), replay()
    one.update(buffer, 5)
    for _ in range(5):
        other.update(buffer)
    assert torch.equal(weights(one.critic), weights(other.critic))
    assert torch.equal(weights(one.actor), weights(other.actor))


def test_a_policy_file_comes_back_bit_for_bit(tmp_path):
    policy = trained().policy()
    path = save_policy(policy, tmp_path / "policy.safetensors", 4, "t", "i", "b")
    loaded, version = load_policy(path, "t", SPEC, expected_base_policy="b")
    assert version == 4
    images, state = observation()
    base = np.array([0.1, 0.2], np.float32)
    residual = policy.residual(images, state, base)
    assert np.abs(residual).max() > 0
    np.testing.assert_array_equal(residual, loaded.residual(images, state, base))


def test_bad_policy_files_are_refused(tmp_path):
    policy = trained().policy()
    path = save_policy(policy, tmp_path / "policy.safetensors", 4, "t", "i", "b")
    with pytest.raises(PolicyFileError, match="task: expected other, found t"):
        load_policy(path, "other")
    with pytest.raises(PolicyFileError, match="base_policy: expected c, found b"):
        load_policy(path, "t", expected_base_policy="c")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PolicyFileError, match="truncated or corrupt"):
        load_policy(path, "t")
    with torch.no_grad():
        policy.actor.last.bias[0] = float("nan")
    with pytest.raises(PolicyFileError, match=r"actor\.last\.bias.* 1 NaN"):
        save_policy(policy, tmp_path / "nan.safetensors", 5, "t", "i", "b")
    assert not (tmp_path / "nan.safetensors").exists()


# -- acting ---------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=2), st.integers(0, 50))
def test_untrained_the_combined_policy_is_the_base_bit_for_bit(where, seed):
    policy = ResidualPolicy.initial(CONFIG, SPEC, NORMALISER)
    lower, upper = policy.normaliser.bounds()
    base = np.clip(lower + np.float32(where) * (upper - lower), lower, upper)
    images, state = observation(seed)
    residual = policy.residual(images, state, base)
    np.testing.assert_array_equal(residual, np.zeros(2, np.float32))
    np.testing.assert_array_equal(policy.combine(base, residual), base)


@given(
    st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=2),
    st.lists(st.floats(-3, 3, width=32), min_size=2, max_size=2),
)
def test_combine_adds_in_normalised_units_and_stays_in_bounds(base, residual):
    lower, upper = np.array([-0.5, -1], np.float32), np.array([0.7, 1.5], np.float32)
    base, residual = np.float32(base), np.float32(residual)
    found = combine(base, residual, lower, upper)
    half = (upper.astype(np.float64) - lower) / 2
    expected = np.clip(base + residual * half, lower, upper)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert (found >= lower).all() and (found <= upper).all() and found.dtype == np.float32


def test_combine_refuses_nan():
    bounds = np.array([-1, -1], np.float32), np.array([1, 1], np.float32)
    with pytest.raises(ValueError, match="residual: expected 2 finite values"):
        combine(np.zeros(2, np.float32), np.array([0, np.nan], np.float32), *bounds)


def test_the_residual_is_bounded_by_its_scale():
    learning = agent()
    with torch.no_grad():
        learning.actor.last.bias.fill_(1e4)
    images, state = observation()
    residual = learning.policy().residual(images, state, np.zeros(2, np.float32))
    np.testing.assert_allclose(residual, 0.2)


@pytest.mark.parametrize(("mode", "bound"), [("warm_up", 0.3), ("explore", 0.15), ("none", 0.0)])
def test_exploration_noise(mode, bound):
    rng = np.random.default_rng(0)
    noise = np.concatenate([exploration_noise(CONFIG, 2, rng, mode) for _ in range(4000)])
    assert np.abs(noise).max() <= np.float32(bound)
    if mode == "warm_up":
        assert noise.std() == pytest.approx(0.6 / 12**0.5, rel=0.05)
    if mode == "explore":
        assert (np.abs(noise) == np.float32(bound)).mean() == pytest.approx(0.1336, abs=0.02)


def test_bad_observations_are_named():
    policy = ResidualPolicy.initial(CONFIG, SPEC, NORMALISER)
    images, state = observation()
    base = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="expected camera wrist"):
        policy.residual({"front": images["front"]}, state, base)
    with pytest.raises(ValueError, match="camera front: expected uint8"):
        policy.residual(images | {"front": images["front"][:4]}, state, base)
    with pytest.raises(ValueError, match="state: expected 3 finite values"):
        policy.residual(images, np.full(3, np.nan, np.float32), base)


# -- scaling and shifting -------------------------------------------------------------------------


def test_normaliser_fits_minimum_maximum_mean_and_deviation():
    actions = np.array([[-0.25, 3.0], [0.75, 3.0]], np.float32)
    states = np.array([[0, 1, 5], [2, 1, 7]], np.float32)
    fitted = Normaliser.fit([actions], [states])
    unit = fitted.normalise_action(torch.tensor(actions))
    torch.testing.assert_close(unit[:, 0], torch.tensor([-1.0, 1.0]))
    torch.testing.assert_close(unit[:, 1], torch.zeros(2), atol=1e-4, rtol=0)  # A floored range.
    torch.testing.assert_close(fitted.denormalise_action(unit), torch.tensor(actions))
    torch.testing.assert_close(fitted.state_std, torch.tensor([1.0, 0.01, 1.0]))
    torch.testing.assert_close(
        fitted.normalise_state(torch.tensor(states))[:, 0], torch.tensor([-1.0, 1.0])
    )


def test_random_shift_is_padding_by_replication_and_a_crop():
    images = torch.randint(0, 256, (64, 6, 9, 3), dtype=torch.uint8)
    shifted = random_shift(images, 2, torch.Generator().manual_seed(1))
    padded = np.pad(images.numpy(), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    seen = set()
    for k in range(64):
        crops = {
            (y, x): padded[k, y : y + 6, x : x + 9] for y in range(5) for x in range(5)
        }  # fmt: skip
        match = [at for at, crop in crops.items() if np.array_equal(crop, shifted[k].numpy())]
        assert len(match) == 1
        seen.add(match[0])
    assert len(seen) > 15
    assert torch.equal(random_shift(images, 0, torch.Generator()), images)
