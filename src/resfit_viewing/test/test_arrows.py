"""Arrows say where the robot is asked to be, in the world frame."""

import numpy as np
import pytest
from visualization_msgs.msg import Marker

from resfit_rl.robots.vega import COMMANDED_JOINTS
from resfit_rl.simulation.vega.kinematics import Kinematics
from resfit_rl.simulation.vega.model import start_posture
from resfit_rl.tasks import get_task
from resfit_ros.conversions import ns_to_stamp
from resfit_viewing.arrows import COLORS, ActionArrows, safety_text, wrench_arrows
from resfit_viewing.marker_messages import arrow_marker, text_marker
from resfit_viewing.robot import shown_robot, vega_urdf

SCALE = 6.0


@pytest.fixture(scope="module")
def vega():
    return shown_robot(get_task("woolly_ball_pnp"), scene=False)


@pytest.fixture(scope="module")
def panda():
    return shown_robot(get_task("Lift"), scene=True)


def start():
    posture = start_posture()
    return posture, np.array([posture[joint] for joint in COMMANDED_JOINTS])


def by_kind(step):
    return {(arrow.kind, arrow.of): arrow for arrow in step.arrows}


def test_joint_positions_become_the_hands_way(vega):
    posture, joints = start()
    base, action = joints.copy(), joints.copy()
    base[3] += 0.1  # right elbow
    action[3] += 0.15
    arrows = ActionArrows(vega, SCALE)
    arrows.observe(5, posture)
    step = arrows.command(5, episode_id=1, step=0, base_action=base, action=action)
    assert step.stamp == 5
    found = by_kind(step)
    kinematics = Kinematics()
    here, _ = kinematics.hand("right", joints)
    asked, _ = kinematics.hand("right", base)
    whole, _ = kinematics.hand("right", action)
    arrow = found["base_action", "right"]
    np.testing.assert_allclose(arrow.start, here, atol=1e-6)
    np.testing.assert_allclose(arrow.end - arrow.start, SCALE * (asked - here), atol=1e-6)
    residual = found["residual", "right"]
    np.testing.assert_allclose(residual.start, arrow.end)
    np.testing.assert_allclose(residual.end - residual.start, SCALE * (whole - asked), atol=1e-6)
    # The left arm was asked for nothing.
    left = found["base_action", "left"]
    np.testing.assert_allclose(left.end, left.start, atol=1e-9)


def test_what_was_executed_starts_where_its_observation_was(vega):
    posture, joints = start()
    arrows = ActionArrows(vega, SCALE)
    arrows.observe(5, posture)
    arrows.command(5, 1, 0, joints, joints)
    arrows.observe(6, posture | {"R_arm_j1": posture["R_arm_j1"] + 0.3})
    moved = joints.copy()
    moved[0] += 0.1
    step = arrows.executed(1, 0, moved, held=False)
    here, _ = Kinematics().hand("right", joints)
    found = by_kind(step)["executed_action", "right"]
    assert step.stamp == 5
    np.testing.assert_allclose(found.start, here, atol=1e-6)
    assert found.color == COLORS["executed_action"]
    held = by_kind(arrows.executed(1, 0, joints, held=True))["executed_action", "right"]
    assert held.color == COLORS["held"]


def test_without_its_observation_an_action_has_no_place(vega):
    _, joints = start()
    arrows = ActionArrows(vega, SCALE)
    assert arrows.command(5, 1, 0, joints, joints) is None
    assert arrows.executed(1, 0, joints, held=False) is None
    assert arrows.executed(1, 7, joints, held=False) is None


def test_another_number_of_actions_is_refused(vega):
    posture, joints = start()
    arrows = ActionArrows(vega, SCALE)
    arrows.observe(5, posture)
    with pytest.raises(ValueError, match=r"action: expected \(29,\), found \(7,\)"):
        arrows.command(5, 1, 0, joints[:7], joints)


def test_a_delta_is_added_to_where_the_hand_is(panda):
    panda.move({"robot0_joint4": -2.0, "robot0_joint6": 2.0})
    here = panda.position("right")
    asked = panda.asked([1.0, 0.0, -0.5, 0, 0, 0, 0])["right"]
    # The base of robosuite's Panda is not turned in the world.
    np.testing.assert_allclose(asked - here, [0.05, 0.0, -0.025], atol=1e-9)


