"""The inference side of the agent, and its file format."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import nn

from resfit_rl.agent.config import AgentConfig, agent_config_from_dict
from resfit_rl.agent.networks import Actor, Encoder
from resfit_rl.agent.normaliser import Normaliser, combine
from resfit_rl.agent.spec import AgentSpec
from resfit_rl.episode_store.atomic_file import write_atomically

FORMAT = "resfit-residual-policy/1"
FloatArray = NDArray[np.float32]
NoiseMode = Literal["warm_up", "explore", "none"]


class PolicyFileError(Exception):
    """A policy file is unreadable, corrupt, or not of the expected task or shapes."""


class ResidualPolicy(nn.Module):
    """Encoders, actor and normaliser; no critic, no optimiser."""

    def __init__(
        self,
        config: AgentConfig,
        spec: AgentSpec,
        encoder: Encoder,
        actor: Actor,
        normaliser: Normaliser,
    ) -> None:
        """Takes its own copies, so later updates of the arguments do not reach it."""
        super().__init__()
        self.config = config
        self.spec = spec
        self.encoder = copy.deepcopy(encoder)
        self.actor = copy.deepcopy(actor)
        self.normaliser = copy.deepcopy(normaliser)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def initial(
        cls, config: AgentConfig, spec: AgentSpec, normaliser: Normaliser, seed: int = 0
    ) -> Self:
        """An untrained policy, whose residual is exactly 0 (with zero_init_residual)."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = Encoder(spec, config)
            actor = Actor(spec, config, encoder.patches)
            # Inside: an algorithm's policy may draw weights of its own.
            return cls(config, spec, encoder, actor, normaliser)

    @torch.inference_mode()
    def residual(
        self, images: Mapping[str, NDArray[np.uint8]], state: FloatArray, base_action: FloatArray
    ) -> FloatArray:
        """Residual for one observation.

        Args:
            images: camera -> (H, W, 3) uint8 RGB, all cameras of the spec.
            state: (S,) float32, as recorded.
            base_action: (A,) float32, robot units.

        Returns:
            float32 (A,), normalised action units, within +-residual_scale.

        Raises:
            ValueError: a missing camera, another shape or dtype, NaN or infinity.
        """
        device = self.normaliser.action_lower.device
        tensors: dict[str, torch.Tensor] = {}
        for name, size in self.spec.cameras.items():
            if name not in images:
                raise ValueError(f"images: expected camera {name}, found {sorted(images)}")
            image = np.asarray(images[name])
            if image.shape != (*size, 3) or image.dtype != np.uint8:
                raise ValueError(
                    f"camera {name}: expected uint8 {(*size, 3)}, found {image.dtype} {image.shape}"
                )
            tensors[name] = torch.from_numpy(np.array(image))[None].to(device)
        vectors = []
        for label, value, length in (
            ("state", state, self.spec.state_dim),
            ("base action", base_action, self.spec.action_dim),
        ):
            vector = np.array(value, dtype=np.float32)
            if vector.shape != (length,) or not np.isfinite(vector).all():
                raise ValueError(
                    f"{label}: expected {length} finite values, found {vector.tolist()}"
                )
            vectors.append(torch.from_numpy(vector)[None].to(device))
        return self.batch_residual(tensors, *vectors)[0].cpu().numpy()

    def batch_residual(
        self, images: Mapping[str, torch.Tensor], state: torch.Tensor, base_action: torch.Tensor
    ) -> torch.Tensor:
        """As `residual` for B observations on the policy's device, unchecked.

        Args:
            images: camera -> (B, H, W, 3) uint8.
            state: (B, S) float32, as recorded.
            base_action: (B, A) float32, robot units.

        Returns:
            (B, A) float32, normalised units.
        """
        return self._residual(
            self.encoder(images),
            self.normaliser.normalise_state(state),
            self.normaliser.normalise_action(base_action),
        )

    def _residual(
        self, features: torch.Tensor, state: torch.Tensor, base: torch.Tensor
    ) -> torch.Tensor:
        """(B, P, C), (B, S), (B, A) normalised -> what is added to the base action, (B, A)."""
        if not self.config.base_policy:
            base = torch.zeros_like(base)
        return self.actor(features, state, base)

    def combine(self, base_action: FloatArray, residual: FloatArray) -> FloatArray:
        """Executed action, float32 (A,) in robot units; see normaliser.combine.

        Without a base policy the middle of the bounds, 0 in normalised units, stands for it.
        """
        lower, upper = self.normaliser.bounds()
        if not self.config.base_policy:
            base_action = ((lower.astype(np.float64) + upper) / 2.0).astype(np.float32)
        return combine(base_action, residual, lower, upper)

    def exploration_noise(self, rng: np.random.Generator, mode: NoiseMode) -> FloatArray:
        """Noise to add to the residual, float32 (A,), normalised action units.

        'warm_up': uniform within +-warmup_noise. 'explore': Gaussian of exploration_std, limited to
        +-noise_clip. 'none': zeros. Raises ValueError on another mode.
        """
        return exploration_noise(self.config, self.spec.action_dim, rng, mode)


