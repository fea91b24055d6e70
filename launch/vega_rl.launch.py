"""Vega at its two tasks: its twin in MuJoCo, or the real one.

Both are the graph of graph.launch.py; on the real robot a driver and a camera stand where the
simulation is, and the person at the keyboard starts and labels episodes.
"""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import (
    AndSubstitution,
    EqualsSubstitution,
    IfElseSubstitution,
    LaunchConfiguration,
)
from launch_ros.actions import Node, PushRosNamespace
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

TRUTH = ["true", "false"]
SHARE = FindPackageShare("resfit_bringup")
REAL = EqualsSubstitution(LaunchConfiguration("robot"), "real")


def parameters(**kinds):
    """Node parameters that take the values of the launch arguments of the same names."""
    return {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, kind in kinds.items()
    }


def given_or(name, default):
    """Value of a launch argument, or `default` where that is ''."""
    value = LaunchConfiguration(name)
    return IfElseSubstitution(EqualsSubstitution(value, ""), default, value)


def include(name, **defaults):
    """A launch file, with defaults for the arguments of this one that were not given."""
    return IncludeLaunchDescription(
        # A plain path, so that --show-args sees the arguments inside.
        PythonLaunchDescriptionSource(str(Path(__file__).with_name(name))),
        launch_arguments={
            argument: given_or(argument, default) for argument, default in defaults.items()
        }.items(),
    )


