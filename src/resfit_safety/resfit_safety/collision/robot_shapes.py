"""A robot of a URDF as moving convex shapes among boxes, by MuJoCo's kinematics.

Every object of a collision mesh is one shape: Vega's are convex already, while the hull of a whole
file would fill the gap behind its chest.
"""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from resfit_rl.robots.mesh_file import read_objects
from resfit_rl.robots.vega import Mimic, RobotDescriptionError, VegaDescription
from resfit_safety.collision.obstacles import Box

_PRISM_SIDES = 64  # of what stands for a cylinder where vertices are needed


@dataclass(frozen=True, eq=False)
class Shape:
    """One convex piece of a link, or a box around the robot.

    Attributes:
        name: of the link or the box.
        body, geom: indices in the model.
        vertices: (N, 3) m, in the body's frame; of a prism around it for a cylinder.
        radius: m, of a ball around the vertices; its centre is the model's site of the geom's
            index.
    """

    name: str
    body: int
    geom: int
    vertices: NDArray[np.float64]
    radius: float


class RobotShapes:
    """Where all shapes are for positions of the commanded joints. Not for several threads at once.

    Args:
        joints: commanded, in the order of positions (A,).
        fixed: positions of joints that nobody commands, rad; the others of them are at 0. Joints
            that mimic a commanded one follow it.
        boxes: obstacles, in the frame of the root link.

    Attributes:
        joints: as given.
        shapes: of the boxes and the links; shapes[k] is geom k of the model and has site k.
        radii: (S,) m, of the balls around them.
        model, data: MuJoCo's; `place` sets where geoms, sites and bodies are.
        reaches: (S, D) m, of S shapes and the D joints that move, the following ones included: the
            largest distance of any point of the shape from the joint's axis, wherever the joints
            are; 0 for a joint that does not carry it.
        outer: (D, D) 1 where the column's joint carries the row's, else 0.

    Raises:
        RobotDescriptionError: a mesh, a joint or a kind of shape that is not as expected.
    """

    def __init__(
        self,
        description: VegaDescription,
        joints: Sequence[str],
        fixed: Mapping[str, float],
        boxes: Sequence[Box] = (),
    ) -> None:
        self.joints = tuple(joints)
        driven = self._driven(description.mimics)
        spec, pieces = _spec(description, boxes)
        for joint in (*driven, *fixed):
            if spec.joint(joint) is None:
                raise RobotDescriptionError(
                    f"{description.urdf}: joint {joint}: expected one, found none"
                )
            if joint in driven and joint in fixed:
                raise RobotDescriptionError(
                    f"{description.urdf}: joint {joint}: expected it commanded or fixed, found both"
                )
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        # MuJoCo sorts geoms and sites by body, alike.
        self.shapes = tuple(
            self._shape(geom, *pieces[int(self.model.geom(geom).name)])
            for geom in range(self.model.ngeom)
        )
        self.radii = np.array([shape.radius for shape in self.shapes])
        self._rest = np.zeros(self.model.nq)
        for joint, position in fixed.items():
            self._rest[self._address(joint)] = position
        self._addresses = np.array([self._address(joint) for joint in driven])
        self._sources = np.array([source for source, _, _ in driven.values()])
        self._multipliers = np.array([multiplier for _, multiplier, _ in driven.values()])
        self._offsets = np.array([offset for _, _, offset in driven.values()])
        self.place(np.zeros(len(self.joints)))
        self.reaches = np.array([self._reach(shape) for shape in self.shapes])
        self.outer = np.zeros((len(driven), len(driven)))
        for joint, i in zip(driven, range(len(driven)), strict=True):
            body = int(self.model.joint(joint).bodyid[0])
            for _, outer in self._moving_joints(int(self.model.body_parentid[body])):
                self.outer[i, outer] = 1.0

    def place(self, positions: NDArray[np.float64]) -> None:
        """Move everything to where it is with the commanded joints at (A,) rad."""
        qpos = self._rest.copy()
        qpos[self._addresses] = positions[self._sources] * self._multipliers + self._offsets
        self.data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, self.data)

    def turns(self, change: NDArray[np.float64]) -> NDArray[np.float64]:
        """(D,) rad that each moving joint turns by while the commanded ones do by (A,) rad."""
        return change[self._sources] * self._multipliers

    def placed_vertices(self, shape: Shape) -> NDArray[np.float64]:
        """(N, 3) m, in the root link's frame, where the shape was last placed."""
        rotation = self.data.xmat[shape.body].reshape(3, 3)
        return shape.vertices @ rotation.T + self.data.xpos[shape.body]

    def _shape(self, geom: int, name: str, vertices: NDArray[np.float64], radius: float) -> Shape:
        return Shape(name, int(self.model.geom_bodyid[geom]), geom, vertices, radius)

    def _driven(self, mimics: Mapping[str, Mimic]) -> dict[str, tuple[int, float, float]]:
        """Joint -> which commanded one it follows, multiplier, offset."""
        driven = {joint: (i, 1.0, 0.0) for i, joint in enumerate(self.joints)}
        for joint, mimic in mimics.items():
            if mimic.joint in self.joints:
                driven[joint] = (self.joints.index(mimic.joint), mimic.multiplier, mimic.offset)
        return driven

    def _reach(self, shape: Shape) -> NDArray[np.float64]:
        """(D,) as a row of `reaches`.

        From the link towards the root: what turns about an axis stays in a ball centred on it.
        """
        model, data = self.model, self.data
        vertices = self.placed_vertices(shape)
        found = np.zeros(len(self._addresses))
        ball: tuple[NDArray[np.float64], float] | None = None
        for link, i in self._moving_joints(shape.body):
            joint = int(model.body_jntadr[link])
            anchor, axis = data.xanchor[joint], data.xaxis[joint]
            if ball is None:
                offsets = vertices - anchor
                along = offsets @ axis
                found[i] = np.linalg.norm(offsets - along[:, None] * axis, axis=1).max()
                center = anchor + axis * (along.min() + along.max()) / 2
                ball = center, float(np.linalg.norm(vertices - center, axis=1).max())
            else:
                center = anchor + axis * ((ball[0] - anchor) @ axis)
                ball = center, ball[1] + float(np.linalg.norm(ball[0] - center))
                found[i] = ball[1]
        return found

    def _moving_joints(self, body: int) -> Iterator[tuple[int, int]]:
        """Links and the moving joints (index of D) that carry them, from `body` to the root."""
        model = self.model
        moving = {int(address): i for i, address in enumerate(self._addresses)}
        while body:
            if model.body_jntnum[body]:
                i = moving.get(int(model.jnt_qposadr[model.body_jntadr[body]]))
                if i is not None:
                    yield body, i
            body = int(model.body_parentid[body])

    def _address(self, joint: str) -> int:
        return int(self.model.joint(joint).qposadr[0])


