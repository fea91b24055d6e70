import os
import pty
import signal
import subprocess
import termios

import pytest
from std_srvs.srv import Trigger

from resfit_interfaces.msg import EpisodeState, ExecutedAction, NodeHeartbeat
from resfit_interfaces.srv import LabelEpisode, PauseEpisode, StartEpisode

KEYBOARD_LABELER = "resfit_teleop_ui.keyboard_labeler"
SCREEN_LEFT = r"\x1b\[\?25h\x1b\[\?1049l"


@pytest.fixture
def terminal(start_process):
    """A keyboard labeler at a pseudo terminal; `press` types, `slave` is the labeler's side."""
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    labeler = start_process(
        KEYBOARD_LABELER,
        prefix=("setsid", "--ctty"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    labeler.read_from(master)
    labeler.press = lambda keys: os.write(master, keys.encode())
    labeler.restored = lambda: termios.tcgetattr(slave) == before
    labeler.wait_for("IDLE")
    assert not labeler.restored()
    yield labeler
    labeler.destroy()
    os.close(master)
    os.close(slave)


def test_a_session(supervisor, terminal):
    supervisor.refusal = "another labeler is active: 1a2b"
    terminal.press(" ")
    at = terminal.wait_for("> start refused: another labeler is active: 1a2b")
    supervisor.refusal = ""

    terminal.press("\r")
    at = terminal.wait_for("episode   1   RUNNING", at)
    assert supervisor.calls[-1].labeler_id
    assert not supervisor.calls[-1].use_seed
    supervisor.publish(ExecutedAction(episode_id=1, step=59))
    at = terminal.wait_for(r"60 / 300 .* 12\.0 s left", at)

    terminal.press("p")
    at = terminal.wait_for("PAUSED", at)
    terminal.press("\x1b[A")  # an arrow key is no command
    terminal.press("p")
    at = terminal.wait_for("resumed", at)
    pauses = [call.pause for call in supervisor.calls if isinstance(call, PauseEpisode.Request)]
    assert pauses == [True, False]

    terminal.press("s")
    at = terminal.wait_for(r"FINISHED: success, reward 1", at)
    terminal.press("s")
    at = terminal.wait_for("no episode runs", at)
    terminal.press(" ")
    at = terminal.wait_for("episode   2   RUNNING", at)
    terminal.press("f")
    at = terminal.wait_for(r"outcomes  success 1   failure 1", at)
    at = terminal.wait_for(r"50 % \(1 of 2", at - 200)
    labels = [(call.episode_id, call.label, call.step) for call in supervisor.labels()]
    assert labels == [
        (1, LabelEpisode.Request.SUCCESS, 4294967295),
        (2, LabelEpisode.Request.FAILURE, 4294967295),
    ]

    terminal.press(" ")
    at = terminal.wait_for("episode   3   RUNNING", at)
    terminal.press("q")
    at = terminal.wait_for(r"abort it and quit\? \(y/n\)", at)
    terminal.press("n")
    at = terminal.wait_for("> episode 3 started", at)
    terminal.press("qy")
    at = terminal.wait_for(SCREEN_LEFT, at)
    terminal.wait_for("episode 3 aborted; the robot holds", at)
    assert terminal.exit_code() == 0
    assert supervisor.labels()[-1].label == LabelEpisode.Request.ABORT
    assert terminal.restored()


def test_emergency_stop(supervisor, terminal):
    """One key, whatever is being asked; the release wants a second one."""
    supervisor.publish(NodeHeartbeat(role="driver", state=NodeHeartbeat.READY))
    terminal.wait_for("robot     driver ready")
    terminal.press(" ")
    at = terminal.wait_for("episode   1   RUNNING")
    terminal.press("q")
    at = terminal.wait_for(r"abort it and quit\? \(y/n\)", at)
    terminal.press("e")
    at = terminal.wait_for("EMERGENCY STOP; driver (ready|SILENT)", at)
    supervisor.wait_until(lambda: supervisor.stops, "an emergency stop")
    assert [(stop.engaged, stop.reason) for stop in supervisor.stops] == [
        (True, "key e of the keyboard labeler")
    ]
    held = NodeHeartbeat(role="driver", state=NodeHeartbeat.BUSY, message="emergency stop")
    supervisor.publish(held)
    at = terminal.wait_for("EMERGENCY STOP; driver holds: emergency stop", at)
    terminal.press("un")
    terminal.press("uy")
    terminal.wait_for("emergency stop released", at)
    supervisor.wait_until(lambda: len(supervisor.stops) == 2, "a release")
    assert not supervisor.stops[1].engaged
    assert supervisor.state.state == EpisodeState.RUNNING  # its end is the driver's to report


def test_the_driver_of_a_real_robot_wants_the_scene_confirmed(supervisor, terminal):
    with supervisor.confirmation():
        terminal.press(" ")
        at = terminal.wait_for("nobody within reach")
        terminal.press("n")
        at = terminal.wait_for("> press space", at)
        terminal.press(" ")
        at = terminal.wait_for("nobody within reach", at)
        assert not supervisor.calls
        terminal.press("y")
        terminal.wait_for("episode   1   RUNNING", at)
        assert [type(c) for c in supervisor.calls] == [Trigger.Request, StartEpisode.Request]


def test_a_refused_confirmation_starts_nothing(supervisor, terminal):
    with supervisor.confirmation("confirm_scene: expected an active driver"):
        terminal.press(" ")
        at = terminal.wait_for("nobody within reach")
        terminal.press("y")
        terminal.wait_for("start refused: confirm_scene: expected an active driver", at)
        assert [type(call) for call in supervisor.calls] == [Trigger.Request]


def test_leaves_the_episode_of_another_labeler_alone(supervisor, terminal):
    supervisor.state.episode_id, supervisor.state.state = 5, EpisodeState.RUNNING
    supervisor.publish(supervisor.state)
    terminal.wait_for("episode   5   RUNNING")
    terminal.press("q")
    assert terminal.exit_code() == 0
    assert not supervisor.labels()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_aborts_the_episode_and_restores_the_terminal(supervisor, terminal, number):
    terminal.press(" ")
    terminal.wait_for("RUNNING")
    terminal.process.send_signal(number)
    terminal.wait_for(SCREEN_LEFT + "(.|\n)*episode 1 aborted; the robot holds")
    assert terminal.exit_code() == 0
    assert supervisor.state.outcome == EpisodeState.OUTCOME_ABORTED
    assert terminal.restored()


def test_end_of_file_aborts_the_episode(supervisor, start_process):
    """The other end closes: a broken SSH connection."""
    master, slave = pty.openpty()
    labeler = start_process(KEYBOARD_LABELER, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    labeler.read_from(master)
    labeler.wait_for("IDLE")
    os.write(master, b" ")
    labeler.wait_for("RUNNING")
    labeler.stop_reading()
    os.close(master)
    supervisor.wait_until(lambda: supervisor.labels(), "an abort")
    assert supervisor.labels()[-1].label == LabelEpisode.Request.ABORT
    assert labeler.exit_code() == 0


def test_without_a_terminal(start_process):
    labeler = start_process(KEYBOARD_LABELER, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = labeler.process.communicate(timeout=15.0)[1].decode()
    assert labeler.process.returncode == 1
    assert error.startswith("error: keyboard_labeler: expected a terminal")
    assert len(error.splitlines()) == 1
