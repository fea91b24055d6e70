"""Demonstrations as episodes of the residual's problem: with the base policy's action."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from resfit_rl.base_policies.interface import BasePolicy, BasePolicyError
from resfit_rl.control import ChunkedBase, ChunkSchedule
from resfit_rl.episode_store.atomic_file import write_atomically
from resfit_rl.episode_store.episode import Episode
from resfit_rl.observation import Observation

FloatArray = NDArray[np.float32]


class Demonstration(Protocol):
    """T recorded steps; there is no observation after the last action."""

    @property
    def images(self) -> dict[str, NDArray[np.uint8]]:
        """camera -> (T, H, W, 3) uint8."""

    @property
    def state(self) -> FloatArray:
        """(T, S) float32."""

    @property
    def action(self) -> FloatArray:
        """(T, A) float32, robot units."""


def offline_episodes(
    demonstrations: Sequence[Demonstration],
    base_policy: BasePolicy,
    schedule: ChunkSchedule,
    *,
    task: str,
    implementation: str,
    dataset_identity: str | None = None,
    cache_dir: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Episode]:
    """Relabel demonstrations with the frozen base policy's action at each of their states.

    A demonstration of T frames gives T - 1 transitions; its last frame is the terminal observation.
    Outcome success, reward 1 on the last transition, done.

    Args:
        dataset_identity: names the demonstrations in the cache's key; None hashes all of them.
        cache_dir: where base actions are kept between runs, keyed by a hash of data set, base
            policy and schedule; None keeps none. A corrupt cache file is computed again, with a
            warning.
        on_progress: called with (demonstrations relabelled, all of them) after each one.

    Raises:
        ValueError: a demonstration of fewer than 2 frames or with arrays of unequal lengths, or a
            base policy whose chunk is too short for the schedule, misshaped or not finite.
    """
    for number, demonstration in enumerate(demonstrations):
        lengths = {name: len(frames) for name, frames in demonstration.images.items()}
        lengths |= {"state": len(demonstration.state), "action": len(demonstration.action)}
        if len(set(lengths.values())) != 1 or len(demonstration.state) < 2:
            raise ValueError(
                f"demonstration {number}: expected equal lengths >= 2, found {lengths}"
            )
    schedule.require_chunk_size(base_policy.chunk_size)
    cache: Path | None = None
    base_actions: list[FloatArray] | None = None
    if cache_dir is not None:
        identity = dataset_identity or demonstrations_identity(demonstrations)
        key = json.dumps(
            [2, identity, base_policy.identity, schedule.replan_interval, schedule.lead]
        )
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        cache = Path(cache_dir) / f"base_actions_{name}.npz"
        base_actions = _read_cache(cache, [d.action.shape for d in demonstrations])
    if base_actions is None:
        base_actions = []
        for number, demonstration in enumerate(demonstrations):
            base_actions.append(_base_actions(number, demonstration, base_policy, schedule))
            on_progress(number + 1, len(demonstrations))
        if cache is not None:
            buffer = io.BytesIO()
            named: dict[str, Any] = {f"{i:06d}": a for i, a in enumerate(base_actions)}
            np.savez(buffer, **named)
            write_atomically(cache, buffer.getvalue())
    return [
        Episode(
            task=task,
            implementation=implementation,
            base_policy=base_policy.identity,
            episode_id=number,
            seed=0,
            outcome="success",
            reward=1.0,
            done=True,
            images={k: np.asarray(v) for k, v in demonstration.images.items()},
            state=np.asarray(demonstration.state, np.float32),
            base_action=base,
            executed_action=np.asarray(demonstration.action[:-1], np.float32),
            policy_version=np.zeros(len(base) - 1, np.int64),
            # Recorded without time: one nanosecond a step keeps them in order.
            stamps=np.arange(len(base), dtype=np.int64),
        )
        for number, (demonstration, base) in enumerate(
            zip(demonstrations, base_actions, strict=True)
        )
    ]


def demonstrations_identity(demonstrations: Sequence[Demonstration]) -> str:
    """SHA-256 over shapes and contents, hex."""
    digest = hashlib.sha256()
    for demonstration in demonstrations:
        arrays: dict[str, NDArray[Any]] = {
            f"image {k}": v for k, v in sorted(demonstration.images.items())
        }
        arrays |= {"state": demonstration.state, "action": demonstration.action}
        for name, array in arrays.items():
            digest.update(f"{name} {array.dtype} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _base_actions(
    number: int, demonstration: Demonstration, base_policy: BasePolicy, schedule: ChunkSchedule
) -> FloatArray:
    actions = np.empty(demonstration.action.shape, np.float32)
    with ThreadPoolExecutor(1) as worker:
        chunked = ChunkedBase(base_policy, schedule, actions.shape[1], worker)
        chunked.reset(number)
        for step, state in enumerate(demonstration.state):
            images = {name: frames[step] for name, frames in demonstration.images.items()}
            chunked.observe(step, Observation(images, state))
            try:
                actions[step] = chunked.action(step).action
            except BasePolicyError as error:
                raise ValueError(f"demonstration {number}, step {step}: {error}") from error
    return actions


def _read_cache(path: Path, shapes: list[tuple[int, ...]]) -> list[FloatArray] | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = [np.asarray(file[name]) for name in sorted(file.files)]
    except Exception as error:
        warnings.warn(f"{path}: corrupt, computed again: {error}", stacklevel=3)
        return None
    if [a.shape for a in arrays] != shapes or any(a.dtype != np.float32 for a in arrays):
        found = [a.shape for a in arrays]
        warnings.warn(
            f"{path}: expected shapes {shapes[:3]}..., found {found[:3]}...; computed again",
            stacklevel=3,
        )
        return None
    return arrays
