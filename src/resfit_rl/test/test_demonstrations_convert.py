"""Robomimic's and DexMimicGen's HDF5 files to a data set of ours."""

import json

import h5py
import numpy as np
import pytest
import yaml
from foreign_demonstrations import SIZE, made, write_hdf5, write_v3

from resfit_rl.demonstrations import DemonstrationsError, load_demonstrations, read_identity
from resfit_rl.demonstrations.convert import main
from resfit_rl.demonstrations.foreign_layouts import LAYOUTS
from resfit_rl.demonstrations.hdf5 import HDF5Demonstrations
from resfit_rl.tasks import get_task

_LAYOUT = LAYOUTS["ankile/robomimic-mh-can-image"]
_TASK = get_task("can")


def _episodes(lengths=(4, 3), layout=_LAYOUT, task=_TASK):
    return [made(layout, task, length, seed) for seed, length in enumerate(lengths)]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "demo.hdf5"
    write_hdf5(path, _episodes())
    return path


def _convert(file, out, *more, task="can"):
    return main(["--task", task, "--file", str(file), "--out", str(out), *more])


def test_robomimic_file_becomes_a_data_set_of_ours(file, tmp_path, capsys):
    out = tmp_path / "can_mh"
    assert _convert(file, out) == 0
    assert "demo_1 (2/2): 3 frames, 0 s left" in capsys.readouterr().out
    identity = read_identity(out)
    assert identity.expert.startswith("hdf5:") and len(identity.expert) == len("hdf5:") + 16
    assert (identity.implementation, identity.episodes) == (_TASK.implementation, 2)
    found = load_demonstrations(out, _TASK)
    for demonstration, (low_dim, action, images) in zip(found, _episodes(), strict=True):
        np.testing.assert_allclose(demonstration.action, action, atol=1e-6)
        np.testing.assert_allclose(demonstration.state[:, :3], low_dim["robot0_eef_pos"], atol=1e-5)
        fingers = low_dim["robot0_gripper_qpos"]
        np.testing.assert_allclose(demonstration.state[:, 7:], fingers, atol=1e-5)
        for camera in _TASK.cameras:
            np.testing.assert_array_equal(demonstration.images[camera], images[camera])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["can_mh", "demo.hdf5"]


def test_the_same_as_from_the_lerobot_data_set(file, tmp_path):
    root = tmp_path / "robomimic-mh-can-image"
    write_v3(root, _LAYOUT, _TASK, _episodes())
    assert _convert(file, tmp_path / "a") == _convert(root, tmp_path / "b") == 0
    assert read_identity(tmp_path / "b").expert.startswith("lerobot:robomimic-mh-can-image:")
    pairs = zip(*(load_demonstrations(tmp_path / n, _TASK) for n in "ab"), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one.state, other.state, atol=1e-5)
        np.testing.assert_array_equal(one.action, other.action)


def test_site_orientation_is_preferred(tmp_path):
    (episode,) = _episodes((3,))
    quaternion = np.tile([1.0, 0.0, 0.0, 0.0], (3, 1))
    episode[0]["robot0_eef_quat_site"] = quaternion
    write_hdf5(tmp_path / "demo.hdf5", [episode])
    source = HDF5Demonstrations(tmp_path / "demo.hdf5", _TASK, SIZE)
    ((name, found),) = source.read()
    assert name == "demo_0"
    np.testing.assert_allclose(found.state[:, 3:7], quaternion, atol=1e-6)


def test_cut_at_the_first_success_and_failures_left_out(tmp_path, capsys):
    path = tmp_path / "demo.hdf5"
    write_hdf5(path, _episodes((6, 5)), success=1)
    with h5py.File(path, "a") as file:
        file["data/demo_0/rewards"][:] = 0
    assert _convert(path, tmp_path / "out") == 0
    assert "demo_0: no success among its rewards, left out" in capsys.readouterr().out
    assert [len(d.action) for d in load_demonstrations(tmp_path / "out", _TASK)] == [3]


