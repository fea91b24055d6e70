"""Node `markers`: actions, wrenches and the safety state as markers, for rviz and Foxglove."""

import sys

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped, WrenchStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Header, String
from visualization_msgs.msg import Marker, MarkerArray

from resfit_interfaces.msg import ActionCommand, ExecutedAction, SafetyStatus
from resfit_rl.tasks import get_task
from resfit_ros import qos
from resfit_ros.conversions import (
    ConversionError,
    array_to_pose,
    joint_positions,
    ns_to_stamp,
    stamp_to_ns,
    wrench_to_array,
)
from resfit_ros.parameters import declare
from resfit_viewing.arrows import Arrow, StepArrows, safety_text
from resfit_viewing.drawing import declare_drawing
from resfit_viewing.marker_messages import arrow_marker, text_marker
from resfit_viewing.observer import Observer, run_observer
from resfit_viewing.robot import vega_urdf
from resfit_viewing.topics import TRANSFORMS, transform_message

_PERIOD = 0.1  # s of wall time between publications while no step is made
_ABOVE = 0.25  # m, of the text over the robot


class Markers(Observer):
    """Publishes `markers`; for Vega its description and, where ROS's tf2_msgs is, transforms."""

    def __init__(self) -> None:
        super().__init__("markers")
        self._task = get_task(declare(self, "task", str, "task, for example square"))
        self._frame = declare(self, "world_frame", "world", "Frame of all markers.")
        self._drawing = declare_drawing(self, self._task)
        self._robot = self._drawing.robot
        description = vega_urdf() if self._task.joint_actions else ""
        self._numbers: dict[str, int] = {}
        self._markers: dict[tuple[str, int], Marker] = {}
        self._changed = False
        self._wrenches: dict[str, np.ndarray] = {}
        self._transforms = self._transform_publisher()

        self._publisher = self.create_publisher(MarkerArray, "markers", qos.EVENT)
        if description:
            self._description = self.create_publisher(String, "robot_description", qos.LATCHED)
            self._description.publish(String(data=description))
        self.create_subscription(JointState, "joint_states", self._on_joints, qos.SENSOR)
        for wrist in self._task.wrists:
            self.create_subscription(
                WrenchStamped,
                f"wrenches/{wrist}",
                lambda m, wrist=wrist: self._wrenches.update({wrist: wrench_to_array(m.wrench)}),
                qos.SENSOR,
            )
        self.create_subscription(ActionCommand, "action_command", self._on_command, qos.EVENT)
        self.create_subscription(ExecutedAction, "executed_action", self._on_executed, qos.EVENT)
        self.create_subscription(SafetyStatus, "safety_status", self._on_safety, qos.EVENT)
        self.create_timer(_PERIOD, self._publish, clock=self.steady)
        self.get_logger().info(
            f"markers of {self._task.name}" + ("; robot_description" if description else "")
        )

    def _transform_publisher(self):
        kind = transform_message()
        if kind is None:
            self.get_logger().info("no transforms: tf2_msgs is not installed (it comes with ROS 2)")
            return None
        return self.create_publisher(kind, "/tf", TRANSFORMS)

    def _on_joints(self, message: JointState) -> None:
        try:
            joints = joint_positions(message)
        except ConversionError as error:
            self.report(str(error))
            return
        self._drawing.actions.observe(stamp_to_ns(message.header.stamp), joints)
        self._robot.move(joints)
        stamp = message.header.stamp
        for wrist, wrench in self._wrenches.items():
            self._show(self._drawing.wrench(wrist, wrench), stamp)
        if self._transforms is not None:
            self._publish_transforms(stamp)

    def _on_command(self, message: ActionCommand) -> None:
        self._show_step(
            lambda: self._drawing.actions.command(
                stamp_to_ns(message.header.stamp),
                message.episode_id,
                message.step,
                message.base_action,
                message.action,
            )
        )

    def _on_executed(self, message: ExecutedAction) -> None:
        self._show_step(
            lambda: self._drawing.actions.executed(
                message.episode_id, message.step, message.action, message.held
            )
        )
        self._publish()

    def _show_step(self, make) -> None:
        try:
            step: StepArrows | None = make()
        except ValueError as error:
            self.report(f"task {self._task.name}: {error}")
            return
        if step is not None:
            self._show(step.arrows, ns_to_stamp(step.stamp))

    def _on_safety(self, message: SafetyStatus) -> None:
        text, color = safety_text(
            message.motion_allowed, message.reason, message.wrist, message.force, message.max_force
        )
        where = (*self._robot.middle, self._robot.height + _ABOVE)
        stamp = message.header.stamp
        self._keep(text_marker(text, color, where, stamp, self._frame, "safety"))

    def _show(self, arrows: tuple[Arrow, ...], stamp: Time) -> None:
        for arrow in arrows:
            number = self._numbers.setdefault(arrow.of, len(self._numbers))
            self._keep(arrow_marker(arrow, stamp, self._frame, number))

    def _keep(self, marker: Marker) -> None:
        self._markers[marker.ns, marker.id] = marker
        self._changed = True

    def _publish(self) -> None:
        if self._changed:
            self._changed = False
            self._publisher.publish(MarkerArray(markers=list(self._markers.values())))

    def _publish_transforms(self, stamp: Time) -> None:
        """Each link, camera and wrist in the world frame, so that nothing depends on an order."""
        header = Header(stamp=stamp, frame_id=self._frame)
        transforms = []
        for name, pose in self._robot.frames().items():
            transform = TransformStamped(header=header, child_frame_id=name)
            as_pose = array_to_pose(pose)
            translation = transform.transform.translation
            translation.x, translation.y, translation.z = (float(value) for value in pose[:3])
            transform.transform.rotation = as_pose.orientation
            transforms.append(transform)
        self._transforms.publish(self._transforms.msg_type(transforms=transforms))

    def diagnostic_values(self) -> dict[str, object]:
        return {"markers": len(self._markers), "transforms": self._transforms is not None}


def main() -> int:
    return run_observer(Markers)


if __name__ == "__main__":
    sys.exit(main())