def exploration_noise(
    config: AgentConfig, action_dim: int, rng: np.random.Generator, mode: NoiseMode
) -> FloatArray:
    """See ResidualPolicy.exploration_noise; usable before there is a policy."""
    if mode == "warm_up":
        noise = rng.uniform(-config.warmup_noise, config.warmup_noise, action_dim)
    elif mode == "explore":
        noise = rng.normal(0.0, config.exploration_std, action_dim)
        noise = np.clip(noise, -config.noise_clip, config.noise_clip)
    elif mode == "none":
        noise = np.zeros(action_dim)
    else:
        raise ValueError(f"noise mode: expected warm_up, explore or none, found {mode!r}")
    return noise.astype(np.float32)


def save_policy(
    policy: ResidualPolicy,
    path: Path | str,
    version: int,
    task: str,
    implementation: str,
    base_policy: str,
) -> Path:
    """Write `policy` as safetensors with its identity in the metadata, atomically.

    Raises:
        PolicyFileError: a weight is NaN or infinite; nothing is written.
    """
    path = Path(path)
    tensors = {k: v.detach().cpu().contiguous() for k, v in policy.state_dict().items()}
    _require_finite(tensors, path)
    metadata: dict[str, Any] = {
        "format": FORMAT,
        "version": version,
        "task": task,
        "implementation": implementation,
        "base_policy": base_policy,
        "cameras": {name: list(size) for name, size in policy.spec.cameras.items()},
        "state_dim": policy.spec.state_dim,
        "action_dim": policy.spec.action_dim,
        "spec": policy.spec.as_dict(),
        "config": policy.config.as_dict(),
    }
    data = safetensors_bytes(tensors, metadata={"resfit": json.dumps(metadata)})
    write_atomically(path, data)
    return path


def read_policy_metadata(path: Path | str) -> dict[str, Any]:
    """Identity of a policy file: format, version, task, implementation, base_policy, ...

    Raises:
        PolicyFileError: unreadable, corrupt, or of another format.
    """
    return _read(Path(path))[0]


def load_policy(
    path: Path | str,
    expected_task: str,
    expected_spec: AgentSpec | None = None,
    device: torch.device | str = "cpu",
    *,
    expected_implementation: str | None = None,
    expected_base_policy: str | None = None,
) -> tuple[ResidualPolicy, int]:
    """Read a policy file and check that it is the expected one.

    Returns:
        (policy on `device`, version).

    Raises:
        PolicyFileError: missing, truncated or corrupt file, NaN or infinite weights, another task,
            robot interface, implementation or base policy; names the expected and the found.
    """
    path = Path(path)
    metadata, tensors = _read(path)
    for key, expected in (
        ("task", expected_task),
        ("implementation", expected_implementation),
        ("base_policy", expected_base_policy),
    ):
        if expected is not None and metadata[key] != expected:
            raise PolicyFileError(f"{path}: {key}: expected {expected}, found {metadata[key]}")
    try:
        spec = AgentSpec.from_dict(metadata["spec"])
        config = agent_config_from_dict(metadata["config"], str(path))
        version = int(metadata["version"])
    except (KeyError, TypeError, ValueError) as error:
        raise PolicyFileError(f"{path}: expected a policy's metadata, found: {error}") from error
    if expected_spec is not None and (problem := expected_spec.difference(spec)):
        raise PolicyFileError(f"{path}: {problem}")
    _require_finite(tensors, path)
    # Algorithms bring policies of their own, which are made of this module's.
    from resfit_rl.agent.algorithms import policy_class

    policy = policy_class(config).initial(config, spec, Normaliser.empty(spec))
    try:
        policy.load_state_dict(tensors)
    except RuntimeError as error:
        raise PolicyFileError(
            f"{path}: expected the weights its metadata describes, found: {error}"
        ) from error
    return policy.to(device), version


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise PolicyFileError(f"{path}: expected a policy file, found none")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            raw = (file.metadata() or {}).get("resfit", "")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise PolicyFileError(
            f"{path}: expected a whole safetensors file, found {path.stat().st_size} bytes that "
            f"are truncated or corrupt: {error}"
        ) from error
    try:
        metadata = json.loads(raw)
        found = metadata["format"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise PolicyFileError(f"{path}: expected format {FORMAT}, found no metadata") from error
    if found != FORMAT:
        raise PolicyFileError(f"{path}: expected format {FORMAT}, found {found}")
    required = {"version", "task", "implementation", "base_policy", "spec", "config"}
    if missing := sorted(required - set(metadata)):
        raise PolicyFileError(f"{path}: expected metadata {missing[0]}, found none")
    return metadata, tensors


def _require_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            raise PolicyFileError(
                f"{path}: weights {name}: expected finite values, found {bad} NaN or infinite"
            )
