"""The labeler of a simulation: starts episodes and labels success from the task's own check."""

import time
from collections import Counter
from typing import Any

from resfit_interfaces.msg import EpisodeState, EpisodeStored, NodeHeartbeat, TaskState
from resfit_interfaces.srv import LabelEpisode, StartEpisode
from resfit_ros import qos
from resfit_ros.parameters import declare
from resfit_ros.run import ExitRequest, run_node
from resfit_teleop_ui.labeler import OUTCOMES, Labeler

RETRY_PERIOD = 0.5  # s


class AutoLabeler(Labeler):
    """Starts one episode after another, labels success, and ends when all are stored and learnt."""

    def __init__(self) -> None:
        super().__init__("auto_labeler")
        self._wanted = declare(
            self,
            "episodes",
            0,
            "Episodes to run, aborted ones not counted; 0: without end.",
            range=(0, 2**31 - 1),
        )
        self._next_seed = declare(
            self,
            "first_seed",
            -1,
            "Seed of the first episode, one more for each further one; "
            "-1: the supervisor's series.",
            range=(-1, 2**63 - 1),
        )
        self._exit_when_done = declare(
            self, "exit_when_done", True, "End this node once all episodes are stored and learnt."
        )
        self._drain_timeout = declare(
            self,
            "drain_timeout",
            120.0,
            "Longest wait for the learner's owed updates after the last episode, s of wall time.",
            range=(0.0, 86400.0),
        )
        self._started = 0  # id of the episode under way, 0 for none
        self._outcomes: Counter[str] = Counter()
        self._stored = 0  # highest id reported by the recorder
        self._recorder = ""  # its session
        self._last: EpisodeState | None = None  # last counted episode
        self._recorder_of_last = ""
        self._stored_at: float | None = None
        self._said = ""
        self._finished = False

        self.create_subscription(TaskState, "task_state", self._on_task_state, qos.EVENT)
        self.create_subscription(EpisodeStored, "episode_stored", self._on_stored, qos.EVENT)
        self.create_subscription(NodeHeartbeat, "heartbeat", self._on_heartbeat, qos.HEARTBEAT)
        self.create_timer(RETRY_PERIOD, self._proceed, clock=self.steady_clock)
        self.heartbeat.set(NodeHeartbeat.READY)

    @property
    def _counted(self) -> int:
        return self._outcomes.total() - self._outcomes["aborted"]

    def _say(self, text: str) -> None:
        """Log it unless it was the last thing said."""
        if text != self._said:
            self._said = text
            self.get_logger().info(text)

    def _proceed(self) -> None:
        if self._wanted and self._counted >= self._wanted:
            self._finish()
        elif not self.supervisor_available:
            self._say("waiting for the episode supervisor")
        elif not self.running and not self.awaits(StartEpisode):
            self.start_episode(self._on_start_answer, self.next_seed())

    def next_seed(self) -> int | None:
        """Of the next episode; None for the supervisor's series."""
        return None if self._next_seed < 0 else self._next_seed

    def on_episode_end(self, state: EpisodeState) -> None:
        """Called once after an episode that this node started has finished."""

    def _on_start_answer(self, answer: Any) -> None:
        if not answer.accepted:
            self._say(f"no new episode yet: {answer.message}")
            return
        if self._started and self._started != answer.episode_id:
            self.get_logger().warning(f"episode {self._started}: its end was not seen")
        self._said = ""
        self._started = answer.episode_id
        if self._next_seed >= 0:
            self._next_seed += 1
        self.on_episode_state()

    def _on_task_state(self, message: TaskState) -> None:
        over = (
            self.episode is not None
            and self.episode.episode_id == message.episode_id
            and self.episode.state == EpisodeState.FINISHED
        )
        if not message.success or message.episode_id == 0 or over or self.awaits(LabelEpisode):
            return

        def on_answer(answer: Any) -> None:
            # The next successful observation brings the next attempt.
            if not answer.accepted:
                self._say(f"episode {message.episode_id}: label refused: {answer.message}")

        self.label_episode(
            message.episode_id, LabelEpisode.Request.SUCCESS, on_answer, message.step
        )

    def on_episode_state(self) -> None:
        """Count and log the episode that this node started, once it has finished."""
        state = self.episode
        if (
            state is None
            or state.state != EpisodeState.FINISHED
            or self._started == 0
            or state.episode_id != self._started
        ):
            return
        self._started = 0
        outcome = OUTCOMES[state.outcome]
        self._outcomes[outcome] += 1
        if state.outcome != EpisodeState.OUTCOME_ABORTED:
            self._last = state
            self._recorder_of_last = self._recorder
            self._stored_at = None
        of_all = f" of {self._wanted}" if self._wanted else ""
        self.get_logger().info(
            f"episode {state.episode_id}: {outcome} after {state.end_step} steps, "
            f"seed {state.seed}"
            + (f" ({state.reason})" if state.reason else "")
            + f"; {self._counted}{of_all} done, success rate {self._success_rate()}"
        )
        self.on_episode_end(state)

    def _success_rate(self) -> str:
        if not self._counted:
            return "unknown"
        successes = self._outcomes["success"]
        return f"{successes}/{self._counted} = {100.0 * successes / self._counted:.0f} %"

    def _on_stored(self, message: EpisodeStored) -> None:
        self._stored = max(self._stored, message.episode_id)

    def _on_heartbeat(self, message: NodeHeartbeat) -> None:
        if message.role == "recorder":
            self._recorder = message.session_id

    def _finish(self) -> None:
        """Once all episodes are counted: wait for recorder and learner, say the result, end."""
        if self._finished or self._last is None:
            return
        last = self._last.episode_id
        if self._stored_at is None:
            if self._stored < last and self._recorder == self._recorder_of_last:
                self._say(f"waiting until episode {last} is stored")
                return
            # Another recorder than the one that held it in memory: nothing more will come.
            if self._stored < last:
                self.get_logger().warning(f"episode {last}: the recorder did not report it stored")
            self._stored_at = time.monotonic()
        if self._exit_when_done and self._learner_is_behind():
            if time.monotonic() - self._stored_at < self._drain_timeout:
                self._say("waiting for the learner's owed updates")
                return
            self.get_logger().warning(
                f"the learner still owes {self.learner.updates_owed} updates "
                f"after {self._drain_timeout:g} s"
            )
        self._finished = True
        outcomes = ", ".join(f"{count} {name}" for name, count in self._outcomes.items())
        self.get_logger().info(
            f"all {self._counted} episodes done: {outcomes}; success rate {self._success_rate()}"
        )
        if self._exit_when_done:
            raise ExitRequest(0)

    def _learner_is_behind(self) -> bool:
        status = self.learner
        return (
            status is not None
            and status.phase != "error"
            and (status.updates_owed > 0 or status.episodes < self._last.episodes_finished)
        )

    def diagnostic_values(self) -> dict[str, object]:
        return {"episodes done": self._counted, "success rate": self._success_rate()}


def main() -> int:
    return run_node(AutoLabeler)
