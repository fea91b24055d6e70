"""The tasks by name."""

from __future__ import annotations

from resfit_rl.tasks.task import JointTerm, PoseTerm, Task, UnknownTaskError

_SIMULATOR = "robosuite-1.5.2"
_POSE_ACTIONS = ("x", "y", "z", "roll", "pitch", "yaw")
_GENERIC_MAX_STEPS = 500
# The tool points down, half-way between the turns about the vertical that the wrist can make.
_TOOL_DOWN = (0.5**0.5, 0.5**0.5, 0.0, 0.0)
# Tools without fingers, so without gripper joints and gripper action.
_FINGERLESS = ("Wipe", "TwoArmPegInHole")


def _pandas(
    name: str, environment: str, max_steps: int, *, arms: int = 1, fingers: bool = True
) -> Task:
    """Pandas moved by delta end-effector poses (of 0.05 m and 0.5 rad) and a gripper each."""
    ends = ("right",) if arms == 1 else tuple(f"robot{i}_right" for i in range(arms))
    layout: list[PoseTerm | JointTerm] = []
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
        implementation=f"{_SIMULATOR}/{environment}/{'+'.join(['Panda'] * arms)}",
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


_TASKS = {
    task.name: task
    for task in (_pandas("can", "PickPlaceCan", 200), _pandas("square", "NutAssemblySquare", 300))
}


def get_task(name: str) -> Task:
    """The task called `name`: 'can', 'square', or a robosuite environment such as 'Lift'.

    A robosuite environment runs with one Panda for each arm it needs and 500 steps at most.

    Raises:
        UnknownTaskError: lists the known names.
    """
    if name in _TASKS:
        return _TASKS[name]
    # Only here: the simulator is slow to import and not needed on a robot.
    from resfit_rl.simulation.environments import arms_of_environments

    arms = arms_of_environments()
    if name not in arms:
        known = ", ".join([*_TASKS, *sorted(arms)])
        raise UnknownTaskError(f"task: expected one of {known}, found '{name}'")
    return _pandas(name, name, _GENERIC_MAX_STEPS, arms=arms[name], fingers=name not in _FINGERLESS)