def test_number_of_episodes(file, tmp_path):
    assert _convert(file, tmp_path / "out", "--episodes", "1") == 0
    assert read_identity(tmp_path / "out").episodes == 1


def test_dexmimicgen_file(tmp_path, capsys):
    layout, task = LAYOUTS["ankile/dexmg-two-arm-coffee"], get_task("coffee")
    path = tmp_path / "demo.hdf5"
    write_hdf5(
        path,
        _episodes((3,), layout, task),
        environment="TwoArmCoffee",
        robots=("GR1FixedLowerBody",),
    )
    if task.implementation != layout.implementation:
        assert _convert(path, tmp_path / "out", task="coffee") == 1
        error = capsys.readouterr().err
        assert f"found data of {layout.implementation}" in error and error.count("\n") == 1
    allowed = "--allow-other-implementation"
    assert _convert(path, tmp_path / "out", allowed, task="coffee") == 0
    (found,) = load_demonstrations(tmp_path / "out", task)
    assert found.state.shape == (3, 26) and found.action.shape == (3, 24)
    if task.implementation != layout.implementation:
        recorded_in = f":recorded-in:{layout.implementation}"
        assert read_identity(tmp_path / "out").expert.endswith(recorded_in)


def test_mapping_from_a_file(file, tmp_path):
    with h5py.File(file, "a") as opened:
        for demo in opened["data"].values():
            for key in list(demo["obs"]):
                demo["obs"].move(key, key.replace("robot0_e", "arm_e").replace("robot0_g", "arm_g"))
            demo["obs"].move("arm_eye_in_hand_image", "wrist_image")
    assert _convert(file, tmp_path / "out") == 1
    mapping = {
        "task": "can",
        "implementation": _TASK.implementation,
        "cameras": {"robot0_eye_in_hand": "wrist"},
        "arms": [
            {"end_effector": "right", "prefix": "arm_", "joints": list(_LAYOUT.arms[0].joints)}
        ],
    }
    path = tmp_path / "mapping.yaml"
    path.write_text(yaml.safe_dump(mapping))
    assert _convert(file, tmp_path / "out", "--mapping", str(path)) == 0
    assert len(load_demonstrations(tmp_path / "out", _TASK)) == 2


def _nan(file):
    file["data/demo_1/obs/robot0_eef_pos"][2, 1] = np.nan


def _infinite(file):
    file["data/demo_1/actions"][2, 1] = np.inf


def _out_of_limits(file):
    file["data/demo_1/actions"][2, 1] = -1.5


def _no_quaternion(file):
    file["data/demo_1/obs/robot0_eef_quat"][2] *= 3


def _missing_key(file):
    del file["data/demo_1/obs/robot0_gripper_qpos"]


def _missing_camera(file):
    del file["data/demo_1/obs/agentview_image"]


def _replaced(file, key, values):
    del file[key]
    file[key] = values


def _ragged(file):
    _replaced(file, "data/demo_1/obs/robot0_eef_pos", np.zeros((2, 3)))


def _ragged_pictures(file):
    _replaced(file, "data/demo_1/obs/agentview_image", np.zeros((5, 84, 84, 3), np.uint8))


def _ragged_count(file):
    file["data/demo_1"].attrs["num_samples"] = 9


def _wrong_size(file):
    _replaced(file, "data/demo_1/obs/agentview_image", np.zeros((3, 96, 96, 3), np.uint8))


def _wrong_type(file):
    _replaced(file, "data/demo_1/obs/agentview_image", np.zeros((3, 84, 84, 3), np.float32))


def _wrong_actions(file):
    _replaced(file, "data/demo_1/actions", np.zeros((3, 14)))


def _empty(file):
    for key in ("actions", "rewards", "dones"):
        _replaced(file, f"data/demo_1/{key}", file[f"data/demo_1/{key}"][:0])
    for key in list(file["data/demo_1/obs"]):
        _replaced(file, f"data/demo_1/obs/{key}", file[f"data/demo_1/obs/{key}"][:0])
    file["data/demo_1"].attrs["num_samples"] = 0


