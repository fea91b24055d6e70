"""Node `episode_recorder`: what the graph did becomes episodes on disk."""

import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from resfit_interfaces.msg import (
    ActionCommand,
    EpisodeState,
    EpisodeStored,
    ExecutedAction,
    NodeHeartbeat,
)
from resfit_rl.base_policies import BASE_POLICIES, BasePolicyError, base_policy_identity
from resfit_rl.episode_store import (
    Episode,
    EpisodeAssembler,
    EpisodeStore,
    Outcome,
    StoredEpisode,
    claim_role,
    open_run,
)
from resfit_rl.observation import Observation
from resfit_rl.tasks import get_task
from resfit_ros import qos
from resfit_ros.conversions import diagnostics, stamp_to_ns
from resfit_ros.heartbeat import Heartbeat
from resfit_ros.observation import ObservationSynchroniser, declare_sensor_checks
from resfit_ros.parameters import ConfigurationError, declare
from resfit_ros.run import run_node

OUTCOMES: dict[int, Outcome] = {
    EpisodeState.OUTCOME_SUCCESS: "success",
    EpisodeState.OUTCOME_FAILURE: "failure",
    EpisodeState.OUTCOME_SAFETY_STOP: "safety_stop",
    EpisodeState.OUTCOME_TIMEOUT: "timeout",
}
OUTCOME_CODES = {name: code for code, name in OUTCOMES.items()}
RETRY_PERIOD = 2.0  # s


