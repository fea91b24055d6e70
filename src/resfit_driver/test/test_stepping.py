import pytest

from resfit_driver.stepping import Due, Phase, Stepping

MS = 1_000_000
PERIOD = 50 * MS


def stepping(real_time=False, max_steps=3):
    result = Stepping(PERIOD, real_time, 25 * MS)
    result.reset(4, stamp=1000, now=0)
    assert result.run(4, 1000, max_steps, now=0) is None
    return result


def step(s, now):
    s.computed()
    s.published(s.stamp + PERIOD, now)


def test_lockstep_waits_for_the_verdict_however_long_and_publishes_at_once():
    s = stepping()
    assert s.due(10**15, judged=False) is Due.NOTHING and s.wake() is None
    assert s.due(0, judged=True) is Due.STEP
    s.computed()
    assert not s.awaits_command and s.due(0, judged=True) is Due.PUBLISH
    s.published(1000 + PERIOD, now=0)
    assert (s.step, s.stamp, s.awaits_command) == (1, 1000 + PERIOD, True)


def test_no_step_from_max_steps_on():
    s = stepping(max_steps=2)
    for _ in range(2):
        assert s.due(0, judged=True) is Due.STEP
        step(s, 0)
    assert s.step == 2 and s.due(0, judged=True) is Due.NOTHING
    assert s.run(4, 1000, 2, now=0) is None and not s.running


def test_no_step_before_running_while_paused_after_a_fault_or_after_the_end():
    s = Stepping(PERIOD, False, 0)
    s.reset(4, 1000, now=0)
    assert s.due(0, judged=True) is Due.NOTHING
    s.run(4, 1000, 9, now=0)
    s.pause(3)
    assert s.running
    s.pause(4)
    assert s.due(0, judged=True) is Due.NOTHING
    assert s.run(4, 1000, 9, now=0) is None and s.running
    s.fault()
    assert s.due(0, judged=True) is Due.NOTHING
    s.run(4, 1000, 9, now=0)
    assert s.phase is Phase.ENDED
    s.finish(4, now=0)
    assert s.phase is Phase.IDLE and s.due(0, judged=True) is Due.NOTHING


@pytest.mark.parametrize(
    ("episode_id", "start_stamp"), [(5, 1000), (3, 1000), (4, 1001)], ids=["next", "last", "stamp"]
)
def test_an_episode_that_this_robot_was_not_reset_for_does_not_run(episode_id, start_stamp):
    s = Stepping(PERIOD, False, 0)
    s.reset(4, 1000, now=0)
    assert f"episode {episode_id} runs from stamp {start_stamp}" in s.run(
        episode_id, start_stamp, 9, now=0
    )
    assert not s.running


def test_an_end_overtaken_by_the_next_reset_ends_nothing():
    s = Stepping(PERIOD, False, 0)
    s.reset(4, 1000, now=0)
    s.finish(3, now=0)
    assert s.phase is Phase.READY
    s.run(4, 1000, 9, now=0)
    s.finish(3, now=0)  # A supervisor that restarted and knows only of finished episodes.
    assert s.phase is Phase.IDLE


def test_real_time_steps_at_the_deadline_and_publishes_at_the_tick():
    s = stepping(real_time=True)
    assert s.wake() == 25 * MS
    assert s.due(25 * MS - 1, judged=False) is Due.NOTHING
    assert s.due(3 * MS, judged=True) is Due.STEP
    assert s.due(25 * MS, judged=False) is Due.STEP
    s.computed()
    assert s.wake() == 50 * MS
    assert s.due(50 * MS - 1, judged=True) is Due.NOTHING
    assert s.due(50 * MS, judged=False) is Due.PUBLISH


def test_real_time_does_not_drift_and_starts_anew_only_after_a_missed_period():
    s = stepping(real_time=True, max_steps=10)
    for k in range(1, 4):
        step(s, k * PERIOD + 7 * MS)  # Always 7 ms late.
    s.computed()
    assert s.wake() == 4 * PERIOD and s.overruns == 0
    s.published(0, 5 * PERIOD + MS)
    s.computed()
    assert s.wake() == 6 * PERIOD + MS and s.overruns == 1


def test_an_observation_that_is_late_itself_gives_the_command_no_less_time():
    s = stepping(real_time=True)
    step(s, PERIOD + 30 * MS)
    assert s.wake() == PERIOD + 55 * MS
    assert s.due(PERIOD + 54 * MS, judged=False) is Due.NOTHING
    assert s.due(PERIOD + 55 * MS, judged=False) is Due.STEP


def test_real_time_goes_on_between_episodes_and_stands_still_within_one():
    s = Stepping(PERIOD, True, 25 * MS)
    s.reset(0, 1000, now=0)
    assert s.due(0, judged=False) is Due.IDLE
    step(s, PERIOD)
    assert (s.stamp, s.step) == (1000 + PERIOD, 0)
    s.reset(1, 2000, now=0)
    assert s.due(10**12, judged=False) is Due.NOTHING and s.wake() is None
    s.run(1, 2000, 5, now=0)
    step(s, PERIOD)
    s.pause(1)
    assert s.due(10**12, judged=False) is Due.NOTHING and s.wake() is None
    s.run(1, 2000, 5, now=10**12)
    assert s.running and s.step == 1 and s.wake() == 10**12 + 25 * MS


def test_a_step_under_way_when_the_episode_ends_is_not_counted():
    s = stepping(real_time=True)
    s.computed()
    s.finish(4, now=10 * MS)
    assert s.due(60 * MS, judged=False) is Due.PUBLISH
    s.published(5000, now=60 * MS)
    assert (s.step, s.phase, s.due(60 * MS, judged=False)) == (0, Phase.IDLE, Due.IDLE)
