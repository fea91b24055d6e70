"""PackageHandover by Vega: right hand at one end, left hand at the other, which goes to the bin."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from resfit_rl.base_policies.scripted.two_hands import Script
from resfit_rl.base_policies.scripted.vega import (
    CLOSED,
    OPEN,
    VegaExpert,
    hand_rotation,
    raised,
)
from resfit_rl.tasks import Task

Vector = NDArray[np.float64]

# Where the package's axis is when a hand closes, m in the frame of the right hand's mount; the
# left hand is its mirror image.
_HELD = np.array([-0.135, -0.004, -0.06])
_MIRRORED = {"right": np.ones(3), "left": np.array([1.0, -1.0, 1.0])}
_ROLL = 1.45  # rad, how far the palms face down
_LOST = 0.3  # m, from the hand's mount to the middle of a package that has fallen
_LEAN = 0.5  # of the package's slope, how far a hand leans along
_HANDOVER = np.array([0.56, 0.0])  # m, where the package's middle changes hands


class _Variation(NamedTuple):
    """What differs from one episode to the next, as from one human demonstration to the next."""

    grasps: Vector  # (2, 3) m, offsets of the hands' places at the package, in the hand's frame
    pitch: float  # rad, how far the fingers point down
    above: float  # m, height over a grasp from which a hand comes down
    handover: Vector  # (2,) m, offset of the place
    height: float  # m, of the handover above the table
    drop: Vector  # (2,) m, from the bin's middle


class PackageHandoverExpert(VegaExpert):
    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        super().__init__(task, rng)
        self._variation = _Variation(
            grasps=rng.uniform([-0.004, -0.006, -0.003], [0.003, 0.006, 0.003], (2, 3)),
            pitch=rng.uniform(0.62, 0.74),
            above=rng.uniform(0.09, 0.12),
            handover=rng.uniform(-0.02, 0.02, 2),
            height=rng.uniform(0.19, 0.23),
            drop=rng.uniform(-0.012, 0.012, 2),
        )

    def script(self) -> Script:
        right, left, vary = self.arms["right"], self.arms["left"], self._variation
        table = self.object("bin")[2]
        home = right.position, right.rotation
        right.fingers = left.fingers = OPEN
        while True:
            grasp, turned = self._grasp("right")
            above = raised(grasp, vary.above)
            yield from self.go("right", above, turned, near=0.02)
            yield from self.pause()
            yield from self._close("right", grasp)
            yield from self.go("right", above, speed=0.012, near=0.02)
            if self.object("package_right")[2] > table + 0.06:
                break
            right.fingers = OPEN
            yield from self.wait(10)
        yield from self.pause()

        place = np.append(_HANDOVER + vary.handover, table + vary.height)
        straight = hand_rotation("right", 0.0, vary.pitch, _ROLL)
        self._carry("right", place, straight, speed=0.015)
        # The left hand gets ready on its own side meanwhile.
        ready = np.add(place, (-0.15, 0.2, 0.1))
        self.send("left", ready, hand_rotation("left", 0.0, vary.pitch, _ROLL), speed=0.015)
        yield from self.until(lambda: right.at_goal(0.01) and left.at_goal(0.03))
        yield from self.pause()
        yield from self.wait(4)  # the package swings

        grasp, turned = self._grasp("left")
        yield from self.go("left", raised(grasp, vary.above), turned, speed=0.015, near=0.015)
        grasp, turned = self._grasp("left")
        left.goal_rotation = turned
        yield from self._close("left", grasp)
        yield from self.pause()
        right.fingers = OPEN
        yield from self.wait(12)
        up = np.add(right.goal_position, (0.0, -0.02, 0.1))
        yield from self.go("right", up, speed=0.01, near=0.02)
        self.send("right", *home, speed=0.015)

        self.send("left", np.add(left.goal_position, (0.0, 0.03, 0.03)), speed=0.012)
        yield from self.wait(10)
        yield from self.pause()
        level = hand_rotation("left", -self._yaw("bin"), vary.pitch, _ROLL)
        drop = np.append(self.object("bin")[:2] + vary.drop, table + 0.2)
        for height, near in ((0.2, 0.015), (0.2, 0.01), (0.11, 0.01)):
            drop[2] = table + height
            if np.linalg.norm(self.object("package")[:3] - left.position) > _LOST:
                return
            self._carry("left", drop, level, speed=0.015 if height > 0.15 else 0.01)
            yield from self.until(functools.partial(left.at_goal, near))
        yield from self.pause()
        left.fingers = OPEN
        yield from self.wait(12)
        yield from self.go("left", raised(left.goal_position, 0.12), speed=0.012, near=0.02)

    def _grasp(self, side: str) -> tuple[Vector, Rotation]:
        """Pose of a hand's mount at its end of the package."""
        yaw, droop = self._yaw(f"package_{side}"), self._droop(f"package_{side}")
        turned = hand_rotation(side, yaw if side == "right" else -yaw, self._variation.pitch, _ROLL)
        turned = Rotation.from_euler("x", _LEAN * droop) * turned
        offset = (_HELD + self._variation.grasps[int(side == "left")]) * _MIRRORED[side]
        return self.object(f"package_{side}")[:3] - turned.apply(offset), turned

    def _close(self, side: str, grasp: Vector) -> Script:
        yield from self.go(side, grasp, speed=0.008, near=0.004, turn=0.05, patience=60)
        self.arms[side].fingers = CLOSED
        yield from self.wait(16)

    def _carry(self, side: str, place: Vector, turned: Rotation, *, speed: float) -> None:
        """Send a hand so that the package's middle comes to `place`."""
        arm = self.arms[side]
        held = arm.rotation.inv().apply(self.object("package")[:3] - arm.position)
        self.send(side, place - turned.apply(held), turned, speed=speed)

    def _droop(self, name: str) -> float:
        """How far the part's left end points up, rad."""
        return float(np.arcsin(Rotation.from_quat(self.object(name)[3:]).apply([0.0, 1.0, 0.0])[2]))

    def _yaw(self, name: str) -> float:
        return float(Rotation.from_quat(self.object(name)[3:]).as_euler("zyx")[0])