class EpisodeRecorder(Node):
    """Gathers the running episode; stores it when it has finished; announces it then."""

    def __init__(self) -> None:
        super().__init__("episode_recorder")
        task = get_task(declare(self, "task", str, "task, for example square"))
        run_dir = declare(self, "run_dir", str, "run directory, made if it is not there")
        base = declare(
            self,
            "base_policy",
            "act",
            "kind of the base policy that acts",
            choices=BASE_POLICIES,
        )
        base_path = declare(self, "base_policy_path", "", "its folder or file; '' for scripted")
        width = declare(self, "image_width", 84, "width of every camera, pixels", range=(16, 4096))
        height = declare(
            self, "image_height", 84, "height of every camera, pixels", range=(16, 4096)
        )
        max_age = declare(
            self,
            "max_observation_age",
            1.0,
            "wall time an incomplete observation may wait for the rest, s",
            range=(0.05, 60.0),
        )
        wait = declare(
            self,
            "terminal_wait",
            1.0,
            "wall time to wait at an episode's end for messages still under way, s",
            range=(0.0, 60.0),
        )
        try:
            identity = base_policy_identity(base, task, base_path or None)
        except BasePolicyError as error:
            raise ConfigurationError(str(error)) from error
        folder = open_run(run_dir, task.name, task.implementation, identity)
        self._claim = claim_role(folder, "recorder")
        self._store = EpisodeStore(folder)
        removed = self._store.remove_leftovers()
        stored = self._store.ids()
        self.get_logger().info(
            f"recording {task.name} to {folder}: {len(stored)} episodes there"
            + (f"; removed {removed} unfinished files" if removed else "")
        )

        self._assembler = EpisodeAssembler(task, identity, wait, time.monotonic)
        self._to_store: deque[Episode] = deque()
        self._writer = ThreadPoolExecutor(1)
        self._writing: Future[StoredEpisode] | None = None
        self._retry_at = 0.0
        self._disk_problem = ""
        self._sensor_problem = ""
        self._not_stored = 0

        self._stored_publisher = self.create_publisher(EpisodeStored, "episode_stored", qos.EVENT)
        self._diagnostics_publisher = self.create_publisher(
            DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS
        )
        self._heartbeat = Heartbeat(self, "recorder")
        ObservationSynchroniser(
            self,
            task,
            (height, width),
            self._on_observation,
            self._on_sensor_problem,
            max_age,
            on_repeat=lambda stamp: self._set_sensor_problem(""),
            **declare_sensor_checks(self),
        )
        # Not COMMAND: none may be lost here.
        self.create_subscription(ActionCommand, "action_command", self._on_command, qos.EVENT)
        self.create_subscription(ExecutedAction, "executed_action", self._on_executed, qos.EVENT)
        self.create_subscription(EpisodeState, "episode_state", self._on_state, qos.LATCHED)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.05, self._store_finished, clock=steady)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)
        self._set_state()

    def close(self) -> None:
        """Finish the write under way."""
        self._writer.shutdown(wait=True)
        self._take_written()
        for episode in self._to_store:
            self.get_logger().error(
                f"episode {episode.episode_id} is lost: stopped before it was on disk"
            )
        self._claim.close()

    # -- what comes in ------------------------------------------------------------------------

    def _on_observation(self, stamp: int, observation: Observation) -> None:
        self._set_sensor_problem("")
        self._assembler.observation(stamp, observation)

    def _on_sensor_problem(self, text: str) -> None:
        if text != self._sensor_problem:
            self.get_logger().error(text)
        self._set_sensor_problem(text)

    def _set_sensor_problem(self, text: str) -> None:
        self._sensor_problem = text
        self._set_state()

    def _on_command(self, message: ActionCommand) -> None:
        try:
            self._assembler.command(
                message.episode_id,
                message.step,
                stamp_to_ns(message.header.stamp),
                message.base_action,
                message.policy_version,
            )
        except ValueError as error:
            self.get_logger().error(f"action_command: {error}")

    def _on_executed(self, message: ExecutedAction) -> None:
        try:
            self._assembler.executed(
                message.episode_id,
                message.step,
                stamp_to_ns(message.header.stamp),
                message.action,
                message.held,
            )
        except ValueError as error:
            self.get_logger().error(f"executed_action: {error}")

    def _on_state(self, message: EpisodeState) -> None:
        episode_id = message.episode_id
        if message.state == EpisodeState.RUNNING:
            self._assembler.begin(episode_id, message.seed, stamp_to_ns(message.start_stamp))
        elif message.state == EpisodeState.FINISHED and message.outcome not in OUTCOMES:
            self._assembler.abort(episode_id)
        elif message.state == EpisodeState.FINISHED:
            seen = self._assembler.end(
                episode_id,
                OUTCOMES[message.outcome],
                message.reward,
                message.done,
                message.end_step,
            )
            if not seen and episode_id not in self._store.ids():
                self._not_stored += 1
                self.get_logger().error(
                    f"episode {episode_id} is not stored: the recorder was not there when it ran"
                )
        self._set_state()

    # -- to the disk --------------------------------------------------------------------------

    def _store_finished(self) -> None:
        for result in self._assembler.poll():
            if isinstance(result, Episode):
                self._to_store.append(result)
            else:
                self._not_stored += 1
                self.get_logger().error(f"not stored: {result}")
        self._take_written()
        if self._to_store and self._writing is None and time.monotonic() >= self._retry_at:
            self._writing = self._writer.submit(self._store.write, self._to_store[0])
        self._set_state()

    def _take_written(self) -> None:
        if self._writing is None or not self._writing.done():
            return
        writing, self._writing = self._writing, None
        try:
            stored = writing.result()
        except FileExistsError as error:
            # No second try can mend it, and the one on disk must stay.
            self._not_stored += 1
            self._to_store.popleft()
            self.get_logger().error(f"not stored: {error}")
            return
        except OSError as error:
            self._retry_at = time.monotonic() + RETRY_PERIOD
            problem = f"episode {self._to_store[0].episode_id} is kept in memory: {error}"
            if not self._disk_problem:
                self.get_logger().error(f"{problem}; trying each {RETRY_PERIOD:.0f} s")
            self._disk_problem = problem
            return
        self._disk_problem = ""
        self._to_store.popleft()
        message = EpisodeStored(
            episode_id=stored.episode_id,
            path=str(stored.path),
            sha256=stored.sha256,
            steps=stored.steps,
            outcome=OUTCOME_CODES[stored.outcome],
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._stored_publisher.publish(message)
        self.get_logger().info(
            f"episode {stored.episode_id} stored: {stored.outcome}, {stored.steps} steps, "
            f"{stored.path.stat().st_size / 1e6:.1f} MB"
        )

    # -- how it is ----------------------------------------------------------------------------

    def _set_state(self) -> None:
        problem = self._disk_problem or self._sensor_problem
        if problem:
            self._heartbeat.set(NodeHeartbeat.ERROR, problem)
        elif self._assembler.pending or self._to_store:
            self._heartbeat.set(NodeHeartbeat.BUSY, "storing an episode")
        else:
            self._heartbeat.set(NodeHeartbeat.READY)

    def _publish_diagnostics(self) -> None:
        state = self._heartbeat.state
        self._diagnostics_publisher.publish(
            diagnostics(
                self.get_clock().now().to_msg(),
                self.get_fully_qualified_name(),
                DiagnosticStatus.ERROR if state == NodeHeartbeat.ERROR else DiagnosticStatus.OK,
                self._heartbeat.message or "recording",
                {
                    "episodes stored": len(self._store.ids()),
                    "episodes waiting for the disk": len(self._to_store),
                    "episodes not stored": self._not_stored,
                },
            )
        )


def main() -> int:
    return run_node(EpisodeRecorder)


if __name__ == "__main__":
    sys.exit(main())
