"""Success of a policy: python -m resfit_rl.evaluation --task square --policy scripted."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from resfit_rl.base_policies import BASE_POLICIES, BasePolicyError
from resfit_rl.episode_store.atomic_file import write_atomically
from resfit_rl.evaluation.candidate import BLIND, Candidate, EvaluationError
from resfit_rl.evaluation.parallel import EpisodeResult, run_episodes
from resfit_rl.evaluation.pictures import contact_sheet
from resfit_rl.evaluation.record import FILE, compare, read_record, record, summary
from resfit_rl.simulation import SimulationError
from resfit_rl.tasks import Task, UnknownTaskError, get_task


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="evaluate",
        description="Run a policy on seeded starts in simulation and report its success.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--task", default="square", help="a task or a robosuite environment")
    parser.add_argument("--policy", choices=BASE_POLICIES, default="scripted")
    parser.add_argument("--path", help="of the policy's files (None: models/POLICY_TASK)")
    parser.add_argument("--residual", help="weights file of a residual that acts on top (None)")
    parser.add_argument("--episodes", type=_positive, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the first; the next ones count up")
    parser.add_argument(
        "--workers", type=_positive, default=len(os.sched_getaffinity(0)), help="processes"
    )
    parser.add_argument(
        "--out", type=Path, help="folder (None: runs/evaluations/TASK_POLICY_IDENTITY)"
    )
    parser.add_argument(
        "--pictures", type=int, default=3, help="episodes of each outcome on its contact sheet"
    )
    parser.add_argument(
        "--image-size",
        nargs=2,
        type=_positive,
        default=[84, 84],
        metavar=("HEIGHT", "WIDTH"),
        help="of all cameras, pixels; a learned policy wants that of its demonstrations",
    )
    parser.add_argument(
        "--replan-interval", type=int, default=3, help="steps from chunk to chunk; scripted: 1"
    )
    parser.add_argument(
        "--lead", type=int, default=2, help="steps that a chunk is predicted ahead; scripted: 0"
    )
    parser.add_argument("--max-steps", type=_positive, help="of an episode (None: the task's)")
    parser.add_argument("--device", default="cpu", help="of the policy: cpu or cuda")
    parser.add_argument(
        "--compare",
        nargs=2,
        type=Path,
        metavar=("A", "B"),
        help="two evaluations of the same starts instead: their folders or JSON files",
    )
    options = parser.parse_args(arguments)
    options.command = " ".join(
        ["./resfit evaluate", *(sys.argv[1:] if arguments is None else arguments)]
    )
    if options.path is None and options.policy not in BLIND:
        options.path = f"models/{options.policy}_{options.task}"
    try:
        if options.compare:
            print(compare(*(read_record(path) for path in options.compare)))
            return 0
        return _run(options)
    except (
        BasePolicyError,
        EvaluationError,
        SimulationError,
        UnknownTaskError,
        OSError,
        ValueError,
    ) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("evaluate: stopped before the first episode ended", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    task = get_task(options.task)
    candidate = Candidate(
        task=task.name,
        policy=options.policy,
        path=options.path,
        device=options.device,
        replan_interval=options.replan_interval,
        lead=options.lead,
        max_steps=options.max_steps,
        image_size=tuple(options.image_size),
        residual=options.residual,
    )
    candidate = replace(candidate, rendering=not candidate.blind)
    identity = candidate.identity()
    seeds = range(options.seed, options.seed + options.episodes)
    workers = min(options.workers, len(seeds))
    episodes: list[EpisodeResult] = []
    kept: dict[str, list[EpisodeResult]] = {}
    start = time.monotonic()
    running = run_episodes(candidate, seeds, workers)
    try:
        for episode in running:
            chosen = kept.setdefault(episode.outcome, [])
            if len(chosen) < options.pictures:
                chosen.append(episode)
            # Pictures of many episodes would fill the memory.
            episodes.append(replace(episode, pictures=()))
            print(_progress(episodes, len(seeds), time.monotonic() - start), flush=True)
    except KeyboardInterrupt:
        if not episodes:
            raise
    finally:
        running.close()  # ends the worker processes
    stopped = len(episodes) < len(seeds)
    found = record(
        task,
        candidate,
        seeds,
        episodes,
        workers=workers,
        seconds=time.monotonic() - start,
        command=options.command,
    )
    if stopped:
        print(f"stopped after {len(episodes)} of {len(seeds)} episodes; of these:")
    print(summary(task, found, episodes))
    out = options.out or Path("runs/evaluations") / "_".join(
        [task.name, options.policy, identity.rpartition(":")[2][:8]]
    )
    write_atomically(out / FILE, (json.dumps(found, indent=2) + "\n").encode())
    print(f"{out / FILE}: written", flush=True)
    if not stopped and task.cameras:
        _write_sheets(task, candidate, kept, out, workers)
    return 130 if stopped else 0


def _write_sheets(
    task: Task,
    candidate: Candidate,
    kept: dict[str, list[EpisodeResult]],
    out: Path,
    workers: int,
) -> None:
    """One contact sheet per outcome; one of an earlier evaluation goes away."""
    if not candidate.rendering:
        # Run again for the pictures: rendering all would take far longer.
        seeds = sorted(episode.seed for chosen in kept.values() for episode in chosen)
        seen = {
            episode.seed: episode
            for episode in run_episodes(replace(candidate, rendering=True), seeds, workers)
        }
        kept = {name: [seen[episode.seed] for episode in kept[name]] for name in kept}
    for outcome in ("success", "failure"):
        file = out / f"{outcome}.png"
        file.unlink(missing_ok=True)
        if chosen := kept.get(outcome):
            png = io.BytesIO()
            contact_sheet(chosen, f"{task.name}, {chosen[0].identity}: {outcome}").save(png, "PNG")
            write_atomically(file, png.getvalue())
            print(f"{file}: written", flush=True)


def _progress(episodes: Sequence[EpisodeResult], total: int, seconds: float) -> str:
    last = episodes[-1]
    successes = sum(episode.success for episode in episodes)
    peaks = ", ".join(
        f"{wrist} {force:.1f} N {torque:.2f} N m"
        for wrist, (force, torque) in last.wrench_peaks().items()
    )
    steps = sum(episode.steps for episode in episodes)
    return (
        f"episode {len(episodes)}/{total} seed {last.seed}: {last.outcome}, {last.steps} steps, "
        f"peak {peaks}; success {successes}/{len(episodes)}, {steps / seconds:.0f} steps/s, "
        f"{seconds / len(episodes) * (total - len(episodes)):.0f} s left"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, found {value}")
    return value


if __name__ == "__main__":
    sys.exit(main())
