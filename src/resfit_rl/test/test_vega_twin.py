"""Vega's twin: its interface, its scenes' judgement, and the experts."""

import mujoco
import numpy as np
import pytest

from resfit_rl.base_policies import BasePolicyError
from resfit_rl.base_policies.scripted import ScriptedExpert
from resfit_rl.control import ChunkSchedule
from resfit_rl.evaluation import rollout
from resfit_rl.robots.vega import ARM_JOINTS, COMMANDED_JOINTS, vega_description
from resfit_rl.simulation import RenderOptions, Simulation, SimulationError, make_simulation
from resfit_rl.simulation.vega import VegaTwin
from resfit_rl.simulation.vega.kinematics import Kinematics
from resfit_rl.simulation.vega.scene import put
from resfit_rl.tasks import get_task

BALL, PACKAGE = get_task("woolly_ball_pnp"), get_task("package_handover")


@pytest.fixture(scope="module")
def ball():
    return VegaTwin(BALL, rendering=None)


@pytest.fixture(scope="module")
def package():
    return VegaTwin(PACKAGE, rendering=None)


def hold(twin, steps):
    for _ in range(steps):
        frame = twin.step(twin.start_action)
    return frame


def settled(twin, seed, **places):
    """The last frame after things were put somewhere, all others as `seed` has them."""
    twin.reset(seed)
    for name, place in places.items():
        put(twin._data, name, *place)
    return hold(twin, 20)


def test_29_servos_within_the_limits_of_the_description(ball):
    model, robot = ball._model, vega_description()
    assert tuple(model.actuator(i).name for i in range(model.nu)) == COMMANDED_JOINTS
    assert BALL.action_dim == BALL.state_dim == model.nu == 29
    np.testing.assert_array_equal(model.actuator_forcerange[:, 1], robot.effort)
    np.testing.assert_array_equal(BALL.action_lower, robot.position_lower)
    np.testing.assert_array_equal(BALL.action_upper, robot.position_upper)
    for name, low, high in zip(COMMANDED_JOINTS, BALL.action_lower, BALL.action_upper, strict=True):
        assert ball.joint_limits[name] == pytest.approx((low, high))
    ball.reset(0)
    frame = ball.step(np.full(29, 1e3))  # clipped, not followed
    assert np.isfinite(frame.joint_position).all()
    np.testing.assert_allclose(ball._data.ctrl, BALL.action_upper)


def test_same_seed_same_start_whatever_ran_before(package):
    first = package.reset(5)
    hold(package, 3)
    assert (package.reset(6).joint_position != first.joint_position).any()
    again = package.reset(5)
    np.testing.assert_array_equal(first.joint_position, again.joint_position)
    for name, pose in first.privileged.items():
        np.testing.assert_array_equal(pose, again.privileged[name])
    for wrist, wrench in first.wrenches.items():
        np.testing.assert_array_equal(wrench, again.wrenches[wrist])


@pytest.mark.parametrize("scene", ["ball", "package"])
def test_start_action_holds_the_robot(scene, request):
    twin = request.getfixturevalue(scene)
    before = twin.reset(3)
    assert (twin.start_action >= twin.task.action_lower).all()
    assert (twin.start_action <= twin.task.action_upper).all()
    after = hold(twin, 40)
    assert np.abs(after.joint_position - before.joint_position).max() < 0.01
    assert np.abs(after.joint_velocity).max() < 0.01
    for name, pose in before.privileged.items():
        assert np.linalg.norm(after.privileged[name][:3] - pose[:3]) < 0.002, name
    assert after.self_collisions == () and not after.success
    for wrench in after.wrenches.values():
        # The weight of the hand: between 0.3 and 3 N.
        assert np.isfinite(wrench).all() and 0.3 < np.linalg.norm(wrench[:3]) < 3
    assert after.observation(twin.task).state.shape == (29,)


def test_targets_are_reached_and_mimicking_joints_follow(ball):
    ball.reset(0)
    target = ball.start_action.copy()
    for name, change in (("R_arm_j4", 0.3), ("head_j2", 0.4), ("R_ff_j1", -0.9), ("L_th_j1", -0.3)):
        target[COMMANDED_JOINTS.index(name)] += change
    for part in np.linspace(0, 1, 15):
        ball.step(ball.start_action + part * (target - ball.start_action))
    for _ in range(10):
        frame = ball.step(target)
    position = dict(zip(frame.joint_names, frame.joint_position, strict=True))
    np.testing.assert_allclose([position[name] for name in COMMANDED_JOINTS], target, atol=0.02)
    mimics = vega_description().mimics
    assert len(mimics) == 10
    for name, mimic in mimics.items():
        wanted = mimic.multiplier * position[mimic.joint] + mimic.offset
        assert position[name] == pytest.approx(wanted, abs=0.02), name


def test_force_sensor_feels_a_push_on_the_hand(ball):
    before = ball.reset(0)
    hand = ball._model.body("R_hand_base").id
    ball._data.xfrc_applied[hand, 2] = -5.0
    after = hold(ball, 10)
    ball._data.xfrc_applied[hand] = 0.0
    force = np.linalg.norm(after.wrenches["right"][:3] - before.wrenches["right"][:3])
    assert force == pytest.approx(5.0, abs=0.2)
    np.testing.assert_allclose(after.wrenches["left"], before.wrenches["left"], atol=0.05)


