"""Rollouts and what is said about them."""

import numpy as np
import pytest

from resfit_rl.control import ChunkSchedule
from resfit_rl.evaluation import rollout, wilson_interval
from resfit_rl.evaluation.__main__ import main
from resfit_rl.simulation import Simulation
from resfit_rl.tasks import get_task


@pytest.fixture(scope="module")
def can():
    simulation = Simulation(get_task("can"), rendering=None)
    yield simulation
    simulation.close()


class _Numbered:
    """Says in each action from which observation and place in the chunk it comes."""

    identity = "numbered"
    chunk_size = 20

    def __init__(self, states):
        self._states = states

    def reset(self, seed):
        self._states.clear()

    def predict_chunk(self, observation):
        self._states.append(observation.state)
        chunk = np.zeros((20, 7), np.float32)
        chunk[:, 0] = len(self._states) / 1000
        chunk[:, 1] = np.arange(20) / 1000
        return chunk


def test_chunks_follow_the_schedule(can):
    states = []
    schedule = ChunkSchedule(6, 4)
    episode = rollout(can, _Numbered(states), schedule, 3, max_steps=20)
    assert not episode.success
    assert (len(episode.actions), len(episode.frames)) == (20, 21)
    sources = sorted({schedule.source(step) for step in range(20)})
    assert sources == [0, 2, 8, 14]
    for state, source in zip(states, sources, strict=True):
        np.testing.assert_array_equal(state, episode.frames[source].observation(can.task).state)
    expected = [
        (sources.index(schedule.source(step)) + 1, step - schedule.source(step))
        for step in range(20)
    ]
    np.testing.assert_allclose(episode.actions[:, :2] * 1000, expected, rtol=1e-5)


def test_rollout_wants_chunks_that_last(can):
    with pytest.raises(ValueError, match="replan_interval"):
        rollout(can, _Numbered([]), ChunkSchedule(16, 5), 0)


def test_wilson_interval():
    assert wilson_interval(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(45, 50) == pytest.approx((0.7864, 0.9565), abs=1e-4)
    for successes, trials in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match=f"found {successes} of {trials}"):
            wilson_interval(successes, trials)


def test_command_reports(capsys):
    assert main(["--task", "can", "--policy", "scripted", "--episodes", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("episode 1/1 seed 0: success")
    assert "success 1/1 = 1.000, 95 % Wilson interval 0.207 to 1.000" in lines
    assert any(line.startswith("right force of a step") for line in lines)


def test_command_refuses(capsys):
    assert main(["--task", "cup"]) == 1
    assert "found 'cup'" in capsys.readouterr().err
    assert main(["--task", "Lift"]) == 1
    assert "found 'Lift'" in capsys.readouterr().err
    assert main(["--task", "can", "--policy", "act", "--path", "absent"]) == 1
    assert "absent/config.json" in capsys.readouterr().err
