"""One demonstration in memory, and what makes it fit for training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resfit_rl.tasks import Task

# Recorded actions pass through float32 and other libraries: this much beyond a limit is rounding.
_LIMIT_TOLERANCE = 1e-3
_SHORTEST = 2  # frames: one transition


class DemonstrationsError(ValueError):
    """Demonstrations are missing or bad; names the thing, the expected and the found."""


@dataclass(frozen=True, eq=False)
class Demonstration:
    """A successful episode of T frames; the last one is the first success.

    Attributes:
        images: camera -> (T, H, W, 3) uint8 RGB.
        state: (T, S) float32.
        action: (T, A) float32, robot units; the last row is what the expert would do next.
    """

    images: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    action: NDArray[np.float32]


def require_lengths(lengths: Mapping[str, int], reference: str, where: str) -> None:
    """DemonstrationsError unless all keys have as many frames as `reference`, and enough.

    Args:
        lengths: key -> frames.
        where: file and episode, for the text.
    """
    expected = lengths[reference]
    for key, found in lengths.items():
        if found != expected:
            raise DemonstrationsError(
                f"{where}, frame {min(found, expected)}: {key}: expected {expected} frames, "
                f"as many as {reference}, found {found}"
            )
    if expected < _SHORTEST:
        raise DemonstrationsError(
            f"{where}: {reference}: expected {_SHORTEST} frames or more, found {expected}"
        )


def require_finite(values: NDArray[np.floating], key: str, where: str) -> None:
    """DemonstrationsError naming the first frame of `values` (T, N) that is not finite."""
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise DemonstrationsError(
            f"{where}, frame {bad[0]}: {key}: expected {values.shape[1]} finite values, "
            f"found {values[bad[0]].tolist()}"
        )


def require_within_limits(action: NDArray[np.floating], task: Task, where: str) -> None:
    """DemonstrationsError naming the first frame and dimension of `action` (T, A) out of limits."""
    lower, upper = np.array(task.action_lower), np.array(task.action_upper)
    beyond = (action < lower - _LIMIT_TOLERANCE) | (action > upper + _LIMIT_TOLERANCE)
    if beyond.any():
        frame, dimension = np.argwhere(beyond)[0]
        raise DemonstrationsError(
            f"{where}, frame {frame}: action {task.action_names[dimension]}: expected "
            f"{lower[dimension]:g} to {upper[dimension]:g}, found {action[frame, dimension]:g}"
        )


def require_pictures(
    images: NDArray[np.generic], image_size: tuple[int, int], camera: str, where: str
) -> None:
    """DemonstrationsError unless `images` are (T, H, W, 3) uint8 of `image_size`."""
    if images.shape[1:] != (*image_size, 3) or images.dtype != np.uint8:
        raise DemonstrationsError(
            f"{where}, frame 0: camera {camera}: expected {(*image_size, 3)} uint8, "
            f"found {images.shape[1:]} {images.dtype}"
        )


def require_sound(
    demonstration: Demonstration, task: Task, image_size: tuple[int, int], where: str
) -> None:
    """DemonstrationsError for whatever of `demonstration` training on `task` cannot use.

    Args:
        image_size: (height, width), pixels.
        where: file and episode, for the text.
    """
    require_lengths(
        {
            "action": len(demonstration.action),
            "observation.state": len(demonstration.state),
            **{f"camera {name}": len(images) for name, images in demonstration.images.items()},
        },
        "action",
        where,
    )
    require_finite(demonstration.state, "observation.state", where)
    require_finite(demonstration.action, "action", where)
    require_within_limits(demonstration.action, task, where)
    for camera, images in demonstration.images.items():
        require_pictures(images, image_size, camera, where)
