"""Shapes and limits of what the agent sees and does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class AgentSpec:
    """Interface between an agent and a robot.

    Attributes:
        cameras: name -> (height, width) in pixels, RGB uint8; the order is the networks' order.
            None where the state says it all.
        state_dim: S, length of the proprioceptive state.
        action_dim: A, length of an action.
        action_lower, action_upper: float32 (A,), the robot's action limits in robot units.

    Raises:
        ValueError: a non-positive size, limits of another length or lower >= upper.
    """

    cameras: dict[str, tuple[int, int]]
    state_dim: int
    action_dim: int
    action_lower: NDArray[np.float32]
    action_upper: NDArray[np.float32]

    def __post_init__(self) -> None:
        cameras = {str(k): (int(v[0]), int(v[1])) for k, v in self.cameras.items()}
        object.__setattr__(self, "cameras", cameras)
        for key in ("state_dim", "action_dim"):
            if getattr(self, key) < 1:
                raise ValueError(f"agent spec: {key}: expected >= 1, found {getattr(self, key)}")
        for key in ("action_lower", "action_upper"):
            limit = np.array(getattr(self, key), dtype=np.float32)
            if limit.shape != (self.action_dim,) or not np.isfinite(limit).all():
                raise ValueError(
                    f"agent spec: {key}: expected {self.action_dim} finite values, found "
                    f"{limit.tolist()}"
                )
            limit.flags.writeable = False
            object.__setattr__(self, key, limit)
        if not (self.action_lower < self.action_upper).all():
            raise ValueError(
                "agent spec: expected action_lower < action_upper in each dimension, found "
                f"{self.action_lower.tolist()} and {self.action_upper.tolist()}"
            )

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form; the cameras keep their order."""
        return {
            "cameras": [[name, *size] for name, size in self.cameras.items()],
            "state_dim": self.state_dim,
            "action_dim": self.action_dim,
            "action_lower": self.action_lower.tolist(),
            "action_upper": self.action_upper.tolist(),
        }

    @staticmethod
    def from_dict(values: dict[str, Any]) -> AgentSpec:
        """Inverse of as_dict."""
        return AgentSpec(
            cameras={name: (height, width) for name, height, width in values["cameras"]},
            state_dim=int(values["state_dim"]),
            action_dim=int(values["action_dim"]),
            action_lower=np.asarray(values["action_lower"], dtype=np.float32),
            action_upper=np.asarray(values["action_upper"], dtype=np.float32),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AgentSpec) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash(str(self.as_dict()))

    def difference(self, other: AgentSpec) -> str | None:
        """'name: expected <self's>, found <other's>' of the first unequal term, or None."""
        mine, theirs = self.as_dict(), other.as_dict()
        for key, value in mine.items():
            if value != theirs[key]:
                return f"{key}: expected {value}, found {theirs[key]}"
        return None
