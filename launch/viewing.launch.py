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
# Viewer -> package, executable, arguments before its file, remappings.
ROS_VIEWERS = {
    "rviz": ("rviz2", "rviz2", ["-d"], []),
    # What the monitor listens to comes from an aggregator elsewhere; here nodes are few.
    "rqt": ("rqt_gui", "rqt_gui", ["--perspective-file"], [("/diagnostics_agg", "/diagnostics")]),
}
DEBIAN = {
    "rviz2": ("rviz2",),
    "rqt_gui": ("rqt-gui", "rqt-plot", "rqt-image-view", "rqt-robot-monitor"),
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

    viewer, recording = value("viewer"), value("record_mcap") == "true"
    # Only in simulation do messages tell where the things around the robot are.
    scene = {"scene": value("use_sim_time") == "true"}
    found = []
    if viewer in ("rviz", "foxglove") or recording:
        found.append(node("markers", scene))
    if viewer == "rerun":
        to = {"to": ParameterValue(LaunchConfiguration("rerun_to"), value_type=str)}
        found.append(node("rerun_view", scene, to))
    if viewer == "foxglove":
        found.append(node("foxglove_view"))
    if viewer in ("rviz", "rqt", "foxglove") or recording:
        # Here: a graph that nobody watches starts without them.
        from resfit_rl.tasks import get_task
        from resfit_viewing.viewer_files import write_viewer_files

        # Topics of another task's cameras, or below a namespace, are other ones.
        folder = Path(value("run_dir")).absolute() / "viewing"
        try:
            files = write_viewer_files(
                folder,
                get_task(value("task")),
                context.launch_configurations.get("ros_namespace", ""),
            )
        except (OSError, ValueError) as error:
            # The nodes will say the same.
            return [LogInfo(msg=f"no files for viewers: {error}"), *found]
        if viewer == "foxglove" or recording:
            found.append(LogInfo(msg=f"layout for Foxglove: {files['foxglove']}"))
        if viewer in ROS_VIEWERS:
            found.append(ros_viewer(files[viewer], *ROS_VIEWERS[viewer]))
    return found


def ros_viewer(file, package, executable, arguments, remappings):
    try:
        get_package_share_directory(package)
    except PackageNotFoundError:
        ros = os.environ.get("ROS_DISTRO") or "kilted"
        what = " ".join(f"ros-{ros}-{name}" for name in DEBIAN[package])
        return LogInfo(
            msg=f"no {package} here, the graph goes on unwatched: sudo apt-get install {what}; or "
            "viewer:=rerun or foxglove, which need no ROS installation"
        )
    return Node(
        package=package,
        executable=executable,
        name=executable,
        arguments=[*arguments, str(file)],
        remappings=remappings,
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
