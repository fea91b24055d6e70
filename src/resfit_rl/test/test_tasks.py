"""Tasks: their interface, the registry, the state vector."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from resfit_rl.tasks import (
    StateError,
    UnknownTaskError,
    assemble_state,
    get_task,
    rotation_vector,
    task_names,
)
from resfit_rl.tasks.implementation import Implementation


def test_known_tasks_need_no_simulator():
    code = (
        "import sys; from resfit_rl.tasks import get_task; get_task('can'); get_task('square');"
        "assert not {'robosuite', 'mujoco'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_task_lists_the_known_ones():
    with pytest.raises(UnknownTaskError, match=r"can, square, .*Lift.* found 'cup'"):
        get_task("cup")


@pytest.mark.parametrize("name", [*task_names(), "Lift", "Wipe", "TwoArmLift", "TwoArmPegInHole"])
def test_every_field_has_one_entry_per_action(name):
    task = get_task(name)
    fields = (task.action_lower, task.action_upper, task.action_change, task.hold_template)
    assert {len(field) for field in fields} == {task.action_dim}
    assert len(set(task.action_names)) == task.action_dim
    # A delta of zero stands still; what is absolute is held as it was last.
    deltas = ("x", "y", "z", "roll", "pitch", "yaw")
    absolute = {n for n in task.action_names if n.rsplit("_", 1)[-1] not in deltas}
    if task.pose_actions:
        absolute = set(task.action_names)
    held = np.isnan(task.hold_template)
    assert {n for n, h in zip(task.action_names, held, strict=True) if h} == absolute
    for _, first in task.pose_actions:
        assert [n.split("_")[1] for n in task.action_names[first : first + 6]] == [
            *("x", "y", "z", "rx", "ry", "rz")
        ]


# Table B.2: cameras, time limit; section 4.1: actions.
@pytest.mark.parametrize(
    ("name", "cameras", "max_steps", "actions"),
    [
        ("can", 2, 200, 7),
        ("square", 2, 300, 7),
        ("box_cleanup", 3, 300, 24),
        ("can_sort", 3, 300, 24),
        ("coffee", 3, 400, 24),
    ],
)
def test_five_tasks(name, cameras, max_steps, actions):
    task = get_task(name)
    assert (len(task.cameras), task.max_steps, task.action_dim) == (cameras, max_steps, actions)
    assert str(Implementation.parse(task.implementation)) == task.implementation


def test_implementation_that_cannot_be_read_is_named():
    with pytest.raises(ValueError, match=r"SIMULATOR-VERSION/ENVIRONMENT/ROBOTS, found 'Lift'"):
        Implementation.parse("Lift")


def test_rotation_vector_is_the_one_nearby():
    # A turn past half a turn goes on, where the shortest vector would jump to the other side.
    axis = np.array([0.0, 0.6, 0.8])
    for angle in np.linspace(2.5, 5.5, 31):
        quaternion = Rotation.from_rotvec(angle * axis).as_quat()
        for sign in (1, -1):
            vector = rotation_vector(sign * quaternion, 4.0 * axis)
            np.testing.assert_allclose(vector, angle * axis, atol=1e-9)
    np.testing.assert_array_equal(rotation_vector([0, 0, 0, 1], axis), np.zeros(3))


def test_start_action_is_where_the_robot_is():
    task = get_task("can_sort")
    right = np.array([-0.3, -0.25, 1.1, *Rotation.from_rotvec([-1.0, 1.3, 1.2]).as_quat()])
    left = np.array([-0.3, 0.25, 1.1, *Rotation.from_rotvec([1.0, -1.3, 1.2]).as_quat()])
    action = task.start_action({"right": right, "left": left})
    np.testing.assert_allclose(action[:6], [-0.3, -0.25, 1.1, -1.0, 1.3, 1.2])
    np.testing.assert_allclose(action[6:12], [-0.3, 0.25, 1.1, 1.0, -1.3, 1.2])
    assert set(action[12:]) == {-1.0}  # open
    assert get_task("can").start_action({}).tolist() == [0.0] * 7


_DEXMIMICGEN = """
from resfit_rl.simulation.scenes.box_cleanup import BoxCleanup
from resfit_rl.simulation.scenes.can_sort import CanSort

class TwoArmBoxCleanup(BoxCleanup):
    pass

class TwoArmCanSortRandom(CanSort):
    pass
"""
_USE_IT = """
from resfit_rl.simulation import Simulation, SimulationError
from resfit_rl.tasks import get_task
task = get_task("box_cleanup")
assert task.implementation == "dexmimicgen-unknown/TwoArmBoxCleanup/PandaDexRH+PandaDexLH", task
simulation = Simulation(task, rendering=None)
assert type(simulation._env).__module__ == "dexmimicgen"
assert not simulation.reset(0).success
try:
    Simulation(get_task("can_sort"), rendering=None)
except SimulationError as error:
    print(error)
"""


def test_environments_of_dexmimicgen_are_used_where_it_is_installed(tmp_path):
    (tmp_path / "dexmimicgen.py").write_text(_DEXMIMICGEN)
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    run = subprocess.run(
        [sys.executable, "-c", _USE_IT],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    # The humanoid's controller is in robosuite's source alone, not in its wheel.
    assert "task can_sort: expected robosuite's controller WHOLE_BODY_MINK_IK" in run.stdout


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
