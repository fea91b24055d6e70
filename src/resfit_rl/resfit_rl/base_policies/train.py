"""Train a base policy from demonstrations: python -m resfit_rl.base_policies.train --task square.

An interrupted run goes on where it was last saved when the same command is given again.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from resfit_rl.base_policies.interface import BasePolicyError
from resfit_rl.base_policies.training import LOSS_WINDOW, History, Trainer, Training
from resfit_rl.configuration import load_dataclass
from resfit_rl.demonstrations import DemonstrationsError, load_demonstrations, read_identity
from resfit_rl.episode_store.atomic_file import write_atomically
from resfit_rl.evaluation import Candidate, EvaluationError, run_episodes, wilson_interval
from resfit_rl.tasks import get_task

_CONFIGS = Path("config/base_policies")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code."""
    parser = argparse.ArgumentParser(
        prog="train-base",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--task", default="square", help="name")
    parser.add_argument("--policy", choices=("act", "diffusion"), default="act")
    parser.add_argument(
        "--demos", nargs="+", type=Path, help="LeRobotDataset folders (None: data/demos/TASK)"
    )
    parser.add_argument("--out", type=Path, help="checkpoint folder (None: models/POLICY_TASK)")
    parser.add_argument(
        "--config",
        type=Path,
        help=f"(None: {_CONFIGS}/POLICY_small_TASK.yaml, else {_CONFIGS}/POLICY_small.yaml)",
    )
    for name in ("steps", "evaluate_every", "evaluate_episodes"):
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, help="in place of the configuration's"
        )
    parser.add_argument(
        "--evaluate-seed", type=int, default=100_000, help="of the first start of the rollouts"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="processes that run the rollouts",
    )
    parser.add_argument("--replan-interval", type=int, default=3, help="of the rollouts")
    parser.add_argument("--lead", type=int, default=2, help="of the rollouts")
    parser.add_argument("--max-steps", type=int, help="of a rollout (None: the task's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: all)")
    parser.add_argument(
        "--state", type=Path, help="file to go on from (None: runs/train_base/NAME_OF_OUT.pt)"
    )
    chosen = parser.parse_args(arguments)
    chosen.command = " ".join(
        ["./resfit train-base", *(sys.argv[1:] if arguments is None else arguments)]
    )
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    try:
        return _Run(chosen).run()
    except (
        BasePolicyError,
        DemonstrationsError,
        EvaluationError,
        ValueError,
        RuntimeError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train-base: stopped; the same command goes on", file=sys.stderr)
        return 130


class _Run:
    """One run of the command."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self._task = get_task(chosen.task)
        self._config = _configuration(chosen)
        folders: list[Path] = chosen.demos or [Path("data/demos") / self._task.name]
        demonstrations = [d for folder in folders for d in load_demonstrations(folder, self._task)]
        self._out: Path = chosen.out or Path("models") / f"{chosen.policy}_{self._task.name}"
        self._state: Path = chosen.state or Path("runs/train_base") / f"{self._out.name}.pt"
        self._trainer = Trainer(
            self._config, self._task, demonstrations, seed=chosen.seed, device=chosen.device
        )
        # Rollouts run what will be written: the folder is read again in each process.
        self._tried = self._state.with_name(f"{self._state.stem}_tried")
        self._candidate = Candidate(
            task=self._task.name,
            policy=chosen.policy,
            path=str(self._tried),
            device=chosen.device,
            replan_interval=chosen.replan_interval,
            lead=chosen.lead,
            max_steps=chosen.max_steps,
        )
        first = chosen.evaluate_seed
        self._seeds = range(first, first + self._config.evaluate_episodes)
        self._workers = min(chosen.workers, len(self._seeds))
        self._made: dict[str, Any] = {
            "command": chosen.command,
            "demonstrations": [asdict(read_identity(folder)) for folder in folders],
            "training": asdict(self._config),
        }
        print(
            f"{self._task.name}: {len(demonstrations)} demonstrations, {len(self._trainer.data)} "
            f"frames, {sum(p.numel() for p in self._trainer.model.parameters()) / 1e6:.1f} M "
            "parameters",
            flush=True,
        )

    def run(self) -> int:
        trainer, config = self._trainer, self._config
        if self._state.exists():
            trainer.resume(self._state)
            print(f"{self._state}: resumed at step {trainer.step}", flush=True)
            if trainer.history.best and not self._out.is_dir():
                raise ValueError(
                    f"{self._out}: expected the best checkpoint, of step {trainer.history.best[0]},"
                    f" found none; remove {self._state} to start anew"
                )
        trained = tried = 0.0  # s
        first, tries = trainer.step, 0
        while trainer.step < config.steps:
            start = time.monotonic()
            trainer.train_step()
            trained += time.monotonic() - start
            done = trainer.step
            if done % LOSS_WINDOW == 0 or done == config.steps:
                rate = (done - first) / trained
                left = (config.steps - done) / rate
                if tries:
                    left += tried / tries * _evaluations(config, done)
                print(
                    f"step {done}/{config.steps}  loss {trainer.history.losses[-1][1]:.4f}  "
                    f"{rate:.2f} steps/s  {left / 60:.1f} min left",
                    flush=True,
                )
            evaluated = _evaluations(config, done - 1) - _evaluations(config, done) > 0
            if evaluated:
                start = time.monotonic()
                self._evaluate()
                tried, tries = tried + time.monotonic() - start, tries + 1
            if evaluated or done % config.save_every == 0:
                trainer.save(self._state)
        if config.evaluate_every:
            shutil.rmtree(self._tried, ignore_errors=True)
            best = trainer.history.best
            assert best is not None
            print(
                f"{self._out}: best of {len(trainer.history.evaluations)} checkpoints, of step "
                f"{best[0]}: {best[1]}/{best[2]}; the last one: {self._state} (remove it to train "
                "anew)",
                flush=True,
            )
            return 0
        config.export(trainer.model, self._task, self._out, self._made | {"steps": trainer.step})
        self._write_curve()
        self._state.unlink(missing_ok=True)
        print(f"{self._out}: written", flush=True)
        return 0

    def _evaluate(self) -> None:
        """Roll the present weights out; they become the checkpoint when none was better."""
        trainer, step = self._trainer, self._trainer.step
        made = self._made | {"steps": step}
        self._config.export(trainer.model, self._task, self._tried, made)
        successes = 0
        start = time.monotonic()
        total = len(self._seeds)
        episodes = run_episodes(self._candidate, self._seeds, self._workers)
        for done, episode in enumerate(episodes, start=1):
            successes += episode.success
            if done % 10 == 0 or done == total:
                seconds = time.monotonic() - start
                print(
                    f"step {step}: rollouts {done}/{total}  success {successes}/{done}  "
                    f"{seconds / done * (total - done):.0f} s left",
                    flush=True,
                )
        if trainer.history.add_evaluation(step, successes, total):
            made["evaluation"] = {
                "successes": successes,
                "episodes": total,
                "seeds": [self._seeds[0], self._seeds[-1]],
                "wilson_95": wilson_interval(successes, total),
                "schedule": asdict(episode.schedule),
            }
            self._config.export(trainer.model, self._task, self._out, made)
            print(f"{self._out}: best so far, {successes}/{total}", flush=True)
        self._write_curve()

    def _write_curve(self) -> None:
        """training.json and training.png in the checkpoint folder."""
        history = self._trainer.history
        curve = {
            "task": self._task.name,
            "loss": [{"step": step, "mean": loss} for step, loss in history.losses],
            "success": [
                {
                    "step": step,
                    "successes": successes,
                    "episodes": episodes,
                    "wilson_95": wilson_interval(successes, episodes),
                }
                for step, successes, episodes in history.evaluations
            ],
            "best_step": history.best and history.best[0],
        }
        text = json.dumps(curve, indent=2) + "\n"
        write_atomically(self._out / "training.json", text.encode())
        write_atomically(self._out / "training.png", _picture(history, self._task.name))


def _configuration(chosen: argparse.Namespace) -> Training:
    path = chosen.config
    if path is None:
        path = _CONFIGS / f"{chosen.policy}_small_{chosen.task}.yaml"
        if not path.exists():
            path = _CONFIGS / f"{chosen.policy}_small.yaml"
    config: Training
    if chosen.policy == "act":
        from resfit_rl.base_policies.train_act import ACTTraining

        config = load_dataclass(path, ACTTraining)
    else:
        from resfit_rl.base_policies.train_diffusion import DiffusionTraining

        config = load_dataclass(path, DiffusionTraining)
    changes = {
        name: getattr(chosen, name)
        for name in ("steps", "evaluate_every", "evaluate_episodes")
        if getattr(chosen, name) is not None
    }
    return replace(config, **changes)


def _evaluations(config: Training, done: int) -> int:
    """How many are still to come after step `done`; the last step has one."""
    if not config.evaluate_every or done >= config.steps:
        return 0
    return -(-config.steps // config.evaluate_every) - done // config.evaluate_every


def _picture(history: History, title: str) -> bytes:
    """PNG: loss, and success with its Wilson interval, against the step."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    loss = figure.subplots()
    loss.plot(*zip(*history.losses, strict=True), color="tab:blue", linewidth=1)
    loss.set(title=title, xlabel="step", ylabel="loss", yscale="log")
    loss.yaxis.label.set_color("tab:blue")
    if history.evaluations:
        steps = [step for step, _, _ in history.evaluations]
        rates = [successes / episodes for _, successes, episodes in history.evaluations]
        intervals = [wilson_interval(s, episodes) for _, s, episodes in history.evaluations]
        success = loss.twinx()
        success.errorbar(
            steps,
            rates,
            yerr=[
                [rate - low for rate, (low, _) in zip(rates, intervals, strict=True)],
                [high - rate for rate, (_, high) in zip(rates, intervals, strict=True)],
            ],
            color="tab:orange",
            marker="o",
            capsize=3,
        )
        success.set(ylabel="success, 95 % Wilson interval", ylim=(-0.02, 1.02))
        success.yaxis.label.set_color("tab:orange")
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    return png.getvalue()


if __name__ == "__main__":
    sys.exit(main())
