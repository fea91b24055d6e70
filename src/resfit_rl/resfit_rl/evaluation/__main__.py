"""Success of a base policy: python -m resfit_rl.evaluation --task square --policy scripted."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from resfit_rl.base_policies import BasePolicy, BasePolicyError, load_base_policy
from resfit_rl.control import ChunkSchedule
from resfit_rl.evaluation.rollout import Rollout, rollout
from resfit_rl.evaluation.statistics import wilson_interval
from resfit_rl.simulation import RenderOptions, Simulation, SimulationError
from resfit_rl.tasks import Task, UnknownTaskError, get_task


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m resfit_rl.evaluation",
        description="Run a base policy in simulation and report its success.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--task", default="square", help="can, square or a robosuite environment")
    parser.add_argument("--policy", choices=("scripted", "act"), default="scripted")
    parser.add_argument("--path", type=Path, help="of an act policy (None: models/act_TASK)")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the first episode")
    parser.add_argument(
        "--replan-interval", type=int, default=3, help="steps from chunk to chunk; scripted: 1"
    )
    parser.add_argument(
        "--lead", type=int, default=2, help="steps that a chunk is predicted ahead; scripted: 0"
    )
    parser.add_argument("--device", default="cpu", help="of an act policy: cpu or cuda")
    options = parser.parse_args(arguments)
    if options.episodes < 1:
        parser.error(f"--episodes: expected 1 or more, found {options.episodes}")
    if options.policy == "act" and options.path is None:
        options.path = Path("models") / f"act_{options.task}"
    try:
        return _run(options)
    except (BasePolicyError, SimulationError, UnknownTaskError, ValueError) as error:
        print(f"evaluation: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace) -> int:
    task = get_task(options.task)
    policy = load_base_policy(options.policy, task, options.path, device=options.device)
    scripted = options.policy == "scripted"
    schedule = (
        ChunkSchedule(1) if scripted else ChunkSchedule(options.replan_interval, options.lead)
    )
    # The scripted expert looks at no picture.
    simulation = Simulation(task, rendering=None if scripted else RenderOptions())
    episodes: list[Rollout] = []
    start = time.monotonic()
    try:
        for seed in range(options.seed, options.seed + options.episodes):
            episode = rollout(simulation, policy, schedule, seed)
            # Pictures of many episodes would fill the memory.
            frames = tuple(replace(frame, images={}) for frame in episode.frames)
            episodes.append(replace(episode, frames=frames))
            print(_progress(episodes, options.episodes, time.monotonic() - start), flush=True)
    finally:
        simulation.close()
    print(_summary(task, policy, schedule, episodes))
    return 0


def _progress(episodes: list[Rollout], total: int, seconds: float) -> str:
    last = episodes[-1]
    successes = sum(episode.success for episode in episodes)
    peaks = ", ".join(
        f"{wrist} {force:.1f} N {torque:.2f} N m"
        for wrist, (force, torque) in last.wrench_peaks().items()
    )
    steps = sum(len(episode.actions) for episode in episodes)
    return (
        f"episode {len(episodes)}/{total} seed {last.seed}: "
        f"{'success' if last.success else 'failure'}, {len(last.actions)} steps, peak {peaks}; "
        f"success {successes}/{len(episodes)}, {steps / seconds:.0f} steps/s, "
        f"{seconds / len(episodes) * (total - len(episodes)):.0f} s left"
    )


def _summary(
    task: Task, policy: BasePolicy, schedule: ChunkSchedule, episodes: list[Rollout]
) -> str:
    successes = sum(episode.success for episode in episodes)
    low, high = wilson_interval(successes, len(episodes))
    lengths = [len(episode.actions) for episode in episodes]
    change = np.max(
        [np.abs(np.diff(e.actions, axis=0)).max(axis=0, initial=0) for e in episodes], axis=0
    )
    lines = [
        f"{task.name}, {policy.identity}, replan interval {schedule.replan_interval}, "
        f"lead {schedule.lead}, seeds {episodes[0].seed} to {episodes[-1].seed}",
        f"success {successes}/{len(episodes)} = {successes / len(episodes):.3f}, "
        f"95 % Wilson interval {low:.3f} to {high:.3f}",
        f"mean length {np.mean(lengths):.1f} steps",
    ]
    for wrist in task.wrists:
        wrenches = [
            np.linalg.norm(
                (
                    np.array([f.wrenches[wrist] for f in e.frames]) - e.frames[0].wrenches[wrist]
                ).reshape(-1, 2, 3),
                axis=2,
            )
            for e in episodes
        ]
        for name, unit, values in zip(
            ("force", "torque"), ("N", "N m"), np.concatenate(wrenches).T, strict=True
        ):
            median, rare = np.percentile(values, [50, 99])
            lines.append(
                f"{wrist} {name} of a step, tared at reset: p50 {median:.2f}, p99 {rare:.2f}, "
                f"max {values.max():.2f} {unit}"
            )
    changes = ", ".join(
        f"{name} {value:.2f}" for name, value in zip(task.action_names, change, strict=True)
    )
    lines.append(f"largest change of the action from step to step: {changes}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
