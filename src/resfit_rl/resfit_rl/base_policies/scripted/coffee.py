"""Coffee by GR1: the right hand lets the pod fall into the machine, the left hand shuts the lid."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from resfit_rl.base_policies.scripted.two_hands import OPEN, Script, TwoHandsExpert
from resfit_rl.tasks import Task

Vector = NDArray[np.float64]

_POD, _MACHINE, _LID = "coffee_pod", "coffee_machine", "coffee_machine_lid"
# Fingers forward, palms facing each other, thumbs up.
_RIGHT = Rotation.from_matrix([[0, -1, 0], [0, 0, 1], [-1, 0, 0]])
_LEFT = Rotation.from_matrix([[0, -1, 0], [0, 0, -1], [1, 0, 0]])
# The pod's middle when held, m in the hand's frame: between thumb and fingers, its foot below them.
_HELD = np.array([0.013, -0.07, 0.051])
# What pushes the lid, m in the left hand's frame: the roots of the fingers.
_PUSH = np.array([0.0, -0.125, 0.024])
_TURNED = np.array([-1.0, -1.0, -1.0, -1.0, -1.0, 1.0])
_GRASP = np.ones(6)
_BIAS = 0.05  # m; how far beyond a place a command may be so that the arm comes there
# m, in the machine's frame: heights of the holder's rim and of the lid's hinge, the hinge's place.
_RIM, _HINGE, _HINGE_X = 0.25, 0.2535, -0.067
_POD_HALF = 0.049  # m, half its height
_SHUT = 0.15  # rad


class _Variation(NamedTuple):
    """What differs from one episode to the next, as from one human demonstration to the next."""

    grasp: Vector  # (3,) m, offset of the hand's place at the pod, in the hand's frame
    yaw: float  # rad, how far the right hand is turned inwards at the pod
    over: float  # rad, at the machine
    travel: float  # m, height of the pod's foot above the rim on the way
    drop: Vector  # (2,) m, from the holder's middle
    left: float  # rad, how far the left hand is turned inwards
    push: Vector  # (2,) m, offset of the push along the lid's width and up


class CoffeeExpert(TwoHandsExpert):
    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        super().__init__(task, rng)
        self._variation = _Variation(
            grasp=rng.uniform([-0.004, -0.004, -0.002], [0.003, 0.004, 0.003]),
            yaw=rng.uniform(0.0, 0.25),
            over=rng.uniform(0.5, 0.7),
            travel=rng.uniform(0.015, 0.035),
            drop=rng.uniform(-0.003, 0.003, 2),
            left=rng.uniform(0.35, 0.55),
            push=rng.uniform([-0.015, -0.005], [0.015, 0.015]),
        )

    def script(self) -> Script:
        for needed in (_POD, _MACHINE, _LID):
            self.object(needed)
        yield from self._take()
        yield from self._insert()
        yield from self._shut()

    def _take(self) -> Script:
        """The right hand takes the pod and lifts it above the rim; again if it slipped."""
        arm, vary = self.arms["right"], self._variation
        upright = Rotation.from_euler("z", vary.yaw) * _RIGHT
        while True:
            grasp = self.object(_POD)[:3] - upright.apply(_HELD + vary.grasp)
            beside = grasp - upright.apply([0.0, 0.0, 0.04])
            yield from self.reach("right", beside, upright, beyond=_BIAS, near=0.01)
            yield from self.pause()
            yield from self.reach(
                "right", grasp, beyond=_BIAS, near=0.004, speed=0.006, patience=40
            )
            arm.fingers = _TURNED
            yield from self.wait(5)
            arm.fingers = _GRASP
            yield from self.wait(18)
            yield from self.pause()
            height = self._rim() + _POD_HALF + vary.travel - upright.apply(_HELD)[2]
            lifted = np.append(arm.position[:2], height)
            yield from self.go("right", lifted, speed=0.014, near=0.02)
            if self.object(_POD)[2] > self._rim():
                return
            arm.fingers = OPEN
            yield from self.wait(12)
            yield from self.go("right", [beside[0], beside[1], height], near=0.03)

    def _insert(self) -> Script:
        """Bring the pod over the holder, lower its foot into it, let go, draw back."""
        arm, vary = self.arms["right"], self._variation
        upright = Rotation.from_euler("z", vary.over) * _RIGHT
        over = self.object(_MACHINE)[:2] + vary.drop
        yield from self._bring(over, _POD_HALF + vary.travel, upright, near=0.01, speed=0.014)
        yield from self.pause()
        yield from self._bring(over, _POD_HALF - 0.007, upright, near=0.005, speed=0.008)
        yield from self._bring(over, _POD_HALF - 0.012, upright, near=0.004, speed=0.006)
        arm.fingers = _TURNED  # the thumb would lift the pod if it turned back at once
        rim = self._rim()
        yield from self.until(lambda: bool(self.object(_POD)[2] < rim - 0.03), 20)
        yield from self.wait(3)

    def _shut(self) -> Script:
        """The left hand pushes the lid over and presses it down while the right hand goes."""
        right, vary = self.arms["right"], self._variation
        back = right.position - right.rotation.apply([0.0, 0.0, 0.07])
        back += np.array([-0.04, 0.0, 0.02])
        self.send("right", back, speed=0.012)
        upright = Rotation.from_euler("z", -vary.left) * _LEFT
        width, up = vary.push

        def place(beyond: float, above: float) -> Vector:
            """Of the wrist, for the push to be so far before and above the hinge, m."""
            machine = self.object(_MACHINE)
            point = [_HINGE_X + beyond, width, _HINGE + above]
            turn = Rotation.from_quat(machine[3:])
            return np.asarray(machine[:3] + turn.apply(point) - upright.apply(_PUSH))

        while True:
            yield from self.go("left", place(-0.09, 0.075 + up), upright, near=0.02)
            right.fingers = OPEN
            yield from self.pause()
            self.send("right", back + np.array([-0.03, -0.08, -0.06]), speed=0.012)
            yield from self.reach(
                "left", place(0.07, 0.07 + up), beyond=_BIAS, near=0.01, speed=0.01
            )
            yield from self.pause()
            self.send("left", place(0.07, 0.045), speed=0.006)
            yield from self.until(lambda: self._lid_angle() < _SHUT, 25)
            if self._lid_angle() < _SHUT:
                return
            yield from self.go("left", place(0.03, 0.2), near=0.03)
            yield from self.go("left", place(-0.09, 0.18), near=0.03)

    def _bring(
        self, over: Vector, height: float, upright: Rotation, *, near: float, speed: float
    ) -> Script:
        """Move the pod's middle over `over`, `height` m above the rim, to within `near` m."""
        arm = self.arms["right"]
        bias: Vector = np.zeros(3)
        for _ in range(60):
            pod = self.object(_POD)[:3]
            # The pod's place in the hand turns with it.
            held = upright.apply(arm.rotation.inv().apply(pod - arm.position))
            goal = np.append(over, self._rim() + height)
            if np.linalg.norm(self._command["right"][0] - arm.goal_position) < 0.002:
                bias = np.clip(bias + 0.15 * (goal - pod), -_BIAS, _BIAS)
            self.send("right", goal - held + bias, upright, speed=speed)
            yield
            if np.linalg.norm(goal - self.object(_POD)[:3]) < near:
                return

    def _rim(self) -> float:
        """Height of the holder's rim, m, world frame."""
        return float(self.object(_MACHINE)[2]) + _RIM

    def _lid_angle(self) -> float:
        """Between the lid and where it is shut, rad."""
        machine = Rotation.from_quat(self.object(_MACHINE)[3:])
        x, _, z = (machine.inv() * Rotation.from_quat(self.object(_LID)[3:])).apply([1.0, 0.0, 0.0])
        return float(np.arctan2(z, x))
