"""Whether a robot keeps clear of itself and its surroundings on a straight way between positions.

A motion is covered by intervals of it. In the middle of one the distance of each pair of shapes is
known; between there and the interval's ends no point of one shape comes nearer to the other than
the sum over the joints of (reach of the joint) * (its turn), nor than both shapes move in the
world, by where they are at the ends. What is farther away than this plus the margin is done with;
for the rest the interval is halved. So nothing slips through between two samples, and most motions
need no more than their ends and their middle.

What passes keeps every pair farther apart than its margin less the resolution, at every point of
the motion; what is refused has a point where a pair is nearer than its margin, unless it would have
taken more than `max_samples` to be sure.

A pair that is nearer than its margin at the start need not trap the robot: it must not touch there,
must not be nearer at the end than at the start, nor come nearer by the resolution (at most half the
distance) on the way. A robot that touches already is not moved: somebody has to look.

Distances are MuJoCo's, of convex hulls; bounding balls spare most of them. Against Coal 3.0.3 they
agreed to 1e-8 m in all of 53,000 pairs of Vega but those, 0.2 %, where MuJoCo 3.3.5 and later
answer exactly 0 for shapes that are far apart (its issue 3383); such an answer is asked again of
`separation`. MuJoCo took 5 microseconds a pair, Coal 12. With Coal's distances of all pairs at 15
points of each of 700 motions close to something, nothing that passed or was refused was wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from resfit_rl.robots.vega import COMMANDED_JOINTS, VegaDescription
from resfit_safety.collision.obstacles import Box, HalfSpace, Obstacle
from resfit_safety.collision.robot_shapes import RobotShapes
from resfit_safety.collision.separation import separation

# m; what the rounding of float32 commands moves a link by, about.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Proximity:
    """A pair that is too near.

    Attributes:
        first, second: links, or a link and an obstacle.
        distance: m, found; 0 or less: they touch.
        required: m.
        fraction: of the motion, where it was found.
    """

    first: str
    second: str
    distance: float
    required: float
    fraction: float

    def __str__(self) -> str:
        return (
            f"collision {self.first} and {self.second}: expected a distance of at least "
            f"{self.required:.4g} m, found {self.distance:.4g} m at {self.fraction:.2f} of the way"
        )


class MotionChecker:
    """Checks motions of the commanded joints. Not for several threads at once.

    Args:
        fixed: positions of the joints that nobody commands, rad (the torso): they must be there.
        obstacles: in the frame of the robot's root link.
        margin: m, kept between links and to obstacles that name none.
        resolution: m, below the margin: see above.
        allowed_pairs: links that may touch besides those that the description allows.
        joints: commanded, in the order of positions.
        max_samples: of one motion, in doubt, at most: one that needs more is refused. A faster
            motion nearer to things needs more; none of 6000 at full speed needed 45.

    Raises:
        RobotDescriptionError: a mesh or joint that is not as expected.
        ValueError: a margin or resolution that cannot be, a link or a name twice or unknown.
    """

    def __init__(
        self,
        description: VegaDescription,
        *,
        fixed: Mapping[str, float],
        obstacles: Sequence[Obstacle] = (),
        margin: float = 0.01,
        resolution: float = 0.005,
        allowed_pairs: Collection[frozenset[str]] = (),
        joints: Sequence[str] = COMMANDED_JOINTS,
        max_samples: int = 150,
    ) -> None:
        if not 0 < resolution < margin:
            raise ValueError(
                f"collision: expected 0 < resolution < margin, found {resolution} and {margin}"
            )
        self.joints = tuple(joints)
        self.margin, self.resolution, self.max_samples = margin, resolution, max_samples
        boxes = [obstacle for obstacle in obstacles if isinstance(obstacle, Box)]
        planes = [obstacle for obstacle in obstacles if isinstance(obstacle, HalfSpace)]
        _require_known(description, obstacles, allowed_pairs)
        self.robot = RobotShapes(description, joints, fixed, boxes)
        self._pairs = _Pairs(
            description,
            self.robot,
            boxes,
            planes,
            margin,
            {*description.allowed_pairs, *allowed_pairs},
        )
        self._bottom = self._pairs.margin - np.minimum(resolution, self._pairs.margin / 2)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Names of all pairs of shapes that are checked; a link has several shapes."""
        return tuple(self._pairs.names)

    def violation(self, start: ArrayLike, end: ArrayLike) -> str:
        """As `check`, as text; empty for none."""
        found = self.check(start, end)
        return "" if found is None else str(found)

    def check(self, start: ArrayLike, end: ArrayLike) -> Proximity | None:
        """The first pair found too near on the straight way from start to end, (A,) rad each."""
        motion = _Motion(self.robot, np.asarray(start, np.float64), np.asarray(end, np.float64))
        pairs = self._pairs
        approach = pairs.approach(motion)
        unsure: list[_Interval] = []
        todo = [_Interval(0.5, 0.5, motion.centers(0.0), motion.centers(1.0))]
        while todo:
            interval = todo.pop()
            centers = motion.centers(interval.middle)
            shift = motion.shift(interval, centers)
            if shift.max() > _LONGEST_SHIFT and interval.half > _SHORTEST_HALF:
                todo.extend(interval.halves(centers))
                continue
            travel = pairs.travel(shift, approach * interval.half)
            near = pairs.near(centers, travel)
            enough = self._bottom[near] + travel[near]
            near = near[pairs.distances(near, enough, zeros=True) < enough]
            if len(near):
                # It comes off the other end first.
                unsure.extend(reversed(interval.halves(centers, near)))
        return self._refine(motion, approach, unsure[::-1]) if unsure else None

    def nearest(self, positions: ArrayLike) -> Proximity | None:
        """The pair that lacks most of its margin at (A,) rad; None where all keep it."""
        self.robot.place(np.asarray(positions, np.float64))
        pairs = self._pairs
        near = pairs.near(self.robot.data.site_xpos, np.zeros(len(pairs.margin)))
        margins = pairs.margin[near]
        lacking = margins - pairs.distances(near, margins)
        if not len(near) or lacking.max() <= 0:
            return None
        worst = int(np.argmax(lacking))
        return self._proximity(near[worst], margins[worst] - lacking[worst], margins[worst], 0.0)

    def _refine(
        self, motion: _Motion, approach: NDArray[np.float64], stack: list[_Interval]
    ) -> Proximity | None:
        """Goes on where balls and whole intervals leave a doubt; the first interval is the last."""
        pairs = self._pairs
        suspects = np.unique(np.concatenate([interval.pairs for interval in stack]))
        margin = pairs.margin[suspects]
        motion.centers(0.0)
        at_start = pairs.distances(suspects, margin, np.zeros(len(suspects)))
        if (at_start <= 0).any():
            worst = int(np.argmin(at_start))
            return self._proximity(suspects[worst], at_start[worst], margin[worst], 0.0)
        inside = at_start < margin
        needed = np.where(inside, at_start - TOLERANCE, margin)
        motion.centers(1.0)
        at_end = pairs.distances(suspects, needed, needed)
        if (at_end < needed).any():
            worst = int(np.argmax(needed - at_end))
            return self._proximity(suspects[worst], at_end[worst], needed[worst], 1.0)
        # On the way: refused below `floor`, certain to stay above `bottom`.
        slack = np.minimum(self.resolution, at_start / 2)
        floor, bottom = pairs.margin.copy(), self._bottom.copy()
        floor[suspects] = np.where(inside, at_start - slack / 2, margin)
        bottom[suspects] = np.where(inside, at_start - slack, bottom[suspects])
        samples = 0
        while stack:
            interval = stack.pop()
            samples += 1
            near = interval.pairs
            centers = motion.centers(interval.middle)
            shift = motion.shift(interval, centers)
            enough = bottom[near] + pairs.travel(shift, approach[near] * interval.half, near)
            enough = np.maximum(enough, floor[near])
            doubt = pairs.in_doubt(centers, near, enough)
            near, enough = near[doubt], enough[doubt]
            if not len(near):
                continue
            distances = pairs.distances(near, enough, floor[near])
            required = floor[near]
            if samples > self.max_samples:
                required = enough  # of what it would have taken to be sure
            if (distances < required).any():
                worst = int(np.argmax(required - distances))
                return self._proximity(
                    near[worst], distances[worst], required[worst], interval.middle
                )
            near = near[distances < enough]
            if len(near):
                stack.extend(interval.halves(centers, near))
        return None

    def _proximity(
        self, pair: np.intp, distance: float, required: float, fraction: float
    ) -> Proximity:
        return Proximity(*self._pairs.names[pair], float(distance), float(required), fraction)


