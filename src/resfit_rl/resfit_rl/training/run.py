"""One training run: who collects what with which weights, and when it is evaluated."""

from __future__ import annotations

import json
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from resfit_rl.agent import DivergedError, save_policy
from resfit_rl.agent.speed import Speed
from resfit_rl.base_policies import base_policy_identity
from resfit_rl.control import ChunkSchedule
from resfit_rl.episode_store import (
    CorruptEpisodeError,
    Episode,
    EpisodeStore,
    claim_role,
    open_run,
)
from resfit_rl.episode_store.atomic_file import remove_leftovers, write_atomically
from resfit_rl.episode_store.store import read_header
from resfit_rl.evaluation import Candidate
from resfit_rl.learning import Learner, LearningLoop, Publication
from resfit_rl.learning.announcement import Announcement
from resfit_rl.tasks import get_task
from resfit_rl.training import time_shares
from resfit_rl.training.collector import Assignment, CollectorSettings
from resfit_rl.training.collectors import CollectorProcesses, Collectors, OwnCollector
from resfit_rl.training.curves import Curves
from resfit_rl.training.evaluations import EvaluationJob, Evaluator
from resfit_rl.training.progress import RECENT_EPISODES, Progress
from resfit_rl.training.scores import read_scores, write_scores
from resfit_rl.training.settings import Settings, agent_config, claim_settings
from resfit_rl.training.time_shares import TimeShares
from resfit_rl.training.weights_log import WeightsLog

BURST = 0.25  # s of updates between looks at what else is to be done
RETRY_PERIOD = 2.0  # s, between attempts to write to a full disk
PROGRESS_PERIOD = 10.0  # s between lines of progress, at least
IDLE_PERIOD = 0.5  # s between looks at signals and evaluations
TIME_FILE = "time_shares.json"
# Weights are published when an episode is learned from: it acts with one version throughout.
_NEVER = 10**12


