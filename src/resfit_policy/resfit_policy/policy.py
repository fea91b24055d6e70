"""Node `policy`: answers each observation of a running episode with one action command."""

import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from resfit_interfaces.msg import (
    ActionCommand,
    EpisodeState,
    ExecutedAction,
    NodeHeartbeat,
    PolicyWeights,
)
from resfit_policy.latency import milliseconds
from resfit_policy.steps import Step, StepTracker
from resfit_rl.agent import (
    Normaliser,
    PolicyFileError,
    ResidualPolicy,
    load_agent_config,
)
from resfit_rl.agent.residual_policy import NoiseMode
from resfit_rl.base_policies import BASE_POLICIES, BasePolicyError, load_base_policy
from resfit_rl.control import ChunkedBase, ChunkSchedule, LateChunkError
from resfit_rl.control.residual_action import noise_generator, residual_action
from resfit_rl.episode_store import open_run
from resfit_rl.learning.announcement import Announcement, blank_observation, load_announced
from resfit_rl.learning.publication import newest_publication
from resfit_rl.observation import Observation
from resfit_rl.tasks import get_task
from resfit_ros import conversions, qos
from resfit_ros.heartbeat import Heartbeat
from resfit_ros.observation import ObservationSynchroniser, declare_sensor_checks
from resfit_ros.parameters import ConfigurationError, declare
from resfit_ros.run import run_node

# In lockstep a chunk is waited for in slices, so that heartbeat and messages go on meanwhile.
WAIT_SLICE = 0.02  # s
WINDOW = 200  # latencies of which diagnostics tell


