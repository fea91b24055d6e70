"""Demonstrations to a LeRobotDataset (v3) and back."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from resfit_rl.episode_store.atomic_file import write_atomically
from resfit_rl.tasks import Task

# Read by the library when it is imported: no look-up on the network, whatever the environment.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

_IDENTITY = Path("meta", "resfit.json")


class DemonstrationsError(ValueError):
    """Demonstrations are missing or bad; names the thing, the expected and the found."""


@dataclass(frozen=True, eq=False)
class Demonstration:
    """A successful episode of T frames; the last one is the first success.

    Attributes:
        images: camera -> (T, H, W, 3) uint8 RGB.
        state: (T, S) float32.
        action: (T, A) float32, robot units; the last row is what the expert would do next.
    """

    images: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    action: NDArray[np.float32]


@dataclass(frozen=True)
class DemonstrationsIdentity:
    """What a data set was made from; two of the same identity hold the same data.

    Attributes:
        task: name.
        implementation: of the task.
        expert: identity of the policy that acted.
        image_size: (height, width), pixels.
        seed: of the first episode tried; the next ones count up.
        episodes: successful ones.
    """

    task: str
    implementation: str
    expert: str
    image_size: tuple[int, int]
    seed: int
    episodes: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", tuple(self.image_size))

    def require(self, expected: DemonstrationsIdentity, root: Path) -> None:
        """DemonstrationsError naming each field that is not as expected."""
        theirs = asdict(self)
        wrong = [
            f"{name} {value}, found {theirs[name]}"
            for name, value in asdict(expected).items()
            if theirs[name] != value
        ]
        if wrong:
            raise DemonstrationsError(f"{root}: expected {'; '.join(wrong)}")


def read_identity(root: Path) -> DemonstrationsIdentity:
    """Of the data set at `root`; DemonstrationsError when it has none that can be read."""
    path = root / _IDENTITY
    try:
        return DemonstrationsIdentity(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DemonstrationsError(
            f"{path}: expected the identity of a resfit data set, found {error}"
        ) from None


def write_demonstrations(
    root: Path,
    task: Task,
    identity: DemonstrationsIdentity,
    demonstrations: Iterable[Demonstration],
) -> None:
    """Write a data set beside `root` and rename it when it is whole; `root` must not exist."""
    import datasets
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    # Its bars would run through the progress lines; its warnings are on video codecs, not used.
    datasets.disable_progress_bars()
    logging.getLogger("lerobot").setLevel(logging.ERROR)
    partial = root.with_name(f".{root.name}.incomplete")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    dataset = LeRobotDataset.create(
        f"resfit/{task.name}",
        fps=int(task.control_frequency),
        features=_features(task, identity.image_size),
        root=partial,
        robot_type=task.implementation.rpartition("/")[2],
        use_videos=False,
        image_writer_threads=2,
    )
    for demonstration in demonstrations:
        for step in range(len(demonstration.action)):
            frame: dict[str, Any] = {
                _image_key(camera): images[step] for camera, images in demonstration.images.items()
            }
            frame |= {
                "observation.state": demonstration.state[step],
                "action": demonstration.action[step],
                "task": task.name,
            }
            dataset.add_frame(frame)
        dataset.save_episode()
    dataset.finalize()
    shutil.rmtree(partial / "images", ignore_errors=True)
    write_atomically(partial / _IDENTITY, json.dumps(asdict(identity), indent=2).encode())
    os.replace(partial, root)


def load_demonstrations(
    root: Path | str, task: Task, image_size: tuple[int, int] = (84, 84)
) -> list[Demonstration]:
    """All demonstrations at `root`, held in memory.

    Raises:
        DemonstrationsError: no data set there (the text has the command that makes it), made for
            another task, implementation or image size, a feature missing, or data that is not
            finite, not whole or not a picture, by episode and frame.
    """
    root = Path(root)
    if not root.is_dir():
        raise DemonstrationsError(
            f"{root}: expected a folder of demonstrations, found none; make it with: "
            f"python -m resfit_rl.demonstrations --task {task.name} --out {root}"
        )
    found = read_identity(root)
    expected = DemonstrationsIdentity(
        task=task.name,
        implementation=task.implementation,
        expert=found.expert,
        image_size=image_size,
        seed=found.seed,
        episodes=found.episodes,
    )
    found.require(expected, root)
    table = _table(root, task, image_size)
    episode_of_row = np.asarray(table["episode_index"])
    frame_of_row = np.asarray(table["frame_index"])
    vectors = {
        name: _vectors(root, table[name], name, size, episode_of_row, frame_of_row)
        for name, size in (("observation.state", task.state_dim), ("action", task.action_dim))
    }
    pictures = {camera: table[_image_key(camera)] for camera in task.cameras}
    episodes = np.unique(episode_of_row)
    if episodes.tolist() != list(range(found.episodes)):
        raise DemonstrationsError(
            f"{root}: expected episodes 0 to {found.episodes - 1}, found {episodes.tolist()}"
        )
    demonstrations = []
    for episode in episodes:
        rows = np.flatnonzero(episode_of_row == episode)
        if frame_of_row[rows].tolist() != list(range(len(rows))):
            raise DemonstrationsError(
                f"{root}: episode {episode}: expected frames 0 to {len(rows) - 1} in order, "
                f"found {frame_of_row[rows].tolist()}"
            )
        demonstrations.append(
            Demonstration(
                images={
                    camera: np.stack(
                        [
                            _picture(
                                column[int(row)],
                                image_size,
                                f"{root}: episode {episode}, frame {frame}: camera {camera}",
                            )
                            for frame, row in enumerate(rows)
                        ]
                    )
                    for camera, column in pictures.items()
                },
                state=vectors["observation.state"][rows],
                action=vectors["action"][rows],
            )
        )
    return demonstrations


def _features(task: Task, image_size: tuple[int, int]) -> dict[str, dict[str, Any]]:
    state_names = [f"state_{i}" for i in range(task.state_dim)]
    features: dict[str, dict[str, Any]] = {
        _image_key(camera): {
            "dtype": "image",
            "shape": (*image_size, 3),
            "names": ["height", "width", "channel"],
        }
        for camera in task.cameras
    }
    features["observation.state"] = {
        "dtype": "float32",
        "shape": (task.state_dim,),
        "names": state_names,
    }
    features["action"] = {
        "dtype": "float32",
        "shape": (task.action_dim,),
        "names": list(task.action_names),
    }
    return features


def _image_key(camera: str) -> str:
    return f"observation.images.{camera}"


def _table(root: Path, task: Task, image_size: tuple[int, int]) -> dict[str, list[Any]]:
    """Columns as lists of plain Python values."""
    # Read without LeRobotDataset, which first copies the data into a cache of its own.
    try:
        features = json.loads((root / "meta" / "info.json").read_text())["features"]
        table = parquet.read_table(root / "data")
    except (OSError, ValueError, KeyError) as error:
        raise DemonstrationsError(f"{root}: expected a LeRobotDataset, found {error}") from error
    for name, feature in _features(task, image_size).items():
        if name not in features or name not in table.column_names:
            raise DemonstrationsError(f"{root}: expected {name}, found {table.column_names}")
        shape = tuple(features[name]["shape"])
        if shape != feature["shape"]:
            raise DemonstrationsError(
                f"{root}: {name}: expected shape {feature['shape']}, found {shape}"
            )
    return table.to_pydict()


def _vectors(
    root: Path,
    column: list[list[float]],
    name: str,
    size: int,
    episodes: NDArray[np.int64],
    frames: NDArray[np.int64],
) -> NDArray[np.float32]:
    for row, values in enumerate(column):
        # A null counts as NaN.
        if len(values) != size or not np.isfinite(np.array(values, np.float64)).all():
            raise DemonstrationsError(
                f"{root}: episode {episodes[row]}, frame {frames[row]}: {name}: "
                f"expected {size} finite values, found {values}"
            )
    return np.array(column, np.float32)


def _picture(entry: Any, image_size: tuple[int, int], what: str) -> NDArray[np.uint8]:
    try:
        image = np.asarray(Image.open(io.BytesIO(entry["bytes"])))
    except (OSError, TypeError) as error:
        raise DemonstrationsError(f"{what}: expected a PNG image, found {error}") from None
    if image.shape != (*image_size, 3) or image.dtype != np.uint8:
        raise DemonstrationsError(
            f"{what}: expected {(*image_size, 3)} uint8, found {image.shape} {image.dtype}"
        )
    return image
