"""The tasks by name."""

from __future__ import annotations

from resfit_rl.tasks.task import JointTerm, PoseTerm, Task, UnknownTaskError

_PANDA_ACTIONS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


def _panda(name: str, environment: str, max_steps: int) -> Task:
    """One Panda: delta end-effector pose (of the controller's 0.05 m and 0.5 rad) and gripper."""
    return Task(
        name=name,
        implementation=f"robosuite-1.5.2/{environment}/Panda",
        cameras=("agentview", "robot0_eye_in_hand"),
        state_layout=(
            PoseTerm("right"),
            JointTerm(("gripper0_right_finger_joint1", "gripper0_right_finger_joint2")),
        ),
        wrists=("right",),
        action_names=_PANDA_ACTIONS,
        action_lower=(-1.0,) * 7,
        action_upper=(1.0,) * 7,
        action_change=(2.0,) * 7,
        hold_template=(0.0,) * 6 + (float("nan"),),
        max_steps=max_steps,
    )


_TASKS = {
    task.name: task
    for task in (_panda("can", "PickPlaceCan", 200), _panda("square", "NutAssemblySquare", 300))
}


def get_task(name: str) -> Task:
    """The task called `name`; UnknownTaskError lists the known ones."""
    if name not in _TASKS:
        raise UnknownTaskError(f"task: expected one of {', '.join(_TASKS)}, found '{name}'")
    return _TASKS[name]
