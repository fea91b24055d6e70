"""A robosuite environment as a robot and its sensors."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from resfit_rl.simulation.action import require_action
from resfit_rl.simulation.environments import make_environment
from resfit_rl.simulation.error import SimulationError
from resfit_rl.simulation.frame import Frame
from resfit_rl.simulation.parts import ModelParts
from resfit_rl.simulation.pose import body_pose, site_pose
from resfit_rl.simulation.rendering import Cameras, RenderOptions, require_image_size
from resfit_rl.tasks import PoseTerm, Task

# Objects are put down from 2 cm above, and the wrists' sensors read free fall until the controller
# holds the arm: let both settle before the first frame.
_SETTLE_STEPS = 10
# robosuite moves the objects that a task does not use to (10, 10, 10) m.
_OUT_OF_SCENE = 5.0
# Fixed bodies of robosuite's scenes; ours name their own.
_FIXTURES = ("peg1", "peg2", "bin1", "bin2")
_CHEAPEST = RenderOptions()


class Simulation:
    """One task in robosuite.

    With rendering, all calls must come from one thread (OpenGL's rule).

    Attributes:
        start_action: (A,) float64, robot units: holds the robot where the last reset, or the
            constructor, put it.
        joint_limits: joint -> lower and upper limit, rad or m.

    Args:
        task: its implementation names environment and robots.
        image_size: (height, width) of all cameras, pixels.
        cameras: names; None for the task's.
        rendering: None renders nothing.

    Raises:
        SimulationError: a camera that the scene lacks, a size below 1, an implementation of a
            simulator or version that is not here.
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
        self._env = make_environment(task)
        # Frames are read from the simulator itself; robosuite would evaluate its observables
        # anew for each of the 25 physics steps of a control step.
        for observable in self._env._observables.values():
            observable.set_enabled(False)
        self._model: mujoco.MjModel = self._env.sim.model._model
        self._data: mujoco.MjData = self._env.sim.data._data
        self._robots = self._env.robots
        self._cameras = None
        if rendering is not None:
            chosen = task.cameras if cameras is None else tuple(cameras)
            if chosen:
                try:
                    self._cameras = Cameras(self._model, chosen, image_size, rendering)
                except SimulationError:
                    self._env.close()
                    raise
        joints = [
            name
            for robot in self._robots
            for name in (
                *robot.robot_model.joints,
                *(joint for arm in robot.arms for joint in robot.gripper[arm].joints),
            )
        ]
        self._joint_names = tuple(joints)
        indices = [self._model.joint(name).id for name in joints]
        self._positions = self._model.jnt_qposadr[indices]
        self._velocities = self._model.jnt_dofadr[indices]
        self.joint_limits: dict[str, tuple[float, float]] = {
            name: (float(low), float(high))
            for name, (low, high) in zip(joints, self._model.jnt_range[indices], strict=True)
        }
        # Two robots of one arm each are told apart by the robot.
        several = len(self._robots) > 1
        self._ends = {
            f"robot{i}_{arm}" if several else arm: (robot, arm)
            for i, robot in enumerate(self._robots)
            for arm in robot.arms
        }
        self._objects = {
            entry.name: self._model.body(entry.root_body).id
            for entry in self._env.model.mujoco_objects
        }
        bodies = {self._model.body(i).name for i in range(self._model.nbody)}
        fixtures = (*_FIXTURES, *getattr(self._env, "fixtures", ()))
        self._objects |= {f: self._model.body(f).id for f in fixtures if f in bodies}
        # Objects whose poses are part of the state.
        self._tracked = {
            term.end_effector: self._objects[term.end_effector]
            for term in task.state_layout
            if isinstance(term, PoseTerm) and term.end_effector in self._objects
        }
        self._robot_parts = self._parts_of_robots()
        self.start_action = task.start_action(self._end_effectors())

    def field_of_view(self, camera: str) -> float:
        """Vertical, degrees."""
        return float(self._model.camera(camera).fovy[0])

    @property
    def render_seconds(self) -> float:
        """Wall time spent on pictures so far."""
        return 0.0 if self._cameras is None else self._cameras.seconds

    def parts(self) -> ModelParts:
        """A copy of the model and what in it is what."""
        robot, bases, wrists = set[int](), dict[str, int](), dict[str, int]()
        for name, (owner, arm) in self._ends.items():
            root = self._model.body(owner.robot_model.root_body).id
            robot |= {b for b in range(self._model.nbody) if self._is_within(b, root)}
            bases[name] = root
            sensor = owner.gripper[arm].important_sensors["force_ee"]
            wrists[name] = int(self._model.sensor(sensor).objid[0])
        sites = {name: int(owner.eef_site_id[arm]) for name, (owner, arm) in self._ends.items()}
        return ModelParts(
            copy.deepcopy(self._model), frozenset(robot), sites, wrists, bases, dict(self._objects)
        )

    def _is_within(self, body: int, root: int) -> bool:
        while body not in (0, root):
            body = int(self._model.body_parentid[body])
        return body == root

    def reset(self, seed: int) -> Frame:
        """A new start: the same seed gives the same frame bit for bit, whatever ran before.

        Only NutAssemblySingle and PickPlaceSingle choose their object by the order of a Python set,
        which differs between processes without PYTHONHASHSEED.
        """
        self._env.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self._env.reset()
        self.start_action = self.task.start_action(self._end_effectors())
        for _ in range(_SETTLE_STEPS):
            self._env.step(self.start_action)
        return self._frame()

    def step(self, action: ArrayLike) -> Frame:
        """Apply one action for one control period.

        Args:
            action: (A,), robot units; robosuite clips it to the limits.

        Raises:
            SimulationError: wrong shape, NaN or infinity; nothing has moved then.
        """
        self._env.step(require_action(action, self.task))
        return self._frame()

    def close(self) -> None:
        if self._cameras is not None:
            self._cameras.close()
            self._cameras = None
        self._env.close()

    def _frame(self) -> Frame:
        # robosuite leaves poses and sensors one physics step behind the joints.
        mujoco.mj_forward(self._model, self._data)
        wrenches = {
            name: np.concatenate([robot.ee_force[arm], robot.ee_torque[arm]])
            for name, (robot, arm) in self._ends.items()
        }
        privileged = {
            name: body_pose(self._data, body)
            for name, body in self._objects.items()
            if np.abs(self._data.xpos[body]).max() < _OUT_OF_SCENE
        }
        return Frame(
            images={} if self._cameras is None else self._cameras.render(self._data),
            joint_names=self._joint_names,
            joint_position=self._data.qpos[self._positions].copy(),
            joint_velocity=self._data.qvel[self._velocities].copy(),
            end_effectors=self._end_effectors(),
            wrenches=wrenches,
            privileged=privileged,
            success=bool(self._env._check_success()),
            self_collisions=self._self_collisions(),
        )

    def _end_effectors(self) -> dict[str, NDArray[np.float64]]:
        ends = {
            name: site_pose(self._data, robot.eef_site_id[arm])
            for name, (robot, arm) in self._ends.items()
        }
        return ends | {name: body_pose(self._data, body) for name, body in self._tracked.items()}

    def _parts_of_robots(self) -> dict[int, str]:
        """Geom -> the gripper that it belongs to, or '' for another part of a robot."""
        parts = {}
        for robot in self._robots:
            for geom in robot.robot_model.contact_geoms:
                parts[self._model.geom(geom).id] = ""
            for arm in robot.arms:
                gripper = robot.gripper[arm]
                for geom in gripper.contact_geoms:
                    parts[self._model.geom(geom).id] = gripper.naming_prefix
        return parts

    def _self_collisions(self) -> tuple[str, ...]:
        found = set()
        for contact in self._data.contact[: self._data.ncon]:
            first, second = sorted(int(geom) for geom in contact.geom)
            if first not in self._robot_parts or second not in self._robot_parts:
                continue
            part = self._robot_parts[first]
            if contact.dist <= 0 and not (part and part == self._robot_parts[second]):
                found.add(f"{self._model.geom(first).name}-{self._model.geom(second).name}")
        return tuple(sorted(found))
