"""Vega with two F5D6 hands as a MuJoCo model, made of Dexmate's URDF and SRDF.

Shapes are the URDF's collision meshes, seen and touched alike: the finer ones are .glb files, which
MuJoCo does not read. They collide as convex hulls of few corners.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import mujoco
import numpy as np

from resfit_rl.robots.mesh_file import read_objects
from resfit_rl.robots.vega import (
    ARM_JOINTS,
    COMMANDED_JOINTS,
    HAND_JOINTS,
    HEAD_JOINTS,
    TORSO_JOINTS,
    VegaDescription,
    is_hand_link,
    urdf_without_base_sensors,
    vega_description,
)
from resfit_rl.simulation.parts import ModelParts

SIDES = {"right": "R", "left": "L"}
CAMERAS = {"head_left": "zed_left_camera", "head_right": "zed_right_camera"}
"""Camera -> its link in the URDF: 0.050 m apart, the baseline of a ZED X Mini."""
CAMERA_FOVY = 80.0
"""Vertical field of view of a ZED X Mini (2.2 mm lens), degrees; 1920x1200 is its native size."""
CONTROL_PERIOD = 0.05  # s
TIMESTEP = 0.0025  # s

TORSO_POSTURE = (0.5, 1.8, 1.3)
"""rad, of TORSO_JOINTS: upright, the chest over the front of the base."""
_BASE_HEIGHT = 0.055  # m, so that the wheels stand on the floor

_START = {
    # The upper arms hang, the forearms reach forward; symmetric.
    "arm_j1": 1.35,
    "arm_j2": 0.25,
    "arm_j3": 0.0,
    "arm_j4": -1.75,
    "arm_j5": 0.0,
    "arm_j6": 0.3,
    "arm_j7": 0.0,
}
_HEAD_START = (1.0, 0.0, 0.25)  # looks down at the table

# Gains of the position servos: N m/rad; damping is critical for this much inertia, kg m2.
_STIFFNESS = {"arm_j1": 3000.0, "arm_j2": 3000.0, "arm_j3": 1500.0, "arm_j4": 1500.0}
_WRIST_STIFFNESS, _HEAD_STIFFNESS, _FINGER_STIFFNESS = 600.0, 120.0, 3.0
_ARMATURE = {"arm": 0.1, "head": 0.02, "finger": 0.0005}  # kg m2, of the motors behind their gears
_HULL_CORNERS = 40
_DARK, _LIGHT = (0.16, 0.17, 0.19, 1.0), (0.78, 0.79, 0.8, 1.0)


def vega_spec() -> mujoco.MjSpec:
    """The robot on the floor, facing +x, with servos, sensors and cameras; no scene.

    Actuators are in the order of COMMANDED_JOINTS. Sites 'right' and 'left' are the hands' mounts,
    where sensors 'right_force', 'right_torque' and so on measure.

    Raises:
        RobotDescriptionError: dexmate-urdf is not installed or not as expected.
    """
    description = vega_description()
    spec = mujoco.MjSpec.from_string(_readable_urdf(description))
    spec.modelname = "vega"
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0  # what is held does not creep out of the hand
    _split_meshes(spec, description)
    for mesh in spec.meshes:
        mesh.maxhullvert = _HULL_CORNERS
    spec.body("base").pos = (0.0, 0.0, _BASE_HEIGHT)
    _fix_torso_and_wheels(spec)
    _dress(spec)
    _add_servos(spec, description)
    for name, mimic in description.mimics.items():
        spec.add_equality(
            name=f"mimic_{name}",
            type=mujoco.mjtEq.mjEQ_JOINT,
            objtype=mujoco.mjtObj.mjOBJ_JOINT,
            name1=name,
            name2=mimic.joint,
            data=[mimic.offset, mimic.multiplier, *[0.0] * 9],
            solref=[2 * TIMESTEP, 1.0],
            solimp=[0.95, 0.99, 0.001, 0.5, 2.0],
        )
    for camera, link in CAMERAS.items():
        # The link's frame looks along +z with y down, MuJoCo's cameras along -z with y up.
        spec.body(link).add_camera(name=camera, quat=(0.0, 1.0, 0.0, 0.0), fovy=CAMERA_FOVY)
    for name, side in SIDES.items():
        spec.body(f"{side}_hand_base").add_site(name=name, group=4)
        for what, kind in (
            ("force", mujoco.mjtSensor.mjSENS_FORCE),
            ("torque", mujoco.mjtSensor.mjSENS_TORQUE),
        ):
            spec.add_sensor(
                name=f"{name}_{what}",
                type=kind,
                objtype=mujoco.mjtObj.mjOBJ_SITE,
                objname=name,
            )
    shaped = {body.name for body in spec.bodies if body.geoms}
    for pair in sorted(sorted(pair) for pair in description.allowed_pairs):
        if shaped.issuperset(pair):
            spec.add_exclude(bodyname1=pair[0], bodyname2=pair[1])
    return spec


def vega_parts() -> ModelParts:
    """Vega alone, on no floor, as the real robot stands for itself.

    Raises:
        RobotDescriptionError: dexmate-urdf is not installed or not as expected.
    """
    model = vega_spec().compile()
    sites = {side: model.site(side).id for side in SIDES}
    return ModelParts(model, frozenset(range(1, model.nbody)), sites, sites)


def start_posture() -> dict[str, float]:
    """Commanded joint -> rad; hands open."""
    posture = dict.fromkeys(COMMANDED_JOINTS, 0.0)
    for side in "RL":
        for joint, angle in _START.items():
            # The arms are mirror images, but for the signs of these.
            mirrored = side == "R" and joint in ("arm_j1", "arm_j2", "arm_j6")
            posture[f"{side}_{joint}"] = -angle if mirrored else angle
        for joint in HAND_JOINTS[side][2:]:
            posture[joint] = 0.2
        posture[f"{side}_th_j1"] = 0.15
    posture.update(zip(HEAD_JOINTS, _HEAD_START, strict=True))
    return posture


def _readable_urdf(description: VegaDescription) -> str:
    """Without visual meshes and without the base's small sensors; links stay apart."""
    robot = urdf_without_base_sensors(description)
    for link in robot.findall("link"):
        for visual in link.findall("visual"):
            link.remove(visual)
    options = ElementTree.SubElement(robot, "mujoco")
    ElementTree.SubElement(
        options,
        "compiler",
        meshdir=str(description.urdf.parent),
        strippath="false",
        balanceinertia="true",
        discardvisual="false",
        fusestatic="false",
    )
    return ElementTree.tostring(robot, encoding="unicode")


