"""CanSort by GR1: the hand of the bin's side takes the can, lifts it, and lets it fall in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from resfit_rl.base_policies.scripted.two_hands import CLOSED, OPEN, Script, TwoHandsExpert
from resfit_rl.tasks import Task

Vector = NDArray[np.float64]

_SIDES = {"can_red": ("right", "bin_red"), "can_blue": ("left", "bin_blue")}
# Fingers forward, palms facing each other, thumbs up.
_UPRIGHT = {
    "right": Rotation.from_matrix([[0, -1, 0], [0, 0, 1], [-1, 0, 0]]),
    "left": Rotation.from_matrix([[0, -1, 0], [0, 0, -1], [1, 0, 0]]),
}
# Where the can's axis is held, m in the hand's frame: before the palm, between thumb and fingers.
_HELD = np.array([0.0, -0.07, 0.051])
_HELD_HEIGHT = 0.062  # m above the table, a little over the can's middle
_TURNED = np.array([-1.0, -1.0, -1.0, -1.0, -1.0, 1.0])
_BIAS = 0.06  # m; how far beyond a place a command may be so that the arm comes there


class _Variation(NamedTuple):
    """What differs from one episode to the next, as from one human demonstration to the next."""

    grasp: Vector  # (3,) m, offset of the hand's place at the can, in the hand's frame
    can_yaw: float  # rad, how far the hand is turned inwards at the can
    travel: float  # m, height of the wrist above the table on the way
    bin_yaw: float  # rad, the same over the bin
    drop: Vector  # (2,) m, from the bin's middle


class CanSortExpert(TwoHandsExpert):
    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        super().__init__(task, rng)
        self._variation = _Variation(
            grasp=rng.uniform([-0.006, -0.004, -0.002], [0.006, 0.004, 0.003]),
            can_yaw=rng.uniform(0.35, 0.55),
            travel=rng.uniform(0.18, 0.21),
            bin_yaw=rng.uniform(-0.05, 0.15),
            drop=rng.uniform(-0.025, 0.025, 2),
        )

    def script(self) -> Script:
        can = "can_red" if "can_red" in self.objects else "can_blue"
        side, bin_ = _SIDES[can]
        arm, vary = self.arms[side], self._variation
        table = self.object(bin_)[2]
        at_can, at_bin = (
            Rotation.from_euler("z", yaw if side == "right" else -yaw) * _UPRIGHT[side]
            for yaw in (vary.can_yaw, vary.bin_yaw)
        )
        while True:
            grasp = _at(self.object(can), table + _HELD_HEIGHT) - at_can.apply(_HELD + vary.grasp)
            beside = grasp - at_can.apply([0.0, 0.0, 0.045])
            yield from self.go(side, _at(beside, table + 0.13), at_can, near=0.03)
            yield from self.pause()
            yield from self.reach(side, beside, beyond=_BIAS, near=0.01)
            yield from self.reach(side, grasp, beyond=_BIAS, near=0.005, speed=0.006, patience=40)
            arm.fingers = _TURNED
            yield from self.wait(5)
            arm.fingers = CLOSED
            yield from self.wait(18)
            yield from self.pause()
            lifted = _at(arm.position, table + vary.travel)
            yield from self.go(side, lifted, speed=0.012, near=0.03)
            if self.object(can)[2] > table + 0.1:
                break
            arm.fingers = OPEN
            yield from self.wait(12)
        yield from self.pause()
        drop = self.object(bin_)[:2] + vary.drop
        for _ in range(2):  # once more, as the can may tilt in the hand on the way
            held = at_bin.apply(arm.rotation.inv().apply(self.object(can)[:3] - arm.position))
            over = _at(drop - held[:2], table + vary.travel)
            yield from self.go(side, over, at_bin, speed=0.018, near=0.015)
        yield from self.pause()
        yield from self.go(side, _at(over, table + 0.135), speed=0.012, near=0.01)
        arm.fingers = _TURNED  # the thumb would lift the can if it turned back at once
        yield from self.wait(12)
        arm.fingers = OPEN
        yield from self.go(side, _at(over, table + 0.22), near=0.02)


def _at(position: Vector, height: float) -> Vector:
    """The same place at another height, m, world frame."""
    return np.append(position[:2], height)