_Piece = tuple[str, NDArray[np.float64], float]


def _spec(description: VegaDescription, boxes: Sequence[Box]) -> tuple[mujoco.MjSpec, list[_Piece]]:
    """The URDF with a geom and a site for each convex piece, both named by its place in the list.

    A piece: its link, its vertices (N, 3) in the link's frame, the radius of a ball around them.
    """
    urdf = description.urdf
    robot = ElementTree.parse(urdf).getroot()
    collisions = []
    for link in robot.findall("link"):
        for visual in link.findall("visual"):
            link.remove(visual)
        for collision in link.findall("collision"):
            collisions.append((str(link.get("name")), collision))
            link.remove(collision)
    options = ElementTree.SubElement(robot, "mujoco")
    ElementTree.SubElement(
        options, "compiler", strippath="false", balanceinertia="true", fusestatic="false"
    )
    spec = mujoco.MjSpec.from_string(ElementTree.tostring(robot, encoding="unicode"))
    pieces: list[_Piece] = []

    def add(
        body: mujoco.MjsBody,
        name: str,
        vertices: NDArray[np.float64],
        position: NDArray[np.float64],
        quaternion: NDArray[np.float64],
        **form: object,
    ) -> None:
        matrix = np.empty(9)
        mujoco.mju_quat2Mat(matrix, quaternion)
        placed = vertices @ matrix.reshape(3, 3).T + position
        center, radius = _ball(placed)
        key = str(len(pieces))
        body.add_geom(name=key, pos=position, quat=quaternion, **form)
        body.add_site(name=key, pos=center)
        pieces.append((name, placed, radius))

    for box in boxes:
        size = np.array(box.size) / 2
        add(
            spec.worldbody,
            box.name,
            _corners(size),
            np.array(box.center, np.float64),
            np.array(box.quaternion, np.float64),
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=size,
        )
    meshes: set[str] = set()
    for name, collision in collisions:
        geometry = collision.find("geometry")
        if geometry is None or len(geometry) == 0:
            raise RobotDescriptionError(f"{urdf}: link {name}: expected a geometry, found none")
        origin, shape = collision.find("origin"), geometry[0]
        place = _numbers(origin, "xyz", "0 0 0"), _quaternion(_numbers(origin, "rpy", "0 0 0"))
        if shape.tag == "mesh":
            file = urdf.parent / str(shape.get("filename"))
            scale = str(shape.get("scale", "1 1 1"))
            for i, vertices in enumerate(_objects(file)):
                scaled = vertices * _numbers(shape, "scale", "1 1 1")
                mesh = f"{file} {scale} {i}"
                if mesh not in meshes:
                    meshes.add(mesh)
                    spec.add_mesh(
                        name=mesh,
                        uservert=scaled.reshape(-1),
                        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX,
                    )
                add(
                    spec.body(name),
                    name,
                    scaled,
                    *place,
                    type=mujoco.mjtGeom.mjGEOM_MESH,
                    meshname=mesh,
                )
        elif shape.tag == "box":
            size = _numbers(shape, "size", "") / 2
            add(
                spec.body(name),
                name,
                _corners(size),
                *place,
                type=mujoco.mjtGeom.mjGEOM_BOX,
                size=size,
            )
        elif shape.tag == "cylinder":
            radius, half = _numbers(shape, "radius", "")[0], _numbers(shape, "length", "")[0] / 2
            add(
                spec.body(name),
                name,
                _prism(radius, half),
                *place,
                type=mujoco.mjtGeom.mjGEOM_CYLINDER,
                size=[radius, half, 0.0],
            )
        else:
            raise RobotDescriptionError(
                f"{urdf}: link {name}: expected a mesh, a box or a cylinder, found {shape.tag}"
            )
    return spec, pieces


