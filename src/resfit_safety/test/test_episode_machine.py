import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resfit_interfaces.msg import EpisodeState
from resfit_interfaces.srv import LabelEpisode
from resfit_safety.episode_machine import EpisodeMachine, Outcome, Refused, State

MAX_STEPS = 5
# Reward and done of each outcome, as EpisodeState.msg has it.
TABLE = {
    Outcome.NONE: (0.0, False),
    Outcome.SUCCESS: (1.0, True),
    Outcome.FAILURE: (0.0, True),
    Outcome.SAFETY_STOP: (0.0, True),
    Outcome.TIMEOUT: (0.0, False),
    Outcome.ABORTED: (0.0, False),
}


def stamp(step):
    """Of the observation of a step, ns."""
    return 1000 + 50 * step


def running(steps=0, **changes):
    machine = EpisodeMachine(MAX_STEPS, **changes)
    episode_id = machine.start()
    machine.reset_done(episode_id, stamp(0))
    for step in range(steps):
        machine.executed(episode_id, step, stamp(step + 1), "")
    return machine


def result(machine):
    return machine.state, machine.outcome, machine.end_step, machine.reward, machine.done


def test_numbers_are_those_of_the_messages():
    for state in State:
        assert getattr(EpisodeState, state.name) == state
    for outcome in Outcome:
        assert getattr(EpisodeState, f"OUTCOME_{outcome.name}") == outcome
    for name in ("SUCCESS", "FAILURE"):
        assert getattr(LabelEpisode.Request, name) == Outcome[name]
    assert LabelEpisode.Request.ABORT == Outcome.ABORTED


@pytest.mark.parametrize(
    ("label", "step", "end"),
    [
        (Outcome.SUCCESS, 3, (Outcome.SUCCESS, 3, 1.0, True)),
        (Outcome.SUCCESS, 2, (Outcome.SUCCESS, 2, 1.0, True)),
        # The label overtook the report of a step.
        (Outcome.SUCCESS, 4, (Outcome.SUCCESS, 4, 1.0, True)),
        (Outcome.FAILURE, None, (Outcome.FAILURE, 3, 0.0, True)),
        (Outcome.ABORTED, None, (Outcome.ABORTED, 3, 0.0, False)),
    ],
)
def test_labels(label, step, end):
    machine = running(3)
    machine.label(1, label, step)
    assert result(machine) == (State.FINISHED, *end)


@pytest.mark.parametrize(
    ("episode_id", "label", "step", "reason"),
    [
        (2, Outcome.SUCCESS, 1, "expected episode 1, found 2"),
        (1, Outcome.SUCCESS, 0, r"expected a step in \[1, 5\], found 0"),
        (1, Outcome.FAILURE, 6, r"expected a step in \[1, 5\], found 6"),
        (1, Outcome.TIMEOUT, 1, r"expected one of \[1, 2, 5\], found 4"),
    ],
)
def test_refused_labels(episode_id, label, step, reason):
    machine = running(3)
    with pytest.raises(Refused, match=reason):
        machine.label(episode_id, label, step)
    assert machine.state is State.RUNNING


def test_time_limit_after_a_grace_in_which_a_label_still_counts():
    machine = running(MAX_STEPS)
    assert machine.pending is Outcome.TIMEOUT and machine.state is State.RUNNING
    machine.grace_elapsed()
    assert result(machine) == (State.FINISHED, Outcome.TIMEOUT, 5, 0.0, False)
    machine = running(MAX_STEPS)
    machine.label(1, Outcome.SUCCESS, MAX_STEPS)
    assert result(machine) == (State.FINISHED, Outcome.SUCCESS, 5, 1.0, True)
    with pytest.raises(Refused, match="no outcome is pending"):
        machine.grace_elapsed()


