"""A blind A/B test of two residuals, or one and the base policy, on the simulated graph.

On a robot: start its graph with learner:=false evaluation:=true and a run_dir of the test's own,
then run resfit_teleop_ui's ab_test_keyboard in a terminal (docs/ab_test.md).
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import EqualsSubstitution, IfElseSubstitution, LaunchConfiguration
from launch_ros.actions import Node, PushRosNamespace
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

SHARE = FindPackageShare("resfit_bringup")
FORMS = "base (the base policy alone), run:DIR (a run's newest weights) or weights:FILE."


def generate_launch_description():
    task = LaunchConfiguration("task")
    path = LaunchConfiguration("base_policy_path")
    arguments = [
        DeclareLaunchArgument("task", default_value="can", description="What the robot does."),
        DeclareLaunchArgument("policy_a", default_value="base", description=FORMS),
        DeclareLaunchArgument("policy_b", description=FORMS),
        DeclareLaunchArgument(
            "run_dir",
            default_value=["runs/ab_tests/graph_", task],
            description="Folder of the test: record, report, episodes; an existing test goes on.",
        ),
        DeclareLaunchArgument(
            "alpha", default_value="0.05", description="Error probability of 'they differ'."
        ),
        DeclareLaunchArgument("max_rounds", default_value="50", description="Rounds at most."),
        DeclareLaunchArgument("seed", default_value="0", description="Of the scenes."),
        DeclareLaunchArgument(
            "base_policy", default_value="act", description="The frozen policy below both."
        ),
        DeclareLaunchArgument(
            "base_policy_path",
            default_value="",
            description="Its weights (act; '': the model of the task that is installed here).",
        ),
        DeclareLaunchArgument(
            "agent_config",
            default_value=[SHARE, "/config/agents/cpu.yaml"],
            description="Shape of the residual that stands for the base policy alone, and is 0.",
        ),
        DeclareLaunchArgument("image_width", default_value="84", description="Pixels."),
        DeclareLaunchArgument("image_height", default_value="84", description="Pixels."),
        DeclareLaunchArgument("namespace", default_value="", description="Of all nodes."),
    ]
    graph = IncludeLaunchDescription(
        # A plain path, so that --show-args sees the arguments inside.
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("sim.launch.py"))),
        launch_arguments={
            "labeler": "none",
            "learner": "false",
            "evaluation": "true",
            "respawn": "true",
        }.items(),
    )
    kinds = dict.fromkeys(("image_width", "image_height", "max_rounds", "seed"), int)
    names = ("task", "policy_a", "policy_b", "run_dir", "base_policy", "agent_config", "alpha")
    kinds |= dict.fromkeys(names, str) | {"alpha": float}
    labeler = Node(
        package="resfit_teleop_ui",
        executable="ab_test_auto",
        name="ab_test",
        parameters=[
            {
                name: ParameterValue(LaunchConfiguration(name), value_type=kind)
                for name, kind in kinds.items()
            }
            | {
                "use_sim_time": True,
                "base_policy_path": ParameterValue(
                    IfElseSubstitution(
                        EqualsSubstitution(LaunchConfiguration("base_policy"), "act"),
                        IfElseSubstitution(
                            EqualsSubstitution(path, ""), [SHARE, "/models/act_", task], path
                        ),
                        path,
                    ),
                    value_type=str,
                ),
            }
        ],
        output="screen",
        on_exit=Shutdown(reason="the A/B test has ended"),
    )
    return LaunchDescription(
        [
            *arguments,
            graph,
            GroupAction([PushRosNamespace(LaunchConfiguration("namespace")), labeler]),
        ]
    )
