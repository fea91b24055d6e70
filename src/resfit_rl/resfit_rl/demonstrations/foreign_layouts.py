"""How data sets that others recorded map onto our tasks: keys, shapes, conventions, in one place.

The paper's five LeRobotDatasets were made by their authors' converter from Robomimic's and
DexMimicGen's HDF5 files, so one description serves both kinds of files:

- Pictures: feature `observation.images.CAMERA`, HDF5 `obs/CAMERA_image`, 84 x 84 RGB, upright.
- State: `observation.state` is, for each arm in turn, `eef_pos` (3), `eef_quat` (4, x, y, z, w) and
  `gripper_qpos` (every joint of the hand). For GR1 the right arm comes first; the names in
  info.json say left first, since they were sorted by the alphabet and the values were not.
- Quaternions: robosuite's `eef_quat` is the orientation of the arm's last body, up to and with 1.5;
  our state has that of the grip site, where `eef_pos` is measured too. One is the other times a
  turn that is fixed by the robot's model; the turns below were computed in robosuite 1.5.2. HDF5
  files of robosuite 1.5 also hold `eef_quat_site`, which needs no turn and is preferred.
- Actions: as the environment takes them, so they go through as they are. Panda: a delta pose in
  [-1, 1], +1 for 0.05 m or 0.5 rad, and the gripper (robosuite 1.4 and 1.5 agree for an arm whose
  base is not turned). GR1: absolute poses; a rotation vector is brought to the whole turn that the
  task's limits lie around.
- An episode ends where the environment first said success (`next.done`, HDF5 `rewards`), since ours
  do: what follows is cut off.

A layout declares which implementation of the task its data stands for. Robomimic's can and square
are robosuite's own environments, with the same scene, robot and controller in 1.5.2. DexMimicGen's
are the package dexmimicgen 0.1, which our own scenes are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from resfit_rl.configuration.strict_yaml import read_mapping
from resfit_rl.demonstrations.demonstration import (
    Demonstration,
    DemonstrationsError,
    require_finite,
    require_lengths,
    require_pictures,
    require_within_limits,
)
from resfit_rl.tasks import PoseTerm, RelativeTerm, Task, get_task

Quaternion = tuple[float, float, float, float]
FloatArray = NDArray[np.float64]

MAPPING_FILE = Path("meta", "resfit_mapping.yaml")
"""In a data set's folder: its layout, for one that is not in the table below."""

_NO_TURN = (0.0, 0.0, 0.0, 1.0)
_HALF = 0.5**0.5


@dataclass(frozen=True)
class ArmLayout:
    """Where an arm's part of the state is.

    Attributes:
        end_effector: ours.
        prefix: of their keys, which are PREFIXeef_pos, PREFIXeef_quat and PREFIXgripper_qpos.
        joints: names, ours, of all joints in gripper_qpos, in order; empty without a gripper.
        turn: quaternion x, y, z, w by which their orientation becomes ours: ours = theirs * turn.
    """

    end_effector: str
    prefix: str
    joints: tuple[str, ...]
    turn: Quaternion = _NO_TURN

    def sizes(self) -> dict[str, int]:
        """Key -> numbers, in the order of observation.state."""
        sizes = {f"{self.prefix}eef_pos": 3, f"{self.prefix}eef_quat": 4}
        return sizes | ({f"{self.prefix}gripper_qpos": len(self.joints)} if self.joints else {})


@dataclass(frozen=True)
class ForeignLayout:
    """A foreign data set's keys and conventions.

    Attributes:
        task: name of the task that it shows.
        implementation: of the task that its data stands for; see tasks.Task.
        arms: in the order of observation.state.
        cameras: our camera -> theirs, where the names differ.
    """

    task: str
    implementation: str
    arms: tuple[ArmLayout, ...]
    cameras: Mapping[str, str] = field(default_factory=dict)

    def sizes(self) -> dict[str, int]:
        """Key -> numbers, in the order of observation.state."""
        return {key: size for arm in self.arms for key, size in arm.sizes().items()}

    def camera(self, ours: str) -> str:
        return self.cameras.get(ours, ours)

    def require(self, task: Task, where: str, allow_other_implementation: bool = False) -> None:
        """DemonstrationsError unless the data is of `task`, and of its implementation."""
        if self.implementation == task.implementation or allow_other_implementation:
            return
        raise DemonstrationsError(
            f"{where}: expected data of {task.implementation}, which is task {task.name} here, "
            f"found data of {self.implementation}: another scene, so demonstrations of one mislead "
            "a policy in the other (convert them with --allow-other-implementation if you know "
            "that they fit)"
        )


def _pandas(task: str, environment: str) -> ForeignLayout:
    arm = ArmLayout(
        end_effector="right",
        prefix="robot0_",
        joints=("gripper0_right_finger_joint1", "gripper0_right_finger_joint2"),
        turn=(0.0, 0.0, -_HALF, _HALF),
    )
    return ForeignLayout(task, f"robosuite-1.5.2/{environment}/Panda", (arm,))


