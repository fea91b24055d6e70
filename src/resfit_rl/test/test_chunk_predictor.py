import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

from resfit_rl.base_policies import BasePolicyError
from resfit_rl.control import ChunkedBase, ChunkSchedule, LateChunkError
from resfit_rl.observation import Observation
from resfit_rl.replay import offline_episodes

CHUNK = 15


class Projection:
    """A chunk is a fixed linear map of the observation, plus the seed of the episode."""

    identity = "test:projection"

    def __init__(self, chunk_size=CHUNK):
        self.chunk_size = chunk_size
        self.go_on = threading.Event()
        self.go_on.set()
        self.calls = 0
        self.seed = None
        self._map = np.random.default_rng(0).normal(size=(chunk_size * 2, 3)).astype(np.float32)

    def reset(self, seed):
        self.seed = seed

    def predict_chunk(self, observation):
        assert self.go_on.wait(10.0)
        self.calls += 1
        return (self._map @ observation.state).reshape(self.chunk_size, 2) + self.seed


@dataclass
class Recorded:
    images: dict
    state: np.ndarray
    action: np.ndarray


def states(length):
    return np.random.default_rng(1).normal(size=(length, 3)).astype(np.float32)


def observation(state):
    return Observation({"c": np.zeros((2, 2, 3), np.uint8)}, state)


@pytest.fixture
def worker():
    with ThreadPoolExecutor(1) as worker:
        yield worker


@pytest.mark.parametrize(("size", "schedule"), [(CHUNK, (10, 5)), (CHUNK, (15, 0)), (1, (1, 0))])
def test_online_offline_and_by_the_definition_are_one(worker, size, schedule):
    schedule = ChunkSchedule(*schedule)
    policy = Projection(size)
    state = states(33)
    chunked = ChunkedBase(policy, schedule, 2, worker)
    chunked.reset(0)
    online = []
    for step in range(33):
        chunked.observe(step, observation(state[step]))
        base = chunked.action(step)
        assert base.source == schedule.source(step)
        online.append(base.action)
    recorded = Recorded(
        {"c": np.zeros((33, 2, 2, 3), np.uint8)}, state, np.zeros((33, 2), np.float32)
    )
    (episode,) = offline_episodes(
        [recorded], Projection(size), schedule, task="t", implementation="i"
    )
    np.testing.assert_array_equal(online, episode.base_action)
    for step, action in enumerate(online):
        source = schedule.source(step)
        chunk = policy.predict_chunk(observation(state[source]))
        np.testing.assert_array_equal(action, chunk[step - source])


def test_a_chunk_is_predicted_beside_the_loop(worker):
    policy = Projection()
    chunked = ChunkedBase(policy, ChunkSchedule(10, 5), 2, worker)
    chunked.reset(0)
    chunked.observe(0, observation(states(1)[0]))
    chunked.action(0)
    policy.go_on.clear()
    for step in range(1, 10):
        chunked.observe(step, observation(states(1)[0]))
        # Steps 5 to 9 go on from the first chunk while the second is under way.
        assert chunked.action(step, 0.0).source == 0
    policy.go_on.set()
    chunked.observe(10, observation(states(1)[0]))
    assert chunked.action(10).source == 5
    assert policy.calls == 2


def test_a_late_chunk_is_replaced_by_the_one_before_only_where_asked_and_only_while_it_covers(
    worker,
):
    policy = Projection()
    chunked = ChunkedBase(policy, ChunkSchedule(10, 5), 2, worker)
    chunked.reset(0)
    state = states(16)
    for step in range(10):
        if step == 5:
            policy.go_on.clear()
        chunked.observe(step, observation(state[step]))
        chunked.action(step)
    chunked.observe(10, observation(state[10]))
    with pytest.raises(LateChunkError, match=r"step 10: .* from step 5 within 20 ms"):
        chunked.action(10, 0.02)
    base = chunked.action(10, 0.02, fall_back=True)
    assert base.source == 0 and 0.02 <= base.wait < 2.0
    chunked.observe(14, observation(state[14]))
    assert chunked.action(14, 0.0, fall_back=True).source == 0
    chunked.observe(15, observation(state[15]))
    with pytest.raises(LateChunkError, match="step 15"):
        chunked.action(15, 0.0, fall_back=True)
    policy.go_on.set()
    assert chunked.action(15).source == 5


def test_after_a_lost_source_the_next_observation_takes_its_place(worker):
    policy = Projection()
    chunked = ChunkedBase(policy, ChunkSchedule(10, 5), 2, worker)
    chunked.reset(0)
    state = states(40)
    for step in [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]:
        chunked.observe(step, observation(state[step]))
    base = chunked.action(11)
    assert base.source == 7
    np.testing.assert_array_equal(base.action, policy.predict_chunk(observation(state[7]))[4])
    # All of 12 to 26 lost: there never was a chunk for step 27.
    chunked.observe(27, observation(state[27]))
    assert chunked.action(27).source == 27
    chunked.observe(30, observation(state[30]))
    assert chunked.action(30).source == 27


def test_reset_forgets_the_last_episode(worker):
    policy = Projection()
    chunked = ChunkedBase(policy, ChunkSchedule(10, 5), 2, worker)
    policy.go_on.clear()
    chunked.reset(1)
    chunked.observe(0, observation(states(2)[0]))
    chunked.observe(5, observation(states(2)[0]))
    chunked.reset(7)
    chunked.observe(0, observation(states(2)[1]))
    policy.go_on.set()
    expected = policy._map.reshape(CHUNK, 2, 3)[0] @ states(2)[1] + 7
    np.testing.assert_allclose(chunked.action(0).action, expected, rtol=1e-5)
    # Of the last episode's two predictions, the one that had not begun was given up.
    assert policy.calls <= 2


@pytest.mark.parametrize(
    ("chunk", "error"),
    [
        (np.full((CHUNK, 2), np.nan), r"finite chunk of \(15, 2\), found \(15, 2\) with 30 NaN"),
        (np.zeros((CHUNK, 3)), r"found \(15, 3\)"),
    ],
)
def test_what_goes_wrong_in_the_worker_surfaces(worker, chunk, error):
    policy = Projection()
    policy.predict_chunk = lambda observation: chunk
    chunked = ChunkedBase(policy, ChunkSchedule(10, 5), 2, worker)
    chunked.reset(0)
    chunked.observe(0, observation(states(1)[0]))
    with pytest.raises(BasePolicyError, match=error):
        chunked.action(0)


def test_a_failed_reset_and_a_missing_observation_surface(worker):
    policy = Projection()
    policy.reset = lambda seed: 1 / 0
    chunked = ChunkedBase(policy, ChunkSchedule(10, 5), 2, worker)
    with pytest.raises(LateChunkError, match="expected an observation first"):
        chunked.action(0)
    chunked.reset(0)
    chunked.observe(0, observation(states(1)[0]))
    with pytest.raises(ZeroDivisionError):
        chunked.action(0)
    with pytest.raises(ValueError, match="replan_interval \\+ lead <= 15"):
        ChunkedBase(policy, ChunkSchedule(10, 6), 2, worker)
