"""The nodes that are the same on every robot: all but the driver and the labeler."""

from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import (
    EqualsSubstitution,
    IfElseSubstitution,
    LaunchConfiguration,
)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

TRUTH = ["true", "false"]


SHARE = FindPackageShare("resfit_bringup")


def parameters(*names):
    """Node parameters that take the values of the launch arguments of the same names."""
    # Text stays text: a run directory may be called 2026.
    kinds = dict.fromkeys(("seed", "replan_interval", "lead", "image_width", "image_height"), int)
    kinds["max_identical_images"] = int
    kinds |= dict.fromkeys(("evaluation", "residual", "use_sim_time"), bool)
    kinds |= dict.fromkeys(("demonstrations_wait", "stamp_slop", "camera_delay"), float)
    return {
        name: ParameterValue(LaunchConfiguration(name), value_type=kinds.get(name, str))
        for name in names
    }


def given_or(name, default):
    """Value of a launch argument, or `default` where that is ''."""
    value = LaunchConfiguration(name)
    return IfElseSubstitution(EqualsSubstitution(value, ""), default, value)


def node(package, executable, *sources, **options):
    return Node(
        package=package,
        executable=executable,
        name=executable,
        parameters=list(sources),
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        respawn=LaunchConfiguration("respawn"),
        respawn_delay=2.0,
        # The learner ends its burst and saves a checkpoint before it goes.
        sigterm_timeout="15",
        sigkill_timeout="20",
        **options,
    )


def require_file(context):
    """A node is started without a parameter file that is not there: with other thresholds."""
    path = LaunchConfiguration("safety_config").perform(context)
    if path and not Path(path).is_file():
        raise RuntimeError(f"argument 'safety_config': expected a file, found none at '{path}'")


# Of viewing.launch.py: however they end, the graph goes on.
WATCHING = ("rviz2", "rqt_gui", "rerun_view", "foxglove_view", "markers", "episode_mcap")


def end_on_configuration_error(event, context):
    """Exit code 1 says that the user must mend something: a respawn would say it for ever."""
    if event.process_name.rpartition("-")[0] in WATCHING:
        return
    if event.returncode == 1 and not context.is_shutdown:
        raise RuntimeError(f"{event.process_name} cannot run; its own message above says why")


