"""Which base policy it is, without loading it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from resfit_rl.base_policies.interface import BasePolicyError
from resfit_rl.tasks import Task

# Policies of LeRobot 0.6.1, by the name in their config.json. Its ACT is here 'lerobot': 'act' is
# the one that `train-base` writes.
LEROBOT_TYPES = (
    "diffusion",
    "vqbet",
    "smolvla",
    "pi0",
    "pi05",
    "pi0_fast",
    "eo1",
    "evo1",
    "fastwam",
    "gaussian_actor",
    "groot",
    "lingbot_va",
    "molmoact2",
    "multi_task_dit",
    "tdmpc",
    "vla_jepa",
    "wall_x",
    "xvla",
)
BASE_POLICIES = ("act", "scripted", "replayed", "lerobot", *LEROBOT_TYPES)


def base_policy_identity(kind: str, task: Task, path: Path | str | None = None) -> str:
    """The `identity` that the loaded policy has.

    Args:
        kind: one of BASE_POLICIES.
        path: folder of an ACT checkpoint, folder or Hub name of a LeRobot policy, file of a replay;
            None for a scripted one.

    Raises:
        BasePolicyError: another kind, or files that cannot be read.
    """
    if kind == "scripted":
        return f"scripted:{task.name}:1"
    require_kind(kind)
    if kind == "act":
        files = [Path(path or "") / name for name in ("config.json", "model.safetensors")]
        return f"act:{_hash(kind, files)[-1]}"
    if kind == "replayed":
        return f"replayed:{_hash(kind, [Path(path or '')])[-1]}"
    folder = lerobot_folder(path)
    found = lerobot_type(folder, None if kind == "lerobot" else kind)
    # All that decides which actions it gives: settings, weights, statistics.
    settings = [folder / "config.json", *sorted(folder.glob("policy_*.json"))]
    weights = sorted({folder / "model.safetensors", *folder.glob("*.safetensors")})
    parts = "".join(_hash(kind, [*settings, *weights]))
    return f"lerobot-{found}:{hashlib.sha256(parts.encode()).hexdigest()[:16]}"


def require_kind(kind: str) -> None:
    """BasePolicyError when there is no such kind of base policy."""
    if kind not in BASE_POLICIES:
        raise BasePolicyError(
            f"base policy: expected one of {', '.join(BASE_POLICIES)}, found {kind!r}"
        )


def lerobot_folder(path: Path | str | None) -> Path:
    """Where the files of a LeRobot policy lie: `path`, or the Hub's copy of that name here.

    Raises:
        BasePolicyError: neither is on this machine; nothing is downloaded.
    """
    folder = Path(path or "")
    if path and folder.is_dir():
        return folder
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(path), local_files_only=True))
    except (OSError, ValueError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BasePolicyError(
            f"base policy: expected a folder of a LeRobot policy, or a Hub name whose files are in "
            f"this machine's cache, found '{path or ''}': {first}"
        ) from error


def lerobot_type(folder: Path, expected: str | None = None) -> str:
    """The policy's type as its config.json names it; BasePolicyError when not as expected."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BasePolicyError(
            f"{file}: expected the settings of a LeRobot policy, found: {error}"
        ) from error
    found = config.get("type") if isinstance(config, dict) else None
    if found is None or (expected is not None and found != expected):
        raise BasePolicyError(f"{file}: type: expected {expected or 'a policy'}, found {found}")
    return str(found)


def _hash(kind: str, files: list[Path]) -> list[str]:
    hashes = []
    for file in files:
        try:
            with file.open("rb") as stream:
                hashes.append(hashlib.file_digest(stream, "sha256").hexdigest()[:16])
        except OSError as error:
            raise BasePolicyError(
                f"base policy {kind}: expected a readable file {file}, found: {error}"
            ) from error
    return hashes
