"""Collisions of a robot with itself and with its surroundings on the way to a command."""

from resfit_safety.collision.checker import MotionChecker, Proximity
from resfit_safety.collision.obstacles import Box, HalfSpace, Obstacle

__all__ = ["Box", "HalfSpace", "MotionChecker", "Obstacle", "Proximity"]
