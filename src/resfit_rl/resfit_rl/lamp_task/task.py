"""A point to be brought to a place under side wind, where a lamp tells how the base policy errs.

The base policy reads the wind from faint marks in the image, steers against it, and aims at the
middle whatever the lamp. Lit red, the goal is beside the middle on one side, lit blue on the other
one: what the residual has to learn is small, and only the pixels tell it. Learning all of
it from scratch is hard: without the counter-steering an episode ends at its first steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from resfit_rl.agent import AgentSpec
from resfit_rl.observation import Observation

FloatArray = NDArray[np.float32]

CAMERA = "top"
IMAGE_SIZE = 84  # pixels
STEPS = 6  # of an episode that is not ended by the wind
SPEC = AgentSpec(
    cameras={CAMERA: (IMAGE_SIZE, IMAGE_SIZE)},
    state_dim=2,
    action_dim=2,
    action_lower=-np.ones(2, np.float32),
    action_upper=np.ones(2, np.float32),
)
# Lengths are in half sides of the picture, velocities in SPEED per step.
SPEED = 0.25
TOLERANCE = 0.07  # of x, at the end
LIMIT = 0.15  # of y, at every step
WIND = (0.65, 0.8)  # along y, either way
_COLOURS = np.array([[90, 90, 90], [230, 60, 60], [60, 90, 230]], np.uint8)  # off, red, blue
_SHARE = (0.4, 0.3, 0.3)  # how often each is seen
_GOAL = (0.0, -0.13, 0.13)  # x with each colour
_LAMP, _MARK, _POINT_RADIUS = 32, 4, 3  # pixels
_ROWS, _COLUMNS = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE]


class LampTask:
    """Episodes of a point (x, y) that is steered by its velocity."""

    def reset(self, seed: int) -> Observation:
        """The first observation; the same seed gives the same episode."""
        rng = np.random.default_rng(seed)
        self._lamp = int(rng.choice(3, p=_SHARE))
        self._point = np.array([rng.uniform(-0.4, 0.4), rng.uniform(-0.02, 0.02)])
        self._wind = rng.uniform(*WIND) * rng.choice([-1, 1])
        self._steps = 0
        return self._observe()

    def step(self, action: FloatArray) -> tuple[Observation, bool]:
        """Take `action` (2,), -1 to 1; the next observation, and whether the episode is over."""
        velocity = np.clip(action.astype(np.float64), -1.0, 1.0) - [0.0, self._wind]
        self._point = np.clip(self._point + SPEED * velocity, -1.0, 1.0)
        self._steps += 1
        return self._observe(), self._steps == STEPS or self._blown_away

    @property
    def success(self) -> bool:
        """Whether an episode that is over ended at the goal."""
        beside = abs(self._point[0] - _GOAL[self._lamp])
        return not self._blown_away and bool(beside < TOLERANCE)

    @property
    def _blown_away(self) -> bool:
        return bool(abs(self._point[1]) > LIMIT)

    def _observe(self) -> Observation:
        image = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        image[:] = 30
        image[:_LAMP, :_LAMP] = _COLOURS[self._lamp]
        image[-_MARK:, :_MARK] = np.rint(128 + 127 * self._wind)
        x, y = (0.5 + 0.5 * self._point) * (IMAGE_SIZE - 1)
        image[(_COLUMNS - x) ** 2 + (_ROWS - y) ** 2 <= _POINT_RADIUS**2] = 255
        return Observation({CAMERA: image}, self._point.astype(np.float32))


class Pilot:
    """A base policy: steers to where it aims, against the wind that it reads from the image.

    Args:
        identity: see BasePolicy.
        heeds_lamp: whether it aims at the goal or at the middle.
        aim_noise: deviation of the aim, drawn once an episode.
        action_noise: deviation of each action.
    """

    chunk_size = 1

    def __init__(
        self, identity: str, heeds_lamp: bool, aim_noise: float, action_noise: float
    ) -> None:
        self.identity = identity
        self._heeds_lamp = heeds_lamp
        self._aim_noise = aim_noise
        self._action_noise = action_noise
        self.reset(0)

    def reset(self, seed: int) -> None:
        """See BasePolicy.reset."""
        self._rng = np.random.default_rng([seed, 1])
        self._aim = self._rng.normal(0.0, self._aim_noise, 2)

    def predict_chunk(self, observation: Observation) -> FloatArray:
        """See BasePolicy.predict_chunk; (1, 2)."""
        image = observation.images[CAMERA]
        goal = self._aim.copy()
        if self._heeds_lamp:
            goal[0] += _GOAL[int((image[0, 0] == _COLOURS).all(axis=1).argmax())]
        wind = (float(image[-1, 0, 0]) - 128.0) / 127.0
        action = np.array([0.6, 0.8]) * (goal - observation.state) / SPEED + [0.0, wind]
        action += self._rng.normal(0.0, self._action_noise, 2)
        return np.clip(action, -1.0, 1.0).astype(np.float32)[None]


def expert() -> Pilot:
    """Nearly always at the goal; it makes the demonstrations."""
    return Pilot("lamp_task:expert", True, 0.0, 0.06)


def imperfect_base() -> Pilot:
    """Aims at the middle: successful where the lamp is off, about 40 % of all episodes."""
    return Pilot("lamp_task:base", False, 0.015, 0.0)
