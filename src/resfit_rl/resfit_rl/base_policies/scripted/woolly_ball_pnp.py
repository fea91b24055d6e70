"""WoollyBallPnP by Vega: the right hand closes around the ball, and opens over the bin."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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

# Where the ball's middle is when the hand closes, m in the frame of the hand's mount: before the
# finger tips' arc; they draw it in.
_HELD = np.array([-0.135, -0.018, -0.065])


class _Variation(NamedTuple):
    """What differs from one episode to the next, as from one human demonstration to the next."""

    grasp: Vector  # (3,) m, offset of the hand's place at the ball, in the hand's frame
    pitch: float  # rad, how far the fingers point down
    roll: float  # rad, how far the palm faces down
    yaw: float  # rad, how far the fingers point inwards
    above: float  # m, height over the grasp from which the hand comes down
    travel: float  # m, height of the ball above the table on the way
    drop: Vector  # (2,) m, from the bin's middle


class WoollyBallPnPExpert(VegaExpert):
    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        super().__init__(task, rng)
        self._variation = _Variation(
            grasp=rng.uniform([-0.005, -0.004, -0.003], [0.004, 0.004, 0.003]),
            pitch=rng.uniform(0.62, 0.76),
            roll=rng.uniform(0.9, 1.05),
            yaw=rng.uniform(0.1, 0.3),
            above=rng.uniform(0.09, 0.13),
            travel=rng.uniform(0.15, 0.19),
            drop=rng.uniform(-0.03, 0.03, 2),
        )

    def script(self) -> Script:
        arm, vary = self.arms["right"], self._variation
        table = self.object("bin")[2]
        turned = hand_rotation("right", vary.yaw, vary.pitch, vary.roll)
        arm.fingers = OPEN
        while True:
            ball = self.object("ball")[:3]
            grasp = ball - turned.apply(_HELD + vary.grasp)
            above = raised(grasp, vary.above)
            yield from self.go("right", above, turned, near=0.02)
            yield from self.pause()
            yield from self.go("right", grasp, speed=0.008, near=0.004, turn=0.05, patience=60)
            arm.fingers = CLOSED
            yield from self.wait(14)
            yield from self.pause()
            yield from self.go("right", above, speed=0.012, near=0.02)
            if self.object("ball")[2] > table + 0.07:
                break
            arm.fingers = OPEN
            yield from self.wait(10)
        yield from self.pause()
        goal = np.append(self.object("bin")[:2] + vary.drop, table + vary.travel)
        over = goal + arm.goal_position - self.object("ball")[:3]
        yield from self.go("right", over, speed=0.018, near=0.015)
        yield from self.pause()
        lower = raised(over, 0.09 - vary.travel)
        yield from self.go("right", lower, speed=0.01, near=0.01)
        arm.fingers = OPEN
        yield from self.wait(10)
        yield from self.go("right", over, speed=0.012, near=0.02)
