"""Cameras of a MuJoCo model, as cheap as the picture allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RenderOptions:
    """What may be left out of the pictures for speed.

    Attributes:
        shadows: cast by the scene's lights.
        reflections: in the table and the brass of the nuts.
        multisampling: samples per pixel against jagged edges, 0 for none.
    """

    shadows: bool = False
    reflections: bool = False
    multisampling: int = 0

    def __post_init__(self) -> None:
        if self.multisampling < 0:
            raise ValueError(f"rendering: multisampling: expected >= 0, found {self.multisampling}")


class Cameras:
    """Renders named cameras; all calls must come from the thread that made it (OpenGL's rule)."""

    def __init__(
        self,
        model: mujoco.MjModel,
        cameras: Sequence[str],
        image_size: tuple[int, int],
        options: RenderOptions,
    ) -> None:
        height, width = image_size
        self._cameras = tuple(cameras)
        # The buffer is made with the context, from these fields of the model.
        model.vis.global_.offheight, model.vis.global_.offwidth = height, width
        model.vis.quality.offsamples = options.multisampling
        self._renderer = mujoco.Renderer(model, height, width)
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = options.shadows
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = options.reflections
        self._visible: Any = mujoco.MjvOption()
        self._visible.geomgroup[0] = 0  # collision shapes
        self._visible.geomgroup[1] = 1

    def render(self, data: mujoco.MjData) -> dict[str, NDArray[np.uint8]]:
        """camera -> (H, W, 3) uint8 RGB, right side up."""
        images = {}
        for camera in self._cameras:
            self._renderer.update_scene(data, camera, self._visible)
            images[camera] = self._renderer.render()
        return images

    def close(self) -> None:
        self._renderer.close()
