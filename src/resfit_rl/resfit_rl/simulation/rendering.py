"""Cameras of a MuJoCo model, as cheap as the picture allows."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from resfit_rl.simulation.error import SimulationError

_VISUAL, _HIDDEN = 1, 5  # groups of geoms: 0 is robosuite's collision shapes
# Of a mesh's longest side: small parts keep their shape, for they may be close to a camera.
_FINEST = 1 / 30
_CORNERS = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))


@dataclass(frozen=True)
class RenderOptions:
    """What may be left out of the pictures for speed.

    Attributes:
        shadows: cast by the scene's lights.
        reflections: in the table and the brass of the nuts.
        multisampling: samples per pixel against jagged edges, 0 for none.
        coarseness: detail of meshes that is left out, in pixels of a thing 1 m away; 0 for none.
    """

    shadows: bool = False
    reflections: bool = False
    multisampling: int = 0
    coarseness: float = 0.4

    def __post_init__(self) -> None:
        for name in ("multisampling", "coarseness"):
            if getattr(self, name) < 0:
                raise ValueError(f"rendering: {name}: expected >= 0, found {getattr(self, name)}")


def require_image_size(image_size: tuple[int, int]) -> None:
    """SimulationError unless (height, width), pixels, is a picture's."""
    if min(image_size) < 1:
        raise SimulationError(f"image size: expected 1 pixel or more, found {image_size}")


class Cameras:
    """Renders named cameras; all calls must come from the thread that made it (OpenGL's rule).

    On a CPU the robots' detailed meshes are most of the cost: what lies outside a camera's view is
    not sent to OpenGL, and triangles much smaller than a pixel are merged.

    Attributes:
        seconds: wall time spent in `render` so far.

    Raises:
        SimulationError: a camera that the model lacks.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        cameras: Sequence[str],
        image_size: tuple[int, int],
        options: RenderOptions,
    ) -> None:
        known = [model.camera(i).name for i in range(model.ncam)]
        for camera in cameras:
            if camera not in known:
                raise SimulationError(
                    f"camera: expected one of {', '.join(known)}, found '{camera}'"
                )
        height, width = image_size
        # A copy, since collisions need the meshes as they are.
        model = self._model = copy.copy(model)
        self._cameras = {name: model.camera(name).id for name in cameras}
        if options.coarseness:
            fovy = min(float(model.cam_fovy[camera]) for camera in self._cameras.values())
            pixel = 2 * np.tan(np.deg2rad(fovy) / 2) / height
            merge_small_triangles(model, options.coarseness * pixel)
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
        self._visible.sitegroup[:] = 0  # marks of robosuite's own at the grippers
        self.seconds = 0.0

    def render(self, data: mujoco.MjData) -> dict[str, NDArray[np.uint8]]:
        """camera -> (H, W, 3) uint8 RGB, right side up."""
        images = {}
        start = time.monotonic()
        for name, camera in self._cameras.items():
            if self._cull:
                self._model.geom_group[self._out_of_view(data, camera)] = _HIDDEN
            self._renderer.update_scene(data, camera, self._visible)
            images[name] = self._renderer.render()
            self._model.geom_group[:] = self._groups
        self.seconds += time.monotonic() - start
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


def merge_small_triangles(model: mujoco.MjModel, size: float) -> None:
    """Make all vertices of a mesh within one cell of `size`, m, one: triangles within go."""
    for mesh in range(model.nmesh):
        vertices = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]]
        start, count = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
        extent = np.ptp(vertices, axis=0).max()
        cells = np.round(vertices / min(size, extent * _FINEST)).astype(np.int64)
        _, first, merged = np.unique(cells, axis=0, return_index=True, return_inverse=True)
        corners = first[merged.reshape(-1)][model.mesh_face[start : start + count]]
        sorted_corners = np.sort(corners, axis=1)
        whole = np.flatnonzero((np.diff(sorted_corners, axis=1) > 0).all(axis=1))
        _, once = np.unique(sorted_corners[whole], axis=0, return_index=True)
        kept = whole[np.sort(once)]
        model.mesh_face[start : start + len(kept)] = corners[kept]
        for attribute in (model.mesh_facenormal, model.mesh_facetexcoord):
            attribute[start : start + len(kept)] = attribute[start : start + count][kept]
        model.mesh_facenum[mesh] = len(kept)
