"""Importing this registers our scenes with robosuite, by the names of their classes."""

from resfit_rl.simulation.scenes.box_cleanup import BoxCleanup
from resfit_rl.simulation.scenes.can_sort import CanSort
from resfit_rl.simulation.scenes.coffee import Coffee

__all__ = ["BoxCleanup", "CanSort", "Coffee"]
