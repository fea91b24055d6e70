"""Which code defines a task's scene and success."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata, util

SCENES_VERSION = "1"
"""Of our own scenes; raised by whatever changes their physics, starts or success."""
VEGA_TWIN_VERSION = "1"
"""Of Vega's twin and its scenes; raised likewise."""


@dataclass(frozen=True)
class Implementation:
    """'SIMULATOR-VERSION/ENVIRONMENT/ROBOT+ROBOT'; data of two implementations never mix."""

    simulator: str  # robosuite, resfit, dexmimicgen or vega
    version: str
    environment: str
    robots: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.simulator}-{self.version}/{self.environment}/{'+'.join(self.robots)}"

    @classmethod
    def parse(cls, text: str) -> Implementation:
        """ValueError when `text` is none."""
        parts = text.split("/")
        simulator, dash, version = parts[0].partition("-")
        if len(parts) != 3 or not dash:
            raise ValueError(
                f"implementation: expected SIMULATOR-VERSION/ENVIRONMENT/ROBOTS, found '{text}'"
            )
        return cls(simulator, version, parts[1], tuple(parts[2].split("+")))


def dexmimicgen_version() -> str | None:
    """Of the package dexmimicgen, which is not in a registry; None without it."""
    if util.find_spec("dexmimicgen") is None:
        return None
    try:
        return metadata.version("dexmimicgen")
    except metadata.PackageNotFoundError:
        return "unknown"
