"""LeRobot's policies as base policies, by the folders that LeRobot writes."""

import importlib.util
import json
import shutil

import lerobot.policies  # noqa: F401  registers all types
import numpy as np
import pytest
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.vqbet.configuration_vqbet import VQBeTConfig

from resfit_rl.base_policies import (
    LEROBOT_TYPES,
    BasePolicyError,
    base_policy_identity,
    load_base_policy,
)
from resfit_rl.observation import Observation
from resfit_rl.tasks import get_task

torch.set_num_threads(1)
CAN = get_task("can")
IMAGE = (40, 48)
KEYS = [f"observation.images.{camera}" for camera in CAN.cameras]
pytestmark = pytest.mark.filterwarnings("ignore:.*no resfit.json")


def observation(seed=0, size=IMAGE, state_dim=9):
    rng = np.random.default_rng(seed)
    return Observation(
        {name: rng.integers(0, 256, (*size, 3), np.uint8) for name in CAN.cameras},
        rng.normal(size=state_dim).astype(np.float32),
    )


def features(keys=KEYS, state_dim=9, action_dim=7):
    return {
        "input_features": {key: PolicyFeature(FeatureType.VISUAL, (3, *IMAGE)) for key in keys}
        | {"observation.state": PolicyFeature(FeatureType.STATE, (state_dim,))},
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (action_dim,))},
    }


def act(**changes):
    return ACTConfig(
        **features()
        | {
            "chunk_size": 6,
            "n_action_steps": 6,
            "dim_model": 16,
            "n_heads": 2,
            "dim_feedforward": 16,
            "n_encoder_layers": 1,
            "n_vae_encoder_layers": 1,
            "pretrained_backbone_weights": None,
            "device": "cpu",
        }
        | changes,
    )


def vqbet():
    return VQBeTConfig(
        **features(KEYS[:1]),
        n_obs_steps=2,
        n_action_pred_token=2,
        action_chunk_size=3,
        crop_shape=None,
        pretrained_backbone_weights=None,
        use_group_norm=True,
        spatial_softmax_num_keypoints=4,
        vqvae_embedding_dim=8,
        vqvae_enc_hidden_dim=8,
        gpt_input_dim=16,
        gpt_output_dim=16,
        gpt_n_layer=1,
        gpt_n_head=2,
        gpt_hidden_dim=16,
        device="cpu",
    )


def write(config, folder, rename=None):
    torch.manual_seed(0)
    policy = get_policy_class(config.type)(config)
    statistics = {
        "observation.state": {"mean": torch.full((9,), 0.5), "std": torch.full((9,), 2.0)},
        "action": {"mean": torch.full((7,), 0.1), "std": torch.full((7,), 0.3)},
    }
    for values in statistics.values():
        values |= {"min": -torch.ones_like(values["mean"]), "max": torch.ones_like(values["mean"])}
    statistics |= {
        key: {"mean": torch.full((3, 1, 1), 0.4), "std": torch.full((3, 1, 1), 0.2)}
        for key in config.image_features
    }
    processors = make_pre_post_processors(config, dataset_stats=statistics)
    if rename:
        processors[0].steps[0].rename_map = rename
    for part in (policy, *processors):
        part.save_pretrained(folder)
    return policy.eval(), *processors


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("act")
    return folder, write(act(), folder)


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written[0], tmp_path / "act")


def test_acts_as_lerobot_does(written):
    folder, (theirs, preprocess, postprocess) = written
    with pytest.warns(UserWarning, match="no resfit.json"):
        policy = load_base_policy("lerobot", CAN, folder)
    seen = observation()
    chunk = policy.predict_chunk(seen)
    assert chunk.shape == (policy.chunk_size, 7) == (6, 7)
    assert chunk.dtype == np.float32
    batch = {
        key: torch.from_numpy(seen.images[camera]).permute(2, 0, 1)[None] / 255
        for key, camera in zip(KEYS, CAN.cameras, strict=True)
    }
    batch["observation.state"] = torch.from_numpy(seen.state)[None]
    with torch.inference_mode():
        expected = postprocess(theirs.predict_action_chunk(preprocess(batch)))[0].numpy()
    np.testing.assert_allclose(chunk, np.clip(expected, -1, 1), atol=1e-5)
    assert not np.array_equal(chunk, policy.predict_chunk(observation(1)))


def test_identity_is_known_without_loading_and_names_weights_and_settings(folder):
    policy = load_base_policy("lerobot", CAN, folder)
    assert policy.identity.startswith("lerobot-act:")
    identity = base_policy_identity("lerobot", CAN, folder)
    assert policy.identity == identity
    (folder / "README.md").write_text("A card.")
    assert base_policy_identity("lerobot", CAN, folder) == identity
    for file in folder.glob("*normalizer*.safetensors"):
        file.write_bytes(file.read_bytes() + b" ")
        other = base_policy_identity("lerobot", CAN, folder)
        assert other != identity
        identity = other


