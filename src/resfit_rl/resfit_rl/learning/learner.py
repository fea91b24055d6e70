"""What the learner does, one piece at a time."""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from resfit_rl.agent.agent import DivergedError
from resfit_rl.agent.algorithms import make_agent
from resfit_rl.agent.config import AgentConfig
from resfit_rl.agent.normaliser import Normaliser
from resfit_rl.agent.residual_policy import PolicyFileError
from resfit_rl.agent.spec import AgentSpec
from resfit_rl.agent.speed import Speed
from resfit_rl.episode_store import CorruptEpisodeError, Episode, EpisodeStore
from resfit_rl.episode_store.atomic_file import remove_leftovers
from resfit_rl.learning.checkpoint import CheckpointError, read_newest_checkpoint, write_checkpoint
from resfit_rl.learning.publication import (
    KEEP,
    Publication,
    newest_publication,
    newest_version,
    publish,
)
from resfit_rl.replay import ReplayBuffer
from resfit_rl.tasks import Task

# The random numbers of a block are drawn while the GPU works on the one before.
BLOCKS_AT_ONCE = 16
Phase = Literal["warm_up", "critic_warm_up", "learning", "waiting", "error"]


class Learner:
    """Agent, replay buffer and their files in one run directory.

    An episode is to be taken in only when no update is owed. Then what is learned is a function of
    the stored episodes and the seed alone, however fast they were collected and wherever the
    learner was stopped and resumed.

    Attributes:
        environment_steps: transitions taken in over the run's life.
        episode_ids: episodes taken in, in order.
        version: newest version of the weights; 0 before the first.
        published_updates: updates made when it was published.
        metrics: of the newest update that gave each of them; see the agent's `update`.
    """

    def __init__(
        self,
        run_dir: Path,
        task: Task,
        base_policy: str,
        config: AgentConfig,
        spec: AgentSpec,
        offline: Sequence[Episode],
        seed: int,
        device: torch.device | str = "cpu",
        keep_weights: int = KEEP,
        speed: Speed | None = None,
    ) -> None:
        """
        Args:
            run_dir: absolute.
            base_policy: its identity.
            offline: demonstrations with base actions; with none the action limits of the robot
                scale the actions, and the state stays as it is.
            keep_weights: versions of the weights that stay on disk.
            speed: see make_agent.

        Raises:
            ValueError: a demonstration that does not fit `spec`.
        """
        self._task = task
        self._base_policy = base_policy
        self._keep_weights = keep_weights
        self._weights_dir = run_dir / "weights"
        self._checkpoint_dir = run_dir / "checkpoints"
        self._store = EpisodeStore(run_dir)
        self.config = config
        normaliser = (
            Normaliser.fit([e.executed_action for e in offline], [e.state for e in offline])
            if offline
            else Normaliser.from_spec(spec)
        )
        self.agent = make_agent(config, spec, normaliser, seed, device, speed)
        at = _replay_device(self.agent.device, spec, config.buffer_capacity, offline)
        self.buffer = ReplayBuffer(
            spec, config.buffer_capacity, config.n_step, config.gamma, offline, at,
            pinned=at != self.agent.device,
        )  # fmt: skip
        self._identity = {
            "task": task.name,
            "implementation": task.implementation,
            "base_policy": base_policy,
            "demonstrations": _digest(offline),
            **{f"spec.{key}": value for key, value in spec.as_dict().items()},
            **{f"config.{key}": value for key, value in config.as_dict().items()},
        }
        self.environment_steps = 0
        self.episode_ids: list[int] = []
        self._refused: set[int] = set()
        self._diverged = False
        self.version = newest_version(self._weights_dir)
        self.published_updates = 0
        self.metrics: dict[str, float] = {}
        for folder in (self._weights_dir, self._checkpoint_dir):
            remove_leftovers(folder)

    @property
    def updates(self) -> int:
        """Critic updates made."""
        return self.agent.updates

    @property
    def updates_owed(self) -> int:
        """Updates to make before the next episode is taken in; see the agent's."""
        return self.agent.updates_owed(self.environment_steps, self.buffer)

    @property
    def warm_up(self) -> bool:
        """Whether episodes are still to be collected with base action and uniform noise."""
        return self.agent.warm_up(self.environment_steps)

    @property
    def phase(self) -> Phase:
        """As in LearnerStatus."""
        if self._diverged:
            return "error"
        if self.warm_up:
            return "warm_up"
        if not self.updates_owed:
            return "waiting"
        return "critic_warm_up" if self.updates < self.config.critic_warmup_updates else "learning"

    @property
    def episodes_seen(self) -> int:
        """Episodes taken in or passed over for good."""
        return len(self.episode_ids) + len(self._refused)

    def has_seen(self, episode_id: int) -> bool:
        """Whether the episode was taken in, or passed over for good."""
        return episode_id in self.episode_ids or episode_id in self._refused

    def ingest(self, newest_episode: int | None = None) -> Episode | None:
        """Take in the next stored episode, by id; None when there is no new one.

        Args:
            newest_episode: largest id that may be taken in; None for any.

        A damaged episode, or one that is not of this run, is named in a warning and passed over.
        """
        known = self._refused.union(self.episode_ids)
        for episode_id in self._store.ids():
            if episode_id in known:
                continue
            if newest_episode is not None and episode_id > newest_episode:
                break
            episode = self._read(episode_id)
            if episode is None:
                continue
            try:
                self._require_same_run(episode)
                self.buffer.add(episode)
            except ValueError as error:
                warnings.warn(f"{self._store.path(episode_id)}: not used: {error}", stacklevel=2)
                self._refused.add(episode_id)
                continue
            self.episode_ids.append(episode_id)
            self.environment_steps += len(episode)
            return episode
        return None

    def update(self, max_updates: int, time_budget: float = math.inf) -> int:
        """Make owed updates, in whole blocks: none begun after `time_budget` s or `max_updates`.

        Returns:
            How many were made.

        Raises:
            DivergedError: a loss or gradient is NaN or infinite; no more updates can be made.
        """
        start = time.monotonic()
        before = self.updates
        blocks = BLOCKS_AT_ONCE if self.agent.device.type == "cuda" else 1
        while self.updates - before < max_updates and self.updates_owed:
            owed = min(max_updates - (self.updates - before), self.updates_owed)
            try:
                self.metrics |= self.agent.update(
                    self.buffer, max(1, min(blocks, owed // self.config.updates_per_block))
                )
            except DivergedError:
                self._diverged = True
                raise
            if time.monotonic() - start >= time_budget:
                break
        return self.updates - before

    def publish_weights(self) -> Publication:
        """Write the next version of the weights.

        Raises:
            DivergedError: a weight is NaN or infinite; nothing is written.
            OSError: it could not be written; the version is not used up.
        """
        try:
            publication = publish(
                self._weights_dir,
                self.version + 1,
                self.agent.policy(),
                self._task,
                self._base_policy,
                self._keep_weights,
            )
        except PolicyFileError as error:
            self._diverged = True
            raise DivergedError(str(error)) from error
        self.version = publication.version
        self.published_updates = self.updates
        return publication

    def newest_publication(self) -> Publication | None:
        """The newest good version on disk, of this process or an earlier one."""
        return newest_publication(self._weights_dir, self._task, self.agent.spec, self._base_policy)

    def save_checkpoint(self) -> Path:
        """Write all that is needed to continue.

        Raises:
            DivergedError: the learner has diverged; the last checkpoint is before that and stays.
            OSError: it could not be written; the older checkpoints stay.
        """
        if self._diverged:
            raise DivergedError("expected finite weights for a checkpoint, found divergence")
        return write_checkpoint(
            self._checkpoint_dir,
            self.updates,
            self._identity,
            {
                "agent": self.agent.state_dict(),
                "buffer_episode_ids": self.buffer.online_episode_ids,
                "environment_steps": self.environment_steps,
                "episode_ids": list(self.episode_ids),
                "refused": sorted(self._refused),
                "version": self.version,
                "published_updates": self.published_updates,
                "metrics": dict(self.metrics),
            },
        )

    def resume(self) -> Path | None:
        """Continue from the newest good checkpoint; None when there are none.

        Only for a new learner. A damaged checkpoint, or an episode it needs that is gone, is named
        in a warning.

        Raises:
            CheckpointError: checkpoints are there but none is good, or it is of another task,
                configuration, base policy or set of demonstrations.
        """
        found = read_newest_checkpoint(self._checkpoint_dir, self._identity)
        if found is None:
            return None
        path, state = found
        try:
            self.agent.load_state_dict(state["agent"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{path}: expected the agent's state, found: {error}") from error
        for episode_id in state["buffer_episode_ids"]:
            episode = self._read(episode_id)
            if episode is not None:
                self.buffer.add(episode)
        self.environment_steps = state["environment_steps"]
        self.episode_ids = list(state["episode_ids"])
        self._refused = set(state["refused"])
        self.version = max(self.version, state["version"])
        self.published_updates = state["published_updates"]
        self.metrics = dict(state["metrics"])
        return path

    def _read(self, episode_id: int) -> Episode | None:
        try:
            return self._store.read(episode_id)
        except CorruptEpisodeError:
            return None  # The store has warned.
        except FileNotFoundError as error:
            warnings.warn(f"{error}; going on without it", stacklevel=3)
            return None

    def _require_same_run(self, episode: Episode) -> None:
        for key in ("task", "implementation", "base_policy"):
            found = getattr(episode, key)
            if found != self._identity[key]:
                raise ValueError(f"{key}: expected {self._identity[key]}, found {found}")


def _replay_device(
    device: torch.device, spec: AgentSpec, capacity: int, offline: Sequence[Episode]
) -> torch.device:
    """Where the replay lies: with the learner while it leaves a GPU a third of its free memory."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    fits = ReplayBuffer.bytes_needed(spec, capacity, offline) < free * 2 // 3
    return device if fits else torch.device("cpu")


def _digest(episodes: Sequence[Episode]) -> str:
    """SHA-256 over states and actions, hex; 'none' without episodes."""
    if not episodes:
        return "none"
    digest = hashlib.sha256()
    for episode in episodes:
        for array in (episode.state, episode.base_action, episode.executed_action):
            digest.update(f"{array.shape};".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()