_LONGEST_SHIFT = 0.08  # m; of a shape in the first intervals: in longer ones balls say too little
_NUDGE = 1e-6 * np.array([0.48, 0.6, -0.64])
_SHORTEST_HALF = 1 / 256  # of the first intervals


@dataclass(frozen=True, eq=False)
class _Interval:
    """Part of a motion, [middle - half, middle + half] of its way.

    Attributes:
        early, late: (S, 3) m, centres of the shapes' balls at its ends.
        pairs: those in doubt.
    """

    middle: float
    half: float
    early: NDArray[np.float64]
    late: NDArray[np.float64]
    pairs: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))

    def halves(
        self, centers: NDArray[np.float64], pairs: NDArray[np.intp] | None = None
    ) -> tuple[_Interval, _Interval]:
        """The later half, then the earlier one; `centers` (S, 3) are those in the middle."""
        quarter, kept = self.half / 2, self.pairs if pairs is None else pairs
        return (
            _Interval(self.middle + quarter, quarter, centers, self.late, kept),
            _Interval(self.middle - quarter, quarter, self.early, centers, kept),
        )


class _Motion:
    """All joints at once, each at its own constant speed, from start to end (A,) in time 0 to 1."""

    def __init__(
        self, robot: RobotShapes, start: NDArray[np.float64], end: NDArray[np.float64]
    ) -> None:
        self._robot, self._start, self._change = robot, start, end - start
        self.turns = np.abs(robot.turns(self._change))
        # A point at radius r of joint k is accelerated by r w_k (w_k + 2 sum of the outer w).
        self._acceleration = robot.reaches @ (
            self.turns * (self.turns + 2 * robot.outer @ self.turns)
        )
        self._swing = robot.radii * ((robot.reaches > 0) @ self.turns)

    def centers(self, time: float) -> NDArray[np.float64]:
        """Place the robot; (S, 3) m, centres of the shapes' balls."""
        self._robot.place(self._start + time * self._change)
        return self._robot.data.site_xpos.copy()

    def shift(self, interval: _Interval, centers: NDArray[np.float64]) -> NDArray[np.float64]:
        """(S + 1,) m that any point of a shape is away at most, in the interval, from where it is
        in its middle; 0 for the last, which stands for what does not move.

        A centre leaves the chord between two known places by an eighth of acceleration * time^2.
        """
        half = interval.half
        back, on = centers - interval.early, interval.late - centers
        farthest = np.sqrt(
            np.maximum(np.einsum("ij,ij->i", back, back), np.einsum("ij,ij->i", on, on))
        )
        shift = np.zeros(len(centers) + 1)
        shift[:-1] = farthest + half * half / 8 * self._acceleration + half * self._swing
        return shift


