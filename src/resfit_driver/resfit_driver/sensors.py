"""What a simulated robot's sensors say, as messages of one stamp."""

import math
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseStamped, WrenchStamped
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header

from resfit_interfaces.msg import PrivilegedState
from resfit_rl.simulation import Frame
from resfit_rl.tasks import Task
from resfit_ros import qos
from resfit_ros.conversions import array_to_image, array_to_pose, array_to_wrench, ns_to_stamp
from resfit_ros.parameters import ConfigurationError


class FrameError(Exception):
    """The simulation gave values that no sensor could have measured; names the sensor."""


@dataclass(frozen=True)
class FrameNames:
    """Names of coordinate frames (REP 103); {camera} and {wrist} stand for the sensor's name."""

    world: str
    camera: str
    wrist: str

    def __post_init__(self) -> None:
        for sensor in ("camera", "wrist"):
            template = getattr(self, sensor)
            try:
                template.format(**{sensor: ""})
            except (KeyError, IndexError, ValueError):
                raise ConfigurationError(
                    f"parameter '{sensor}_frame': expected only {{{sensor}}} in braces, "
                    f"found {template!r}"
                ) from None


def camera_matrix(fovy: float, height: int, width: int) -> NDArray[np.float64]:
    """(3, 3) intrinsics, pixels, of an ideal pinhole whose axis meets the centre of the picture.

    Args:
        fovy: vertical field of view, degrees.
    """
    focal = height / 2 / math.tan(math.radians(fovy) / 2)
    # Pixel (0, 0) has its centre at (0, 0): the picture's centre lies half a pixel before size / 2.
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    return np.array([[focal, 0, centre_x], [0, focal, centre_y], [0, 0, 1]])


def require_finite(frame: Frame) -> None:
    """Raise FrameError naming the first sensor with NaN or infinity."""
    sources = {
        "joint positions": frame.joint_position,
        "joint velocities": frame.joint_velocity,
        **{f"end effector {name}": pose for name, pose in frame.end_effectors.items()},
        **{f"wrench {wrist}": wrench for wrist, wrench in frame.wrenches.items()},
        **{f"pose of {name}": pose for name, pose in frame.privileged.items()},
    }
    for name, values in sources.items():
        if not np.isfinite(values).all():
            raise FrameError(
                f"simulation: {name}: expected finite values, found {np.asarray(values).tolist()}"
            )


class SensorPublishers:
    """Publishes one frame of the simulation on all sensor topics, with one stamp.

    Args:
        fovy: camera -> vertical field of view, degrees.
        privileged: also publish the poses of objects.
    """

    def __init__(
        self, node: Node, task: Task, fovy: dict[str, float], names: FrameNames, privileged: bool
    ) -> None:
        self._names = names
        self._fovy = fovy

        def publisher(kind: type, topic: str):
            return node.create_publisher(kind, topic, qos.SENSOR)

        self._images = {c: publisher(Image, f"cameras/{c}/image_raw") for c in task.cameras}
        self._infos = {c: publisher(CameraInfo, f"cameras/{c}/camera_info") for c in task.cameras}
        self._joints = publisher(JointState, "joint_states")
        self._poses: dict[str, object] = {}
        self._wrenches = {w: publisher(WrenchStamped, f"wrenches/{w}") for w in task.wrists}
        self._privileged = publisher(PrivilegedState, "privileged_state") if privileged else None
        self._publisher = publisher

    def publish(self, frame: Frame, stamp: int) -> None:
        """All sensors; `stamp` in ns of the graph's clock."""
        time = ns_to_stamp(stamp)
        # What the policy waits for longest goes last, so that an observation completes in one go.
        self.publish_wrenches(frame, stamp)
        self._joints.publish(
            JointState(
                header=Header(stamp=time, frame_id=self._names.world),
                name=list(frame.joint_names),
                position=np.asarray(frame.joint_position, np.float64).tolist(),
                velocity=np.asarray(frame.joint_velocity, np.float64).tolist(),
            )
        )
        world = Header(stamp=time, frame_id=self._names.world)
        for name, pose in frame.end_effectors.items():
            if name not in self._poses:
                self._poses[name] = self._publisher(PoseStamped, f"end_effectors/{name}/pose")
            self._poses[name].publish(PoseStamped(header=world, pose=array_to_pose(pose)))
        if self._privileged is not None:
            self._privileged.publish(
                PrivilegedState(
                    header=world,
                    names=list(frame.privileged),
                    poses=[array_to_pose(pose) for pose in frame.privileged.values()],
                )
            )
        for camera, picture in frame.images.items():
            image = array_to_image(picture, time, self._names.camera.format(camera=camera))
            self._infos[camera].publish(self._info(camera, image))
            self._images[camera].publish(image)

    def publish_wrenches(self, frame: Frame, stamp: int) -> None:
        time = ns_to_stamp(stamp)
        for wrist, publisher in self._wrenches.items():
            header = Header(stamp=time, frame_id=self._names.wrist.format(wrist=wrist))
            publisher.publish(
                WrenchStamped(header=header, wrench=array_to_wrench(frame.wrenches[wrist]))
            )

    def _info(self, camera: str, image: Image) -> CameraInfo:
        matrix = camera_matrix(self._fovy[camera], image.height, image.width)
        return CameraInfo(
            header=image.header,
            height=image.height,
            width=image.width,
            distortion_model="plumb_bob",
            d=[0.0] * 5,
            k=matrix.ravel(),
            r=np.eye(3).ravel(),
            p=np.hstack([matrix, np.zeros((3, 1))]).ravel(),
        )
