"""Checkpoint files: whole or refused."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from resfit_rl.episode_store.atomic_file import write_atomically

FORMAT = "resfit-learner/1"
KEEP = 2
_NAME = re.compile(r"checkpoint_(\d+)\.pt")


class CheckpointError(Exception):
    """No good checkpoint, or one of another run; names file, the expected and the found."""


def checkpoint_files(folder: Path) -> list[Path]:
    """Checkpoints in `folder`, newest (most updates) first."""
    found = [(int(m[1]), p) for p in folder.glob("*.pt") if (m := _NAME.fullmatch(p.name))]
    return [path for _, path in sorted(found, reverse=True)]


def write_checkpoint(
    folder: Path, updates: int, identity: Mapping[str, Any], state: Mapping[str, Any]
) -> Path:
    """Write checkpoint_<updates>.pt atomically and remove all but the newest two.

    Args:
        identity: plain values; a reader must expect the same.
        state: tensors and plain values, as torch.load with weights_only takes them.

    Raises:
        OSError: it could not be written; the older ones stay.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "identity": dict(identity), "state": dict(state)}, buffer)
    path = folder / f"checkpoint_{updates:09d}.pt"
    write_atomically(path, buffer.getvalue())
    for old in checkpoint_files(folder)[KEEP:]:
        old.unlink(missing_ok=True)
    return path


def read_newest_checkpoint(
    folder: Path, identity: Mapping[str, Any]
) -> tuple[Path, dict[str, Any]] | None:
    """The newest good checkpoint's path and state, on the CPU; None when there are no files.

    A damaged one is named in a warning, and the one before it is taken.

    Raises:
        CheckpointError: all are damaged, or the newest good one has another identity.
    """
    files = checkpoint_files(folder)
    problems = []
    for path in files:
        try:
            content = _read(path)
        except CheckpointError as error:
            problems.append(str(error))
            warnings.warn(f"{error}; trying the one before it", stacklevel=2)
            continue
        for key, expected in identity.items():
            found = content["identity"].get(key)
            if found != expected:
                raise CheckpointError(f"{path}: {key}: expected {expected}, found {found}")
        return path, content["state"]
    if problems:
        raise CheckpointError(
            f"expected a good checkpoint, found none: {'; '.join(problems)} "
            f"(delete {folder} to learn again from the stored episodes)"
        )
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        # torch does not verify the checksums that it writes for each entry.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"checksum of {damaged} is wrong")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise ValueError(f"format is {content['format']}, not {FORMAT}")
        return {key: content[key] for key in ("identity", "state")}
    # Damaged bytes make zipfile, pickle and torch raise nearly anything.
    except Exception as error:
        raise CheckpointError(
            f"{path}: expected a whole checkpoint, found {path.stat().st_size} bytes that are "
            f"truncated or corrupt: {error}"
        ) from error
