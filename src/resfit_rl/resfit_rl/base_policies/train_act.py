"""Clone demonstrations with LeRobot's ACT: python -m resfit_rl.base_policies.train_act."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resfit_rl.agent.augmentation import random_shift
from resfit_rl.base_policies.act import ACTSize, NormalisedACT, load_act, save_act
from resfit_rl.configuration import load_dataclass
from resfit_rl.control import ChunkSchedule
from resfit_rl.replay.offline import Demonstration, demonstrations_identity
from resfit_rl.tasks import Task, get_task


@dataclass(frozen=True)
class ACTTraining:
    """All terms of ACT and of its training; one YAML file."""

    # Network.
    chunk_size: int
    vision_backbone: str
    replace_final_stride_with_dilation: bool
    dim_model: int
    n_heads: int
    dim_feedforward: int
    n_encoder_layers: int
    n_decoder_layers: int
    dropout: float
    # Training.
    steps: int
    batch_size: int
    learning_rate: float
    backbone_learning_rate: float
    weight_decay: float
    grad_clip: float
    cosine_decay: bool  # to zero over `steps`; else constant
    shift_pad: int  # pixels of random shift
    bfloat16: bool
    save_every: int  # steps between resumable checkpoints

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            if isinstance(value, int | float) and value < 0:
                raise ValueError(f"{key}: expected a number >= 0, found {value}")
        for key in ("chunk_size", "steps", "batch_size", "save_every", "n_heads"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: expected >= 1, found {getattr(self, key)}")
        if self.dim_model % self.n_heads:
            raise ValueError(
                f"dim_model: expected a multiple of n_heads = {self.n_heads}, "
                f"found {self.dim_model}"
            )

    def size(self) -> ACTSize:
        return ACTSize(**{key: getattr(self, key) for key in ACTSize.__dataclass_fields__})


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


class Trainer:
    """Model, optimiser, schedule and random state; resumable."""

    def __init__(
        self,
        config: ACTTraining,
        task: Task,
        demonstrations: Sequence[Demonstration],
        *,
        seed: int,
        device: str,
    ) -> None:
        self.config = config
        self.task = task
        self.device = torch.device(device)
        self.data = ChunkDataset(demonstrations, config.chunk_size)
        self.data_identity = demonstrations_identity(demonstrations)
        _, height, width, _ = next(iter(demonstrations[0].images.values())).shape
        torch.manual_seed(seed)
        self.model = NormalisedACT(task.agent_spec((height, width)), config.size())
        self.model.fit_statistics(self.data.states, self.data.actions)
        self.model.to(self.device).train()
        parameters = dict(self.model.named_parameters())
        backbone = [p for name, p in parameters.items() if name.startswith("act.backbone")]
        rest = [p for name, p in parameters.items() if not name.startswith("act.backbone")]
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

    def train_step(self) -> float:
        """One step; the L1 loss on normalised actions. RuntimeError when it is not finite."""
        config = self.config
        images, state, action, is_pad = self.data.sample(config.batch_size, self.rng)
        images = {
            name: random_shift(image.to(self.device), config.shift_pad, self.generator)
            for name, image in images.items()
        }
        decay = 0.5 * (1 + math.cos(math.pi * self.step / config.steps))
        for group, rate in zip(self.optimiser.param_groups, self._base_rates, strict=True):
            # The first steps from random weights are small ones.
            warm_up = min(1.0, (self.step + 1) / 100)
            group["lr"] = rate * warm_up * (decay if config.cosine_decay else 1.0)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bfloat16):
            predicted = self.model(images, state.to(self.device))
        target = self.model.normalise_action(action.to(self.device))
        valid = ~is_pad.to(self.device).unsqueeze(-1)
        error = (predicted.float() - target).abs() * valid
        loss = error.sum() / (valid.sum() * target.shape[-1])
        if not torch.isfinite(loss):
            raise RuntimeError(f"step {self.step}: loss: expected a finite number, found {loss}")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.grad_clip)
        self.optimiser.step()
        self.step += 1
        return float(loss.detach())

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
            "step": self.step,
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
        self.step = int(state["step"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code."""
    from resfit_rl.demonstrations import DemonstrationsError, load_demonstrations
    from resfit_rl.demonstrations.dataset import read_identity

    parser = argparse.ArgumentParser(prog="train-base", description=__doc__)
    parser.add_argument("--task", default="square", help="default: square")
    parser.add_argument(
        "--demos", nargs="+", help="LeRobotDataset folders (default: data/demos/TASK)"
    )
    parser.add_argument("--out", help="checkpoint folder (default: models/act_TASK)")
    parser.add_argument("--config", default="config/base_policies/act_small.yaml")
    parser.add_argument("--steps", type=int, help="in place of the configuration's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate", type=int, default=0, help="episodes in simulation at the end")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: all)")
    chosen = parser.parse_args(arguments)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    try:
        task = get_task(chosen.task)
        config = load_dataclass(chosen.config, ACTTraining)
        if chosen.steps is not None:
            config = replace(config, steps=chosen.steps)
        folders = [Path(folder) for folder in chosen.demos or [f"data/demos/{task.name}"]]
        demonstrations = [d for folder in folders for d in load_demonstrations(folder, task)]
        out = Path(chosen.out or f"models/act_{task.name}")
        trainer = Trainer(config, task, demonstrations, seed=chosen.seed, device=chosen.device)
        progress = Path("runs/train_base") / f"{out.name}.pt"
        if progress.exists():
            trainer.resume(progress)
            print(f"{progress}: resumed at step {trainer.step}", flush=True)
    except (ValueError, DemonstrationsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(
        f"{task.name}: {len(demonstrations)} demonstrations, {len(trainer.data)} frames, "
        f"{sum(p.numel() for p in trainer.model.parameters()) / 1e6:.1f} M parameters",
        flush=True,
    )
    _train(trainer, progress)
    made: dict[str, Any] = {
        "command": " ".join(["./resfit train-base", *(arguments or sys.argv[1:])]),
        "demonstrations": [asdict(read_identity(folder)) for folder in folders],
        "steps": trainer.step,
        "training": asdict(config),
    }
    save_act(trainer.model, task, out, made)
    progress.unlink(missing_ok=True)
    print(f"{out}: written", flush=True)
    if chosen.evaluate:
        made["evaluation"] = _evaluate(task, out, chosen.evaluate, chosen.device)
        save_act(trainer.model, task, out, made)
    return 0


def _evaluate(task: Task, checkpoint: Path, episodes: int, device: str) -> dict[str, Any]:
    """Success of the written checkpoint in simulation, on start states 0, 1, ..."""
    from resfit_rl.evaluation import rollout, wilson_interval
    from resfit_rl.simulation import RenderOptions, Simulation

    policy = load_act(checkpoint, task, device)
    schedule = ChunkSchedule(replan_interval=3, lead=2)
    simulation = Simulation(task, rendering=RenderOptions())
    successes = 0
    for seed in range(episodes):
        episode = rollout(simulation, policy, schedule, seed)
        successes += episode.success
        print(
            f"episode {seed + 1}/{episodes}  {len(episode.actions)} steps  "
            f"{'success' if episode.success else 'no success'}  so far {successes}/{seed + 1}",
            flush=True,
        )
    simulation.close()
    return {
        "successes": successes,
        "episodes": episodes,
        "seeds": [0, episodes - 1],
        "wilson_95": wilson_interval(successes, episodes),
        "schedule": asdict(schedule),
    }


def _train(trainer: Trainer, progress: Path) -> None:
    config = trainer.config
    losses: list[float] = []
    start, first = time.monotonic(), trainer.step
    while trainer.step < config.steps:
        losses.append(trainer.train_step())
        done = trainer.step
        if done % 50 == 0 or done == config.steps:
            rate = (done - first) / (time.monotonic() - start)
            left = (config.steps - done) / rate
            print(
                f"step {done}/{config.steps}  loss {np.mean(losses):.4f}  {rate:.2f} steps/s  "
                f"{left / 60:.1f} min left",
                flush=True,
            )
            losses.clear()
        if done % config.save_every == 0:
            trainer.save(progress)


if __name__ == "__main__":
    sys.exit(main())
