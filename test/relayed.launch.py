"""A launch file of the suite, with the named topics of its simulated robot under `true/`.

A relay of the test's own then stands between the robot and all other nodes.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import SetParameter, SetRemap
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def remap(context):
    topics = LaunchConfiguration("topics").perform(context).split()
    deadline = LaunchConfiguration("action_deadline").perform(context)
    return [
        *(SetRemap(f"sim_bridge:{topic}", f"true/{topic}") for topic in topics),
        *([SetParameter("action_deadline", float(deadline))] if deadline else []),
    ]


def generate_launch_description():
    file = [FindPackageShare("resfit_bringup"), "launch", LaunchConfiguration("file")]
    return LaunchDescription(
        [
            DeclareLaunchArgument("file", description="Of resfit_bringup."),
            DeclareLaunchArgument("topics", description="Relative names, with spaces between."),
            DeclareLaunchArgument(
                "action_deadline",
                default_value="",
                description="Of the nodes that have one, each in its own unit; '': their own.",
            ),
            OpaqueFunction(function=remap),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(PathJoinSubstitution(file))),
        ]
    )
