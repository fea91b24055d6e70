"""Two arms with hands, led by goals: a script sets goals, each step moves towards them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from resfit_rl.base_policies.interface import BasePolicyError
from resfit_rl.observation import Observation
from resfit_rl.tasks import PoseTerm, Task, rotation_vector

Vector = NDArray[np.float64]
Script = Generator[None, None, None]

# What a delta action of 1 asks of robosuite's OSC_POSE controller, m and rad per step.
_POSITION_STEP = 0.05
_ROTATION_STEP = 0.5
_GAIN = 1.5
# Largest change of a delta action, and of an absolute command's speed, from one step to the next.
_SLEW = 0.25
_ACCELERATION = 0.006  # m per step, each step
_FINGER_STEP = 0.25  # of the range of [-1, 1], each step
OPEN, CLOSED = -np.ones(6), np.ones(6)


@dataclass
class Arm:
    """One arm: what is measured, what is wanted.

    Attributes:
        position, rotation: measured pose of the end effector, m, world frame.
        goal_position, goal_rotation: where it is to go; None holds where it is.
        speed: m per step at most; rotations take at most 6 rad for a metre of it.
        fingers: (6,) goal, of the task's hands in [-1, 1]: pinky, ring, middle, index, thumb, turn
            of the thumb.
    """

    position: Vector
    rotation: Rotation
    goal_position: Vector
    goal_rotation: Rotation
    fingers: Vector
    speed: float = 0.02

    def at_goal(self, near: float, turn: float = 0.1) -> bool:
        """Within `near` m and `turn` rad."""
        off = np.linalg.norm(self.goal_position - self.position)
        return bool(off < near and (self.goal_rotation * self.rotation.inv()).magnitude() < turn)


class ArmsExpert:
    """One episode of a script that sets goals of two arms, 'right' and 'left'.

    Args:
        rng: of what differs from one episode to the next, as from one human demonstration to the
            next.
    """

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        self.rng = rng
        self.arms: dict[str, Arm] = {}
        self.objects: Mapping[str, Vector] = {}
        self._task = task
        # Position, rotation and velocity, m per step, of what each arm is told.
        self._command: dict[str, tuple[Vector, Rotation, Vector]] = {}
        self._script = self.script()
        self.pace = rng.uniform(0.85, 1.15)  # factor on all speeds

    @abstractmethod
    def script(self) -> Script:
        """Sets goals of `arms` and yields once a step."""

    # For scripts.

    def object(self, name: str) -> Vector:
        """(7,) pose, m and quaternion x, y, z, w, world frame."""
        if name not in self.objects:
            raise BasePolicyError(
                f"scripted expert: expected the privileged pose of {name}, "
                f"found {sorted(self.objects)}"
            )
        return self.objects[name]

    def go(
        self,
        side: str,
        position: ArrayLike,
        rotation: Rotation | None = None,
        *,
        speed: float = 0.02,
        near: float = 0.01,
        turn: float = 0.15,
        patience: int = 80,
    ) -> Script:
        """Move an arm until it is within `near` m and `turn` rad, or `patience` steps are over."""
        self.send(side, position, rotation, speed=speed)
        yield from self.until(lambda: self.arms[side].at_goal(near, turn), patience)

    def send(
        self,
        side: str,
        position: ArrayLike,
        rotation: Rotation | None = None,
        *,
        speed: float = 0.02,
    ) -> None:
        """Set an arm's goal and go on; no `rotation` keeps the goal's."""
        arm = self.arms[side]
        arm.goal_position = np.array(position, np.float64)
        arm.goal_rotation = arm.goal_rotation if rotation is None else rotation
        arm.speed = speed * self.pace

    def until(self, reached: Callable[[], bool], patience: int = 80) -> Script:
        """Steps until `reached`, `patience` at most."""
        for _ in range(patience):
            yield
            if reached():
                return

    def wait(self, steps: int) -> Script:
        for _ in range(steps):
            yield

    def pause(self) -> Script:
        """Now and then a moment's rest, as a person takes it."""
        if self.rng.random() < 0.33:
            yield from self.wait(int(self.rng.integers(1, 9)))

    def reach(
        self,
        side: str,
        position: ArrayLike,
        rotation: Rotation | None = None,
        *,
        near: float,
        beyond: float,
        speed: float = 0.015,
        patience: int = 60,
    ) -> Script:
        """Like `go`; where the arm's limits keep the hand off, the command leads it.

        Args:
            beyond: m, along each axis; how far the command may be from the place.
        """
        arm, goal = self.arms[side], np.asarray(position, np.float64)
        bias: Vector = np.zeros(3)
        for _ in range(patience):
            if np.linalg.norm(self._command[side][0] - arm.goal_position) < 0.002:
                bias = np.clip(bias + 0.15 * (goal - arm.position), -beyond, beyond)
            self.send(side, goal + bias, rotation, speed=speed)
            yield
            if np.linalg.norm(goal - arm.position) < near:
                return

    def _lead(self, side: str, arm: Arm) -> tuple[Vector, Rotation]:
        """The command's next pose: straight to the goal, with bounded speed and acceleration."""
        position, rotation, velocity = self._command[side]
        way = arm.goal_position - position
        distance = float(np.linalg.norm(way))
        # The speed from which it can still stop in time.
        speed = min(arm.speed, float(np.sqrt(2 * _ACCELERATION * distance)), distance)
        wanted = way / max(distance, 1e-9) * speed
        change = wanted - velocity
        change *= min(1.0, _ACCELERATION / max(float(np.linalg.norm(change)), 1e-9))
        velocity = wanted if distance < _ACCELERATION else np.add(velocity, change)
        turn = (arm.goal_rotation * rotation.inv()).as_rotvec()
        turn *= min(1.0, 6 * arm.speed / max(float(np.linalg.norm(turn)), 1e-9))
        position, rotation = position + velocity, Rotation.from_rotvec(turn) * rotation
        self._command[side] = (position, rotation, velocity)
        return position, rotation


