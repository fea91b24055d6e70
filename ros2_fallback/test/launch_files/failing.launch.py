"""A process, and then an action that fails."""

from launch.actions import ExecuteProcess, OpaqueFunction

from launch import LaunchDescription


def fail(context):
    raise RuntimeError("cannot go on")


def generate_launch_description():
    return LaunchDescription(
        [
            ExecuteProcess(cmd=["sleep", "60"], name="first", output="screen"),
            OpaqueFunction(function=fail),
            ExecuteProcess(cmd=["sleep", "60"], name="never", output="screen"),
        ]
    )
