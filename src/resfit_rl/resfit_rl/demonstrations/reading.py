"""Data sets of demonstrations from a folder or the Hub, ours and others', checked as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resfit_rl.demonstrations.demonstration import (
    Demonstration,
    DemonstrationsError,
    require_sound,
)
from resfit_rl.demonstrations.features import image_key, own_features
from resfit_rl.demonstrations.foreign_layouts import (
    ForeignLayout,
    layout_of_data_set,
    to_demonstration,
)
from resfit_rl.demonstrations.hub import hub_folder, is_hub_name
from resfit_rl.demonstrations.identity import (
    DemonstrationsIdentity,
    is_own,
    read_own_identity,
)
from resfit_rl.demonstrations.lerobot_files import LeRobotFiles, StoredEpisode
from resfit_rl.tasks import Task

_STATE, _ACTION = "observation.state", "action"
_PICTURES = ("image", "video")
# What may say, of an action, that the observation after it is the task's success.
_ENDINGS = ("next.success", "next.reward", "next.done")


def load_demonstrations(
    root: Path | str,
    task: Task,
    image_size: tuple[int, int] = (84, 84),
    *,
    episodes: int | None = None,
    layout: ForeignLayout | None = None,
    allow_other_implementation: bool = False,
) -> list[Demonstration]:
    """The demonstrations at `root`, held in memory: all of them checked before any is returned.

    Args:
        root: a folder, or OWNER/NAME of a LeRobotDataset on the Hub (see hub_folder).
        image_size: (height, width) that the pictures must have, pixels.
        episodes: how many are taken (and checked), the first ones; None for all.
        layout: of a data set of others; None for what foreign_layouts says of its name.
        allow_other_implementation: take data of another implementation of the task.

    Raises:
        DemonstrationsError: no data set there (the text has the command that makes or fetches it),
            made for another task, implementation or image size, or bad data: a feature missing,
            NaN, frames that are not whole or of unequal number, an action out of limits, a picture
            of another size; by name, episode and frame.
    """
    folder = _folder(root, task)
    if is_own(folder) and layout is None:
        found = _own(folder, task, image_size)
    else:
        layout = layout or layout_of_data_set(str(root), folder)
        layout.require(task, str(root), allow_other_implementation)
        found = _foreign(folder, task, image_size, layout)
    demonstrations = list(islice(found, episodes))
    if not demonstrations:
        raise DemonstrationsError(f"{root}: expected episodes, found none")
    return demonstrations


def read_identity(root: Path | str) -> DemonstrationsIdentity:
    """Of the data set at `root`, a folder or OWNER/NAME on the Hub.

    Of one that others recorded: what its layout declares it to be, seed 0, and as its expert its
    name and a hash of its tables.

    Raises:
        DemonstrationsError: there is no data set, or nobody says what it is.
    """
    folder = _folder(root)
    if is_own(folder):
        return read_own_identity(folder)
    layout = layout_of_data_set(str(root), folder)
    files = LeRobotFiles(folder)
    sizes = [files.shape(k)[:2] for k, f in files.features.items() if f["dtype"] in _PICTURES]
    return DemonstrationsIdentity(
        task=layout.task,
        implementation=layout.implementation,
        expert=f"lerobot:{Path(root).name}:{tables_hash(folder)}",
        image_size=(sizes[0][0], sizes[0][1]) if sizes else (0, 0),
        seed=0,
        episodes=files.episode_count,
    )


def tables_hash(folder: Path) -> str:
    """Of a LeRobotDataset's states and actions."""
    digest = hashlib.sha256()
    for path in sorted((folder / "data").rglob("*.parquet")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _folder(root: Path | str, task: Task | None = None) -> Path:
    folder = Path(root)
    if folder.is_dir():
        return folder
    if is_hub_name(str(root)):
        return hub_folder(str(root))
    make = ""
    if task is not None:
        command = f"python -m resfit_rl.demonstrations --task {task.name} --out {root}"
        make = f"; make it with: {command}"
    raise DemonstrationsError(f"{root}: expected a folder of demonstrations, found none{make}")


def _own(root: Path, task: Task, image_size: tuple[int, int]) -> Iterator[Demonstration]:
    found = read_own_identity(root)
    expected = DemonstrationsIdentity(
        task=task.name,
        implementation=task.implementation,
        expert=found.expert,
        image_size=image_size,
        seed=found.seed,
        episodes=found.episodes,
    )
    found.require(expected, root)
    files = LeRobotFiles(root)
    for name, feature in own_features(task, image_size).items():
        files.require_shape(name, feature["shape"])
    vectors = {_STATE: task.state_dim, _ACTION: task.action_dim}
    count = 0
    for episode in files.episodes(vectors, [image_key(c) for c in task.cameras], image_size):
        demonstration = Demonstration(
            images={camera: episode.images[image_key(camera)] for camera in task.cameras},
            state=episode.vectors[_STATE].astype(np.float32),
            action=episode.vectors[_ACTION].astype(np.float32),
        )
        require_sound(demonstration, task, image_size, f"{root}: episode {episode.index}")
        yield demonstration
        count += 1
    if count != found.episodes:
        raise DemonstrationsError(
            f"{root}: expected episodes 0 to {found.episodes - 1}, found {count} of them"
        )


def _foreign(
    root: Path, task: Task, image_size: tuple[int, int], layout: ForeignLayout
) -> Iterator[Demonstration]:
    files = LeRobotFiles(root)
    sizes = layout.sizes()
    cameras = {camera: image_key(layout.camera(camera)) for camera in task.cameras}
    for feature in cameras.values():
        files.require_shape(feature, (*image_size, 3))
    vectors = {_STATE: sum(sizes.values()), _ACTION: task.action_dim}
    for name, size in vectors.items():
        files.require_shape(name, (size,))
    fps = float(files.info.get("fps", 0))
    if fps != task.control_frequency:
        raise DemonstrationsError(
            f"{root}: fps: expected {task.control_frequency:g}, found {fps:g}"
        )
    endings = {name: 1 for name in _ENDINGS if name in files.features}
    for episode in files.episodes(vectors | endings, list(cameras.values()), image_size):
        where = f"{root}: episode {episode.index}"
        length = _length(episode, where)
        starts = np.cumsum([0, *sizes.values()])
        state = episode.vectors[_STATE][:length]
        yield to_demonstration(
            task,
            layout,
            {key: state[:, a : a + n] for (key, n), a in zip(sizes.items(), starts, strict=False)},
            episode.vectors[_ACTION][:length],
            {camera: episode.images[key][:length] for camera, key in cameras.items()},
            image_size,
            where,
        )


def _length(episode: StoredEpisode, where: str) -> int:
    """Frames up to the first success."""
    total = len(episode.vectors[_ACTION])
    present = [name for name in _ENDINGS if name in episode.vectors]
    for name in present:
        length = frames_to_success(episode.vectors[name][:, 0])
        if length is not None:
            return length
    if present:
        raise DemonstrationsError(
            f"{where}: {' or '.join(present)}: expected a success (1) in a demonstration, "
            f"found none in {total} frames"
        )
    return total


def frames_to_success(signal: NDArray[np.float64]) -> int | None:
    """How many frames go up to the first success; None without one.

    Args:
        signal: (T,), 1 where the observation after this frame's action is a success. After the last
            frame there is no observation: a success there makes that frame itself the last one,
            one control step early.
    """
    successes = np.flatnonzero(signal > 1 - 1e-6)
    return None if not len(successes) else min(int(successes[0]) + 2, len(signal))
