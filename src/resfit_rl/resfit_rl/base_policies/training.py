"""Cloning demonstrations: what all trained base policies share."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from resfit_rl.agent.augmentation import random_shift
from resfit_rl.agent.spec import AgentSpec
from resfit_rl.replay.offline import Demonstration, demonstrations_identity
from resfit_rl.tasks import Task

# Steps whose mean loss is one point of the curve.
LOSS_WINDOW = 50


class ChunkDataset:
    """Every frame of all demonstrations with the chunk of actions that followed, in memory."""

    def __init__(self, demonstrations: Sequence[Demonstration], chunk_size: int) -> None:
        self.images = {
            name: np.concatenate([d.images[name] for d in demonstrations])
            for name in demonstrations[0].images
        }
        self.states = np.concatenate([d.state for d in demonstrations])
        self.actions = np.concatenate([d.action for d in demonstrations])
        ends = np.cumsum([len(d.action) for d in demonstrations])
        self._end = np.repeat(ends, [len(d.action) for d in demonstrations])
        self._chunk = np.arange(chunk_size)

    def __len__(self) -> int:
        return len(self.states)

    def sample(
        self, batch_size: int, rng: np.random.Generator
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images (B, H, W, 3), states (B, S), actions (B, chunk, A), is_pad (B, chunk) bool."""
        index = rng.integers(len(self), size=batch_size)
        following = index[:, None] + self._chunk
        last = self._end[index][:, None] - 1
        actions: NDArray[np.float32] = self.actions[np.minimum(following, last)]
        return (
            {name: torch.from_numpy(frames[index]) for name, frames in self.images.items()},
            torch.from_numpy(self.states[index]),
            torch.from_numpy(actions),
            torch.from_numpy(following > last),
        )


