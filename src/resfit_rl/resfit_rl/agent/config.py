"""Hyperparameters of the residual agent: a frozen dataclass read from a strict YAML file."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml


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
            raise ValueError(f"agent config: {key}: {problem}")

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


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key}: expected once, found twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def load_agent_config(path: Path | str) -> AgentConfig:
    """Read `path`, a YAML mapping with exactly the fields of AgentConfig.

    Raises:
        ValueError: unreadable file, unknown, missing or repeated key, wrong type or impossible
            value; the message names file, key, the expected and the found.
    """
    path = Path(path)
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except OSError as error:
        raise ValueError(f"{path}: expected a readable YAML file, found: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected valid YAML, found: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: expected a mapping of keys, found {type(raw).__name__}")
    return _config_from_mapping(raw, str(path))


def _config_from_mapping(raw: dict[Any, Any], where: str) -> AgentConfig:
    types = {k: v for k, v in get_type_hints(AgentConfig).items() if not k.startswith("_")}
    unknown = sorted(str(key) for key in raw if key not in types)
    if unknown:
        raise ValueError(f"{where}: {unknown[0]}: unknown key, expected one of {sorted(types)}")
    missing = [key for key in types if key not in raw]
    if missing:
        raise ValueError(f"{where}: {missing[0]}: expected a value, found none")
    values: dict[str, Any] = {}
    for key, kind in types.items():
        value = raw[key]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            hint = ""
            if kind is float and isinstance(value, str):
                hint = " (YAML reads 1e-4 as text: write 1.0e-4)"
            raise ValueError(
                f"{where}: {key}: expected {kind.__name__}, found "
                f"{type(value).__name__} {value!r}{hint}"
            )
        values[key] = value
    try:
        return AgentConfig(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).removeprefix('agent config: ')}") from error


def agent_config_from_dict(values: dict[str, Any], where: str) -> AgentConfig:
    """AgentConfig from `as_dict`'s values; `where` names their origin in the ValueError."""
    return _config_from_mapping(values, where)