def generate_launch_description():
    task = LaunchConfiguration("task")
    arguments = [
        DeclareLaunchArgument("task", default_value="square", description="What the robot does."),
        DeclareLaunchArgument(
            "run_dir",
            default_value=["runs/", task],
            description="Folder of episodes, weights and checkpoints; an existing run goes on.",
        ),
        DeclareLaunchArgument(
            "mode",
            default_value="lockstep",
            choices=["lockstep", "real_time"],
            description="lockstep: each step waits for its action; real_time: 20 Hz of wall time.",
        ),
        DeclareLaunchArgument(
            "base_policy",
            default_value="act",
            choices=["act", "diffusion", "vqbet", "smolvla", "lerobot", "scripted", "replayed"],
            description="The frozen policy that the residual corrects; lerobot: any of LeRobot's "
            "types, by its folder.",
        ),
        DeclareLaunchArgument(
            "base_policy_path",
            default_value="",
            description="Its weights (act; '': the model of the task that is installed here) or "
            "recording (replayed).",
        ),
        DeclareLaunchArgument(
            "replan_interval", default_value="3", description="Steps from one chunk to the next."
        ),
        DeclareLaunchArgument(
            "lead", default_value="2", description="Steps a chunk is predicted ahead of its use."
        ),
        DeclareLaunchArgument(
            "agent_config",
            default_value=[SHARE, "/config/agents/cpu.yaml"],
            description="Hyperparameters of the residual agent.",
        ),
        DeclareLaunchArgument(
            "demonstrations",
            default_value=["data/demos/", task],
            description="Data set that the learner mixes in; none: without.",
        ),
        DeclareLaunchArgument(
            "demonstrations_wait",
            default_value="0",
            description="How long the learner waits for them where they are not there yet, s.",
        ),
        DeclareLaunchArgument(
            "safety_config",
            default_value="",
            description="Thresholds of the safety monitor, a ROS parameter file; '': the task's "
            "that is installed here, or the monitor's own where there is none.",
        ),
        DeclareLaunchArgument(
            "residual",
            default_value="true",
            choices=TRUTH,
            description="false: the base policy acts alone.",
        ),
        DeclareLaunchArgument(
            "evaluation",
            default_value="false",
            choices=TRUTH,
            description="true: no exploration noise.",
        ),
        DeclareLaunchArgument(
            "learner", default_value="true", choices=TRUTH, description="Whether to learn."
        ),
        DeclareLaunchArgument(
            "image_width", default_value="84", description="Of every camera, pixels."
        ),
        DeclareLaunchArgument(
            "image_height", default_value="84", description="Of every camera, pixels."
        ),
        DeclareLaunchArgument(
            "stamp_slop",
            default_value="0.0",
            description="Largest difference of stamps within one observation, s; 0: sensors share "
            "stamps, as in simulation.",
        ),
        DeclareLaunchArgument(
            "camera_delay",
            default_value="0.0",
            description="An observation takes the pictures of this long before its stamp, s.",
        ),
        DeclareLaunchArgument(
            "max_identical_images",
            default_value="0",
            description="The same picture bit for bit in that many observations while a joint "
            "moves is a frozen camera; 0: never. A simulated camera has no noise: what moves out "
            "of its sight leaves its picture the same.",
        ),
        DeclareLaunchArgument(
            "device",
            default_value="cpu",
            choices=["cpu", "cuda"],
            description="Where networks run.",
        ),
        DeclareLaunchArgument(
            "seed", default_value="0", description="Of start states, noise and networks."
        ),
        DeclareLaunchArgument(
            "respawn",
            default_value="true",
            choices=TRUTH,
            description="Start a node again 2 s after it has died.",
        ),
        DeclareLaunchArgument(
            "log_level",
            default_value="info",
            choices=["debug", "info", "warn", "error"],
            description="Of all nodes.",
        ),
        DeclareLaunchArgument(
            "use_sim_time",
            default_value="false",
            choices=TRUTH,
            description="Whether time is that of /clock.",
        ),
    ]
    images = ("image_width", "image_height")
    timing = ("stamp_slop", "camera_delay", "max_identical_images")
    schedule = ("replan_interval", "lead")
    base = parameters("base_policy") | {
        "base_policy_path": ParameterValue(
            IfElseSubstitution(
                EqualsSubstitution(LaunchConfiguration("base_policy"), "act"),
                given_or("base_policy_path", [SHARE, "/models/act_", task]),
                LaunchConfiguration("base_policy_path"),
            ),
            value_type=str,
        )
    }
    nodes = [
        node(
            "resfit_safety",
            "safety_monitor",
            given_or("safety_config", [SHARE, "/config/safety/", task, ".yaml"]),
            parameters("task", "use_sim_time"),
        ),
        node(
            "resfit_safety",
            "episode_supervisor",
            parameters("task", "run_dir", "seed", "use_sim_time"),
        ),
        node(
            "resfit_policy",
            "policy",
            base
            # The robot does not wait: what is missing must be named before too many steps are held.
            | {
                "max_observation_age": ParameterValue(
                    IfElseSubstitution(
                        EqualsSubstitution(LaunchConfiguration("mode"), "real_time"), "0.3", "1.0"
                    ),
                    value_type=float,
                )
            }
            | parameters(
                *("task", "run_dir", "mode", "residual", "evaluation", "agent_config"),
                *("device", "seed", "use_sim_time", *schedule, *images, *timing),
            ),
        ),
        node(
            "resfit_learner",
            "episode_recorder",
            base | parameters("task", "run_dir", "use_sim_time", *images, *timing),
        ),
        node(
            "resfit_learner",
            "learner",
            base
            | parameters(
                *("task", "run_dir", "agent_config", "demonstrations", "demonstrations_wait"),
                *("device", "seed", "use_sim_time", *schedule, *images),
            ),
            condition=IfCondition(LaunchConfiguration("learner")),
        ),
    ]
    # A plain path, so that --show-args sees the arguments inside.
    watching = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("viewing.launch.py")))
    )
    return LaunchDescription(
        [
            *arguments,
            OpaqueFunction(function=require_file),
            RegisterEventHandler(OnProcessExit(on_exit=end_on_configuration_error)),
            *nodes,
            watching,
        ]
    )
