"""Weights files of a run, one a version, never changed once they are there."""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from resfit_rl.agent.residual_policy import (
    PolicyFileError,
    ResidualPolicy,
    load_policy,
    save_policy,
)
from resfit_rl.agent.spec import AgentSpec
from resfit_rl.tasks import Task

# A policy may still be reading the last but one.
KEEP = 5
_NAME = re.compile(r"policy_v(\d{6,})\.safetensors")


@dataclass(frozen=True)
class Publication:
    """One version of the weights on disk; `path` is absolute, `sha256` is of the file."""

    version: int
    path: Path
    sha256: str
    size_bytes: int


def newest_version(folder: Path) -> int:
    """Largest version that has a file in `folder`, whole or not; 0 for none."""
    return max(_versions(folder), default=0)


def publish(
    folder: Path,
    version: int,
    policy: ResidualPolicy,
    task: Task,
    base_policy: str,
    keep: int = KEEP,
) -> Publication:
    """Write policy_v<version>.safetensors and remove all but the newest `keep`.

    Raises:
        PolicyFileError: a weight is NaN or infinite; nothing is written.
        OSError: it could not be written.
    """
    path = folder / f"policy_v{version:06d}.safetensors"
    save_policy(policy, path, version, task.name, task.implementation, base_policy)
    for old in sorted(_versions(folder))[:-keep]:
        (folder / f"policy_v{old:06d}.safetensors").unlink(missing_ok=True)
    return _publication(path, version)


def newest_publication(
    folder: Path, task: Task, spec: AgentSpec, base_policy: str
) -> Publication | None:
    """The newest good version in `folder`; bad files are named in a warning and passed over."""
    for version in sorted(_versions(folder), reverse=True):
        path = folder / f"policy_v{version:06d}.safetensors"
        try:
            load_policy(
                path,
                task.name,
                spec,
                expected_implementation=task.implementation,
                expected_base_policy=base_policy,
            )
        except PolicyFileError as error:
            warnings.warn(f"{error}; trying the version before it", stacklevel=2)
            continue
        return _publication(path, version)
    return None


def _versions(folder: Path) -> list[int]:
    matches = (_NAME.fullmatch(path.name) for path in folder.glob("policy_v*"))
    return [int(match[1]) for match in matches if match]


def _publication(path: Path, version: int) -> Publication:
    data = path.read_bytes()
    return Publication(version, path, hashlib.sha256(data).hexdigest(), len(data))
