import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from resfit_policy.steps import RECENT, StepTracker
from resfit_rl.observation import Observation

BLANK = Observation({}, np.zeros(0, np.float32))


def see(tracker, *stamps):
    for stamp in stamps:
        tracker.observation(stamp, BLANK, 0.0)


def steps(tracker):
    found = []
    while step := tracker.next():
        found.append((step.index, step.stamp))
    return found


@given(st.permutations([("observation", 1), ("observation", 2), ("executed", 1), ("begin", 0)]))
def test_messages_may_come_in_any_order(order):
    tracker = StepTracker()
    see(tracker, 100)
    stamps = iter((101, 102))
    executed = iter((101, 102))
    found = []
    for kind, _ in order:
        if kind == "observation":
            see(tracker, next(stamps))
        elif kind == "executed":
            tracker.executed(3, 0, next(executed))
            tracker.executed(3, 1, next(executed))
        else:
            tracker.begin(3, 100)
        found += steps(tracker)
    assert found == [(0, 100), (1, 101), (2, 102)]


def test_an_observation_of_no_known_step_is_not_given():
    tracker = StepTracker()
    tracker.begin(3, 100)
    see(tracker, 99, 100, 101)
    assert steps(tracker) == [(0, 100)]
    tracker.executed(2, 0, 101)
    assert steps(tracker) == []
    tracker.executed(3, 0, 101)
    assert steps(tracker) == [(1, 101)]


def test_a_lost_observation_leaves_a_gap_and_shifts_nothing():
    tracker = StepTracker()
    tracker.begin(3, 100)
    see(tracker, 100, 101, 103)
    for step, stamp in enumerate((101, 102, 103)):
        tracker.executed(3, step, stamp)
    assert steps(tracker) == [(0, 100), (1, 101), (3, 103)]


def test_an_episode_joined_late_is_left_alone():
    tracker = StepTracker()
    tracker.begin(3, 100)
    see(tracker, 107, 108)
    tracker.executed(3, 6, 107)
    assert steps(tracker) == []


def test_a_clock_set_back_forgets_equal_stamps_of_before():
    tracker = StepTracker()
    see(tracker, 50, 100, 150)
    tracker.begin(1, 100)
    assert steps(tracker) == [(0, 100)]
    see(tracker, 50)
    tracker.begin(2, 100)
    assert steps(tracker) == []
    see(tracker, 100)
    assert steps(tracker) == [(0, 100)]


def test_memory_is_bounded():
    tracker = StepTracker()
    for stamp in range(3 * RECENT):
        see(tracker, stamp)
        tracker.executed(1, stamp, stamp)
    assert len(tracker._observations) == len(tracker._steps) == RECENT
