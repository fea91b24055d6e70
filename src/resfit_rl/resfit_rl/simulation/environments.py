"""The one place that imports robosuite: quietly, and with off-screen rendering."""

from __future__ import annotations

import logging
import os
import warnings

os.environ.setdefault("MUJOCO_GL", "egl")
# robosuite speaks of optional packages while it is imported, through a logger of its own that it
# configures at import: only a filter set before survives.
_logger = logging.getLogger("robosuite_logs")
_logger.addFilter(lambda record: record.levelno >= logging.ERROR)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import robosuite
    from robosuite.environments.base import REGISTERED_ENVS
    from robosuite.environments.manipulation.two_arm_env import TwoArmEnv

__all__ = ["arms_of_environments", "robosuite"]


def arms_of_environments() -> dict[str, int]:
    """Registered environment -> number of arms that it needs."""
    return {name: 2 if issubclass(kind, TwoArmEnv) else 1 for name, kind in REGISTERED_ENVS.items()}
