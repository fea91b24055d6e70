"""Whoever watches the graph: viewers, and recordings of episodes. None of them is needed by it."""

import os
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

TRUTH = ["true", "false"]
CONFIG = Path(get_package_share_directory("resfit_bringup"), "config")
# Viewer -> package, executable, its arguments.
ROS_VIEWERS = {
    "rviz": ("rviz2", "rviz2", ["-d", str(CONFIG / "rviz" / "resfit.rviz")]),
    "rqt": (
        "rqt_gui",
        "rqt_gui",
        ["--perspective-file", str(CONFIG / "rqt" / "resfit.perspective")],
    ),
}
DEBIAN = {
    "rviz2": "ros-{ros}-rviz2",
    "rqt_gui": "ros-{ros}-rqt ros-{ros}-rqt-plot ros-{ros}-rqt-robot-monitor",
}
VIEWERS = ["none", *ROS_VIEWERS, "rerun", "foxglove"]


def parameters(**kinds):
    """Node parameters that take the values of the launch arguments of the same names."""
    return {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, kind in kinds.items()
    }


def node(executable, *sources, **options):
    """One of ours; it is not started again, for whoever watches can do that."""
    return Node(
        package="resfit_viewing",
        executable=executable,
        name=executable,
        parameters=[parameters(task=str, use_sim_time=bool), *sources],
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        sigterm_timeout="15",
        sigkill_timeout="20",
        **options,
    )


def viewers(context):
    """The chosen viewer, or one line that says what to install."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    # Only in simulation do messages tell where the things around the robot are.
    scene = {"scene": value("use_sim_time") == "true"}
    viewer = value("viewer")
    found = []
    if viewer in ("rviz", "foxglove"):
        found.append(node("markers", scene))
    if viewer == "rerun":
        to = {"to": ParameterValue(LaunchConfiguration("rerun_to"), value_type=str)}
        found.append(node("rerun_view", scene, to))
    elif viewer == "foxglove":
        found.append(node("foxglove_view"))
    elif viewer in ROS_VIEWERS:
        found.append(ros_viewer(*ROS_VIEWERS[viewer]))
    return found


def ros_viewer(package, executable, arguments):
    try:
        get_package_share_directory(package)
    except PackageNotFoundError:
        what = DEBIAN[package].format(ros=os.environ.get("ROS_DISTRO") or "kilted")
        return LogInfo(
            msg=f"no {package} here, the graph goes on unwatched: sudo apt-get install {what}; or "
            "viewer:=rerun or foxglove, which need no ROS installation"
        )
    return Node(
        package=package,
        executable=executable,
        name=executable,
        arguments=arguments,
        parameters=[parameters(use_sim_time=bool)],
        output="screen",
    )


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "viewer",
                default_value="none",
                choices=VIEWERS,
                description="Who shows the graph. foxglove: a server for the Foxglove app, at "
                "ws://localhost:8765.",
            ),
            DeclareLaunchArgument(
                "rerun_to",
                default_value="spawn",
                description="rerun: spawn opens its viewer here; rerun+http://HOST:9876/proxy is "
                "a viewer there; a path that ends in .rrd is a file.",
            ),
            DeclareLaunchArgument(
                "record_mcap",
                default_value="false",
                choices=TRUTH,
                description="Write each episode to RUN_DIR/mcap, for Foxglove.",
            ),
            OpaqueFunction(function=viewers),
            node(
                "episode_mcap",
                parameters(run_dir=str),
                condition=IfCondition(LaunchConfiguration("record_mcap")),
            ),
        ]
    )
