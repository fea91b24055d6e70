"""Between ROS messages and arrays: the only place where a message's layout is known."""

from collections.abc import Iterable, Mapping

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Pose, Wrench
from numpy.typing import NDArray
from sensor_msgs.msg import Image, JointState

NANOSECONDS = 1_000_000_000


class ConversionError(ValueError):
    """A message does not hold what its receiver was configured for."""


def stamp_to_ns(stamp: Time) -> int:
    """Nanoseconds since the epoch of the clock in use."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def ns_to_stamp(nanoseconds: int) -> Time:
    seconds, rest = divmod(int(nanoseconds), NANOSECONDS)
    return Time(sec=seconds, nanosec=rest)


def image_to_array(
    message: Image, name: str, expected_size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """RGB picture (H, W, 3), uint8, of an rgb8 message.

    Raises ConversionError naming the camera when the encoding, the size (`expected_size` is
    (height, width)) or the number of bytes is another.
    """
    if message.encoding != "rgb8":
        raise ConversionError(f"camera {name}: expected encoding rgb8, found {message.encoding!r}")
    size = (message.height, message.width)
    if expected_size is not None and size != tuple(expected_size):
        raise ConversionError(
            f"camera {name}: expected {expected_size[1]}x{expected_size[0]} pixels, "
            f"found {size[1]}x{size[0]}"
        )
    if message.step < 3 * message.width or len(message.data) != message.step * message.height:
        raise ConversionError(
            f"camera {name}: expected {message.step} bytes a row (at least {3 * message.width}) "
            f"and {message.step * message.height} in all, found {len(message.data)}"
        )
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    return rows[:, : 3 * message.width].reshape(message.height, message.width, 3)


def array_to_image(array: NDArray[np.uint8], stamp: Time, frame_id: str) -> Image:
    """rgb8 message of a picture (H, W, 3), uint8."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ConversionError(
            f"image {frame_id}: expected uint8 (H, W, 3), found {array.dtype} {array.shape}"
        )
    message = Image(height=array.shape[0], width=array.shape[1], encoding="rgb8")
    message.step = 3 * array.shape[1]
    message.header.stamp = stamp
    message.header.frame_id = frame_id
    # An array.array is taken over as it is; any other sequence is checked byte by byte.
    message.data.frombytes(np.ascontiguousarray(array).tobytes())
    return message


def wrench_to_array(message: Wrench) -> NDArray[np.float64]:
    """(6,): force x, y, z in N, torque x, y, z in N m."""
    force, torque = message.force, message.torque
    return np.array([force.x, force.y, force.z, torque.x, torque.y, torque.z])


def array_to_wrench(array: Iterable[float]) -> Wrench:
    values = [float(value) for value in array]
    message = Wrench()
    message.force.x, message.force.y, message.force.z = values[:3]
    message.torque.x, message.torque.y, message.torque.z = values[3:]
    return message


def pose_to_array(message: Pose) -> NDArray[np.float64]:
    """(7,): position x, y, z in m, quaternion x, y, z, w."""
    p, q = message.position, message.orientation
    return np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])


def array_to_pose(array: Iterable[float]) -> Pose:
    values = [float(value) for value in array]
    message = Pose()
    message.position.x, message.position.y, message.position.z = values[:3]
    orientation = message.orientation
    orientation.x, orientation.y, orientation.z, orientation.w = values[3:]
    return message


def joint_positions(message: JointState) -> dict[str, float]:
    """Position (rad, m) by joint name. ConversionError when names and values differ in number."""
    if len(message.name) != len(message.position):
        raise ConversionError(
            f"joint_states: expected {len(message.name)} positions (one a name), "
            f"found {len(message.position)}"
        )
    return dict(zip(message.name, message.position, strict=True))


def diagnostics(
    stamp: Time, name: str, level: bytes, message: str, values: Mapping[str, object]
) -> DiagnosticArray:
    """One status of one node."""
    status = DiagnosticStatus(level=level, name=name, message=message, hardware_id="resfit")
    status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    array = DiagnosticArray(status=[status])
    array.header.stamp = stamp
    return array
