"""Hyperparameters of the residual agent: a frozen dataclass read from a strict YAML file."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resfit_rl.configuration import dataclass_from_mapping, load_dataclass


@dataclass(frozen=True)
class AgentConfig:
    """All terms of the learning algorithm and of its networks.

    Noise, residuals and `residual_scale` are in normalised action units: [-1, 1] spans the range of
    the demonstrations' actions. Counts of steps are control steps, counts of updates are critic
    updates. Construction raises ValueError on an impossible value.
    """

    # Sampling.
    batch_size: int
    offline_fraction: float  # share of a batch that comes from demonstrations
    buffer_capacity: int  # online transitions kept
    # Learning.
    utd_ratio: int  # critic updates per control step; the actor learns at every utd_ratio-th
    n_step: int
    gamma: float
    tau: float  # Polyak rate of the target networks
    critic_lr: float
    actor_lr: float
    encoder_lr: float
    grad_clip: float  # norm, for critic, encoder and actor separately
    ensemble_size: int
    target_subset: int  # heads whose minimum makes the target
    shift_pad: int  # pixels
    # Acting.
    residual_scale: float
    exploration_std: float  # also the target smoothing's
    noise_clip: float
    warmup_steps: int  # control steps with base action + uniform noise
    warmup_noise: float
    critic_warmup_updates: int  # updates before the actor starts learning
    # Networks.
    embed_dim: int
    encoder_layers: int
    encoder_heads: int
    encoder_mlp_ratio: int
    spatial_dim: int
    critic_hidden_dim: int
    critic_hidden_layers: int
    actor_feature_dim: int
    actor_hidden_dim: int
    actor_hidden_layers: int
    layer_norm: bool

    def __post_init__(self) -> None:
        for key, problem in _problems(self):
            raise ValueError(f"{key}: {problem}")

    def as_dict(self) -> dict[str, int | float | bool]:
        """Plain values by name, for checkpoints and policy files."""
        return dataclasses.asdict(self)


_POSITIVE_INTS = (
    "batch_size", "buffer_capacity", "utd_ratio", "n_step", "ensemble_size", "target_subset",
    "embed_dim", "encoder_heads", "encoder_mlp_ratio", "spatial_dim", "critic_hidden_dim",
    "critic_hidden_layers", "actor_feature_dim", "actor_hidden_dim", "actor_hidden_layers",
)  # fmt: skip
_NATURAL_INTS = ("shift_pad", "warmup_steps", "critic_warmup_updates", "encoder_layers")
_POSITIVE_FLOATS = ("critic_lr", "actor_lr", "encoder_lr", "grad_clip")
_NATURAL_FLOATS = ("exploration_std", "noise_clip", "warmup_noise")


def _problems(config: AgentConfig) -> list[tuple[str, str]]:
    """(key, 'expected ..., found ...') for each impossible value."""
    found: list[tuple[str, str]] = []

    def need(ok: bool, key: str, expected: str) -> None:
        if not ok:
            found.append((key, f"expected {expected}, found {getattr(config, key)!r}"))

    for key in _POSITIVE_INTS:
        need(getattr(config, key) >= 1, key, "an integer >= 1")
    for key in _NATURAL_INTS:
        need(getattr(config, key) >= 0, key, "an integer >= 0")
    for key in _POSITIVE_FLOATS:
        need(0.0 < getattr(config, key) < math.inf, key, "a finite number > 0")
    for key in _NATURAL_FLOATS:
        need(0.0 <= getattr(config, key) < math.inf, key, "a finite number >= 0")
    need(0.0 <= config.offline_fraction <= 1.0, "offline_fraction", "a number in [0, 1]")
    need(0.0 < config.gamma <= 1.0, "gamma", "a number in (0, 1]")
    need(0.0 < config.tau <= 1.0, "tau", "a number in (0, 1]")
    need(0.0 < config.residual_scale <= 2.0, "residual_scale", "a number in (0, 2]")
    need(
        config.target_subset <= config.ensemble_size,
        "target_subset",
        f"at most ensemble_size = {config.ensemble_size}",
    )
    if config.encoder_heads >= 1:
        need(
            config.embed_dim % config.encoder_heads == 0,
            "embed_dim",
            f"a multiple of encoder_heads = {config.encoder_heads}",
        )
    return found


def load_agent_config(path: Path | str) -> AgentConfig:
    """Read `path`, a YAML mapping with exactly the fields of AgentConfig.

    Raises:
        ValueError: see load_dataclass.
    """
    return load_dataclass(path, AgentConfig)


def agent_config_from_dict(values: dict[str, Any], where: str) -> AgentConfig:
    """AgentConfig from `as_dict`'s values; `where` names their origin in the ValueError."""
    return dataclass_from_mapping(values, AgentConfig, where)
