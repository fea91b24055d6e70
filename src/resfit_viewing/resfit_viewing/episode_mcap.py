"""Node `episode_mcap`: each episode as one MCAP file that Foxglove opens."""

import sys
import time
from pathlib import Path

from rclpy.serialization import deserialize_message

from resfit_interfaces.msg import EpisodeState
from resfit_rl.episode_store import claim_role
from resfit_rl.tasks import get_task
from resfit_ros import qos
from resfit_ros.conversions import stamp_to_ns
from resfit_ros.parameters import declare
from resfit_viewing.episode_files import Channel, EpisodeFiles, header_stamp, rename_leftovers
from resfit_viewing.episode_names import OUTCOMES
from resfit_viewing.message_definitions import message_definition, type_name
from resfit_viewing.observer import Observer, run_observer
from resfit_viewing.topics import Topic, topics_of


class EpisodeMcap(Observer):
    """Messages are written as they come, without being decoded."""

    def __init__(self) -> None:
        super().__init__("episode_mcap")
        task = get_task(declare(self, "task", str, "task, for example square"))
        run_dir = Path(declare(self, "run_dir", str, "run directory; files go to its folder mcap"))
        self._wait = declare(
            self,
            "terminal_wait",
            1.0,
            "wall time to wait at an episode's end for messages still under way, s",
            range=(0.0, 60.0),
        )
        run_dir.mkdir(parents=True, exist_ok=True)
        self._claim = claim_role(run_dir.absolute(), "episode_mcap")
        self._folder = run_dir.absolute() / "mcap"
        for path in rename_leftovers(self._folder):
            self.get_logger().warning(f"kept what a killed recorder had written: {path}")
        self._files = EpisodeFiles(self._folder)
        self._recorded = 0
        self._end_at: float | None = None
        self._ended: EpisodeState | None = None
        for topic in topics_of(task):
            self._follow(topic)
        self.create_timer(0.1, self._close_ended, clock=self.steady)
        self.get_logger().info(f"recording each episode to {self._folder}")

    def _follow(self, topic: Topic) -> None:
        type_ = type_name(topic.kind)
        channel = Channel(
            self.resolve_topic_name(topic.name),
            type_,
            message_definition(type_),
            topic.latched,
            once=topic.profile is qos.SENSOR,
        )
        stamped = topic.stamped and not topic.latched
        is_state = topic.kind is EpisodeState

        def on_message(data: bytes) -> None:
            stamp = header_stamp(data) if stamped else self._now()
            self._guarded(lambda: self._files.message(channel, data, stamp))
            if is_state:
                self._on_state(deserialize_message(data, EpisodeState))

        self.create_subscription(topic.kind, topic.name, on_message, topic.profile, raw=True)

    def _on_state(self, state: EpisodeState) -> None:
        running = state.state in (EpisodeState.RUNNING, EpisodeState.PAUSED)
        if state.state == EpisodeState.RESETTING:
            self._close()
            self._guarded(lambda: self._files.reset(state.episode_id))
        elif running and state.episode_id != getattr(self._ended, "episode_id", 0):
            start = stamp_to_ns(state.start_stamp)
            self._guarded(lambda: self._files.start(state.episode_id, start, self._now()))
        elif state.state == EpisodeState.FINISHED and state.episode_id == self._files.episode_id:
            self._ended = state
            self._end_at = time.monotonic() + self._wait
        elif state.state == EpisodeState.IDLE and self._files.episode_id:
            # Its supervisor was started anew and knows of none.
            self._guarded(lambda: self._files.end("interrupted"))

    def _close_ended(self) -> None:
        if self._end_at is not None and time.monotonic() >= self._end_at:
            self._close()

    def _close(self) -> None:
        """Finish the file of the episode that has ended, if one has."""
        if self._end_at is None:
            return
        self._end_at = None
        state = self._ended
        outcome = OUTCOMES[state.outcome]
        messages = self._files.messages
        path = self._guarded(
            lambda: self._files.end(
                "aborted" if outcome == "aborted" else "",
                {
                    "task": state.task,
                    "episode_id": str(state.episode_id),
                    "seed": str(state.seed),
                    "outcome": outcome,
                    "steps": str(state.end_step),
                    "start_stamp_ns": str(stamp_to_ns(state.start_stamp)),
                },
            )
        )
        if path is not None:
            self._recorded += 1
            size = path.stat().st_size / 1e6
            self.get_logger().info(f"{path.name}: {outcome}, {messages} messages, {size:.1f} MB")

    def _guarded(self, action):
        """The action's result; a disk that is full costs the recording only."""
        try:
            result = action()
        except OSError as error:
            self.report(f"{self._folder}: {error}; this episode's recording is not whole")
            return None
        if self._files.writing:
            self.report("")
        return result

    def _now(self) -> int:
        return self.get_clock().now().nanoseconds

    def close(self) -> None:
        """What was under way is kept as an interrupted one."""
        self._close()
        self._guarded(lambda: self._files.end("interrupted"))
        self._claim.close()

    def diagnostic_values(self) -> dict[str, object]:
        return {
            "episode": self._files.episode_id,
            "messages": self._files.messages,
            "files written": self._recorded,
            "folder": self._folder,
        }


def main() -> int:
    return run_observer(EpisodeMcap)


if __name__ == "__main__":
    sys.exit(main())
