"""Included by small.launch.py; has a required argument."""

from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.substitutions import LaunchConfiguration, ThisLaunchFileDir

from launch import LaunchDescription


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument("needed", description="Must be given"),
            ExecuteProcess(
                cmd=["echo", LaunchConfiguration("needed"), LaunchConfiguration("rate"),
                     ThisLaunchFileDir()]
            ),
        ]
    )  # fmt: skip
