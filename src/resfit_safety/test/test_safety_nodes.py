"""The nodes as processes. The last tests end them."""

import json
import math
import signal
import time

import pytest
import rclpy

from resfit_interfaces.msg import EpisodeState, LearnerStatus, NodeHeartbeat
from resfit_interfaces.srv import LabelEpisode, PauseEpisode, StartEpisode
from resfit_ros.conversions import stamp_to_ns
from resfit_safety.episode_supervisor import EpisodeSupervisor
from resfit_safety.safety_monitor import SafetyMonitor

FINISHED = EpisodeState.FINISHED
ABORTED = EpisodeState.OUTCOME_ABORTED
SAFETY_STOP = EpisodeState.OUTCOME_SAFETY_STOP


def ending(state):
    return state.state, state.outcome, state.end_step, state.reward, state.done


def test_an_episode_from_start_to_label(world, supervisor, run_dir):
    episode_id = world.start()
    running = world.state
    assert world.resets[-1] == (episode_id, 100 + episode_id)
    assert running.seed == 100 + episode_id and running.max_steps == 5
    assert stamp_to_ns(running.start_stamp) == world.now
    for step in range(3):
        world.execute(step)
    answer = world.call(PauseEpisode, pause=True)
    assert answer.accepted, answer.message
    world.reaches(EpisodeState.PAUSED)
    assert not world.call(StartEpisode).accepted
    assert world.call(PauseEpisode, pause=False).accepted
    world.reaches(EpisodeState.RUNNING)
    answer = world.call(
        LabelEpisode, episode_id=episode_id, label=LabelEpisode.Request.SUCCESS, step=2
    )
    assert answer.accepted, answer.message
    end = world.reaches(FINISHED, EpisodeState.OUTCOME_SUCCESS)
    assert ending(end) == (FINISHED, EpisodeState.OUTCOME_SUCCESS, 2, 1.0, True)
    supervisor.wait_for(f"episode {episode_id}: success after 2 steps (1/1 succeeded)")
    saved = json.loads((run_dir / "supervisor.json").read_text())
    assert saved["episode_id"] == episode_id and saved["succeeded"] == 1
    assert not saved["under_way"]
    answer = world.call(
        LabelEpisode, episode_id=episode_id, label=LabelEpisode.Request.FAILURE, step=2
    )
    assert not answer.accepted and "found FINISHED" in answer.message


def test_time_limit(world):
    world.start(use_seed=True, seed=2**64 - 1)
    assert world.resets[-1][1] == 2**64 - 1
    for step in range(5):
        world.execute(step)
    end = world.reaches(FINISHED, EpisodeState.OUTCOME_TIMEOUT)
    assert ending(end)[2:] == (5, 0.0, False)


@pytest.mark.parametrize(
    ("force", "reason"),
    [
        (math.nan, "wrench right: expected 6 finite values, found [0.0, 0.0, nan"),
        (25.0, "wrench right: expected a force of at most 20 N, found 25.0 N"),
    ],
)
def test_a_bad_wrench_stops_with_its_very_message(world, monitor, force, reason):
    episode_id = world.start()
    for step in range(3):
        world.execute(step, force=5.0)
    world.wait_until(lambda: stamp_to_ns(world.statuses[-1][1].header.stamp) == world.now)
    assert world.statuses[-1][1].motion_allowed and world.state.state == EpisodeState.RUNNING
    before = len(world.statuses)
    world.execute(3, force=force)
    end = world.reaches(FINISHED, SAFETY_STOP)
    assert ending(end)[2:] == (4, 0.0, True)
    assert end.reason.startswith(reason)
    # No verdict of that stamp allowed motion, and it was the next one.
    of_it = [m for _, m in world.statuses[before:] if stamp_to_ns(m.header.stamp) == world.now]
    assert of_it and not any(m.motion_allowed for m in of_it)
    assert of_it[0].episode_id == episode_id and of_it[0].reason.startswith(reason)
    monitor.wait_for(f"episode {episode_id}: stop: {reason}")
    world.force = 0.0
    world.wait_until(lambda: world.statuses[-1][1].motion_allowed, "motion between episodes")


def test_a_silent_wrench_stops(world):
    world.start()
    world.execute(0)
    world.silent = True
    since = time.monotonic()
    end = world.reaches(FINISHED, SAFETY_STOP)
    assert 0.9 < time.monotonic() - since < 2.5
    assert end.reason.startswith("wrench right: expected a message within 1 s, found none for 1.0")


