"""Vega's twin in MuJoCo at its two tasks: the graph of sim.launch.py, with the twin's cell."""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

SHARE = FindPackageShare("resfit_bringup")


def generate_launch_description():
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
            choices=["twin"],
            description="The robot in simulation; there is no driver of the real one yet.",
        ),
        DeclareLaunchArgument(
            "cell",
            default_value=[SHARE, "/config/cells/vega_twin.yaml"],
            description="File with what stands around the robot: table, walls, limits of motion.",
        ),
        DeclareLaunchArgument(
            "base_policy",
            default_value="scripted",
            description="The frozen policy that the residual corrects; as in sim.launch.py.",
        ),
        DeclareLaunchArgument(
            "agent_config",
            default_value=[SHARE, "/config/agents/vega_twin.yaml"],
            description="Hyperparameters of the residual agent.",
        ),
    ]
    names = ("task", "cell", "base_policy", "agent_config")
    graph = IncludeLaunchDescription(
        # A plain path, so that --show-args sees the arguments inside.
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("sim.launch.py"))),
        launch_arguments={name: LaunchConfiguration(name) for name in names}.items(),
    )
    return LaunchDescription([*arguments, graph])
