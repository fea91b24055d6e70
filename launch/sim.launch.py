"""The whole graph on a simulated robot."""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import (
    EqualsSubstitution,
    IfElseSubstitution,
    LaunchConfiguration,
    PythonExpression,
)
from launch_ros.actions import Node, PushRosNamespace
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import ExecutableInPackage

from launch import LaunchDescription

TRUTH = ["true", "false"]


def parameters(**kinds):
    """Node parameters that take the values of the launch arguments of the same names."""
    return {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, kind in kinds.items()
    }


def labeler_is(name):
    return IfCondition(EqualsSubstitution(LaunchConfiguration("labeler"), name))


def generate_launch_description():
    namespace = LaunchConfiguration("namespace")
    log_level = ["--log-level", LaunchConfiguration("log_level")]
    arguments = [
        DeclareLaunchArgument(
            "task",
            default_value="square",
            description="can, square, box_cleanup, can_sort, coffee, or an environment of "
            "robosuite such as Lift.",
        ),
        DeclareLaunchArgument(
            "driver",
            default_value="sim",
            choices=["sim", "none"],
            description="The simulated robot, or one that is started elsewhere.",
        ),
        DeclareLaunchArgument(
            "make_demonstrations",
            default_value="12",
            description="Demonstrations that the scripted expert records where there are none, "
            "while the graph collects already; 0: none.",
        ),
        DeclareLaunchArgument(
            "labeler",
            default_value="auto",
            choices=["auto", "keyboard", "none"],
            description="Who starts and labels episodes: the simulation's success check, you, "
            "or a node started elsewhere.",
        ),
        DeclareLaunchArgument(
            "episodes",
            default_value="0",
            description="Episodes after which the auto labeler ends the launch; 0: none.",
        ),
        DeclareLaunchArgument(
            "shadows", default_value="false", choices=TRUTH, description="Rendered shadows."
        ),
        DeclareLaunchArgument(
            "reflections",
            default_value="false",
            choices=TRUTH,
            description="Rendered reflections; slow on a CPU.",
        ),
        DeclareLaunchArgument(
            "multisampling",
            default_value="0",
            choices=["0", "2", "4", "8"],
            description="Rendered samples a pixel against jagged edges; 0: one.",
        ),
        DeclareLaunchArgument(
            "coarseness",
            default_value="0.4",
            description="Detail of meshes that is not rendered, in pixels of a thing 1 m away; "
            "0: all is.",
        ),
        DeclareLaunchArgument(
            "cell",
            default_value="",
            description="File of config/cells/: what stands around a robot whose actions are "
            "joint positions; none for the others.",
        ),
        DeclareLaunchArgument(
            "namespace", default_value="", description="Of all nodes, such as /robot_1."
        ),
    ]
    graph = IncludeLaunchDescription(
        # A plain path, so that --show-args sees the arguments inside.
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("graph.launch.py"))),
        launch_arguments={"use_sim_time": "true", "demonstrations_wait": "3600"}.items(),
    )
    driver = Node(
        package="resfit_sim_bridge",
        executable="sim_bridge",
        name="sim_bridge",
        # It makes the time of /clock: its own is the machine's.
        parameters=[
            parameters(task=str, mode=str, cell=str, seed=int, image_width=int, image_height=int)
            | parameters(shadows=bool, reflections=bool, multisampling=int, coarseness=float)
        ],
        ros_arguments=log_level,
        output="screen",
        respawn=LaunchConfiguration("respawn"),
        respawn_delay=2.0,
        sigterm_timeout="15",
        sigkill_timeout="20",
        condition=IfCondition(EqualsSubstitution(LaunchConfiguration("driver"), "sim")),
    )
    path = LaunchConfiguration("demonstrations")
    recording = ExecuteProcess(
        cmd=[
            ExecutableInPackage("record_demonstrations", "resfit_learner"),
            *("--keep", "--task", LaunchConfiguration("task"), "--out", path),
            *("--episodes", LaunchConfiguration("make_demonstrations")),
            *("--image-size", LaunchConfiguration("image_height")),
            LaunchConfiguration("image_width"),
        ],
        name="demonstrations",
        output="screen",
        # The scripted base policy needs poses that demonstrations do not hold.
        condition=IfCondition(
            PythonExpression(
                [
                    *("'", LaunchConfiguration("learner"), "' == 'true' and '", path),
                    *("' != 'none' and '", LaunchConfiguration("base_policy")),
                    *("' != 'scripted' and 0 < ", LaunchConfiguration("make_demonstrations")),
                ]
            )
        ),
    )
    auto_labeler = Node(
        package="resfit_teleop_ui",
        executable="auto_labeler",
        name="auto_labeler",
        parameters=[parameters(episodes=int) | {"use_sim_time": True}],
        ros_arguments=log_level,
        output="screen",
        condition=labeler_is("auto"),
        on_exit=Shutdown(reason="the auto labeler has ended"),
    )
    # A launched process has no keyboard.
    keyboard_hint = LogInfo(
        msg=[
            "type in another terminal, after 'source activate.bash':  "
            "ros2 run resfit_teleop_ui keyboard_labeler --ros-args -p use_sim_time:=true",
            IfElseSubstitution(EqualsSubstitution(namespace, ""), "", [" -r __ns:=", namespace]),
        ],
        condition=labeler_is("keyboard"),
    )
    # The graph comes first: it declares the arguments that the driver shares.
    return LaunchDescription(
        [
            *arguments,
            GroupAction(
                [
                    PushRosNamespace(namespace),
                    *(graph, driver, recording, auto_labeler, keyboard_hint),
                ]
            ),
        ]
    )
