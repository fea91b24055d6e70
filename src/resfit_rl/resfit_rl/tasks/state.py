"""The proprioceptive state vector from its sources."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from resfit_rl.tasks.task import PoseTerm, RelativeTerm, Task


class StateError(ValueError):
    """A source of the state is missing or not finite; names it, the expected and the found."""


def assemble_state(
    task: Task,
    joint_positions: Mapping[str, float],
    end_effectors: Mapping[str, NDArray[np.float64]],
) -> NDArray[np.float32]:
    """State (S,) float32 in the task's layout.

    Args:
        joint_positions: rad or m, by joint name; more than needed is fine.
        end_effectors: name -> (7,), position in m and quaternion x, y, z, w. The quaternion is
            brought to the side of the term's reference, since q and -q are one rotation.

    Raises:
        StateError: a missing joint or end effector, NaN or infinity.
    """
    parts: list[float] = []
    for term in task.state_layout:
        if isinstance(term, PoseTerm):
            pose = _pose(end_effectors, term.end_effector)
            if pose[3:] @ np.array(term.reference) < 0:
                pose = np.concatenate([pose[:3], -pose[3:]])
            parts += pose.tolist()
        elif isinstance(term, RelativeTerm):
            there, here = (_pose(end_effectors, name) for name in (term.to, term.origin))
            parts += (there - here)[:3].tolist()
        else:
            for joint in term.joints:
                value = joint_positions.get(joint)
                if value is None or not np.isfinite(value):
                    raise StateError(f"state: joint {joint}: expected a position, found {value}")
                parts.append(float(value))
    return np.array(parts, np.float32)


def _pose(end_effectors: Mapping[str, NDArray[np.float64]], name: str) -> NDArray[np.float64]:
    if name not in end_effectors:
        raise StateError(f"state: expected end effector {name}, found {sorted(end_effectors)}")
    pose = np.asarray(end_effectors[name], np.float64)
    if pose.shape != (7,) or not np.isfinite(pose).all():
        raise StateError(
            f"state: end effector {name}: expected 7 finite values, found {pose.tolist()}"
        )
    return pose
