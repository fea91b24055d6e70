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
class HeldEpisode:
    """An online episode in the ring.

    Attributes:
        frames: (T + 1,) int64 on the CPU, where its observations lie.
        reward, done: of its last transition.
    """

    episode_id: int
    frames: torch.Tensor
    reward: float
    done: bool

    def __len__(self) -> int:
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
    """Demonstrations, which stay, and a ring of online episodes, in one set of tensors.

    Each frame is stored once, as uint8, however many transitions and windows use it. Whole
    episodes leave the ring, oldest first. A batch is one gather over the shared tensors. They are
    allocated in one piece; on a CPU the system commits their memory only as it fills.
    """

    def __init__(
        self,
        spec: AgentSpec,
        capacity: int,
        n_step: int,
        gamma: float,
        offline: Sequence[Episode],
        device: torch.device | str = "cpu",
        *,
        pinned: bool = False,
    ) -> None:
        """
        Args:
            capacity: online transitions held at most.
            offline: demonstrations with base actions at their states.
            device: where everything is held.
            pinned: batches are gathered into page-locked memory, from which a GPU takes them while
                the CPU goes on; for a buffer on the CPU beside a learner on a GPU.

        Raises:
            ValueError: a demonstration that does not fit `spec`.
        """
        self.spec = spec
        self.capacity = capacity
        self.n_step = n_step
        self.gamma = gamma
        self.device = torch.device(device)
        self._pinned = pinned
        for number, episode in enumerate(offline):
            if problem := episode_problem(episode, spec):
                raise ValueError(f"demonstration {number}: {problem}")
        self._ring_start = sum(len(episode.state) for episode in offline)
        self._ring_frames = _ring_frames(capacity)
        frames = self._ring_start + self._ring_frames

        def allocate(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
            # Frames are not touched before they are filled: the system gives no memory until then.
            make = torch.empty if dtype == torch.uint8 else torch.zeros
            return make((frames, *shape), dtype=dtype, device=self.device)

        self._frames = {
            name: allocate((*size, 3), torch.uint8) for name, size in spec.cameras.items()
        }
        self._state = allocate((spec.state_dim,), torch.float32)
        self._base = allocate((spec.action_dim,), torch.float32)
        self._action = allocate((spec.action_dim,), torch.float32)
        self._reward = allocate((), torch.float32)
        self._discount = allocate((), torch.float32)
        self._next = allocate((), torch.int64)
        self._held: deque[HeldEpisode] = deque()
        self._write = 0  # next free place of the ring
        self._online = torch.zeros(0, dtype=torch.int64)
        self._successes = self._online  # those of `_online` in episodes that succeeded
        offline_index = [self._online]
        start = 0
        for episode in offline:
            where = torch.arange(start, start + len(episode.state))
            self._put(episode, where)
            offline_index.append(where[:-1])
            start += len(where)
        self._offline = torch.cat(offline_index)

    @property
    def offline_transitions(self) -> int:
        """Transitions of demonstrations."""
        return len(self._offline)

    @property
    def online_transitions(self) -> int:
        """Online transitions held now."""
        return len(self._online)

    @property
    def held(self) -> list[HeldEpisode]:
        """Online episodes held now, oldest first."""
        return list(self._held)

    @property
    def online_episode_ids(self) -> list[int]:
        """Their ids."""
        return [held.episode_id for held in self._held]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, full or not."""
        tensors = (
            *self._frames.values(), self._state, self._base, self._action, self._reward,
            self._discount, self._next,
        )  # fmt: skip
        return sum(tensor.nbytes for tensor in tensors)

    @staticmethod
    def bytes_needed(spec: AgentSpec, capacity: int, offline: Sequence[Episode]) -> int:
        """`nbytes` of such a buffer, before there is one."""
        frames = sum(len(episode.state) for episode in offline) + _ring_frames(capacity)
        pixels = sum(3 * height * width for height, width in spec.cameras.values())
        return frames * (pixels + 4 * (spec.state_dim + 2 * spec.action_dim) + 4 + 4 + 8)

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
            sum(len(held) for held in self._held) + length > self.capacity
            or sum(len(held.frames) for held in self._held) + length + 1 > self._ring_frames
        ):
            self._held.popleft()
        where = self._ring_start + (self._write + torch.arange(length + 1)) % self._ring_frames
        self._write = (self._write + length + 1) % self._ring_frames
        self._put(episode, where)
        self._held.append(
            HeldEpisode(episode.episode_id, where, float(episode.reward), bool(episode.done))
        )
        self._online = torch.cat([held.frames[:-1] for held in self._held])
        successes = [held.frames[:-1] for held in self._held if held.reward > 0.0]
        self._successes = torch.cat([self._online[:0], *successes])

    def draw(
        self,
        generator: torch.Generator,
        batch_size: int,
        offline_fraction: float,
        *,
        successes_only: bool = False,
    ) -> torch.Tensor:
        """Transitions of a batch, int64 (batch_size,) on the CPU, for `gather`.

        round(batch_size * offline_fraction) of them are of demonstrations and come first. Drawn
        uniformly with replacement. While one side is empty the other gives the whole batch.

        Args:
            successes_only: only episodes with a reward make the online side.

        Raises:
            ValueError: both sides are empty.
        """
        online = self._successes if successes_only else self._online
        if not len(online) and not len(self._offline):
            raise ValueError("replay buffer: expected at least one transition, found none")
        from_offline = round(batch_size * offline_fraction)
        if not len(online):
            from_offline = batch_size
        elif not len(self._offline):
            from_offline = 0
        drawn = [
            side[torch.randint(len(side), (count,), generator=generator)]
            for side, count in ((self._offline, from_offline), (online, batch_size - from_offline))
            if count
        ]
        return torch.cat(drawn)

    def gather(self, index: torch.Tensor) -> Batch:
        """The batch of transitions `index`, int64 (B,) on the buffer's device.

        A buffer on the learner's device hands out its frames as they lie. A pinned one gathers the
        batch's own frames, observations before next observations.
        """
        following = self._take(self._next, index)
        if self._pinned:
            both = torch.cat([index, following])
            frames = {name: self._take(frames, both) for name, frames in self._frames.items()}
            frame, next_frame = torch.arange(2 * len(index)).pin_memory().split(len(index))
        else:
            frames, frame, next_frame = self._frames, index, following
        return Batch(
            frames=frames,
            frame=frame,
            next_frame=next_frame,
            state=self._take(self._state, index),
            next_state=self._take(self._state, following),
            base_action=self._take(self._base, index),
            next_base_action=self._take(self._base, following),
            action=self._take(self._action, index),
            reward=self._take(self._reward, index),
            discount=self._take(self._discount, index),
        )

    def _take(self, tensor: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        if not self._pinned:
            return tensor.index_select(0, where)
        out = torch.empty((len(where), *tensor.shape[1:]), dtype=tensor.dtype, pin_memory=True)
        return torch.index_select(tensor, 0, where, out=out)

    def _put(self, episode: Episode, where: torch.Tensor) -> None:
        targets = n_step_targets(
            len(where) - 1, float(episode.reward), bool(episode.done), self.n_step, self.gamma
        )

        first = int(where[0])
        # Frames follow each other, but for the one place where the ring begins again.
        before_wrap = int((where >= first).sum())

        def put(tensor: torch.Tensor, values: NDArray[Any]) -> None:
            for part, start in (
                (values[:before_wrap], first),
                (values[before_wrap:], self._ring_start),
            ):
                place = tensor[start : start + len(part)]
                if self.device.type == "cpu":
                    np.copyto(place.numpy(), part)
                else:
                    place.copy_(torch.tensor(part))

        for name in self.spec.cameras:
            put(self._frames[name], episode.images[name])
        put(self._state, episode.state)
        put(self._base, episode.base_action)
        put(self._action, episode.executed_action)
        put(self._reward, targets.reward)
        put(self._discount, targets.discount)
        put(self._next, where.numpy()[targets.next_index])


def _ring_frames(capacity: int) -> int:
    """Room for the terminal observations too; many very short episodes leave a little earlier."""
    return capacity + max(64, capacity // 16)
