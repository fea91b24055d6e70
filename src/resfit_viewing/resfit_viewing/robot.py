"""Where the robot is and what it is asked for, from joint positions and actions; no ROS here."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from resfit_rl.robots.vega import urdf_without_base_sensors, vega_description
from resfit_rl.simulation import make_simulation
from resfit_rl.simulation.parts import ModelParts
from resfit_rl.simulation.rendering import merge_small_triangles
from resfit_rl.simulation.vega.model import vega_parts
from resfit_rl.tasks import Task

Array = NDArray[np.float64]

# m that an action of 1 moves a Panda's hand in robosuite's OSC_POSE, whose actions are deltas.
_DELTA = 0.05
# Groups of geoms: 0 are robosuite's shapes for collisions, 2 its marks, but Vega's head is there.
_VISUAL, _OF_ROBOT = 1, 2
_GRAIN = 0.002  # m; finer detail of meshes is not shown
_PRIMITIVES = {
    mujoco.mjtGeom.mjGEOM_BOX: "box",
    mujoco.mjtGeom.mjGEOM_SPHERE: "ellipsoid",
    mujoco.mjtGeom.mjGEOM_ELLIPSOID: "ellipsoid",
    mujoco.mjtGeom.mjGEOM_CYLINDER: "cylinder",
    mujoco.mjtGeom.mjGEOM_CAPSULE: "capsule",
}


@dataclass(frozen=True, eq=False)
class Shape:
    """What is seen of a body, in its frame.

    Attributes:
        body: name.
        kind: 'mesh', 'box', 'ellipsoid', 'cylinder' or 'capsule' (along z).
        position, quaternion: (3,) m and (4,) x, y, z, w.
        size: (3,) m: half lengths of a box, radii of an ellipsoid, radius and half length else.
        color: (4,) 0 to 1, red, green, blue, alpha.
        vertices, triangles: (V, 3) m and (T, 3) of a mesh.
    """

    body: str
    kind: str
    position: Array
    quaternion: Array
    size: Array
    color: Array
    vertices: Array | None = None
    triangles: NDArray[np.int32] | None = None


class ShownRobot:
    """A robot, and what stands around it where that is known, in any pose.

    Args:
        task: says what its actions mean.
        parts: the model; what it holds of a scene is shown too.

    Attributes:
        absent: bodies of things that no sensor has spoken of: the task has put them elsewhere.
    """

    def __init__(self, task: Task, parts: ModelParts) -> None:
        self.task = task
        self._parts = parts
        self._model = parts.model
        self._data = mujoco.MjData(self._model)
        self._asked = mujoco.MjData(self._model)
        self._joints = {self._model.joint(i).name: i for i in range(self._model.njnt)}
        self._deltas = dict(zip(parts.end_effectors, _first_deltas(task), strict=False))
        self.absent = frozenset[str]()
        self._be_absent(parts.objects)
        geoms = range(self._model.ngeom)
        self._shown = [geom for geom in geoms if self._is_shown(geom)]
        self._update()

    @property
    def end_effectors(self) -> tuple[str, ...]:
        return tuple(self._parts.end_effectors)

    @property
    def links(self) -> dict[str, int]:
        """Name -> body of the robot."""
        return {self._model.body(i).name: i for i in sorted(self._parts.robot)}

    def move(self, joints: Mapping[str, float], objects: Mapping[str, ArrayLike] = {}) -> None:
        """Bring the robot, and things around it, where sensors say they are.

        Args:
            joints: name -> rad or m; names that the model lacks are passed over.
            objects: name -> (7,) position, m, and quaternion x, y, z, w, world frame.
        """
        self._set(self._data, joints)
        for name, pose in objects.items():
            if name in self._parts.objects:
                self._place(self._parts.objects[name], np.asarray(pose, np.float64))
        if objects:
            self._be_absent(self._parts.objects.keys() - objects.keys())
        self._update()

    def pose(self, body: int) -> tuple[Array, Array]:
        """Position (3,), m, and quaternion (4,), x, y, z, w, in the world frame."""
        return self._data.xpos[body].copy(), np.roll(self._data.xquat[body], -1)

    def bodies(self) -> dict[str, int]:
        """Name -> index of every body that something is seen of."""
        shown = np.unique(self._model.geom_bodyid[self._shown])
        return {self._model.body(i).name: int(i) for i in shown}

    def position(self, end_effector: str) -> Array:
        """(3,) m, world frame."""
        return self._data.site_xpos[self._parts.end_effectors[end_effector]].copy()

    def wrist(self, name: str) -> tuple[Array, Array]:
        """Position (3,), m, and rotation (3, 3) of the frame that a wrist's sensor measures in."""
        site = self._parts.wrists[name]
        return self._data.site_xpos[site].copy(), self._data.site_xmat[site].reshape(3, 3).copy()

    def camera(self, name: str) -> tuple[Array, Array]:
        """Position (3,), m, and rotation (3, 3) of a camera's optical frame (REP 103)."""
        camera = self._model.camera(name).id
        # MuJoCo's cameras look along -z with y up; an optical frame along +z with y down.
        rotation = self._data.cam_xmat[camera].reshape(3, 3) @ np.diag([1.0, -1.0, -1.0])
        return self._data.cam_xpos[camera].copy(), rotation

    def frames(self) -> dict[str, Array]:
        """Name of every frame of the robot's that messages name -> (7,) pose, world frame.

        Those are its links, `<wrist>_force_torque` and `<camera>_optical_frame`, as the driver
        names them unless told otherwise.
        """
        frames = {name: _pose(*self.pose(body)) for name, body in self.links.items()}
        for wrist in self._parts.wrists:
            position, rotation = self.wrist(wrist)
            frames[f"{wrist}_force_torque"] = _pose(position, _quaternion(rotation))
        for camera in self.task.cameras:
            position, rotation = self.camera(camera)
            frames[f"{camera}_optical_frame"] = _pose(position, _quaternion(rotation))
        return frames

    @property
    def middle(self) -> tuple[float, float]:
        """m, x and y amid the robot's links."""
        x, y, _ = self._data.xpos[sorted(self._parts.robot)].mean(axis=0)
        return float(x), float(y)

    @property
    def height(self) -> float:
        """m, of the highest link's origin."""
        return float(max(self._data.xpos[body][2] for body in self._parts.robot))

    def asked(self, action: ArrayLike) -> dict[str, Array]:
        """End effector -> (3,) m, world frame: where an action asks it to be.

        Args:
            action: (A,) robot units, on the present pose. One of deltas is added to that; what a
                task's action says of absolute poses or joints is where it will be in the end.

        Raises:
            ValueError: another number of actions.
        """
        values = np.asarray(action, np.float64)
        if values.shape != (self.task.action_dim,):
            raise ValueError(f"action: expected ({self.task.action_dim},), found {values.shape}")
        if self.task.joint_actions:
            self._asked.qpos[:] = self._data.qpos
            wanted = dict(zip(self.task.joint_actions, values, strict=False))
            self._set(self._asked, wanted)
            mujoco.mj_kinematics(self._model, self._asked)
            return {
                name: self._asked.site_xpos[site].copy()
                for name, site in self._parts.end_effectors.items()
            }
        if self.task.pose_actions:
            return {name: values[first : first + 3] for name, first in self.task.pose_actions}
        asked = {}
        for name, first in self._deltas.items():
            base = self._data.xmat[self._parts.bases[name]].reshape(3, 3)
            asked[name] = self.position(name) + base @ (_DELTA * values[first : first + 3])
        return asked

    def shapes(self) -> list[Shape]:
        """All that is seen, but for the room."""
        model = self._model
        found = []
        for geom in self._shown:
            kind = model.geom_type[geom]
            mesh = kind == mujoco.mjtGeom.mjGEOM_MESH
            material = model.geom_matid[geom]
            color = model.geom_rgba[geom]
            if material >= 0 and np.allclose(color, (0.5, 0.5, 0.5, 1.0)):
                color = model.mat_rgba[material]
            size = model.geom_size[geom].astype(np.float64)
            if kind == mujoco.mjtGeom.mjGEOM_SPHERE:
                size = np.repeat(size[:1], 3)
            vertices, triangles = self._mesh(int(model.geom_dataid[geom])) if mesh else (None, None)
            found.append(
                Shape(
                    model.body(model.geom_bodyid[geom]).name,
                    "mesh" if mesh else _PRIMITIVES[kind],
                    model.geom_pos[geom].copy(),
                    np.roll(model.geom_quat[geom], -1),
                    size,
                    color.astype(np.float64),
                    vertices,
                    triangles,
                )
            )
        return found

    def _is_shown(self, geom: int) -> bool:
        model = self._model
        group, kind = model.geom_group[geom], model.geom_type[geom]
        of_robot = int(model.geom_bodyid[geom]) in self._parts.robot
        return (
            (group == _VISUAL or (group == _OF_ROBOT and of_robot))
            # Floor and walls of the room would hide what is in it.
            and model.geom_bodyid[geom] != 0
            and (kind == mujoco.mjtGeom.mjGEOM_MESH or kind in _PRIMITIVES)
            and model.geom_rgba[geom][3] > 0
        )

    def _be_absent(self, names: Iterable[str]) -> None:
        # A thing may be of several bodies; what stands on the floor of the model is its own root.
        roots = {self._parts.objects[name] for name in names}
        self.absent = frozenset(
            self._model.body(body).name
            for body in range(1, self._model.nbody)
            if int(self._model.body_rootid[body]) in roots
        )

    def _update(self) -> None:
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def _mesh(self, mesh: int) -> tuple[Array, NDArray[np.int32]]:
        model = self._model
        vertices = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]]
        triangles = model.mesh_face[model.mesh_faceadr[mesh] :][: model.mesh_facenum[mesh]]
        used, corners = np.unique(triangles, return_inverse=True)
        return vertices[used].astype(np.float64), corners.reshape(-1, 3).astype(np.int32)

    def _set(self, data: mujoco.MjData, joints: Mapping[str, float]) -> None:
        for name, value in joints.items():
            if name in self._joints:
                data.qpos[self._model.jnt_qposadr[self._joints[name]]] = value

    def _place(self, body: int, pose: Array) -> None:
        wxyz = np.roll(pose[3:], 1)
        joint = self._model.body_jntadr[body]
        if joint >= 0 and self._model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE:
            start = self._model.jnt_qposadr[joint]
            self._data.qpos[start : start + 7] = (*pose[:3], *wxyz)
        elif (mocap := self._model.body_mocapid[body]) >= 0:
            self._data.mocap_pos[mocap], self._data.mocap_quat[mocap] = pose[:3], wxyz
        elif self._model.body_parentid[body] == 0:
            # It stands still, where its episode's reset put it.
            self._model.body_pos[body], self._model.body_quat[body] = pose[:3], wxyz


