"""Robomimic's and DexMimicGen's HDF5 files of demonstrations with pictures."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from resfit_rl.demonstrations.demonstration import (
    Demonstration,
    DemonstrationsError,
    require_lengths,
)
from resfit_rl.demonstrations.foreign_layouts import (
    ForeignLayout,
    layout_of_environment,
    robosuite_layout,
    to_demonstration,
)
from resfit_rl.demonstrations.reading import frames_to_success
from resfit_rl.tasks import Task

_DELTAS = [0.05, 0.05, 0.05, 0.5, 0.5, 0.5]  # m and rad that an action of 1 asks of OSC_POSE


class HDF5Demonstrations:
    """A file of demonstrations for `task`: data/demo_N/{actions, rewards, obs/KEY}.

    Opening it looks at every demonstration's keys, shapes and types; reading looks at the values.

    Args:
        image_size: (height, width) that the pictures must have, pixels.
        episodes: how many demonstrations are taken, the first ones; None for all.
        layout: of the keys; None for what foreign_layouts says of the file's environment.
        allow_other_implementation: take data of another implementation of the task.

    Raises:
        DemonstrationsError: names file, demonstration, frame, key, the expected and the found.
    """

    def __init__(
        self,
        path: Path,
        task: Task,
        image_size: tuple[int, int],
        *,
        episodes: int | None = None,
        layout: ForeignLayout | None = None,
        allow_other_implementation: bool = False,
    ) -> None:
        self._path, self._task, self._image_size = path, task, image_size
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise DemonstrationsError(f"{path}: expected an HDF5 file, found: {error}") from None
        self._layout = layout or self._layout_of_file()
        self._layout.require(task, str(path), allow_other_implementation)
        self._keys = {
            f"camera {camera}": f"obs/{self._layout.camera(camera)}_image"
            for camera in task.cameras
        }
        data = self._group("data")
        names = sorted((name for name in data if name.startswith("demo")), key=_number)[:episodes]
        if not names:
            raise DemonstrationsError(
                f"{path}: data: expected groups demo_0, demo_1, ..., found {list(data)[:5]}"
            )
        self._lengths: dict[str, int] = {}
        self.without_success: list[str] = []
        for name in names:
            length = self._checked_length(name)
            if length is None:
                self.without_success.append(name)
            else:
                self._lengths[name] = length

    def __len__(self) -> int:
        """How many demonstrations are read: those that end in success."""
        return len(self._lengths)

    @property
    def implementation(self) -> str:
        """Of the task that the file's data stands for."""
        return self._layout.implementation

    def read(self) -> Iterator[tuple[str, Demonstration]]:
        """(name, demonstration), each up to its first success."""
        for name, length in self._lengths.items():
            where = f"{self._path}: {name}"
            try:
                yield name, self._demonstration(name, length, where)
            except OSError as error:
                raise DemonstrationsError(f"{where}: expected whole data, found {error}") from None

    def close(self) -> None:
        self._file.close()

    def _demonstration(self, name: str, length: int, where: str) -> Demonstration:
        group = self._file[f"data/{name}"]
        low_dim = {
            key: np.asarray(group[f"obs/{key}"][:length], np.float64)
            for key in self._low_dim(group)
        }
        return to_demonstration(
            self._task,
            self._layout,
            low_dim,
            np.asarray(group["actions"][:length], np.float64),
            {c: group[self._keys[f"camera {c}"]][:length] for c in self._task.cameras},
            self._image_size,
            where,
        )

    def _low_dim(self, group: h5py.Group) -> dict[str, int]:
        """Key -> numbers of the state's sources; with the site's orientation where it is there."""
        sizes = self._layout.sizes()
        sites = {f"{arm.prefix}eef_quat_site": 4 for arm in self._layout.arms}
        return sizes | {key: size for key, size in sites.items() if f"obs/{key}" in group}

    def _checked_length(self, name: str) -> int | None:
        """Frames up to the first success; None without one."""
        group, where = self._group(f"data/{name}"), f"{self._path}: {name}"
        low_dim = {f"obs/{key}": size for key, size in self._low_dim(group).items()}
        shapes: dict[str, tuple[int, ...]] = {"actions": (self._task.action_dim,)}
        shapes |= {key: (size,) for key, size in low_dim.items()}
        shapes |= {key: (*self._image_size, 3) for key in self._keys.values()}
        lengths = {}
        for key, shape in shapes.items():
            if key not in group:
                raise DemonstrationsError(f"{where}: expected {key}, found {_keys_of(group)}")
            lengths[key] = self._checked_shape(group[key], shape, key, where)
        for key in ("rewards", "dones"):
            if key in group:
                lengths[key] = len(group[key])
        if "num_samples" in group.attrs:
            lengths["num_samples"] = int(group.attrs["num_samples"])
        require_lengths(lengths, "actions", where)
        if "rewards" in group:
            return frames_to_success(np.asarray(group["rewards"], np.float64))
        if "dones" in group:
            return frames_to_success(np.asarray(group["dones"], np.float64))
        return lengths["actions"]

    def _checked_shape(self, found: Any, shape: tuple[int, ...], key: str, where: str) -> int:
        """Length of the array `found`, whose frames must have `shape`."""
        pictures = len(shape) == 3
        if not isinstance(found, h5py.Dataset) or found.shape[1:] != shape:
            raise DemonstrationsError(
                f"{where}, frame 0: {key}: expected {shape}, "
                f"found {getattr(found, 'shape', (found,))[1:]}"
            )
        if pictures and found.dtype != np.uint8:
            raise DemonstrationsError(f"{where}: {key}: expected uint8, found {found.dtype}")
        if not pictures and found.dtype.kind not in "fiu":
            raise DemonstrationsError(f"{where}: {key}: expected numbers, found {found.dtype}")
        return len(found)

    def _layout_of_file(self) -> ForeignLayout:
        arguments = self._environment_arguments()
        environment = str(arguments.get("env_name"))
        made_with = arguments.get("env_kwargs") or {}
        robots = made_with.get("robots", [])
        robots = [robots] if isinstance(robots, str) else list(robots)
        layout = layout_of_environment(environment, robots)
        layout = layout or robosuite_layout(self._task, environment, robots)
        if layout is None:
            raise DemonstrationsError(
                f"{self._path}: env_args: expected an environment whose keys are known, found "
                f"{environment} with {'+'.join(robots) or 'no robots'}; say what they are with "
                "--mapping"
            )
        frequency = made_with.get("control_freq", self._task.control_frequency)
        if frequency != self._task.control_frequency:
            raise DemonstrationsError(
                f"{self._path}: env_args: control_freq: expected "
                f"{self._task.control_frequency:g}, found {frequency}"
            )
        if layout.implementation.startswith("robosuite"):
            self._require_delta_poses(made_with.get("controller_configs") or {})
        return layout

    def _require_delta_poses(self, controller: dict[str, Any]) -> None:
        """That actions are what our Pandas take; robosuite 1.5 nests the arm's controller."""
        arm = (controller.get("body_parts") or {}).get("right", controller)
        found = {
            "type": arm.get("type", "OSC_POSE"),
            "input_type": arm.get("input_type", "delta"),
            "control_delta": arm.get("control_delta", True),
            "output_max": np.broadcast_to(arm.get("output_max", _DELTAS), 6).tolist(),
        }
        wanted = {
            "type": "OSC_POSE",
            "input_type": "delta",
            "control_delta": True,
            "output_max": _DELTAS,
        }
        for key, expected in wanted.items():
            if found[key] != expected:
                raise DemonstrationsError(
                    f"{self._path}: env_args: controller_configs: {key}: expected {expected}, "
                    f"found {found[key]}"
                )

    def _environment_arguments(self) -> dict[str, Any]:
        attributes = self._group("data").attrs
        try:
            arguments = json.loads(attributes["env_args"])
            if not isinstance(arguments, dict):
                raise ValueError(f"a {type(arguments).__name__}")
            return arguments
        except (KeyError, ValueError, TypeError) as error:
            raise DemonstrationsError(
                f"{self._path}: data: expected the attribute env_args with the environment, "
                f"found {error!r} among {list(attributes)}"
            ) from None

    def _group(self, name: str) -> h5py.Group:
        group = self._file.get(name)
        if not isinstance(group, h5py.Group):
            raise DemonstrationsError(
                f"{self._path}: expected the group {name}, found {_keys_of(self._file)}"
            )
        return group


def file_hash(path: Path) -> str:
    """Of the whole file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _keys_of(group: h5py.Group) -> list[str]:
    keys = list(group)
    return keys + [f"obs/{key}" for key in group["obs"]] if "obs" in keys else keys


def _number(name: str) -> tuple[int, str]:
    digits = re.sub(r"\D", "", name)
    return (int(digits) if digits else -1, name)