def _finger_joints(outer: str) -> list[str]:
    fingers = ("index", "middle", "ring", "pinky")
    return [f"{finger}_{part}" for finger in fingers for part in ("proximal", outer)]


def _dexterous_pandas(task: str, environment: str) -> ForeignLayout:
    turns: tuple[Quaternion, Quaternion] = ((0.0, _HALF, -_HALF, 0.0), (-_HALF, 0.0, 0.0, _HALF))
    thumb = ("thumb_proximal_1", "thumb_proximal_2", "thumb_middle", "thumb_distal")
    joints = (*thumb, *_finger_joints("distal"))
    arms = tuple(
        ArmLayout(
            end_effector=f"robot{i}_right",
            prefix=f"robot{i}_",
            joints=tuple(f"gripper{i}_right_joint_{side}_{joint}" for joint in joints),
            turn=turns[i],
        )
        for i, side in enumerate("rl")
    )
    return ForeignLayout(task, f"dexmimicgen-0.1/{environment}/PandaDexRH+PandaDexLH", arms)


def _gr1(task: str, environment: str) -> ForeignLayout:
    thumb = ("thumb_proximal_yaw", "thumb_proximal_pitch", "thumb_distal")
    joints = (*thumb, *_finger_joints("intermediate"))
    arms = tuple(
        ArmLayout(
            end_effector=arm,
            prefix=f"robot0_{arm}_",
            joints=tuple(f"gripper0_{arm}_{side}_{joint}_joint" for joint in joints),
            turn=(0.5, -0.5, -0.5, 0.5),
        )
        for arm, side in (("right", "R"), ("left", "L"))
    )
    return ForeignLayout(task, f"dexmimicgen-0.1/{environment}/GR1FixedLowerBody", arms)


LAYOUTS: dict[str, ForeignLayout] = {
    "ankile/robomimic-mh-can-image": _pandas("can", "PickPlaceCan"),
    "ankile/robomimic-mh-square-image": _pandas("square", "NutAssemblySquare"),
    "ankile/dexmg-two-arm-box-cleanup": _dexterous_pandas("box_cleanup", "TwoArmBoxCleanup"),
    "ankile/dexmg-two-arm-can-sort-random": _gr1("can_sort", "TwoArmCanSortRandom"),
    "ankile/dexmg-two-arm-coffee": _gr1("coffee", "TwoArmCoffee"),
}
"""The paper's data sets by their names on the Hub."""


def layout_of_data_set(name: str, folder: Path) -> ForeignLayout:
    """Of a LeRobotDataset: from its own mapping file, or by its name in the table.

    Args:
        name: on the Hub, or a path whose last part is the name there without the owner.

    Raises:
        DemonstrationsError: neither, or a mapping file that is wrong.
    """
    if (folder / MAPPING_FILE).is_file():
        return read_layout(folder / MAPPING_FILE)
    wanted = Path(name).name
    for known, layout in LAYOUTS.items():
        if wanted == known.partition("/")[2]:
            return layout
    raise DemonstrationsError(
        f"{folder}: expected a data set of ours (meta/resfit.json), one of {', '.join(LAYOUTS)}, "
        f"or one with {MAPPING_FILE} that says what its keys mean, found none of them"
    )


def layout_of_environment(environment: str, robots: list[str]) -> ForeignLayout | None:
    """Of an HDF5 file by the environment that it was recorded in; None for an unknown one."""
    for layout in LAYOUTS.values():
        if layout.implementation.split("/")[1:] == [environment, "+".join(robots)]:
            return layout
    return None


def read_layout(path: Path) -> ForeignLayout:
    """A layout from a YAML file.

    Its keys are the attributes of ForeignLayout: task, implementation, arms (a list of mappings
    with the attributes of ArmLayout; turn may be left out) and, where names differ, cameras (ours:
    theirs, without `observation.images.` and `_image`).

    Raises:
        DemonstrationsError: names file, key, the expected and the found.
    """
    try:
        raw = read_mapping(path)
        _require_keys(raw, {"task", "implementation", "arms"}, {"cameras"})
        arms = []
        for arm in raw["arms"]:
            _require_keys(arm, {"end_effector", "prefix", "joints"}, {"turn"})
            turn = tuple(float(value) for value in arm.get("turn", _NO_TURN))
            if len(turn) != 4 or abs(float(np.linalg.norm(turn)) - 1) > 1e-3:
                raise ValueError(f"turn: expected a unit quaternion x, y, z, w, found {turn}")
            joints = tuple(str(joint) for joint in arm["joints"])
            arms.append(ArmLayout(str(arm["end_effector"]), str(arm["prefix"]), joints, turn))
        cameras = {str(ours): str(theirs) for ours, theirs in raw.get("cameras", {}).items()}
        return ForeignLayout(str(raw["task"]), str(raw["implementation"]), tuple(arms), cameras)
    except (ValueError, TypeError, AttributeError) as error:
        text = str(error).removeprefix(f"{path}: ")
        raise DemonstrationsError(f"{path}: {text}") from None


