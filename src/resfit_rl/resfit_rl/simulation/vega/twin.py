"""Vega in MuJoCo as a robot and its sensors, on the interface of simulation.Simulation."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from resfit_rl.robots.vega import COMMANDED_JOINTS, RobotDescriptionError, vega_description
from resfit_rl.simulation.action import require_action
from resfit_rl.simulation.error import SimulationError
from resfit_rl.simulation.frame import Frame
from resfit_rl.simulation.parts import ModelParts
from resfit_rl.simulation.pose import body_pose, site_pose
from resfit_rl.simulation.rendering import Cameras, RenderOptions, require_image_size
from resfit_rl.simulation.vega.model import (
    CONTROL_PERIOD,
    SIDES,
    TIMESTEP,
    start_posture,
    vega_spec,
)
from resfit_rl.simulation.vega.package_handover import PackageHandover
from resfit_rl.simulation.vega.scene import VegaScene
from resfit_rl.simulation.vega.woolly_ball_pnp import WoollyBallPnP
from resfit_rl.tasks import Task
from resfit_rl.tasks.implementation import VEGA_TWIN_VERSION, Implementation

_SCENES: dict[str, type[VegaScene]] = {
    "WoollyBallPnP": WoollyBallPnP,
    "PackageHandover": PackageHandover,
}
# Things are put down from a little above: let them settle before the first frame.
_SETTLE_STEPS = 10
_START_SPREAD = 0.02  # rad; no two starts of the arms are quite the same
_SUBSTEPS = round(CONTROL_PERIOD / TIMESTEP)
_CHEAPEST = RenderOptions()


class VegaTwin:
    """One task of Vega's: absolute positions of 29 joints at 20 Hz.

    Servos follow targets that go evenly from one action to the next within a control period, as a
    driver's do. With rendering, all calls must come from one thread (OpenGL's rule).

    Attributes:
        start_action: (29,) float64, rad: holds the robot where the last reset, or the constructor,
            put it.
        joint_limits: joint -> lower and upper limit, rad.

    Args:
        task: its implementation names the scene.
        image_size: (height, width) of all cameras, pixels.
        cameras: names; None for the task's.
        rendering: None renders nothing.

    Raises:
        SimulationError: a camera that the scene lacks, a size below 1, an implementation that is
            not here, no description of Vega.
    """

    def __init__(
        self,
        task: Task,
        *,
        image_size: tuple[int, int] = (84, 84),
        cameras: Sequence[str] | None = None,
        rendering: RenderOptions | None = _CHEAPEST,
    ) -> None:
        require_image_size(image_size)
        self.task = task
        self._scene = _scene(task)
        try:
            spec = vega_spec()
        except RobotDescriptionError as error:
            raise SimulationError(f"task {task.name}: {error}") from None
        robot = [body.name for body in spec.bodies if body.name != "world"]
        self._scene.add_to(spec)
        self._model: mujoco.MjModel = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._robot = {self._model.body(name).id: name for name in robot}
        self._scene.robot = frozenset(self._robot)
        self._cameras = None
        if rendering is not None:
            chosen = task.cameras if cameras is None else tuple(cameras)
            self._cameras = Cameras(self._model, chosen, image_size, rendering)
        self._mimics = vega_description().mimics
        self._joint_names = (*COMMANDED_JOINTS, *self._mimics)
        indices = [self._model.joint(name).id for name in self._joint_names]
        self._positions = self._model.jnt_qposadr[indices]
        self._velocities = self._model.jnt_dofadr[indices]
        self.joint_limits: dict[str, tuple[float, float]] = {
            name: (float(low), float(high))
            for name, (low, high) in zip(
                self._joint_names, self._model.jnt_range[indices], strict=True
            )
        }
        self._restart(np.random.default_rng(0))

    def field_of_view(self, camera: str) -> float:
        """Vertical, degrees."""
        return float(self._model.camera(camera).fovy[0])

    @property
    def render_seconds(self) -> float:
        """Wall time spent on pictures so far."""
        return 0.0 if self._cameras is None else self._cameras.seconds

    def parts(self) -> ModelParts:
        """A copy of the model and what in it is what."""
        sites = {side: self._model.site(side).id for side in SIDES}
        objects = {name: self._model.body(name).id for name in self._scene.objects}
        model = copy.deepcopy(self._model)
        return ModelParts(model, frozenset(self._robot), sites, sites, objects=objects)

    def reset(self, seed: int) -> Frame:
        """A new start: the same seed gives the same frame bit for bit, whatever ran before."""
        self._restart(np.random.default_rng(seed))
        return self._frame()

    def step(self, action: ArrayLike) -> Frame:
        """Apply one action for one control period.

        Args:
            action: (29,) rad, in the order of COMMANDED_JOINTS; clipped to the joints' limits.

        Raises:
            SimulationError: wrong shape, NaN or infinity; nothing has moved then.
        """
        action = require_action(action, self.task)
        self._advance(np.clip(action, self.task.action_lower, self.task.action_upper))
        return self._frame()

    def close(self) -> None:
        if self._cameras is not None:
            self._cameras.close()
            self._cameras = None

    def _restart(self, rng: np.random.Generator) -> None:
        mujoco.mj_resetData(self._model, self._data)
        posture = start_posture()
        for joint in COMMANDED_JOINTS:
            if "_arm_" in joint:
                posture[joint] += rng.uniform(-_START_SPREAD, _START_SPREAD)
        for joint, mimic in self._mimics.items():
            posture[joint] = mimic.offset + mimic.multiplier * posture[mimic.joint]
        self._data.qpos[self._positions] = [posture[joint] for joint in self._joint_names]
        self._data.ctrl[:] = [posture[joint] for joint in COMMANDED_JOINTS]
        self._scene.place(self._data, rng)
        for _ in range(_SETTLE_STEPS):
            self._advance(self._data.ctrl.copy())
        self.start_action = self.task.start_action(self._end_effectors(), self._joints())

    def _advance(self, target: NDArray[np.float64]) -> None:
        before = self._data.ctrl.copy()
        for substep in range(1, _SUBSTEPS + 1):
            self._data.ctrl[:] = before + (target - before) * (substep / _SUBSTEPS)
            mujoco.mj_step(self._model, self._data)
        # Poses and sensors would be one physics step behind the joints.
        mujoco.mj_forward(self._model, self._data)

    def _frame(self) -> Frame:
        return Frame(
            images={} if self._cameras is None else self._cameras.render(self._data),
            joint_names=self._joint_names,
            joint_position=self._data.qpos[self._positions].copy(),
            joint_velocity=self._data.qvel[self._velocities].copy(),
            end_effectors=self._end_effectors(),
            wrenches={
                side: np.concatenate(
                    [self._data.sensor(f"{side}_{what}").data for what in ("force", "torque")]
                )
                for side in SIDES
            },
            privileged={
                name: body_pose(self._data, self._model.body(name).id)
                for name in self._scene.objects
            },
            success=self._scene.success(self._model, self._data),
            self_collisions=self._self_collisions(),
        )

    def _joints(self) -> dict[str, float]:
        return dict(zip(self._joint_names, self._data.qpos[self._positions].tolist(), strict=True))

    def _end_effectors(self) -> dict[str, NDArray[np.float64]]:
        return {side: site_pose(self._data, self._model.site(side).id) for side in SIDES}

    def _self_collisions(self) -> tuple[str, ...]:
        """MuJoCo's contacts leave out what the SRDF allows."""
        found = set()
        for contact in self._data.contact[: self._data.ncon]:
            bodies = [int(self._model.geom_bodyid[geom]) for geom in contact.geom]
            if contact.dist <= 0 and all(body in self._robot for body in bodies):
                found.add("-".join(sorted(self._robot[body] for body in bodies)))
        return tuple(sorted(found))


def _scene(task: Task) -> VegaScene:
    implementation = Implementation.parse(task.implementation)
    known = {f"vega-{VEGA_TWIN_VERSION}/{name}/Vega": kind for name, kind in _SCENES.items()}
    if str(implementation) not in known:
        raise SimulationError(
            f"task {task.name}: implementation: expected one of {', '.join(known)}, "
            f"found {implementation}"
        )
    return known[str(implementation)]()
