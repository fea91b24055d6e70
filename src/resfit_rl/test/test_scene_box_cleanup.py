"""BoxCleanup: its starts, its success condition and its expert."""

import dataclasses

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from resfit_rl.base_policies import BasePolicyError
from resfit_rl.base_policies.scripted import ScriptedExpert
from resfit_rl.control import ChunkSchedule
from resfit_rl.evaluation import rollout
from resfit_rl.simulation import Simulation
from resfit_rl.tasks import get_task

CLOSED = 0.107  # m, the lid's origin over the box's


@pytest.fixture(scope="module")
def simulation():
    simulation = Simulation(get_task("box_cleanup"), rendering=None)
    yield simulation
    simulation.close()


def same(first, second):
    return (
        np.array_equal(first.joint_position, second.joint_position)
        and all(np.array_equal(first.privileged[n], second.privileged[n]) for n in first.privileged)
        and all(np.array_equal(first.wrenches[n], second.wrenches[n]) for n in first.wrenches)
    )


def test_seed_decides_the_start_whatever_ran_before(simulation):
    first = simulation.reset(3)
    other = simulation.reset(4)
    for _ in range(5):
        simulation.step(np.random.default_rng(0).uniform(-1, 1, 24))
    assert same(simulation.reset(3), first)
    assert not same(other, first)
    again = Simulation(get_task("box_cleanup"), rendering=None)
    assert same(again.reset(3), first)
    again.close()


def test_starts_are_open_and_at_rest(simulation):
    starts = {"box_body": [], "box_lid": []}
    for seed in range(20):
        frame = simulation.reset(seed)
        assert not frame.success and not frame.self_collisions
        for name, poses in starts.items():
            assert not simulation._env.touched_by_robot(name)
            velocity = simulation._data.body(f"{name}_main").cvel
            assert np.abs(velocity).max() < 0.02
            pose = frame.privileged[name]
            yaw = Rotation.from_quat(pose[3:]).as_euler("zyx")[0]
            poses.append((*pose[:3], yaw))
    box, lid = np.array(starts["box_body"]), np.array(starts["box_lid"])
    settled = 0.002
    low, high = np.array([0.1, -0.03, 0.8, -0.08]), np.array([0.15, 0.03, 0.8, 0.08])
    assert (box > low - settled).all() and (box < high + settled).all()
    low, high = np.array([-0.17, -0.04, 0.812, -0.12]), np.array([-0.12, 0.04, 0.812, 0.12])
    assert (lid > low - settled).all() and (lid < high + settled).all()
    assert np.ptp(box[:, :2], axis=0).min() > 0.03 and np.ptp(lid[:, :2], axis=0).min() > 0.03


@pytest.mark.parametrize(
    ("off", "yaw", "expected"),
    [
        ((0.0, 0.0, CLOSED), 0.0, True),
        ((0.006, -0.006, CLOSED), 0.03, True),
        ((0.0, 0.0, CLOSED + 0.006), 0.0, False),  # still on its way down
        ((0.0, 0.0, CLOSED - 0.006), 0.0, False),
        ((0.025, 0.0, CLOSED), 0.0, False),
        ((0.0, 0.025, CLOSED), 0.0, False),
        ((-0.25, 0.0, 0.012), 0.0, False),  # on the table
    ],
)
def test_success_is_a_lid_on_the_box(simulation, off, yaw, expected):
    simulation.reset(0)
    env, turned = simulation._env, 0.3
    box = np.array([0.12, 0.01, 0.8])
    env.put("box_body", box, turned)
    env.put("box_lid", box + Rotation.from_euler("z", turned).apply(off), turned + yaw)
    mujoco.mj_forward(simulation._model, simulation._data)
    assert env._check_success() is expected


def test_tilted_lid_is_not_closed(simulation):
    simulation.reset(0)
    env = simulation._env
    env.put("box_body", (0.12, 0.0, 0.8))
    x, y, z, w = Rotation.from_euler("x", 3.0, degrees=True).as_quat()
    joint = env._free_joint("box_lid")
    simulation._data.joint(joint).qpos[:] = (0.12, 0.0, 0.8 + CLOSED, w, x, y, z)
    mujoco.mj_forward(simulation._model, simulation._data)
    assert not env._check_success()


@pytest.mark.parametrize("beside", [(0.0, 0.0), (0.009, 0.0), (0.0, -0.009)])
def test_lid_slips_into_the_rim(simulation, beside):
    simulation.reset(0)
    env = simulation._env
    env.put("box_body", (0.12, 0.0, 0.8))
    env.put("box_lid", (0.12 + beside[0], beside[1], 0.8 + CLOSED + 0.02))
    frame = simulation.step(simulation.start_action)
    assert not frame.success
    for _ in range(20):
        frame = simulation.step(simulation.start_action)
    assert frame.success


def test_lid_beside_the_rim_stays_open(simulation):
    simulation.reset(0)
    env = simulation._env
    env.put("box_body", (0.12, 0.0, 0.8))
    env.put("box_lid", (0.12, 0.03, 0.8 + CLOSED + 0.015))
    for _ in range(20):
        assert not simulation.step(simulation.start_action).success


def test_expert_closes_the_box_softly(simulation):
    expert = ScriptedExpert("box_cleanup")
    for seed in (0, 1):
        episode = rollout(simulation, expert, ChunkSchedule(1), seed)
        assert episode.success and len(episode.actions) < 200
        assert not any(frame.self_collisions for frame in episode.frames)
        for force, torque in episode.wrench_peaks().values():
            assert force < 40 and torque < 8
        changes = np.abs(np.diff(episode.actions, axis=0)).max(axis=0)
        assert (changes < np.array(simulation.task.action_change) / 2).all()


@pytest.mark.parametrize("missing", ["box_body", "box_lid"])
def test_expert_names_a_missing_pose(simulation, missing):
    expert = ScriptedExpert("box_cleanup")
    observation = simulation.reset(0).observation(simulation.task)
    known = {name: pose for name, pose in observation.privileged.items() if name != missing}
    with pytest.raises(BasePolicyError, match=f"pose of {missing}"):
        expert.predict_chunk(dataclasses.replace(observation, privileged=known))
