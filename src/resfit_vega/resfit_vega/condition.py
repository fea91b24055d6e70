"""Whether what the robot measures allows it to be moved; no ROS, no SDK."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from resfit_rl.robots.vega import COMMANDED_JOINTS, TORSO_JOINTS
from resfit_vega.hardware import Measurement


class Condition:
    """Judges one measurement after the other.

    All texts name the thing, the expected and the found; an empty one means nothing.

    Args:
        joint_limits: commanded joint -> (lowest, highest) rad measured.
        torso_limits: torso joint -> likewise.
        max_age: s that a part or a wrist may be silent.

    Attributes:
        limits: of all these joints.
        ages: part or wrist -> s, at the last measurement.
    """

    def __init__(
        self,
        joint_limits: Mapping[str, tuple[float, float]],
        torso_limits: Mapping[str, tuple[float, float]],
        max_age: float,
    ) -> None:
        self.limits = {**joint_limits, **torso_limits}
        self._max_age = max_age
        self._seen: dict[str, tuple[int, float]] = {}
        self.ages: dict[str, float] = {}

    def problem(self, measurement: Measurement, now: float) -> str:
        """The worst that is wrong with it.

        Args:
            now: s of a steady clock. A part's state is as old as the time since its stamp was
                another one: the robot's clock need not agree with ours.
        """
        self._tell_ages(measurement, now)
        if measurement.connection:
            return f"connection to the robot: {measurement.connection}"
        if measurement.emergency_stop:
            return (
                "the robot's own emergency stop: expected it released, "
                f"found {measurement.emergency_stop} engaged"
            )
        if measurement.controller_errors:
            return (
                "motor controllers: expected no error, found one of "
                f"{', '.join(measurement.controller_errors)}"
            )
        return (
            self.not_finite(measurement)
            or self._silent()
            or self.torso(measurement)
            or _outside(COMMANDED_JOINTS, measurement.positions, self.limits)
        )

    def not_finite(self, measurement: Measurement) -> str:
        """The first value that no sensor could have measured."""
        for names, values, what in (
            (COMMANDED_JOINTS, measurement.positions, "position"),
            (COMMANDED_JOINTS, measurement.velocities, "velocity"),
            (TORSO_JOINTS, measurement.torso, "position"),
        ):
            for i in np.flatnonzero(~np.isfinite(values)):
                return f"joint {names[i]}: expected a finite {what}, found {values[i]}"
        for wrist, wrench in measurement.wrenches.items():
            if wrench.shape != (6,) or not np.isfinite(wrench).all():
                return f"wrench {wrist}: expected 6 finite values, found {wrench.tolist()}"
        return ""

    def torso(self, measurement: Measurement) -> str:
        """Which joint of the torso is not where the collision checks hold."""
        return _outside(TORSO_JOINTS, measurement.torso, self.limits)

    def _silent(self) -> str:
        for part, age in self.ages.items():
            if age > self._max_age:
                return (
                    f"{part}: expected a new state within {self._max_age:g} s, "
                    f"found none for {age:.2f} s"
                )
        return ""

    def _tell_ages(self, measurement: Measurement, now: float) -> None:
        for part, stamp in measurement.stamps.items():
            if self._seen.get(part, (None, 0.0))[0] != stamp:
                self._seen[part] = stamp, now
            self.ages[part] = now - self._seen[part][1]
        for wrist, age in measurement.wrench_ages.items():
            self.ages[f"wrench {wrist}"] = age


def _outside(names, positions, limits: Mapping[str, tuple[float, float]]) -> str:
    for joint, position in zip(names, positions, strict=True):
        lower, upper = limits[joint]
        if not lower <= position <= upper:
            return (
                f"joint {joint}: expected a measured position in [{lower:.4g}, {upper:.4g}], "
                f"found {position:.4g}"
            )
    return ""


def disagreement(
    found: Mapping[str, tuple[float, float]], expected: Mapping[str, tuple[float, float]]
) -> str:
    """Whose limits the robot's SDK and the description that we check with do not agree on.

    Args:
        found, expected: joint -> (lower, upper) rad.
    """
    for joint, limits in expected.items():
        if joint not in found:
            return f"joint {joint}: expected the robot to have it, found {', '.join(found)}"
        if not np.allclose(found[joint], limits, rtol=0.0, atol=1e-3):
            return (
                f"joint {joint}: expected the limits {limits[0]:.4g} and {limits[1]:.4g} of "
                f"dexmate-urdf, found {found[joint][0]:.4g} and {found[joint][1]:.4g}"
            )
    return ""
