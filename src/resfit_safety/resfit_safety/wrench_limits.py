"""Whether the wrenches at the wrists allow motion; no ROS, no clock of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from resfit_rl.observation import FrozenCheck


@dataclass(frozen=True)
class WristLimits:
    """Largest magnitudes of one wrist.

    Attributes:
        max_force: N.
        max_torque: N m.
    """

    max_force: float
    max_torque: float


GRAVITY = np.array([0.0, 0.0, -9.80665])  # m/s2, world frame: z is up (REP 103)
# m, of any point of a hand: a sensor that is alive reads something else by then.
LEAST_MOTION = 0.005
# m from the sensor, of the points that tell how far a hand has moved; turning counts so as well.
_REACH = 0.1


@dataclass(frozen=True)
class Tool:
    """What hangs behind a wrist's sensor, for gravity compensation.

    Attributes:
        mass: kg. Negative for a sensor that reads the reaction, what the wrist does to the hand.
        center_of_mass: m, in the sensor's frame.
    """

    mass: float
    center_of_mass: tuple[float, float, float]

    def wrench(self, orientation: ArrayLike) -> NDArray[np.float64]:
        """(6,) of its weight in the sensor's frame: f = m R^T g, and c x f.

        Args:
            orientation: (4,) quaternion x, y, z, w of the sensor's frame in the world.

        Raises:
            ValueError: it is not a quaternion.
        """
        force = self.mass * _rotation(orientation).inv().apply(GRAVITY)
        return np.concatenate([force, np.cross(self.center_of_mass, force)])


def _rotation(orientation: ArrayLike) -> Rotation:
    quaternion = np.asarray(orientation, np.float64)
    if not abs(np.linalg.norm(quaternion) - 1) < 0.01:  # Also true with NaN.
        raise ValueError(f"expected a quaternion of norm 1, found {quaternion.tolist()}")
    return Rotation.from_quat(quaternion)


@dataclass(frozen=True)
class WrenchConfig:
    """How wrenches are judged.

    Attributes:
        limits: wrist -> its limits; the order is that of all results.
        filter_window: samples of the median filter, odd; 1 is no filter. A step in the signal
            passes after (window + 1) / 2 samples: a group delay of (window - 1) / 2. Shorter
            peaks do not pass. NaN is not filtered.
        tare_samples: samples after a reset whose mean is the zero of the episode.
        max_age: s that a wrist may be silent.
        tools: wrist -> what gravity compensation takes off before the tare; a wrist without has
            none, and its weight in another posture counts as force.
        max_identical: the same reading, bit for bit, with that many new stamps in a row while the
            hand moves by more than LEAST_MOTION is a frozen sensor; 0: never.

    Raises:
        ValueError: no wrist, a tool at an unknown one, a limit or age that is not positive and
            finite, an even window, no tare sample, max_identical of 1 or below 0.
    """

    limits: Mapping[str, WristLimits]
    filter_window: int = 1
    tare_samples: int = 1
    max_age: float = 0.5
    tools: Mapping[str, Tool] = field(default_factory=dict)
    max_identical: int = 5

    def __post_init__(self) -> None:
        for wrist in self.tools.keys() - self.limits.keys():
            raise ValueError(
                f"wrench limits: tool: expected one of {sorted(self.limits)}, found {wrist}"
            )
        if not self.limits:
            raise ValueError("wrench limits: expected at least one wrist, found none")
        values = {"max_wrench_age": self.max_age}
        for wrist, limits in self.limits.items():
            values[f"max_force of wrist {wrist}"] = limits.max_force
            values[f"max_torque of wrist {wrist}"] = limits.max_torque
        for name, value in values.items():
            if not 0 < value < np.inf:
                raise ValueError(f"wrench limits: {name}: expected > 0 and finite, found {value}")
        if self.filter_window < 1 or self.filter_window % 2 == 0:
            raise ValueError(
                f"wrench limits: filter_window: expected an odd number, found {self.filter_window}"
            )
        if self.tare_samples < 1:
            raise ValueError(
                f"wrench limits: tare_samples: expected >= 1, found {self.tare_samples}"
            )
        if self.max_identical < 0 or self.max_identical == 1:
            raise ValueError(
                "wrench limits: max_identical: expected 0, or 2 and more, "
                f"found {self.max_identical}"
            )


@dataclass(frozen=True)
class WrenchVerdict:
    """Judgement on the newest wrenches.

    Attributes:
        motion_allowed: False: hold.
        episode_id: the episode it is for. 0 between episodes and until the tare for the episode
            is complete: no verdict for the episode yet, which is no stop.
        stamp: of the oldest of the newest wrenches, ns; 0 while a wrist has sent none.
        reason: why motion is not allowed; empty otherwise.
        force: N, magnitude per wrist, tared and filtered; NaN without a value.
        torque: N m, likewise.
    """

    motion_allowed: bool
    episode_id: int
    stamp: int
    reason: str
    force: tuple[float, ...]
    torque: tuple[float, ...]


_Sample = tuple[int, NDArray[np.float64]]


class _Wrist:
    """One sensor: its newest samples, tare and filter."""

    def __init__(self, name: str, limits: WristLimits, config: WrenchConfig, now: float) -> None:
        self.name = name
        self.limits = limits
        self._config = config
        self._since = now  # the last message, or when the wait for the first one began
        self.received = False
        self.stamp = 0
        self._raw: NDArray[np.float64] = np.full(6, np.nan)
        # Finite samples with their stamps.
        self._window: deque[_Sample] = deque(maxlen=config.filter_window)
        self._recent: deque[_Sample] = deque(maxlen=config.tare_samples)
        self._offset = np.zeros(6)
        self.tare_left = 0
        self._tool = config.tools.get(name)
        self._weight: NDArray[np.float64] = np.full(6, np.nan) if self._tool else np.zeros(6)
        self._pose_defect = ""
        self._frozen = FrozenCheck(config.max_identical, LEAST_MOTION)
        self._points: NDArray[np.float64] | None = None  # of the hand, (12,) m

    def place(self, pose: NDArray[np.float64]) -> None:
        self._pose_defect = ""
        try:
            turned = _rotation(pose[3:])
            if self._tool is not None:
                self._weight = self._tool.wrench(pose[3:])
        except ValueError as error:
            if self._tool is not None:
                self._pose_defect = f"pose of hand {self.name}: {error}"
            return
        ends = pose[:3] + _REACH * turned.as_matrix().T
        self._points = np.concatenate([pose[:3], ends.ravel()])
        self._frozen.follow(self._points)

    @property
    def oriented(self) -> bool:
        return bool(np.isfinite(self._weight).all())

    def add(self, stamp: int, wrench: NDArray[np.float64], now: float) -> None:
        if stamp < self.stamp:
            self._window.clear()
            self._recent.clear()
        self._since, self.received, self.stamp, self._raw = now, True, stamp, wrench
        self._frozen.add(stamp, wrench, self._points)
        if not self.finite or not self.oriented:
            return
        wrench = wrench - self._weight
        if self._window and self._window[-1][0] == stamp:
            # Simulated time stands still: the same measurement, sent again.
            self._window.pop()
        self._window.append((stamp, wrench))
        self._recent.append((stamp, wrench))
        if self.tare_left:
            self.tare_left -= 1
            self._set_offset()

    def tare(self, since: int, now: float) -> None:
        """The mean of the next samples, and of those of `since` (ns) or later, becomes zero."""
        self._since = now
        for samples in (self._window, self._recent):
            while samples and samples[0][0] < since:
                samples.popleft()
        self.tare_left = self._config.tare_samples - len(self._recent)
        self._set_offset()

    def excuse(self, duration: float) -> None:
        self._since += duration

    def _set_offset(self) -> None:
        if self.tare_left == 0:
            self._offset = np.mean([wrench for _, wrench in self._recent], axis=0)

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self._raw).all())

    @property
    def filtered(self) -> NDArray[np.float64]:
        """(6,) tared, median over the window; NaN without a finite newest sample."""
        if not self.finite or not self._window:
            return np.full(6, np.nan)
        median: NDArray[np.float64] = np.median([wrench for _, wrench in self._window], axis=0)
        return median - self._offset

    def defect(self, now: float) -> str:
        """What is wrong with the sensor itself, or an empty text."""
        age = now - self._since
        if age > self._config.max_age:
            return (
                f"wrench {self.name}: expected a message within {self._config.max_age:g} s, "
                f"found none for {age:.2f} s"
            )
        if self.received and not self.finite:
            return f"wrench {self.name}: expected 6 finite values, found {self._raw.tolist()}"
        if self._frozen.frozen:
            return (
                f"wrench {self.name}: frozen: expected another reading, found the same one "
                f"{self._frozen.count} times while the hand moved {1e3 * self._frozen.motion:.0f} "
                "mm"
            )
        return self._pose_defect

    def excess(self, force: float, torque: float) -> str:
        """Which limit is exceeded, or an empty text."""
        if not force <= self.limits.max_force:
            return (
                f"wrench {self.name}: expected a force of at most {self.limits.max_force:g} N, "
                f"found {force:.1f} N"
            )
        if not torque <= self.limits.max_torque:
            return (
                f"wrench {self.name}: expected a torque of at most {self.limits.max_torque:g} N m, "
                f"found {torque:.1f} N m"
            )
        return ""


class WrenchLimits:
    """All wrists. A stop in an episode stands until the next one starts.

    Args:
        now: s of a steady clock, as in all calls.
    """

    def __init__(self, config: WrenchConfig, now: float) -> None:
        self.config = config
        self._wrists = {
            name: _Wrist(name, limits, config, now) for name, limits in config.limits.items()
        }
        self._episode_id = 0
        self._stop = ""

    def add(self, wrist: str, stamp: int, wrench: ArrayLike, now: float) -> WrenchVerdict:
        """Take in one message; the verdict with it.

        Args:
            stamp: of the measurement, ns. The same stamp again is the same measurement.
            wrench: (6,), force in N and torque in N m; NaN and infinity are judged, not refused.

        Raises:
            KeyError: an unknown wrist.
            ValueError: not 6 values.
        """
        values = np.asarray(wrench, np.float64)
        if values.shape != (6,):
            raise ValueError(f"wrench {wrist}: expected 6 values, found shape {values.shape}")
        self._wrists[wrist].add(stamp, values, now)
        return self.judge(now)

    def place(self, wrist: str, pose: ArrayLike) -> None:
        """Pose (7,) of a sensor's frame in the world: m, and quaternion x, y, z, w.

        For the weight of a tool, and to know whether the hand moves. A control period old is near
        enough: at 1 rad/s and 50 ms it is 5 % of the weight.

        Raises:
            KeyError: an unknown wrist.
            ValueError: not 7 values.
        """
        values = np.asarray(pose, np.float64)
        if values.shape != (7,):
            raise ValueError(f"pose of hand {wrist}: expected 7 values, found {values.shape}")
        self._wrists[wrist].place(values)

    def excuse(self, duration: float) -> None:
        """The caller could not listen for `duration`, s: it does not count as silence."""
        for wrist in self._wrists.values():
            wrist.excuse(duration)

    def start(self, episode_id: int, since: int, now: float) -> None:
        """An episode runs: forget the last stop and tare. Again for the same one: no change.

        Silence before it does not count; the tare waits for a message since the reset anyway.

        Args:
            since: stamp of the reset, ns; samples of then or later are part of the tare.
        """
        if episode_id == self._episode_id:
            return
        self._episode_id, self._stop = episode_id, ""
        for wrist in self._wrists.values():
            wrist.tare(since, now)

    def finish(self) -> None:
        """No episode is under way: a stop does not stand any longer than its cause."""
        self._episode_id, self._stop = 0, ""

    def defect(self, now: float) -> str:
        """What is wrong with a sensor itself, silence included, or an empty text."""
        wrists = self._wrists.values()
        return next((d for w in wrists if (d := w.defect(now))), "") or next(self._missing(), "")

    def _missing(self) -> Iterator[str]:
        for wrist in self._wrists.values():
            if not wrist.received:
                yield f"wrench {wrist.name}: no message yet"
            elif not wrist.oriented:
                yield f"wrench {wrist.name}: no pose of its hand yet, for gravity compensation"

    def judge(self, now: float) -> WrenchVerdict:
        """The verdict at this moment."""
        wrists = self._wrists.values()
        forces, torques = [], []
        for wrist in wrists:
            wrench = wrist.filtered
            forces.append(float(np.linalg.norm(wrench[:3])))
            torques.append(float(np.linalg.norm(wrench[3:])))
        reason = self._stop or next((d for w in wrists if (d := w.defect(now))), "")
        stop = bool(reason)
        if not reason:
            reason = next(self._missing(), "")
        if not reason:
            reason = next(
                (
                    f"wrench {w.name}: taring, {w.tare_left} samples to go"
                    for w in wrists
                    if w.tare_left
                ),
                "",
            )
        if not reason:
            excesses = (
                w.excess(force, torque)
                for w, force, torque in zip(wrists, forces, torques, strict=True)
            )
            reason = next((excess for excess in excesses if excess), "")
            stop = bool(reason)
        if stop and self._episode_id:
            self._stop = reason
        return WrenchVerdict(
            motion_allowed=not reason,
            episode_id=0 if reason and not stop else self._episode_id,
            stamp=min(wrist.stamp for wrist in wrists),
            reason=reason,
            force=tuple(forces),
            torque=tuple(torques),
        )
