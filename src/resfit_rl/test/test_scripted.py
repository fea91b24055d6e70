"""The scripted experts, in the simulation."""

import dataclasses

import numpy as np
import pytest

from resfit_rl.base_policies import BasePolicyError, base_policy_identity
from resfit_rl.base_policies.scripted import ScriptedExpert
from resfit_rl.control import ChunkSchedule
from resfit_rl.evaluation import rollout
from resfit_rl.simulation import Simulation
from resfit_rl.tasks import get_task


@pytest.fixture(scope="module", params=["can", "square"])
def simulation(request):
    simulation = Simulation(get_task(request.param), rendering=None)
    yield simulation
    simulation.close()


def test_solves_the_task_softly(simulation):
    expert = ScriptedExpert(simulation.task.name)
    for seed in (0, 1):
        episode = rollout(simulation, expert, ChunkSchedule(1), seed)
        assert episode.success
        force, torque = episode.wrench_peaks()["right"]
        assert force < 30 and torque < 5
        assert np.abs(episode.actions).max() <= 1
        # Starts and stops are soft; only the gripper jumps.
        assert np.abs(np.diff(episode.actions[:, :6], axis=0)).max() < 0.2501


def test_seed_decides_what_it_does(simulation):
    expert = ScriptedExpert(simulation.task.name)
    observation = simulation.reset(0).observation(simulation.task)

    def actions(seed):
        expert.reset(seed)
        return np.concatenate([expert.predict_chunk(observation) for _ in range(20)])

    assert expert.predict_chunk(observation).shape == (expert.chunk_size, 7)
    assert expert.predict_chunk(observation).dtype == np.float32
    first = actions(1)
    assert not np.array_equal(first, actions(2))
    np.testing.assert_array_equal(first, actions(1))


def test_missing_privileged_pose_is_named(simulation):
    expert = ScriptedExpert(simulation.task.name)
    observation = simulation.reset(0).observation(simulation.task)
    with pytest.raises(BasePolicyError, match=r"pose of (Can|SquareNut), found \[\]"):
        expert.predict_chunk(dataclasses.replace(observation, privileged={}))


def test_identity_is_the_one_that_is_recorded(simulation):
    task = simulation.task
    assert ScriptedExpert(task.name).identity == base_policy_identity("scripted", task)


def test_no_expert_for_another_task():
    with pytest.raises(BasePolicyError, match=r"expected one of can, square, .*found 'Lift'"):
        ScriptedExpert("Lift")


@pytest.mark.slow
def test_solves_nine_of_ten(simulation):
    expert = ScriptedExpert(simulation.task.name)
    solved = [rollout(simulation, expert, ChunkSchedule(1), seed).success for seed in range(50)]
    assert sum(solved) >= 45
