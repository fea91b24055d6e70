"""Sensors that go on sending what they sent before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Every so many rows are compared first: pictures that differ mostly do so there.
_SPARSE = 16


class RepeatCounter:
    """How many times in a row a sensor gave the same value, bit for bit.

    Attributes:
        count: of the newest value, 0 before the first.
    """

    def __init__(self) -> None:
        self._last: NDArray | None = None
        self.count = 0

    def add(self, value: NDArray) -> int:
        """Take in a measurement, an array of any shape; the count with it. It is kept: no copy."""
        last, self._last = self._last, value
        same = (
            last is not None
            and np.array_equal(last[::_SPARSE], value[::_SPARSE])
            and np.array_equal(last, value)
        )
        self.count = self.count + 1 if same else 1
        return self.count


class FrozenCheck:
    """Whether a sensor gives the same value again and again while what it measures moves.

    The same value alone is no fault: a simulation at rest repeats itself bit for bit. A sensor that
    froze while nothing moves is found once something does.

    Args:
        max_identical: the same value with that many new stamps in a row is a frozen sensor, 2 or
            more; 0: never.
        least_motion: largest change of `position` since that value first came, in its units, that
            may leave the value as it was.

    Attributes:
        motion: largest change of any element of `position` since the newest value first came.
        count: measurements in a row with that value.
    """

    def __init__(self, max_identical: int, least_motion: float) -> None:
        if max_identical < 0 or max_identical == 1:
            raise ValueError(f"max_identical: expected 0, or 2 and more, found {max_identical}")
        self._limit = max_identical
        self._least = least_motion
        self._repeats = RepeatCounter()
        self._stamp: int | None = None
        self._start: NDArray[np.float64] | None = None
        self.motion = 0.0

    @property
    def count(self) -> int:
        return self._repeats.count

    def add(self, stamp: int, value: NDArray, position: NDArray[np.float64] | None) -> bool:
        """Take in one measurement. Whether the sensor is frozen.

        Args:
            stamp: ns; the same stamp again is the same measurement.
            value: any shape, kept: it must not be written to later.
            position: (P,) of what the value must follow, or None where it is not known.
        """
        if not self._limit:
            return False
        before = self.count
        count = self._repeats.add(value)
        if count == 1:
            self._start, self.motion = position, 0.0
        elif stamp == self._stamp:
            self._repeats.count = before
        self._stamp = stamp
        self.follow(position)
        return self.frozen

    def follow(self, position: NDArray[np.float64] | None) -> None:
        """What is measured is at `position` now; as in add()."""
        if position is None:
            return
        if self._start is None or self._start.shape != position.shape:
            self._start = position
        # NaN is no motion.
        self.motion = float(np.fmax.reduce(np.abs(position - self._start), initial=self.motion))

    @property
    def frozen(self) -> bool:
        """By what was taken in so far."""
        return bool(self._limit) and self.count >= self._limit and self.motion > self._least