def test_a_known_defect_starts_nothing(world):
    world.force = math.nan
    world.wait_until(lambda: not world.statuses[-1][1].motion_allowed)
    time.sleep(0.2)
    answer = world.call(StartEpisode)
    assert answer.message.startswith(
        "safety is in error: wrench right: expected 6 finite values, found"
    )


def test_a_fault_of_the_gate_stops(world):
    world.start()
    world.execute(0)
    world.execute(1, held=True, fault=True, reason="action x: expected a finite value, found nan")
    end = world.reaches(FINISHED, SAFETY_STOP)
    assert ending(end)[2:] == (2, 0.0, True) and "action x" in end.reason


def test_a_second_labeler_is_refused_until_the_first_is_gone(world):
    episode_id = world.start()
    first = world.beats["labeler"][1]
    second = world.join("second", role="labeler")
    time.sleep(0.2)
    for kind, fields in (
        (LabelEpisode, {"episode_id": episode_id, "label": LabelEpisode.Request.ABORT}),
        (PauseEpisode, {"pause": True}),
        (StartEpisode, {}),
    ):
        answer = world.call(kind, labeler_id=second, **fields)
        assert not answer.accepted
        assert f"expected the active labeler {first[:8]}" in answer.message
    assert world.state.state == EpisodeState.RUNNING
    del world.beats["labeler"]
    end = world.reaches(FINISHED, ABORTED)
    assert end.reason.startswith("labeler: expected a heartbeat, found none for")
    world.start(labeler_id=second)
    assert world.call(PauseEpisode, labeler_id=second, pause=True).accepted
    answer = world.call(StartEpisode, labeler_id="nobody")
    assert f"expected the active labeler {second[:8]}" in answer.message
    del world.beats["second"]
    world.reaches(FINISHED, ABORTED)
    time.sleep(0.1)
    answer = world.call(StartEpisode, labeler_id="nobody")
    assert answer.message == "labeler nobody: expected its heartbeat, found none"


def test_a_lost_or_restarted_node_aborts(world):
    world.start()
    del world.beats["policy"]
    since = time.monotonic()
    end = world.reaches(FINISHED, ABORTED)
    silence = time.monotonic() - since
    assert world.heartbeat_timeout - 0.1 < silence < world.heartbeat_timeout + 0.5
    assert end.reason.startswith("policy: expected a heartbeat, found none for")
    assert world.call(StartEpisode).message == "policy: expected its heartbeat, found none"
    world.join("policy")
    time.sleep(0.2)
    assert world.call(StartEpisode).message == "policy has only just come up"
    world.start()
    old = world.beats["driver"][1]
    new = world.join("driver")
    end = world.reaches(FINISHED, ABORTED)
    assert end.reason == (f"driver: expected session {old[:8]}, found {new[:8]}: it was restarted")
    answer = world.call(StartEpisode)
    assert answer.message.startswith("driver: expected one, found driver ")


def test_clocks_that_jump_back_abort(world):
    world.start()
    world.execute(0)
    world.execute(1, stamp=world.now - 5 * world.step_ns)
    end = world.reaches(FINISHED, ABORTED)
    assert end.reason.startswith("clock jumped back: ")

    world.tick_clock(world.now)
    world.start()
    world.tick_clock(world.now + world.step_ns)
    time.sleep(0.2)
    assert world.state.state == EpisodeState.RUNNING
    world.tick_clock(world.now - world.step_ns)
    end = world.reaches(FINISHED, ABORTED)
    assert end.reason == "clock jumped back by 0.100 s"


def test_why_no_episode_can_start(world, supervisor):
    episode_id = world.start()
    world.call(LabelEpisode, episode_id=episode_id, label=LabelEpisode.Request.ABORT)
    world.reaches(FINISHED, ABORTED)
    world.beats["recorder"][2:] = [NodeHeartbeat.ERROR, "disk full"]
    time.sleep(0.2)
    assert world.call(StartEpisode).message == "recorder is in error: disk full"
    world.beats["recorder"][2:] = [NodeHeartbeat.READY, ""]
    world.publish(LearnerStatus(updates_owed=11))
    world.join("learner")
    time.sleep(0.3)
    assert world.call(StartEpisode).message == "learner owes 11 updates"
    # A lost learner stops nothing.
    del world.beats["learner"]
    supervisor.wait_for("learner is lost: collection goes on without it")
    world.reset_answer = (False, "arm is stuck")
    answer = world.call(StartEpisode)
    assert answer.accepted, answer.message
    world.wait_until(lambda: world.state.episode_id == answer.episode_id)
    end = world.reaches(FINISHED, ABORTED)
    assert end.reason == "reset_robot: arm is stuck"


