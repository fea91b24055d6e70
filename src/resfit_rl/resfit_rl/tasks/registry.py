"""The tasks by name."""

from __future__ import annotations

import functools
from dataclasses import replace

from resfit_rl.robots.vega import COMMANDED_JOINTS, RobotDescriptionError, vega_description
from resfit_rl.tasks.implementation import (
    SCENES_VERSION,
    VEGA_TWIN_VERSION,
    Implementation,
    dexmimicgen_version,
)
from resfit_rl.tasks.task import (
    JointTerm,
    PoseTerm,
    RelativeTerm,
    StateTerm,
    Task,
    UnknownTaskError,
)

_ROBOSUITE = ("robosuite", "1.5.2")
_POSE_ACTIONS = ("x", "y", "z", "roll", "pitch", "yaw")
_GENERIC_MAX_STEPS = 500
# The tool points down, half-way between the turns about the vertical that the wrist can make.
_TOOL_DOWN = (0.5**0.5, 0.5**0.5, 0.0, 0.0)
# Tools without fingers, so without gripper joints and gripper action.
_FINGERLESS = ("Wipe", "TwoArmPegInHole")
# A hand's six motors in the order of its actions, and a joint that each of them turns.
_FINGERS = ("pinky", "ring", "middle", "index", "thumb", "thumb_turn")
_INSPIRE = (*(f"{f}_proximal" for f in _FINGERS[:4]), "thumb_proximal_2", "thumb_proximal_1")
_FOURIER = (*_INSPIRE[:4], "thumb_proximal_pitch", "thumb_proximal_yaw")
# Largest change of an absolute pose from step to step: 2 m/s and 10 rad/s.
_POSE_CHANGE = (0.1,) * 3 + (0.5,) * 3
# Orientations of the hands at rest, quaternions x, y, z, w.
_DEXTEROUS_REST = ((0.0, 0.5**0.5, 0.5**0.5, 0.0), (0.5**0.5, 0.0, 0.0, 0.5**0.5))
_GR1_QUATERNION = {"right": (-0.5, 0.5, 0.5, 0.5), "left": (0.5, -0.5, 0.5, 0.5)}
# Where the hands of GR1 can be, m, world frame, and how far they turn from its rest, rad.
_GR1_LOWER, _GR1_UPPER = (-0.55, -0.8, 0.7), (0.45, 0.8, 1.7)
_GR1_TURN = 1.8
_GR1_REST = {"right": (-1.21, 1.21, 1.21), "left": (1.21, -1.21, 1.21)}  # rotation vectors, rad
# Vega's tasks: environment and time limit, control steps. The paper's limits are not known.
_VEGA = {"woolly_ball_pnp": ("WoollyBallPnP", 400), "package_handover": ("PackageHandover", 600)}
# Largest change of a joint from step to step, as a share of its largest velocity. Base actions of
# our experts take 0.3 of it; noise of 0.05 of the range of the demonstrations takes up the rest.
_VEGA_SPEED = 1.0


def _pandas(
    name: str, environment: str, max_steps: int, *, arms: int = 1, fingers: bool = True
) -> Task:
    """Pandas moved by delta end-effector poses (of 0.05 m and 0.5 rad) and a gripper each."""
    ends = ("right",) if arms == 1 else tuple(f"robot{i}_right" for i in range(arms))
    layout: list[StateTerm] = []
    for arm, end in enumerate(ends):
        layout.append(PoseTerm(end, _TOOL_DOWN))
        if fingers:
            layout.append(JointTerm(tuple(f"gripper{arm}_right_finger_joint{j}" for j in (1, 2))))
    one_arm = (*_POSE_ACTIONS, "gripper") if fingers else _POSE_ACTIONS
    names = (
        one_arm
        if arms == 1
        else tuple(f"robot{i}_{action}" for i in range(arms) for action in one_arm)
    )
    return Task(
        name=name,
        implementation=str(Implementation(*_ROBOSUITE, environment, ("Panda",) * arms)),
        cameras=("agentview", *(f"robot{i}_eye_in_hand" for i in range(arms))),
        state_layout=tuple(layout),
        wrists=ends,
        action_names=names,
        action_lower=(-1.0,) * len(names),
        action_upper=(1.0,) * len(names),
        action_change=(2.0,) * len(names),
        hold_template=tuple(float("nan") if n.endswith("gripper") else 0.0 for n in names),
        max_steps=max_steps,
    )


def _lift_state() -> Task:
    """Lift without cameras: the cube's pose is part of the state.

    Without rendering and with its short episodes it is learned on two CPU cores in minutes.
    """
    lift = _pandas("lift_state", "Lift", 80)
    cube = (PoseTerm("cube"), RelativeTerm("cube", "right"))
    return replace(lift, cameras=(), state_layout=(*lift.state_layout, *cube))


def _dexterous_pandas(name: str, environment: tuple[str, str], max_steps: int) -> Task:
    """Two Pandas with five-fingered hands: delta end-effector poses, finger positions in [-1, 1].

    Args:
        environment: of our scenes, and of DexMimicGen.
    """
    sides = ("r", "l")
    layout: list[StateTerm] = []
    for i, side in enumerate(sides):
        layout.append(PoseTerm(f"robot{i}_right", _DEXTEROUS_REST[i]))
        layout.append(JointTerm(tuple(f"gripper{i}_right_joint_{side}_{j}" for j in _INSPIRE)))
    names = tuple(f"robot{i}_{action}" for i in (0, 1) for action in (*_POSE_ACTIONS, *_FINGERS))
    return Task(
        name=name,
        implementation=_scene_or_dexmimicgen(environment, ("PandaDexRH", "PandaDexLH")),
        cameras=("agentview", "robot0_eye_in_hand", "robot1_eye_in_hand"),
        state_layout=tuple(layout),
        wrists=("robot0_right", "robot1_right"),
        action_names=names,
        action_lower=(-1.0,) * len(names),
        action_upper=(1.0,) * len(names),
        action_change=(2.0,) * len(names),
        hold_template=((0.0,) * 6 + (float("nan"),) * 6) * 2,
        max_steps=max_steps,
        rest_action=-1.0,
    )