def test_a_wrench_turns_with_its_wrist(vega):
    posture, _ = start()
    wrench = [0.0, 0.0, 10.0, 1.0, 0.0, 0.0]
    found = []
    for turn in (0.0, np.pi / 2):
        vega.move(posture | {"R_arm_j7": turn})
        position, rotation = vega.wrist("right")
        force, torque = wrench_arrows(vega, "right", wrench, 0.005, 0.05)
        np.testing.assert_allclose(force.start, position)
        np.testing.assert_allclose(force.end - force.start, 0.05 * rotation[:, 2], atol=1e-9)
        np.testing.assert_allclose(torque.end - torque.start, 0.05 * rotation[:, 0], atol=1e-9)
        found.append(torque.end - torque.start)
    assert np.linalg.norm(found[0] - found[1]) > 0.02


def test_things_of_the_scene_stand_where_they_are_said_to_be():
    robot = shown_robot(get_task("woolly_ball_pnp"), scene=True)
    bodies = robot.bodies()
    assert {"bin", "ball"} <= robot.absent  # until a sensor has spoken of them
    for name, pose in {
        "bin": [0.5, 0.2, 0.9, 0, 0, 0, 1],  # moved by the reset only
        "ball": [0.4, -0.1, 1.1, 0, 0, np.sqrt(0.5), np.sqrt(0.5)],  # falls
    }.items():
        robot.move({}, {name: pose})
        position, quaternion = robot.pose(bodies[name])
        np.testing.assert_allclose([*position, *quaternion], pose, atol=1e-6)
        assert name not in robot.absent
    assert "bin" in robot.absent  # the last word was of the ball alone


def test_all_of_the_robot_is_seen_and_its_frames_are_named(vega):
    frames = vega.frames()
    assert {"base", "R_hand_base", "right_force_torque", "head_left_optical_frame"} <= set(frames)
    assert all(np.isclose(np.linalg.norm(pose[3:]), 1.0) for pose in frames.values())
    shown = {shape.body for shape in vega.shapes()}
    assert {"base", "head_l3", "R_arm_l4", "L_ff_l2"} <= shown <= set(frames)


def test_the_description_names_meshes_that_are_there():
    import xml.etree.ElementTree as ElementTree
    from pathlib import Path
    from urllib.parse import unquote, urlparse

    robot = ElementTree.fromstring(vega_urdf())
    addresses = [mesh.get("filename") for mesh in robot.iter("mesh")]
    assert len(addresses) > 40
    for address in addresses:
        assert urlparse(address).scheme == "file"
        assert Path(unquote(urlparse(address).path)).is_file()
    links = {link.get("name") for link in robot.findall("link")}
    # Viewers ask for a transform of each link.
    assert links == set(shown_robot(get_task("woolly_ball_pnp"), scene=False).links)


def test_the_safety_state_in_words():
    text, color = safety_text(True, "", ["right"], [3.25], [50.0])
    assert (text, color) == ("motion allowed\nright: 3.2 of 50 N", COLORS["allowed"])
    text, color = safety_text(False, "wrist right: 61 N", ["right"], [61.0], [50.0])
    assert text.startswith("STOP: wrist right: 61 N\n")
    assert color == COLORS["stopped"]


def test_markers_of_arrows_and_text(vega):
    posture, _ = start()
    vega.move(posture)
    force, torque = wrench_arrows(vega, "right", [0, 0, 10, 0, 0, 0], 0.005, 0.05)
    marker = arrow_marker(force, ns_to_stamp(7), "world", number=1)
    assert (marker.type, marker.action) == (Marker.ARROW, Marker.ADD)
    assert (marker.ns, marker.id, marker.header.frame_id) == ("force", 1, "world")
    first, second = marker.points
    np.testing.assert_allclose([first.x, first.y, first.z], force.start)
    np.testing.assert_allclose([second.x, second.y, second.z], force.end)
    # No torque: rviz would complain of an arrow without a direction.
    assert arrow_marker(torque, ns_to_stamp(7), "world", 1).action == Marker.DELETE
    text = text_marker("STOP", COLORS["stopped"], (0, 0, 2), ns_to_stamp(7), "world", "safety")
    assert (text.type, text.text) == (Marker.TEXT_VIEW_FACING, "STOP")
    assert text.scale.z > 0
