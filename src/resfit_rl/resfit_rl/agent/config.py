"""Hyperparameters of an agent: a frozen dataclass read from a strict YAML file."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resfit_rl.configuration import dataclass_from_mapping, read_mapping


@dataclass(frozen=True)
class AgentConfig:
    """All terms of the learning algorithm and of its networks.

    Noise, residuals and `residual_scale` are in normalised action units: [-1, 1] spans the range of
    the demonstrations' actions. Counts of steps are control steps, counts of updates are critic
    updates. Construction raises ValueError on an impossible value.

    Terms are switched off by their values: layer_norm and base_policy by false, demonstrations by
    offline_fraction 0, n-step returns by n_step 1, UTD by utd_ratio 1.
    """

    algorithm: str  # one of ALGORITHMS
    # Length of a run.
    total_steps: int  # control steps that are learned from
    offline_episodes: int  # demonstrations used, the first ones of the data set; all if fewer
    # Sampling.
    batch_size: int
    offline_fraction: float  # share of a batch that comes from demonstrations
    buffer_capacity: int  # online transitions kept
    # Learning.
    # Critic updates per control step: an integer, with the actor learning at every utd_ratio-th, or
    # one over an integer (0.5: an update at every second step), with the actor at each.
    utd_ratio: float
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
    base_policy: bool  # false: the actor's output is the whole action
    residual_scale: float
    zero_init_residual: bool  # the actor's last layer starts as 0
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

    @property
    def updates_per_block(self) -> int:
        """Critic updates for each one of the actor."""
        return max(1, round(self.utd_ratio))

    def updates_for(self, steps: int) -> int:
        """Critic updates that `steps` control steps after the warm-up ask for."""
        if self.utd_ratio >= 1.0:
            return self.updates_per_block * steps
        return steps // round(1.0 / self.utd_ratio)

    def as_dict(self) -> dict[str, int | float | bool | str]:
        """Plain values by name, for checkpoints and policy files."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class ResidualPPOConfig(AgentConfig):
    """Residual PPO has these terms besides; `exploration_std` is where its deviation starts.

    Of the off-policy terms it uses batch_size (of a minibatch), gamma, actor_lr, encoder_lr,
    critic_lr, grad_clip and the networks' sizes, with a value function in place of the
    Q ensemble.
    """

    rollout_steps: int  # control steps under one policy before it learns from them
    epochs: int
    gae_lambda: float
    clip_ratio: float
    entropy_weight: float

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, ok, expected in (
            ("rollout_steps", self.rollout_steps >= 1, "an integer >= 1"),
            ("epochs", self.epochs >= 1, "an integer >= 1"),
            ("gae_lambda", 0.0 <= self.gae_lambda <= 1.0, "a number in [0, 1]"),
            ("clip_ratio", 0.0 < self.clip_ratio < 1.0, "a number in (0, 1)"),
            ("entropy_weight", 0.0 <= self.entropy_weight < math.inf, "a finite number >= 0"),
            ("exploration_std", self.exploration_std > 0.0, "a number > 0"),
        ):
            if not ok:
                raise ValueError(f"{key}: expected {expected}, found {getattr(self, key)!r}")


ALGORITHMS: dict[str, type[AgentConfig]] = {
    "residual_td3": AgentConfig,
    "ibrl": AgentConfig,
    "filtered_bc": AgentConfig,
    "residual_ppo": ResidualPPOConfig,
}

_POSITIVE_INTS = (
    "total_steps",
    "batch_size", "buffer_capacity", "n_step", "ensemble_size", "target_subset",
    "embed_dim", "encoder_heads", "encoder_mlp_ratio", "spatial_dim", "critic_hidden_dim",
    "critic_hidden_layers", "actor_feature_dim", "actor_hidden_dim", "actor_hidden_layers",
)  # fmt: skip
_NATURAL_INTS = (
    "offline_episodes", "shift_pad", "warmup_steps", "critic_warmup_updates", "encoder_layers",
)  # fmt: skip
_POSITIVE_FLOATS = ("critic_lr", "actor_lr", "encoder_lr", "grad_clip")
_NATURAL_FLOATS = ("exploration_std", "noise_clip", "warmup_noise")


def _problems(config: AgentConfig) -> list[tuple[str, str]]:
    """(key, 'expected ..., found ...') for each impossible value."""
    found: list[tuple[str, str]] = []

    def need(ok: bool, key: str, expected: str) -> None:
        if not ok:
            found.append((key, f"expected {expected}, found {getattr(config, key)!r}"))

    need(
        isinstance(config, ALGORITHMS.get(config.algorithm, type(None))),
        "algorithm",
        f"one of {sorted(ALGORITHMS)}",
    )
    for key in _POSITIVE_INTS:
        need(getattr(config, key) >= 1, key, "an integer >= 1")
    for key in _NATURAL_INTS:
        need(getattr(config, key) >= 0, key, "an integer >= 0")
    for key in _POSITIVE_FLOATS:
        need(0.0 < getattr(config, key) < math.inf, key, "a finite number > 0")
    for key in _NATURAL_FLOATS:
        need(0.0 <= getattr(config, key) < math.inf, key, "a finite number >= 0")
    need(
        _is_utd_ratio(config.utd_ratio),
        "utd_ratio",
        "an integer >= 1, or one over an integer",
    )
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


def _is_utd_ratio(value: float) -> bool:
    if 1.0 <= value < math.inf:
        return value == round(value)
    # One third in three digits is meant as such.
    return 0.0 < value < 1.0 and abs(1.0 / value - round(1.0 / value)) < 0.01


def load_agent_config(path: Path | str, root: Path | str | None = None) -> AgentConfig:
    """Read `path`, a YAML mapping with exactly the fields of its algorithm's configuration.

    A key `base` names another such file, beside this one, whose values this one's replace.

    Args:
        root: a file in place of the last one of the chain of bases: with a task's, the baseline in
            `path` is at that task's values.

    Raises:
        ValueError: see read_mapping and dataclass_from_mapping.
    """
    return agent_config_from_dict(read_mapping(path, root), str(path))


def agent_config_from_dict(values: dict[str, Any], where: str) -> AgentConfig:
    """Configuration from its fields' values; `where` names their origin in the ValueError."""
    algorithm = values.get("algorithm", "residual_td3")
    if algorithm not in ALGORITHMS:
        raise ValueError(
            f"{where}: algorithm: expected one of {sorted(ALGORITHMS)}, found {algorithm!r}"
        )
    return dataclass_from_mapping(values, ALGORITHMS[algorithm], where)