def _fix_torso_and_wheels(spec: mujoco.MjSpec) -> None:
    posture = dict(zip(TORSO_JOINTS, TORSO_POSTURE, strict=True))
    for joint in list(spec.joints):
        if joint.name in posture:
            quaternion = np.empty(4)
            mujoco.mju_axisAngle2Quat(quaternion, np.array(joint.axis), posture[joint.name])
            joint.parent.quat = quaternion  # the URDF turns none of these links' frames
        elif "wheel" not in joint.name:
            continue
        spec.delete(joint)


def _split_meshes(spec: mujoco.MjSpec, description: VegaDescription) -> None:
    """One mesh for each object of a file: MuJoCo reads the faces of the first object only."""
    parts: dict[str, list[str]] = {}
    for mesh in list(spec.meshes):
        vertices, objects = read_objects(description.urdf.parent / mesh.file)
        if len(objects) == 1:
            continue
        parts[mesh.name] = []
        for faces in objects:
            used, corners = np.unique(faces, return_inverse=True)
            part = spec.add_mesh(name=f"{mesh.name}_{len(parts[mesh.name])}")
            part.uservert = vertices[used].reshape(-1)
            part.userface = corners.reshape(-1)
            part.inertia = mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX
            parts[mesh.name].append(part.name)
    for geom in list(spec.geoms):
        for name in parts.get(geom.meshname, ()):
            geom.parent.add_geom(
                type=mujoco.mjtGeom.mjGEOM_MESH, meshname=name, pos=geom.pos, quat=geom.quat
            )
        if geom.meshname in parts:
            spec.delete(geom)
    for mesh in list(spec.meshes):
        if mesh.name in parts:
            spec.delete(mesh)


def _dress(spec: mujoco.MjSpec) -> None:
    """Groups, colours and friction of the shapes; motors carry the arms' and the head's weight."""
    for body in spec.bodies:
        name = body.name
        hand = is_hand_link(name)
        moves = hand or "_arm_" in name or name.startswith("head")
        body.gravcomp = 1.0 if moves else 0.0
        for geom in body.geoms:
            # The cameras look out of the head, through its shell.
            geom.group = 2 if name == "head_l3" else 1
            geom.rgba = _DARK if hand or name in ("torso_l2", "head_l3") else _LIGHT
            geom.friction = (1.2, 0.02, 0.001) if hand else (0.8, 0.005, 0.0001)
            geom.condim = 4 if hand else 3


def _add_servos(spec: mujoco.MjSpec, description: VegaDescription) -> None:
    effort = dict(zip(COMMANDED_JOINTS, description.effort, strict=True))
    for joint in spec.joints:
        kind = joint.name.split("_")
        part = "arm" if "arm" in kind else "head" if kind[0] == "head" else "finger"
        joint.armature = _ARMATURE[part]
        joint.damping = 0.01 if part == "finger" else 0.5
        joint.actgravcomp = 0 if part == "finger" else 1
    for name in COMMANDED_JOINTS:
        short = name[2:]
        arm = name in ARM_JOINTS["R"] or name in ARM_JOINTS["L"]
        if arm:
            stiffness, inertia = _STIFFNESS.get(short, _WRIST_STIFFNESS), 0.1
        elif name in HEAD_JOINTS:
            stiffness, inertia = _HEAD_STIFFNESS, 0.03
        else:
            stiffness, inertia = _FINGER_STIFFNESS, 0.001
        if short in _STIFFNESS:
            inertia = 0.5
        actuator = spec.add_actuator(
            name=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, target=name, forcelimited=True
        )
        actuator.forcerange = (-effort[name], effort[name])
        actuator.set_to_position(kp=stiffness, kv=2 * float(np.sqrt(stiffness * inertia)))
