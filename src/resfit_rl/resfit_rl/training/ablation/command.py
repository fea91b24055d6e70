"""Ablations over seeds: python -m resfit_rl.training.ablation --table config/ablations/paper.yaml.

Each run is a `./resfit train`. One that crashes is told of and the others go on; the same command
again runs what is not done, and goes on with runs that were stopped.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from resfit_rl.episode_store import RunError, claim_role
from resfit_rl.episode_store.atomic_file import write_atomically
from resfit_rl.training.ablation.engines import Engine, LocalEngine, RayEngine
from resfit_rl.training.ablation.figures import as_json, curve_of, figure, table
from resfit_rl.training.ablation.plan import Ablation, Job, load_ablation, plan
from resfit_rl.training.scores import ScoresError, read_scores
from resfit_rl.training.settings import AGENTS_FOLDER

_STATUS = "status.json"
_PROGRESS_PERIOD = 30.0  # s


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 when a run failed."""
    parser = argparse.ArgumentParser(
        prog="ablate", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--table", type=Path, default=Path("config/ablations/paper.yaml"))
    parser.add_argument("--out", type=Path, help="folder (None: runs/ablations/NAME_OF_TABLE)")
    parser.add_argument("--at-once", type=int, default=1, help="runs beside each other")
    parser.add_argument("--ray-address", help="of a Ray cluster (pip install ray) to run on")
    parser.add_argument("--figures-only", choices=("true", "false"), default="false")
    options = parser.parse_args(arguments)
    folder = (options.out or Path("runs/ablations") / options.table.stem).absolute()
    try:
        ablation = load_ablation(options.table)
        folder.mkdir(parents=True, exist_ok=True)
        with claim_role(folder, "ablation"):
            jobs = plan(ablation, folder, AGENTS_FOLDER)
            if options.figures_only == "true":
                draw(ablation, jobs, folder)
                return 0
            engine: Engine
            if options.ray_address:
                gpus = 1.0 if ablation.train.get("device") == "cuda" else 0.0
                engine = RayEngine(options.ray_address, gpus)
            else:
                engine = LocalEngine(options.at_once)
            # As Ctrl-C: the runs save, and the same command goes on.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            failed = run(ablation, jobs, folder, engine)
    except (ValueError, RunError, ScoresError, OSError) as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ablate: stopped; the same command goes on", file=sys.stderr)
        return 130
    return 1 if failed else 0


def run(ablation: Ablation, jobs: Sequence[Job], folder: Path, engine: Engine) -> list[str]:
    """Run what is not done and draw the figures after each run; names of those that failed."""
    status = _read_status(folder / _STATUS)
    done = {job.name for job in jobs if status.get(job.name) == ["done", *job.arguments]}
    waiting = [job for job in jobs if job.name not in done]
    print(f"{len(jobs)} runs, {len(done)} of them done; logs in {folder / 'logs'}", flush=True)
    failed: list[str] = []
    printed = time.monotonic()
    try:
        while waiting or engine.running:
            while waiting and engine.free:
                job = waiting.pop(0)
                print(f"{job.name}: started", flush=True)
                engine.begin(job)
            for job, code in engine.finished(1.0):
                result = "done" if code == 0 else f"failed, exit code {code}"
                status[job.name] = [result, *job.arguments]
                write_atomically(folder / _STATUS, (json.dumps(status, indent=1) + "\n").encode())
                if code:
                    failed.append(job.name)
                    result += f": {_last_line(job.log)} ({job.log}; the same command runs it again)"
                else:
                    done.add(job.name)
                print(f"{job.name}: {result}; {len(done)} of {len(jobs)} done", flush=True)
                draw(ablation, jobs, folder)
            if time.monotonic() - printed >= _PROGRESS_PERIOD:
                printed = time.monotonic()
                for job in engine.running:
                    print(f"{job.name}: {_last_line(job.log)}", flush=True)
    finally:
        engine.stop()
    print(draw(ablation, jobs, folder))
    if failed:
        print(f"{len(failed)} of {len(jobs)} runs failed: {', '.join(failed)}", flush=True)
    return failed


def draw(ablation: Ablation, jobs: Sequence[Job], folder: Path) -> str:
    """FIGURE.png for each figure, and curves.json; the table of all variants that have scores."""
    curves = {}
    for variant in ablation.variants:
        own = [
            [read_scores(job.run_dir) for job in jobs if (job.variant, job.task) == (variant, task)]
            for task in ablation.tasks
        ]
        if (found := curve_of(own)) is not None:
            curves[variant] = found
    for name, variants in ablation.figures.items():
        chosen = {variant: curves[variant] for variant in variants if variant in curves}
        if chosen:
            title = f"{', '.join(ablation.tasks)}, {name}"
            write_atomically(folder / f"{name}.png", figure(chosen, title))
    write_atomically(
        folder / "curves.json", (json.dumps(as_json(curves), indent=1) + "\n").encode()
    )
    return table(curves)


def _read_status(path: Path) -> dict[str, list[str]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): [str(v) for v in values] for name, values in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}  # Done runs say so at once when they are begun again.


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "nothing printed"
    return next((line for line in reversed(lines) if line.strip()), "nothing printed")
