"""Demonstrations as episodes of the residual's problem: with the base policy's action."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resfit_rl.agent.residual_policy import write_atomically
from resfit_rl.base_policies.interface import BasePolicy
from resfit_rl.control import ChunkSchedule
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
) -> list[Episode]:
    """Relabel demonstrations with the frozen base policy's action at each of their states.

    A demonstration of T frames gives T - 1 transitions; its last frame is the terminal observation.
    Outcome success, reward 1 on the last transition, done.

    Args:
        dataset_identity: names the demonstrations in the cache's key; None hashes all of them.
        cache_dir: where base actions are kept between runs, keyed by a hash of data set, base
            policy and schedule; None keeps none. A corrupt cache file is computed again, with a
            warning.

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
        base_actions = [
            _base_actions(number, demonstration, base_policy, schedule)
            for number, demonstration in enumerate(demonstrations)
        ]
        if cache is not None:
            buffer = io.BytesIO()
            np.savez(buffer, **{f"{i:06d}": a for i, a in enumerate(base_actions)})
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
        arrays = {f"image {k}": v for k, v in sorted(demonstration.images.items())}
        arrays |= {"state": demonstration.state, "action": demonstration.action}
        for name, array in arrays.items():
            digest.update(f"{name} {array.dtype} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _base_actions(
    number: int, demonstration: Demonstration, base_policy: BasePolicy, schedule: ChunkSchedule
) -> FloatArray:
    length, action_dim = demonstration.action.shape
    actions = np.empty((length, action_dim), np.float32)
    base_policy.reset(number)
    chunk = np.empty((0, action_dim), np.float32)
    for step in range(length):
        if schedule.is_source(step):
            following = _chunk(number, step, demonstration, base_policy, action_dim)
        if step % schedule.replan_interval == 0:
            chunk = following
        actions[step] = chunk[step - schedule.source(step)]
    return actions


def _chunk(
    number: int, step: int, demonstration: Demonstration, base_policy: BasePolicy, action_dim: int
) -> FloatArray:
    chunk = np.asarray(
        base_policy.predict_chunk(
            Observation(
                {name: frames[step] for name, frames in demonstration.images.items()},
                demonstration.state[step],
            )
        ),
        dtype=np.float32,
    )
    expected = (base_policy.chunk_size, action_dim)
    if chunk.shape != expected or not np.isfinite(chunk).all():
        raise ValueError(
            f"demonstration {number}, step {step}: base policy: expected a finite chunk of "
            f"{expected}, found {chunk.shape} with {int((~np.isfinite(chunk)).sum())} NaN or inf"
        )
    return chunk


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
