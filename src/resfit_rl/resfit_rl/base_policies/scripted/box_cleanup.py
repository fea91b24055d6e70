"""BoxCleanup by two hands, from the true poses of box and lid.

Phases: hands beside the handles, palms on them, close, lift together, carry over the box, lower,
open, retreat. A grasp that failed is tried again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from resfit_rl.base_policies.scripted.two_hands import OPEN, Script, TwoHandsExpert
from resfit_rl.tasks import Task

Vector = NDArray[np.float64]

# Fingers down, palms facing each other, thumbs away from the robots.
_INWARD = {
    "right": Rotation.from_matrix([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
    "left": Rotation.from_matrix([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]),
}
_OUTWARD = {"right": -1.0, "left": 1.0}  # along y of the lid
# The end effector's place with the palm on the handle, m in the lid's frame, y outward.
_GRASP = np.array([0.008, 0.211, 0.204])
_BESIDE = 0.055  # m that the hands come down further out
_SQUEEZE = 0.006  # m that the palms are asked to be nearer than they can
_LIFTED = 0.05  # m
# The lid's height over the box's bottom, m: closed, and with the inset free of the rim.
_CLOSED, _FREE = 0.107, 0.135
# Fingers hooked under the handle, the thumb round it from inside: bent further, it tips the lid.
_HOOKED = np.array([1.0, 1.0, 1.0, 1.0, 0.55, 1.0])


class BoxCleanupExpert(TwoHandsExpert):
    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        super().__init__(task, rng)
        self._offset = {
            side: rng.uniform([-0.004, -0.002, -0.004], [0.004, 0.002, 0.004]) for side in _INWARD
        }
        self._height = rng.uniform(0.0, 0.03)  # m, added to the height of travel
        self._squeeze = 0.0

    def script(self) -> Script:
        while not self._closed():
            yield from self._grasp()
            start, yaw = self._lid()
            self._squeeze = _SQUEEZE
            yield from self._carry(start + _up(_LIFTED), yaw, near=0.02, speed=0.5)
            yield from self._pause()
            if self._lid()[0][2] > start[2] + 0.5 * _LIFTED:
                yield from self._close_box(start, yaw)
            yield from self._release()

    def _close_box(self, start: Vector, yaw: float) -> Script:
        """Put the lid, lifted from `start` and `yaw`, onto the box."""
        box, box_yaw = _pose(self.object("box_body"))
        over = box + _up(_FREE + 0.02 + self._height)
        yield from self._carry(np.append(start[:2], over[2]), yaw, near=0.03, speed=0.7)
        yield from self._carry(over, box_yaw, near=0.015, speed=0.9)
        yield from self._pause()
        yield from self._align(box + _up(_FREE), box_yaw)
        yield from self._pause()
        yield from self._carry(box + _up(_CLOSED - 0.004), box_yaw, near=0.006, speed=0.3)
        yield from self.wait(10)

    def _grasp(self) -> Script:
        """Both hands to the handles, palms on them, fingers closed."""
        for out, near, speed in ((_BESIDE, 0.012, 0.02), (0.0, 0.006, 0.008)):
            self._place_hands(*self._lid(), out=out, speed=speed)
            yield from self._until_at_goals(near)
            yield from self._pause()
        for arm in self.arms.values():
            arm.fingers = _HOOKED
        yield from self.wait(18)
        self._carried = self._lid()

    def _release(self) -> Script:
        self._squeeze = 0.0
        for arm in self.arms.values():
            arm.fingers = OPEN
        self._place_hands(*self._carried, out=0.0, speed=0.01)
        yield from self.wait(15)
        self._place_hands(*self._carried, out=0.07, speed=0.01)
        yield from self._until_at_goals(0.015)

    def _carry(self, position: Vector, yaw: float, *, near: float, speed: float) -> Script:
        """Lead both hands, as one, until the lid should be at `position` (m) and `yaw` (rad)."""
        step = 0.02 * speed * self.pace
        for _ in range(100):
            at, turned = self._carried
            way, turn = position - at, yaw - turned
            part = min(1.0, step / max(float(np.linalg.norm(way)), 0.3 * abs(turn), 1e-9))
            # Waits for a hand that lags.
            if max(self._lags()) < 0.04:
                self._carried = (at + part * way, turned + part * turn)
            self._place_hands(*self._carried, out=-self._squeeze, speed=0.02)
            yield
            if part == 1.0 and max(self._lags()) < near:
                return

    def _align(self, position: Vector, yaw: float) -> Script:
        """Bring the lid itself, as it hangs in the hands, to `position` (m) and `yaw` (rad)."""
        for _ in range(40):
            at, turned = self._lid()
            off, turn = position - at, yaw - turned
            if np.linalg.norm(off[:2]) < 0.004 and abs(turn) < 0.03 and abs(off[2]) < 0.01:
                return
            self._carried = (self._carried[0] + 0.15 * off, self._carried[1] + 0.15 * turn)
            self._place_hands(*self._carried, out=-self._squeeze, speed=0.01)
            yield

    def _place_hands(self, lid: Vector, yaw: float, *, out: float, speed: float) -> None:
        """Send both hands to the handles of a lid there, `out` m further out."""
        turn = Rotation.from_euler("z", yaw)
        for side, outward in _OUTWARD.items():
            grasp = _GRASP * [1.0, outward, 1.0] + self._offset[side]
            grasp[1] += out * outward
            self.send(side, lid + turn.apply(grasp), turn * _INWARD[side], speed=speed)

    def _until_at_goals(self, near: float) -> Script:
        return self.until(lambda: all(arm.at_goal(near) for arm in self.arms.values()))

    def _lags(self) -> list[float]:
        return [float(np.linalg.norm(a.goal_position - a.position)) for a in self.arms.values()]

    def _closed(self) -> bool:
        off = self._lid()[0] - self.object("box_body")[:3]
        return bool(np.linalg.norm(off[:2]) < 0.02 and abs(off[2] - _CLOSED) < 0.004)

    def _lid(self) -> tuple[Vector, float]:
        return _pose(self.object("box_lid"))

    def _pause(self) -> Script:
        """Now and then, as a person."""
        if self.rng.random() < 1 / 3:
            yield from self.wait(int(self.rng.integers(9)))


def _pose(pose: Vector) -> tuple[Vector, float]:
    """Position (m) and yaw (rad) of a body."""
    matrix = Rotation.from_quat(pose[3:]).as_matrix()
    return pose[:3].copy(), float(np.arctan2(matrix[1, 0], matrix[0, 0]))


def _up(height: float) -> Vector:
    return np.array([0.0, 0.0, height])