def _absolute(file):
    _with_arguments(file, "input_type", "absolute")


def _other_scale(file):
    _with_arguments(file, "output_max", 0.1)


def _with_arguments(file, key, value):
    arguments = json.loads(file["data"].attrs["env_args"])
    arguments["env_kwargs"]["controller_configs"]["body_parts"]["right"][key] = value
    file["data"].attrs["env_args"] = json.dumps(arguments)


def _other_robot(file):
    arguments = json.loads(file["data"].attrs["env_args"])
    arguments["env_kwargs"]["robots"] = "Sawyer"
    file["data"].attrs["env_args"] = json.dumps(arguments)


def _no_environment(file):
    del file["data"].attrs["env_args"]


def _no_demos(file):
    for name in list(file["data"]):
        del file["data"][name]


def _no_data(file):
    del file["data"]


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (_nan, "demo_1, frame 2: robot0_eef_pos: expected 3 finite values"),
        (_infinite, "demo_1, frame 2: action: expected 7 finite values"),
        (_out_of_limits, "demo_1, frame 2: action y: expected -1 to 1, found -1.5"),
        (_no_quaternion, "demo_1, frame 2: robot0_eef_quat: expected a unit quaternion"),
        (_missing_key, "demo_1: expected obs/robot0_gripper_qpos, found"),
        (_missing_camera, "demo_1: expected obs/agentview_image, found"),
        (_ragged, "demo_1, frame 2: obs/robot0_eef_pos: expected 3 frames, as many as actions"),
        (_ragged_pictures, "demo_1, frame 3: obs/agentview_image: expected 3 frames"),
        (_ragged_count, "demo_1, frame 3: num_samples: expected 3 frames"),
        (_wrong_size, "demo_1, frame 0: obs/agentview_image: expected (84, 84, 3), found (96, 96"),
        (_wrong_type, "demo_1: obs/agentview_image: expected uint8, found float32"),
        (_wrong_actions, "demo_1, frame 0: actions: expected (7,), found (14,)"),
        (_empty, "demo_1: actions: expected 2 frames or more, found 0"),
        (_absolute, "input_type: expected delta, found absolute"),
        (_other_scale, "output_max: expected [0.05, 0.05, 0.05, 0.5, 0.5, 0.5], found [0.1"),
        (_other_robot, "found PickPlaceCan with Sawyer"),
        (_no_environment, "expected the attribute env_args"),
        (_no_demos, "data: expected groups demo_0, demo_1, ..., found []"),
        (_no_data, "expected the group data, found []"),
    ],
)
def test_bad_data_is_refused_by_name_and_index(file, tmp_path, capsys, spoil, text):
    with h5py.File(file, "a") as opened:
        spoil(opened)
    assert _convert(file, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert f"convert-demos: {file}" in error and text in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["demo.hdf5"]  # nothing partial


def test_other_task_file_or_folder_is_refused(file, tmp_path, capsys):
    assert _convert(file, tmp_path / "out", task="square") == 1
    assert "expected data of robosuite-1.5.2/NutAssemblySquare/Panda" in capsys.readouterr().err
    assert _convert(tmp_path / "none.hdf5", tmp_path / "out") == 1
    assert "expected a file or a folder" in capsys.readouterr().err
    (tmp_path / "text.hdf5").write_text("not HDF5")
    assert _convert(tmp_path / "text.hdf5", tmp_path / "out") == 1
    assert "expected an HDF5 file" in capsys.readouterr().err
    assert _convert(file, tmp_path) == 1
    assert "expected a new folder" in capsys.readouterr().err
    assert _convert(file, tmp_path / "out", "--episodes", "0") == 1
    assert "expected 1 or more" in capsys.readouterr().err


def test_truncated_file_is_refused(file, tmp_path):
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(DemonstrationsError, match="expected"):
        list(HDF5Demonstrations(file, _TASK, SIZE).read())
