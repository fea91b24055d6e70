"""Data sets by name: a local folder, or what the Hub's cache holds."""

from __future__ import annotations

import os
import re
from pathlib import Path

from resfit_rl.demonstrations.demonstration import DemonstrationsError

# Read by the library when it is imported: no look-up on the network unless the user asks for it.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_name(name: str) -> bool:
    """Whether it reads OWNER/NAME, as the Hub calls its data sets."""
    return _HUB_NAME.fullmatch(name) is not None


def hub_folder(name: str) -> Path:
    """The data set OWNER/NAME as a folder: LeRobot's own, or a snapshot in the Hub's cache.

    With HF_HUB_OFFLINE=0 in the environment it is fetched where it is not there yet.

    Raises:
        DemonstrationsError: it cannot be had; the text has the command that fetches it.
    """
    from huggingface_hub import constants, snapshot_download

    lerobot_home = os.environ.get("HF_LEROBOT_HOME", Path(constants.HF_HOME) / "lerobot")
    folder = Path(lerobot_home).expanduser() / name
    if (folder / "meta" / "info.json").is_file():
        return folder
    try:
        return Path(snapshot_download(name, repo_type="dataset"))
    except Exception as error:  # of the network, of the Hub, of the disk: many unrelated classes
        offline = constants.HF_HUB_OFFLINE
        found = "no folder of that name, none in the cache, and" if offline else "no folder, and"
        reason = "HF_HUB_OFFLINE=1" if offline else f"fetching it gave {type(error).__name__}"
        raise DemonstrationsError(
            f"{name}: expected a folder or a data set of the Hub, found {found} {reason}; "
            f"fetch it once with: HF_HUB_OFFLINE=0 hf download --repo-type dataset {name}"
        ) from error
