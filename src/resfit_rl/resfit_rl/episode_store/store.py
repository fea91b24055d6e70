"""Episodes on disk: one verifiable file each."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as safetensors_bytes

from resfit_rl.episode_store.atomic_file import remove_leftovers, write_atomically
from resfit_rl.episode_store.episode import Episode, Outcome

FORMAT = "resfit-episode/1"
_NAME = re.compile(r"episode_(\d{6,})\.safetensors")
_ARRAYS = ("state", "base_action", "executed_action", "policy_version", "stamps")
_IMAGE_PREFIX = "image/"
_PLAIN = (
    "task", "implementation", "base_policy", "episode_id", "seed", "outcome", "reward", "done",
)  # fmt: skip


class CorruptEpisodeError(Exception):
    """An episode file is truncated or altered, or is no episode; names it and what is wrong."""


@dataclass(frozen=True)
class StoredEpisode:
    """What an episode file says of itself; read from its header alone.

    Attributes:
        path: absolute.
        sha256: of metadata and arrays, as recorded in the file.
        steps: number of transitions.
        policy_versions: first and last version of the weights that acted.
    """

    path: Path
    sha256: str
    episode_id: int
    steps: int
    outcome: Outcome
    seed: int
    policy_versions: tuple[int, int]


class EpisodeStore:
    """The folder `episodes` of a run directory.

    One process writes, any number read. A file is there whole or not at all; what is damaged
    afterwards is moved aside to `episodes/corrupt` with a warning, and nothing else is lost.
    """

    def __init__(self, run_dir: Path | str) -> None:
        self.folder = Path(run_dir).absolute() / "episodes"

    def path(self, episode_id: int) -> Path:
        """Where the episode is, or would be."""
        return self.folder / f"episode_{episode_id:06d}.safetensors"

    def ids(self) -> list[int]:
        """Ids of the files that are there, ascending; their contents are not looked at."""
        return sorted(_ids(self.folder))

    def next_id(self) -> int:
        """One more than the largest id ever seen here, corrupt ones included."""
        return max([0, *_ids(self.folder), *_ids(self.folder / "corrupt")]) + 1

    def list(self) -> list[StoredEpisode]:
        """All episodes by ascending id, from their headers. Unreadable ones are moved aside."""
        found = []
        for episode_id in self.ids():
            try:
                found.append(read_header(self.path(episode_id)))
            except CorruptEpisodeError as error:
                self._move_aside(episode_id, error)
        return found

    def read(self, episode_id: int) -> Episode:
        """The episode, verified against its checksum.

        Raises:
            CorruptEpisodeError: it is damaged; the file has been moved aside.
            FileNotFoundError: there is none of that id.
        """
        try:
            return read_episode_file(self.path(episode_id))
        except CorruptEpisodeError as error:
            self._move_aside(episode_id, error)
            raise

    def write(self, episode: Episode) -> StoredEpisode:
        """Write it atomically.

        Raises:
            FileExistsError: there is one of that id already.
            OSError: it could not be written; no partial file remains. On a full disk the text
                names path, needed and free bytes.
        """
        path = self.path(episode.episode_id)
        if path.exists():
            raise FileExistsError(f"{path}: expected no episode of that id, found one")
        arrays = {name: getattr(episode, name) for name in _ARRAYS}
        arrays |= {_IMAGE_PREFIX + name: frames for name, frames in episode.images.items()}
        arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        metadata = {name: getattr(episode, name) for name in _PLAIN}
        metadata |= {
            "format": FORMAT,
            "steps": len(episode),
            "policy_versions": [int(v) for v in episode.policy_version[[0, -1]]],
        }
        text = json.dumps(metadata)
        data = safetensors_bytes(
            arrays, metadata={"resfit": text, "sha256": _checksum(text, arrays)}
        )
        write_atomically(path, data)
        return read_header(path)

    def remove_leftovers(self) -> int:
        """Remove temporary files of a killed writer; only for the one process that writes."""
        return remove_leftovers(self.folder)

    def _move_aside(self, episode_id: int, error: Exception) -> None:
        path = self.path(episode_id)
        target = self.folder / "corrupt" / path.name
        target.parent.mkdir(exist_ok=True)
        path.replace(target)
        warnings.warn(f"{error}; moved to {target}", stacklevel=3)


def read_header(path: Path) -> StoredEpisode:
    """What the header says; only the file's length is checked against it.

    Raises:
        CorruptEpisodeError: truncated, or no episode.
        FileNotFoundError: no such file.
    """
    return _stored(path, _header(path))


def read_episode_file(path: Path) -> Episode:
    """The episode in `path`, verified against its checksum. Raises as read_header does."""
    header = _header(path)
    expected = _stored(path, header).sha256
    text = header["resfit"]
    try:
        arrays = load_safetensors(path.read_bytes())
    except (SafetensorError, ValueError) as error:
        raise _corrupt(path, error) from error
    found = _checksum(text, arrays)
    if found != expected:
        raise CorruptEpisodeError(f"{path}: expected contents of sha256 {expected}, found {found}")
    metadata = json.loads(text)
    fields: dict[str, Any] = {name: metadata[name] for name in _PLAIN}
    fields |= {name: arrays[name] for name in _ARRAYS}
    fields["images"] = {
        name.removeprefix(_IMAGE_PREFIX): array
        for name, array in arrays.items()
        if name.startswith(_IMAGE_PREFIX)
    }
    return Episode(**fields)


def _header(path: Path) -> dict[str, str]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected an episode file, found none")
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _corrupt(path, error) from error


def _ids(folder: Path) -> list[int]:
    matches = (_NAME.fullmatch(path.name) for path in folder.glob("episode_*"))
    return [int(match[1]) for match in matches if match]


def _checksum(metadata: str, arrays: dict[str, np.ndarray[Any, Any]]) -> str:
    digest = hashlib.sha256(metadata.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape};".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _corrupt(path: Path, error: Exception) -> CorruptEpisodeError:
    return CorruptEpisodeError(
        f"{path}: expected a whole episode file, found {path.stat().st_size} bytes that are "
        f"truncated or corrupt: {error}"
    )


def _stored(path: Path, header: dict[str, str]) -> StoredEpisode:
    try:
        metadata = json.loads(header["resfit"])
        if metadata["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT}, found {metadata['format']}")
        first, last = metadata["policy_versions"]
        return StoredEpisode(
            path=path,
            sha256=header["sha256"],
            episode_id=metadata["episode_id"],
            steps=metadata["steps"],
            outcome=metadata["outcome"],
            seed=metadata["seed"],
            policy_versions=(first, last),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptEpisodeError(f"{path}: expected an episode's metadata: {error}") from error
