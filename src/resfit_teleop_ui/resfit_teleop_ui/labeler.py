"""What both labelers are: clients of the episode supervisor."""

import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future

from resfit_interfaces.msg import EpisodeState, LearnerStatus
from resfit_interfaces.srv import LabelEpisode, PauseEpisode, StartEpisode
from resfit_ros import conversions, qos
from resfit_ros.heartbeat import Heartbeat

NOW = 4294967295  # LabelEpisode.step: the observation of this moment
ANSWER_TIMEOUT = 10.0  # s; a reset is part of a start, and takes up to 2 s

OUTCOMES = {
    EpisodeState.OUTCOME_NONE: "none",
    EpisodeState.OUTCOME_SUCCESS: "success",
    EpisodeState.OUTCOME_FAILURE: "failure",
    EpisodeState.OUTCOME_SAFETY_STOP: "safety stop",
    EpisodeState.OUTCOME_TIMEOUT: "timeout",
    EpisodeState.OUTCOME_ABORTED: "aborted",
}


class Labeler(Node):
    """A node of role 'labeler', READY once its subclass says so.

    All its timing is wall time: simulated time may stand still.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self.heartbeat = Heartbeat(self, "labeler")
        self.episode: EpisodeState | None = None
        self.learner: LearnerStatus | None = None
        self._supervisor = {
            kind: self.create_client(kind, service)
            for kind, service in (
                (StartEpisode, "start_episode"),
                (LabelEpisode, "label_episode"),
                (PauseEpisode, "pause_episode"),
            )
        }
        self._pending: dict[type, tuple[Future, float]] = {}
        self.create_subscription(EpisodeState, "episode_state", self._on_episode, qos.LATCHED)
        self.create_subscription(LearnerStatus, "learner_status", self._on_learner, qos.LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
        self.create_timer(1.0, self._publish_diagnostics, clock=self.steady_clock)
        self.create_timer(0.5, self._drop_lost_requests, clock=self.steady_clock)

    @property
    def supervisor_available(self) -> bool:
        return all(client.service_is_ready() for client in self._supervisor.values())

    @property
    def running(self) -> bool:
        """Whether an episode is under way, paused ones included."""
        return self.episode is not None and self.episode.state in (
            EpisodeState.RESETTING,
            EpisodeState.RUNNING,
            EpisodeState.PAUSED,
        )

    def awaits(self, kind: type) -> bool:
        """Whether a request of this service type has no answer yet."""
        return kind in self._pending

    def start_episode(self, on_answer: Callable[[Any], None], seed: int | None = None) -> None:
        """Ask for a new episode; without `seed` the supervisor takes the next of its series."""
        request = StartEpisode.Request(use_seed=seed is not None, seed=seed or 0)
        self._call(StartEpisode, request, on_answer)

    def label_episode(
        self,
        episode_id: int,
        label: int,
        on_answer: Callable[[Any], None],
        step: int = NOW,
    ) -> None:
        """Label an episode with a LabelEpisode constant; `step` indexes the observation judged."""
        request = LabelEpisode.Request(episode_id=episode_id, label=label, step=step)
        self._call(LabelEpisode, request, on_answer)

    def pause_episode(self, pause: bool, on_answer: Callable[[Any], None]) -> None:
        """Hold the running episode, or go on with it."""
        self._call(PauseEpisode, PauseEpisode.Request(pause=pause), on_answer)

    def on_episode_state(self) -> None:
        """Called after `episode` has changed."""

    def on_learner_status(self) -> None:
        """Called after `learner` has changed."""

    def diagnostic_values(self) -> dict[str, object]:
        return {}

    def _call(self, kind: type, request: Any, on_answer: Callable[[Any], None]) -> None:
        """`on_answer` gets the response, with accepted false when none came.

        One request of a kind at a time: a second one while the first is open is dropped.
        """
        if kind in self._pending:
            return
        client = self._supervisor[kind]
        if not client.service_is_ready():
            on_answer(kind.Response(accepted=False, message="the episode supervisor is not there"))
            return
        request.labeler_id = self.heartbeat.session_id
        future = client.call_async(request)
        self._pending[kind] = (future, time.monotonic())

        def finish(done: Future) -> None:
            if self._pending.get(kind, (None,))[0] is done:
                del self._pending[kind]
            if done.cancelled():
                on_answer(kind.Response(accepted=False, message="the supervisor did not answer"))
            else:
                on_answer(done.result())

        future.add_done_callback(finish)

    def _drop_lost_requests(self) -> None:
        """A supervisor that died with a request never answers it."""
        now = time.monotonic()
        for kind, (future, since) in list(self._pending.items()):
            client = self._supervisor[kind]
            if now - since > ANSWER_TIMEOUT or not client.service_is_ready():
                client.remove_pending_request(future)
                future.cancel()

    def _on_episode(self, message: EpisodeState) -> None:
        self.episode = message
        self.on_episode_state()

    def _on_learner(self, message: LearnerStatus) -> None:
        self.learner = message
        self.on_learner_status()

    def _publish_diagnostics(self) -> None:
        available = self.supervisor_available
        values: dict[str, object] = {
            "supervisor available": available,
            "episode": self.episode.episode_id if self.episode else 0,
        }
        self._diagnostics.publish(
            conversions.diagnostics(
                self.get_clock().now().to_msg(),
                self.get_fully_qualified_name(),
                DiagnosticStatus.OK if available else DiagnosticStatus.WARN,
                "ready" if available else "waiting for the episode supervisor",
                values | self.diagnostic_values(),
            )
        )
