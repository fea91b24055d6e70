import pytest
from hypothesis import given
from hypothesis import strategies as st

from resfit_rl.control import ChunkSchedule


@st.composite
def schedules(draw):
    interval = draw(st.integers(1, 20))
    return ChunkSchedule(interval, draw(st.integers(0, interval - 1)))


@given(schedules(), st.integers(0, 500))
def test_each_action_comes_from_a_predicted_observation_within_the_chunk(schedule, step):
    source = schedule.source(step)
    assert 0 <= source <= step
    assert schedule.is_source(source)
    assert step - source < schedule.replan_interval + schedule.lead
    # One chunk for a whole interval.
    assert source == schedule.source(step // schedule.replan_interval * schedule.replan_interval)


@given(schedules(), st.integers(0, 500))
def test_the_newest_source_is_the_last_one(schedule, step):
    assert schedule.newest_source(step) == max(s for s in range(step + 1) if schedule.is_source(s))


def test_a_known_schedule():
    schedule = ChunkSchedule(10, 5)
    assert [s for s in range(40) if schedule.is_source(s)] == [0, 5, 15, 25, 35]
    assert [schedule.source(s) for s in (0, 9, 10, 19, 20)] == [0, 0, 5, 5, 15]


def test_impossible_schedules_are_named():
    with pytest.raises(ValueError, match="replan_interval: expected >= 1, found 0"):
        ChunkSchedule(0)
    with pytest.raises(ValueError, match=r"lead: expected >= 0 and below .* 4, found 4"):
        ChunkSchedule(4, 4)
    with pytest.raises(ValueError, match="<= 14, the base policy's chunk, found 10 \\+ 5"):
        ChunkSchedule.fitting(14, 10, 5)
    assert ChunkSchedule.fitting(20, 10, 5) == ChunkSchedule(10, 5)
    assert ChunkSchedule.fitting(1, 10, 5) == ChunkSchedule(1, 0)