def _require_keys(raw: dict[Any, Any], needed: set[str], optional: set[str]) -> None:
    missing, unknown = needed - set(raw), set(raw) - needed - optional
    if missing or unknown:
        raise ValueError(
            f"expected the keys {sorted(needed)} and at most {sorted(optional)} more, "
            f"found {sorted(map(str, raw))}"
        )


def to_demonstration(
    task: Task,
    layout: ForeignLayout,
    low_dim: Mapping[str, FloatArray],
    action: FloatArray,
    images: dict[str, NDArray[np.uint8]],
    image_size: tuple[int, int],
    where: str,
) -> Demonstration:
    """A foreign episode of T frames in the task's own layout.

    Args:
        low_dim: key of the layout -> (T, N). PREFIXeef_quat_site is taken where it is there.
        action: (T, A).
        images: our camera -> (T, H, W, 3).
        image_size: (height, width), pixels.
        where: file and episode, for the texts.

    Raises:
        DemonstrationsError: names episode, frame, key, the expected and the found.
    """
    named = {f"camera {camera}": len(pictures) for camera, pictures in images.items()}
    lengths = {"action": len(action)} | {key: len(v) for key, v in low_dim.items()} | named
    require_lengths(lengths, "action", where)
    for key, values in [*low_dim.items(), ("action", action)]:
        require_finite(values, key, where)
    for camera, pictures in images.items():
        require_pictures(pictures, image_size, camera, where)
    action = _nearest_turns(action, task)
    require_within_limits(action, task, where)
    return Demonstration(
        images=images,
        state=_state(task, layout, low_dim, where),
        action=action.astype(np.float32),
    )


def _state(
    task: Task, layout: ForeignLayout, low_dim: Mapping[str, FloatArray], where: str
) -> NDArray[np.float32]:
    """(T, S): see tasks.assemble_state, for all frames at once."""
    arms = {arm.end_effector: arm for arm in layout.arms}
    joints = {
        joint: low_dim[f"{arm.prefix}gripper_qpos"][:, [column]]
        for arm in layout.arms
        for column, joint in enumerate(arm.joints)
    }
    parts: list[FloatArray] = []
    for term in task.state_layout:
        if isinstance(term, PoseTerm):
            if term.end_effector not in arms:
                raise DemonstrationsError(
                    f"{where}: expected end effector {term.end_effector}, found {sorted(arms)}"
                )
            arm = arms[term.end_effector]
            quaternion = _site_quaternion(arm, low_dim, where)
            away = quaternion @ np.array(term.reference) < 0
            quaternion[away] *= -1
            parts += [low_dim[f"{arm.prefix}eef_pos"], quaternion]
        elif isinstance(term, RelativeTerm):
            raise DemonstrationsError(f"{where}: expected poses of {term.to}, found none")
        else:
            missing = [joint for joint in term.joints if joint not in joints]
            if missing:
                raise DemonstrationsError(
                    f"{where}: expected joint {missing[0]}, found {sorted(joints)}"
                )
            parts += [joints[joint] for joint in term.joints]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _site_quaternion(arm: ArmLayout, low_dim: Mapping[str, FloatArray], where: str) -> FloatArray:
    """(T, 4) x, y, z, w of the grip site."""
    site, body = f"{arm.prefix}eef_quat_site", f"{arm.prefix}eef_quat"
    key = site if site in low_dim else body
    quaternion = low_dim[key]
    bad = np.flatnonzero(np.abs(np.linalg.norm(quaternion, axis=1) - 1) > 0.01)
    if len(bad):
        raise DemonstrationsError(
            f"{where}, frame {bad[0]}: {key}: expected a unit quaternion, "
            f"found {quaternion[bad[0]].tolist()}"
        )
    turn = Rotation.from_quat(_NO_TURN if key == site else arm.turn)
    return (Rotation.from_quat(quaternion) * turn).as_quat()


def _nearest_turns(action: FloatArray, task: Task) -> FloatArray:
    """`action` with each absolute rotation vector by the whole turn nearest the limits' middle."""
    action = action.copy()
    middle = np.add(task.action_lower, task.action_upper) / 2
    for _, first in task.pose_actions:
        columns = slice(first + 3, first + 6)
        vector = action[:, columns]
        angle = np.linalg.norm(vector, axis=1, keepdims=True)
        axis = vector / np.maximum(angle, 1e-9)
        turns = np.round(((axis @ middle[columns])[:, None] - angle) / (2 * np.pi))
        action[:, columns] = np.where(angle < 1e-6, vector, axis * (angle + 2 * np.pi * turns))
    return action


def robosuite_layout(task: Task, environment: str, robots: list[str]) -> ForeignLayout | None:
    """Of a robosuite environment with one Panda that the table lacks; None for other robots."""
    if robots != ["Panda"] or get_task("can").state_layout != task.state_layout:
        return None
    return _pandas(task.name, environment)