@functools.cache
def _objects(file: Path) -> tuple[NDArray[np.float64], ...]:
    """(N, 3) vertices of each object of an .obj file."""
    vertices, objects = read_objects(file)
    return tuple(vertices[np.unique(faces)] for faces in objects)


def _corners(half: NDArray[np.float64]) -> NDArray[np.float64]:
    """(8, 3) of a box."""
    return np.array(np.meshgrid(*([-x, x] for x in half))).reshape(3, -1).T


def _prism(radius: float, half: float) -> NDArray[np.float64]:
    """(2 sides, 3) around a cylinder along z."""
    angles = np.arange(_PRISM_SIDES) * 2 * np.pi / _PRISM_SIDES
    outer = radius / np.cos(np.pi / _PRISM_SIDES)
    ring = np.stack([outer * np.cos(angles), outer * np.sin(angles)], axis=1)
    return np.concatenate(
        [np.pad(ring, ((0, 0), (0, 1)), constant_values=z) for z in (-half, half)]
    )


def _ball(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Centre, within their hull, and radius of a ball around all points, nearly the smallest."""
    center = points.mean(axis=0)
    for i in range(40):
        offsets = points - center
        farthest = int(np.argmax(np.einsum("ij,ij->i", offsets, offsets)))
        center = center + offsets[farthest] / (i + 2)
    return center, float(np.linalg.norm(points - center, axis=1).max())


def _numbers(element: ElementTree.Element | None, name: str, default: str) -> NDArray[np.float64]:
    text = default if element is None else element.get(name, default)
    return np.array([float(value) for value in text.split()])


def _quaternion(rpy: NDArray[np.float64]) -> NDArray[np.float64]:
    """w, x, y, z of a URDF's roll, pitch and yaw: about x, then y, then z of the fixed frame."""
    quaternion = np.empty(4)
    mujoco.mju_euler2Quat(quaternion, rpy, "XYZ")
    return quaternion
