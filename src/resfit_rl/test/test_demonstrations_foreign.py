"""LeRobotDatasets that others recorded, in the layout of the paper's five."""

import io
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from foreign_demonstrations import SIZE, made, write_v3, write_v21, write_video
from PIL import Image
from scipy.spatial.transform import Rotation

from resfit_rl.demonstrations import DemonstrationsError, load_demonstrations, read_identity
from resfit_rl.demonstrations.foreign_layouts import LAYOUTS
from resfit_rl.simulation import Simulation
from resfit_rl.tasks import assemble_state, get_task

_NAME = "ankile/robomimic-mh-can-image"
_LAYOUT = LAYOUTS[_NAME]
_TASK = get_task("can")


def _episodes(lengths=(4, 3), layout=_LAYOUT, task=_TASK):
    return [made(layout, task, length, seed) for seed, length in enumerate(lengths)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("v3") / "robomimic-mh-can-image"
    write_v3(root, _LAYOUT, _TASK, _episodes())
    return root


@pytest.fixture
def copy(written, tmp_path):
    root = tmp_path / written.name
    shutil.copytree(written, root)
    return root


@pytest.fixture
def old_layout(tmp_path):
    root = tmp_path / "robomimic-mh-can-image"
    write_v21(root, _LAYOUT, _TASK, _episodes())
    return root


def _edit(root, change):
    (path,) = root.glob("data/chunk-*/*.parquet")
    frame = pd.read_parquet(path)
    change(frame).to_parquet(path)


def _expected_state(low_dim, task, layout):
    """By the task's own rule, frame by frame, from poses of the grip site."""
    states = []
    for step in range(len(next(iter(low_dim.values())))):
        joints, ends = {}, {}
        for arm in layout.arms:
            joints |= dict(zip(arm.joints, low_dim[f"{arm.prefix}gripper_qpos"][step], strict=True))
            body = Rotation.from_quat(low_dim[f"{arm.prefix}eef_quat"][step])
            site = (body * Rotation.from_quat(arm.turn)).as_quat()
            position = low_dim[f"{arm.prefix}eef_pos"][step]
            ends[arm.end_effector] = np.concatenate([position, site])
        states.append(assemble_state(task, joints, ends))
    return np.stack(states)


def test_can_image_is_mapped(written):
    found = load_demonstrations(written, _TASK)
    assert [len(d.action) for d in found] == [4, 3]
    for demonstration, (low_dim, action, images) in zip(found, _episodes(), strict=True):
        np.testing.assert_allclose(demonstration.action, action, atol=1e-6)
        np.testing.assert_allclose(
            demonstration.state, _expected_state(low_dim, _TASK, _LAYOUT), atol=1e-5
        )
        for camera in _TASK.cameras:
            np.testing.assert_array_equal(demonstration.images[camera], images[camera])
        assert demonstration.state.dtype == demonstration.action.dtype == np.float32


@pytest.mark.parametrize("name", [name for name in LAYOUTS if "dexmg" in name])
def test_the_dexterous_sets_are_mapped_and_refused_for_our_scenes(name, tmp_path):
    layout = LAYOUTS[name]
    task = get_task(layout.task)
    root = tmp_path / name.partition("/")[2]
    episodes = _episodes((3,), layout, task)
    write_v3(root, layout, task, episodes)
    if task.implementation != layout.implementation:
        with pytest.raises(
            DemonstrationsError, match=re.escape(f"found data of {layout.implementation}")
        ):
            load_demonstrations(root, task)
    (found,) = load_demonstrations(root, task, allow_other_implementation=True)
    low_dim, action, _ = episodes[0]
    np.testing.assert_allclose(found.state, _expected_state(low_dim, task, layout), atol=1e-5)
    np.testing.assert_allclose(found.action, action, atol=1e-5)
    assert list(found.images) == list(task.cameras)
    assert task.state_dim == 26 and action.shape[1] == 24


def test_absolute_rotations_come_to_the_turn_of_the_limits(tmp_path):
    layout = LAYOUTS["ankile/dexmg-two-arm-coffee"]
    task = get_task("coffee")
    low_dim, action, images = _episodes((3,), layout, task)[0]
    turned = action.copy()
    for _, first in task.pose_actions:
        vector = turned[:, first + 3 : first + 6]
        angle = np.linalg.norm(vector, axis=1, keepdims=True)
        turned[:, first + 3 : first + 6] = vector * (1 - 2 * np.pi / angle)
    root = tmp_path / "dexmg-two-arm-coffee"
    write_v3(root, layout, task, [(low_dim, turned, images)])
    (found,) = load_demonstrations(root, task, allow_other_implementation=True)
    middle = np.add(task.action_lower, task.action_upper) / 2
    for _, first in task.pose_actions:
        columns = slice(first + 3, first + 6)
        assert np.allclose(
            Rotation.from_rotvec(found.action[:, columns]).as_matrix(),
            Rotation.from_rotvec(action[:, columns]).as_matrix(),
            atol=1e-4,
        )
        away = np.linalg.norm(found.action[:, columns] - middle[columns], axis=1)
        assert (away <= np.linalg.norm(action[:, columns] - middle[columns], axis=1) + 1e-5).all()


def test_turns_are_those_of_the_robots_model():
    for name in ("can", "box_cleanup", "coffee"):
        task = get_task(name)
        (layout,) = (known for known in LAYOUTS.values() if known.task == name)
        simulation = Simulation(task, rendering=None)
        frame = simulation.reset(0)
        for arm in layout.arms:
            robot, side = simulation._ends[arm.end_effector]
            wxyz = simulation._env.sim.data.get_body_xquat(robot.robot_model.eef_name[side])
            body = Rotation.from_quat(np.roll(wxyz, -1))
            site = Rotation.from_quat(frame.end_effectors[arm.end_effector][3:])
            error = (body * Rotation.from_quat(arm.turn)).inv() * site
            # robosuite leaves bodies one physics step behind.
            assert error.magnitude() < 0.01, (name, arm.end_effector)
            named = robot.gripper[side].joints
            assert tuple(named) == arm.joints
        simulation.close()


def test_layout_of_the_authors_time_with_videos(old_layout):
    found = load_demonstrations(old_layout, _TASK)
    for demonstration, (low_dim, _, images) in zip(found, _episodes(), strict=True):
        np.testing.assert_allclose(
            demonstration.state, _expected_state(low_dim, _TASK, _LAYOUT), atol=1e-5
        )
        for camera in _TASK.cameras:
            wrong = demonstration.images[camera].astype(int) - images[camera]
            assert np.abs(wrong).max() < 12


def test_videos_of_the_present_layout(tmp_path):
    root = tmp_path / "robomimic-mh-can-image"
    write_v3(root, _LAYOUT, _TASK, _episodes(), videos=True)
    assert list(root.glob("videos/**/*.mp4"))
    found = load_demonstrations(root, _TASK)
    for demonstration, (_, _, images) in zip(found, _episodes(), strict=True):
        for camera in _TASK.cameras:
            wrong = demonstration.images[camera].astype(int) - images[camera]
            assert np.abs(wrong).max() < 40 and np.abs(wrong).mean() < 6


def test_what_follows_the_first_success_is_cut_off(tmp_path):
    root = tmp_path / "robomimic-mh-can-image"
    write_v3(root, _LAYOUT, _TASK, _episodes((6,)), done_at=2)
    (found,) = load_demonstrations(root, _TASK)
    # The observation after frame 2 is the first success.
    assert len(found.action) == len(found.images["agentview"]) == 4


def test_first_episodes_only(written):
    assert [len(d.action) for d in load_demonstrations(written, _TASK, episodes=1)] == [4]


def test_identity_of_a_foreign_data_set(written):
    identity = read_identity(written)
    assert (identity.task, identity.implementation) == ("can", _TASK.implementation)
    assert (identity.image_size, identity.episodes) == (SIZE, 2)
    assert identity.expert.startswith("lerobot:robomimic-mh-can-image:")


def test_other_task_is_refused(written):
    with pytest.raises(DemonstrationsError, match=r"found data of robosuite.*/PickPlaceCan"):
        load_demonstrations(written, get_task("square"))


def test_unknown_data_set_needs_a_mapping(written, tmp_path):
    root = tmp_path / "mine"
    shutil.copytree(written, root)
    with pytest.raises(DemonstrationsError, match=r"resfit_mapping\.yaml"):
        load_demonstrations(root, _TASK)
    arm = _LAYOUT.arms[0]
    mapping = {
        "task": "can",
        "implementation": _TASK.implementation,
        "arms": [
            {
                "end_effector": arm.end_effector,
                "prefix": arm.prefix,
                "joints": list(arm.joints),
                "turn": list(arm.turn),
            }
        ],
    }
    path = root / "meta" / "resfit_mapping.yaml"
    path.write_text(yaml.safe_dump(mapping))
    np.testing.assert_array_equal(
        load_demonstrations(root, _TASK)[0].state, load_demonstrations(written, _TASK)[0].state
    )
    path.write_text(yaml.safe_dump(mapping | {"arm": 1}))
    with pytest.raises(DemonstrationsError, match=r"resfit_mapping\.yaml: expected the keys"):
        load_demonstrations(root, _TASK)
    mapping["arms"][0]["turn"] = [0, 0, 0, 2]
    path.write_text(yaml.safe_dump(mapping))
    with pytest.raises(DemonstrationsError, match="turn: expected a unit quaternion"):
        load_demonstrations(root, _TASK)


def test_name_that_is_not_cached_says_how_to_fetch_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path))
    command = f"HF_HUB_OFFLINE=0 hf download --repo-type dataset {_NAME}"
    with pytest.raises(DemonstrationsError, match=command):
        load_demonstrations(_NAME, _TASK)