def _gr1(name: str, environment: tuple[str, str], max_steps: int, camera: str) -> Task:
    """GR1 on a fixed base: absolute poses of both wrists, finger positions in [-1, 1].

    The actions are in robosuite's order: right arm, left arm, right hand, left hand.
    """
    arms = ("right", "left")
    layout: list[StateTerm] = []
    for arm, side in zip(arms, "RL", strict=True):
        layout.append(PoseTerm(arm, _GR1_QUATERNION[arm]))
        layout.append(JointTerm(tuple(f"gripper0_{arm}_{side}_{j}_joint" for j in _FOURIER)))
    pose = ("x", "y", "z", "rx", "ry", "rz")
    names = tuple(f"{arm}_{action}" for part in (pose, _FINGERS) for arm in arms for action in part)
    lower, upper = (
        tuple(
            value
            for arm in arms
            for value in (*position, *(angle + turn for angle in _GR1_REST[arm]))
        )
        for position, turn in ((_GR1_LOWER, -_GR1_TURN), (_GR1_UPPER, _GR1_TURN))
    )
    return Task(
        name=name,
        implementation=_scene_or_dexmimicgen(environment, ("GR1ArmsOnly",), ("GR1FixedLowerBody",)),
        cameras=(camera, "robot0_eye_in_left_hand", "robot0_eye_in_right_hand"),
        state_layout=tuple(layout),
        wrists=arms,
        action_names=names,
        action_lower=lower + (-1.0,) * 12,
        action_upper=upper + (1.0,) * 12,
        action_change=_POSE_CHANGE * 2 + (2.0,) * 12,
        hold_template=(float("nan"),) * 24,
        max_steps=max_steps,
        pose_actions=(("right", 0), ("left", 6)),
        rest_action=-1.0,
    )


@functools.cache
def _vega(name: str) -> Task:
    """Vega: absolute positions of its arms', hands' and head's joints."""
    environment, max_steps = _VEGA[name]
    try:
        robot = vega_description()
    except RobotDescriptionError as error:
        raise UnknownTaskError(f"task {name}: {error}") from None
    change = _VEGA_SPEED * robot.velocity / Task.control_frequency
    return Task(
        name=name,
        implementation=str(Implementation("vega", VEGA_TWIN_VERSION, environment, ("Vega",))),
        cameras=("head_left", "head_right"),
        state_layout=(JointTerm(COMMANDED_JOINTS),),
        wrists=("right", "left"),
        action_names=COMMANDED_JOINTS,
        action_lower=tuple(robot.position_lower.tolist()),
        action_upper=tuple(robot.position_upper.tolist()),
        action_change=tuple(change.tolist()),
        hold_template=(float("nan"),) * len(COMMANDED_JOINTS),
        max_steps=max_steps,
        joint_actions=COMMANDED_JOINTS,
    )


def _scene_or_dexmimicgen(
    environment: tuple[str, str],
    robots: tuple[str, ...],
    dexmimicgen_robots: tuple[str, ...] | None = None,
) -> str:
    """DexMimicGen's environment where the user has that package, else our scene."""
    version = dexmimicgen_version()
    if version is None:
        return str(Implementation("resfit", SCENES_VERSION, environment[0], robots))
    return str(Implementation("dexmimicgen", version, environment[1], dexmimicgen_robots or robots))


def _tasks() -> dict[str, Task]:
    # Cameras and time limits: table B.2.
    tasks = (
        _pandas("can", "PickPlaceCan", 200),
        _pandas("square", "NutAssemblySquare", 300),
        _dexterous_pandas("box_cleanup", ("BoxCleanup", "TwoArmBoxCleanup"), 300),
        _gr1("can_sort", ("CanSort", "TwoArmCanSortRandom"), 300, "frontview"),
        _gr1("coffee", ("Coffee", "TwoArmCoffee"), 400, "agentview"),
        _lift_state(),
    )
    return {task.name: task for task in tasks}


_TASKS = _tasks()


def task_names() -> tuple[str, ...]:
    """The paper's tasks, five on robosuite's robots and two on Vega, and Lift without cameras."""
    return (*_TASKS, *_VEGA)


def get_task(name: str) -> Task:
    """The task called `name`: one of `task_names`, or a robosuite environment such as 'Lift'.

    A robosuite environment runs with one Panda for each arm it needs and 500 steps at most.

    Raises:
        UnknownTaskError: lists the known names, or Vega's description is not here.
    """
    if name in _TASKS:
        return _TASKS[name]
    if name in _VEGA:
        return _vega(name)
    # Only here: the simulator is slow to import and not needed on a robot.
    from resfit_rl.simulation.environments import arms_of_environments

    arms = arms_of_environments()
    if name not in arms:
        known = ", ".join([*task_names(), *sorted(arms)])
        raise UnknownTaskError(f"task: expected one of {known}, found '{name}'")
    return _pandas(name, name, _GENERIC_MAX_STEPS, arms=arms[name], fingers=name not in _FINGERLESS)
