"""Diffusion Policy of LeRobot: trained by our trainer, run as a base policy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_act_training import CONFIGS, Recorded, demonstrations

from resfit_rl.base_policies import BasePolicyError, base_policy_identity, load_base_policy
from resfit_rl.base_policies.train_diffusion import DiffusionTraining
from resfit_rl.base_policies.training import Trainer
from resfit_rl.configuration import load_dataclass
from resfit_rl.observation import Observation
from resfit_rl.tasks import get_task

torch.set_num_threads(1)
SQUARE = get_task("square")
SMALL = load_dataclass(CONFIGS / "diffusion_small.yaml", DiffusionTraining)
TINY = replace(
    SMALL,
    horizon=8,
    n_action_steps=6,
    resize=0,
    down_dims=[16, 32],
    diffusion_step_embed_dim=8,
    spatial_softmax_num_keypoints=4,
    steps=6,
    batch_size=4,
    shift_pad=1,
    warmup_steps=1,
)


def trainer(config=TINY, seed=0):
    pytest.importorskip("diffusers")
    return Trainer(config, SQUARE, demonstrations(), seed=seed, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("models") / "diffusion"
    training = trainer()
    training.train_step()
    TINY.export(training.model, SQUARE, folder, {"steps": 1})
    return folder


def observation(seed=0):
    demo = demonstrations(seed=seed)[0]
    return Observation({name: frames[3] for name, frames in demo.images.items()}, demo.state[3])


def test_exported_policy_is_a_base_policy(folder):
    policy = load_base_policy("diffusion", SQUARE, folder)
    assert policy.identity == base_policy_identity("lerobot", SQUARE, folder)
    assert policy.identity.startswith("lerobot-diffusion:")
    policy.reset(1)
    chunk = policy.predict_chunk(observation())
    assert chunk.shape == (policy.chunk_size, 7) == (6, 7)
    assert np.isfinite(chunk).all()
    assert np.abs(chunk).max() <= 1


def test_sampling_is_repeatable_by_the_seed(folder):
    def episode(policy, seed):
        policy.reset(seed)
        return [policy.predict_chunk(observation(k)) for k in range(3)]

    policy = load_base_policy("diffusion", SQUARE, folder)
    first = episode(policy, 3)
    torch.rand(5)
    assert np.array_equal(episode(policy, 3), first)
    assert np.array_equal(episode(load_base_policy("lerobot", SQUARE, folder), 3), first)
    assert not np.array_equal(episode(policy, 4), first)


def test_checkpoint_of_another_task_is_refused(folder):
    with pytest.raises(BasePolicyError, match=r"resfit\.json: task: expected can, found square"):
        load_base_policy("diffusion", get_task("can"), folder)


def test_resumed_run_goes_on_bit_for_bit(tmp_path):
    whole = trainer()
    expected = [whole.train_step() for _ in range(4)]
    begun = trainer()
    losses = [begun.train_step() for _ in range(2)]
    begun.save(tmp_path / "progress.pt")
    resumed = trainer(seed=5)
    resumed.resume(tmp_path / "progress.pt")
    assert losses + [resumed.train_step() for _ in range(2)] == expected


def test_learns_to_act_from_the_picture(tmp_path):
    """Where a bright patch is tells the action; at the shipped configuration's size."""
    pytest.importorskip("diffusers")
    rng = np.random.default_rng(0)
    levels = np.linspace(-0.7, 0.7, 8, dtype=np.float32)
    demos = []
    for number, level in enumerate(levels):
        images = {name: np.zeros((8, 48, 48, 3), np.uint8) for name in SQUARE.cameras}
        images["agentview"][:, 18:30, 5 * number : 5 * number + 12] = 255
        state = rng.normal(size=(8, 9)).astype(np.float32)
        demos.append(Recorded(images, state, np.full((8, 7), level, np.float32)))
    config = replace(
        TINY,
        down_dims=SMALL.down_dims,
        steps=100,
        batch_size=16,
        learning_rate=1e-3,
        backbone_learning_rate=1e-3,
        shift_pad=0,
    )
    training = Trainer(config, SQUARE, demos, seed=0, device="cpu")
    for _ in range(config.steps):
        training.train_step()
    config.export(training.model, SQUARE, tmp_path / "diffusion", {})
    policy = load_base_policy("diffusion", SQUARE, tmp_path / "diffusion")
    found = np.array(
        [
            # A state that was in no demonstration.
            policy.predict_chunk(Observation({k: v[0] for k, v in demo.images.items()}, unseen))
            for demo, unseen in zip(demos, rng.normal(size=(8, 9)).astype(np.float32), strict=True)
        ]
    ).mean(axis=(1, 2))
    assert np.corrcoef(found, levels)[0, 1] > 0.9


def test_statistics_keep_still_dimensions_small():
    from resfit_rl.base_policies.train_diffusion import _statistics
    from resfit_rl.base_policies.training import ChunkDataset

    demos = demonstrations()
    for demo in demos:
        demo.state[:, 2] = 0.7
        demo.state[0, 2] = 0.7001
    found = _statistics(ChunkDataset(demos, 4))
    state = found["observation.state"]
    np.testing.assert_allclose(state["max"][2] - state["min"][2], 1e-2, rtol=1e-3)
    np.testing.assert_allclose(state["max"][0], max(demo.state[:, 0].max() for demo in demos))
    frames = np.concatenate([demo.images["robot0_eye_in_hand"] for demo in demos]) / 255
    image = found["observation.images.robot0_eye_in_hand"]
    assert image["mean"].shape == image["std"].shape == (3, 1, 1)
    np.testing.assert_allclose(image["mean"].ravel(), frames.mean(axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(image["std"].ravel(), frames.std(axis=(0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("name", ["diffusion_small", "diffusion_paper"])
def test_shipped_configurations_are_valid(name):
    config = load_dataclass(CONFIGS / f"{name}.yaml", DiffusionTraining)
    assert config.n_action_steps >= 5  # the schedule's 3 + 2


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"horizon": 10}, "horizon: expected a multiple of 4 for 2 down_dims, found 10"),
        ({"n_action_steps": 9}, "n_action_steps: expected <= horizon = 8, found 9"),
        ({"num_inference_steps": 0}, "num_inference_steps: expected >= 1, found 0"),
    ],
)
def test_impossible_values_are_refused(changes, error):
    with pytest.raises(ValueError, match=error):
        replace(TINY, **changes)
