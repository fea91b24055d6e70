"""A joint path on which a robot goes back to where an episode starts, without touching anything.

Straight if that is free, else by one of the configured positions in between, else by a search
(RRT-Connect) with shortcuts. The robot stops at every corner; between corners all joints start and
stop together, with the speed and acceleration of the one that has farthest to go.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resfit_safety.collision.checker import Proximity
from resfit_safety.motion_limits import TOLERANCE, MotionLimits

_Positions = NDArray[np.float64]


class ResetPathError(Exception):
    """There is no path, or none was found; names what is in the way."""


class _Checker(Protocol):
    """What is needed of a resfit_safety.collision.MotionChecker."""

    joints: tuple[str, ...]

    def check(self, start: ArrayLike, end: ArrayLike) -> Proximity | None: ...

    def nearest(self, positions: ArrayLike) -> Proximity | None: ...


def reset_path(
    start: ArrayLike,
    goal: ArrayLike,
    *,
    checker: _Checker,
    limits: MotionLimits,
    lower: ArrayLike,
    upper: ArrayLike,
    via: Iterable[ArrayLike] = (),
    speed: float = 0.5,
    seed: int = 0,
    max_tries: int = 2000,
) -> NDArray[np.float64]:
    """Commands that lead from the measured position to the goal, one every `limits.period`.

    Args:
        start: (A,) rad, measured, at rest; within the limits it is also the last command: tell the
            gate's `reset` so.
        goal: (A,) rad.
        lower, upper: (A,) rad, position limits of commands.
        via: positions (A,) rad to try to go by, in this order.
        speed: share of the largest velocity and acceleration that is used, in (0, 1].
        seed: of the search.
        max_tries: of the search, positions drawn at random; 0: no search.

    Returns:
        (N, A) rad, the start excluded and the goal the last; N is 0 if it is there already.

    Raises:
        ResetPathError: start, goal or everything in between that was tried is not free.
        ValueError: shapes that differ, a speed that cannot be.
    """
    low, high = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
    first, last = np.asarray(start, np.float64), np.asarray(goal, np.float64)
    corners = [np.asarray(corner, np.float64) for corner in via]
    for positions in (first, last, low, high, *corners):
        if positions.shape != (len(checker.joints),) or not np.isfinite(positions).all():
            raise ValueError(
                f"reset path: expected {len(checker.joints)} finite positions, found {positions}"
            )
    if not 0 < speed <= 1:
        raise ValueError(f"reset path: speed: expected a share in (0, 1], found {speed}")
    for name, positions in (("goal", last), *(("via", corner) for corner in corners)):
        for i in np.flatnonzero((positions < low) | (positions > high)):
            raise ResetPathError(
                f"reset path: {name}: joint {checker.joints[i]}: expected a position in "
                f"[{low[i]:g}, {high[i]:g}], found {positions[i]:g}"
            )
    inside = np.clip(first, low, high)
    if obstacle := checker.check(first, inside):
        raise ResetPathError(f"reset path: start: {obstacle}")
    in_the_way = ""
    search = _Search(checker, low, high, np.random.default_rng(seed))
    for way in _ways(inside, last, corners, search, max_tries):
        commands = [
            command
            for begin, end in itertools.pairwise(way)
            for command in _timed(begin, end, limits, speed)
        ]
        path = np.array(commands).reshape(-1, len(checker.joints))
        problem = _problem(np.vstack([inside, inside, path]), checker, limits)
        if not problem:
            return path
        in_the_way = in_the_way or problem
        if obstacle := checker.nearest(last):
            raise ResetPathError(f"reset path: goal: {obstacle}")
    raise ResetPathError(
        f"reset path: expected a free one, found none after {max_tries} tries; "
        f"straight on: {in_the_way}"
    )


def _ways(
    start: _Positions,
    goal: _Positions,
    via: Sequence[_Positions],
    search: _Search,
    max_tries: int,
) -> Iterator[list[_Positions]]:
    """Corners of ways to try, start and goal included; those of the search are free."""
    yield [start, goal]
    for corner in via:
        yield [start, corner, goal]
    way = search.connect(start, goal, max_tries)
    if way is not None:
        yield search.shortened(way)
        yield way


def _problem(commands: _Positions, checker: _Checker, limits: MotionLimits) -> str:
    """What the gate will ask of each command, asked before the first one moves the robot."""
    for before_last, last, command in zip(commands, commands[1:], commands[2:], strict=False):
        if problem := limits.violation(command, last, before_last):
            return problem
        if (obstacle := checker.check(last, command)) is not None:
            return str(obstacle)
    return ""


def _timed(
    start: _Positions, end: _Positions, limits: MotionLimits, speed: float
) -> list[_Positions]:
    """Commands on a straight way, from rest to rest: a trapezoid of speed."""
    distance = np.abs(end - start)
    moving = distance > TOLERANCE / 2
    if not moving.any():
        return [end] if distance.any() else []
    # Of the way, /s and /s2.
    fastest = speed * float(np.min(np.array(limits.velocity)[moving] / distance[moving]))
    hardest = speed * float(np.min(np.array(limits.acceleration)[moving] / distance[moving]))
    ramp = fastest / hardest
    if ramp * fastest > 1:  # it brakes before it is at full speed
        ramp = math.sqrt(1 / hardest)
    duration = ramp + 1 / (hardest * ramp)
    count = max(1, math.ceil(duration / limits.period - 1e-9))
    # All a little slower, so that it ends with a period.
    times = np.arange(1, count + 1) / count * duration
    share = np.where(
        times < ramp,
        hardest * times**2 / 2,
        np.where(
            times > duration - ramp,
            1 - hardest * (duration - times) ** 2 / 2,
            hardest * ramp * (times - ramp / 2),
        ),
    )
    return [*(start + s * (end - start) for s in share[:-1]), end]


class _Search:
    """RRT-Connect: two trees, from start and goal, that grow towards each other."""

    def __init__(
        self,
        checker: _Checker,
        lower: _Positions,
        upper: _Positions,
        rng: np.random.Generator,
    ) -> None:
        self._checker, self._rng = checker, rng
        self._lower, self._upper = lower, upper

    def connect(
        self, start: _Positions, goal: _Positions, max_tries: int
    ) -> list[_Positions] | None:
        trees = [_Tree(start), _Tree(goal)]
        # Joints that need not move wander little: the ways between random hands are long.
        spread = np.maximum(np.abs(goal - start), 0.1 * (self._upper - self._lower))
        for i in range(max_tries):
            # From around the way first, then from everywhere.
            scale = spread * (1 + 4 * i / max_tries)
            middle = start + self._rng.uniform() * (goal - start)
            drawn = np.clip(middle + self._rng.uniform(-scale, scale), self._lower, self._upper)
            grown = self._grow(trees[0], drawn, once=True)
            if grown is not None:
                met = self._grow(trees[1], trees[0].positions[grown], once=False)
                if met is not None and np.array_equal(
                    trees[1].positions[met], trees[0].positions[grown]
                ):
                    there, back = trees[0].way(grown), trees[1].way(met)
                    way = there + back[::-1][1:]
                    return way if np.array_equal(way[0], start) else way[::-1]
            trees.reverse()
        return None

    def shortened(self, way: list[_Positions], rounds: int = 60) -> list[_Positions]:
        """Corners, or points between them, are left out where the straight way is free."""
        for _ in range(rounds):
            if len(way) < 3:
                break
            i, j = sorted(self._rng.integers(0, len(way) - 1, 2))
            s, t = self._rng.uniform(size=2)
            if i == j:
                continue
            begin = way[i] + s * (way[i + 1] - way[i])
            end = way[j] + t * (way[j + 1] - way[j])
            if self._checker.check(begin, end) is None:
                way = [*way[: i + 1], begin, end, *way[j + 1 :]]
        # Whole corners last, which rids of the points on straight lines as well.
        i = 0
        while i + 2 < len(way):
            if self._checker.check(way[i], way[i + 2]) is None:
                del way[i + 1]
                i = max(i - 1, 0)
            else:
                i += 1
        return way

    def _grow(self, tree: _Tree, target: _Positions, *, once: bool) -> int | None:
        """Index of the new position nearest to the target; None where not one step is free."""
        node = tree.nearest(target)
        grown = None
        while True:
            offset = target - tree.positions[node]
            length = float(np.linalg.norm(offset))
            if length == 0:
                return node
            step = target if length <= _STEP else tree.positions[node] + offset * _STEP / length
            if self._checker.check(tree.positions[node], step) is not None:
                return grown
            grown = node = tree.add(step, node)
            if once or length <= _STEP:
                return grown


_STEP = 0.5  # rad, of the search: Euclidean, over all joints


class _Tree:
    def __init__(self, root: _Positions) -> None:
        self.positions = [root]
        self._parents = [-1]

    def add(self, positions: _Positions, parent: int) -> int:
        self.positions.append(positions)
        self._parents.append(parent)
        return len(self.positions) - 1

    def nearest(self, target: _Positions) -> int:
        offsets = np.array(self.positions) - target
        return int(np.argmin(np.einsum("ij,ij->i", offsets, offsets)))

    def way(self, node: int) -> list[_Positions]:
        """From the root to the node."""
        found = []
        while node >= 0:
            found.append(self.positions[node])
            node = self._parents[node]
        return found[::-1]
