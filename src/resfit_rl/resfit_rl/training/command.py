"""Train a residual in simulation, without ROS: python -m resfit_rl.training --task can.

Episodes are collected while updates are made, in processes of their own; the run directory is the
graph's. A run that ended early goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from resfit_rl.agent import DivergedError
from resfit_rl.base_policies import BASE_POLICIES, BasePolicyError
from resfit_rl.demonstrations import DemonstrationsError
from resfit_rl.evaluation import EvaluationError
from resfit_rl.learning import CheckpointError
from resfit_rl.simulation import SimulationError
from resfit_rl.tasks import UnknownTaskError
from resfit_rl.training.collectors import CollectionError
from resfit_rl.training.run import TrainingRun
from resfit_rl.training.settings import AGENTS, Settings

# They see poses that demonstrations do not hold, or no observation at all.
_WITHOUT_DEMONSTRATIONS = ("scripted",)
_WITHOUT_FILES = ("scripted",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code."""
    options = _parser().parse_args(arguments)
    try:
        settings = _settings(options)
        run = TrainingRun(settings, options.agent_config, lambda line: print(line, flush=True))
        if run.run():
            print(f"{settings.run_dir}: done", flush=True)
            return 0
        print(f"{settings.run_dir}: stopped; the same command goes on", file=sys.stderr)
        return 130
    except (
        BasePolicyError,
        CheckpointError,
        CollectionError,
        DemonstrationsError,
        DivergedError,
        EvaluationError,
        OSError,
        SimulationError,
        UnknownTaskError,
        ValueError,
    ) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train: stopped; the same command goes on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(
        prog="train",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--task", default="can", help="a task or a robosuite environment")
    add("--agent", choices=AGENTS, default="resfit", help="resfit or a baseline")
    add("--seed", type=_natural, default=0, help="of networks, sampling, starts and noise")
    add("--run", type=Path, help="folder of the run (None: runs/TASK-AGENT-seedSEED)")
    add(
        "--agent-config",
        type=Path,
        help="hyperparameters, of which a baseline replaces some (None: config/agents/TASK.yaml)",
    )
    add("--base-policy", choices=BASE_POLICIES, default="act")
    add("--base-policy-path", help="of its files (None: models/BASE-POLICY_TASK)")
    add("--demonstrations", help="data set; none for none (None: data/demos/TASK)")
    add("--base-actions", type=Path, help="folder of their base actions (None: in the run's)")
    add("--replan-interval", type=_positive, default=3, help="steps from chunk to chunk")
    add("--lead", type=_natural, default=2, help="steps that a chunk is predicted ahead")
    add(
        "--image-size", nargs=2, type=_positive, default=[84, 84], metavar=("HEIGHT", "WIDTH"),
        help="of all cameras, pixels",
    )  # fmt: skip
    add("--max-steps", type=_positive, help="of an episode (None: the task's)")
    add("--steps", type=_positive, help="control steps of the run (None: the configuration's)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where networks are trained")
    add(
        "--speed-ups",
        type=_truth,
        default=True,
        help="of a GPU: bfloat16, torch.compile, CUDA graph",
    )
    add("--collector-device", choices=("cpu", "cuda"), help="where they act (None: as --device)")
    add("--threads", type=_positive, default=1, help="CPU threads of each process")
    add("--overlap", type=_truth, default=True, help="collect while updates are made; else in turn")
    add("--environments", type=_positive, default=1, help="simulations that collect at once")
    add(
        "--ahead", type=_positive,
        help="episodes begun before the updates of those before them are made (None: as many as "
        "environments)",
    )  # fmt: skip
    add("--evaluate-every", type=_natural, default=10_000, help="control steps; 0: never")
    add("--evaluation-episodes", type=_positive, default=50)
    add("--evaluation-seed", type=_natural, default=200_000, help="of the first start")
    add(
        "--evaluation-workers", type=_positive, default=max(1, min(10, cores - 2)),
        help="processes that run an evaluation",
    )  # fmt: skip
    add("--evaluation-waits", type=_truth, default=False, help="training waits for an evaluation")
    add("--checkpoint-period", type=float, default=60.0, help="s")
    add("--wandb", metavar="PROJECT", help="curves to Weights & Biases too (pip install wandb)")
    add("--verbose", type=_truth, default=False, help="a line for each episode and publication")
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    run_dir = options.run or Path("runs") / f"{options.task}-{options.agent}-seed{options.seed}"
    path = options.base_policy_path
    if path is None and options.base_policy not in _WITHOUT_FILES:
        path = f"models/{options.base_policy}_{options.task}"
    demonstrations: Path | None = Path(options.demonstrations or f"data/demos/{options.task}")
    needless = options.base_policy in _WITHOUT_DEMONSTRATIONS and options.demonstrations is None
    if options.demonstrations == "none" or needless:
        demonstrations = None
    elif not Path(str(demonstrations)).exists():
        raise ValueError(
            f"demonstrations: expected a data set at {demonstrations}, found none "
            f"(./resfit demos task:={options.task}; or demonstrations:=none)"
        )
    for device in (options.device, options.collector_device):
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("device: expected a CUDA device, found none")
    if options.wandb and importlib.util.find_spec("wandb") is None:
        raise ValueError("wandb: expected the package wandb, found none (pip install wandb)")
    if not options.overlap and options.environments > 1:
        raise ValueError(f"environments: expected 1 without overlap, found {options.environments}")
    return Settings(
        task=options.task,
        agent=options.agent,
        seed=options.seed,
        run_dir=run_dir.absolute(),
        base_policy=options.base_policy,
        base_policy_path=path,
        demonstrations=demonstrations,
        base_actions=options.base_actions or run_dir.absolute() / "base_actions",
        replan_interval=options.replan_interval,
        lead=options.lead,
        image_size=tuple(options.image_size),
        max_steps=options.max_steps,
        device=options.device,
        speed_ups=options.speed_ups,
        collector_device=options.collector_device or options.device,
        threads=options.threads,
        environments=options.environments,
        overlap=options.overlap,
        ahead=(options.ahead or options.environments) if options.overlap else 0,
        steps=options.steps,
        evaluate_every=options.evaluate_every,
        evaluation_episodes=options.evaluation_episodes,
        evaluation_seed=options.evaluation_seed,
        evaluation_workers=options.evaluation_workers,
        evaluation_waits=options.evaluation_waits,
        checkpoint_period=options.checkpoint_period,
        wandb=options.wandb,
        verbose=options.verbose,
    )


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, found {text}")
    return text == "true"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {value}")
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, found {value}")
    return value
