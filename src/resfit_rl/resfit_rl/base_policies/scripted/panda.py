"""Can, Square and Lift by one Panda, from the true poses of the objects.

Phases: hover, descend, close, lift, carry, lower, open, retreat; each a proportional servo on the
end effector's pose. A grasp that failed is tried again.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from resfit_rl.base_policies.interface import BasePolicyError
from resfit_rl.observation import Observation
from resfit_rl.tasks import Task

Vector = NDArray[np.float64]
_Script = Generator[Vector, None, None]

# What an action of 1 asks of robosuite's OSC_POSE controller, m and rad per step.
_POSITION_STEP = 0.05
_ROTATION_STEP = 0.5
_GAIN = 1.5
_OPEN, _CLOSED = -1.0, 1.0
# Largest change of a motion's action from one step to the next: starts are soft too.
_SLEW = 0.25
# Tool pointing down, fingers opening along y of the world: yaw 0.
_DOWN = Rotation.from_matrix([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
# Where the nut is held, m in its frame: outward on the handle, since nearer the fingers hit the
# nut's frame, and barely above its middle, since higher they slip off.
_HANDLE = np.array([0.062, 0.0, 0.002])
# Yaws that joint 7 reaches with some room, rad.
_YAW_RANGE = (-1.9, 1.9)


class _Variation(NamedTuple):
    """What differs from one episode to the next, as from one human demonstration to the next."""

    speed: float  # factor on the speeds
    grasp: Vector  # (3,) m, offset of the grasp in the object's frame
    height: float  # m, added to the heights of travel


class PandaExpert:
    """One episode; it reads the end effector's pose in `state`."""

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        self._variation = _Variation(
            speed=rng.uniform(0.85, 1.15),
            grasp=rng.uniform([-0.003, -0.003, -0.0015], [0.003, 0.003, 0.0015]),
            height=rng.uniform(-0.015, 0.02),
        )
        self._gripper = _OPEN
        self._last = np.zeros(6)
        scripts = {"can": self._can, "square": self._square, "lift_state": self._lift}
        self._script: Iterator[Vector] = scripts[task.name]()

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """(7,) float32; BasePolicyError: an observation without a pose that it needs."""
        self._position = observation.state[:3].astype(np.float64)
        self._rotation = Rotation.from_quat(observation.state[3:7])
        self._objects: Mapping[str, Vector] = observation.privileged
        wanted = np.clip(next(self._script), -1, 1)
        self._last += np.clip(wanted - self._last, -_SLEW, _SLEW)
        return np.append(self._last, self._gripper).astype(np.float32)

    def _can(self) -> _Script:
        vary = self._variation
        travel = 1.05 + vary.height
        while True:
            can = self._object("Can")[:3] + vary.grasp
            yield from self._go(can + _up(0.09), 0.0, near=0.012)
            yield from self._go(can + _up(0.018), 0.0, speed=0.5, near=0.006, funnel=0.012)
            yield from self._grip(_CLOSED)
            yield from self._go(np.append(can[:2], travel), 0.0, near=0.03, speed=0.7)
            if self._object("Can")[2] > travel - 0.15:
                break
            yield from self._grip(_OPEN)
        # Nearer to the robot than the compartment's centre, which is at the end of its reach.
        bin_ = self._object("VisualCan")[:3] - [0.04, 0.045, 0.0]
        over = np.array([bin_[0], bin_[1], travel])
        yield from self._go(over, 0.0, near=0.015)
        yield from self._go(np.append(over[:2], bin_[2] + 0.045), 0.0, speed=0.5, near=0.012)
        yield from self._grip(_OPEN)
        yield from self._go(over, 0.0, near=0.01)
        yield from self._rest()

    def _lift(self) -> _Script:
        vary = self._variation
        while True:
            cube = self._object("cube")
            place = cube[:3] + vary.grasp
            # The fingers close on two of its four sides, whichever need the smaller turn.
            yaw = _wrapped(4 * _yaw(Rotation.from_quat(cube[3:]))) / 4
            yield from self._go(place + _up(0.06), yaw, near=0.012)
            yield from self._go(place, yaw, speed=0.5, near=0.006, funnel=0.012)
            yield from self._grip(_CLOSED)
            yield from self._go(place + _up(0.1 + vary.height), yaw, near=0.01, speed=0.7)
            if self._object("cube")[2] > cube[2] + 0.05:
                break
            yield from self._grip(_OPEN)
        yield from self._rest()

    def _square(self) -> _Script:
        vary = self._variation
        travel = 1.03 + vary.height
        while True:
            handle, grasp_yaw, peg_yaw, nut_yaw = self._square_grasp()
            yield from self._go(handle + _up(0.07), grasp_yaw, near=0.01)
            yield from self._go(handle, grasp_yaw, speed=0.4, near=0.0035, funnel=0.01)
            yield from self._grip(_CLOSED)
            yield from self._go(np.append(handle[:2], travel), grasp_yaw, near=0.03, speed=0.5)
            if self._object("SquareNut")[2] > travel - 0.1:
                break
            yield from self._grip(_OPEN)
        peg = self._object("peg1")[:3]
        yaws = (peg_yaw, nut_yaw)
        yield from self._carry_nut(peg, travel, yaws, speed=0.8, near=0.004, turn=0.04)
        yield from self._carry_nut(peg, 0.965, yaws, speed=0.3, near=0.004, turn=0.04)
        yield from self._carry_nut(peg, 0.86, yaws, speed=0.3, near=0.01, turn=0.1)
        yield from self._grip(_OPEN)
        yield from self._go(self._position + _up(0.12), peg_yaw, near=0.01)
        yield from self._rest()

    def _square_grasp(self) -> tuple[Vector, float, float, float]:
        """Handle's position; the tool's yaw on it; over the peg, the tool's yaw and the nut's.

        The fingers straddle the handle either way round, and the nut fits the square peg four ways;
        the way that keeps the wrist closest to its rest is taken. Yaw 0 of the nut is left out: its
        handle would point away from the robot, at the end of the arm's reach.
        """
        nut = self._object("SquareNut")
        rotation = Rotation.from_quat(nut[3:])
        handle = nut[:3] + rotation.apply(_HANDLE + self._variation.grasp)
        nut_yaw = _yaw(rotation)
        low, high = _YAW_RANGE
        ways = [
            (max(abs(grasp), abs(over)) + 0.5 * abs(over - grasp), grasp, over, final)
            for grasp in nut_yaw + np.pi * np.arange(-2, 3)
            for final in np.pi / 2 * np.arange(-8, 9)
            for over in [grasp + final - nut_yaw]
            if low < grasp < high and low < over < high and np.cos(final) < 0.5
        ]
        return (handle, *min(ways)[1:])

    def _carry_nut(
        self,
        peg: Vector,
        height: float,
        yaws: tuple[float, float],
        *,
        speed: float,
        near: float,
        turn: float,
    ) -> _Script:
        """Bring the nut's hole over the peg, the nut's sides along the peg's, at `height`."""
        for _ in range(_patience(self._variation)):
            nut = self._object("SquareNut")
            error = np.array([peg[0], peg[1], height]) - nut[:3]
            off = _wrapped(_yaw(Rotation.from_quat(nut[3:])) - yaws[1])
            if np.linalg.norm(error[:2]) < near and abs(error[2]) < 0.012 and abs(off) < turn:
                return
            error[2] *= max(0.0, 1 - float(np.linalg.norm(error[:2])) / 0.01)
            tilt = self._turn_to(yaws[0])
            yield self._servo(error, np.array([tilt[0], tilt[1], -off]), speed)

    def _go(
        self,
        position: Vector,
        yaw: float,
        *,
        near: float,
        speed: float = 1.0,
        funnel: float = float("inf"),
    ) -> _Script:
        """Move the end effector to within `near` m and 0.06 rad.

        No lower while it is further than `funnel` m off to the side.
        """
        for _ in range(_patience(self._variation)):
            error = position - self._position
            turn = self._turn_to(yaw)
            if np.linalg.norm(error) < near and np.linalg.norm(turn) < 0.06:
                return
            error[2] *= max(0.0, 1 - float(np.linalg.norm(error[:2])) / funnel)
            yield self._servo(error, turn, speed)

    def _grip(self, gripper: float) -> _Script:
        self._gripper = gripper
        for _ in range(6):
            yield np.zeros(6)

    def _rest(self) -> _Script:
        while True:
            yield np.zeros(6)

    def _servo(self, error: Vector, turn: Vector, speed: float) -> Vector:
        limit = min(1.0, speed * self._variation.speed)
        motion = _GAIN * np.concatenate([error / _POSITION_STEP, turn / _ROTATION_STEP])
        # Scaled as a whole, so that the path stays straight.
        motion[:3] /= max(1.0, np.abs(motion[:3]).max() / limit)
        motion[3:] /= max(1.0, np.abs(motion[3:]).max() / limit)
        return motion

    def _turn_to(self, yaw: float) -> Vector:
        """Rotation vector, world frame, to the tool pointing down at `yaw`."""
        wanted = Rotation.from_euler("z", yaw) * _DOWN
        return (wanted * self._rotation.inv()).as_rotvec()

    def _object(self, name: str) -> Vector:
        if name not in self._objects:
            raise BasePolicyError(
                f"scripted expert: expected the privileged pose of {name}, "
                f"found {sorted(self._objects)}"
            )
        return self._objects[name]


def _patience(variation: _Variation) -> int:
    """Steps after which a phase gives way to the next, should its goal be out of reach."""
    return int(60 / variation.speed)


def _yaw(rotation: Rotation) -> float:
    matrix = rotation.as_matrix()
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))


def _up(height: float) -> Vector:
    return np.array([0.0, 0.0, height])


def _wrapped(angle: float) -> float:
    """`angle` in [-pi, pi), rad."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
