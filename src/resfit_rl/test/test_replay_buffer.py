import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resfit_rl.agent import AgentSpec
from resfit_rl.episode_store.episode import Episode
from resfit_rl.replay import ReplayBuffer

SPEC = AgentSpec({"c": (2, 2)}, 1, 1, np.array([-1], np.float32), np.array([1], np.float32))
GAMMA = 0.5


def coded(episode_id, length, outcome="timeout"):
    """An episode whose numbers tell episode and step: 1000 * id + step."""
    code = 1000.0 * episode_id + np.arange(length + 1, dtype=np.float32)[:, None]
    pixels = np.stack([np.full((2, 2, 3), (episode_id * 16 + k) % 256) for k in range(length + 1)])
    done = outcome != "timeout"
    return Episode(
        "t", "i", "b", episode_id, 0, outcome, float(outcome == "success"), done,
        {"c": pixels.astype(np.uint8)}, code, code + 0.25, code[:-1] + 0.5,
        np.zeros(length, np.int64), np.arange(length + 1),
    )  # fmt: skip


def make(capacity=50, n_step=3, offline=()):
    return ReplayBuffer(SPEC, capacity, n_step, GAMMA, offline)


def sample(buffer, size, offline_fraction, generator=None, **options):
    generator = generator or torch.Generator().manual_seed(0)
    return buffer.gather(buffer.draw(generator, size, offline_fraction, **options))


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=25),
    offline=st.lists(st.integers(1, 6), max_size=3),
    n=st.integers(1, 5),
    seed=st.integers(0, 100),
)
def test_a_window_never_leaves_its_episode(lengths, offline, n, seed):
    demonstrations = [coded(500 + k, length, "success") for k, length in enumerate(offline)]
    buffer = make(30, n, demonstrations)
    by_id = {e.episode_id: e for e in demonstrations}
    for episode_id, length in enumerate(lengths, start=1):
        by_id[episode_id] = coded(episode_id, length, ("success", "timeout")[episode_id % 2])
        buffer.add(by_id[episode_id])
    batch = sample(buffer, 64, 0.5, torch.Generator().manual_seed(seed))
    for k in range(64):
        episode_id, step = divmod(int(batch.state[k, 0]), 1000)
        episode = by_id[episode_id]
        window = min(n, len(episode) - step)
        assert batch.next_state[k, 0] == 1000 * episode_id + step + window
        assert batch.base_action[k, 0] == batch.state[k, 0] + 0.25
        assert batch.next_base_action[k, 0] == batch.next_state[k, 0] + 0.25
        assert batch.action[k, 0] == batch.state[k, 0] + 0.5
        assert batch.images["c"][k, 0, 0, 0] == (episode_id * 16 + step) % 256
        assert batch.next_images["c"][k, 0, 0, 0] == (episode_id * 16 + step + window) % 256
        ends = step + window == len(episode)
        assert batch.discount[k] == (0.0 if ends and episode.done else GAMMA**window)
        assert batch.reward[k] == (episode.reward * GAMMA ** (window - 1) if ends else 0.0)


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=40))
def test_whole_episodes_leave_oldest_first(lengths):
    buffer = make(capacity=30)
    for episode_id, length in enumerate(lengths, start=1):
        buffer.add(coded(episode_id, length))
        held = buffer.online_episode_ids
        assert held == list(range(held[0], episode_id + 1))
        assert buffer.online_transitions == sum(lengths[i - 1] for i in held) <= 30
        # Nothing left that had room.
        if held[0] > 1:
            assert sum(lengths[i - 1] for i in held) + lengths[held[0] - 2] > 30


def test_every_transition_is_drawn_equally_often():
    buffer = make(n_step=1, offline=[coded(9, 4)])
    for episode_id, length in ((1, 1), (2, 9)):
        buffer.add(coded(episode_id, length))
    counts = {}
    draws, generator = 400, torch.Generator().manual_seed(0)
    for _ in range(draws):
        for code in sample(buffer, 28, 0.5, generator).state[:, 0].tolist():
            counts[code] = counts.get(code, 0) + 1
    online = {code: count for code, count in counts.items() if code < 9000}
    assert len(counts) == 14 and len(online) == 10
    assert sum(online.values()) == draws * 14
    # Binomial, five standard deviations.
    expected = draws * 14 / 10
    assert all(abs(c - expected) < 5 * (expected * 0.9) ** 0.5 for c in online.values())


def test_the_offline_share_and_an_empty_side():
    buffer = make(offline=[coded(9, 4)])
    assert (sample(buffer, 10, 0.5).state >= 9000).all()
    buffer.add(coded(1, 4))
    assert int((sample(buffer, 10, 0.3).state >= 9000).sum()) == 3
    online_only = make()
    with pytest.raises(ValueError, match="at least one transition"):
        sample(online_only, 4, 0.5)
    online_only.add(coded(1, 4))
    assert (sample(online_only, 10, 0.5).state < 2000).all()


def test_successes_alone():
    buffer = make()
    for episode_id, outcome in enumerate(("failure", "success", "timeout", "success"), start=1):
        buffer.add(coded(episode_id, 5, outcome))
    codes = sample(buffer, 400, 0.5, successes_only=True).state[:, 0]
    assert set((codes // 1000).int().tolist()) == {2, 4}
    with pytest.raises(ValueError, match="at least one transition"):
        sample(make(), 4, 0.5, successes_only=True)


def test_each_frame_is_stored_once_and_batches_refer_to_it():
    buffer = make(offline=[coded(9, 4)])
    buffer.add(coded(1, 4))
    one, other = sample(buffer, 6, 0.5), sample(buffer, 6, 0.5)
    assert one.frames["c"].data_ptr() == other.frames["c"].data_ptr()


def test_memory_of_100_000_transitions_is_within_a_tenth_of_the_raw_frames():
    spec = AgentSpec(
        {"a": (84, 84), "b": (84, 84)}, 9, 7, -np.ones(7, np.float32), np.ones(7, np.float32)
    )
    # Memory of frames is taken as it fills: this costs next to nothing.
    buffer = ReplayBuffer(spec, 100_000, 3, 0.99, [])
    raw = 100_000 * 2 * 84 * 84 * 3
    assert raw < buffer.nbytes < 1.1 * raw
    assert buffer.nbytes == ReplayBuffer.bytes_needed(spec, 100_000, [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"state": np.zeros((5, 2), np.float32)},
            r"state: expected shape \(5, 1\), found \(5, 2\)",
        ),
        ({"images": {}}, r"cameras: expected \['c'\], found \[\]"),
        ({"images": {"c": np.zeros((5, 3, 2, 3), np.uint8)}}, "camera c: expected shape"),
        ({"images": {"c": np.zeros((5, 2, 2, 3), np.float32)}}, "camera c: expected uint8"),
        ({"base_action": np.full((5, 1), np.nan, np.float32)}, "base_action: expected finite"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused(change, message):
    import dataclasses

    bad = dataclasses.replace(coded(3, 4), **change)
    buffer = make()
    with pytest.raises(ValueError, match=f"episode 3: {message}"):
        buffer.add(bad)
    with pytest.raises(ValueError, match=f"demonstration 0: {message}"):
        make(offline=[bad])
    with pytest.raises(ValueError, match="at most 50 transitions"):
        buffer.add(coded(3, 51))
    assert buffer.online_transitions == 0
