"""The scripted experts behind the interface of a base policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resfit_rl.base_policies.identity import base_policy_identity
from resfit_rl.base_policies.interface import BasePolicyError
from resfit_rl.base_policies.scripted.box_cleanup import BoxCleanupExpert
from resfit_rl.base_policies.scripted.can_sort import CanSortExpert
from resfit_rl.base_policies.scripted.coffee import CoffeeExpert
from resfit_rl.base_policies.scripted.panda import PandaExpert
from resfit_rl.observation import Observation
from resfit_rl.tasks import Task, get_task


class EpisodeExpert(Protocol):
    """Acts for one episode."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """(A,) float32, robot units; must be asked once a step."""


def _woolly_ball_pnp(task: Task, rng: np.random.Generator) -> EpisodeExpert:
    # Here, as it needs the simulator, for Vega's kinematics.
    from resfit_rl.base_policies.scripted.woolly_ball_pnp import WoollyBallPnPExpert

    return WoollyBallPnPExpert(task, rng)


def _package_handover(task: Task, rng: np.random.Generator) -> EpisodeExpert:
    from resfit_rl.base_policies.scripted.package_handover import PackageHandoverExpert

    return PackageHandoverExpert(task, rng)


_EXPERTS: dict[str, Callable[[Task, np.random.Generator], EpisodeExpert]] = {
    "can": PandaExpert,
    "square": PandaExpert,
    "box_cleanup": BoxCleanupExpert,
    "can_sort": CanSortExpert,
    "coffee": CoffeeExpert,
    "lift_state": PandaExpert,
    "woolly_ball_pnp": _woolly_ball_pnp,
    "package_handover": _package_handover,
}


class ScriptedExpert:
    """A BasePolicy that must see every observation, with the objects' poses.

    Args:
        task: name.

    Raises:
        BasePolicyError: a task without an expert; while acting, an observation without a pose that
            it needs.
    """

    chunk_size = 1

    def __init__(self, task: str) -> None:
        if task not in _EXPERTS:
            raise BasePolicyError(
                f"scripted expert: task: expected one of {', '.join(_EXPERTS)}, found '{task}'"
            )
        self._task = get_task(task)
        self.identity = base_policy_identity("scripted", self._task)
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._expert = _EXPERTS[self._task.name](self._task, np.random.default_rng(seed))

    def predict_chunk(self, observation: Observation) -> NDArray[np.float32]:
        """(1, A) float32."""
        return self._expert.act(observation)[None]
