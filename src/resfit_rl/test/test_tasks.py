"""Tasks: their interface, the registry, the state vector."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from resfit_rl.tasks import StateError, UnknownTaskError, assemble_state, get_task


def test_known_tasks_need_no_simulator():
    code = (
        "import sys; from resfit_rl.tasks import get_task; get_task('can'); get_task('square');"
        "assert not {'robosuite', 'mujoco'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_task_lists_the_known_ones():
    with pytest.raises(UnknownTaskError, match=r"can, square, .*Lift.* found 'cup'"):
        get_task("cup")


@pytest.mark.parametrize("name", ["can", "square", "Lift", "Wipe", "TwoArmLift", "TwoArmPegInHole"])
def test_every_field_has_one_entry_per_action(name):
    task = get_task(name)
    fields = (task.action_lower, task.action_upper, task.action_change, task.hold_template)
    assert {len(field) for field in fields} == {task.action_dim}
    assert len(set(task.action_names)) == task.action_dim
    assert np.isnan(task.hold_template).tolist() == [
        name.endswith("gripper") for name in task.action_names
    ]


def test_two_arms_are_told_apart():
    task = get_task("TwoArmLift")
    assert task.implementation == "robosuite-1.5.2/TwoArmLift/Panda+Panda"
    assert task.wrists == ("robot0_right", "robot1_right")
    assert (task.state_dim, task.action_dim) == (18, 14)
    assert task.action_names[7] == "robot1_x"


def _sources(quaternion=(0.5, -0.5, 0.5, -0.5)):
    pose = np.array([0.1, 0.2, 0.3, *quaternion])
    joints = {"gripper0_right_finger_joint1": 0.04, "gripper0_right_finger_joint2": -0.04}
    return joints, {"right": pose}


def test_state_is_in_the_order_of_the_layout():
    state = assemble_state(get_task("can"), *_sources((0.7, 0.7, 0.1, 0.1)))
    assert state.dtype == np.float32
    np.testing.assert_allclose(state, [0.1, 0.2, 0.3, 0.7, 0.7, 0.1, 0.1, 0.04, -0.04])


def test_quaternion_of_a_tool_that_points_down_does_not_jump():
    task = get_task("can")
    down = Rotation.from_matrix([[0, 1, 0], [1, 0, 0], [0, 0, -1]])
    states = []
    for yaw in np.linspace(-2, 2, 81):
        for tilt in (-0.02, 0.02):
            turned = Rotation.from_euler("zx", [yaw, tilt]) * down
            for sign in (1, -1):
                states.append(assemble_state(task, *_sources(sign * turned.as_quat())))
    assert np.abs(np.diff(states, axis=0)).max() < 0.05


def test_state_refuses_missing_and_not_finite_sources():
    task = get_task("can")
    joints, ends = _sources()
    with pytest.raises(StateError, match="end effector right"):
        assemble_state(task, joints, {})
    with pytest.raises(StateError, match=r"gripper0_right_finger_joint2.*found None"):
        assemble_state(task, {"gripper0_right_finger_joint1": 0.0}, ends)
    with pytest.raises(StateError, match=r"gripper0_right_finger_joint1.*nan"):
        assemble_state(task, joints | {"gripper0_right_finger_joint1": float("nan")}, ends)
    ends["right"][0] = np.inf
    with pytest.raises(StateError, match="end effector right"):
        assemble_state(task, joints, ends)
