"""The graph in Rerun: which entity holds what, and how the screen is divided; no ROS here."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from numpy.typing import ArrayLike, NDArray

from resfit_viewing.arrows import Arrow
from resfit_viewing.robot import Shape, ShownRobot

TIMELINE = "time"
_RADIUS = 0.008  # m, of arrows
_EYE, _TARGET = np.array([1.5, -1.1, 0.6]), np.array([0.4, 0.0, 1.05])  # m, from the robot's middle
_SERIES = {
    # plot -> entity below it: name in the legend
    "residual norm": {"residual/step": "of each action", "residual/batch": "mean of a batch"},
    "Q": {"q/mean": "Q, mean of a batch"},
    "success rate": {"success/recent": "newest 20 episodes", "success/all": "all episodes"},
    "latency, ms": {"latency/command": "observation to command"},
}


def spawn(application: str) -> None:
    """Open Rerun's viewer on this machine and log to it.

    Raises:
        RuntimeError: its program cannot be started.
    """
    rr.init(application)
    rr.spawn(hide_welcome_screen=True, memory_limit="25%")


def connect(application: str, url: str) -> None:
    """Log to a viewer or proxy at rerun+http://HOST:9876/proxy, now or once it is there."""
    rr.init(application)
    rr.connect_grpc(url)


def save(application: str, path: Path) -> None:
    """Log to an .rrd file, which grows while the graph runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rr.init(application)
    rr.save(path)


class RerunRecording:
    """Logs to the recording that was opened last.

    Args:
        robot: whose shapes are logged once, each when its body is there.
        cameras: as the task names them.
    """

    def __init__(self, robot: ShownRobot, cameras: Sequence[str]) -> None:
        self._robot = robot
        self._bodies = robot.bodies()
        self._poses: dict[str, NDArray[np.float64]] = {}
        self._limits: dict[str, float] = {}
        middle = np.array([*robot.middle, 0.0])
        rr.send_blueprint(blueprint(cameras, middle))
        rr.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        self._shapes: dict[str, list[Shape]] = {}  # not logged yet
        for shape in robot.shapes():
            self._shapes.setdefault(shape.body, []).append(shape)
        for series in _SERIES.values():
            for entity, name in series.items():
                rr.log(f"plots/{entity}", rr.SeriesLines(names=name), static=True)

    def at(self, stamp: int) -> None:
        """What follows is of this time, ns."""
        rr.set_time(TIMELINE, timestamp=np.datetime64(stamp, "ns"))

    def picture(self, camera: str, picture: NDArray[np.uint8]) -> None:
        """(H, W, 3) uint8 RGB."""
        rr.log(f"cameras/{camera}", rr.Image(picture))

    def robot(self) -> None:
        """The bodies where the robot's model has them now; those that stand still cost nothing."""
        for name, body in self._bodies.items():
            if name in self._robot.absent:
                continue
            for number, shape in enumerate(self._shapes.pop(name, ())):
                _log_shape(f"world/bodies/{name}/{number}", shape)
            position, quaternion = self._robot.pose(body)
            pose = np.concatenate([position, quaternion])
            before = self._poses.get(name)
            if before is None or not np.allclose(before, pose, atol=1e-5):
                self._poses[name] = pose
                rr.log(
                    f"world/bodies/{name}",
                    rr.Transform3D(translation=position, quaternion=rr.Quaternion(xyzw=quaternion)),
                )

    def arrows(self, arrows: Iterable[Arrow]) -> None:
        for arrow in arrows:
            rr.log(
                f"world/{arrow.kind}/{arrow.of}",
                rr.Arrows3D(
                    origins=[arrow.start],
                    vectors=[arrow.end - arrow.start],
                    colors=[arrow.color],
                    radii=_RADIUS,
                ),
            )

    def values(self, **values: float) -> None:
        """Points of plots; a double underscore in a name stands for the slash of its entity."""
        for name, value in values.items():
            if np.isfinite(value):
                rr.log(f"plots/{name.replace('__', '/')}", rr.Scalars(value))

    def wrench(
        self,
        wrist: str,
        force: tuple[float, float],
        torque: tuple[float, float],
    ) -> None:
        """Magnitudes that the safety monitor judges, each with its limit; N and N m."""
        for what, unit, (found, limit) in (("force", "N", force), ("torque", "N m", torque)):
            entity = f"plots/{what}/{wrist}"
            if self._limits.get(entity) != limit:
                self._limits[entity] = limit
                name = f"{wrist}, stops at {limit:g} {unit}"
                rr.log(entity, rr.SeriesLines(names=name), static=True)
            rr.log(entity, rr.Scalars(found))

    def state(self, lines: Mapping[str, str], alarm: str) -> None:
        """What stands beside the plots.

        Args:
            alarm: why the robot may not move; '' when it may.
        """
        head = f"# STOP\n**{alarm}**" if alarm else "# motion allowed"
        rows = "\n".join(f"| {name} | {text} |" for name, text in lines.items())
        text = f"{head}\n\n| | |\n| --- | --- |\n{rows}"
        rr.log("state", rr.TextDocument(text, media_type=rr.MediaType.MARKDOWN))

    def event(self, text: str, level: str = "INFO") -> None:
        """A line of the log: INFO, WARN or ERROR."""
        rr.log("events", rr.TextLog(text, level=level))


