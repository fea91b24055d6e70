"""Coffee: its starts, its success condition and its scripted expert."""

import dataclasses

import numpy as np
import pytest

from resfit_rl.base_policies import BasePolicyError
from resfit_rl.base_policies.scripted import ScriptedExpert
from resfit_rl.control import ChunkSchedule
from resfit_rl.evaluation import rollout
from resfit_rl.simulation import Simulation
from resfit_rl.tasks import get_task

TASK = get_task("coffee")
pytestmark = pytest.mark.skipif(
    not TASK.implementation.startswith("resfit"), reason="DexMimicGen's own scene is used"
)
BODIES = {"coffee_pod", "coffee_stand", "coffee_machine", "coffee_machine_lid"}
IN_HOLDER = 0.19  # m, the pod's middle above the table when it stands in the holder


@pytest.fixture(scope="module")
def simulation():
    simulation = Simulation(TASK, rendering=None)
    yield simulation
    simulation.close()


def judged(simulation, lid, *off):
    """Success with the lid at `lid`, rad, and the pod `off`, m, from where it is to be."""
    scene = simulation._env
    place = np.add(scene.position("coffee_machine"), off)
    scene.put("coffee_pod", np.add(place, [0.0, 0.0, IN_HOLDER]))
    scene.lid_angle = lid
    return simulation._frame().success


def test_starts(simulation):
    scene = simulation._env
    places = []
    for seed in range(20):
        frame = simulation.reset(seed)
        assert set(frame.privileged) == BODIES
        assert not frame.success and not frame.self_collisions
        assert not scene.touched_by_robot("coffee_pod")
        pod, stand = (frame.privileged[f"coffee_{name}"][:3] for name in ("pod", "stand"))
        machine = frame.privileged["coffee_machine"][:3]
        assert -0.281 < stand[0] < -0.199 and -0.186 < stand[1] < -0.144
        assert np.abs(pod[:2] - stand[:2]).max() < 0.006
        assert pod[2] == pytest.approx(scene.table_top + 0.149, abs=0.002)
        assert -0.226 < machine[0] < -0.179 and -0.016 < machine[1] < 0.021
        assert 1.7 < scene.lid_angle < 1.9
        places.append((*pod[:2], *machine[:2]))
    assert np.ptp(places, axis=0).min() > 0.02
    for _ in range(10):
        later = simulation.step(simulation.start_action)
    assert not any(scene.touched_by_robot(name) for name in ("coffee_machine", "coffee_stand"))
    np.testing.assert_allclose(
        later.privileged["coffee_pod"], frame.privileged["coffee_pod"], atol=1e-3
    )
    assert scene.lid_angle > 1.7


def test_same_seed_same_start(simulation):
    first = simulation.reset(7)
    # What is moved here must not show in a later start.
    assert judged(simulation, 0.0, 0.0, 0.0, 0.0)
    simulation.step(simulation.start_action)
    other = simulation.reset(8)
    again = simulation.reset(7)
    for frame, equal in ((again, True), (other, False)):
        for name in BODIES:
            same = np.array_equal(frame.privileged[name], first.privileged[name])
            assert same == equal
    np.testing.assert_array_equal(again.joint_position, first.joint_position)
    np.testing.assert_array_equal(again.wrenches["right"], first.wrenches["right"])


def test_success_needs_pod_in_holder_and_lid_shut(simulation):
    simulation.reset(0)
    assert judged(simulation, 0.0, 0.0, 0.0, 0.0)
    assert judged(simulation, 0.19, 0.005, -0.003, 0.002)
    assert not judged(simulation, 0.22, 0.0, 0.0, 0.0)
    assert not judged(simulation, 0.0, 0.04, 0.0, 0.0)
    assert not judged(simulation, 0.0, 0.0, -0.04, 0.0)
    assert not judged(simulation, 0.0, 0.0, 0.0, 0.04)  # stands out of the holder
    assert not judged(simulation, 0.0, 0.0, 0.0, -0.1)  # where the cup is


def test_expert_solves_it_softly(simulation):
    expert = ScriptedExpert(TASK.name)
    for seed in (0, 1):
        episode = rollout(simulation, expert, ChunkSchedule(1), seed)
        assert episode.success and len(episode.actions) < 0.6 * TASK.max_steps
        for force, torque in episode.wrench_peaks().values():
            assert force < 50 and torque < 5
        assert not any(frame.self_collisions for frame in episode.frames)
        changes = np.abs(np.diff(episode.actions, axis=0)).max(axis=0)
        assert (changes < 0.6 * np.array(TASK.action_change)).all()


@pytest.mark.parametrize("body", ["coffee_pod", "coffee_machine", "coffee_machine_lid"])
def test_missing_privileged_pose_is_named(simulation, body):
    expert = ScriptedExpert(TASK.name)
    observation = simulation.reset(0).observation(TASK)
    left = {name: pose for name, pose in observation.privileged.items() if name != body}
    with pytest.raises(BasePolicyError, match=rf"pose of {body}, found \["):
        expert.predict_chunk(dataclasses.replace(observation, privileged=left))