def refuse_what_does_not_go_together(context):
    """One line before any node starts."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    def refuse(name, expected):
        raise RuntimeError(f"argument '{name}': expected {expected}, found '{value(name)}'")

    if value("robot") == "twin":
        if value("camera") not in ("", "none"):
            refuse("camera", "none with the twin, which makes its own pictures")
        return
    if value("mode") not in ("", "real_time"):
        refuse("mode", "real_time on the real robot")
    if value("base_policy") == "scripted":
        refuse("base_policy", "one that sees no poses of a simulation on the real robot")
    if not value("base_policy_path"):
        refuse("base_policy_path", "the base policy that was trained for this robot")


def camera(name, *sources):
    """A camera node of the real robot, left and right from one source."""
    return Node(
        package="resfit_cameras",
        executable=f"{name}_camera",
        name=f"{name}_camera",
        parameters=[parameters(image_width=int, image_height=int), *sources],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        respawn=LaunchConfiguration("respawn"),
        respawn_delay=2.0,
        sigterm_timeout="15",
        sigkill_timeout="20",
        condition=IfCondition(
            AndSubstitution(REAL, EqualsSubstitution(given_or("camera", "zed"), name))
        ),
    )


def generate_launch_description():
    task = LaunchConfiguration("task")
    namespace = LaunchConfiguration("namespace")
    autostart = LaunchConfiguration("autostart")
    arguments = [
        DeclareLaunchArgument(
            "task",
            default_value="woolly_ball_pnp",
            choices=["woolly_ball_pnp", "package_handover"],
            description="A ball into a bin, or a package from hand to hand into a bin.",
        ),
        DeclareLaunchArgument(
            "robot",
            default_value="twin",
            choices=["twin", "real"],
            description="The robot in simulation, or the real one: see docs/vega.md first.",
        ),
        DeclareLaunchArgument(
            "cell",
            default_value="",
            description="File with what stands around the robot: table, walls, limits of motion. "
            "'': config/cells/vega_twin.yaml or vega_real.yaml, which is a form to fill in.",
        ),
        DeclareLaunchArgument(
            "mode",
            default_value="",
            choices=["", "lockstep", "real_time"],
            description="As in graph.launch.py. '': lockstep for the twin; the real robot knows "
            "real_time only.",
        ),
        DeclareLaunchArgument(
            "base_policy",
            default_value="",
            description="The frozen policy that the residual corrects, as in graph.launch.py. "
            "'': scripted for the twin, act for the real robot.",
        ),
        DeclareLaunchArgument(
            "base_policy_path",
            default_value="",
            description="Its weights; for the real robot it must be given.",
        ),
        DeclareLaunchArgument(
            "agent_config",
            default_value="",
            description="Hyperparameters of the residual agent. '': config/agents/vega_twin.yaml, "
            "or the task's for the real robot.",
        ),
        DeclareLaunchArgument(
            "safety_config",
            default_value="",
            description="Thresholds of the safety monitor. '': config/safety/'s of the task, or "
            "vega_real.yaml for the real robot.",
        ),
        DeclareLaunchArgument(
            "camera",
            default_value="",
            choices=["", "zed", "opencv", "none"],
            description="real: who takes the pictures; none: a node started elsewhere. '': zed. "
            "The twin makes its own.",
        ),
        DeclareLaunchArgument(
            "svo",
            default_value="",
            description="real, zed: an SVO file to play; '': a live camera.",
        ),
        DeclareLaunchArgument(
            "video",
            default_value="/dev/video0",
            description="real, opencv: device or video file with left and right side by side.",
        ),
        DeclareLaunchArgument(
            "stamp_slop",
            default_value="",
            description="Largest difference of stamps within one observation, s. '': 0 for the "
            "twin; 0.02 for the real robot, enough for a camera of 30 Hz.",
        ),
        DeclareLaunchArgument(
            "camera_delay",
            default_value="",
            description="An observation takes the pictures of this long before its stamp, s: as "
            "long as a picture takes to arrive, or all observations wait for it. '': 0 for the "
            "twin, 0.05 for the real robot.",
        ),
        DeclareLaunchArgument(
            "max_identical_images",
            default_value="",
            description="The same picture bit for bit in that many observations while a joint "
            "moves is a frozen camera; 0: never. '': 0 for the twin, whose pictures have no "
            "noise, 10 for the real robot.",
        ),
        DeclareLaunchArgument(
            "autostart",
            default_value="false",
            choices=TRUTH,
            description="real: connect and hold at once; otherwise the lifecycle services do.",
        ),
        DeclareLaunchArgument(
            "max_speed",
            default_value="1.0",
            description="real: share of the joints' largest velocities that a command may ask for.",
        ),
        DeclareLaunchArgument(
            "reset_speed",
            default_value="0.15",
            description="real: share of the joints' largest velocities on the way to a start.",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Of all nodes, such as /robot_1."
        ),
    ]
    driver = Node(
        package="resfit_vega",
        executable="vega_driver",
        name="vega_driver",
        parameters=[
            parameters(task=str, autostart=bool, max_speed=float, reset_speed=float)
            | {
                "cell": ParameterValue(
                    given_or("cell", [SHARE, "/config/cells/vega_real.yaml"]), value_type=str
                )
            }
        ],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        # One that connects by itself must not do so again unseen.
        respawn=IfElseSubstitution(autostart, "false", LaunchConfiguration("respawn")),
        respawn_delay=2.0,
        sigterm_timeout="15",
        sigkill_timeout="20",
    )
    # A launched process has no keyboard.
    keyboard_hint = LogInfo(
        msg=[
            "type in another terminal, after 'source activate.bash':  "
            "ros2 run resfit_teleop_ui keyboard_labeler",
            IfElseSubstitution(
                EqualsSubstitution(namespace, ""), "", [" --ros-args -r __ns:=", namespace]
            ),
        ]
    )
    twin = GroupAction(
        [
            include(
                "sim.launch.py",
                cell=[SHARE, "/config/cells/vega_twin.yaml"],
                mode="lockstep",
                base_policy="scripted",
                agent_config=[SHARE, "/config/agents/vega_twin.yaml"],
                stamp_slop="0.0",
                camera_delay="0.0",
                max_identical_images="0",
            )
        ],
        condition=IfCondition(EqualsSubstitution(LaunchConfiguration("robot"), "twin")),
    )
    real = GroupAction(
        [
            PushRosNamespace(namespace),
            include(
                "graph.launch.py",
                mode="real_time",
                base_policy="act",
                agent_config=[SHARE, "/config/agents/", task, ".yaml"],
                safety_config=[SHARE, "/config/safety/vega_real.yaml"],
                stamp_slop="0.02",
                camera_delay="0.05",
                max_identical_images="10",
            ),
            driver,
            camera("zed", parameters(svo=str)),
            camera(
                "opencv",
                {
                    "source": ParameterValue(LaunchConfiguration("video"), value_type=str),
                    "side_by_side": True,
                },
            ),
            keyboard_hint,
        ],
        condition=IfCondition(REAL),
    )
    return LaunchDescription(
        [*arguments, OpaqueFunction(function=refuse_what_does_not_go_together), twin, real]
    )
