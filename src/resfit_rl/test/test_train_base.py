"""./resfit train-base: rollouts while training, the best checkpoint, and going on."""

import json
from dataclasses import asdict, dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from test_act_training import TINY, demonstrations

from resfit_rl.base_policies import base_policy_identity, train
from resfit_rl.control import ChunkSchedule
from resfit_rl.tasks import get_task

torch.set_num_threads(1)
SQUARE = get_task("square")


@dataclass(frozen=True)
class Identity:
    task: str = "square"


class Rollouts:
    """Stands in for the simulation: says how many of the episodes succeed, each time."""

    def __init__(self, successes):
        self.successes = list(successes)
        self.calls = []

    def __call__(self, candidate, seeds, workers):
        # What is tried must be there as a whole.
        identity = base_policy_identity(candidate.policy, SQUARE, candidate.path)
        self.calls.append((identity, tuple(seeds)))
        successes = self.successes.pop(0)
        if isinstance(successes, BaseException):
            raise successes
        for number, _ in enumerate(seeds):
            yield SimpleNamespace(success=number < successes, schedule=ChunkSchedule(3, 2))


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "load_demonstrations", lambda *_: demonstrations())
    monkeypatch.setattr(train, "read_identity", lambda _: Identity())
    values = asdict(TINY) | {"steps": 20, "dropout": 0.1, "evaluate_every": 5}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values | {"evaluate_episodes": 3}))

    def run(rollouts, *more, out="models/act"):
        monkeypatch.setattr(train, "run_episodes", rollouts)
        return train.main(["--task", "square", "--config", "tiny.yaml", "--out", out, *more])

    return run


def test_best_checkpoint_is_kept_and_the_later_one_of_equals(command, tmp_path, capsys):
    rollouts = Rollouts([1, 2, 2, 0])
    assert command(rollouts) == 0
    assert {seeds for _, seeds in rollouts.calls} == {(100_000, 100_001, 100_002)}
    out = tmp_path / "models/act"
    identities = [identity for identity, _ in rollouts.calls]
    assert len(set(identities)) == 4
    assert base_policy_identity("act", SQUARE, out) == identities[2]
    made = json.loads((out / "config.json").read_text())["made"]
    assert made["steps"] == 15
    assert made["evaluation"]["successes"] == 2
    assert made["evaluation"]["seeds"] == [100_000, 100_002]
    curve = json.loads((out / "training.json").read_text())
    assert [(one["step"], one["successes"]) for one in curve["success"]] == [
        (5, 1), (10, 2), (15, 2), (20, 0),
    ]  # fmt: skip
    assert curve["best_step"] == 15
    assert [one["step"] for one in curve["loss"]] == [20]
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "step 20: rollouts 3/3  success 0/3" in printed
    assert "best of 4 checkpoints, of step 15: 2/3" in printed
    # The last weights are in the state; a finished run is not begun again.
    assert torch.load(tmp_path / "runs/train_base/act.pt")["step"] == 20
    assert command(Rollouts([])) == 0
    assert base_policy_identity("act", SQUARE, out) == identities[2]
    assert sorted(path.name for path in (tmp_path / "runs/train_base").iterdir()) == ["act.pt"]


@pytest.mark.parametrize("at", [0, 1, 3])
def test_interrupted_run_goes_on_as_if_it_had_not_been(command, tmp_path, at, capsys):
    successes = [1, 2, 2, 0]
    assert command(Rollouts(successes), out="models/whole") == 0
    assert command(Rollouts([*successes[:at], KeyboardInterrupt()]), out="models/cut") == 130
    assert "the same command goes on" in capsys.readouterr().err
    torch.manual_seed(99)
    assert command(Rollouts(successes[at:]), out="models/cut") == 0
    assert ("resumed at step" in capsys.readouterr().out) == (at > 0)
    for name in ("model.safetensors", "training.json"):
        whole, cut = ((tmp_path / f"models/{n}" / name).read_bytes() for n in ("whole", "cut"))
        assert whole == cut
    whole, cut = (torch.load(tmp_path / f"runs/train_base/{n}.pt") for n in ("whole", "cut"))
    assert whole["history"] == cut["history"]
    for name, value in whole["model"].items():
        assert torch.equal(value, cut["model"][name]), name


def test_best_checkpoint_that_went_away_is_missed(command, tmp_path, capsys):
    assert command(Rollouts([1, KeyboardInterrupt()])) == 130
    (tmp_path / "models/act").rename(tmp_path / "models/elsewhere")
    assert command(Rollouts([])) == 1
    assert "expected the best checkpoint, of step 5, found none" in capsys.readouterr().err


def test_without_rollouts_the_last_checkpoint_is_written(command, tmp_path):
    assert command(Rollouts([]), "--evaluate-every", "0", "--steps", "7") == 0
    config = json.loads((tmp_path / "models/act/config.json").read_text())
    assert config["made"]["steps"] == 7
    assert config["made"]["demonstrations"] == [{"task": "square"}]
    assert not list((tmp_path / "runs/train_base").glob("*"))


def test_last_step_is_tried_too(command):
    rollouts = Rollouts([0, 1, 2])
    assert command(rollouts, "--steps", "12") == 0
    assert len(rollouts.calls) == 3


def test_variational_act_trains_and_is_read(command, tmp_path):
    values = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values | {"use_vae": True}))
    assert command(Rollouts([]), "--evaluate-every", "0", "--steps", "3") == 0
    from resfit_rl.base_policies import load_base_policy
    from resfit_rl.observation import Observation

    policy = load_base_policy("act", SQUARE, tmp_path / "models/act")
    images = {name: np.zeros((32, 32, 3), np.uint8) for name in SQUARE.cameras}
    seen = Observation(images, np.zeros(9, np.float32))
    assert np.array_equal(policy.predict_chunk(seen), policy.predict_chunk(seen))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--config", "absent.yaml"], "absent.yaml: expected a readable YAML file"),
        (["--steps", "0"], "steps: expected >= 1, found 0"),
        (["--task", "cup"], "found 'cup'"),
    ],
)
def test_bad_arguments_are_named(command, arguments, error, capsys):
    assert command(Rollouts([]), *arguments) == 1
    assert error in capsys.readouterr().err