def test_name_that_is_cached_is_read(written, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path))
    shutil.copytree(written, tmp_path / _NAME)
    assert len(load_demonstrations(_NAME, _TASK)) == 2
    assert read_identity(_NAME).task == "can"


@pytest.mark.parametrize("column", ["action", "observation.state"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_is_refused(copy, column, value):
    def change(frame):
        frame.at[5, column] = np.full(len(frame.at[5, column]), value, np.float32)
        return frame

    _edit(copy, change)
    key = "action" if column == "action" else "robot0_eef_pos"
    with pytest.raises(DemonstrationsError, match=f"episode 1, frame 1: {key}: expected"):
        load_demonstrations(copy, _TASK)


def test_action_out_of_limits_is_refused(copy):
    def change(frame):
        frame.at[5, "action"] = np.array([0, 0, 1.01, 0, 0, 0, 0], np.float32)
        return frame

    _edit(copy, change)
    with pytest.raises(
        DemonstrationsError, match=r"episode 1, frame 1: action z: expected -1 to 1, found 1\.01"
    ):
        load_demonstrations(copy, _TASK)


def test_vector_of_another_length_is_refused(copy):
    def change(frame):
        frame.at[5, "action"] = np.zeros(6, np.float32)
        return frame

    _edit(copy, change)
    with pytest.raises(DemonstrationsError, match="episode 1, frame 1: action: expected 7 finite"):
        load_demonstrations(copy, _TASK)


def test_quaternion_that_is_none_is_refused(copy):
    def change(frame):
        frame.at[5, "observation.state"] = frame.at[5, "observation.state"] * 2
        return frame

    _edit(copy, change)
    with pytest.raises(DemonstrationsError, match="episode 1, frame 1: robot0_eef_quat: expected"):
        load_demonstrations(copy, _TASK)


@pytest.mark.parametrize(
    "column", ["action", "observation.state", "observation.images.robot0_eye_in_hand"]
)
def test_missing_column_is_refused(copy, column):
    _edit(copy, lambda frame: frame.drop(columns=column))
    with pytest.raises(DemonstrationsError, match=f"expected {column}, found"):
        load_demonstrations(copy, _TASK)


def test_missing_feature_is_refused(copy):
    path = copy / "meta" / "info.json"
    info = json.loads(path.read_text())
    del info["features"]["observation.images.agentview"]
    path.write_text(json.dumps(info))
    with pytest.raises(DemonstrationsError, match=r"expected observation\.images\.agentview"):
        load_demonstrations(copy, _TASK)


def test_wrong_camera_size_is_refused(written):
    with pytest.raises(DemonstrationsError, match=r"agentview: expected shape \(96, 96, 3\)"):
        load_demonstrations(written, _TASK, (96, 96))


def test_one_picture_of_another_size_is_refused(copy):
    def change(frame):
        frame.at[5, "observation.images.agentview"] = {"bytes": _png(80), "path": None}
        return frame

    _edit(copy, change)
    with pytest.raises(
        DemonstrationsError, match=r"episode 1, frame 1: camera agentview: expected \(84, 84, 3\)"
    ):
        load_demonstrations(copy, _TASK)


def _png(size):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((size, size, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_missing_frame_is_refused(copy):
    _edit(copy, lambda frame: frame.drop(index=1))
    with pytest.raises(DemonstrationsError, match="episode 0: expected frames 0 to 2 in order"):
        load_demonstrations(copy, _TASK)


def test_too_short_and_no_episodes_are_refused(copy):
    _edit(copy, lambda frame: frame.iloc[:5].assign(**{"next.done": True}))
    with pytest.raises(DemonstrationsError, match="episode 1: action: expected 2 frames"):
        load_demonstrations(copy, _TASK)
    _edit(copy, lambda frame: frame.iloc[:0])
    with pytest.raises(DemonstrationsError, match="expected episodes, found none"):
        load_demonstrations(copy, _TASK)


def test_missing_episode_is_refused(copy):
    _edit(copy, lambda frame: frame[frame["episode_index"] == 1])
    with pytest.raises(DemonstrationsError, match="expected episode 0"):
        load_demonstrations(copy, _TASK)


def test_demonstration_without_success_is_refused(tmp_path):
    root = tmp_path / "robomimic-mh-can-image"
    write_v3(root, _LAYOUT, _TASK, _episodes((3,)), done_at=9)
    with pytest.raises(DemonstrationsError, match=r"episode 0: next\.done: expected a success"):
        load_demonstrations(root, _TASK)


def test_ragged_and_damaged_videos_are_refused(old_layout):
    path = old_layout / "videos/chunk-000/observation.images.agentview/episode_000001.mp4"
    write_video(path, np.zeros((2, *SIZE, 3), np.uint8))
    with pytest.raises(
        DemonstrationsError, match=r"episode 1, frame 2: .*agentview: expected 3 pictures"
    ):
        load_demonstrations(old_layout, _TASK)
    write_video(path, np.zeros((3, 80, 80, 3), np.uint8))
    with pytest.raises(DemonstrationsError, match=r"frame 0: expected \(84, 84, 3\)"):
        load_demonstrations(old_layout, _TASK)
    path.write_bytes(b"not a video")
    with pytest.raises(DemonstrationsError, match="expected a video"):
        load_demonstrations(old_layout, _TASK)
    path.unlink()
    with pytest.raises(DemonstrationsError, match="found no such file"):
        load_demonstrations(old_layout, _TASK)


def test_other_frequency_is_refused(tmp_path):
    root = tmp_path / "robomimic-mh-can-image"
    write_v21(root, _LAYOUT, _TASK, _episodes((3,)), fps=10)
    with pytest.raises(DemonstrationsError, match="fps: expected 20, found 10"):
        load_demonstrations(root, _TASK)
