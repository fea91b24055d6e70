"""A respawned process, and a required one whose end ends the launch."""

from launch.actions import ExecuteProcess, Shutdown

from launch import LaunchDescription


def generate_launch_description():
    return LaunchDescription(
        [
            ExecuteProcess(cmd=["sh", "-c", "sleep 0.2; exit 3"], name="again", respawn=True,
                           respawn_delay=0.1),
            ExecuteProcess(cmd=["sleep", "2"], name="required", on_exit=[Shutdown()]),
        ]
    )  # fmt: skip
