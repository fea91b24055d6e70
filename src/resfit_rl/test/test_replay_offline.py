from dataclasses import dataclass

import numpy as np
import pytest

from resfit_rl.control import ChunkSchedule
from resfit_rl.replay import offline_episodes


@dataclass
class Recorded:
    images: dict
    state: np.ndarray
    action: np.ndarray


class FromState:
    """Chunk entry j at the observation of step s: s + j / 100, so that both can be read off."""

    identity = "test:1"
    chunk_size = 15

    def __init__(self):
        self.asked = []

    def reset(self, seed):
        self.asked.append(f"reset {seed}")

    def predict_chunk(self, observation):
        step = int(observation.state[0])
        assert observation.images["c"][0, 0, 0] == step
        self.asked.append(step)
        chunk = step + np.arange(self.chunk_size, dtype=np.float32)[:, None] / 100
        return np.repeat(chunk, 2, axis=1)


def recorded(length):
    steps = np.arange(length, dtype=np.float32)
    images = {"c": np.tile(np.arange(length, dtype=np.uint8)[:, None, None, None], (1, 4, 4, 3))}
    return Recorded(images, steps[:, None], np.stack([steps, -steps], axis=1))


def relabel(demonstrations, policy, **arguments):
    return offline_episodes(
        demonstrations, policy, ChunkSchedule(10, 5), task="t", implementation="i", **arguments
    )


def test_base_actions_come_from_the_scheduled_observations():
    policy = FromState()
    (episode,) = relabel([recorded(28)], policy)
    expected = []
    for step in range(28):
        source = max(0, step // 10 * 10 - 5)
        expected.append(source + (step - source) / 100)
    np.testing.assert_allclose(episode.base_action[:, 0], expected, rtol=1e-6)
    # Step 25's chunk is predicted as it would be while acting, though the recording ends before.
    assert policy.asked == ["reset 0", 0, 5, 15, 25]
    assert len(episode) == 27 and episode.done and episode.reward == 1.0
    np.testing.assert_array_equal(episode.executed_action, recorded(28).action[:27])
    assert episode.base_policy == "test:1"


def test_kept_base_actions_are_used_again_and_mended(tmp_path):
    first, second, third = FromState(), FromState(), FromState()
    demonstrations = [recorded(12), recorded(5)]
    progress = []
    one = relabel(
        demonstrations, first, cache_dir=tmp_path, on_progress=lambda *p: progress.append(p)
    )
    assert progress == [(1, 2), (2, 2)]
    two = relabel(demonstrations, second, cache_dir=tmp_path)
    assert second.asked == []
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.base_action, b.base_action)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="corrupt, computed again"):
        three = relabel(demonstrations, third, cache_dir=tmp_path)
    assert third.asked == first.asked
    np.testing.assert_array_equal(three[0].base_action, one[0].base_action)
    changed = [recorded(12), recorded(6)]
    relabel(changed, third, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_bad_demonstrations_and_chunks_are_named():
    with pytest.raises(ValueError, match="demonstration 1: expected equal lengths >= 2"):
        relabel([recorded(4), recorded(1)], FromState())
    policy = FromState()
    policy.chunk_size = 14
    with pytest.raises(ValueError, match="replan_interval \\+ lead <= 14"):
        relabel([recorded(4)], policy)
    policy = FromState()
    policy.predict_chunk = lambda observation: np.full((15, 2), np.nan)
    with pytest.raises(ValueError, match=r"demonstration 0, step 0: base policy: .* 30 NaN"):
        relabel([recorded(4)], policy)
