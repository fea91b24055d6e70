"""Replay of demonstrations and of online episodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resfit_rl.agent.batch import Batch
from resfit_rl.agent.spec import AgentSpec
from resfit_rl.episode_store.episode import Episode
from resfit_rl.replay.n_step import n_step_targets


@dataclass(frozen=True)
class _Held:
    """An online episode in the ring."""

    episode_id: int
    frames: NDArray[np.int64]  # (T + 1,), where its observations lie

    @property
    def transitions(self) -> int:
        return len(self.frames) - 1


def episode_problem(episode: Episode, spec: AgentSpec) -> str | None:
    """'what: expected ..., found ...' when `episode` does not fit `spec`, else None."""
    length = len(episode.executed_action)
    if length < 1:
        return "transitions: expected at least 1, found 0"
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "executed_action": ((length, spec.action_dim), episode.executed_action.shape),
        "base_action": ((length + 1, spec.action_dim), episode.base_action.shape),
        "state": ((length + 1, spec.state_dim), episode.state.shape),
    }
    if sorted(episode.images) != sorted(spec.cameras):
        return f"cameras: expected {sorted(spec.cameras)}, found {sorted(episode.images)}"
    for name, size in spec.cameras.items():
        shapes[f"camera {name}"] = ((length + 1, *size, 3), episode.images[name].shape)
        if episode.images[name].dtype != np.uint8:
            return f"camera {name}: expected uint8, found {episode.images[name].dtype}"
    for what, (expected, found) in shapes.items():
        if expected != found:
            return f"{what}: expected shape {expected}, found {found}"
    for what in ("executed_action", "base_action", "state"):
        if not np.isfinite(getattr(episode, what)).all():
            return f"{what}: expected finite values, found NaN or infinity"
    if not np.isfinite(episode.reward):
        return f"reward: expected a finite value, found {episode.reward}"
    return None


class ReplayBuffer:
    """Demonstrations, which stay, and a ring of online episodes, in one set of arrays.

    Each image is stored once. Whole episodes leave the ring, oldest first. A batch is one gather
    over the shared arrays. Frame arrays are allocated in one piece; the system commits their memory
    only as it fills.
    """

    def __init__(
        self,
        spec: AgentSpec,
        capacity: int,
        n_step: int,
        gamma: float,
        offline: Sequence[Episode],
        seed: int,
    ) -> None:
        """
        Args:
            capacity: online transitions held at most.
            offline: demonstrations with base actions at their states.

        Raises:
            ValueError: a demonstration that does not fit `spec`.
        """
        self.spec = spec
        self.capacity = capacity
        self.n_step = n_step
        self.gamma = gamma
        self.rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
        for number, episode in enumerate(offline):
            if problem := episode_problem(episode, spec):
                raise ValueError(f"demonstration {number}: {problem}")
        self._ring_start = sum(len(episode.state) for episode in offline)
        # Room for the terminal observations too; many very short episodes leave a little earlier.
        self._ring_frames = capacity + max(64, capacity // 8)
        frames = self._ring_start + self._ring_frames
        self._images = {
            name: np.empty((frames, *size, 3), np.uint8) for name, size in spec.cameras.items()
        }
        self._state = np.zeros((frames, spec.state_dim), np.float32)
        self._base = np.zeros((frames, spec.action_dim), np.float32)
        self._action = np.zeros((frames, spec.action_dim), np.float32)
        self._reward = np.zeros(frames, np.float32)
        self._discount = np.zeros(frames, np.float32)
        self._next = np.zeros(frames, np.int64)
        self._held: deque[_Held] = deque()
        self._write = 0  # next free place of the ring
        self._online: NDArray[np.int64] = np.zeros(0, np.int64)
        offline_index: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        start = 0
        for episode in offline:
            where = np.arange(start, start + len(episode.state))
            self._put(episode, where)
            offline_index.append(where[:-1])
            start += len(where)
        self._offline = np.concatenate(offline_index)

    @property
    def offline_transitions(self) -> int:
        """Transitions of demonstrations."""
        return len(self._offline)

    @property
    def online_transitions(self) -> int:
        """Online transitions held now."""
        return len(self._online)

    @property
    def online_episode_ids(self) -> list[int]:
        """Online episodes held now, oldest first."""
        return [held.episode_id for held in self._held]

    def add(self, episode: Episode) -> None:
        """Take in an online episode, dropping the oldest ones it leaves no room for.

        Raises:
            ValueError: it does not fit the spec, or is longer than the capacity.
        """
        if problem := episode_problem(episode, self.spec):
            raise ValueError(f"episode {episode.episode_id}: {problem}")
        length = len(episode.executed_action)
        if length > self.capacity:
            raise ValueError(
                f"episode {episode.episode_id}: expected at most {self.capacity} transitions, the "
                f"buffer's capacity, found {length}"
            )
        while self._held and (
            sum(held.transitions for held in self._held) + length > self.capacity
            or sum(len(held.frames) for held in self._held) + length + 1 > self._ring_frames
        ):
            self._held.popleft()
        where = self._ring_start + (self._write + np.arange(length + 1)) % self._ring_frames
        self._write = (self._write + length + 1) % self._ring_frames
        self._put(episode, where)
        self._held.append(_Held(episode.episode_id, where))
        self._online = np.concatenate([held.frames[:-1] for held in self._held])

    def sample(self, batch_size: int, offline_fraction: float) -> Batch:
        """A batch with round(batch_size * offline_fraction) transitions of demonstrations.

        Drawn uniformly with replacement; offline ones come first. While one side is empty the other
        gives the whole batch. ValueError when both are.
        """
        if not len(self._online) and not len(self._offline):
            raise ValueError("replay buffer: expected at least one transition, found none")
        from_offline = round(batch_size * offline_fraction)
        if not len(self._online):
            from_offline = batch_size
        elif not len(self._offline):
            from_offline = 0
        index = np.empty(batch_size, np.int64)
        if from_offline:
            drawn = self.rng.integers(len(self._offline), size=from_offline)
            index[:from_offline] = self._offline[drawn]
        if from_offline < batch_size:
            drawn = self.rng.integers(len(self._online), size=batch_size - from_offline)
            index[from_offline:] = self._online[drawn]
        following = self._next[index]

        def take(array: NDArray[Any], where: NDArray[np.int64]) -> torch.Tensor:
            return torch.from_numpy(array[where])

        return Batch(
            images={name: take(array, index) for name, array in self._images.items()},
            state=take(self._state, index),
            base_action=take(self._base, index),
            action=take(self._action, index),
            reward=take(self._reward, index),
            discount=take(self._discount, index),
            next_images={name: take(array, following) for name, array in self._images.items()},
            next_state=take(self._state, following),
            next_base_action=take(self._base, following),
        )

    def random_state(self) -> dict[str, Any]:
        """State of the sampling generator, plain values."""
        return dict(self.rng.bit_generator.state)

    def set_random_state(self, state: dict[str, Any]) -> None:
        """Inverse of random_state."""
        self.rng.bit_generator.state = state

    def _put(self, episode: Episode, where: NDArray[np.int64]) -> None:
        for name in self.spec.cameras:
            self._images[name][where] = episode.images[name]
        self._state[where] = episode.state
        self._base[where] = episode.base_action
        self._action[where[:-1]] = episode.executed_action
        targets = n_step_targets(
            len(where) - 1, float(episode.reward), bool(episode.done), self.n_step, self.gamma
        )
        self._reward[where[:-1]] = targets.reward
        self._discount[where[:-1]] = targets.discount
        self._next[where[:-1]] = where[targets.next_index]
