"""The files of a LeRobotDataset, episode by episode: layouts v3 and v2.1, pictures or videos.

Read without LeRobotDataset, which copies the data into a cache of its own first, and takes v3 only.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray
from PIL import Image
from pyarrow import compute, parquet

from resfit_rl.demonstrations.demonstration import DemonstrationsError

_INDICES = ("episode_index", "frame_index")


@dataclass(frozen=True, eq=False)
class StoredEpisode:
    """T frames as the data set has them.

    Attributes:
        vectors: feature -> (T, N) float64; of a feature without shape (T, 1).
        images: feature -> (T, H, W, 3) uint8 RGB.
    """

    index: int
    vectors: dict[str, NDArray[np.float64]]
    images: dict[str, NDArray[np.uint8]]


class LeRobotFiles:
    """A LeRobotDataset in a folder.

    Raises:
        DemonstrationsError: no meta/info.json there that can be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        path = root / "meta" / "info.json"
        try:
            self.info: dict[str, Any] = json.loads(path.read_text())
            self.features: dict[str, dict[str, Any]] = self.info["features"]
            self._version = float(str(self.info["codebase_version"]).removeprefix("v"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DemonstrationsError(
                f"{path}: expected a LeRobotDataset's description, found {error!r}"
            ) from None
        if not 2 <= self._version < 4:
            raise DemonstrationsError(
                f"{path}: expected layout v2.x or v3.x, found {self._version}"
            )

    @property
    def episode_count(self) -> int:
        """As meta/info.json says."""
        return int(self.info.get("total_episodes", 0))

    def shape(self, feature: str) -> tuple[int, ...]:
        """Of one frame; of a picture (H, W, 3), also where the data set has the channels first."""
        shape = tuple(self.features[feature]["shape"])
        names = self.features[feature].get("names")
        if len(shape) == 3 and isinstance(names, list) and str(names[0]).startswith("channel"):
            return (*shape[1:], shape[0])
        return shape

    def require_shape(self, feature: str, shape: tuple[int, ...]) -> None:
        """DemonstrationsError unless the data set has the feature, of this shape."""
        if feature not in self.features:
            raise DemonstrationsError(
                f"{self.root}: expected {feature}, found {sorted(self.features)}"
            )
        found = self.shape(feature)
        if found != shape:
            raise DemonstrationsError(
                f"{self.root}: {feature}: expected shape {shape}, found {found}"
            )

    def episodes(
        self, vectors: dict[str, int], images: list[str], image_size: tuple[int, int]
    ) -> Iterator[StoredEpisode]:
        """All episodes in order, from 0.

        Args:
            vectors: features of numbers, and how many numbers.
            images: features of pictures.
            image_size: (height, width) that all pictures must have, pixels.

        Raises:
            DemonstrationsError: names feature, episode, frame, the expected and the found.
        """
        stored = [name for name in images if self.features[name]["dtype"] != "video"]
        for expected, table in zip(count(), self._tables([*vectors, *stored])):
            index = int(table["episode_index"][0].as_py())
            where = f"{self.root}: episode {index}"
            if index != expected:
                raise DemonstrationsError(
                    f"{self.root}: expected episode {expected} after {expected - 1}, found {index}"
                )
            frames = table["frame_index"].to_pylist()
            if frames != list(range(len(frames))):
                raise DemonstrationsError(
                    f"{where}: expected frames 0 to {len(frames) - 1} in order, found {frames}"
                )
            yield StoredEpisode(
                index=index,
                vectors={
                    name: _vectors(table[name], size, name, where) for name, size in vectors.items()
                },
                images={
                    name: (
                        _pictures(table[name], image_size, name, where)
                        if name in stored
                        else self._video(name, index, len(frames), image_size, where)
                    )
                    for name in images
                },
            )

    def _tables(self, columns: list[str]) -> Iterator[pyarrow.Table]:
        """One table of each episode."""
        kept: pyarrow.Table | None = None
        paths = sorted((self.root / "data").rglob("*.parquet"))
        if not paths:
            raise DemonstrationsError(f"{self.root}/data: expected parquet files, found none")
        for path in paths:
            table = self._read(path, [*_INDICES, *columns])
            if kept is not None:
                table = pyarrow.concat_tables([kept, table], promote_options="permissive")
            if not len(table):
                continue
            episode = table["episode_index"].to_numpy()
            starts = [0, *(np.flatnonzero(np.diff(episode)) + 1).tolist()]
            for start, end in pairwise(starts):
                yield table.slice(start, end - start)
            # It may go on in the next file.
            kept = table.slice(starts[-1])
        if kept is not None:
            yield kept

    def _read(self, path: Path, columns: list[str]) -> pyarrow.Table:
        try:
            found = parquet.read_schema(path).names
            missing = [name for name in columns if name not in found]
            if missing:
                raise DemonstrationsError(f"{path}: expected {missing[0]}, found {found}")
            # As one file: as a data set of files, folder names would become columns.
            return parquet.ParquetFile(path).read(columns)
        except (OSError, pyarrow.ArrowException) as error:
            raise DemonstrationsError(
                f"{path}: expected a LeRobotDataset's table, found {error}"
            ) from None

    def _video(
        self, feature: str, index: int, length: int, image_size: tuple[int, int], where: str
    ) -> NDArray[np.uint8]:
        path, start = self._video_place(feature, index)
        what = f"{where}: {feature}"
        if not path.is_file():
            raise DemonstrationsError(f"{what}: expected the video {path}, found no such file")
        frames = _decoded(path, start, length, float(self.info["fps"]), image_size, what)
        if len(frames) != length:
            raise DemonstrationsError(
                f"{where}, frame {len(frames)}: {feature}: expected {length} pictures in {path}, "
                f"found {len(frames)}"
            )
        return np.stack(frames)

    def _video_place(self, feature: str, index: int) -> tuple[Path, float]:
        """File of an episode's video, and second of its first frame in there."""
        template = str(self.info["video_path"])
        if self._version < 3:
            chunk = index // int(self.info.get("chunks_size", 1000))
            name = template.format(episode_chunk=chunk, video_key=feature, episode_index=index)
            return self.root / name, 0.0
        place = self._video_places()
        try:
            row = place["episode_index"].index(index)
            chunk, file, start = (
                place[f"videos/{feature}/{key}"][row]
                for key in ("chunk_index", "file_index", "from_timestamp")
            )
        except (KeyError, ValueError):
            raise DemonstrationsError(
                f"{self.root}/meta/episodes: expected the place of {feature} of episode {index}, "
                "found none"
            ) from None
        name = template.format(video_key=feature, chunk_index=chunk, file_index=file)
        return self.root / name, float(start)

    def _video_places(self) -> dict[str, list[Any]]:
        if not hasattr(self, "_places"):
            self._places: dict[str, list[Any]] = {}
            for path in sorted((self.root / "meta" / "episodes").rglob("*.parquet")):
                table = parquet.ParquetFile(path).read()
                for name in table.column_names:
                    if name == "episode_index" or name.startswith("videos/"):
                        self._places.setdefault(name, []).extend(table[name].to_pylist())
        return self._places


def _vectors(column: pyarrow.ChunkedArray, size: int, name: str, where: str) -> NDArray[np.float64]:
    """(T, size); a null becomes NaN."""
    array = column.combine_chunks()
    kind = array.type
    try:
        if not (pyarrow.types.is_list(kind) or pyarrow.types.is_fixed_size_list(kind)):
            return array.cast(pyarrow.float64()).to_numpy(zero_copy_only=False).reshape(-1, 1)
        lengths = compute.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        bad = np.flatnonzero(lengths != size)
        if len(bad):
            raise DemonstrationsError(
                f"{where}, frame {bad[0]}: {name}: expected {size} finite values, "
                f"found {array[int(bad[0])].as_py()}"
            )
        values = array.flatten().cast(pyarrow.float64())
    except (pyarrow.ArrowException, NotImplementedError) as error:
        raise DemonstrationsError(
            f"{where}: {name}: expected numbers, found {kind}: {error}"
        ) from None
    return values.to_numpy(zero_copy_only=False).reshape(-1, size)


def _pictures(
    column: pyarrow.ChunkedArray, image_size: tuple[int, int], name: str, where: str
) -> NDArray[np.uint8]:
    camera = name.removeprefix("observation.images.")
    return np.stack(
        [
            _picture(entry.as_py(), image_size, f"{where}, frame {frame}: camera {camera}")
            for frame, entry in enumerate(column)
        ]
    )


def _picture(entry: Any, image_size: tuple[int, int], what: str) -> NDArray[np.uint8]:
    try:
        image = np.asarray(Image.open(io.BytesIO(entry["bytes"])))
    except (OSError, TypeError, KeyError) as error:
        raise DemonstrationsError(f"{what}: expected a PNG image, found {error}") from None
    _require_picture(image, image_size, what)
    return image


def _decoded(
    path: Path,
    start: float,
    length: int,
    fps: float,
    image_size: tuple[int, int],
    what: str,
) -> list[NDArray[np.uint8]]:
    """Up to `length` frames from second `start` on; fewer when the video has fewer."""
    import av

    frames: list[NDArray[np.uint8]] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if start > 0 and stream.time_base is not None:
                container.seek(round(start / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                place = round(((frame.time or 0.0) - start) * fps)
                if place < len(frames):
                    continue
                if place != len(frames) or place >= length:
                    break
                frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
                _require_picture(frames[-1], image_size, f"{what}, frame {place}")
    except (OSError, IndexError, av.error.FFmpegError) as error:
        raise DemonstrationsError(f"{what}: expected a video in {path}, found {error}") from None
    return frames


def _require_picture(image: NDArray[Any], image_size: tuple[int, int], what: str) -> None:
    if image.shape != (*image_size, 3) or image.dtype != np.uint8:
        raise DemonstrationsError(
            f"{what}: expected {(*image_size, 3)} uint8, found {image.shape} {image.dtype}"
        )