def test_vqbet_sees_every_observation_and_is_repeatable(tmp_path):
    """It has a memory of two observations, looks through one camera, and draws its actions."""
    write(vqbet(), tmp_path)
    policy = load_base_policy("vqbet", CAN, tmp_path)
    assert policy.identity.startswith("lerobot-vqbet:")
    assert policy.chunk_size == 1

    def episode(seed, start):
        policy.reset(seed)
        return np.concatenate([policy.predict_chunk(observation(start + k)) for k in range(7)])

    first = episode(5, 0)
    assert first.shape == (7, 7)
    state = torch.get_rng_state()
    other = episode(6, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert not np.array_equal(first, other)
    torch.rand(3)
    assert np.array_equal(episode(5, 0), first)


def test_preprocessor_may_rename_our_keys(tmp_path):
    config = act(**features(["observation.images.top"]))
    write(config, tmp_path, rename={KEYS[1]: "observation.images.top"})
    policy = load_base_policy("lerobot", CAN, tmp_path)
    seen = observation()
    chunk = policy.predict_chunk(seen)
    for number, camera in enumerate(CAN.cameras):
        darker = Observation(seen.images | {camera: seen.images[camera] // 2}, seen.state)
        assert np.array_equal(policy.predict_chunk(darker), chunk) == (number == 0)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (
            features(["observation.images.top"]),
            "observation.images.top: expected one of .*agentview.*, found 'observation.images.top'",
        ),
        (features(state_dim=14), r"observation.state: expected \(9,\) of task can, found \(14,\)"),
        (features(action_dim=6), r"action: expected \(7,\) of task can, found \(6,\)"),
    ],
)
def test_features_that_the_task_does_not_have_are_refused(changes, error, tmp_path):
    config = act()
    for name, value in changes.items():
        setattr(config, name, value)
    get_policy_class("act")(config).save_pretrained(tmp_path)
    for part in make_pre_post_processors(config, dataset_stats={}):
        part.save_pretrained(tmp_path)
    with pytest.raises(BasePolicyError, match=error):
        load_base_policy("lerobot", CAN, tmp_path)


@pytest.mark.parametrize(
    ("seen", "error"),
    [
        (observation(size=(48, 40)), r"agentview: expected \(40, 48, 3\), found \(48, 40, 3\)"),
        (
            Observation({"agentview": observation().images["agentview"]}, np.zeros(9, np.float32)),
            r"robot0_eye_in_hand: expected \(40, 48, 3\), found None",
        ),
        (observation(state_dim=8), r"state: expected \(9,\), found \(8,\)"),
    ],
)
def test_observation_that_does_not_fit_is_refused(written, seen, error):
    policy = load_base_policy("lerobot", CAN, written[0])
    with pytest.raises(BasePolicyError, match=error):
        policy.predict_chunk(seen)


def _truncate(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def _widen(folder):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"dim_model": 32}))


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda folder: (folder / "config.json").write_text("{}"), "type: expected a policy"),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "policy_preprocessor.json").unlink(), "policy_preprocessor"),
        (_truncate, "expected a whole act policy of LeRobot"),
        (_widen, "expected a whole act policy of LeRobot, found: .*size mismatch"),
    ],
)
def test_damaged_folder_is_refused(folder, damage, error):
    damage(folder)
    with pytest.raises(BasePolicyError, match=error) as caught:
        load_base_policy("lerobot", CAN, folder)
    assert "\n" not in str(caught.value)


def test_other_type_or_task_is_refused(folder):
    with pytest.raises(BasePolicyError, match="type: expected diffusion, found act"):
        load_base_policy("diffusion", CAN, folder)
    spec = CAN.agent_spec(IMAGE).as_dict()
    ours = {"format": "resfit-lerobot/1", "task": "can", "implementation": CAN.implementation}
    (folder / "resfit.json").write_text(json.dumps(ours | {"spec": spec}))
    assert load_base_policy("lerobot", CAN, folder).chunk_size == 6
    for key, value in (("task", "square"), ("implementation", "other"), ("format", "other")):
        (folder / "resfit.json").write_text(json.dumps(ours | {"spec": spec, key: value}))
        with pytest.raises(BasePolicyError, match=f"resfit.json: {key}: expected .*found {value}"):
            load_base_policy("lerobot", CAN, folder)
    (folder / "resfit.json").write_text("{}")
    with pytest.raises(BasePolicyError, match=r"resfit\.json: expected the task of a checkpoint"):
        load_base_policy("lerobot", CAN, folder)


@pytest.mark.parametrize("load", [load_base_policy, base_policy_identity])
@pytest.mark.parametrize("path", [None, "absent/policy", "/absent/policy"])
def test_name_that_is_not_on_this_machine_is_refused(load, path):
    with pytest.raises(BasePolicyError, match="expected a folder of a LeRobot policy"):
        load("lerobot", CAN, path)


@pytest.mark.skipif(importlib.util.find_spec("transformers") is not None, reason="is installed")
def test_missing_package_is_named(folder):
    from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig

    SmolVLAConfig(**features(), device="cpu")._save_pretrained(folder)
    with pytest.raises(BasePolicyError, match=r"transformers.*pip install 'lerobot\[smolvla\]'"):
        load_base_policy("smolvla", CAN, folder)


def test_names_are_those_of_lerobot():
    assert {*LEROBOT_TYPES, "act"} == set(PreTrainedConfig.get_known_choices())