def _quaternion(rotation: Array) -> Array:
    wxyz = np.empty(4)
    mujoco.mju_mat2Quat(wxyz, rotation.reshape(-1))
    return np.roll(wxyz, -1)


def _pose(position: Array, quaternion: Array) -> Array:
    return np.concatenate([position, quaternion])


def _first_deltas(task: Task) -> Sequence[int]:
    """Index of the x of each end effector's delta pose, in their order."""
    return [i for i, name in enumerate(task.action_names) if name.rpartition("_")[2] == "x"]


def shown_robot(task: Task, scene: bool) -> ShownRobot:
    """The robot of `task`.

    Args:
        scene: also what stands around it in its simulation; without it Vega alone.

    Raises:
        SimulationError: the task's simulator is not here.
        ValueError: another robot than Vega without its scene.
        RobotDescriptionError: Vega's description is not here.
    """
    if scene:
        simulation = make_simulation(task, rendering=None)
        try:
            parts = simulation.parts()
        finally:
            simulation.close()
    elif task.joint_actions:
        parts = vega_parts()
    else:
        raise ValueError(f"task {task.name}: expected Vega, the one robot known by itself")
    merge_small_triangles(parts.model, _GRAIN)
    return ShownRobot(task, parts)


def vega_urdf() -> str:
    """Vega's URDF for viewers: meshes by absolute file:// addresses, no sensors of its base.

    Raises:
        RobotDescriptionError: dexmate-urdf is not installed or not as expected.
    """
    description = vega_description()
    robot = urdf_without_base_sensors(description)
    for mesh in robot.iter("mesh"):
        file = description.urdf.parent / str(mesh.get("filename"))
        mesh.set("filename", file.resolve().as_uri())
    return ElementTree.tostring(robot, encoding="unicode")
