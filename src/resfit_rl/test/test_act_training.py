from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resfit_rl.base_policies import load_base_policy
from resfit_rl.base_policies.act import save_act
from resfit_rl.base_policies.train_act import ACTTraining
from resfit_rl.base_policies.training import ChunkDataset, Trainer
from resfit_rl.configuration import load_dataclass
from resfit_rl.observation import Observation
from resfit_rl.tasks import get_task

torch.set_num_threads(1)
SQUARE = get_task("square")
CONFIGS = Path(__file__).parents[3] / "config" / "base_policies"
TINY = ACTTraining(
    chunk_size=4,
    vision_backbone="conv",
    replace_final_stride_with_dilation=False,
    dim_model=32,
    n_heads=2,
    dim_feedforward=64,
    n_encoder_layers=1,
    n_decoder_layers=1,
    dropout=0.0,
    use_vae=False,
    latent_dim=4,
    n_vae_encoder_layers=1,
    kl_weight=1.0,
    steps=120,
    batch_size=16,
    learning_rate=3e-3,
    backbone_learning_rate=3e-3,
    weight_decay=1e-4,
    grad_clip=10.0,
    warmup_steps=100,
    cosine_decay=True,
    shift_pad=1,
    bfloat16=False,
    save_every=10,
    evaluate_every=0,
    evaluate_episodes=2,
)


@dataclass(frozen=True)
class Recorded:
    images: dict
    state: np.ndarray
    action: np.ndarray


def demonstrations(count=6, length=12, seed=0):
    """One camera's brightness tells the action: only who looks at the picture can know it."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        actions = np.repeat(rng.uniform(-0.8, 0.8, (1, 7)), length, axis=0).astype(np.float32)
        actions[:, 1:] = actions[:, :1]
        level = np.uint8(128 + 100 * actions[0, 0])
        made.append(
            Recorded(
                images={
                    "agentview": np.full((length, 32, 32, 3), level, np.uint8),
                    "robot0_eye_in_hand": rng.integers(0, 256, (length, 32, 32, 3), np.uint8),
                },
                state=rng.normal(size=(length, 9)).astype(np.float32),
                action=actions,
            )
        )
    return made


def trainer(config=TINY, demos=None, seed=0):
    return Trainer(config, SQUARE, demos or demonstrations(), seed=seed, device="cpu")


def test_learns_to_act_from_the_picture_and_is_exported(tmp_path):
    training = trainer()
    losses = [training.train_step() for _ in range(TINY.steps)]
    assert np.mean(losses[-20:]) < 0.5 * np.mean(losses[:20])
    save_act(training.model, SQUARE, tmp_path / "act", {"steps": training.step})
    policy = load_base_policy("act", SQUARE, tmp_path / "act")
    errors = []
    for demo in demonstrations():
        images = {name: frames[3] for name, frames in demo.images.items()}
        chunk = policy.predict_chunk(Observation(images, demo.state[3]))
        errors.append(np.abs(chunk - demo.action[3:7]).mean())
    spread = np.std([demo.action[0, 0] for demo in demonstrations()])
    assert np.mean(errors) < 0.5 * spread


def test_chunks_end_with_their_demonstration():
    demos = demonstrations(count=2, length=5)
    data = ChunkDataset(demos, chunk_size=4)
    assert len(data) == 10
    images, states, actions, is_pad = data.sample(200, np.random.default_rng(0))
    all_states = np.concatenate([demo.state for demo in demos])
    for row in range(200):
        [frame] = np.flatnonzero((all_states == states[row].numpy()).all(axis=1))
        demo, step = demos[frame // 5], frame % 5
        assert np.array_equal(images["agentview"][row], demo.images["agentview"][step])
        assert is_pad[row].tolist() == [step + ahead >= 5 for ahead in range(4)]
        real = ~is_pad[row].numpy()
        assert np.array_equal(actions[row].numpy()[real], demo.action[step : step + 4])


def test_padding_does_not_teach():
    demos = [replace(d, action=d.action.copy()) for d in demonstrations(count=3, length=4)]
    padded = trainer(replace(TINY, chunk_size=8), demos)
    images, state, action, is_pad = padded.data.sample(16, np.random.default_rng(0))
    other = torch.where(is_pad[..., None], torch.tensor(1e6), action)
    losses = []
    for target in (action, other):
        fresh = trainer(replace(TINY, chunk_size=8), demos)
        fresh.data.sample = lambda *_, target=target: (images, state, target, is_pad)
        losses.append(fresh.train_step())
    assert losses[0] == losses[1]


def test_resumed_run_goes_on_bit_for_bit(tmp_path):
    config = replace(TINY, steps=8, dropout=0.1)
    whole = trainer(config)
    expected = [whole.train_step() for _ in range(8)]
    begun = trainer(config)
    losses = [begun.train_step() for _ in range(4)]
    begun.save(tmp_path / "progress.pt")
    resumed = trainer(config, seed=5)
    resumed.resume(tmp_path / "progress.pt")
    assert losses + [resumed.train_step() for _ in range(4)] == expected


def test_progress_of_other_configuration_or_data_or_corrupt_is_refused(tmp_path):
    path = tmp_path / "progress.pt"
    trainer().save(path)
    with pytest.raises(ValueError, match=r"progress.pt: config: expected .*'batch_size': 8"):
        trainer(replace(TINY, batch_size=8)).resume(path)
    with pytest.raises(ValueError, match=r"progress.pt: data: expected"):
        trainer(demos=demonstrations(seed=1)).resume(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"progress.pt: expected a whole checkpoint"):
        trainer().resume(path)


@pytest.mark.filterwarnings("ignore:invalid value")
def test_loss_that_is_not_finite_stops():
    demos = demonstrations()
    demos[0].action[:] = np.inf
    training = trainer(demos=demos)
    with pytest.raises(RuntimeError, match="step 0: loss: expected a finite number"):
        training.train_step()


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("act_*.yaml")))
def test_shipped_configurations_are_valid(name):
    config = load_dataclass(CONFIGS / f"{name}.yaml", ACTTraining)
    assert asdict(config)["chunk_size"] == 20


@pytest.mark.parametrize(
    ("name", "steps"),
    [("act_paper", 50_000), ("act_paper_can_sort", 100_000), ("act_paper_coffee", 200_000)],
)
def test_paper_configurations_are_table_b1(name, steps):
    config = load_dataclass(CONFIGS / f"{name}.yaml", ACTTraining)
    table = {
        "steps": steps,
        "batch_size": 256,
        "learning_rate": 1e-4,
        "backbone_learning_rate": 1e-5,
        "weight_decay": 1e-4,
        "grad_clip": 10.0,
        "chunk_size": 20,
        "vision_backbone": "resnet18",
        "dim_model": 512,
        "n_heads": 8,
        "dim_feedforward": 3200,
        "n_encoder_layers": 4,
        "n_decoder_layers": 1,
        "use_vae": False,
        "dropout": 0.1,
        "evaluate_episodes": 100,
    }
    assert {key: asdict(config)[key] for key in table} == table


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"batch_size": 0}, "batch_size: expected >= 1, found 0"),
        ({"learning_rate": -1.0}, "learning_rate: expected a number >= 0, found -1.0"),
        ({"n_heads": 5}, "dim_model: expected a multiple of n_heads = 5, found 32"),
    ],
)
def test_impossible_values_are_refused(changes, error):
    with pytest.raises(ValueError, match=error):
        replace(TINY, **changes)
