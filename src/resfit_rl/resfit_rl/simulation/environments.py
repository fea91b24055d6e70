"""The one place that imports robosuite: quietly, and with off-screen rendering."""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from typing import Any

from resfit_rl.simulation.error import SimulationError
from resfit_rl.tasks import Task
from resfit_rl.tasks.implementation import Implementation

os.environ.setdefault("MUJOCO_GL", "egl")
# robosuite speaks of optional packages while it is imported, through a logger of its own that it
# configures at import: only a filter set before survives.
_logger = logging.getLogger("robosuite_logs")
_logger.addFilter(lambda record: record.levelno >= logging.ERROR)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import robosuite
    from robosuite.controllers import load_composite_controller_config
    from robosuite.environments.base import REGISTERED_ENVS
    from robosuite.environments.manipulation.two_arm_env import TwoArmEnv

__all__ = ["SimulationError", "arms_of_environments", "make_environment"]


def arms_of_environments() -> dict[str, int]:
    """robosuite's own environments -> number of arms that each needs."""
    return {
        name: 2 if issubclass(kind, TwoArmEnv) else 1
        for name, kind in REGISTERED_ENVS.items()
        if kind.__module__.startswith("robosuite.")
    }


def make_environment(task: Task) -> Any:
    """The robosuite environment of `task`.

    Raises:
        SimulationError: it is of a simulator or version that is not here, or has another number of
            actions.
    """
    wanted = Implementation.parse(task.implementation)
    here = {"robosuite": robosuite.__version__, **_other_simulators()}
    if here.get(wanted.simulator) != wanted.version:
        found = ", ".join(f"{simulator}-{version}" for simulator, version in here.items())
        raise SimulationError(
            f"task {task.name}: implementation: expected one of {found}, "
            f"found {task.implementation}"
        )
    if wanted.simulator != "robosuite":
        importlib.import_module(_PACKAGES[wanted.simulator])  # registers its environments
    if wanted.simulator == "dexmimicgen" and task.pose_actions:
        _register_whole_body_controller(task)
    options: dict[str, Any] = {}
    if len(wanted.robots) == 2 and wanted.simulator == "resfit":
        options["env_configuration"] = "parallel"
    if wanted.simulator == "resfit" and task.pose_actions:
        options["controller_configs"] = _absolute_pose(wanted.robots[0])
    environment = robosuite.make(
        wanted.environment,
        robots=list(wanted.robots),
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        hard_reset=False,
        ignore_done=True,
        control_freq=task.control_frequency,
        # Sizes of some objects are drawn here, once; the starts are drawn by each reset's seed.
        seed=0,
        **options,
    )
    if environment.action_dim != task.action_dim:
        environment.close()
        raise SimulationError(
            f"task {task.name}: expected {task.action_dim} actions, "
            f"found {environment.action_dim} in {wanted.environment}"
        )
    return environment


_PACKAGES = {"resfit": "resfit_rl.simulation.scenes.registered", "dexmimicgen": "dexmimicgen"}


def _other_simulators() -> dict[str, str]:
    from resfit_rl.tasks.implementation import SCENES_VERSION, dexmimicgen_version

    here = {"resfit": SCENES_VERSION}
    version = dexmimicgen_version()
    return here if version is None else {**here, "dexmimicgen": version}


def _register_whole_body_controller(task: Task) -> None:
    """DexMimicGen's humanoid is moved by a controller that robosuite has among its examples."""
    try:
        importlib.import_module("robosuite.examples.third_party_controller.mink_controller")
    except ImportError as error:
        raise SimulationError(
            f"task {task.name}: expected robosuite's controller WHOLE_BODY_MINK_IK, found none "
            f"({error}): robosuite's wheel lacks it; install robosuite {robosuite.__version__} "
            "from its source, and mink 0.0.5"
        ) from None


def _absolute_pose(robot: str) -> dict[str, Any]:
    """Controllers whose arms take poses in the world frame: m, and an axis times an angle, rad."""
    config: dict[str, Any] = load_composite_controller_config(controller="BASIC", robot=robot)
    for arm in ("right", "left"):
        config["body_parts"][arm] |= {"input_type": "absolute", "input_ref_frame": "world"}
    return config
