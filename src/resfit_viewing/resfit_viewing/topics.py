"""What there is to watch in the graph of a task."""

from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from visualization_msgs.msg import MarkerArray

from resfit_interfaces.msg import (
    ActionCommand,
    EpisodeState,
    ExecutedAction,
    LearnerStatus,
    PrivilegedState,
    SafetyStatus,
    TaskState,
)
from resfit_rl.tasks import Task
from resfit_ros import qos

# What listeners to transforms expect of them.
TRANSFORMS = QoSProfile(depth=100)


@dataclass(frozen=True)
class Topic:
    """One topic.

    Attributes:
        name: relative, but for /diagnostics.
        kind: class of its messages.
        profile: QoS that hears all of its messages.
    """

    name: str
    kind: Any
    profile: QoSProfile

    @property
    def stamped(self) -> bool:
        """Whether its messages begin with a header, whose stamp is when they are of."""
        return next(iter(self.kind.get_fields_and_field_types())) == "header"

    @property
    def latched(self) -> bool:
        """Whether the newest message holds until the next one, however long ago it came."""
        return self.profile is qos.LATCHED


def topics_of(task: Task) -> tuple[Topic, ...]:
    """All that is worth seeing of a graph that does `task`."""
    sensors: list[tuple[str, type]] = [("joint_states", JointState)]
    for camera in task.cameras:
        sensors.append((f"cameras/{camera}/image_raw", Image))
        sensors.append((f"cameras/{camera}/camera_info", CameraInfo))
    for wrist in task.wrists:
        sensors.append((f"wrenches/{wrist}", WrenchStamped))
        # Every wrist has an end effector of its name.
        sensors.append((f"end_effectors/{wrist}/pose", PoseStamped))
    sensors.append(("privileged_state", PrivilegedState))
    events: list[tuple[str, type]] = [
        ("action_command", ActionCommand),
        ("executed_action", ExecutedAction),
        ("safety_status", SafetyStatus),
        ("task_state", TaskState),
        ("markers", MarkerArray),
    ]
    latched: list[tuple[str, type]] = [
        ("episode_state", EpisodeState),
        ("learner_status", LearnerStatus),
        ("robot_description", String),
    ]
    transforms = transform_message()
    return (
        *(Topic(name, kind, qos.SENSOR) for name, kind in sensors),
        *(Topic(name, kind, qos.EVENT) for name, kind in events),
        *(Topic(name, kind, qos.LATCHED) for name, kind in latched),
        Topic("/diagnostics", DiagnosticArray, qos.DIAGNOSTICS),
        *([Topic("/tf", transforms, TRANSFORMS)] if transforms is not None else []),
    )


def transform_message() -> Any:
    """tf2_msgs' TFMessage, None where tf2_msgs is not installed."""
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        return None
    return TFMessage