def blueprint(cameras: Sequence[str], middle: NDArray[np.float64]) -> rrb.Blueprint:
    """The screen: robot and cameras left, state and plots right.

    Args:
        middle: (3,) m, where the robot stands.
    """
    scene = rrb.Spatial3DView(
        origin="world",
        name="robot",
        eye_controls=rrb.EyeControls3D(
            position=middle + _TARGET + _EYE, look_target=middle + _TARGET
        ),
    )
    pictures = rrb.Horizontal(
        *(rrb.Spatial2DView(origin=f"cameras/{camera}", name=camera) for camera in cameras)
    )
    plots = [
        rrb.TimeSeriesView(origin=f"plots/{what}", name=name)
        for what, name in (("force", "force, N"), ("torque", "torque, N m"))
    ]
    plots += [
        rrb.TimeSeriesView(
            origin="plots", contents=[f"plots/{entity}" for entity in series], name=plot
        )
        for plot, series in _SERIES.items()
    ]
    right = rrb.Vertical(
        rrb.Horizontal(
            rrb.TextDocumentView(origin="state", name="state"),
            rrb.TextLogView(origin="events", name="events"),
        ),
        *(rrb.Horizontal(*plots[i : i + 2]) for i in range(0, len(plots), 2)),
        row_shares=[1.5, 1, 1, 1],
    )
    left = rrb.Vertical(scene, pictures, row_shares=[2, 1])
    return rrb.Blueprint(
        rrb.Horizontal(left, right, column_shares=[1, 1]),
        rrb.BlueprintPanel(state="collapsed"),
        rrb.SelectionPanel(state="collapsed"),
        rrb.TimePanel(state="collapsed"),
    )


def _log_shape(entity: str, shape: Shape) -> None:
    """Once, below its body's entity, which carries the pose."""
    quaternion = rr.Quaternion(xyzw=shape.quaternion)
    solid = {"colors": [shape.color], "fill_mode": "solid"}
    where = {"centers": [shape.position], "quaternions": [quaternion]}
    if shape.kind == "mesh":
        rr.log(
            entity,
            rr.Transform3D(translation=shape.position, quaternion=quaternion),
            rr.Mesh3D(
                vertex_positions=shape.vertices,
                triangle_indices=shape.triangles,
                vertex_normals=_normals(shape.vertices, shape.triangles),
                albedo_factor=shape.color,
            ),
            static=True,
        )
    elif shape.kind == "box":
        rr.log(entity, rr.Boxes3D(half_sizes=[shape.size], **where, **solid), static=True)
    elif shape.kind == "ellipsoid":
        rr.log(entity, rr.Ellipsoids3D(half_sizes=[shape.size], **where, **solid), static=True)
    else:
        radius, half = shape.size[:2]
        if shape.kind == "cylinder":
            body = rr.Cylinders3D(radii=[radius], lengths=[2 * half], **where, **solid)
        else:
            # Rerun's begin at one end.
            begin = shape.position - _turned(shape.quaternion, [0, 0, half])
            body = rr.Capsules3D(
                radii=[radius],
                lengths=[2 * half],
                translations=[begin],
                quaternions=[quaternion],
                **solid,
            )
        rr.log(entity, body, static=True)


def _normals(vertices: ArrayLike, triangles: NDArray[np.int32]) -> NDArray[np.float64]:
    """(V, 3) unit normals: of the triangles around, by their size."""
    corners = np.asarray(vertices)[triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros(np.shape(vertices))
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], faces)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _turned(quaternion: ArrayLike, vector: ArrayLike) -> NDArray[np.float64]:
    x, y, z, w = np.asarray(quaternion, np.float64)
    axis, v = np.array([x, y, z]), np.asarray(vector, np.float64)
    return v + 2 * np.cross(axis, np.cross(axis, v) + w * v)
