"""Arguments, conditions, scopes, namespaces, remappings and parameters in one file."""

import os

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
    SetLaunchConfiguration,
)
from launch.conditions import IfCondition, UnlessCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import (
    AndSubstitution,
    EqualsSubstitution,
    IfElseSubstitution,
    LaunchConfiguration,
    NotSubstitution,
    PathJoinSubstitution,
    PythonExpression,
    TextSubstitution,
    ThisLaunchFileDir,
)
from launch_ros.actions import (
    Node,
    PushRosNamespace,
    SetParameter,
    SetParametersFromFile,
    SetRemap,
)
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue

from launch import LaunchDescription

HERE = os.path.dirname(os.path.abspath(__file__))


def from_function(context):
    robot = LaunchConfiguration("robot").perform(context)
    return [ExecuteProcess(cmd=["echo", f"function saw {robot}"], name="function")]


def generate_launch_description():
    robot = LaunchConfiguration("robot")
    use_sim = LaunchConfiguration("use_sim")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "robot", default_value="panda", description="Which arm", choices=["panda", "vega"]
            ),
            DeclareLaunchArgument("use_sim", default_value="true", choices=["true", "false"]),
            DeclareLaunchArgument("rate", default_value=["2", "0"], description="Rate in Hz."),
            DeclareLaunchArgument("label", default_value=robot),
            DeclareLaunchArgument("maybe", default_value="x", condition=IfCondition(use_sim)),
            SetEnvironmentVariable("SMALL_VARIABLE", [robot, "-set"]),
            OpaqueFunction(function=from_function),
            ExecuteProcess(
                cmd=["sh", "-c", "echo $SMALL_VARIABLE $EXTRA"], additional_env={"EXTRA": robot}
            ),
            Node(
                executable="echo",
                name=[robot, "_plain"],
                arguments=["--rate", LaunchConfiguration("rate")],
                parameters=[
                    {
                        "rate": LaunchConfiguration("rate"),
                        "use_sim_time": ParameterValue(use_sim, value_type=bool),
                        "text": ParameterValue(LaunchConfiguration("rate"), value_type=str),
                        "gain": 0.5,
                        "fixed": "20",
                        "flag": True,
                        "empty": "",
                        "joints": ["a", "b"],
                        "mixed": [1, 2.5],
                        "limits": ParameterValue("[1.0, 2.0]", value_type=str),
                        "list_sub": [[robot], ["_x"]],
                        "path": [robot, "/model"],
                        "typed_list": ParameterValue(
                            [TextSubstitution(text="[3, 4]")], value_type=list[int]
                        ),
                        "nested": {"deep": {"value": 3}},
                        "half": PythonExpression([LaunchConfiguration("rate"), " / 2"]),
                    },
                    os.path.join(HERE, "plain.yaml"),
                    PathJoinSubstitution([ThisLaunchFileDir(), "plain.yaml"]),
                    ParameterFile(os.path.join(HERE, "substituted.yaml"), allow_substs=True),
                    os.path.join(HERE, "absent.yaml"),
                ],
                remappings=[("image", [robot, "/image"]), ("/a", "/b")],
                ros_arguments=["--log-level", "debug"],
            ),
            GroupAction(
                [
                    PushRosNamespace(robot),
                    SetParameter("shared", 1.5),
                    SetParameter("name", robot),
                    SetRemap("in", "out"),
                    SetParametersFromFile(os.path.join(HERE, "plain.yaml")),
                    SetLaunchConfiguration("rate", "99"),
                    SetEnvironmentVariable("SMALL_VARIABLE", "inner"),
                    Node(
                        executable="echo",
                        exec_name="grouped",
                        name="grouped",
                        namespace="arm",
                        parameters=[{"rate": LaunchConfiguration("rate")}],
                        remappings=[("x", "y")],
                    ),
                    Node(executable="echo", namespace="/absolute", prefix="env -u NOTHING"),
                ],
                condition=IfCondition(EqualsSubstitution(robot, "panda")),
            ),
            GroupAction(
                [
                    ExecuteProcess(
                        cmd=[
                            "echo",
                            LaunchConfiguration("rate", default="gone"),
                            LaunchConfiguration("kept"),
                        ]
                    )
                ],
                forwarding=False,
                launch_configurations={"kept": robot},
            ),
            Node(
                executable="echo",
                arguments=[
                    IfElseSubstitution(use_sim, "simulated", "real"),
                    LaunchConfiguration("rate"),
                ],
                condition=UnlessCondition(AndSubstitution(use_sim, NotSubstitution(use_sim))),
            ),
            GroupAction(
                [
                    IncludeLaunchDescription(
                        PythonLaunchDescriptionSource([HERE, "/included.launch.py"]),
                        launch_arguments={"needed": [robot, "!"], "rate": "7"}.items(),
                    )
                ]
            ),
            ExecuteProcess(cmd=["echo", "after", LaunchConfiguration("rate")], shell=True),
        ]
    )
