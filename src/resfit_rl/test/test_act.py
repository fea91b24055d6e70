import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from resfit_rl.base_policies import BasePolicyError, base_policy_identity, load_base_policy
from resfit_rl.base_policies.act import ACTSize, NormalisedACT, save_act
from resfit_rl.observation import Observation
from resfit_rl.tasks import get_task

torch.set_num_threads(1)
SQUARE = get_task("square")
SIZE = ACTSize(
    chunk_size=6,
    vision_backbone="conv",
    replace_final_stride_with_dilation=False,
    dim_model=32,
    n_heads=2,
    dim_feedforward=32,
    n_encoder_layers=1,
    n_decoder_layers=1,
    dropout=0.1,
)
IMAGE = (64, 96)  # height and width differ, so that an exchange shows


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = NormalisedACT(SQUARE.agent_spec(IMAGE), SIZE)
    rng = np.random.default_rng(0)
    model.fit_statistics(
        rng.normal(2.0, 3.0, (50, 9)).astype(np.float32),
        rng.normal(0.1, 0.2, (50, 7)).astype(np.float32),
    )
    return model


@pytest.fixture
def folder(model, tmp_path):
    save_act(model, SQUARE, tmp_path / "act", {"steps": 0})
    return tmp_path / "act"


def observation(seed=0, size=IMAGE, state_dim=9, cameras=SQUARE.cameras):
    rng = np.random.default_rng(seed)
    return Observation(
        {name: rng.integers(0, 256, (*size, 3), np.uint8) for name in cameras},
        rng.normal(size=state_dim).astype(np.float32),
    )


def test_predicts_what_the_saved_model_predicts(folder, model):
    policy = load_base_policy("act", SQUARE, folder)
    seen = observation()
    chunk = policy.predict_chunk(seen)
    assert chunk.shape == (policy.chunk_size, 7) == (6, 7)
    assert chunk.dtype == np.float32
    model.eval()
    with torch.inference_mode():
        images = {name: torch.from_numpy(image)[None] for name, image in seen.images.items()}
        normalised = model(images, torch.from_numpy(seen.state)[None])[0].numpy()
    expected = normalised * model.action_std.numpy() + model.action_mean.numpy()
    # Weights are stored as float16.
    np.testing.assert_allclose(chunk, expected, atol=5e-3)


def test_is_deterministic_and_depends_on_images_and_state(folder):
    policy = load_base_policy("act", SQUARE, folder)
    seen = observation()
    first = policy.predict_chunk(seen)
    policy.predict_chunk(observation(1))
    policy.reset(3)
    assert np.array_equal(policy.predict_chunk(seen), first)
    again = load_base_policy("act", SQUARE, folder)
    assert np.array_equal(again.predict_chunk(seen), first)
    for name in SQUARE.cameras:
        darker = replace(seen, images={**seen.images, name: seen.images[name] // 2})
        assert not np.array_equal(policy.predict_chunk(darker), first)
    assert not np.array_equal(policy.predict_chunk(replace(seen, state=seen.state + 1)), first)


def test_actions_stay_within_the_limits(tmp_path):
    torch.manual_seed(1)
    wild = NormalisedACT(SQUARE.agent_spec(IMAGE), SIZE)
    wild.action_std.fill_(100.0)
    save_act(wild, SQUARE, tmp_path / "act", {})
    chunk = load_base_policy("act", SQUARE, tmp_path / "act").predict_chunk(observation())
    assert np.abs(chunk).max() == 1.0


def test_identity_names_the_weights(folder, model, tmp_path):
    identity = load_base_policy("act", SQUARE, folder).identity
    assert identity.startswith("act:")
    assert identity == base_policy_identity("act", SQUARE, folder)
    save_act(model, SQUARE, folder, {"steps": 9})
    assert base_policy_identity("act", SQUARE, folder) == identity
    assert json.loads((folder / "config.json").read_text())["made"] == {"steps": 9}
    assert [path.name for path in tmp_path.iterdir()] == ["act"]
    torch.manual_seed(7)
    save_act(NormalisedACT(SQUARE.agent_spec(IMAGE), SIZE), SQUARE, folder, {})
    assert base_policy_identity("act", SQUARE, folder) != identity


def test_resnet_starts_without_frozen_statistics(tmp_path):
    """Frozen BatchNorm of random weights leaves features of any scale."""
    torch.manual_seed(0)
    model = NormalisedACT(SQUARE.agent_spec(IMAGE), replace(SIZE, vision_backbone="resnet18"))
    images = torch.rand(4, 3, *IMAGE) * 4 - 2
    features = model.act.backbone(images)["feature_map"].detach()
    assert features.shape == (4, 512, 2, 3)
    assert 0.1 < float(features.std()) < 10.0
    assert not any("running_mean" in name for name, _ in model.named_buffers())


@pytest.mark.parametrize(
    ("seen", "error"),
    [
        (observation(size=(96, 64)), r"agentview: expected \(64, 96, 3\), found \(96, 64, 3\)"),
        (
            observation(cameras=("agentview",)),
            r"robot0_eye_in_hand: expected \(64, 96, 3\), found None",
        ),
        (observation(state_dim=8), r"state: expected \(9,\), found \(8,\)"),
    ],
)
def test_observation_that_does_not_fit_is_refused(folder, seen, error):
    with pytest.raises(BasePolicyError, match=error):
        load_base_policy("act", SQUARE, folder).predict_chunk(seen)


def _edit(change, folder):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))


def _truncate(name, keep, folder):
    file = folder / name
    file.write_bytes(file.read_bytes()[:keep])


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (partial(_truncate, "model.safetensors", 1000), "whole weights .* found 1000 bytes"),
        (partial(_truncate, "model.safetensors", 0), "whole weights .* found 0 bytes"),
        (partial(_truncate, "config.json", 40), "config.json: expected an ACT checkpoint"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json: format"),
        (partial(_edit, lambda c: c.pop("spec")), "config.json: .*spec"),
        (partial(_edit, lambda c: c["act"].update(dim_model=64)), "size mismatch"),
        (
            partial(_edit, lambda c: c.update(implementation="other")),
            "implementation: expected robosuite.*, found other",
        ),
        (
            partial(_edit, lambda c: c["spec"]["cameras"][0].__setitem__(0, "frontview")),
            "cameras: expected .*agentview.*, found .*frontview",
        ),
    ],
)
def test_damaged_checkpoint_is_refused(folder, damage, error):
    damage(folder)
    with pytest.raises(BasePolicyError, match=error):
        load_base_policy("act", SQUARE, folder)


def test_checkpoint_of_another_task_is_refused(folder):
    with pytest.raises(BasePolicyError, match="task: expected can, found square"):
        load_base_policy("act", get_task("can"), folder)
