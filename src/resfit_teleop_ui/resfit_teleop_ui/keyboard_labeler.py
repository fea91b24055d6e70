"""The labeler at a keyboard: one key starts an episode, one says how it ended."""

import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import rclpy
from std_srvs.srv import Trigger

from resfit_interfaces.msg import (
    EmergencyStop,
    EpisodeState,
    ExecutedAction,
    NodeHeartbeat,
    SafetyStatus,
)
from resfit_interfaces.srv import LabelEpisode
from resfit_ros import qos
from resfit_ros.parameters import declare
from resfit_ros.run import ExitRequest, run_node
from resfit_teleop_ui.labeler import OUTCOMES, Labeler
from resfit_teleop_ui.screen import ScreenState, render
from resfit_teleop_ui.terminal import Terminal, TerminalLost

PERIOD = 0.05  # s between looks at the keyboard
CLOSING_TIMEOUT = 2.0  # s for the supervisor to answer the last abort
EMERGENCY_STOP, RELEASE = "e", "u"
SCENE = "is the scene set up and nobody within reach of the robot?"
LABELS = {"s": LabelEpisode.Request.SUCCESS, "f": LabelEpisode.Request.FAILURE}
LABEL_NAMES = {
    LabelEpisode.Request.SUCCESS: "success",
    LabelEpisode.Request.FAILURE: "failure",
    LabelEpisode.Request.ABORT: "abort",
}


