from dataclasses import replace

from resfit_interfaces.msg import EpisodeState, LearnerStatus, SafetyStatus
from resfit_teleop_ui.screen import ScreenState, render

RUNNING = ScreenState(
    supervisor_available=True,
    episode=EpisodeState(
        task="square",
        state=EpisodeState.RUNNING,
        episode_id=12,
        max_steps=300,
        episodes_finished=11,
        episodes_succeeded=8,
    ),
    safety=SafetyStatus(
        motion_allowed=True,
        wrist=["left"],
        force=[12.3],
        max_force=[80.0],
        torque=[0.44],
        max_torque=[10.0],
    ),
    learner=LearnerStatus(
        phase="learning", policy_version=7, updates_owed=120, episodes=11, updates_per_second=9.5
    ),
    step=87,
    outcomes={"success": 2, "safety stop": 1},
    message="episode 12 started",
)


def text(state):
    return "\n".join(render(state, 200))


def test_a_running_episode():
    shown = text(RUNNING)
    for expected in (
        "square",
        "episode   12   RUNNING",
        "87 / 300   [########----------------------]   10.7 s left",
        "outcomes  success 2   safety stop 1",
        "73 % (8 of 11 since the run began)",
        "motion allowed   left 12 of 80 N, 0.4 of 10 N m",
        "learning   version 7   updates owed 120   11 episodes   9.5 updates/s",
        "> episode 12 started",
        "space roll out",
    ):
        assert expected in shown


def test_a_question_takes_the_place_of_the_message():
    shown = text(replace(RUNNING, question="quit? (y/n)"))
    assert "> quit? (y/n)" in shown
    assert "episode 12 started" not in shown


def test_the_end_of_an_episode_and_its_reason():
    episode = EpisodeState(
        state=EpisodeState.FINISHED,
        episode_id=3,
        outcome=EpisodeState.OUTCOME_SAFETY_STOP,
        end_step=41,
        reason="left: force 91 N over 80 N",
    )
    shown = text(replace(RUNNING, episode=episode))
    assert "3   FINISHED: safety stop, reward 0, 41 steps   (left: force 91 N over 80 N)" in shown
    assert "s left" not in shown


def test_what_is_missing_or_old_is_not_shown_as_present():
    empty = text(ScreenState())
    for expected in ("no episode supervisor", "no verdict yet", "learner   none", "success   -"):
        assert expected in empty
    assert "SILENT for 3 s" in text(replace(RUNNING, safety_age=3.0))
    stop = SafetyStatus(motion_allowed=False, reason="wrench of left is 0.4 s old")
    assert "STOP: wrench of left is 0.4 s old" in text(replace(RUNNING, safety=stop))
    assert "RUNNING" not in text(replace(RUNNING, supervisor_available=False))


def test_lines_fit_and_hold_no_control_characters():
    lines = render(replace(RUNNING, message="\x1b[2J" + "x" * 200), 40)
    assert max(map(len, lines)) <= 40
    assert "".join(lines).count("x") == 200
    assert all(line.isprintable() for line in lines)
