import time

import numpy as np
import pytest

from resfit_interfaces.msg import EpisodeState
from resfit_ros.conversions import stamp_to_ns

IMAGE = "cameras/agentview/image_raw"
PERIOD = 50_000_000


@pytest.fixture
def graph(real_time):
    yield real_time
    real_time.state(EpisodeState.FINISHED)


def answer_all(graph, steps, action=(0.1, 0, 0, 0, 0, 0, 1)):
    """Command and verdict for each observation as it comes, as policy and safety monitor do."""
    stamp = graph.start()
    for k in range(steps):
        graph.verdict(stamp)
        graph.command(k, stamp, action)
        graph.wait(lambda k=k: len(graph.executed()) > k, f"step {k}")
        stamp = stamp_to_ns(graph.executed()[k].header.stamp)
    return stamp


def test_robot_holds_at_no_more_than_20_hz_between_episodes(graph):
    graph.wait(lambda: len(graph.executed(0)) > 60, "60 steps outside any episode")
    assert all(m.held and not m.fault for m in graph.executed(0))
    received = [t for t, m in graph.received["executed_action"] if m.episode_id == 0][10:]
    # A busy machine misses periods; none may be made up for by a faster one.
    assert np.mean(np.diff(received)) > 0.049
    stamps = [stamp_to_ns(m.header.stamp) for m in graph.executed(0)]
    assert set(np.diff(stamps)) == {PERIOD}
    assert set(stamps) <= set(graph.stamps(IMAGE)) | {stamps[-1]}


def test_commands_in_time_are_executed(graph):
    answer_all(graph, 20)
    executed = graph.executed()
    assert [m.step for m in executed] == list(range(len(executed)))
    in_time = [m for m in executed if not m.held]
    # On a busy machine this test is late itself at times.
    assert len(in_time) >= 5
    assert all(m.action[0] == np.float32(0.1) and m.action[6] == 1 for m in in_time)


def test_a_late_command_is_not_executed(graph):
    stamp = graph.start()
    graph.verdict(stamp)
    graph.wait(lambda: len(graph.executed()) >= 1, "step 0")
    late = graph.executed()[0]
    assert late.held and not late.fault and late.reason == "no command for step 0 yet"
    graph.command(0, stamp, [0.3, 0, 0, 0, 0, 0, 1])
    graph.wait(lambda: len(graph.executed()) >= 3, "steps 1 and 2")
    assert all(m.held for m in graph.executed())
    assert 0.3 not in np.concatenate([m.action for m in graph.executed()]).round(6)


def test_too_many_held_steps_in_a_row_are_a_fault(graph):
    graph.start()
    graph.wait(lambda: graph.executed() and graph.executed()[-1].fault, "a fault")
    faults = [m.fault for m in graph.executed()]
    assert faults == [False] * 5 + [True]
    assert "held steps in a row: expected at most 5, found 6" in graph.executed()[-1].reason


def test_an_old_verdict_holds_the_robot(graph):
    stamp = answer_all(graph, 2)
    # Commands go on, without verdicts.
    for k in range(2, 20):
        graph.command(k, stamp, [0.1, 0, 0, 0, 0, 0, 1])
        graph.wait(lambda k=k: len(graph.executed()) > k, f"step {k}")
        executed = graph.executed()[k]
        if "safety" in executed.reason:
            break
        stamp = stamp_to_ns(executed.header.stamp)
    assert executed.held and "safety" in executed.reason
    assert stamp < stamp_to_ns(executed.header.stamp)
    assert not np.any(executed.action[:6])


def test_time_stands_still_in_a_pause(graph):
    answer_all(graph, 3)
    graph.state(EpisodeState.PAUSED)
    time.sleep(0.3)
    count = len(graph.executed())
    stamp = stamp_to_ns(graph.executed()[-1].header.stamp)
    between = len(graph.executed(0))
    time.sleep(0.5)
    assert (len(graph.executed()), len(graph.executed(0))) == (count, between)
    graph.verdict(stamp)
    graph.state(EpisodeState.RUNNING)
    graph.command(count, stamp, [0.1, 0, 0, 0, 0, 0, 1])
    graph.wait(lambda: len(graph.executed()) > count, "the next step")
    assert stamp_to_ns(graph.executed()[count].header.stamp) == stamp + PERIOD