@dataclass(frozen=True)
class Training(ABC):
    """Terms of training that every kind of policy has, and how the kind is trained."""

    steps: int
    batch_size: int
    learning_rate: float
    backbone_learning_rate: float  # of the image encoders
    weight_decay: float
    grad_clip: float
    warmup_steps: int  # from zero to the full rates: the first steps from random weights are small
    cosine_decay: bool  # to zero over `steps`; else constant
    shift_pad: int  # pixels of random shift
    bfloat16: bool
    save_every: int  # steps between resumable checkpoints
    evaluate_every: int  # steps between rollouts, whose best checkpoint is kept; 0: none, the last
    evaluate_episodes: int  # of such rollouts, on the same starts each time

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            if isinstance(value, int | float) and value < 0:
                raise ValueError(f"{key}: expected a number >= 0, found {value}")
        for key in ("steps", "batch_size", "save_every", "evaluate_episodes"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: expected >= 1, found {getattr(self, key)}")

    @property
    @abstractmethod
    def backbone(self) -> str:
        """How the names of the image encoders' parameters begin."""

    @property
    @abstractmethod
    def predicted_actions(self) -> int:
        """Actions that follow a frame in a batch."""

    @abstractmethod
    def build(self, spec: AgentSpec, data: ChunkDataset, device: torch.device) -> nn.Module:
        """A policy of random weights with the statistics of `data`; it is moved to `device`."""

    @abstractmethod
    def loss(
        self,
        model: Any,
        images: Mapping[str, torch.Tensor],
        state: torch.Tensor,
        action: torch.Tensor,
        is_pad: torch.Tensor,
    ) -> torch.Tensor:
        """Of a batch as `ChunkDataset.sample` gives it, on the model's device."""

    @abstractmethod
    def export(self, model: Any, task: Task, folder: Path, made: Mapping[str, Any]) -> None:
        """Write the folder that `load_base_policy` reads, as a whole."""


@dataclass
class History:
    """What a run has seen so far; all of it plain numbers.

    Attributes:
        window: losses since the last point of the curve.
        losses: (step, mean loss of the steps since the point before).
        evaluations: (step, successes, episodes).
        best: one of `evaluations`, the later one of equals; None before the first.
    """

    window: list[float] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    evaluations: list[tuple[int, int, int]] = field(default_factory=list)
    best: tuple[int, int, int] | None = None

    def add_loss(self, step: int, loss: float, last: bool) -> None:
        self.window.append(loss)
        if step % LOSS_WINDOW == 0 or last:
            self.losses.append((step, float(np.mean(self.window))))
            self.window.clear()

    def add_evaluation(self, step: int, successes: int, episodes: int) -> bool:
        """Whether it is the best so far."""
        self.evaluations.append((step, successes, episodes))
        if self.best is not None and successes < self.best[1]:
            return False
        self.best = self.evaluations[-1]
        return True


class Trainer:
    """Model, optimiser, schedule, random state and history; resumable."""

    def __init__(
        self,
        config: Training,
        task: Task,
        demonstrations: Sequence[Demonstration],
        *,
        seed: int,
        device: str,
    ) -> None:
        self.config = config
        self.task = task
        self.device = torch.device(device)
        self.data = ChunkDataset(demonstrations, config.predicted_actions)
        self.data_identity = demonstrations_identity(demonstrations)
        sizes = [(frames.shape[1], frames.shape[2]) for frames in demonstrations[0].images.values()]
        torch.manual_seed(seed)
        self.model: Any = config.build(task.agent_spec(*sizes[:1]), self.data, self.device)
        self.model.to(self.device).train()
        parameters = dict(self.model.named_parameters())
        backbone = [p for name, p in parameters.items() if name.startswith(config.backbone)]
        rest = [p for name, p in parameters.items() if not name.startswith(config.backbone)]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": rest, "lr": config.learning_rate},
                {"params": backbone, "lr": config.backbone_learning_rate},
            ],
            weight_decay=config.weight_decay,
            fused=True,
        )
        self._base_rates = [group["lr"] for group in self.optimiser.param_groups]
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.step = 0
        self.history = History()

    def train_step(self) -> float:
        """One step; its loss. RuntimeError when it is not finite."""
        config = self.config
        images, state, action, is_pad = self.data.sample(config.batch_size, self.rng)
        images = {
            name: random_shift(image.to(self.device), config.shift_pad, self.generator)
            for name, image in images.items()
        }
        decay = 0.5 * (1 + math.cos(math.pi * self.step / config.steps))
        for group, rate in zip(self.optimiser.param_groups, self._base_rates, strict=True):
            warm_up = min(1.0, (self.step + 1) / max(1, config.warmup_steps))
            group["lr"] = rate * warm_up * (decay if config.cosine_decay else 1.0)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bfloat16):
            loss = config.loss(
                self.model,
                images,
                state.to(self.device),
                action.to(self.device),
                is_pad.to(self.device),
            )
        if not torch.isfinite(loss):
            raise RuntimeError(f"step {self.step}: loss: expected a finite number, found {loss}")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip)
        self.optimiser.step()
        self.step += 1
        value = float(loss.detach())
        self.history.add_loss(self.step, value, self.step == config.steps)
        return value

    def save(self, path: Path) -> None:
        """Everything that a resumed run needs, atomically."""
        state = {
            "config": asdict(self.config),
            "data": self.data_identity,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rng": self.rng.bit_generator.state,
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
            "step": self.step,
            "history": asdict(self.history),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def resume(self, path: Path) -> None:
        """Inverse of save. ValueError: another configuration, other demonstrations, or corrupt."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:  # pickle, zip and torch each raise their own
            raise ValueError(f"{path}: expected a whole checkpoint, found: {error}") from error
        expected = {"config": asdict(self.config), "data": self.data_identity}
        for key, value in expected.items():
            if state[key] != value:
                raise ValueError(
                    f"{path}: {key}: expected {value}, found {state[key]}; remove it to start anew"
                )
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rng.bit_generator.state = state["rng"]
        self.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["torch"].cpu())
        if state["cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"].cpu())
        self.step = int(state["step"])
        self.history = History(**state["history"])
