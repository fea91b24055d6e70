"""Demonstrations to a LeRobotDataset and back."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from resfit_rl.base_policies.scripted import ScriptedExpert
from resfit_rl.demonstrations import (
    Demonstration,
    DemonstrationsError,
    DemonstrationsIdentity,
    load_demonstrations,
)
from resfit_rl.demonstrations.__main__ import main
from resfit_rl.demonstrations.dataset import write_demonstrations
from resfit_rl.tasks import get_task

_SIZE = (12, 16)
_TASK = get_task("can")


def _made(length, seed=0):
    rng = np.random.default_rng(seed)
    return Demonstration(
        images={c: rng.integers(0, 256, (length, *_SIZE, 3), np.uint8) for c in _TASK.cameras},
        state=rng.normal(size=(length, 9)).astype(np.float32),
        action=rng.uniform(-1, 1, (length, 7)).astype(np.float32),
    )


def _write(root, demonstrations):
    identity = DemonstrationsIdentity(
        "can", _TASK.implementation, "scripted:can:1", _SIZE, 5, len(demonstrations)
    )
    write_demonstrations(root, _TASK, identity, demonstrations)
    return identity


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("demos") / "can"
    _write(root, [_made(4), _made(3, seed=1)])
    return root


@pytest.fixture
def copy(written, tmp_path):
    root = tmp_path / "can"
    shutil.copytree(written, root)
    return root


def _edit(root, change):
    (path,) = root.glob("data/chunk-*/*.parquet")
    frame = pd.read_parquet(path)
    change(frame).to_parquet(path)


def test_what_is_written_is_read_back(written):
    for number, (found, length) in enumerate(
        zip(load_demonstrations(written, _TASK, _SIZE), (4, 3), strict=True)
    ):
        expected = _made(length, seed=number)
        assert list(found.images) == list(_TASK.cameras)
        for camera, images in expected.images.items():
            np.testing.assert_array_equal(found.images[camera], images)
        np.testing.assert_array_equal(found.state, expected.state)
        np.testing.assert_array_equal(found.action, expected.action)
        assert found.state.dtype == found.action.dtype == np.float32
    assert not (written / "images").exists()
    assert list(written.parent.iterdir()) == [written]  # nothing partial beside it


def test_lerobot_reads_it_as_its_own(written):
    dataset = LeRobotDataset("resfit/can", root=written)
    assert (dataset.num_episodes, dataset.num_frames, dataset.fps) == (2, 7, 20)
    item = dataset[4]
    assert item["task"] == "can"
    np.testing.assert_array_equal(item["action"], _made(3, seed=1).action[0])
    assert item["observation.images.agentview"].shape == (3, *_SIZE)


def test_missing_folder_names_the_command(tmp_path):
    command = f"python -m resfit_rl.demonstrations --task can --out {tmp_path}/none"
    with pytest.raises(DemonstrationsError, match=command):
        load_demonstrations(tmp_path / "none", _TASK, _SIZE)


def test_other_task_or_image_size_is_refused(written):
    with pytest.raises(DemonstrationsError, match="expected task square, found can"):
        load_demonstrations(written, get_task("square"), _SIZE)
    with pytest.raises(DemonstrationsError, match=r"image_size \(84, 84\), found \(12, 16\)"):
        load_demonstrations(written, _TASK)


def test_not_a_data_set_is_refused(tmp_path, copy):
    with pytest.raises(DemonstrationsError, match=r"resfit\.json"):
        load_demonstrations(tmp_path, _TASK, _SIZE)
    (path,) = copy.glob("data/chunk-*/*.parquet")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DemonstrationsError, match="expected a LeRobotDataset"):
        load_demonstrations(copy, _TASK, _SIZE)


def test_feature_of_another_size_is_refused(copy):
    # The identity promises what the data does not hold.
    path = copy / "meta" / "resfit.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_size": [8, 8]}))
    with pytest.raises(DemonstrationsError, match=r"agentview: expected shape \(8, 8, 3\)"):
        load_demonstrations(copy, _TASK, (8, 8))


@pytest.mark.parametrize("column", ["action", "observation.state"])
def test_not_finite_is_refused_by_name_and_index(copy, column):
    def change(frame):
        frame.at[5, column] = np.full(len(frame.at[5, column]), np.nan, np.float32)
        return frame

    _edit(copy, change)
    with pytest.raises(DemonstrationsError, match=f"episode 1, frame 1: {column}: expected"):
        load_demonstrations(copy, _TASK, _SIZE)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0, 0, 0, 0, -1.002, 0, 0], "action pitch: expected -1 to 1, found -1.002"),
        ([0, 0, 0], "action: expected 7 finite values"),
    ],
)
def test_bad_action_is_refused(copy, values, text):
    def change(frame):
        frame.at[5, "action"] = np.array(values, np.float32)
        return frame

    _edit(copy, change)
    with pytest.raises(DemonstrationsError, match=f"episode 1, frame 1: {text}"):
        load_demonstrations(copy, _TASK, _SIZE)


def test_what_the_reader_would_refuse_is_not_written(tmp_path):
    bad = _made(3)
    bad.action[1, 2] = np.nan
    with pytest.raises(DemonstrationsError, match="episode 1, frame 1: action: expected 7 finite"):
        _write(tmp_path / "can", [_made(4), bad])
    with pytest.raises(DemonstrationsError, match="episode 0: action: expected 2 frames or more"):
        _write(tmp_path / "can", [_made(1)])
    assert list(tmp_path.iterdir()) == []


def test_missing_frame_and_broken_picture_are_refused(copy):
    def break_picture(frame):
        frame.at[2, "observation.images.agentview"] = {"bytes": b"not a PNG", "path": None}
        return frame

    _edit(copy, break_picture)
    with pytest.raises(DemonstrationsError, match="episode 0, frame 2: camera agentview"):
        load_demonstrations(copy, _TASK, _SIZE)
    _edit(copy, lambda frame: frame.drop(index=2))
    with pytest.raises(DemonstrationsError, match="episode 0: expected frames 0 to 2"):
        load_demonstrations(copy, _TASK, _SIZE)


def test_missing_feature_is_refused(copy):
    _edit(copy, lambda frame: frame.drop(columns="observation.images.robot0_eye_in_hand"))
    with pytest.raises(DemonstrationsError, match="robot0_eye_in_hand"):
        load_demonstrations(copy, _TASK, _SIZE)


def test_writing_again_leaves_nothing_of_a_partial_one(tmp_path):
    root = tmp_path / "can"

    def stopped():
        yield _made(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _write(root, _Stopped(stopped(), 2))
    assert not root.exists()
    _write(root, [_made(3)])
    assert len(load_demonstrations(root, _TASK, _SIZE)) == 1


class _Stopped:
    def __init__(self, demonstrations, length):
        self._demonstrations, self._length = demonstrations, length

    def __iter__(self):
        return self._demonstrations

    def __len__(self):
        return self._length


def test_command_records_the_expert_and_knows_what_is_complete(tmp_path, capfd):
    root = tmp_path / "can"
    arguments = ["--task", "can", "--out", str(root), "--workers", "1", "--image-size", "12", "16"]
    assert main([*arguments, "--episodes", "1", "--seed", "3"]) == 0
    assert "episode 1/1 seed 3:" in capfd.readouterr().out
    (demonstration,) = load_demonstrations(root, _TASK, _SIZE)
    assert demonstration.images["agentview"].std() > 5
    np.testing.assert_array_equal(demonstration.action[0, 6], -1)
    assert asdict(_identity(root))["expert"] == ScriptedExpert("can").identity

    assert main([*arguments, "--episodes", "1", "--seed", "3"]) == 0
    assert "complete" in capfd.readouterr().out
    assert main([*arguments, "--episodes", "2", "--seed", "3"]) == 1
    assert "expected episodes 2, found 1" in capfd.readouterr().err


def _identity(root):
    return DemonstrationsIdentity(**json.loads((root / "meta" / "resfit.json").read_text()))


def test_command_refuses_a_task_without_expert(tmp_path, capsys):
    assert main(["--task", "Lift", "--out", str(tmp_path / "lift")]) == 1
    assert "found 'Lift'" in capsys.readouterr().err
