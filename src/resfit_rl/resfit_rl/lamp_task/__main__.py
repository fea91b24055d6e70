"""Train the variants on the lamp task and draw their curves."""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch

from resfit_rl.lamp_task.training import CONFIG, VARIANTS, Result, train


def run(variants: list[str], seeds: list[int], processes: int) -> list[Result]:
    """All runs, each in one thread of one of `processes` processes; a line after each of them."""
    # Forked children would share torch's threads with their parent.
    context = multiprocessing.get_context("spawn")
    results = []
    with ProcessPoolExecutor(processes, context, torch.set_num_threads, (1,)) as pool:
        jobs = [pool.submit(train, variant, seed) for seed in seeds for variant in variants]
        for job in as_completed(jobs):
            result = job.result()
            results.append(result)
            print(
                f"[{len(results)}/{len(jobs)}] {result.variant}, seed {result.seed}: success "
                f"{result.curve[0][1]:.2f} (base) -> {result.success:.2f}, {result.seconds:.0f} s",
                flush=True,
            )
    return results


def draw(results: list[Result], path: Path) -> None:
    """Mean over seeds and each seed, success over environment steps."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), constrained_layout=True)
    for index, variant in enumerate(dict.fromkeys(result.variant for result in results)):
        curves = [result.curve for result in results if result.variant == variant]
        grid = np.arange(0, CONFIG.total_steps + 1, 20)
        each = np.stack([np.interp(grid, *np.transpose(curve)) for curve in curves])
        axes.plot(grid, each.T, color=f"C{index}", alpha=0.25, linewidth=1)
        label = f"{variant.replace('_', ' ')} ({len(curves)} seeds)"
        axes.plot(grid, each.mean(axis=0), color=f"C{index}", linewidth=2, label=label)
    axes.axhline(results[0].curve[0][1], color="gray", linestyle="--", label="base policy alone")
    axes.axvline(CONFIG.warmup_steps, color="gray", linestyle=":", linewidth=1)
    axes.set(xlabel="environment steps", ylabel="success", ylim=(0, 1.02), title="Lamp task, 84x84")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./resfit lamp-task", description=__doc__)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=2, help="one thread each")
    parser.add_argument("--output", type=Path, help="folder for lamp_task.png and lamp_task.json")
    arguments = parser.parse_args()
    results = run(arguments.variants, arguments.seeds, arguments.processes)
    for variant in arguments.variants:
        success = [result.success for result in results if result.variant == variant]
        print(f"{variant}: mean success {np.mean(success):.3f} over seeds {arguments.seeds}")
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        draw(results, arguments.output / "lamp_task.png")
        record = [dataclasses.asdict(result) for result in results]
        (arguments.output / "lamp_task.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
