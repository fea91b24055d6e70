"""The fast agent against the plain reference: the same weights after 50 updates."""

import dataclasses

import numpy as np
import pytest
import torch
from reference_agent import ReferenceAgent, reference_weights
from torch.utils._python_dispatch import TorchDispatchMode

from resfit_rl.agent import AgentConfig, AgentSpec, Normaliser, ResidualTD3, Speed
from resfit_rl.agent.draws import draw
from resfit_rl.episode_store import Episode
from resfit_rl.replay import ReplayBuffer

SPEC = AgentSpec(
    {"front": (20, 24), "wrist": (24, 20)}, 3, 2,
    np.array([-1, -2], np.float32), np.array([1, 2], np.float32),
)  # fmt: skip
CONFIG = AgentConfig(
    algorithm="residual_td3", total_steps=1000, offline_episodes=10,
    batch_size=8, offline_fraction=0.5, buffer_capacity=100, utd_ratio=2, n_step=3, gamma=0.9,
    tau=0.05, critic_lr=1e-3, actor_lr=1e-3, encoder_lr=1e-3, grad_clip=0.5, ensemble_size=4,
    target_subset=2, shift_pad=2, base_policy=True, residual_scale=0.3, zero_init_residual=True,
    exploration_std=0.1, noise_clip=0.15, warmup_steps=0, warmup_noise=0.3,
    critic_warmup_updates=10, embed_dim=8, encoder_layers=1, encoder_heads=2, encoder_mlp_ratio=2,
    spatial_dim=16, critic_hidden_dim=16, critic_hidden_layers=2, actor_feature_dim=8,
    actor_hidden_dim=16, actor_hidden_layers=2, layer_norm=True,
)  # fmt: skip
NORMALISER = Normaliser(
    np.array([-0.5, -1], np.float32), np.array([0.7, 1.5], np.float32),
    np.array([0.1, 0.2, 0.3], np.float32), np.array([0.5, 2, 1], np.float32),
)  # fmt: skip


def episode(episode_id, length, outcome, rng):
    """A random episode that fits SPEC."""
    return Episode(
        "t", "i", "b", episode_id, 0, outcome, float(outcome == "success"),
        outcome != "timeout",
        {n: rng.integers(0, 256, (length + 1, *s, 3), np.uint8)
         for n, s in SPEC.cameras.items()},
        rng.normal(size=(length + 1, 3)).astype(np.float32),
        rng.uniform(-0.5, 0.7, (length + 1, 2)).astype(np.float32),
        rng.uniform(-0.5, 0.7, (length, 2)).astype(np.float32),
        np.zeros(length, np.int64), np.arange(length + 1),
    )  # fmt: skip


def replay(device="cpu", pinned=False):
    rng = np.random.default_rng(0)
    offline = [episode(100, 9, "success", rng), episode(101, 5, "success", rng)]
    buffer = ReplayBuffer(SPEC, 100, CONFIG.n_step, CONFIG.gamma, offline, device, pinned=pinned)
    for k, outcome in enumerate(("failure", "timeout", "success", "safety_stop"), start=1):
        buffer.add(episode(k, 5 + k, outcome, rng))
    return buffer


def agent(device="cpu", speed=None, dtype=torch.float32, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    learning = ResidualTD3(config, SPEC, NORMALISER, 3, device, speed)
    for name in learning._MODULES:
        getattr(learning, name).to(dtype)
    return learning


def reference_of(learning, dtype=torch.float32):
    reference = ReferenceAgent(
        learning.config, SPEC, *(b.cpu() for b in NORMALISER.buffers()), dtype=dtype
    )
    networks = (learning.encoder, learning.critic, learning.actor)
    reference.load_weights(*(network.state_dict() for network in networks))
    return reference


def run_reference(reference, seed, updates):
    """The same updates from the same random state; the metrics of the last."""
    config, buffer = reference.config, replay()
    generator = torch.Generator().manual_seed(seed)
    done = 0
    while done < updates:
        left = config.critic_warmup_updates - done
        per_block = config.updates_per_block
        count = min(per_block, left) if left > 0 else per_block
        index = [buffer.draw(generator, config.batch_size, 0.5) for _ in range(count)]
        drawn = draw(generator, config, SPEC, count)
        for k in range(count):
            learn_actor = left <= 0 and k == count - 1
            metrics = reference.update(buffer.gather(index[k]), drawn.of(k), learn_actor)
        done += count
    return metrics


def assert_same_weights(learning, reference, **tolerance):
    pairs = {
        "": (learning.encoder, learning.critic, learning.actor),
        "target_": (learning.encoder, learning.target_critic, learning.target_actor),
    }
    for prefix, networks in pairs.items():
        weights = reference_weights(*(network.state_dict() for network in networks))
        for name, expected in weights.items():
            own = getattr(reference, name if name == "encoder" else prefix + name).state_dict()
            for key, value in expected.items():
                torch.testing.assert_close(value.cpu(), own[key], **tolerance)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"layer_norm": False},
        {"base_policy": False, "zero_init_residual": False, "residual_scale": 1.0},
        {"utd_ratio": 1, "n_step": 1, "critic_warmup_updates": 0, "encoder_layers": 0},
    ],
    ids=["paper", "no_layer_norm", "no_base_policy", "utd_1"],
)
def test_50_updates_equal_the_references(changes):
    # In float64 two orders of the same sums stay together; in float32 Adam, which divides by the
    # root of a gradient however small, drives them apart.
    learning = agent(dtype=torch.float64, **changes)
    learning._network = lambda name, *inputs: learning._networks[name](*inputs)
    reference = reference_of(learning, torch.float64)
    buffer = replay()
    for name in ("_state", "_base", "_action", "_reward", "_discount"):
        setattr(buffer, name, getattr(buffer, name).double())
    while learning.updates < 50:
        learning.update(buffer)
    run_reference(reference, 3, 50)
    assert_same_weights(learning, reference, rtol=1e-6, atol=1e-8)
    before = {name: p.detach().clone() for name, p in learning.critic.named_parameters()}
    assert all(p.isfinite().all() for p in before.values())


