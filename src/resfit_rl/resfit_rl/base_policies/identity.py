"""Which base policy it is, without loading it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from resfit_rl.base_policies.interface import BasePolicyError
from resfit_rl.tasks import Task


def base_policy_identity(kind: str, task: Task, path: Path | str | None = None) -> str:
    """The `identity` that the loaded policy has.

    Args:
        kind: 'act', 'scripted' or 'replayed'.
        path: folder of an ACT checkpoint, file of a replay; None for a scripted one.

    Raises:
        BasePolicyError: another kind, or weights that cannot be read.
    """
    if kind == "scripted":
        return f"scripted:{task.name}:1"
    if kind not in ("act", "replayed"):
        raise BasePolicyError(f"base policy: expected act, scripted or replayed, found {kind!r}")
    file = Path(path or "") / "model.safetensors" if kind == "act" else Path(path or "")
    try:
        with file.open("rb") as stream:
            return f"{kind}:{hashlib.file_digest(stream, 'sha256').hexdigest()[:16]}"
    except OSError as error:
        raise BasePolicyError(
            f"base policy {kind}: expected a readable file {file}, found: {error}"
        ) from error
