"""The simulated robot, on robosuite itself."""

import dataclasses
import hashlib
import subprocess
import sys

import mujoco
import numpy as np
import pytest

from resfit_rl.simulation import RenderOptions, Simulation, SimulationError
from resfit_rl.simulation.rendering import Cameras
from resfit_rl.tasks import get_task


@pytest.fixture(scope="module")
def square():
    simulation = Simulation(get_task("square"))
    yield simulation
    simulation.close()


def _bytes(frame):
    arrays = [
        frame.joint_position,
        frame.joint_velocity,
        *frame.end_effectors.values(),
        *frame.wrenches.values(),
        *frame.privileged.values(),
        *frame.images.values(),
    ]
    return b"".join(array.tobytes() for array in arrays)


def test_same_seed_same_start_and_same_motion_whatever_ran_before(square):
    action = np.array([0.3, -0.2, -0.5, 0.1, 0.0, 0.4, 1.0])
    start = _bytes(square.reset(7))
    moved = _bytes([square.step(action) for _ in range(5)][-1])
    other = square.reset(8)
    assert _bytes(other) != start
    for _ in range(20):
        square.step(-action)
    assert _bytes(square.reset(7)) == start
    assert _bytes([square.step(action) for _ in range(5)][-1]) == moved


def test_same_seed_same_start_in_a_fresh_process(square):
    code = (
        "import hashlib; from resfit_rl.simulation import Simulation;"
        "from resfit_rl.tasks import get_task;"
        "f = Simulation(get_task('square'), rendering=None).reset(7);"
        "d = f.joint_position.tobytes() + f.privileged['SquareNut'].tobytes();"
        "print(hashlib.sha256(d).hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    frame = square.reset(7)
    data = frame.joint_position.tobytes() + frame.privileged["SquareNut"].tobytes()
    assert run.stdout.strip() == hashlib.sha256(data).hexdigest()
    assert "robosuite" not in run.stderr  # it is kept quiet


def test_pictures_are_upright_and_of_their_cameras(square):
    images = square.reset(3).images
    assert list(images) == ["agentview", "robot0_eye_in_hand"]
    assert {(image.shape, image.dtype.name) for image in images.values()} == {
        ((84, 84, 3), "uint8")
    }
    agentview, wrist = images.values()
    # From the front: grey wall above, white table below. From the wrist: white table above, the
    # dark hand below.
    assert agentview[:8].mean() < 170 < 200 < agentview[30:50].mean()
    assert wrist[30:50].mean() > 200 > 150 > wrist[-8:].mean()


def test_leaving_out_what_is_out_of_view_leaves_the_picture(square):
    cameras = square._cameras
    for seed in (0, 1):
        for _ in square.reset(seed), square.step(np.full(7, 0.8)):
            assert any(
                cameras._out_of_view(square._data, camera).any()
                for camera in cameras._cameras.values()
            )
            culled = cameras.render(square._data)
            cameras._cull = False
            whole = cameras.render(square._data)
            cameras._cull = True
            for name, image in whole.items():
                np.testing.assert_array_equal(culled[name], image)


def test_coarse_meshes_look_the_same_and_leave_physics_alone(square):
    square.reset(3)
    fine = Cameras(square._model, square.task.cameras, (84, 84), RenderOptions(coarseness=0))
    coarse = Cameras(square._model, square.task.cameras, (84, 84), RenderOptions(coarseness=0.4))
    assert coarse._model.mesh_facenum.sum() < 0.7 * fine._model.mesh_facenum.sum()
    exact = fine.render(square._data)
    for name, image in coarse.render(square._data).items():
        difference = np.abs(image.astype(int) - exact[name])
        assert 0 < difference.mean() < 2
        assert (difference.max(axis=2) > 50).mean() < 0.02  # silhouettes a pixel off
    np.testing.assert_array_equal(fine._model.mesh_facenum, square._model.mesh_facenum)
    np.testing.assert_array_equal(fine._model.mesh_face, square._model.mesh_face)
    fine.close()
    coarse.close()


@pytest.mark.parametrize("name", ["square", "coffee"])
def test_start_action_holds_the_robot(name):
    simulation = Simulation(get_task(name), rendering=None)
    assert np.isfinite(simulation.start_action).all()  # before the first reset, too
    before = simulation.reset(5)
    for _ in range(20):
        after = simulation.step(simulation.start_action)
    for end, pose in before.end_effectors.items():
        np.testing.assert_allclose(after.end_effectors[end], pose, atol=3e-3)
    simulation.close()


def test_observation_has_the_layout_of_the_task(square):
    frame = square.reset(3)
    observation = frame.observation(square.task)
    np.testing.assert_allclose(observation.state[:3], frame.end_effectors["right"][:3], rtol=1e-6)
    assert observation.state[3] > 0.6 and observation.state[4] > 0.6  # the tool points down
    finger = frame.joint_names.index("gripper0_right_finger_joint1")
    assert observation.state[7] == np.float32(frame.joint_position[finger])
    assert sorted(observation.privileged) == ["SquareNut", "peg1", "peg2"]  # no RoundNut: put away
    assert not frame.success


def test_joint_limits_are_the_pandas(square):
    assert square.joint_limits["robot0_joint1"] == pytest.approx((-2.8973, 2.8973))
    assert square.joint_limits["gripper0_right_finger_joint1"] == pytest.approx((0, 0.04))


def test_joints_poses_and_sensors_are_of_one_instant(square):
    square.reset(3)
    frame = square.step(np.array([1.0, 0, 0, 0, 0, 0, -1]))
    mujoco.mj_kinematics(square._model, square._data)
    site = square._robots[0].eef_site_id["right"]
    np.testing.assert_array_equal(frame.end_effectors["right"][:3], square._data.site_xpos[site])


def test_wrist_wrench_is_the_hands_weight_until_the_table_is_touched(square):
    first = square.reset(3).wrenches["right"]
    assert 4 < np.linalg.norm(first[:3]) < 6
    down = np.array([0, 0, -0.6, 0, 0, 0, 1.0])
    peak = max(np.linalg.norm((square.step(down).wrenches["right"] - first)[:3]) for _ in range(60))
    assert peak > 15


def test_fingers_that_close_on_each_other_are_no_self_collision(square):
    square.reset(3)
    for _ in range(25):
        frame = square.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    finger = frame.joint_names.index("gripper0_right_finger_joint1")
    assert frame.joint_position[finger] < 0.002  # closed on nothing
    assert frame.self_collisions == ()


def test_an_arm_folded_into_itself_is_a_self_collision(square):
    square.reset(3)
    square._data.qpos[square._positions[:7]] = [0, 1.7, 0, -3.07, 0, 0.0, 0]
    collisions = square._frame().self_collisions
    assert collisions and all("robot0" in name or "gripper0" in name for name in collisions)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (np.zeros(6), r"expected shape \(7,\), found \(6,\)"),
        (np.array([0, 0, np.nan, 0, 0, 0, 0]), "expected finite values.*nan"),
        (np.array([0, 0, 0, 0, 0, 0, np.inf]), "expected finite values.*inf"),
    ],
)
def test_bad_action_is_refused_and_nothing_moves(square, action, expected):
    square.reset(3)
    before = square._data.time
    with pytest.raises(SimulationError, match=expected):
        square.step(action)
    assert square._data.time == before


def test_what_cannot_be_made_is_refused():
    task = get_task("square")
    with pytest.raises(SimulationError, match=r"expected one of .*agentview.*found 'ceiling'"):
        Simulation(task, cameras=("ceiling",))
    with pytest.raises(SimulationError, match="image size"):
        Simulation(task, image_size=(0, 84))
    other = dataclasses.replace(task, implementation="robosuite-1.4.0/NutAssemblySquare/Panda")
    with pytest.raises(SimulationError, match=r"found robosuite-1.4.0"):
        Simulation(other)
    with pytest.raises(ValueError, match="multisampling"):
        RenderOptions(multisampling=-1)


def test_two_arms_and_another_image_size():
    task = get_task("TwoArmLift")
    simulation = Simulation(task, image_size=(32, 48), cameras=("robot1_eye_in_hand",))
    frame = simulation.reset(0)
    assert {camera: image.shape for camera, image in frame.images.items()} == {
        "robot1_eye_in_hand": (32, 48, 3)
    }
    assert frame.observation(task).state.shape == (task.state_dim,)
    assert sorted(frame.wrenches) == sorted(frame.end_effectors) == list(task.wrists)
    simulation.close()
