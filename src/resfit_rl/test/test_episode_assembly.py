import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resfit_rl.episode_store import Episode, EpisodeAssembler, IncompleteEpisodeError
from resfit_rl.episode_store.assembly import RECENT_OBSERVATIONS
from resfit_rl.observation import Observation
from resfit_rl.tasks import get_task

TASK = get_task("square")
PERIOD = 50_000_000
START = 1_000_000_000


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def assembler(clock):
    return EpisodeAssembler(TASK, "act:1", wait=1.0, clock=clock)


def stamp(step, start=START):
    return start + step * PERIOD


def observation(value):
    images = {name: np.full((4, 5, 3), value % 256, np.uint8) for name in TASK.cameras}
    return Observation(images, np.full(TASK.state_dim, value, np.float32))


def base(step):
    return np.full(TASK.action_dim, 0.001 * step, np.float32)


def applied(step):
    return np.full(TASK.action_dim, -0.001 * step, np.float32)


def messages(steps, episode_id=1, start=START):
    """All calls of an episode of `steps` transitions, keyed by (kind, step)."""
    calls = {}
    for step in range(steps + 1):
        calls["observation", step] = ("observation", (stamp(step, start), observation(step)))
        calls["command", step] = (
            "command", (episode_id, step, stamp(step, start), base(step), 10 + step),
        )  # fmt: skip
    for step in range(steps):
        calls["executed", step] = (
            "executed", (episode_id, step, stamp(step + 1, start), applied(step), False),
        )  # fmt: skip
    return calls


def feed(assembler, calls):
    for method, arguments in calls:
        getattr(assembler, method)(*arguments)


def check(episode, steps):
    assert isinstance(episode, Episode), episode
    assert len(episode) == steps
    expected = np.arange(steps + 1)
    np.testing.assert_array_equal(episode.state[:, 0], expected)
    for name in TASK.cameras:
        np.testing.assert_array_equal(episode.images[name][:, 0, 0, 0], expected % 256)
    np.testing.assert_array_equal(episode.stamps, START + expected * PERIOD)
    np.testing.assert_array_equal(episode.policy_version, 10 + expected[:-1])
    np.testing.assert_array_equal(episode.base_action, [base(k) for k in expected])
    np.testing.assert_array_equal(episode.executed_action, [applied(k) for k in expected[:-1]])
    assert episode.state.dtype == episode.base_action.dtype == np.float32
    assert episode.images["agentview"].dtype == np.uint8


@given(seed=st.integers(0, 2**32), steps=st.integers(1, 12), beyond=st.integers(0, 2))
def test_any_order_of_messages_gives_the_same_episode(seed, steps, beyond):
    assembler = EpisodeAssembler(TASK, "act:1", wait=1.0, clock=Clock())
    calls = list(messages(steps + beyond).values())
    calls.append(("begin", (1, 5, START)))
    random.Random(seed).shuffle(calls)
    feed(assembler, calls)
    assert assembler.end(1, "success", 1.0, True, steps)
    (episode,) = assembler.poll()
    check(episode, steps)
    assert (episode.seed, episode.outcome, episode.reward, episode.done) == (5, "success", 1, True)
    assert (episode.task, episode.base_policy) == ("square", "act:1")
    assert assembler.poll() == [] and not assembler.pending


def test_it_waits_for_what_is_under_way(assembler, clock):
    calls = messages(3)
    late = [calls.pop(("observation", 3)), calls.pop(("command", 3))]
    assembler.begin(1, 0, START)
    feed(assembler, calls.values())
    assembler.end(1, "timeout", 0.0, False, 3)
    clock.now = 0.9
    assert assembler.poll() == [] and assembler.pending
    feed(assembler, late)
    (episode,) = assembler.poll()
    check(episode, 3)


def test_done_without_terminal_base_action_repeats_the_last(assembler, clock):
    calls = messages(3)
    del calls["command", 3]
    assembler.begin(1, 0, START)
    feed(assembler, calls.values())
    assembler.end(1, "failure", 0.0, True, 3)
    assert assembler.poll() == []
    clock.now = 1.0
    (episode,) = assembler.poll()
    np.testing.assert_array_equal(episode.base_action[:, 0], [base(k)[0] for k in (0, 1, 2, 2)])


def test_a_timeout_without_terminal_base_action_ends_one_step_earlier(assembler, clock):
    calls = messages(3)
    del calls["command", 3]
    assembler.begin(1, 0, START)
    feed(assembler, calls.values())
    assembler.end(1, "timeout", 0.0, False, 3)
    clock.now = 1.0
    check(assembler.poll()[0], 2)


