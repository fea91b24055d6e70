"""Vega through Dexmate's SDK: the only file that knows dexcontrol. Written for its version 0.8.

Nothing here decides anything. Positions go out as single setpoints, which the SDK neither plans nor
smooths; it refuses one that is outside a joint's limits, or for arms and head more than 0.3 rad
from where the joint is, and all of them while an emergency stop is engaged. Between setpoints the
motors hold the last one.
"""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resfit_rl.robots.vega import (
    ARM_JOINTS,
    COMMANDED_JOINTS,
    HAND_JOINTS,
    HEAD_JOINTS,
    TORSO_JOINTS,
)

PARTS = {
    "right_arm": ARM_JOINTS["R"],
    "left_arm": ARM_JOINTS["L"],
    "right_hand": HAND_JOINTS["R"],
    "left_hand": HAND_JOINTS["L"],
    "head": HEAD_JOINTS,
}
"""The SDK's name of each part that is commanded; the SDK's order of a hand's joints is another."""
TORSO = "torso"
WRISTS = {"right": "right_arm", "left": "left_arm"}
"""Wrist -> the part that its force-torque sensor belongs to."""
_SENSOR_TIMEOUT = 3.0  # s until a force-torque sensor that was switched on sends


class HardwareError(Exception):
    """The SDK is not there, or it or the robot refuses; its own words."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """All that the robot says at one moment.

    Attributes:
        positions, velocities: (29,) float64, rad and rad/s, of COMMANDED_JOINTS.
        torso: (3,) float64, rad, of TORSO_JOINTS.
        wrenches: wrist -> (6,) float64, N and N m, sensor frame, not tared.
        stamps: part, the torso included -> ns, the robot's clock, of its newest state.
        wrench_ages: wrist -> s since its newest sample arrived; infinite before the first.
        emergency_stop: which of the robot's own emergency stops are engaged; empty for none.
        controller_errors: joints whose motor controllers report an error.
        connection: what is wrong with the connection to the robot; empty for nothing.
    """

    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    torso: NDArray[np.float64]
    wrenches: dict[str, NDArray[np.float64]]
    stamps: dict[str, int]
    wrench_ages: dict[str, float]
    emergency_stop: str
    controller_errors: tuple[str, ...]
    connection: str


class Hardware:
    """One connection. `command` may be called from another thread than the rest.

    Connecting enables the motors of arms and head and starts the SDK's own supervision of the
    robot's heartbeat; it moves nothing.

    Args:
        profile: the SDK's name of the robot's model.
        simulation: the SDK's own stand-in that executes every command at once, without a robot.

    Attributes:
        limits: joint -> (lower, upper) rad, of all joints that are read; NaN where the SDK knows
            none.

    Raises:
        HardwareError: no SDK, no robot, a part or a force-torque sensor that is not there.
    """

    def __init__(self, profile: str, simulation: bool = False) -> None:
        self._sdk = _sdk()
        self._errors = (self._sdk.DexcontrolError, ValueError, RuntimeError)
        try:
            self._robot = self._sdk.Robot(profile, simulation=simulation)
        except self._errors as error:
            raise _in_one_line("connecting", error) from None
        try:
            self._prepare()
        except BaseException:
            with contextlib.suppress(HardwareError):
                self.close()
            raise

    def _prepare(self) -> None:
        try:
            self._parts = {name: self._robot.joints(name) for name in (*PARTS, TORSO)}
            names = {part: tuple(found.joint_names) for part, found in self._parts.items()}
            self._orders = {
                part: np.array([names[part].index(joint) for joint in joints])
                for part, joints in (*PARTS.items(), (TORSO, TORSO_JOINTS))
            }
            self.limits: dict[str, tuple[float, float]] = {}
            for part, component in self._parts.items():
                bounds = component.joint_pos_limit
                for i, joint in enumerate(names[part]):
                    self.limits[joint] = tuple(bounds[i]) if bounds is not None else (np.nan,) * 2
            self._wrenches = {
                wrist: self._robot.sensors.get_wrench(part) for wrist, part in WRISTS.items()
            }
            for wrist, sensor in self._wrenches.items():
                if not sensor.wait_for_active(_SENSOR_TIMEOUT):
                    self._parts[WRISTS[wrist]].activate_force_torque_sensor(True)
                    if not sensor.wait_for_active(_SENSOR_TIMEOUT):
                        raise HardwareError(
                            f"wrench {wrist}: expected samples of the force-torque sensor, "
                            "found none"
                        )
        except self._errors as error:
            raise _in_one_line("preparing", error) from None

    def read(self) -> Measurement:
        """Raises HardwareError when there is nothing to read, such as after a lost connection."""
        try:
            states = {name: part.get_state() for name, part in self._parts.items()}
            health = self._robot.health()
            stop = self._robot.estop.get_status()
            return Measurement(
                positions=self._joined(states, "position"),
                velocities=self._joined(states, "velocity"),
                torso=np.array(states[TORSO]["position"], np.float64)[self._orders[TORSO]],
                wrenches={
                    wrist: np.array(sensor.get_wrench_state(), np.float64)
                    for wrist, sensor in self._wrenches.items()
                },
                stamps={name: int(state["timestamp_ns"]) for name, state in states.items()},
                wrench_ages={
                    wrist: np.inf if (age := sensor.get_age()) is None else float(age)
                    for wrist, sensor in self._wrenches.items()
                },
                emergency_stop=(
                    ", ".join(stop["active_sources"]) or "one" if stop["engaged"] else ""
                ),
                controller_errors=tuple(
                    self._parts[name].joint_names[i]
                    for name, state in states.items()
                    for i in state["error_joint_indices"]
                ),
                connection=self._connection(health),
            )
        except self._errors as error:
            raise _in_one_line("reading", error) from None

    def command(self, positions: NDArray[np.float64]) -> None:
        """One setpoint, (29,) rad: of all parts or, with a HardwareError, of none."""
        targets = {}
        for part, joints in PARTS.items():
            first = COMMANDED_JOINTS.index(joints[0])
            targets[part] = np.empty(len(joints))
            targets[part][self._orders[part]] = positions[first : first + len(joints)]
        try:
            self._robot.set_joint_pos(targets)
        except self._errors as error:
            raise _in_one_line("command", error) from None

    def stop(self) -> None:
        """All parts that are commanded hold where they are."""
        for part in PARTS:
            try:
                self._parts[part].stop()
            except self._errors as error:
                raise _in_one_line(f"stop of {part}", error) from None

    def close(self) -> None:
        """Disconnect; the SDK asks the robot to hold where it is."""
        try:
            self._robot.shutdown()
        except self._errors as error:
            raise _in_one_line("disconnecting", error) from None

    def _joined(self, states: dict[str, Any], what: str) -> NDArray[np.float64]:
        return np.concatenate(
            [np.asarray(states[part][what], np.float64)[self._orders[part]] for part in PARTS]
        )

    def _connection(self, health: dict[str, Any]) -> str:
        if health["lifecycle"] not in ("ready", "degraded"):
            return f"expected it ready, found it {health['lifecycle']}"
        for fault in _FAULTS:
            if health[fault]:
                return f"found '{fault}'"
        return "" if self._robot.heartbeat.is_alive() else "found no heartbeat of the robot"


# The SDK's names of what is wrong on its side.
_FAULTS = (
    "transport_fault",
    "safety_stopped",
    "stop_undelivered",
    "supervision_failed",
    "estop_state_unreadable",
)


def _in_one_line(what: str, error: Exception) -> HardwareError:
    return HardwareError(f"dexcontrol: {what}: {' '.join(str(error).split())}")


def _sdk() -> ModuleType:
    try:
        return importlib.import_module("dexcontrol")
    except ImportError as error:
        raise HardwareError(
            f"the driver of Vega needs Dexmate's SDK: pip install dexcontrol==0.8.0 ({error})"
        ) from None
