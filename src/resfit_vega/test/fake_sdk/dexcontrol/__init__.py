"""Plays Dexmate's SDK, as far as the driver uses it, on a robot that another process simulates.

Both share the file $FAKE_VEGA of float64, laid out as `Shared` says. What it refuses, the SDK
refuses: version 0.8.0 with its own stand-in for a robot was asked.
"""

import os
import time

import numpy as np


class Shared:
    """Names of the places in the file."""

    CONNECTED, STOPPED, FROZEN, LIFECYCLE, ERROR, COMMANDS, HOLDS, CLOSED, STAMP = range(9)
    POSITION, VELOCITY, TORSO, WRENCH, COMMAND = (
        slice(10, 39),
        slice(39, 68),
        slice(68, 71),
        slice(71, 83),
        slice(83, 112),
    )
    SIZE = 112


_FINGERS = ("th_j0", "th_j1", "ff_j1", "mf_j1", "rf_j1", "lf_j1")
_HAND = ("th_j1", "ff_j1", "mf_j1", "rf_j1", "lf_j1", "th_j0")  # in the SDK's order
_ARM = [(-3.071, 3.071), (-0.453, 1.553), (-3.071, 3.071), (-3.071, 0.244), (-3.071, 3.071)]
_LIMITS = {
    "left_arm": [*_ARM, (-1.396, 1.396), (-1.378, 1.117)],
    "right_arm": [_ARM[0], (-1.553, 0.453), *_ARM[2:], (-1.396, 1.396), (-1.117, 1.378)],
    "head": [(-1.483, 1.483), (-2.792, 2.792), (-1.378, 1.483)],
    "torso": [(0.0, 1.57), (0.0, 3.141), (-1.57, 1.57)],
}
_FINGER_LIMITS = {
    "th_j1": (-0.3468, 0.1834),
    "ff_j1": (-1.0946, 0.2891),
    "mf_j1": (-1.0844, 0.2801),
    "rf_j1": (-1.0154, 0.284),
    "lf_j1": (-1.0118, 0.2811),
    "th_j0": (-0.0158, 1.605),
}
# Part -> its joints' names in the SDK's order, and where they are among the 29.
_PARTS = {
    "right_arm": [(f"R_arm_j{i + 1}", i) for i in range(7)],
    "left_arm": [(f"L_arm_j{i + 1}", 7 + i) for i in range(7)],
    "right_hand": [(f"R_{f}", 14 + _FINGERS.index(f)) for f in _HAND],
    "left_hand": [(f"L_{f}", 20 + _FINGERS.index(f)) for f in _HAND],
    "head": [(f"head_j{i + 1}", 26 + i) for i in range(3)],
    "torso": [(f"torso_j{i + 1}", i) for i in range(3)],
}


class DexcontrolError(Exception):
    pass


class RobotConnectionError(DexcontrolError):
    pass


class EStopActiveError(DexcontrolError, ValueError):
    pass


class Component:
    def __init__(self, robot, name):
        self._robot, self._name = robot, name
        self.joint_names = [joint for joint, _ in _PARTS[name]]
        self._places = [place for _, place in _PARTS[name]]
        limits = _LIMITS.get(name) or [_FINGER_LIMITS[joint[2:]] for joint in self.joint_names]
        self.joint_pos_limit = np.array(limits)
        self._stamp = 0

    def get_state(self):
        memory = self._robot.connected()
        if self._name == "torso":
            position, velocity = memory[Shared.TORSO], np.zeros(3)
        else:
            position = memory[Shared.POSITION][self._places]
            velocity = memory[Shared.VELOCITY][self._places]
        if memory[Shared.FROZEN] != list(_PARTS).index(self._name):
            self._stamp = int(memory[Shared.STAMP])
        wrong = int(memory[Shared.ERROR])
        return {
            "position": np.array(position),
            "velocity": np.array(velocity),
            "timestamp_ns": self._stamp,
            "error_joint_indices": np.array(
                [self._places.index(wrong)] if wrong in self._places and wrong >= 0 else [], int
            ),
        }

    def stop(self):
        memory = self._robot.connected()
        for place in self._places:
            memory[Shared.COMMAND][place] = memory[Shared.POSITION][place]
        memory[Shared.HOLDS] += 1


class Wrench:
    def __init__(self, robot, side):
        self._robot, self._side = robot, side

    def wait_for_active(self, timeout):
        return True

    def get_age(self):
        return time.time() - self._robot.connected()[Shared.STAMP] / 1e9

    def get_wrench_state(self):
        return np.array(self._robot.connected()[Shared.WRENCH].reshape(2, 6)[self._side])


class Sensors:
    def __init__(self, robot):
        self._robot = robot

    def get_wrench(self, part):
        return Wrench(self._robot, ["right_arm", "left_arm"].index(part))


class EStop:
    def __init__(self, robot):
        self._robot = robot

    def get_status(self):
        engaged = bool(self._robot.connected()[Shared.STOPPED])
        return {"engaged": engaged, "active_sources": ["button"] if engaged else []}


class Heartbeat:
    def is_alive(self):
        return True


class Robot:
    def __init__(self, profile, simulation=False):
        assert profile == "vega_1_f5d6" and not simulation
        self._memory = np.memmap(os.environ["FAKE_VEGA"], np.float64, "r+", shape=(Shared.SIZE,))
        self.connected()
        self.sensors, self.estop, self.heartbeat = Sensors(self), EStop(self), Heartbeat()
        self._parts = {name: Component(self, name) for name in _PARTS}

    def connected(self):
        if not self._memory[Shared.CONNECTED]:
            raise RobotConnectionError("transport error: disconnected")
        return self._memory

    def joints(self, name):
        return self._parts[name]

    def health(self):
        faults = ("transport_fault", "safety_stopped", "stop_undelivered")
        return dict.fromkeys((*faults, "supervision_failed", "estop_state_unreadable"), False) | {
            "lifecycle": "faulted" if self.connected()[Shared.LIFECYCLE] else "ready"
        }

    def set_joint_pos(self, targets):
        memory = self.connected()
        if memory[Shared.STOPPED]:
            raise EStopActiveError('write to "robot" blocked: E-stop active.\n\n  - button')
        command = np.array(memory[Shared.COMMAND])
        for name, target in targets.items():
            part = self._parts[name]
            for joint, place, (lower, upper), value in zip(
                part.joint_names, part._places, part.joint_pos_limit, target, strict=True
            ):
                if not lower <= value <= upper:
                    raise ValueError(f'joint "{joint}" target {value} on "{name}" is outside')
                step = abs(value - memory[Shared.POSITION][place])
                if not name.endswith("hand") and step > 0.3:
                    raise ValueError(f'"{name}": {joint}: {step:.3f} exceeds max_step 0.3')
                command[place] = value
        memory[Shared.COMMAND] = command
        memory[Shared.COMMANDS] += 1

    def shutdown(self):
        self._memory[Shared.CLOSED] += 1
        self.connected()
