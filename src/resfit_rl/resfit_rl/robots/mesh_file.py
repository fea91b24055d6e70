"""Wavefront .obj files of several objects, of which MuJoCo itself reads the first one only."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resfit_rl.robots.vega import RobotDescriptionError


def read_objects(file: Path) -> tuple[NDArray[np.float64], list[NDArray[np.int32]]]:
    """Vertices (V, 3) and, for each object, triangles (F, 3) of indices into them.

    Raises:
        RobotDescriptionError: the file cannot be read.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RobotDescriptionError(f"{file}: expected a mesh, found {error.strerror}") from None
    vertices: list[list[float]] = []
    objects: list[list[list[int]]] = []
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "v":
            vertices.append([float(value) for value in rest.split()[:3]])
        elif kind == "o" or (kind == "f" and not objects):
            objects.append([])
        if kind == "f":
            corners = [int(corner.partition("/")[0]) - 1 for corner in rest.split()]
            for second, third in itertools.pairwise(corners[1:]):
                objects[-1].append([corners[0], second, third])
    return np.array(vertices), [np.array(faces, np.int32) for faces in objects if faces]
