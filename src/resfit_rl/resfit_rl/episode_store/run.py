"""Identity of a run directory, and the one process that may play a role in it."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import IO

from resfit_rl.episode_store.atomic_file import write_atomically


class RunError(ValueError):
    """The run directory is another run's or in use; names it, the expected and the found."""


def open_run(run_dir: Path | str, task: str, implementation: str, base_policy: str) -> Path:
    """Make `run_dir` this run's, or check that it is.

    Args:
        task, implementation: see resfit_rl.tasks.Task.
        base_policy: identity of the base policy.

    Returns:
        The absolute path.

    Raises:
        RunError: run.json names another task, implementation or base policy, or is unreadable.
    """
    folder = Path(run_dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.json"
    identity = {"task": task, "implementation": implementation, "base_policy": base_policy}
    # Recorder and learner start at the same time: only one may create the file.
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not path.exists():
            write_atomically(path, (json.dumps(identity, indent=2) + "\n").encode())
    finally:
        os.close(handle)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found = {key: found[key] for key in identity}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: expected the identity of a run, found {error!r}") from error
    for key, expected in identity.items():
        if found[key] != expected:
            raise RunError(
                f"{path}: {key}: expected {expected}, found {found[key]} "
                "(data of two runs never mix: choose another run directory)"
            )
    return folder


def claim_role(run_dir: Path, role: str) -> IO[str]:
    """Be the only process with this role in `run_dir`, until the returned file is closed.

    The system frees the claim when the process ends, however it ends.

    Raises:
        RunError: another process has it; names its process id.
    """
    path = run_dir / f".{role}.lock"
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise RunError(
            f"{run_dir}: expected one {role}, found another running (process {holder})"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