def test_the_first_updates_equal_the_references_in_float32():
    learning, buffer = agent(), replay()
    reference = reference_of(learning)
    metrics = {}
    while learning.updates < 12:
        metrics |= learning.update(buffer)
    expected = run_reference(reference, 3, 12)
    for name in ("actor_loss", "residual_norm", "actor_grad_norm"):
        assert metrics[name] == pytest.approx(expected[name], rel=1e-3), name
    assert_same_weights(learning, reference, rtol=1e-2, atol=2e-4)


class NoValueIsRead(TorchDispatchMode):
    """Refuses every operation for which a GPU would have to be waited for."""

    READS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split(".")[0]
        assert not any(name.startswith(read) for read in self.READS), name
        return func(*args, **(kwargs or {}))


def test_a_block_reads_no_value():
    learning, buffer = agent(critic_warmup_updates=0), replay()
    index = [learning._transitions(buffer) for _ in range(2)]
    drawn = draw(learning.generator, CONFIG, SPEC, 2)
    # The CPU's fused Adam reads its step count, which the GPU's has on the device.
    for optimiser in (name for name in learning._OPTIMISERS):
        getattr(learning, optimiser).step = lambda: None
    with NoValueIsRead():
        metrics = learning._block([buffer.gather(row) for row in index], drawn, learn_actor=True)
    assert metrics.shape == (2, 8) and metrics.isfinite().all()


def test_compiled_and_in_bfloat16_the_networks_are_the_same():
    learning = agent(critic_warmup_updates=0)
    fast = agent(
        critic_warmup_updates=0, speed=Speed(autocast=True, compile=False, cuda_graph=False)
    )
    buffer = replay()
    one, other = learning.update(buffer), fast.update(buffer)
    for name in ("critic_loss", "q_mean", "actor_loss"):
        assert other[name] == pytest.approx(one[name], rel=0.1, abs=0.02), name
    assert all(p.dtype == torch.float32 for p in fast.critic.parameters())


@pytest.mark.slow
def test_compiled_the_updates_are_the_same():
    learning = agent(critic_warmup_updates=0)
    fast = agent(
        critic_warmup_updates=0, speed=Speed(autocast=False, compile=True, cuda_graph=False)
    )
    buffer = replay()
    for _ in range(3):
        one, other = learning.update(buffer), fast.update(buffer)
    assert other == pytest.approx(one, rel=1e-3, abs=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize(
    "speed",
    [Speed(False, False, False), Speed(False, False, True), Speed(False, True, True)],
    ids=["plain", "graph", "compiled_graph"],
)
def test_on_a_gpu_the_updates_equal_the_cpus(speed, pinned):
    learning, fast = agent(), agent("cuda", speed)
    here, there = replay(), replay("cpu" if pinned else "cuda", pinned)
    for _ in range(12):
        one, other = learning.update(here), fast.update(there)
    assert other == pytest.approx(one, rel=2e-2, abs=1e-3)


@pytest.mark.gpu
def test_a_recorded_block_refuses_what_is_not_finite():
    learning, buffer = agent("cuda", critic_warmup_updates=0), replay("cuda")
    learning.update(buffer, 6)
    before = [p.detach().clone() for p in learning.critic.parameters()]
    buffer._reward.fill_(float("nan"))
    with pytest.raises(Exception, match="critic_loss: expected a finite number"):
        learning.update(buffer, 2)
    assert all(map(torch.equal, before, learning.critic.parameters()))
