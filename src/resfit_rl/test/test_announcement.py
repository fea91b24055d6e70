import hashlib
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from resfit_rl.agent import Normaliser, PolicyFileError, ResidualPolicy, save_policy
from resfit_rl.agent.config import load_agent_config
from resfit_rl.learning.announcement import Announcement, load_announced
from resfit_rl.tasks import get_task

SQUARE = get_task("square")
SPEC = SQUARE.agent_spec((20, 24))
CONFIG = load_agent_config(Path(__file__).parents[3] / "config/agents/cpu.yaml")


def write(path, version=4, task=SQUARE, spec=SPEC, base="scripted:square:1"):
    policy = ResidualPolicy.initial(CONFIG, spec, Normaliser.from_spec(spec))
    save_policy(policy, path, version, task.name, task.implementation, base)
    return path


def announce(path, version=4):
    return Announcement(version, str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def load(announcement):
    return load_announced(announcement, SQUARE, SPEC, "scripted:square:1", "cpu")


def test_a_good_file_is_loaded(tmp_path):
    assert load(announce(write(tmp_path / "p"))).spec == SPEC


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def poison(path):
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    tensors["normaliser.state_mean"][0] = float("nan")
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    ("spoil", "arguments", "error"),
    [
        (cut, {}, "truncated or corrupt"),
        (poison, {}, "expected finite values, found 1 NaN"),
        (None, {"task": get_task("can")}, "task: expected square, found can"),
        (None, {"spec": SQUARE.agent_spec((24, 20))}, "cameras: expected"),
        (None, {"base": "act:1234"}, "base_policy: expected scripted:square:1, found act:1234"),
        (None, {"version": 5}, "version: expected 4, found 5"),
    ],
)
def test_a_file_that_is_not_the_expected_one_is_refused(tmp_path, spoil, arguments, error):
    path = write(tmp_path / "p", **arguments)
    if spoil:
        spoil(path)
    with pytest.raises(PolicyFileError, match=error):
        load(announce(path))


def test_a_file_that_changed_after_its_announcement_is_refused(tmp_path):
    announcement = announce(write(tmp_path / "p"))
    cut(tmp_path / "p")
    with pytest.raises(PolicyFileError, match=r"sha256: expected .*truncated, corrupt or"):
        load(announcement)
    shutil.rmtree(tmp_path)
    with pytest.raises(PolicyFileError, match="expected a policy file"):
        load(announcement)