class TwoHandsExpert(ArmsExpert):
    """`arms` are robot 0 and 1 where there are two."""

    def __init__(self, task: Task, rng: np.random.Generator) -> None:
        super().__init__(task, rng)
        ends = [term.end_effector for term in task.state_layout if isinstance(term, PoseTerm)]
        self._ends = dict(zip(("right", "left"), ends, strict=True))
        self._absolute = dict(task.pose_actions)

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """(24,) float32; BasePolicyError: an observation without a pose that it needs."""
        self._look(observation)
        next(self._script, None)  # holds when the script is over
        action = np.empty(self._task.action_dim)
        for side, arm in self.arms.items():
            fingers = self._fingers[side]
            fingers += np.clip(arm.fingers - fingers, -2 * _FINGER_STEP, 2 * _FINGER_STEP)
            if self._absolute:
                first = self._absolute[self._ends[side]]
                action[first : first + 6] = self._pose_action(side, arm, first)
                second = 12 + (0 if side == "right" else 6)
            else:
                first = 0 if side == "right" else 12
                action[first : first + 6] = self._delta_action(side, arm)
                second = first + 6
            action[second : second + 6] = fingers
        return np.clip(action, self._task.action_lower, self._task.action_upper).astype(np.float32)

    # How goals become actions.

    def _look(self, observation: Observation) -> None:
        poses: dict[str, Vector] = {}
        index = 0
        for term in self._task.state_layout:
            if isinstance(term, PoseTerm):
                poses[term.end_effector] = observation.state[index : index + 7].astype(np.float64)
            index += term.size
        self.objects = observation.privileged
        first = not self.arms
        for side, end in self._ends.items():
            position, rotation = poses[end][:3], Rotation.from_quat(poses[end][3:])
            if first:
                self.arms[side] = Arm(position, rotation, position, rotation, OPEN.copy())
            self.arms[side].position, self.arms[side].rotation = position, rotation
        if first:
            self._fingers = {side: OPEN.copy() for side in self.arms}
            self._command = {s: (a.position, a.rotation, np.zeros(3)) for s, a in self.arms.items()}
            self._delta = {side: np.zeros(6) for side in self.arms}

    def _pose_action(self, side: str, arm: Arm, first: int) -> Vector:
        """(6,): the command's pose."""
        position, rotation = self._lead(side, arm)
        rest = np.add(self._task.action_lower, self._task.action_upper)[first + 3 : first + 6] / 2
        return np.concatenate([position, rotation_vector(rotation.as_quat(), rest)])

    def _delta_action(self, side: str, arm: Arm) -> Vector:
        """(6,): a proportional servo on the measured pose, scaled as a whole to stay straight."""
        error = arm.goal_position - arm.position
        turn = (arm.goal_rotation * arm.rotation.inv()).as_rotvec()
        motion = _GAIN * np.concatenate([error / _POSITION_STEP, turn / _ROTATION_STEP])
        limit = min(1.0, arm.speed / 0.02)
        motion[:3] /= max(1.0, float(np.abs(motion[:3]).max()) / limit)
        motion[3:] /= max(1.0, float(np.abs(motion[3:]).max()) / limit)
        self._delta[side] = self._delta[side] + np.clip(motion - self._delta[side], -_SLEW, _SLEW)
        return self._delta[side]