def test_a_folded_arm_is_a_self_collision_by_links(ball):
    ball.reset(0)
    data = ball._data
    for name, angle in zip(ARM_JOINTS["R"], (-1.35, 0.45, -1.0, -1.75, 0.0, 0.0, 0.0), strict=True):
        data.joint(name).qpos = angle
    mujoco.mj_forward(ball._model, data)
    assert ball._frame().self_collisions == ("R_arm_l3-torso_l3", "R_arm_l4-torso_l3")


def test_a_ball_that_lies_in_the_bin_is_a_success(ball):
    bin_ = ball.reset(1).privileged["bin"][:3]
    assert settled(ball, 1, ball=[np.add(bin_, (0.02, 0.03, 0.06))]).success
    assert not settled(ball, 1, ball=[np.add(bin_, (0.0, 0.2, 0.06))]).success  # beside it
    ball.reset(1)
    put(ball._data, "ball", np.add(bin_, (0, 0, 0.3)))
    assert not ball.step(ball.start_action).success  # falls
    ball._scene.robot = frozenset({ball._model.body("bin").id})
    assert not hold(ball, 20).success  # lies in it, but is touched
    ball._scene.robot = frozenset(ball._robot)
    assert hold(ball, 1).success


def test_a_package_that_lies_in_the_bin_is_a_success(package):
    bin_ = package.reset(1).privileged["bin"][:3]
    assert settled(package, 1, package=[np.add(bin_, (0, 0, 0.05))]).success
    # Across the bin its ends are outside.
    assert not settled(package, 1, package=[np.add(bin_, (0, 0, 0.1)), np.pi / 2]).success


def test_the_package_is_soft(package):
    # Across the bin's rim its ends hang down, and it comes to rest.
    rim = np.add(package.reset(0).privileged["bin"][:3], (0.0, 0.164, 0.1))
    frame = settled(package, 0, package=[rim])
    heights = {n: frame.privileged[n][2] for n in ("package", "package_left", "package_right")}
    assert min(heights["package_left"], heights["package_right"]) < heights["package"] - 0.005
    assert np.abs(package._data.qvel).max() < 1.0


def test_hands_are_brought_to_a_pose_within_the_limits(ball):
    kinematics = Kinematics()
    joints = ball.reset(0).observation(BALL).state.astype(np.float64)
    for side in ("right", "left"):
        position, rotation = kinematics.hand(side, joints)
        measured = ball.reset(0).end_effectors[side]
        np.testing.assert_allclose(position, measured[:3], atol=1e-3)
        goal = np.add(position, (0.06, 0.03, -0.08))
        moved = joints
        for _ in range(40):
            before, moved = moved, kinematics.reach(side, moved, goal, rotation, 0.03)
            assert np.abs(moved - before).max() < 0.03 + 1e-9
        reached, turned = kinematics.hand(side, moved)
        assert np.linalg.norm(reached - goal) < 2e-3
        assert (rotation * turned.inv()).magnitude() < 0.01
        assert (moved >= BALL.action_lower).all() and (moved <= BALL.action_upper).all()


@pytest.mark.parametrize("scene", ["ball", "package"])
def test_expert_succeeds_gently(scene, request):
    twin = request.getfixturevalue(scene)
    episode = rollout(twin, ScriptedExpert(twin.task.name), ChunkSchedule(1), seed=2)
    assert episode.success
    assert not any(frame.self_collisions for frame in episode.frames)
    assert max(force for force, _ in episode.wrench_peaks().values()) < 30
    change = np.abs(np.diff(episode.actions, axis=0)) / twin.task.action_change
    assert change.max() < 0.5
    assert np.abs(episode.actions[0] - twin.start_action).max() < 0.2


def test_expert_needs_the_objects(ball):
    observation = ball.reset(0).observation(BALL)
    observation.privileged.pop("ball")
    with pytest.raises(BasePolicyError, match=r"privileged pose of ball"):
        ScriptedExpert("woolly_ball_pnp").predict_chunk(observation)


def test_pictures_are_upright_and_from_two_eyes():
    twin = make_simulation(PACKAGE, image_size=(84, 84))
    images = twin.reset(0).images
    assert list(images) == ["head_left", "head_right"]
    left, right = (image.astype(int) for image in images.values())
    assert left.shape == (84, 84, 3)
    # The grey wall above, the wooden table below it.
    wall, table = left[:6].mean((0, 1)), left[45:55, 30:54].mean((0, 1))
    assert np.ptp(wall) < 25 and table[0] > table[2] + 40
    # The bin is green, on the left; nearer things stand further right in the left eye's picture.
    places = []
    for image in (left, right):
        green = image[..., 1] > image[..., [0, 2]].max(axis=2) + 15
        assert 100 < green.sum() < 2500
        places.append(green.nonzero()[1].max())
    assert 84 / 2 > places[0] > places[1] > 5
    assert twin.field_of_view("head_left") == 80.0
    twin.close()


def test_the_simulator_is_chosen_by_the_implementation():
    assert isinstance(make_simulation(get_task("can"), rendering=None), Simulation)
    with pytest.raises(SimulationError, match=r"expected one of .*head_right.*found 'ceiling'"):
        make_simulation(BALL, cameras=("ceiling",), rendering=RenderOptions())
    with pytest.raises(SimulationError, match="image size"):
        make_simulation(BALL, image_size=(0, 84))


@pytest.mark.parametrize("action", [np.zeros(28), np.full(29, np.nan)])
def test_action_that_cannot_be_is_refused(ball, action):
    ball.reset(0)
    before = ball._data.qpos.copy()
    with pytest.raises(SimulationError, match="action: expected"):
        ball.step(action)
    np.testing.assert_array_equal(ball._data.qpos, before)
