"""CanSort: its starts, its success condition and its scripted expert."""

import dataclasses

import numpy as np
import pytest

from resfit_rl.base_policies import BasePolicyError
from resfit_rl.base_policies.scripted import ScriptedExpert
from resfit_rl.control import ChunkSchedule
from resfit_rl.evaluation import rollout
from resfit_rl.simulation import Simulation
from resfit_rl.tasks import get_task

TASK = get_task("can_sort")
pytestmark = pytest.mark.skipif(
    not TASK.implementation.startswith("resfit"), reason="DexMimicGen's own scene is used"
)
STANDING = 0.06  # m, a can's middle above its bin's origin


@pytest.fixture(scope="module")
def simulation():
    simulation = Simulation(TASK, rendering=None)
    yield simulation
    simulation.close()


def can_of(frame):
    (can,) = [name for name in frame.privileged if name.startswith("can_")]
    return can


def judged(simulation, can, origin, *off):
    """Success with `can` put `off`, m, from there and the other one away."""
    scene = simulation._env
    for name in ("can_red", "can_blue"):
        scene.put_away(name)
    scene.put(can, np.add(origin, off))
    return simulation._frame().success


def test_starts(simulation):
    cans = set()
    places = []
    for seed in range(20):
        frame = simulation.reset(seed)
        can = can_of(frame)
        cans.add(can)
        assert set(frame.privileged) == {can, "bin_red", "bin_blue"}
        assert not frame.success and not frame.self_collisions
        assert not simulation._env.touched_by_robot(can)
        x, y, z = frame.privileged[can][:3]
        assert -0.261 < x < -0.179 and -0.061 < y < 0.061
        assert z == pytest.approx(simulation._env.table_top + 0.055, abs=0.002)
        places.append((x, y))
    assert cans == {"can_red", "can_blue"}
    assert np.ptp(places, axis=0).min() > 0.05
    later = simulation.step(simulation.start_action)
    np.testing.assert_allclose(later.privileged[can], frame.privileged[can], atol=1e-3)


def test_a_seed_is_one_start_whatever_ran_before(simulation):
    first = simulation.reset(3)
    simulation.reset(4)
    simulation.step(simulation.start_action + 0.02)
    again = simulation.reset(3)
    for name, pose in first.privileged.items():
        np.testing.assert_array_equal(again.privileged[name], pose)
    np.testing.assert_array_equal(again.joint_position, first.joint_position)
    for wrist, wrench in first.wrenches.items():
        np.testing.assert_array_equal(again.wrenches[wrist], wrench)


@pytest.mark.parametrize("colour", ["red", "blue"])
def test_success_is_the_can_in_the_bin_of_its_colour(simulation, colour):
    other = {"red": "blue", "blue": "red"}[colour]
    frame = simulation.reset(0)
    own, wrong = (frame.privileged[f"bin_{c}"][:3] for c in (colour, other))
    can = f"can_{colour}"
    inward = -np.sign(own[1])
    assert judged(simulation, can, own, 0, 0, STANDING)
    assert judged(simulation, can, own, 0.05, -0.04 * inward, STANDING)
    assert not judged(simulation, can, wrong, 0, 0, STANDING)
    assert not judged(simulation, can, own, 0.085, 0, STANDING)
    assert not judged(simulation, can, own, 0, 0.1, STANDING)
    assert not judged(simulation, can, own, 0, 0, 0.075)
    # Under the fingers, so high that they touch it.
    assert not judged(simulation, can, own, 0, 0.05 * inward, 0.068)
    assert simulation._env.touched_by_robot(can)


@pytest.mark.parametrize("seed", [0, 1])
def test_expert_sorts_softly(simulation, seed):
    episode = rollout(simulation, ScriptedExpert("can_sort"), ChunkSchedule(1), seed)
    assert can_of(episode.frames[0]) == ("can_blue", "can_red")[seed]
    assert episode.success and len(episode.actions) < 0.6 * TASK.max_steps
    assert not any(frame.self_collisions for frame in episode.frames)
    for force, torque in episode.wrench_peaks().values():
        assert force < 40 and torque < 5
    change = np.abs(np.diff(episode.actions, axis=0)).max(axis=0)
    assert (change <= 0.5 * np.array(TASK.action_change)).all()


@pytest.mark.parametrize("missing", ["can_red", "bin_red"])
def test_missing_pose_is_named(simulation, missing):
    frame = simulation.reset(1)
    assert can_of(frame) == "can_red"
    observation = frame.observation(TASK)
    privileged = {name: pose for name, pose in frame.privileged.items() if name != missing}
    expert = ScriptedExpert("can_sort")
    with pytest.raises(BasePolicyError, match=r"expected the privileged pose of (can|bin)_"):
        for _ in range(3):
            expert.predict_chunk(dataclasses.replace(observation, privileged=privileged))