class Policy(Node):
    """Base policy plus residual; see ARCHITECTURE.md for the protocol."""

    def __init__(self, **node: Any) -> None:
        """Keyword arguments are those of rclpy's Node."""
        super().__init__("policy", **node)
        self._task = get_task(
            declare(self, "task", str, "task, which defines cameras, state and actions")
        )
        height = declare(self, "image_height", 84, "pixels of every camera", range=(16, 4096))
        width = declare(self, "image_width", 84, "pixels of every camera", range=(16, 4096))
        run_dir = declare(
            self, "run_dir", "", "run directory: its identity is checked, its weights are taken up"
        )
        kind = declare(
            self,
            "base_policy",
            "act",
            "kind of base policy",
            choices=BASE_POLICIES,
        )
        path = declare(self, "base_policy_path", "", "its weights or recording; '' for scripted")
        replan_interval = declare(
            self, "replan_interval", 10, "steps from one chunk to the next", range=(1, 1000)
        )
        lead = declare(
            self,
            "lead",
            5,
            "steps that a chunk is predicted ahead of its first use",
            range=(0, 999),
        )
        mode = declare(
            self,
            "mode",
            "lockstep",
            "lockstep waits for a chunk as long as it takes, real_time until action_deadline",
            choices=("lockstep", "real_time"),
        )
        self._deadline = declare(
            self,
            "action_deadline",
            0.02,
            "s from an observation until its command is late (real_time)",
            range=(0.001, 10.0),
        )
        max_age = declare(
            self,
            "max_observation_age",
            1.0,
            "s of wall time that an incomplete observation may wait for the rest",
            range=(0.05, 60.0),
        )
        checks = declare_sensor_checks(self)
        self._evaluation = declare(
            self, "evaluation", False, "no exploration noise: the same observation, the same action"
        )
        self._use_residual = declare(
            self, "residual", True, "false: the base policy alone, weights are ignored"
        )
        agent_config = declare(
            self,
            "agent_config",
            "",
            "YAML file of the agent, for warm-up noise before there are weights; '' for none",
        )
        self._device = declare(self, "device", "cpu", "where networks run", choices=("cpu", "cuda"))
        threads = declare(self, "threads", 1, "CPU threads of one network pass", range=(1, 256))
        self._seed = declare(self, "seed", 0, "of the exploration noise", range=(0, 2**31 - 1))

        if self._device == "cuda" and not torch.cuda.is_available():
            raise ConfigurationError("parameter 'device': expected a CUDA device, found none")
        torch.set_num_threads(threads)
        torch.backends.cudnn.deterministic = self._evaluation
        self._real_time = mode == "real_time"
        self._spec = self._task.agent_spec((height, width))
        try:
            base_policy = load_base_policy(kind, self._task, path or None, device=self._device)
            if base_policy.chunk_size > 1:
                # Does it fit the images? And the first pass is slow.
                base_policy.predict_chunk(blank_observation(self._spec))
        except BasePolicyError as error:
            raise ConfigurationError(f"parameter 'base_policy': {error}") from error
        self._identity = base_policy.identity
        self._schedule = ChunkSchedule.fitting(base_policy.chunk_size, replan_interval, lead)
        # One thread each: a chunk must not wait while weights are read.
        self._chunk_worker = ThreadPoolExecutor(1, "chunks")
        self._weights_worker = ThreadPoolExecutor(1, "weights")
        self._base = ChunkedBase(
            base_policy, self._schedule, self._task.action_dim, self._chunk_worker
        )

        self._residual: ResidualPolicy | None = None
        self._version = 0
        self._noise: NoiseMode = "none"
        self._announced: Announcement | None = None
        self._warm_up = False
        self._loads: deque[tuple[Announcement, Future[ResidualPolicy]]] = deque()
        self._weights_problem = ""
        if agent_config and self._use_residual and not self._evaluation:
            config = load_agent_config(agent_config)
            normaliser = Normaliser.from_spec(self._spec)
            self._residual = ResidualPolicy.initial(config, self._spec, normaliser)
            self._residual.to(self._device)
            self._noise = "warm_up"

        self._tracker = StepTracker()
        self._newest: tuple[int, Observation] | None = None
        self._state = EpisodeState()
        self._answering = False
        self._since = 0.0  # when the episode began or went on: no command was due before
        self._prepared: tuple[int, int] | None = None
        self._pending: Step | None = None
        self._pending_since = 0.0
        self._command: ActionCommand | None = None
        self._observation_error = ""
        self._action_error = ""
        self._logged = 0.0
        self._window: deque[float] = deque(maxlen=WINDOW)
        self._latencies: list[float] = []
        self._waits: list[float] = []
        self._late = 0
        self._stood_in = 0

        self._heartbeat = Heartbeat(self, "policy")
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
        self._publisher = self.create_publisher(ActionCommand, "action_command", qos.EVENT)
        # Before the sensors: what comes at the same moment is then handled in this order.
        self.create_subscription(EpisodeState, "episode_state", self._on_episode_state, qos.LATCHED)
        ObservationSynchroniser(
            self,
            self._task,
            (height, width),
            self._on_observation,
            self._on_observation_error,
            max_age,
            privileged=kind == "scripted",
            on_repeat=self._on_repeat,
            **checks,
        )
        self.create_subscription(ExecutedAction, "executed_action", self._on_executed, qos.EVENT)
        self._retry = self.create_guard_condition(self._advance)
        self._loaded = self.create_guard_condition(self._take_over)
        if self._use_residual:
            self.create_subscription(PolicyWeights, "policy_weights", self._on_weights, qos.LATCHED)
        self.create_timer(1.0, self._diagnose, clock=Clock(clock_type=ClockType.STEADY_TIME))
        if run_dir:
            folder = open_run(run_dir, self._task.name, self._task.implementation, self._identity)
            self._take_up(folder)
        self._update_heartbeat()
        self.get_logger().info(
            f"ready: task {self._task.name}, base {self._identity}, {mode}, a chunk of "
            f"{base_policy.chunk_size} for each {self._schedule.replan_interval} steps, predicted "
            f"{self._schedule.lead} ahead, "
            + ("evaluation" if self._evaluation else f"noise {self._noise}")
            + ("" if self._use_residual else ", base alone")
        )

    def close(self) -> None:
        for worker in (self._chunk_worker, self._weights_worker):
            worker.shutdown(cancel_futures=True)

    # -- episodes and observations ----------------------------------------------------------------

    def _on_episode_state(self, state: EpisodeState) -> None:
        before, self._state = self._state, state
        under_way = before.state in (EpisodeState.RUNNING, EpisodeState.PAUSED)
        if state.state == EpisodeState.RUNNING:
            if not under_way or before.episode_id != state.episode_id:
                self._begin(state)
            elif before.state == EpisodeState.PAUSED:
                self._resume()
            self._advance()
        elif state.state == EpisodeState.PAUSED:
            self._answering = False
        elif state.state == EpisodeState.RESETTING:
            self._answering = False
            # No observation from before the reset can be observation 0.
            self._tracker.clear()
            self._pending = self._command = None
        elif under_way:
            self._report(before.episode_id)
            # The terminal observation is answered too: returns bootstrap with its base action.
            ended = state.state == EpisodeState.FINISHED and state.episode_id == before.episode_id
            aborted = state.outcome == EpisodeState.OUTCOME_ABORTED
            self._answering = ended and not aborted and not self._action_error
            # A new attempt may be made, else a driver that sends nothing more would block it.
            self._observation_error = self._action_error = ""
            self._update_heartbeat()
            self._advance()

    def _begin(self, state: EpisodeState) -> None:
        self._answering = False
        self._pending = self._command = None
        self._latencies, self._waits = [], []
        self._late = self._stood_in = 0
        if state.task != self._task.name:
            self._fail(f"episode_state: expected task {self._task.name}, found {state.task!r}")
            return
        start_stamp = conversions.stamp_to_ns(state.start_stamp)
        if self._prepared != (state.episode_id, start_stamp):
            self._base.reset(state.seed)
        self._prepared = None
        self._tracker.begin(state.episode_id, start_stamp)
        if self._newest is not None and self._newest[0] == start_stamp:
            # Should it have come before the news of its reset.
            self._tracker.observation(*self._newest, time.monotonic())
        self._answering, self._since = True, time.monotonic()

    def _resume(self) -> None:
        self._answering, self._since = self._action_error == "", time.monotonic()
        if self._command is not None:
            self._publisher.publish(self._command)

    def _on_observation(self, stamp: int, observation: Observation) -> None:
        self._newest = (stamp, observation)
        self._observation_error = ""
        self._update_heartbeat()
        self._tracker.observation(stamp, observation, time.monotonic())
        if self._state.state == EpisodeState.RESETTING:
            # Most likely observation 0: its chunk can be under way before the episode runs.
            self._base.reset(self._state.seed)
            self._base.observe(0, observation)
            self._prepared = (self._state.episode_id, stamp)
        self._advance()

    def _on_repeat(self, stamp: int) -> None:
        """The driver waits: it may have missed the command, or this node the first time."""
        self._observation_error = ""
        self._update_heartbeat()
        if not self._answering:
            return
        command = self._command
        if command is not None and conversions.stamp_to_ns(command.header.stamp) == stamp:
            self._publisher.publish(command)
        elif self._newest is not None and self._newest[0] == stamp and self._pending is None:
            self._tracker.observation(*self._newest, time.monotonic())
            self._advance()

    def _on_observation_error(self, text: str) -> None:
        # At once when it was well before, else not with each observation.
        now = time.monotonic()
        if not self._observation_error or now > self._logged + 1.0:
            self.get_logger().error(f"{text}; no command until this is mended")
            self._logged = now
        self._observation_error = text
        self._update_heartbeat()

    def _on_executed(self, message: ExecutedAction) -> None:
        if message.episode_id:
            stamp = conversions.stamp_to_ns(message.header.stamp)
            self._tracker.executed(message.episode_id, message.step, stamp)
            self._advance()

    # -- one step ---------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Answer the observations that wait, in order."""
        while self._answering:
            if self._pending is None:
                self._pending = self._tracker.next()
                if self._pending is None:
                    return
                self._pending_since = time.monotonic()
                self._base.observe(self._pending.index, self._pending.observation)
            step = self._pending
            try:
                self._answer(step)
            except LateChunkError as error:
                if not self._real_time:
                    self._retry.trigger()
                    return
                self._late += 1
                self.get_logger().warning(f"episode {self._state.episode_id}: {error}; no command")
            except (BasePolicyError, ValueError) as error:
                self._fail(f"episode {self._state.episode_id}, step {step.index}: {error}")
            self._pending = None

    def _answer(self, step: Step) -> None:
        since = max(step.arrival, self._since)
        passed = time.monotonic() - since
        timeout = max(0.0, self._deadline - passed) if self._real_time else WAIT_SLICE
        base = self._base.action(step.index, timeout, fall_back=self._real_time)
        self._waits.append(time.monotonic() - self._pending_since)
        self._stood_in += base.source != self._schedule.source(step.index)
        episode_id = self._state.episode_id
        residual, action = residual_action(
            self._residual,
            self._spec,
            step.observation,
            base.action,
            self._noise,
            noise_generator(self._seed, episode_id, step.index),
        )
        command = ActionCommand(
            episode_id=episode_id,
            step=step.index,
            policy_version=self._version,
            base_action=base.action.tolist(),
            residual_action=residual.tolist(),
            action=action.tolist(),
            residual_norm=float(np.linalg.norm(residual)),
        )
        command.header.stamp = conversions.ns_to_stamp(step.stamp)
        latency = command.latency = time.monotonic() - since
        self._publisher.publish(command)
        self._command = command
        self._latencies.append(latency)
        self._window.append(latency)

    def _fail(self, text: str) -> None:
        """Hold until the next episode."""
        self._answering = False
        self._action_error = text
        self.get_logger().error(f"{text}; no command until the next episode")
        self._update_heartbeat()

    # -- weights ----------------------------------------------------------------------------------

    def _take_up(self, folder: Path) -> None:
        """Begin with the newest weights of the run, should no learner be there to announce them."""
        if not self._use_residual:
            return
        newest = newest_publication(folder / "weights", self._task, self._spec, self._identity)
        if newest is not None:
            self._load(Announcement(newest.version, str(newest.path), newest.sha256))

    def _on_weights(self, message: PolicyWeights) -> None:
        if message.task != self._task.name:
            self._refuse_weights(
                f"policy_weights: expected task {self._task.name}, found {message.task!r}"
            )
            return
        self._warm_up = message.warm_up
        announcement = Announcement(message.version, message.path, message.sha256)
        if announcement != self._announced:
            self._load(announcement)
        elif not self._loads:
            self._set_noise()

    def _load(self, announcement: Announcement) -> None:
        self._announced = announcement
        future = self._weights_worker.submit(
            load_announced, announcement, self._task, self._spec, self._identity, self._device
        )
        self._loads.append((announcement, future))
        future.add_done_callback(lambda _: self._loaded.trigger())

    def _take_over(self) -> None:
        """Swap weights that were loaded. Runs between steps, as all callbacks of this node do."""
        while self._loads and self._loads[0][1].done():
            announcement, future = self._loads.popleft()
            try:
                policy = future.result()
            except PolicyFileError as error:
                self._refuse_weights(str(error))
                continue
            self._residual, self._version = policy, announcement.version
            self._weights_problem = ""
            self._set_noise()
            self._update_heartbeat()
            when = "between episodes"
            if self._state.state == EpisodeState.RUNNING and self._command is not None:
                when = f"at step {self._command.step + 1} of episode {self._state.episode_id}"
            self.get_logger().info(
                f"weights version {self._version} taken over {when}, noise {self._noise}"
            )

    def _refuse_weights(self, text: str) -> None:
        self._weights_problem = f"weights refused, version {self._version} goes on: {text}"
        self.get_logger().error(self._weights_problem)
        self._update_heartbeat()

    def _set_noise(self) -> None:
        if not self._evaluation:
            self._noise = "warm_up" if self._warm_up else "explore"

    # -- what others learn of this node -----------------------------------------------------------

    def _update_heartbeat(self) -> None:
        if error := self._observation_error or self._action_error:
            self._heartbeat.set(NodeHeartbeat.ERROR, error)
        else:
            self._heartbeat.set(NodeHeartbeat.READY, self._weights_problem)

    def _report(self, episode_id: int) -> None:
        """One line on the episode that ended."""
        latency, wait = milliseconds(self._latencies), milliseconds(self._waits)
        self.get_logger().info(
            f"episode {episode_id}: {len(self._latencies)} commands; observation to command "
            f"p50 {latency['p50']} ms, p99 {latency['p99']} ms, max {latency['max']} ms; wait for "
            f"chunks p50 {wait['p50']} ms, max {wait['max']} ms; {self._late} late, "
            f"{self._stood_in} from the chunk before; weights version {self._version}"
        )

    def _diagnose(self) -> None:
        level, text = DiagnosticStatus.OK, "ready"
        if error := self._observation_error or self._action_error:
            level, text = DiagnosticStatus.ERROR, error
        elif self._weights_problem:
            level, text = DiagnosticStatus.WARN, self._weights_problem
        wait = milliseconds(self._waits)
        values: dict[str, object] = {
            f"latency_ms_{name}": value for name, value in milliseconds(self._window).items()
        }
        values |= {
            "chunk_wait_ms_p50": wait["p50"],
            "chunk_wait_ms_max": wait["max"],
            "late": self._late,
            "from_the_chunk_before": self._stood_in,
            "policy_version": self._version,
            "noise": self._noise,
            "episode": self._state.episode_id,
            "commands": len(self._latencies),
            "base_policy": self._identity,
        }
        now, name = self.get_clock().now().to_msg(), self.get_fully_qualified_name()
        self._diagnostics.publish(conversions.diagnostics(now, name, level, text, values))


def main() -> int:
    return run_node(Policy)


if __name__ == "__main__":
    sys.exit(main())
