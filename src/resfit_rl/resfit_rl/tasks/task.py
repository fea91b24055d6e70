"""What a task is: its robot interface, cameras, proprioception and limits; no simulator here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from resfit_rl.agent.spec import AgentSpec


class UnknownTaskError(ValueError):
    """No task of that name; the text lists the known ones."""


@dataclass(frozen=True)
class PoseTerm:
    """7 numbers of the state: pose of an end effector, m and quaternion x, y, z, w.

    Attributes:
        end_effector: of topic end_effectors/<end_effector>/pose; or an object that is tracked, by
            the simulator or by motion capture, and published likewise.
        reference: quaternion x, y, z, w of an orientation amid those that the task has. Of q and
            -q, one rotation, the state holds the one nearer to it, so that it is continuous up to
            half a turn from there.
    """

    end_effector: str
    reference: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)

    @property
    def size(self) -> int:
        return 7


@dataclass(frozen=True)
class JointTerm:
    """One number of the state for each joint: its position, rad or m."""

    joints: tuple[str, ...]  # names in joint_states

    @property
    def size(self) -> int:
        return len(self.joints)


@dataclass(frozen=True)
class RelativeTerm:
    """3 numbers of the state: from one end effector or object to another, m, world frame.

    Attributes:
        to, origin: of PoseTerms of the same layout.
    """

    to: str
    origin: str

    @property
    def size(self) -> int:
        return 3


StateTerm = PoseTerm | JointTerm | RelativeTerm


@dataclass(frozen=True)
class Task:
    """A task on one robot.

    Attributes:
        name: 'square'; what the user types.
        implementation: which code defines scene and success, for example
            'robosuite-1.5.2/NutAssemblySquare/Panda'. Data of two implementations never mix.
        cameras: names, in the networks' order.
        state_layout: terms of the proprioceptive state, in order.
        wrists: names of the wrists with a force-torque sensor; topic wrenches/<wrist>.
        action_names: one per action dimension.
        action_lower, action_upper: limits, robot units, one per dimension.
        action_change: largest change of a dimension from one step to the next, robot units.
        hold_template: per dimension, the value that holds position; NaN means 'as last applied'.
        max_steps: time limit, control steps.
        pose_actions: end effector -> the first of the 6 actions that are its absolute pose in the
            world frame: position, m, and rotation vector (an axis times an angle), rad.
        joint_actions: joints whose absolute positions, rad, are the first actions, in order.
        rest_action: stands in for 'as last applied' after a reset, but in the dimensions of
            pose_actions and joint_actions, which are measured.
        control_frequency: Hz.
    """

    name: str
    implementation: str
    cameras: tuple[str, ...]
    state_layout: tuple[StateTerm, ...]
    wrists: tuple[str, ...]
    action_names: tuple[str, ...]
    action_lower: tuple[float, ...]
    action_upper: tuple[float, ...]
    action_change: tuple[float, ...]
    hold_template: tuple[float, ...]
    max_steps: int
    control_frequency: float = 20.0
    pose_actions: tuple[tuple[str, int], ...] = ()
    joint_actions: tuple[str, ...] = ()
    rest_action: float = 0.0

    @property
    def state_dim(self) -> int:
        return sum(term.size for term in self.state_layout)

    @property
    def action_dim(self) -> int:
        return len(self.action_names)

    def start_action(
        self,
        end_effectors: Mapping[str, NDArray[np.float64]],
        joint_positions: Mapping[str, float] | None = None,
    ) -> NDArray[np.float64]:
        """(A,) robot units: holds the robot where a reset left it.

        Args:
            end_effectors: name -> (7,), position in m and quaternion x, y, z, w, world frame.
            joint_positions: rad, by joint name; needed by a task of joint_actions only.
        """
        action = np.nan_to_num(np.array(self.hold_template), nan=self.rest_action)
        for name, first in self.pose_actions:
            middle = np.add(self.action_lower, self.action_upper)[first + 3 : first + 6] / 2
            action[first : first + 3] = end_effectors[name][:3]
            action[first + 3 : first + 6] = rotation_vector(end_effectors[name][3:], middle)
        for index, joint in enumerate(self.joint_actions):
            # A joint may be measured a little beyond its limits.
            limits = self.action_lower[index], self.action_upper[index]
            action[index] = np.clip((joint_positions or {})[joint], *limits)
        return action

    def agent_spec(self, image_size: tuple[int, int] = (84, 84)) -> AgentSpec:
        """The agent's interface to this task; `image_size` is (height, width), pixels."""
        # Here, as it brings torch: seconds at the start of a node that has no network.
        from resfit_rl.agent.spec import AgentSpec

        return AgentSpec(
            cameras=dict.fromkeys(self.cameras, image_size),
            state_dim=self.state_dim,
            action_dim=self.action_dim,
            action_lower=np.array(self.action_lower, np.float32),
            action_upper=np.array(self.action_upper, np.float32),
        )


def rotation_vector(quaternion: ArrayLike, near: ArrayLike) -> NDArray[np.float64]:
    """(3,) rad: of all rotation vectors of the quaternion x, y, z, w, the one nearest to `near`.

    An axis times its angle is the same rotation with a turn more or less; without this choice a
    hand that turns past half a turn would jump by a whole one.
    """
    # Here, as it takes half a second to import and only absolute poses need it.
    from scipy.spatial.transform import Rotation

    vector = Rotation.from_quat(np.asarray(quaternion, np.float64)).as_rotvec()
    angle = float(np.linalg.norm(vector))
    if angle < 1e-6:
        return vector
    around = [vector + turns * 2 * np.pi * vector / angle for turns in (-1, 0, 1)]
    return min(around, key=lambda other: float(np.linalg.norm(other - np.asarray(near))))
