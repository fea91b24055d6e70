"""Node `learner`: learns from stored episodes while the next one is collected."""

import math
import os
import queue
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from resfit_interfaces.msg import EpisodeStored, LearnerStatus, NodeHeartbeat, PolicyWeights
from resfit_rl.agent import DivergedError, load_agent_config
from resfit_rl.base_policies import BASE_POLICIES, BasePolicyError, base_policy_identity
from resfit_rl.control import ChunkSchedule
from resfit_rl.episode_store import Episode, claim_role, open_run
from resfit_rl.learning import CheckpointError, Learner, LearningLoop, Publication
from resfit_rl.tasks import get_task
from resfit_ros import qos
from resfit_ros.conversions import diagnostics
from resfit_ros.heartbeat import Heartbeat
from resfit_ros.parameters import ConfigurationError, declare
from resfit_ros.run import ExitRequest, run_node

BURST = 0.25  # s of updates between looks at what else is to be done
RETRY_PERIOD = 2.0  # s
IDLE_PERIOD = 1.0  # s between looks into the store, whatever is announced


class _Stopped(Exception):
    """The node is to end."""


class LearnerNode(Node):
    """The executor's thread speaks; a worker thread, which alone touches the learner, learns."""

    def __init__(self) -> None:
        super().__init__("learner")
        self._task = get_task(declare(self, "task", str, "task, for example square"))
        run_dir = declare(self, "run_dir", str, "run directory, made if it is not there")
        config_path = declare(self, "agent_config", str, "YAML file of the agent's hyperparameters")
        self._base_policy = declare(
            self,
            "base_policy",
            "act",
            "kind of the base policy that acts",
            choices=BASE_POLICIES,
        )
        self._base_policy_path = declare(
            self, "base_policy_path", "", "its folder or file; '' for scripted"
        )
        self._demonstrations = declare(
            self, "demonstrations", "", "data set of demonstrations; '' or 'none' for none"
        )
        self._demonstrations_wait = declare(
            self,
            "demonstrations_wait",
            0.0,
            "s to wait for the data set where it is not there yet",
            range=(0.0, 86400.0),
        )
        replan = declare(
            self, "replan_interval", 10, "steps of a base action chunk, as the policy's",
            range=(1, 1000),
        )  # fmt: skip
        lead = declare(
            self, "lead", 5, "steps a chunk is predicted ahead, as the policy's", range=(0, 999)
        )
        self._device = declare(
            self, "device", "cpu", "where networks are trained", choices=("cpu", "cuda")
        )
        self._threads = declare(self, "threads", 1, "CPU threads of an update", range=(1, 256))
        self._niceness = declare(
            self, "niceness", 10, "added to the scheduling niceness of the updates", range=(0, 19)
        )
        self._seed = declare(self, "seed", 0, "of networks and sampling", range=(0, 2**31 - 1))
        width = declare(self, "image_width", 84, "width of every camera, pixels", range=(16, 4096))
        height = declare(
            self, "image_height", 84, "height of every camera, pixels", range=(16, 4096)
        )
        self._publish_every = declare(
            self,
            "publish_every_updates",
            200,
            "updates after which weights are published while more are owed; also when none is",
            range=(1, 10**9),
        )
        self._checkpoint_period = declare(
            self,
            "checkpoint_period",
            60.0,
            "s between checkpoints while updates are owed; also when none is",
            range=(1.0, 1e6),
        )
        if self._device == "cuda" and not torch.cuda.is_available():
            raise ConfigurationError("parameter 'device': expected a CUDA device, found none")
        self._image_size = (height, width)
        self._config = load_agent_config(config_path)
        self._spec = self._task.agent_spec(self._image_size)
        self._schedule = ChunkSchedule(replan, lead)
        if self._demonstrations == "none":
            self._demonstrations = ""
        if self._demonstrations and self._base_policy == "scripted":
            self.get_logger().warning(
                "demonstrations are not used: they hold no privileged poses, without which the "
                "scripted base policy gives no actions"
            )
            self._demonstrations = ""
        try:
            self._identity = base_policy_identity(
                self._base_policy, self._task, self._base_policy_path or None
            )
        except BasePolicyError as error:
            raise ConfigurationError(str(error)) from error
        self._run_dir = open_run(
            run_dir, self._task.name, self._task.implementation, self._identity
        )
        self._claim = claim_role(self._run_dir, "learner")

        self._heartbeat = Heartbeat(self, "learner")
        self._weights_publisher = self.create_publisher(
            PolicyWeights, "policy_weights", qos.LATCHED
        )
        self._status_publisher = self.create_publisher(LearnerStatus, "learner_status", qos.LATCHED)
        self._diagnostics_publisher = self.create_publisher(
            DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS
        )
        self.create_subscription(
            EpisodeStored, "episode_stored", lambda message: self._wake.set(), qos.EVENT
        )
        self.create_service(
            Trigger,
            "~/save_checkpoint",
            self._on_save_checkpoint,
            # Its own: while it waits for the worker, the timers must run.
            callback_group=MutuallyExclusiveCallbackGroup(),
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.05, self._run_posted, clock=steady)
        self.create_timer(1.0, self._publish_periodically, clock=steady)

        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: self.get_logger().warning(str(message))
        self._status = _loading_status("")
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._save_requests: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._worker = threading.Thread(target=self._work, name="updates", daemon=True)
        self._worker.start()

    def close(self) -> None:
        """Let the worker end its burst and save a checkpoint."""
        self._stop.set()
        self._wake.set()
        self._worker.join(timeout=60.0)
        self._claim.close()

    # -- the executor's thread ----------------------------------------------------------------

    def _run_posted(self) -> None:
        while not self._posted.empty():
            self._posted.get()()

    async def _on_save_checkpoint(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        if self._heartbeat.state == NodeHeartbeat.STARTING:
            response.message = "not yet: still loading"
            return response
        future = Future()
        self._save_requests.put(future)
        self._wake.set()
        response.success, response.message = await future
        return response

    def _publish_periodically(self) -> None:
        self._publish_status(self._status)
        error = self._heartbeat.state == NodeHeartbeat.ERROR
        status = self._status
        self._diagnostics_publisher.publish(
            diagnostics(
                self.get_clock().now().to_msg(),
                self.get_fully_qualified_name(),
                DiagnosticStatus.ERROR if error else DiagnosticStatus.OK,
                status.message or status.phase,
                {
                    "phase": status.phase,
                    "version": status.policy_version,
                    "updates": status.updates,
                    "updates owed": status.updates_owed,
                    "updates per second": f"{status.updates_per_second:.1f}",
                },
            )
        )

    def _publish_status(self, status: LearnerStatus) -> None:
        self._status = status
        status.header.stamp = self.get_clock().now().to_msg()
        self._status_publisher.publish(status)

    def _publish_weights(self, publication: Publication, warm_up: bool) -> None:
        message = PolicyWeights(
            version=publication.version,
            task=self._task.name,
            path=str(publication.path),
            sha256=publication.sha256,
            size_bytes=publication.size_bytes,
            warm_up=warm_up,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._weights_publisher.publish(message)

    def _give_up(self, error: Exception) -> None:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise ExitRequest(1)

    # -- the worker's thread ------------------------------------------------------------------

    def _work(self) -> None:
        # On Linux niceness is a thread's own: the heartbeat keeps its priority.
        os.nice(self._niceness)
        torch.set_num_threads(self._threads)
        try:
            learner = self._load()
        except _Stopped:
            return
        except Exception as error:
            if not isinstance(error, ValueError | OSError | BasePolicyError | CheckpointError):
                traceback.print_exc()
            failure = error
            self._posted.put(lambda: self._give_up(failure))
            return
        loop = LearningLoop(
            learner,
            publish_every=self._publish_every,
            checkpoint_period=self._checkpoint_period,
            on_publication=lambda publication, warm_up: self._posted.put(
                lambda: self._publish_weights(publication, warm_up)
            ),
            log=self.get_logger().info,
        )
        self._report(loop)
        try:
            self._run(loop)
        except Exception as error:
            self._fail(loop, error)

    def _run(self, loop: LearningLoop) -> None:
        problem = ""
        while not self._stop.is_set():
            try:
                while not self._save_requests.empty():
                    self._answer(self._save_requests.get(), loop)
                more = loop.step(BURST)
                problem = ""
            except OSError as error:
                if str(error) != problem:
                    self.get_logger().error(f"{error}; trying again each {RETRY_PERIOD:.0f} s")
                problem = str(error)
                more = False
            self._report(loop, problem)
            if not more:
                self._wake.wait(RETRY_PERIOD if problem else IDLE_PERIOD)
                self._wake.clear()
        self.get_logger().info(f"saved {loop.save()}")

    def _answer(self, request: Future, loop: LearningLoop) -> None:
        try:
            self._resolve(request, True, str(loop.save()))
        except (OSError, DivergedError) as error:
            self._resolve(request, False, str(error))

    def _resolve(self, request: Future, success: bool, message: str) -> None:
        self._posted.put(lambda: request.set_result((success, message)))

    def _load(self) -> Learner:
        offline: list[Episode] = []
        start = time.monotonic()
        if self._demonstrations:
            self._wait_for_demonstrations(start + self._demonstrations_wait)
            # Loads LeRobot and the base policy: only where it is needed.
            from resfit_rl.learning.demonstrations import relabelled_demonstrations

            offline = relabelled_demonstrations(
                Path(self._demonstrations),
                self._task,
                self._image_size,
                self._base_policy,
                self._base_policy_path,
                self._schedule,
                self._run_dir / "base_actions",
                self._device,
                self._config.offline_episodes,
                self._on_progress,
            )
        learner = Learner(
            self._run_dir,
            self._task,
            self._identity,
            self._config,
            self._spec,
            offline,
            self._seed,
            self._device,
        )
        self.get_logger().info(
            f"{len(offline)} demonstrations, {learner.buffer.offline_transitions} transitions, "
            f"loaded in {time.monotonic() - start:.1f} s"
        )
        checkpoint = learner.resume()
        if checkpoint is not None:
            self.get_logger().info(
                f"resumed from {checkpoint}: {learner.updates} updates, "
                f"{len(learner.episode_ids)} episodes, {learner.environment_steps} steps"
            )
        return learner

    def _wait_for_demonstrations(self, deadline: float) -> None:
        """Until the data set is there (it appears whole) or the deadline, s of the steady clock."""
        waiting = False
        status = _loading_status(f"waiting for {self._demonstrations}")
        while not Path(self._demonstrations).exists() and time.monotonic() < deadline:
            if not waiting:
                self.get_logger().info(f"waiting for demonstrations at {self._demonstrations}")
                waiting = True
                self._posted.put(lambda: self._publish_status(status))
            if self._stop.wait(0.5):
                raise _Stopped

    def _on_progress(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise _Stopped
        status = _loading_status(f"base actions of {done} of {total} demonstrations")
        self._posted.put(lambda: self._publish_status(status))

    def _report(self, loop: LearningLoop, problem: str = "") -> None:
        status = _status(loop, problem)
        state = NodeHeartbeat.ERROR if problem else NodeHeartbeat.READY

        def publish() -> None:
            self._publish_status(status)
            self._heartbeat.set(state, problem)

        self._posted.put(publish)

    def _fail(self, loop: LearningLoop, error: Exception) -> None:
        """Stay alive and say why nothing more is learned; the published weights stay."""
        problem = f"learning stopped: {type(error).__name__}: {error}"
        self.get_logger().error(problem)
        if not isinstance(error, DivergedError):
            traceback.print_exc()
        self._report(loop, problem)
        while not self._stop.is_set():
            while not self._save_requests.empty():
                self._resolve(self._save_requests.get(), False, problem)
            self._wake.wait()
            self._wake.clear()


def _status(loop: LearningLoop, problem: str) -> LearnerStatus:
    learner = loop.learner
    return LearnerStatus(
        phase="error" if problem else learner.phase,
        policy_version=learner.version,
        environment_steps=learner.environment_steps,
        updates=learner.updates,
        updates_owed=learner.updates_owed,
        episodes=len(learner.episode_ids),
        updates_per_second=loop.updates_per_second,
        critic_loss=learner.metrics.get("critic_loss", math.nan),
        actor_loss=learner.metrics.get("actor_loss", math.nan),
        q_mean=learner.metrics.get("q_mean", math.nan),
        residual_norm=learner.metrics.get("residual_norm", math.nan),
        message=problem,
    )


def _loading_status(message: str) -> LearnerStatus:
    nothing = dict.fromkeys(
        ("updates_per_second", "critic_loss", "actor_loss", "q_mean", "residual_norm"), math.nan
    )
    return LearnerStatus(phase="loading_demonstrations", message=message, **nothing)


def main() -> int:
    return run_node(LearnerNode)


if __name__ == "__main__":
    sys.exit(main())
