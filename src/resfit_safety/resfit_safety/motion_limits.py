"""Limits of absolute joint position commands, one every control period.

All violations are texts that name the joint, the expected and the found; an empty one means none.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Robot units; more than the rounding of float32 commands, less than any limit is known to.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class MotionLimits:
    """A joints, commanded together.

    Attributes:
        joints: names, in the order of a command.
        period: s between two commands.
        velocity: (A,) rad/s or m/s, largest.
        acceleration: (A,) rad/s2 or m/s2, largest.
        measured_step: (A,) rad or m, largest distance of a command from the measured position.

    Raises:
        ValueError: lengths that differ, a limit or a period that is not above 0.
    """

    joints: tuple[str, ...]
    period: float
    velocity: tuple[float, ...]
    acceleration: tuple[float, ...]
    measured_step: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 0 < self.period < np.inf:
            raise ValueError(f"motion limits: period: expected a time > 0, found {self.period}")
        for name in ("velocity", "acceleration", "measured_step"):
            values = getattr(self, name)
            if len(values) != len(self.joints):
                raise ValueError(
                    f"motion limits: {name}: expected {len(self.joints)} values, "
                    f"found {len(values)}"
                )
            for joint, value in zip(self.joints, values, strict=True):
                if not value > 0:  # Also true with NaN.
                    raise ValueError(
                        f"motion limits: {name} of {joint}: expected > 0, found {value}"
                    )

    def violation(
        self,
        command: NDArray[np.float64],
        last: NDArray[np.float64],
        before_last: NDArray[np.float64],
    ) -> str:
        """Of velocity or acceleration, by `command` after the two commands before it; all (A,)."""
        change = command - last
        too_fast = np.abs(change) > self._largest_change + TOLERANCE
        if too_fast.any():
            i = int(np.flatnonzero(too_fast)[0])
            return (
                f"velocity of {self.joints[i]}: expected at most {self.velocity[i]:g} /s, "
                f"found {change[i] / self.period:.4g} /s"
            )
        bend = change - (last - before_last)
        too_sudden = np.abs(bend) > self._largest_bend + TOLERANCE
        if too_sudden.any():
            i = int(np.flatnonzero(too_sudden)[0])
            return (
                f"acceleration of {self.joints[i]}: expected at most "
                f"{self.acceleration[i]:g} /s2, found {bend[i] / self.period**2:.4g} /s2"
            )
        return ""

    def step_violation(
        self, command: NDArray[np.float64], measured: Mapping[str, float] | NDArray[np.float64]
    ) -> str:
        """Of the distance from `measured`: by joint, or (A,). A joint not measured violates it."""
        if isinstance(measured, Mapping):
            measured = np.array([measured.get(joint, np.nan) for joint in self.joints])
        too_far = ~(np.abs(command - measured) <= self._measured_step + TOLERANCE)
        if too_far.any():
            i = int(np.flatnonzero(too_far)[0])
            return (
                f"step of {self.joints[i]}: expected a command within {self.measured_step[i]:g} "
                f"of its measured position {measured[i]:.4g}, found {command[i]:.4g}"
            )
        return ""

    @functools.cached_property
    def _largest_change(self) -> NDArray[np.float64]:
        return np.array(self.velocity) * self.period

    @functools.cached_property
    def _largest_bend(self) -> NDArray[np.float64]:
        return np.array(self.acceleration) * self.period**2

    @functools.cached_property
    def _measured_step(self) -> NDArray[np.float64]:
        return np.array(self.measured_step)
