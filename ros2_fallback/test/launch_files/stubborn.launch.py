"""One child that ignores SIGINT and SIGTERM, and one that ends cleanly."""

from launch.actions import ExecuteProcess

from launch import LaunchDescription

WAIT = "; print('up', flush=True); time.sleep(60)"
IGNORE = "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (2, 15)]" + WAIT
CLEAN = "import signal, sys, time; signal.signal(2, lambda *_: sys.exit(0))" + WAIT


def generate_launch_description():
    return LaunchDescription(
        [
            ExecuteProcess(cmd=["python3", "-c", IGNORE], name="stubborn", output="screen",
                           sigterm_timeout="0.5", sigkill_timeout="0.5"),
            ExecuteProcess(cmd=["python3", "-c", CLEAN], name="clean", output="screen"),
        ]
    )  # fmt: skip