class KeyboardLabeler(Labeler):
    """Keys to the supervisor's services, and its state to the screen.

    However it ends, an episode that it has started is aborted, so that the robot holds.
    """

    def __init__(self) -> None:
        # Before anything else: without a terminal there is nothing to do.
        self._terminal = Terminal()
        super().__init__("keyboard_labeler")
        self._frequency = declare(
            self,
            "control_frequency",
            20.0,
            "Control steps a second, Hz; for the time left.",
            range=(0.1, 1000.0),
        )
        self._lost = False
        self._step = 0
        self._safety: SafetyStatus | None = None
        self._safety_at = 0.0
        self._outcomes: Counter[str] = Counter()
        self._started = 0  # id of the last episode that this labeler started
        self._seen_running = 0  # id of the episode under way
        self._message = "press space to roll out"
        self._question = ""
        self._on_yes: Callable[[], None] = lambda: None
        self._driver: NodeHeartbeat | None = None
        self._driver_at = 0.0
        self._stop = False  # whether the emergency stop is engaged
        # To the driver itself: neither the supervisor nor the policy is needed for it.
        self._stop_publisher = self.create_publisher(EmergencyStop, "emergency_stop", qos.LATCHED)
        self.create_subscription(EmergencyStop, "emergency_stop", self._on_stop, qos.LATCHED)
        self.create_subscription(NodeHeartbeat, "heartbeat", self._on_heartbeat, qos.HEARTBEAT)
        # Only the driver of a real robot has it.
        self._confirm_scene = self.create_client(Trigger, "confirm_scene")
        self.create_subscription(
            ExecutedAction, "executed_action", self._on_executed_action, qos.EVENT
        )
        self.create_subscription(SafetyStatus, "safety_status", self._on_safety, qos.EVENT)
        self._keyboard = self.create_timer(PERIOD, self._look, clock=self.steady_clock)
        signal.signal(signal.SIGHUP, self._on_hangup)
        self._terminal.open()
        self.heartbeat.set(NodeHeartbeat.READY)

    def close(self) -> None:
        """Give the terminal back, hold the robot, and say so."""
        self._keyboard.cancel()
        self._terminal.close()
        if not self._responsible:
            return
        episode_id = self.episode.episode_id
        answers: list[Any] = []
        # A label on its way is another answer than the one that matters now.
        self._pending.clear()
        self.label_episode(episode_id, LabelEpisode.Request.ABORT, answers.append)
        end = time.monotonic() + CLOSING_TIMEOUT
        while not answers and time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=0.05)
        if answers and answers[0].accepted:
            text = f"episode {episode_id} aborted; the robot holds"
        else:
            why = answers[0].message if answers else "the supervisor did not answer"
            text = (
                f"episode {episode_id} could not be aborted: {why}; the graph stops the robot "
                "when it misses this labeler's heartbeat"
            )
        self.get_logger().warning(text)
        with contextlib.suppress(OSError):  # a lost terminal; the log has it
            print(text, file=sys.stderr, flush=True)

    @property
    def _responsible(self) -> bool:
        """Whether the episode under way is this labeler's: another's is left alone."""
        return self.running and self.episode.episode_id == self._started

    def on_episode_state(self) -> None:
        state = self.episode
        if self.running:
            if self._seen_running != state.episode_id:
                self._seen_running = state.episode_id
                self._step = 0
        elif state.state == EpisodeState.FINISHED and state.episode_id == self._seen_running:
            self._seen_running = 0
            outcome = OUTCOMES[state.outcome]
            self._outcomes[outcome] += 1
            self._say(f"episode {state.episode_id}: {outcome}; press space to roll out")
            if state.episode_id == self._started:
                self.on_episode_end(state)

    def _say(self, text: str) -> None:
        self._message = text
        self.get_logger().info(text)

    def _on_executed_action(self, message: ExecutedAction) -> None:
        if self.episode is not None and message.episode_id == self.episode.episode_id:
            self._step = message.step + 1

    def _on_safety(self, message: SafetyStatus) -> None:
        self._safety = message
        self._safety_at = time.monotonic()

    def _on_stop(self, message: EmergencyStop) -> None:
        self._stop = message.engaged

    def _on_heartbeat(self, message: NodeHeartbeat) -> None:
        if message.role == "driver":
            self._driver, self._driver_at = message, time.monotonic()

    def _on_hangup(self, number: int, frame: object) -> None:
        self._lost = True

    def _look(self) -> None:
        try:
            if self._lost:
                raise TerminalLost
            for key in self._terminal.read_keys():
                self._press(key)
            self._terminal.show(render(self._screen(), self._terminal.width))
        except TerminalLost:
            self.get_logger().error("the terminal was lost")
            raise ExitRequest(0) from None

    def _screen(self) -> ScreenState:
        return ScreenState(
            supervisor_available=self.supervisor_available,
            episode=self.episode,
            driver=self._driver,
            driver_age=time.monotonic() - self._driver_at,
            emergency_stop=self._stop,
            safety=self._safety,
            safety_age=time.monotonic() - self._safety_at,
            learner=self.learner,
            step=self._step,
            control_frequency=self._frequency,
            outcomes=dict(self._outcomes),
            message=self._message,
            question=self._question,
        )

    def _press(self, key: str) -> None:
        if key == EMERGENCY_STOP:
            # Whatever else is being asked.
            self._question = ""
            self._stop_robot()
        elif self._question:
            self._question = ""
            if key == "y":
                self._on_yes()
        elif key == RELEASE:
            self._ask("release the emergency stop?", self._release)
        elif key in (" ", "\n", "\r"):
            self._roll_out()
        elif key in LABELS:
            self._label(LABELS[key])
        elif key == "r":
            self._label(LabelEpisode.Request.ABORT)
        elif key == "p":
            self._pause()
        elif key == "q":
            if not self._responsible:
                self._quit()
            self._ask(f"episode {self.episode.episode_id} runs: abort it and quit?", self._quit)

    def _ask(self, question: str, on_yes: Callable[[], None]) -> None:
        self._question, self._on_yes = f"{question} (y/n)", on_yes

    def _quit(self) -> None:
        raise ExitRequest(0)

    def _stop_robot(self) -> None:
        self._publish_stop(True, "key e of the keyboard labeler")
        self._say("EMERGENCY STOP: the driver holds the robot; u releases it")

    def _release(self) -> None:
        self._publish_stop(False, "key u of the keyboard labeler")
        self._say("emergency stop released; press space to roll out")

    def _publish_stop(self, engaged: bool, reason: str) -> None:
        message = EmergencyStop(engaged=engaged, reason=reason)
        message.header.stamp = self.get_clock().now().to_msg()
        self._stop_publisher.publish(message)
        self._stop = engaged

    def _roll_out(self) -> None:
        if self.running:
            self._say(f"episode {self.episode.episode_id} is not over")
        elif self._confirm_scene.service_is_ready():
            self._ask(SCENE, self._confirm_and_start)
        else:
            self._start()

    def _confirm_and_start(self) -> None:
        def on_answer(done: Any) -> None:
            if done.result().success:
                self._start()
            else:
                self._say(f"start refused: {done.result().message}")

        self._say("confirming the scene ...")
        self._confirm_scene.call_async(Trigger.Request()).add_done_callback(on_answer)

    def _start(self) -> None:
        def on_answer(answer: Any) -> None:
            if answer.accepted:
                self._started = answer.episode_id
                self._say(f"episode {answer.episode_id} started")
            else:
                self._say(f"start refused: {answer.message}")

        self._say("starting ...")
        self.start_episode(on_answer, self.next_seed())

    def next_seed(self) -> int | None:
        """Of the next episode; None for the supervisor's series."""
        return None

    def on_episode_end(self, state: EpisodeState) -> None:
        """Called once after an episode that this labeler started has finished."""

    def _label(self, label: int) -> None:
        if not self.running:
            self._say("no episode runs")
            return
        name, episode_id = LABEL_NAMES[label], self.episode.episode_id

        def on_answer(answer: Any) -> None:
            if not answer.accepted:
                self._say(f"{name} refused: {answer.message}")

        self._say(f"episode {episode_id}: {name} ...")
        self.label_episode(episode_id, label, on_answer)

    def _pause(self) -> None:
        if not self.running:
            self._say("no episode runs")
            return
        pause = self.episode.state != EpisodeState.PAUSED

        def on_answer(answer: Any) -> None:
            if answer.accepted:
                self._say("paused: the robot holds; p goes on" if pause else "resumed")
            else:
                self._say(f"{'pause' if pause else 'resume'} refused: {answer.message}")

        self.pause_episode(pause, on_answer)


def main() -> int:
    # Log lines on the terminal would land in the screen; /rosout and the log file have them.
    sys.argv += ["--ros-args", "--disable-stdout-logs"]
    return run_node(KeyboardLabeler)