def test_a_safety_stop_waits_for_the_report_of_the_step_that_led_to_it():
    machine = running(2)
    machine.safety_stop(1, stamp(3), "30 N")
    assert machine.pending is Outcome.SAFETY_STOP
    with pytest.raises(Refused, match="ends with a safety stop"):
        machine.label(1, Outcome.SUCCESS, 2)
    machine.executed(1, 2, stamp(3), "")
    assert result(machine) == (State.FINISHED, Outcome.SAFETY_STOP, 3, 0.0, True)
    assert machine.reason == "30 N"
    machine = running(2)
    machine.safety_stop(1, stamp(2), "30 N")
    assert result(machine) == (State.FINISHED, Outcome.SAFETY_STOP, 2, 0.0, True)
    machine = running(2)
    machine.safety_stop(1, stamp(3), "30 N")
    machine.grace_elapsed()
    assert result(machine) == (State.FINISHED, Outcome.SAFETY_STOP, 2, 0.0, True)


def test_a_fault_is_a_safety_stop_and_its_step_a_transition():
    machine = running(2)
    machine.executed(1, 2, stamp(3), "action x: nan")
    assert result(machine) == (State.FINISHED, Outcome.SAFETY_STOP, 3, 0.0, True)
    assert machine.reason == "action x: nan"


def test_without_a_transition_it_is_no_data():
    machine = running()
    machine.safety_stop(1, stamp(0), "30 N")
    assert machine.outcome is Outcome.ABORTED and machine.reason == "before the first step: 30 N"
    assert (machine.finished, machine.aborted) == (0, 1)


def test_executed_stamps_that_go_back_abort():
    machine = running(2)
    machine.executed(1, 2, stamp(1), "")
    assert machine.outcome is Outcome.ABORTED
    assert machine.reason == (
        "clock jumped back: executed_action: expected a stamp after 1100 ns, found 1050 ns"
    )


def test_a_late_reset_of_an_aborted_episode_is_ignored():
    machine = EpisodeMachine(MAX_STEPS)
    machine.start()
    machine.abort("policy is lost")
    assert machine.start() == 2
    with pytest.raises(Refused, match="expected episode 2, found 1"):
        machine.reset_done(1, stamp(0))
    machine.reset_failed(2, "stuck")
    assert machine.reason == "reset_robot: stuck" and machine.aborted == 2


def test_seeds_are_a_series_unless_given():
    machine = EpisodeMachine(MAX_STEPS, base_seed=100)
    machine.start()
    assert machine.seed == 101
    machine.abort("")
    machine.start(seed=7)
    assert machine.seed == 7
    machine.abort("")
    machine.start()
    assert machine.seed == 103


def test_ids_continue_past_those_in_the_store():
    assert EpisodeMachine(MAX_STEPS, last_used_id=12).start() == 13
    saved = running(1, last_used_id=12).save()
    assert EpisodeMachine(MAX_STEPS, saved=saved, last_used_id=3).start() == 14


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([], "expected format resfit-supervisor/1"),
        ({"format": "other"}, "expected format resfit-supervisor/1"),
        ({"finished": -1}, "finished: expected a whole number >= 0, found -1"),
        ({"episode_id": "3"}, "episode_id: expected a whole number >= 0, found '3'"),
    ],
)
def test_a_wrong_file_is_refused(saved, message):
    if "format" not in saved and saved:
        saved = EpisodeMachine(MAX_STEPS).save() | saved
    with pytest.raises(ValueError, match=message):
        EpisodeMachine(MAX_STEPS, saved=saved)


ids = st.integers(-1, 1)  # relative to the newest episode
steps = st.integers(-1, 2)  # relative to the steps executed


