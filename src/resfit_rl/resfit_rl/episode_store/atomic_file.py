"""Files that are either the old one or the whole new one, whatever happens meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

_TEMPORARY = ".tmp"


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader or a crash sees the old file or the whole new one.

    Raises:
        OSError: it could not be written; nothing is left behind. On a full disk the text names
            path, needed and free bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=_TEMPORARY
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(path.parent).free
            raise OSError(
                error.errno, f"disk full: expected {len(data)} bytes of space, found {free}", path
            ) from None
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def remove_leftovers(folder: Path) -> int:
    """Remove what killed writers left in `folder`; returns how many. Only for its one writer."""
    leftovers = list(folder.glob(f".*{_TEMPORARY}"))
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)
