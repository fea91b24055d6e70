"""Demonstrations to a LeRobotDataset (v3) of ours."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resfit_rl.demonstrations.demonstration import (
    Demonstration,
    DemonstrationsError,
    require_sound,
)
from resfit_rl.demonstrations.features import image_key, own_features
from resfit_rl.demonstrations.identity import IDENTITY_FILE, DemonstrationsIdentity
from resfit_rl.episode_store.atomic_file import write_atomically
from resfit_rl.tasks import Task

# Read by the library when it is imported: no look-up on the network, whatever the environment.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def partial_folder(root: Path) -> Path:
    """Where what becomes the data set `root` is kept until it is whole."""
    return root.with_name(f".{root.name}.incomplete")


def write_demonstrations(
    root: Path,
    task: Task,
    identity: DemonstrationsIdentity,
    demonstrations: Iterable[Demonstration],
) -> None:
    """Write a data set beside `root` and rename it when it is whole; `root` must not exist.

    Raises:
        DemonstrationsError: a demonstration that the reader would refuse, fewer or more of them
            than the identity says, or a folder that cannot be written (a full disk). There is no
            data set then.
    """
    partial = partial_folder(root)
    written = partial / "dataset"
    try:
        shutil.rmtree(written, ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=True)
        count = _write(written, task, identity, demonstrations)
        if count != identity.episodes:
            raise DemonstrationsError(f"{root}: expected {identity.episodes} episodes, got {count}")
        write_atomically(written / IDENTITY_FILE, json.dumps(asdict(identity), indent=2).encode())
        os.replace(written, root)
    except OSError as error:
        free = shutil.disk_usage(root.absolute().parent if partial.exists() else Path.cwd()).free
        raise DemonstrationsError(
            f"{root}: expected to write a data set, found {error} ({free / 1e6:.0f} MB free)"
        ) from error
    finally:
        shutil.rmtree(written, ignore_errors=True)
        if partial.is_dir() and not any(partial.iterdir()):
            partial.rmdir()


def _write(
    root: Path,
    task: Task,
    identity: DemonstrationsIdentity,
    demonstrations: Iterable[Demonstration],
) -> int:
    """Returns how many were written."""
    import datasets
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    # Its bars would run through the progress lines; its warnings are on video codecs, not used.
    datasets.disable_progress_bars()
    logging.getLogger("lerobot").setLevel(logging.ERROR)
    dataset = LeRobotDataset.create(
        f"resfit/{task.name}",
        fps=int(task.control_frequency),
        features=own_features(task, identity.image_size),
        root=root,
        robot_type=task.implementation.rpartition("/")[2],
        use_videos=False,
        image_writer_threads=2,
    )
    try:
        count = _add(dataset, task, identity, demonstrations)
    finally:
        # Otherwise done when the object is dropped, maybe after its folder is removed.
        dataset.finalize()
    shutil.rmtree(root / "images", ignore_errors=True)
    return count


def _add(
    dataset: Any,
    task: Task,
    identity: DemonstrationsIdentity,
    demonstrations: Iterable[Demonstration],
) -> int:
    """To a LeRobotDataset; returns how many."""
    count = 0
    for demonstration in demonstrations:
        require_sound(demonstration, task, identity.image_size, f"{task.name}: episode {count}")
        for step in range(len(demonstration.action)):
            frame: dict[str, Any] = {
                image_key(camera): images[step] for camera, images in demonstration.images.items()
            }
            frame |= {
                "observation.state": demonstration.state[step],
                "action": demonstration.action[step],
                "task": task.name,
            }
            dataset.add_frame(frame)
        dataset.save_episode()
        count += 1
    return count
