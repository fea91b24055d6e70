"""Cameras of a MuJoCo model, as cheap as the picture allows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

_VISUAL, _HIDDEN = 1, 5  # groups of geoms: 0 is robosuite's collision shapes
_CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))


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
    """Renders named cameras; all calls must come from the thread that made it (OpenGL's rule).

    What lies outside a camera's view is not sent to OpenGL: the picture is the same, and on a CPU
    the robots' detailed meshes are most of the cost.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        cameras: Sequence[str],
        image_size: tuple[int, int],
        options: RenderOptions,
    ) -> None:
        height, width = image_size
        self._model = model
        self._cameras = {name: model.camera(name).id for name in cameras}
        self._aspect = width / height
        # The buffer is made with the context, from these fields of the model.
        model.vis.global_.offheight, model.vis.global_.offwidth = height, width
        model.vis.quality.offsamples = options.multisampling
        self._renderer = mujoco.Renderer(model, height, width)
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = options.shadows
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = options.reflections
        # Things out of view still throw shadows and are mirrored.
        self._cull = not (options.shadows or options.reflections)
        self._groups = model.geom_group.copy()
        self._visible: Any = mujoco.MjvOption()
        self._visible.geomgroup[:] = 0
        self._visible.geomgroup[_VISUAL] = 1

    def render(self, data: mujoco.MjData) -> dict[str, NDArray[np.uint8]]:
        """camera -> (H, W, 3) uint8 RGB, right side up."""
        images = {}
        for name, camera in self._cameras.items():
            if self._cull:
                self._model.geom_group[self._out_of_view(data, camera)] = _HIDDEN
            self._renderer.update_scene(data, camera, self._visible)
            images[name] = self._renderer.render()
            self._model.geom_group[:] = self._groups
        return images

    def close(self) -> None:
        self._renderer.close()

    def _out_of_view(self, data: mujoco.MjData, camera: int) -> NDArray[np.bool_]:
        """(G,): the geom's bounding box lies wholly beyond one side of the camera's view."""
        boxes = self._model.geom_aabb.reshape(-1, 2, 3)
        corners = boxes[:, :1] + boxes[:, 1:] * _CORNERS
        corners = np.einsum("gij,gcj->gci", data.geom_xmat.reshape(-1, 3, 3), corners)
        corners += data.geom_xpos[:, None] - data.cam_xpos[camera]
        # A camera looks along its -z.
        x, y, z = np.moveaxis(corners @ data.cam_xmat[camera].reshape(3, 3), -1, 0)
        slope = 1.01 * np.tan(np.deg2rad(self._model.cam_fovy[camera]) / 2)
        high, wide = -z * slope, -z * slope * self._aspect
        beyond = np.stack([z > 0, x > wide, -x > wide, y > high, -y > high])
        # A plane has no box.
        return beyond.all(axis=2).any(axis=0) & (self._model.geom_rbound > 0)
