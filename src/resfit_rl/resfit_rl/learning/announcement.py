"""Weights files as they are announced, checked before they may act."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resfit_rl.agent import AgentSpec, PolicyFileError, ResidualPolicy, load_policy
from resfit_rl.observation import Observation
from resfit_rl.tasks import Task


@dataclass(frozen=True)
class Announcement:
    """What is said about a weights file: version, path, SHA-256 (hex)."""

    version: int
    path: str
    sha256: str


def blank_observation(spec: AgentSpec) -> Observation:
    """Black images and a state of zeros, for a network's first pass."""
    images = {name: np.zeros((*size, 3), np.uint8) for name, size in spec.cameras.items()}
    return Observation(images, np.zeros(spec.state_dim, np.float32))


def load_announced(
    announcement: Announcement, task: Task, spec: AgentSpec, base_policy: str, device: str
) -> ResidualPolicy:
    """The policy of a weights file, ready to act.

    Raises:
        PolicyFileError: the file is not the announced one, not whole, of another task, robot
            interface or base policy, or does not give finite residuals.
    """
    path = Path(announcement.path)
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise PolicyFileError(f"{path}: expected a policy file, found: {error}") from error
    if found != announcement.sha256:
        raise PolicyFileError(
            f"{path}: sha256: expected {announcement.sha256}, found {found} "
            "(truncated, corrupt or changed)"
        )
    policy, version = load_policy(
        path,
        task.name,
        spec,
        device,
        expected_implementation=task.implementation,
        expected_base_policy=base_policy,
    )
    if version != announcement.version:
        raise PolicyFileError(f"{path}: version: expected {announcement.version}, found {version}")
    # The first pass on a device is slow; it must not happen in a control step.
    blank = blank_observation(spec)
    residual = policy.residual(blank.images, blank.state, np.zeros(spec.action_dim, np.float32))
    if not np.isfinite(residual).all():
        raise PolicyFileError(f"{path}: expected finite residuals, found {residual.tolist()}")
    return policy
