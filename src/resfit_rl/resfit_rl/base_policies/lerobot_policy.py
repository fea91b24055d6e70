"""Any policy of LeRobot as a base policy, from a folder as LeRobot writes it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resfit_rl.agent.spec import AgentSpec
from resfit_rl.base_policies.checkpoint_folder import replaced_folder
from resfit_rl.base_policies.identity import base_policy_identity, lerobot_folder, lerobot_type
from resfit_rl.base_policies.interface import BasePolicyError
from resfit_rl.observation import Observation
from resfit_rl.tasks import Task

# Read by the library when it is imported: no look-up on the network, whatever the environment.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

FORMAT = "resfit-lerobot/1"
_OURS = "resfit.json"
_IMAGE = "observation.images."
_STATE = "observation.state"
# Types that predict a chunk from one observation. The others keep what they saw in queues of
# `select_action`, so they must see each observation.
_CHUNKING = ("act", "diffusion", "pi0", "pi05", "smolvla")
# Settings of policies that bring pictures to a size of their own.
_RESIZING = ("resize_imgs_with_padding", "image_resolution", "resize_shape")


@dataclass(frozen=True)
class _Inputs:
    """What the policy looks at: camera -> (height, width), None for any size."""

    cameras: dict[str, tuple[int, int] | None]
    state: bool


class LeRobotPolicy:
    """A policy of LeRobot with its processors; see BasePolicy. One thread at a time.

    Args:
        policy, preprocessor, postprocessor: LeRobot's.
        inputs: which parts of an observation the policy gets.
    """

    def __init__(
        self,
        policy: Any,
        preprocessor: Callable[[dict[str, Any]], dict[str, Any]],
        postprocessor: Callable[[torch.Tensor], torch.Tensor],
        inputs: _Inputs,
        task: Task,
        identity: str,
    ) -> None:
        self._policy = policy.eval().requires_grad_(False)
        self._preprocessor = preprocessor
        self._postprocessor = postprocessor
        self._inputs = inputs
        self._task = task
        self._lower = np.array(task.action_lower, np.float32)
        self._upper = np.array(task.action_upper, np.float32)
        device = torch.device(policy.config.device)
        self._devices = [device] if device.type == "cuda" else []
        self._chunking = policy.config.n_obs_steps == 1 and policy.config.type in _CHUNKING
        self.identity = identity
        # The number of actions has another name in each type's settings; this also shows at once
        # whether the policy can act at all.
        self.reset(0)
        self.chunk_size = len(self._predict(self._blank()))
        self.reset(0)

    def reset(self, seed: int) -> None:
        self._policy.reset()
        self._seed = seed
        self._predictions = 0

    def predict_chunk(self, observation: Observation) -> NDArray[np.float32]:
        """(chunk_size, A) float32, robot units, within the action limits.

        Raises:
            BasePolicyError: a missing camera, another image size, or another state length.
        """
        for name, pixels in self._inputs.cameras.items():
            image = observation.images.get(name)
            found = None if image is None else image.shape
            expected = (*(pixels or (found or (0, 0))[:2]), 3)
            if found != expected:
                raise BasePolicyError(f"camera {name}: expected {expected}, found {found}")
        if observation.state.shape != (self._task.state_dim,):
            raise BasePolicyError(
                f"state: expected ({self._task.state_dim},), found {observation.state.shape}"
            )
        return np.clip(self._predict(observation), self._lower, self._upper)

    @torch.inference_mode()
    def _predict(self, observation: Observation) -> NDArray[np.float32]:
        batch: dict[str, Any] = {
            f"{_IMAGE}{name}": torch.from_numpy(np.array(observation.images[name]))
            .permute(2, 0, 1)
            .float()
            .div(255.0)
            for name in self._inputs.cameras
        }
        if self._inputs.state:
            batch[_STATE] = torch.from_numpy(np.array(observation.state))
        # As in our data sets, for policies that read it.
        batch["task"] = self._task.name
        seed = np.random.SeedSequence([self._seed % 2**64, self._predictions])
        self._predictions += 1
        # Policies draw from torch's one generator, which others draw from too.
        with torch.random.fork_rng(devices=self._devices):
            torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))
            batch = self._preprocessor(batch)
            if not self._chunking:
                action = self._postprocessor(self._policy.select_action(batch))
                return action.float().cpu().numpy()
            if self._policy.config.type == "diffusion":
                batch[_STATE] = batch[_STATE].unsqueeze(1)  # it wants a time axis there
            self._policy.reset()
            chunk = self._postprocessor(self._policy.predict_action_chunk(batch))
        return chunk[0].float().cpu().numpy()

    def _blank(self) -> Observation:
        return Observation(
            {
                name: np.zeros((*(pixels or (84, 84)), 3), np.uint8)
                for name, pixels in self._inputs.cameras.items()
            },
            np.zeros(self._task.state_dim, np.float32),
        )


def save_lerobot(
    policy: Any,
    preprocessor: Any,
    postprocessor: Any,
    task: Task,
    spec: AgentSpec,
    folder: Path,
    made: Mapping[str, Any],
) -> None:
    """Write a folder that LeRobot reads, with which task it is for, as a whole.

    Args:
        made: how the checkpoint came about (command, steps, data, measured success), for people.
    """
    ours = {
        "format": FORMAT,
        "task": task.name,
        "implementation": task.implementation,
        "spec": spec.as_dict(),
        "made": dict(made),
    }
    with replaced_folder(folder) as new:
        policy.save_pretrained(new)
        preprocessor.save_pretrained(new)
        postprocessor.save_pretrained(new)
        (new / _OURS).write_text(json.dumps(ours, indent=2) + "\n", encoding="utf-8")


def load_lerobot(
    path: Path | str | None, task: Task, device: str = "cpu", expected_type: str | None = None
) -> LeRobotPolicy:
    """Read a policy of `task`.

    Args:
        path: folder as LeRobot's save_pretrained writes it, or a name on the Hub whose files are in
            this machine's cache.
        expected_type: of the policy; None for any.

    Raises:
        BasePolicyError: missing or damaged files, another type, task or implementation, cameras or
            lengths that the task does not have, a package that the type needs.
    """
    folder = lerobot_folder(path)
    kind = lerobot_type(folder, expected_type)
    _require_task(folder, task)
    identity = base_policy_identity("lerobot", task, folder)
    try:
        # Registers all types.
        import lerobot.policies  # noqa: F401
        from lerobot.configs.policies import PreTrainedConfig
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors

        config = PreTrainedConfig.from_pretrained(folder)
        config.device = device
        with contextlib.redirect_stdout(io.StringIO()):  # it reports each step of loading
            policy = get_policy_class(kind).from_pretrained(folder, config=config, strict=True)
        preprocessor, postprocessor = make_pre_post_processors(
            config,
            pretrained_path=str(folder),
            preprocessor_overrides={"device_processor": {"device": device}},
        )
    except ImportError as error:
        hint = f"; it comes with: pip install 'lerobot[{kind}]'"
        raise BasePolicyError(
            f"base policy {kind}: {_one_line(error)}{'' if 'pip install' in str(error) else hint}"
        ) from error
    except Exception as error:  # files are read by draccus, safetensors and torch
        raise BasePolicyError(
            f"{folder}: expected a whole {kind} policy of LeRobot, found: {_one_line(error)}"
        ) from error
    inputs = _inputs(folder, config, preprocessor, task)
    try:
        return LeRobotPolicy(policy, preprocessor, postprocessor, inputs, task, identity)
    except Exception as error:
        raise BasePolicyError(
            f"{folder}: expected a {kind} policy that acts on an observation of {task.name}, "
            f"found: {_one_line(error)}"
        ) from error


def _require_task(folder: Path, task: Task) -> None:
    file = folder / _OURS
    if not file.exists():
        warnings.warn(
            f"{folder}: no {_OURS}: whether it was trained for {task.name} is not known, only "
            "whether its inputs and actions fit",
            stacklevel=3,
        )
        return
    try:
        ours = json.loads(file.read_text(encoding="utf-8"))
        spec = AgentSpec.from_dict(ours["spec"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BasePolicyError(
            f"{file}: expected the task of a checkpoint, found: {error!r}"
        ) from error
    expected = {"format": FORMAT, "task": task.name, "implementation": task.implementation}
    for key, value in expected.items():
        if ours.get(key) != value:
            raise BasePolicyError(f"{file}: {key}: expected {value}, found {ours.get(key)}")
    if problem := task.agent_spec(next(iter(spec.cameras.values()))).difference(spec):
        raise BasePolicyError(f"{file}: {problem}")


def _inputs(folder: Path, config: Any, preprocessor: Any, task: Task) -> _Inputs:
    """Hold the policy's features against the task's; the preprocessor may rename ours."""
    ours: dict[str, str] = {}
    for step in preprocessor.steps:
        ours |= {theirs: name for name, theirs in getattr(step, "rename_map", {}).items()}
    images = {f"{_IMAGE}{camera}": camera for camera in task.cameras}
    resizing = any(getattr(config, name, None) is not None for name in _RESIZING)
    cameras: dict[str, tuple[int, int] | None] = {}
    state = False
    for key, feature in config.input_features.items():
        name = ours.get(key, key)
        if "empty_camera" in key:
            continue  # the policy fills it itself
        if name == _STATE:
            _require_length(folder, key, (task.state_dim,), feature.shape, task)
            state = True
        elif name in images:
            cameras[images[name]] = None if resizing else tuple(feature.shape[1:])
        else:
            raise BasePolicyError(
                f"{folder}: {key}: expected one of {', '.join([*images, _STATE])} of task "
                f"{task.name}, found '{name}'"
            )
    action = (config.output_features or {}).get("action")
    found = None if action is None else action.shape
    _require_length(folder, "action", (task.action_dim,), found, task)
    return _Inputs(cameras, state)


def _require_length(
    folder: Path, key: str, expected: tuple[int, ...], found: Any, task: Task
) -> None:
    if found is None or tuple(found) != expected:
        raise BasePolicyError(
            f"{folder}: {key}: expected {expected} of task {task.name}, found {found}"
        )


def _one_line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:400]
