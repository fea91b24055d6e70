"""Distance of two convex hulls by their vertices, plainly: slower than MuJoCo's, always right.

The point of the hulls' difference that is nearest to the origin, by Wolfe's algorithm. Each round
gives a plane between the two, whose width is a lower bound of the distance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_PRECISION = 1e-9  # m
_MAX_ROUNDS = 100


def separation(
    first: NDArray[np.float64], second: NDArray[np.float64], enough: float = np.inf
) -> float:
    """Lower bound of the distance, m; 0 for hulls that touch or overlap.

    Args:
        first, second: (N, 3) and (M, 3) vertices.
        enough: the search ends with the first bound above it; else the bound is the distance to
            1e-9 m.
    """
    corners: NDArray[np.float64] = np.empty(
        (0, 3)
    )  # of the simplex that holds the nearest point found so far
    weights: NDArray[np.float64] = np.empty(0)
    nearest = first.mean(axis=0) - second.mean(axis=0)
    bound = 0.0
    for _ in range(_MAX_ROUNDS):
        length = float(np.sqrt(nearest @ nearest))
        if length - bound <= _PRECISION or bound > enough:
            break
        corner = first[np.argmin(first @ nearest)] - second[np.argmax(second @ nearest)]
        bound = max(bound, float(corner @ nearest) / length)
        if (np.abs(corners - corner).max(axis=1, initial=0) < 1e-12).any() and len(corners):
            break
        corners = np.vstack([corners, corner])
        weights = np.append(weights, 0.0 if len(weights) else 1.0)
        corners, weights = _reduced(corners, weights)
        nearest = weights @ corners
    return bound


def _reduced(
    corners: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The corners and weights of the simplex' point nearest to the origin."""
    while True:
        count = len(corners)
        system = np.ones((count + 1, count + 1))
        system[0, 0] = 0.0
        system[1:, 1:] = corners @ corners.T
        affine = np.linalg.lstsq(system, np.eye(count + 1)[0], rcond=None)[0][1:]
        if (affine > 1e-14).all():
            return corners, affine
        # Towards the nearest point of the whole plane, up to where a weight vanishes.
        down = affine <= 1e-14
        gap = weights[down] - affine[down]
        step = float(np.min(np.divide(weights[down], gap, out=np.zeros_like(gap), where=gap > 0)))
        weights = weights + min(step, 1.0) * (affine - weights)
        keep = weights > 1e-14
        if keep.all():
            keep[np.argmin(weights)] = False
        corners, weights = corners[keep], weights[keep] / weights[keep].sum()