@pytest.mark.parametrize(
    ("lost", "text"),
    [
        (("observation", 0), "step 0: no observation"),
        (("observation", 2), "step 2: no observation of stamp 1100000000 ns"),
        (("observation", 4), "step 4: no observation"),
        (("executed", 1), "step 1: no executed action"),
        (("executed", 3), "step 3: no executed action"),
        (("command", 2), "step 2: no command"),
    ],
)
@pytest.mark.parametrize("outcome", ["success", "timeout"])
def test_a_hole_is_named_and_the_episode_not_handed_out(assembler, clock, lost, text, outcome):
    calls = messages(4)
    del calls[lost]
    assembler.begin(1, 0, START)
    feed(assembler, calls.values())
    assembler.end(1, outcome, 0.0, outcome != "timeout", 4)
    assert assembler.poll() == []
    clock.now = 1.0
    (error,) = assembler.poll()
    assert isinstance(error, IncompleteEpisodeError)
    assert text in str(error) and "episode 1" in str(error)


def test_a_held_step_needs_no_command(assembler):
    calls = messages(3)
    method, (episode_id, step, following, action, _) = calls["executed", 1]
    calls["executed", 1] = (method, (episode_id, step, following, action, True))
    # It came too late for an older observation and was never run.
    calls["command", 1] = ("command", (1, 1, stamp(0), base(1), 11))
    assembler.begin(1, 0, START)
    feed(assembler, calls.values())
    assembler.end(1, "success", 1.0, True, 3)
    (episode,) = assembler.poll()
    np.testing.assert_array_equal(episode.base_action[1], applied(1))
    np.testing.assert_array_equal(episode.executed_action[1], applied(1))


def test_after_a_pause_the_observation_acted_on_counts(assembler):
    calls = messages(3)
    newer = stamp(2) + 10
    calls["command", 2] = ("command", (1, 2, newer, base(2), 12))
    calls["observation", 2.5] = ("observation", (newer, observation(77)))
    assembler.begin(1, 0, START)
    feed(assembler, calls.values())
    assembler.begin(1, 0, START)
    assembler.end(1, "success", 1.0, True, 3)
    (episode,) = assembler.poll()
    np.testing.assert_array_equal(episode.state[:, 0], [0, 1, 77, 3])
    assert episode.stamps[2] == newer


def test_the_next_episode_may_begin_before_the_last_one_is_handed_out(assembler, clock):
    first, second = messages(2), messages(2, 2, START + 10 * PERIOD)
    late = first.pop(("command", 2))
    assembler.begin(1, 0, START)
    feed(assembler, first.values())
    assembler.end(1, "timeout", 0.0, False, 2)
    assembler.begin(2, 1, START + 10 * PERIOD)
    feed(assembler, [*second.values(), late])
    assembler.end(2, "success", 1.0, True, 2)
    one, two = assembler.poll()
    check(one, 2)
    assert (two.episode_id, two.seed, two.stamps[0]) == (2, 1, START + 10 * PERIOD)


def test_stamps_that_go_back_are_no_episode(assembler, clock):
    calls = messages(3)
    calls["executed", 1] = ("executed", (1, 1, START - 5, applied(1), False))
    calls["command", 2] = ("command", (1, 2, START - 5, base(2), 12))
    calls["observation", 2] = ("observation", (START - 5, observation(2)))
    assembler.begin(1, 0, START)
    feed(assembler, calls.values())
    assembler.end(1, "success", 1.0, True, 3)
    clock.now = 1.0
    (error,) = assembler.poll()
    assert "step 2: no stamp after" in str(error)


def test_aborted_and_unseen_episodes_leave_nothing(assembler):
    assembler.begin(1, 0, START)
    feed(assembler, messages(3).values())
    assembler.abort(1)
    assert not assembler.end(1, "success", 1.0, True, 3)
    assert not assembler.end(9, "success", 1.0, True, 3)
    assert assembler.poll() == [] and not assembler.pending


def test_no_transition_is_no_episode(assembler):
    assembler.begin(1, 0, START)
    feed(assembler, messages(0).values())
    assembler.end(1, "safety_stop", 0.0, True, 0)
    assert "at least 1 transition" in str(assembler.poll()[0])


@pytest.mark.parametrize("bad", [[0.0] * 6, [0.0] * 6 + [float("nan")]])
def test_bad_actions_are_refused(assembler, bad):
    with pytest.raises(ValueError, match="episode 1, step 2: base action: expected 7 finite"):
        assembler.command(1, 2, START, bad, 0)
    with pytest.raises(ValueError, match="episode 1, step 2: executed action"):
        assembler.executed(1, 2, START, bad, False)


def test_memory_is_bounded_between_episodes(assembler):
    for k in range(1000):
        assembler.observation(START + k, observation(k))
        assembler.executed(0, k, START + k, applied(k), True)
    assert len(assembler._recent) == RECENT_OBSERVATIONS and not assembler._traces