class _Pairs:
    """All pairs of shapes that may come near each other and must not: P of them.

    First those of geoms, whose distance MuJoCo knows; then the links with the half-spaces.

    Attributes:
        names: of both.
        margin: (P,) m.
    """

    def __init__(
        self,
        description: VegaDescription,
        robot: RobotShapes,
        boxes: Sequence[Box],
        planes: Sequence[HalfSpace],
        margin: float,
        allowed: Collection[frozenset[str]],
    ) -> None:
        self._robot = robot
        shapes = robot.shapes
        links = [k for k, shape in enumerate(shapes) if shape.name in description.links]
        kept = {obstacle.name: obstacle.margin for obstacle in (*boxes, *planes)}
        touch = {obstacle.name: obstacle.may_touch for obstacle in (*boxes, *planes)}
        self.names: list[tuple[str, str]] = []
        approaches = []

        def add(shape: int, other: str, approach: NDArray[np.float64]) -> bool:
            """Whether it can come near and must not."""
            link = shapes[shape].name
            if link == other or link in touch.get(other, ()) or not approach.any():
                return False
            if frozenset((link, other)) in allowed:
                return False
            self.names.append((link, other))
            approaches.append(approach)
            return True

        pairs = [
            (i, j)
            for i, j in itertools.combinations(range(len(shapes)), 2)
            if j in links and add(j, shapes[i].name, _approach(robot.reaches[[i, j]]))
        ]
        with_planes = [
            (k, plane) for plane in planes for k in links if add(k, plane.name, robot.reaches[k])
        ]
        margins = [kept.get(other) for _, other in self.names]
        self.margin = np.array([margin if own is None else own for own in margins])
        # Pairs of the same two links approach each other alike.
        self._rows, self._row = np.unique(np.array(approaches), axis=0, return_inverse=True)

        first, second = np.array(pairs, np.intp).reshape(-1, 2).T
        self._pairs = pairs
        self._entry = first * len(shapes) + second
        radii = robot.radii
        self._radii = radii[first] + radii[second]
        self._first = np.concatenate([first, [k for k, _ in with_planes]]).astype(np.intp)
        self._second = np.concatenate([second, np.full(len(with_planes), len(shapes))])
        self._ball_sums = np.concatenate([self._radii, np.zeros(len(with_planes))])
        self._with_planes = with_planes
        self._plane_shape = np.array([k for k, _ in with_planes], np.intp)
        self._normals = np.array([plane.normal for _, plane in with_planes]).reshape(-1, 3)
        self._plane_offset = np.array([plane.offset + radii[k] for k, plane in with_planes])
        self._fromto = np.empty(6)

    def approach(self, motion: _Motion) -> NDArray[np.float64]:
        """(P,) m that each pair comes nearer at most in a whole motion, by its joints' reaches."""
        return (self._rows @ motion.turns)[self._row]

    def travel(
        self,
        shift: NDArray[np.float64],
        approach: NDArray[np.float64],
        pairs: NDArray[np.intp] | None = None,
    ) -> NDArray[np.float64]:
        """(P,) m, or of N pairs: the smaller of that bound and of what both shapes shift by."""
        if pairs is None:
            both = shift[self._first] + shift[self._second]
        else:
            both = shift[self._first[pairs]] + shift[self._second[pairs]]
        return np.minimum(both, approach)

    def near(self, centers: NDArray[np.float64], travel: NDArray[np.float64]) -> NDArray[np.intp]:
        """Pairs whose balls, at (S, 3), are not farther apart than margin + travel (P,)."""
        squares = np.einsum("ij,ij->i", centers, centers)
        table = squares[:, None] + squares
        table -= 2 * (centers @ centers.T)
        enough = self.margin + travel
        count = len(self._pairs)
        balls = self._radii + enough[:count]
        close = np.flatnonzero(table.ravel()[self._entry] <= balls * balls + 1e-12)
        if not self._with_planes:
            return close
        heights = np.einsum("ij,ij->i", centers[self._plane_shape], self._normals)
        at_planes = np.flatnonzero(heights - self._plane_offset <= enough[count:])
        return np.concatenate([close, at_planes + count])

    def in_doubt(
        self, centers: NDArray[np.float64], pairs: NDArray[np.intp], enough: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """(N,) whether the balls of N pairs, at (S, 3), are not farther apart than `enough`."""
        first, second = self._first[pairs], self._second[pairs]
        balls = pairs < len(self._pairs)
        second = np.where(balls, second, first)  # of half-spaces there is no ball: always in doubt
        offsets = centers[first] - centers[second]
        reach = self._ball_sums[pairs] + enough
        return np.einsum("ij,ij->i", offsets, offsets) <= reach * reach + 1e-12

    def distances(
        self,
        pairs: NDArray[np.intp],
        enough: NDArray[np.float64],
        least: NDArray[np.float64] | None = None,
        *,
        zeros: bool = False,
    ) -> NDArray[np.float64]:
        """(N,) m, of N pairs as last placed; of those farther apart than `enough`, that or more.

        Args:
            least: the first pair nearer than this ends the search; those after it get inf.
            zeros: leave MuJoCo's zeros as they are, right or not.
        """
        model, data, fromto = self._robot.model, self._robot.data, self._fromto
        count = len(self._pairs)
        found = np.full(len(pairs), np.inf)
        asked_again = []
        limits = [-np.inf] * len(pairs) if least is None else least.tolist()
        for k, (pair, limit) in enumerate(zip(pairs.tolist(), enough.tolist(), strict=True)):
            if pair < count:
                first, second = self._pairs[pair]
                distance = mujoco.mj_geomDistance(model, data, first, second, limit, fromto)
                if distance == 0.0 and not zeros:
                    asked_again.append(k)
                    continue
            else:
                distance = self._height(*self._with_planes[pair - count])
            found[k] = distance
            if distance < limits[k]:
                return found
        for k in asked_again:
            first, second = self._pairs[pairs[k]]
            found[k] = self._asked_again(first, second, float(enough[k]))
        return found

    def _asked_again(self, first: int, second: int, enough: float) -> float:
        """A nudge of a micrometre helps MuJoCo over most of its false zeros, quickly."""
        robot = self._robot
        position = robot.data.geom_xpos[first]
        kept = position.copy()
        position += _NUDGE
        distance = mujoco.mj_geomDistance(
            robot.model, robot.data, first, second, enough, self._fromto
        )
        position[:] = kept
        if distance > 1e-5:
            return distance - 1e-6
        a, b = robot.shapes[first], robot.shapes[second]
        return separation(robot.placed_vertices(a), robot.placed_vertices(b), enough)

    def _height(self, index: int, plane: HalfSpace) -> float:
        shape, data = self._robot.shapes[index], self._robot.data
        normal = np.array(plane.normal)
        lowest = (shape.vertices @ (data.xmat[shape.body].reshape(3, 3).T @ normal)).min()
        return float(lowest + data.xpos[shape.body] @ normal - plane.offset)


def _approach(reaches: NDArray[np.float64]) -> NDArray[np.float64]:
    """(D,) m/rad of two shapes' reaches (2, D): a joint that carries both brings them no nearer."""
    return np.where((reaches > 0).all(axis=0), 0.0, reaches.sum(axis=0))


def _require_known(
    description: VegaDescription,
    obstacles: Sequence[Obstacle],
    allowed_pairs: Collection[frozenset[str]],
) -> None:
    names = [obstacle.name for obstacle in obstacles]
    for name in names:
        if names.count(name) > 1 or name in description.links:
            raise ValueError(f"obstacle {name}: expected a name of its own")
    links = {link for pair in allowed_pairs for link in pair}
    links |= {link for obstacle in obstacles for link in obstacle.may_touch}
    for link in sorted(links - set(description.links)):
        raise ValueError(f"collision: link {link}: expected one of {description.urdf.name}")
