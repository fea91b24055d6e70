"""Rollouts of both policies in one simulation, and what a person sees of them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resfit_rl.ab_test.blind_test import Policy
from resfit_rl.episode_store.atomic_file import write_atomically
from resfit_rl.evaluation import Candidate, EvaluationError, Rollout, load_candidate, rollout
from resfit_rl.simulation import Frame, RenderOptions, make_simulation
from resfit_rl.tasks import get_task

_FILM_PICTURES, _FILM_SECONDS = 40, 4.0
_LEAST_HEIGHT = 168  # pixels of a picture


@dataclass(frozen=True, eq=False)
class Acted:
    """One rollout. `start` is the digest (hex) of its first frame, the whole of it."""

    success: bool
    steps: int
    start: str
    frames: Sequence[Frame]


class SimulatedRollouts:
    """One simulation for both, so that a seed is the same scene bit for bit.

    Raises:
        EvaluationError: the two are run under other conditions, or cannot be made.
        BasePolicyError, SimulationError, ValueError: they cannot be made.
    """

    def __init__(self, candidates: Mapping[Policy, Candidate]) -> None:
        one, other = candidates["a"], candidates["b"]
        for key in ("task", "max_steps", "rendering", "image_size"):
            if getattr(one, key) != getattr(other, key):
                raise EvaluationError(
                    f"{key}: expected {getattr(one, key)} as of policy A, found "
                    f"{getattr(other, key)} of policy B"
                )
        self._max_steps = one.max_steps
        self._loaded = {policy: load_candidate(c) for policy, c in candidates.items()}
        self._simulation = make_simulation(
            get_task(one.task),
            image_size=one.image_size,
            rendering=RenderOptions() if one.rendering else None,
        )

    def run(self, policy: Policy, seed: int) -> Acted:
        """Let it act from the scene of `seed` until success or the time limit."""
        loaded = self._loaded[policy]
        episode: Rollout = rollout(
            self._simulation,
            loaded.base,
            loaded.schedule,
            seed,
            residual=loaded.residual,
            max_steps=self._max_steps,
        )
        start = _digest(episode.frames[0])
        return Acted(episode.success, len(episode.actions), start, episode.frames)

    def close(self) -> None:
        self._simulation.close()


def _digest(frame: Frame) -> str:
    """SHA-256 (hex) of joints, poses and pictures."""
    digest = hashlib.sha256()
    parts = {"position": frame.joint_position, "velocity": frame.joint_velocity}
    parts |= {f"end {name}": pose for name, pose in frame.end_effectors.items()}
    parts |= {f"object {name}": pose for name, pose in frame.privileged.items()}
    for name, values in sorted(parts.items()):
        digest.update(name.encode() + np.ascontiguousarray(values, np.float64).tobytes())
    for name, image in sorted(frame.images.items()):
        digest.update(name.encode() + np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def write_start(frame: Frame, file: Path) -> None:
    """The pictures of a scene as PNG; nothing without rendering."""
    if frame.images:
        write_pictures(frame.images, file)


def write_pictures(images: Mapping[str, NDArray[np.uint8]], file: Path) -> None:
    """Pictures of one height, beside each other, as PNG.

    Args:
        images: camera -> (H, W, 3) uint8 RGB.
    """
    _write(file, [_joined(images)], "PNG")


def write_film(frames: Sequence[Frame], file: Path) -> None:
    """A rollout as GIF, always of the same length: it ends at the task's own success check, and a
    short film would tell of it. Nothing without rendering.
    """
    if frames[0].images:
        chosen = np.linspace(0, len(frames) - 1, _FILM_PICTURES).round().astype(int)
        _write(file, [_joined(frames[i].images) for i in chosen], "GIF")


def _joined(images: Mapping[str, NDArray[np.uint8]]) -> Image.Image:
    """Beside each other, enlarged to be seen."""
    joined = Image.fromarray(np.concatenate(list(images.values()), axis=1))
    scale = max(1, -(-_LEAST_HEIGHT // joined.height))
    size = joined.width * scale, joined.height * scale
    return joined.resize(size, Image.Resampling.NEAREST)


def _write(file: Path, pictures: Sequence[Image.Image], kind: str) -> None:
    data = io.BytesIO()
    first, *others = pictures
    if kind == "GIF":
        duration = round(1e3 * _FILM_SECONDS / _FILM_PICTURES)
        first.save(data, kind, save_all=True, append_images=others, duration=duration, loop=0)
    else:
        first.save(data, kind)
    write_atomically(file, data.getvalue())