class TrainingRun:
    """The learner, in this process, and what it needs from the others.

    Episode n acts with the weights learned from all episodes but the `ahead` before it, whatever
    the machine's speed. So with one environment a run is a function of its settings, on a CPU bit
    for bit, also one that was killed and went on.

    Args:
        config_file: hyperparameters in place of the task's own file; see agent_config.
        log: called with each line for the user.

    Raises:
        RunError, ValueError, BasePolicyError, OSError: it cannot begin.
    """

    def __init__(
        self, settings: Settings, config_file: Path | None, log: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._log = log
        self._config = agent_config(settings.agent, settings.task, config_file)
        self._target = min(settings.steps or self._config.total_steps, self._config.total_steps)
        self._task = get_task(settings.task)
        self._base_policy = base_policy_identity(
            settings.base_policy, self._task, settings.base_policy_path
        )
        self._run_dir = open_run(
            settings.run_dir, self._task.name, self._task.implementation, self._base_policy
        )
        self._open = ExitStack()
        for role in ("learner", "recorder"):
            self._open.enter_context(claim_role(self._run_dir, role))
        claim_settings(settings)
        self._store = EpisodeStore(self._run_dir)
        self._evaluation_dir = self._run_dir / "evaluations"
        for folder in (self._run_dir, self._store.folder, self._evaluation_dir):
            remove_leftovers(folder)
        self._weights_log = WeightsLog(self._run_dir, settings.ahead)
        self._scores = read_scores(self._run_dir)
        self._earlier = _read_time(self._run_dir / TIME_FILE)
        self._time = TimeShares()
        # What this process does while an episode is collected.
        self._collecting = "waiting" if settings.overlap else "collection"
        self._newest: Announcement | None = None
        self._unlearned: list[int] = []  # ids that are stored and not taken in
        self._settled_at = -1  # episodes seen when what follows them was last done
        self._printed = 0.0
        self._problem = ""
        self._unwritten = False
        self._stopping = False

    def run(self) -> bool:
        """Train until the last step is learned from and evaluated; False when stopped before.

        Raises:
            CollectionError, EvaluationError: it cannot go on; what was learned is saved.
            DivergedError: it cannot go on; the last checkpoint is from before.
            BasePolicyError, CheckpointError, ValueError, OSError: it cannot begin.
        """
        settings = self._settings
        torch.set_num_threads(settings.threads)
        with self._open, warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_: self._log(f"warning: {message}")
            # First: their processes start while the demonstrations are read.
            self._collectors = self._open_collectors()
            self._open.callback(lambda: self._collectors.close())
            with self._time.measure("loading"):
                self._loop = self._load()
            self._evaluator = self._make_evaluator()
            self._open.callback(lambda: self._evaluator.close())
            self._curves = Curves(
                self._run_dir,
                self._learner.environment_steps,
                self._settings.wandb,
                self._config.as_dict() | {"agent": settings.agent, "seed": settings.seed},
            )
            self._open.callback(self._curves.close)
            with _stop_signals(self._stop):
                try:
                    self._train()
                except Exception:
                    self._save_if_possible()
                    raise
                self._log(f"saved {self._loop.save()}")
            self._write_time()
            self._log(time_shares.table(self._shares()))
        return not self._stopping

    @property
    def _learner(self) -> Learner:
        return self._loop.learner

    def _stop(self) -> None:
        self._stopping = True
        self._log("stopping; once more to end without saving")

    # -- beginning ----------------------------------------------------------------------------

    def _open_collectors(self) -> Collectors:
        settings = self._settings
        collector = CollectorSettings(
            task=settings.task,
            base_policy=settings.base_policy,
            base_policy_path=settings.base_policy_path,
            replan_interval=settings.replan_interval,
            lead=settings.lead,
            image_size=settings.image_size,
            max_steps=settings.max_steps,
            seed=settings.seed,
            device=settings.collector_device,
            threads=settings.threads,
        )
        if not settings.overlap:
            return OwnCollector(collector, self._run_dir, self._log)
        return CollectorProcesses(collector, self._run_dir, settings.environments, self._log)

    def _load(self) -> LearningLoop:
        settings = self._settings
        start = time.monotonic()
        offline: list[Episode] = []
        if settings.demonstrations is not None:
            # Loads LeRobot and the base policy: only where it is needed.
            from resfit_rl.learning.demonstrations import relabelled_demonstrations

            offline = relabelled_demonstrations(
                settings.demonstrations,
                self._task,
                settings.image_size,
                settings.base_policy,
                settings.base_policy_path,
                ChunkSchedule(settings.replan_interval, settings.lead),
                settings.base_actions,
                settings.device,
                self._config.offline_episodes,
                self._on_relabelled,
            )
        learner = Learner(
            self._run_dir,
            self._task,
            self._base_policy,
            self._config,
            self._task.agent_spec(settings.image_size),
            offline,
            settings.seed,
            settings.device,
            # Collectors may be about to read some that are older than the newest.
            keep_weights=settings.ahead + 5,
            speed=None if settings.speed_ups else Speed(False, False, False),
        )
        self._log(
            f"{len(offline)} demonstrations, {learner.buffer.offline_transitions} transitions, "
            f"loaded in {time.monotonic() - start:.1f} s"
        )
        if (checkpoint := learner.resume()) is not None:
            self._log(
                f"resumed from {checkpoint}: {learner.updates:,} updates, "
                f"{len(learner.episode_ids):,} episodes, {learner.environment_steps:,} steps"
            )
        stored = self._store.ids()
        self._unlearned = [i for i in stored if not learner.has_seen(i)]
        if self._unlearned:
            self._log(f"{len(self._unlearned)} stored episodes are still to be learned from")
        self._next_id = self._store.next_id()
        self._progress = Progress(self._target, self._recent_success(stored))
        return LearningLoop(
            learner,
            publish_every=_NEVER,
            checkpoint_period=settings.checkpoint_period,
            save_when_done=False,
            on_publication=self._on_publication,
            log=self._log if settings.verbose else lambda line: None,
        )

    def _make_evaluator(self) -> Evaluator:
        settings = self._settings
        first = settings.evaluation_seed
        evaluator = Evaluator(
            Candidate(
                task=settings.task,
                policy=settings.base_policy,
                path=settings.base_policy_path,
                device=settings.collector_device,
                replan_interval=settings.replan_interval,
                lead=settings.lead,
                max_steps=settings.max_steps,
                image_size=settings.image_size,
            ),
            range(first, first + settings.evaluation_episodes),
            settings.evaluation_workers,
            self._log,
        )
        if settings.evaluate_every:
            known = {score.milestone for score in self._scores}
            if 0 not in known:
                evaluator.add(EvaluationJob(0, 0, 0, None))
            for path in sorted(self._evaluation_dir.glob("step_*.json")):
                # Begun and not finished.
                values = json.loads(path.read_text(encoding="utf-8"))
                if values["milestone"] not in known:
                    weights = path.with_suffix(".safetensors")
                    evaluator.add(EvaluationJob(**values, weights=weights))
        return evaluator

    def _on_relabelled(self, done: int, total: int) -> None:
        if time.monotonic() - self._printed >= PROGRESS_PERIOD:
            self._printed = time.monotonic()
            self._log(f"base actions of {done} of {total} demonstrations")

    def _recent_success(self, stored: list[int]) -> Iterator[bool]:
        for episode_id in stored[-RECENT_EPISODES:]:
            try:
                yield read_header(self._store.path(episode_id)).outcome == "success"
            except CorruptEpisodeError:
                continue  # The learner moves it aside and says so.

    # -- the loop -----------------------------------------------------------------------------

    def _train(self) -> None:
        while not self._stopping:
            self._take_episodes(0.0)
            self._take_scores()
            try:
                if self._loop.settled:
                    self._when_settled()
                done = self._loop.settled and self._learner.environment_steps >= self._target
                if done and not self._evaluator.pending and not self._unwritten:
                    return
                if done:
                    self._collectors.close()
                if not (done or (self._settings.evaluation_waits and self._evaluator.pending)):
                    self._assign()
                    if self._learn():
                        continue
                self._problem = ""
            except OSError as error:
                self._retry_later(error)
                continue
            self._print_progress()
            if not self._take_episodes(IDLE_PERIOD) and not self._collectors.in_flight:
                with self._time.measure("waiting"):
                    time.sleep(IDLE_PERIOD)

    def _learn(self) -> bool:
        """Do one piece of the learner's work; False when it waits for an episode."""
        updates = self._learner.updates
        # In the order of their ids, whichever collector is faster.
        first = min(self._collectors.in_flight, default=self._next_id)
        start = time.monotonic()
        more = self._loop.step(BURST, first - 1)
        activity = "update" if self._learner.updates > updates else "transfer"
        self._time.add(activity, time.monotonic() - start)
        self._print_progress()
        return more

    def _assign(self) -> None:
        """Have episodes collected, as many as may be under way."""
        learner, ahead = self._learner, self._settings.ahead
        self._unlearned = [
            i for i in self._unlearned
            if not learner.has_seen(i) and self._store.path(i).exists()
        ]  # fmt: skip
        while self._collectors.free and learner.environment_steps < self._target:
            begun = len(self._unlearned) + len(self._collectors.in_flight)
            if begun + (not self._loop.settled) > ahead or not self._weights_log:
                return
            number = learner.episodes_seen + begun
            weights, warm_up = self._weights_log.at(number - ahead)
            episode_id, self._next_id = self._next_id, self._next_id + 1
            with self._time.measure(self._collecting):
                self._collectors.assign(Assignment(episode_id, weights, warm_up))

    def _take_episodes(self, timeout: float) -> int:
        with self._time.measure(self._collecting):
            taken = self._collectors.take(timeout)
        for episode in taken:
            self._unlearned.append(episode.episode_id)
            self._progress.episode(episode.outcome == "success")
        return len(taken)

    def _when_settled(self) -> None:
        """Once for each episode, when all is learned from it."""
        learner = self._learner
        seen = learner.episodes_seen
        if seen == self._settled_at or self._newest is None:
            return
        # The newest weights on disk may be ahead of the checkpoint that a run goes on from.
        if self._settled_at >= 0 or seen not in self._weights_log:
            self._weights_log.add(seen, self._newest, learner.warm_up)
        self._evaluate_if_due()
        self._settled_at = seen
        self._progress.point(learner.environment_steps, learner.updates)
        steps_rate, updates_rate = self._progress.rates()
        self._curves.add(
            learner.environment_steps,
            {f"learner/{name}": value for name, value in learner.metrics.items()}
            | {"collection/success": self._progress.success, "collection/episodes": seen}
            | {"speed/steps_per_s": steps_rate, "speed/updates_per_s": updates_rate},
        )

    # -- evaluations --------------------------------------------------------------------------

    def _evaluate_if_due(self) -> None:
        """Keep the weights of a step to evaluate, before anything else is learned."""
        learner, every = self._learner, self._settings.evaluate_every
        steps = learner.environment_steps
        if not every:
            return
        milestone = self._target if steps >= self._target else steps // every * every
        weights = self._evaluation_dir / f"step_{milestone:09d}.safetensors"
        if not milestone or weights.with_suffix(".json").exists():
            return
        save_policy(
            learner.agent.policy(), weights, learner.version, self._task.name,
            self._task.implementation, self._base_policy,
        )  # fmt: skip
        job = {"milestone": milestone, "environment_steps": steps, "updates": learner.updates}
        write_atomically(weights.with_suffix(".json"), (json.dumps(job) + "\n").encode())
        self._evaluator.add(EvaluationJob(**job, weights=weights))

    def _take_scores(self) -> None:
        for score in self._evaluator.take():
            low, high = score.interval
            self._log(
                f"evaluation at {score.environment_steps:,} steps"
                f"{' (base policy)' if score.policy == 'base' else ''}: success "
                f"{score.successes}/{score.episodes} = {score.success:.3f} "
                f"({low:.3f} to {high:.3f}), {score.seconds:.0f} s"
            )
            self._scores = sorted([*self._scores, score], key=lambda s: s.environment_steps)
            self._curves.add(score.environment_steps, {"evaluation/success": score.success})
            self._unwritten = True
        if self._unwritten:
            try:
                settings = self._settings
                write_scores(
                    self._run_dir, self._scores,
                    f"{settings.task}, {settings.agent}, seed {settings.seed}",
                )  # fmt: skip
                self._write_time()
                self._unwritten = False
            except OSError as error:
                self._retry_later(error)

    # -- telling ------------------------------------------------------------------------------

    def _on_publication(self, publication: Publication, warm_up: bool) -> None:
        self._newest = Announcement(publication.version, str(publication.path), publication.sha256)

    def _print_progress(self) -> None:
        now = time.monotonic()
        if now - self._printed < PROGRESS_PERIOD:
            return
        self._printed = now
        learner = self._learner
        self._progress.point(learner.environment_steps, learner.updates)
        line = self._progress.line(
            learner.phase,
            learner.environment_steps,
            learner.updates,
            learner.agent.updates_owed(self._target, learner.buffer),
        )
        if under_way := self._evaluator.under_way:
            line += f"  [{under_way}]"
        self._log(line)

    def _retry_later(self, error: OSError) -> None:
        if str(error) != self._problem:
            self._log(f"{error}; trying again each {RETRY_PERIOD:.0f} s")
        self._problem = str(error)
        time.sleep(RETRY_PERIOD)

    def _save_if_possible(self) -> None:
        try:
            self._log(f"saved {self._loop.save()}")
        except (OSError, DivergedError) as error:
            self._log(f"not saved: {error}")

    def _shares(self) -> dict[str, dict[str, float]]:
        """Of this session, by process."""
        learner = self._time.seconds()
        collector = self._collectors.seconds()
        if self._settings.overlap:
            return {"learner": learner, "collector": collector}
        # One process: what collecting took is told in detail.
        detail = {a: s for a, s in collector.items() if a not in ("waiting", "other", "all")}
        rest = learner.pop("collection", 0.0) - sum(detail.values())
        both = time_shares.added({"": learner}, {"": detail | {"other": rest}})[""]
        return {"one process": both}

    def _write_time(self) -> None:
        values = time_shares.added(self._earlier, self._shares())
        write_atomically(self._run_dir / TIME_FILE, (json.dumps(values, indent=1) + "\n").encode())


def _read_time(path: Path) -> dict[str, dict[str, float]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(p): {str(a): float(s) for a, s in own.items()} for p, own in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


@contextmanager
def _stop_signals(stop: Callable[[], None]) -> Iterator[None]:
    """The first SIGINT or SIGTERM calls `stop`, the second raises KeyboardInterrupt."""
    asked = False

    def handle(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
