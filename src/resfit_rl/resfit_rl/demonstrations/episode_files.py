"""Recorded episodes on disk while a data set is not whole yet: one file each."""

from __future__ import annotations

import io
import json
import sys
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from resfit_rl.demonstrations.demonstration import Demonstration, DemonstrationsError
from resfit_rl.demonstrations.identity import DemonstrationsIdentity
from resfit_rl.episode_store.atomic_file import remove_leftovers, write_atomically
from resfit_rl.tasks import Task


@dataclass(frozen=True)
class Attempt:
    """One episode that the expert tried.

    Attributes:
        steps: of the recorded episode; None when the expert failed.
        kept: whether it was on disk from before.
    """

    seed: int
    steps: int | None
    kept: bool = False


class EpisodeFiles:
    """The episodes that one recording has made, by the seed of their start.

    Args:
        folder: of this recording; made if need be.
        identity: of the data set that is wanted; its number of episodes does not matter.

    Raises:
        DemonstrationsError: the folder holds a recording of another identity.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, task: Task, identity: DemonstrationsIdentity) -> None:
        self.folder = folder / "episodes"
        self._cameras = task.cameras
        self.folder.mkdir(parents=True, exist_ok=True)
        made_from = {k: v for k, v in asdict(identity).items() if k != "episodes"}
        made_from["image_size"] = list(identity.image_size)
        path = folder / "recording.json"
        if not path.exists():
            write_atomically(path, json.dumps(made_from, indent=2).encode())
        try:
            found = json.loads(path.read_text())
            wrong = [f"{k} {v}, found {found[k]}" for k, v in made_from.items() if found[k] != v]
        except (ValueError, KeyError, TypeError) as error:
            raise DemonstrationsError(
                f"{path}: expected what the recording is made from, found {error!r}; "
                f"remove {folder} to begin anew"
            ) from None
        if wrong:
            raise DemonstrationsError(
                f"{path}: expected {'; '.join(wrong)}: an unfinished recording is there; go on "
                f"with its arguments, record to another folder, or remove {folder}"
            )

    def kept(self) -> dict[int, Attempt]:
        """Seed -> attempt of all that is on disk and whole; what is damaged is removed, with a
        warning, and so recorded again. Only while nobody writes."""
        remove_leftovers(self.folder)
        attempts = {}
        for path in sorted(self.folder.glob("seed_*")):
            seed = int(path.stem.removeprefix("seed_"))
            if path.suffix == ".failed":
                attempts[seed] = Attempt(seed, None, kept=True)
                continue
            try:
                attempts[seed] = Attempt(seed, len(self.read(seed).action), kept=True)
            except DemonstrationsError as error:
                print(f"demonstrations: warning: {error}; recorded again", file=sys.stderr)
                path.unlink()
        return attempts

    def write(self, seed: int, demonstration: Demonstration | None) -> Attempt:
        """Keep an episode, or that the expert failed (None).

        Raises:
            OSError: it could not be written; on a full disk the text names needed and free bytes.
        """
        if demonstration is None:
            write_atomically(self._path(seed, "failed"), b"")
            return Attempt(seed, None)
        buffer = io.BytesIO()
        arrays = {f"camera_{name}": images for name, images in demonstration.images.items()}
        np.savez_compressed(
            buffer, allow_pickle=False, state=demonstration.state, action=demonstration.action,
            **arrays,
        )  # fmt: skip
        write_atomically(self._path(seed, "npz"), buffer.getvalue())
        return Attempt(seed, len(demonstration.action))

    def read(self, seed: int) -> Demonstration:
        """DemonstrationsError when the file is not whole."""
        path = self._path(seed, "npz")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return Demonstration(
                    images={name: arrays[f"camera_{name}"] for name in self._cameras},
                    state=arrays["state"],
                    action=arrays["action"],
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DemonstrationsError(
                f"{path}: expected a whole episode, found {path.stat().st_size} bytes that are "
                f"truncated or corrupt: {error}"
            ) from None

    def _path(self, seed: int, kind: str) -> Path:
        return self.folder / f"seed_{seed:09d}.{kind}"