class AnyOrder(RuleBasedStateMachine):
    """Every event at any time, possible or not; restarts in between."""

    @initialize(base_seed=st.integers(0, 9))
    def make(self, base_seed):
        self.base_seed = base_seed
        self.machine = EpisodeMachine(MAX_STEPS, base_seed)
        self.ends = {}  # episode -> how it ended
        self.started = []

    def event(self, name, *arguments):
        machine = self.machine
        before, kept = vars(machine).copy(), machine.episode_id
        try:
            getattr(machine, name)(*arguments)
        except Refused as refused:
            assert str(refused) and vars(machine) == before
            return
        if before["state"] is not State.FINISHED and machine.state is State.FINISHED:
            assert machine.episode_id == kept and kept not in self.ends
            self.ends[kept] = machine.outcome
        else:
            assert (machine.outcome is Outcome.NONE) or machine.state is State.FINISHED

    @rule(seed=st.none() | st.integers(0, 2**64 - 1))
    def start(self, seed):
        under_way = self.machine.under_way
        self.event("start", seed)
        if not under_way:
            self.started.append(self.machine.episode_id)

    @rule(i=ids)
    def reset_done(self, i):
        self.event("reset_done", self.machine.episode_id + i, stamp(0))

    @rule(i=ids)
    def reset_failed(self, i):
        self.event("reset_failed", self.machine.episode_id + i, "stuck")

    @rule(i=ids, s=steps, back=st.sampled_from([0, 0, 0, 2]), fault=st.sampled_from(["", "", "f"]))
    def executed(self, i, s, back, fault):
        step = self.machine.steps + s
        self.event("executed", self.machine.episode_id + i, step, stamp(step + 1 - back), fault)

    @rule(count=st.integers(1, MAX_STEPS))
    def several_steps(self, count):
        for _ in range(count):
            self.executed(0, 0, 0, "")

    @rule(i=ids, label=st.integers(0, 6), s=st.none() | st.integers(-6, 30))
    def label(self, i, label, s):
        step = None if s is None else max(0, self.machine.steps + s)
        self.event("label", self.machine.episode_id + i, label, step)

    @rule(i=ids, s=steps)
    def safety_stop(self, i, s):
        at = stamp(self.machine.steps + s)
        self.event("safety_stop", self.machine.episode_id + i, at, "30 N")

    @rule(name=st.sampled_from(["pause", "resume", "grace_elapsed"]))
    def plain(self, name):
        self.event(name)

    @rule()
    def lost(self):
        self.event("abort", "policy is lost")

    @rule()
    def restart(self):
        machine = self.machine
        if machine.under_way:
            self.ends[machine.episode_id] = Outcome.ABORTED
        saved = json.loads(json.dumps(machine.save()))
        stored = max((i for i, end in self.ends.items() if end is not Outcome.ABORTED), default=0)
        # With the file lost, the stored episodes alone tell.
        assert EpisodeMachine(MAX_STEPS, last_used_id=stored).start() > stored
        self.machine = EpisodeMachine(MAX_STEPS, self.base_seed, saved, stored)
        assert self.machine.state is State.IDLE

    @invariant()
    def ids_increase(self):
        assert self.started == sorted(set(self.started))

    @invariant()
    def at_most_one_episode_has_no_outcome_and_it_is_the_newest(self):
        unfinished = [i for i in self.started if i not in self.ends]
        assert unfinished == ([self.machine.episode_id] if self.machine.under_way else [])
        assert Outcome.NONE not in self.ends.values()

    @invariant()
    def counters_are_those_of_the_outcomes(self):
        ends = list(self.ends.values())
        assert self.machine.aborted == ends.count(Outcome.ABORTED)
        assert self.machine.finished == len(ends) - self.machine.aborted
        assert self.machine.succeeded == ends.count(Outcome.SUCCESS)

    @invariant()
    def reward_and_done_are_those_of_the_outcome(self):
        machine = self.machine
        assert (machine.reward, machine.done) == TABLE[machine.outcome]
        if machine.state is State.FINISHED and machine.outcome is not Outcome.ABORTED:
            assert 1 <= machine.end_step <= MAX_STEPS

    @invariant()
    def nothing_is_pending_unless_steps_can_run(self):
        if self.machine.pending is not Outcome.NONE:
            assert self.machine.state in (State.RUNNING, State.PAUSED)


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