def test_what_cannot_be_written_starts_nothing_and_is_written_later(world, supervisor, run_dir):
    path = run_dir / "supervisor.json"
    episode_id = world.start()
    path.unlink()
    path.mkdir()
    world.call(LabelEpisode, episode_id=episode_id, label=LabelEpisode.Request.ABORT)
    world.reaches(FINISHED, ABORTED)
    supervisor.wait_for("trying again")
    for _ in range(2):
        answer = world.call(StartEpisode)
        assert not answer.accepted and "supervisor.json" in answer.message
    assert (world.state.state, world.state.episode_id) == (FINISHED, episode_id)
    path.rmdir()
    world.wait_until(path.is_file, "supervisor.json")
    saved = json.loads(path.read_text())
    assert saved["episode_id"] == episode_id and not saved["under_way"]
    assert world.start() == episode_id + 1
    world.call(LabelEpisode, episode_id=episode_id + 1, label=LabelEpisode.Request.ABORT)
    world.reaches(FINISHED, ABORTED)


def refusal(node, **parameters):
    """Why a node cannot be built with these parameters."""
    arguments = ["--ros-args"]
    for name, value in parameters.items():
        arguments += ["-p", f"{name}:={value}"]
    rclpy.init(args=arguments, domain_id=14)
    try:
        with pytest.raises(ValueError) as error:
            node()
        return str(error.value)
    finally:
        rclpy.shutdown()


@pytest.mark.parametrize(
    ("node", "parameters", "error"),
    [
        (
            SafetyMonitor,
            {"task": "square", "filter_window": 2},
            "wrench limits: filter_window: expected an odd number, found 2",
        ),
        (
            SafetyMonitor,
            {"task": "square", "max_force": -1.0},
            "parameter 'max_force': expected float in",
        ),
        (
            SafetyMonitor,
            {"task": "square", "wrists.left.max_force": 5.0},
            "parameter 'wrists.left.max_force': expected one of wrists.right.max_force, ",
        ),
        (EpisodeSupervisor, {"task": "square"}, "parameter 'run_dir': expected str"),
    ],
)
def test_wrong_parameters(node, parameters, error):
    assert refusal(node, **parameters).startswith(error)


def test_an_unknown_task_is_one_line_and_exit_code_1(start_process):
    process = start_process("safety_monitor", task="cube")
    assert process.wait() == 1
    assert process.output.startswith("error: task: expected one of ")
    assert process.output.endswith("found 'cube'\n") and process.output.count("\n") == 1


def test_restarts_continue_ids_and_counters(world, supervisor, start_supervisor, run_dir):
    error = refusal(EpisodeSupervisor, task="square", run_dir=run_dir)
    assert "expected one supervisor, found another running (process " in error

    episode_id = world.start()
    before = world.state
    supervisor.end(signal.SIGKILL)
    again = start_supervisor()
    again.wait_for(f"episode {episode_id} was under way when the supervisor ended")
    idle = world.reaches(EpisodeState.IDLE)
    time.sleep(1.0)
    assert idle.episodes_aborted == before.episodes_aborted + 1
    assert idle.episodes_succeeded == before.episodes_succeeded == 1
    assert world.start() == episode_id + 1
    # An orderly end, too, aborts what is under way.
    assert again.end(signal.SIGINT) == 0
    assert world.reaches(FINISHED, ABORTED).reason == "the supervisor ended"

    (run_dir / "supervisor.json").unlink()
    (run_dir / "episodes").mkdir()
    (run_dir / "episodes" / "episode_000040.safetensors").touch()
    third = start_supervisor()
    third.wait_for("next is episode 41")
    world.reaches(EpisodeState.IDLE)
    time.sleep(1.0)  # A killed one's services seem to be there for a while yet.
    assert world.start() == 41
    assert third.end(signal.SIGTERM) == 0

    (run_dir / "supervisor.json").write_text("{")
    error = refusal(EpisodeSupervisor, task="square", run_dir=run_dir)
    assert "supervisor.json: expected JSON, found" in error


def test_the_monitor_ends_cleanly(monitor):
    assert monitor.end(signal.SIGTERM) == 0
    assert "Traceback" not in monitor.output
