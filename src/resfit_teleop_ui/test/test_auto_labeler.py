import subprocess

import pytest

from resfit_interfaces.msg import EpisodeState, EpisodeStored, LearnerStatus, TaskState
from resfit_interfaces.srv import LabelEpisode, StartEpisode


@pytest.fixture
def start(start_process):
    def start(namespace="/", **parameters):
        arguments = ["--ros-args", "-r", f"__ns:={namespace}"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={value}"]
        labeler = start_process(
            "resfit_teleop_ui.auto_labeler",
            arguments,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        labeler.read_from(labeler.process.stdout.fileno())
        return labeler

    return start


def starts(supervisor):
    return [call for call in supervisor.calls if isinstance(call, StartEpisode.Request)]


def test_runs_its_episodes_and_waits_for_recorder_and_learner(supervisor, start):
    supervisor.refusal = "recorder is busy"
    supervisor.publish(LearnerStatus(updates_owed=0, episodes=0))
    labeler = start(episodes=2, first_seed=7)
    labeler.wait_for("no new episode yet: recorder is busy")
    supervisor.wait_until(lambda: len(starts(supervisor)) >= 3, "start is tried again")
    assert labeler.output.count("recorder is busy") == 1
    supervisor.refusal = ""
    supervisor.wait_until(lambda: supervisor.state.episode_id == 1, "episode 1")

    supervisor.publish(TaskState(episode_id=1, step=40, success=False))
    supervisor.publish(TaskState(episode_id=1, step=41, success=True))
    labeler.wait_for(r"episode 1: success after 41 steps, seed 7; 1 of 2 done")
    assert [(c.episode_id, c.label, c.step) for c in supervisor.labels()] == [
        (1, LabelEpisode.Request.SUCCESS, 41)
    ]
    supervisor.publish(TaskState(episode_id=1, step=42, success=True))

    supervisor.wait_until(lambda: supervisor.state.episode_id == 2, "episode 2")
    assert starts(supervisor)[-1].seed == 8
    supervisor.finish(EpisodeState.OUTCOME_TIMEOUT, 300)
    labeler.wait_for("waiting until episode 2 is stored")
    assert len(supervisor.labels()) == 1
    supervisor.publish(EpisodeStored(episode_id=2))
    labeler.wait_for("waiting for the learner's owed updates")
    supervisor.publish(LearnerStatus(updates_owed=12, episodes=2))
    with pytest.raises(subprocess.TimeoutExpired):
        labeler.process.wait(0.8)
    supervisor.publish(LearnerStatus(updates_owed=0, episodes=2))
    labeler.wait_for(r"all 2 episodes done: 1 success, 1 timeout; success rate 1/2 = 50 %")
    assert labeler.exit_code() == 0


def test_aborted_episodes_do_not_count_and_the_drain_is_bounded(supervisor, start):
    supervisor.publish(LearnerStatus(updates_owed=5))
    labeler = start(episodes=1, drain_timeout=0.1)
    supervisor.wait_until(lambda: supervisor.state.episode_id == 1, "episode 1")
    assert not starts(supervisor)[0].use_seed
    supervisor.finish(EpisodeState.OUTCOME_ABORTED)
    supervisor.wait_until(lambda: supervisor.state.episode_id == 2, "episode 2 after the abort")
    supervisor.finish(EpisodeState.OUTCOME_FAILURE, 3)
    supervisor.publish(EpisodeStored(episode_id=2))
    labeler.wait_for("still owes 5 updates")
    assert labeler.exit_code() == 0


def test_waits_for_the_supervisor(start):
    labeler = start(namespace="/elsewhere")
    labeler.wait_for("waiting for the episode supervisor")
    labeler.process.terminate()
    assert labeler.exit_code() == 0


def test_a_wrong_parameter_is_one_line_and_exit_code_1(start):
    labeler = start(first_seed=-2)
    assert labeler.exit_code() == 1
    labeler.wait_for("error: parameter 'first_seed'")
