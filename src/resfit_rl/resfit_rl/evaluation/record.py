"""What an evaluation found, as text for people and as JSON to compare."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from resfit_rl.evaluation.candidate import Candidate, EvaluationError
from resfit_rl.evaluation.parallel import EpisodeResult
from resfit_rl.evaluation.statistics import mcnemar_exact, wilson_interval
from resfit_rl.tasks import Task

FORMAT = "resfit-evaluation/1"
FILE = "evaluation.json"
_PACKAGES = ("torch", "lerobot", "robosuite", "mujoco", "numpy")


def record(
    task: Task,
    candidate: Candidate,
    seeds: Sequence[int],
    episodes: Sequence[EpisodeResult],
    *,
    workers: int,
    seconds: float,
    command: str,
) -> dict[str, Any]:
    """JSON-ready; `episodes` are those of the first of `seeds`, at least one.

    Args:
        seconds: wall time of all episodes, the start of the processes included.
    """
    successes = sum(episode.success for episode in episodes)
    steps = sum(episode.steps for episode in episodes)
    return {
        "format": FORMAT,
        "task": task.name,
        "implementation": task.implementation,
        "policy": candidate.policy,
        "path": candidate.path,
        "residual": candidate.residual,
        "identity": episodes[0].identity,
        "schedule": asdict(episodes[0].schedule),
        "max_steps": candidate.max_steps or task.max_steps,
        "device": candidate.device,
        "image_size": list(candidate.image_size),
        "seeds": list(seeds),
        "complete": len(episodes) == len(seeds),
        "successes": successes,
        "success": successes / len(episodes),
        "wilson_95": wilson_interval(successes, len(episodes)),
        "mean_steps": steps / len(episodes),
        "episodes": [
            {
                "seed": episode.seed,
                "outcome": episode.outcome,
                "steps": episode.steps,
                "wrench_peaks": {
                    wrist: {"force_N": force, "torque_Nm": torque}
                    for wrist, (force, torque) in episode.wrench_peaks().items()
                },
            }
            for episode in episodes
        ],
        "workers": workers,
        "seconds": seconds,
        "steps_per_second": steps / seconds,
        "steps_per_second_of_one_worker": steps / sum(e.seconds for e in episodes),
        "command": command,
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in _PACKAGES},
    }


def summary(task: Task, found: dict[str, Any], episodes: Sequence[EpisodeResult]) -> str:
    """Of `record`'s answer and the episodes it was made from."""
    low, high = found["wilson_95"]
    lines = [
        f"{task.name}, {found['identity']}, replan interval "
        f"{found['schedule']['replan_interval']}, lead {found['schedule']['lead']}, "
        f"seeds {episodes[0].seed} to {episodes[-1].seed}",
        f"success {found['successes']}/{len(episodes)} = {found['success']:.3f}, "
        f"95 % Wilson interval {low:.3f} to {high:.3f}",
        f"mean length {found['mean_steps']:.1f} steps",
    ]
    for wrist in task.wrists:
        norms = np.concatenate([episode.wrench_norms[wrist] for episode in episodes])
        for name, unit, values in zip(("force", "torque"), ("N", "N m"), norms.T, strict=True):
            median, rare = np.percentile(values, [50, 99])
            lines.append(
                f"{wrist} {name} of a step, tared at reset: p50 {median:.2f}, p99 {rare:.2f}, "
                f"max {values.max():.2f} {unit}"
            )
    change = np.max([episode.action_change for episode in episodes], axis=0)
    changes = ", ".join(
        f"{name} {value:.2f}" for name, value in zip(task.action_names, change, strict=True)
    )
    lines.append(f"largest change of the action from step to step: {changes}")
    lines.append(
        f"{found['steps_per_second']:.1f} steps/s over {found['workers']} processes, their start "
        f"included; {found['steps_per_second_of_one_worker']:.1f} steps/s in one of them"
    )
    return "\n".join(lines)


def read_record(path: Path) -> dict[str, Any]:
    """From the file, or the folder that holds it; EvaluationError when it is none."""
    file = path / FILE if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"{file}: expected the record of an evaluation, found: {error}"
        ) from error
    kind = found.get("format") if isinstance(found, dict) else None
    if kind != FORMAT:
        raise EvaluationError(f"{file}: format: expected {FORMAT}, found {kind}")
    return found


def compare(first: dict[str, Any], second: dict[str, Any]) -> str:
    """Two policies on the same starts: a table of pairs and McNemar's exact test.

    Raises:
        EvaluationError: another task, implementation, time limit or other seeds.
    """
    for key in ("task", "implementation", "max_steps"):
        if first[key] != second[key]:
            raise EvaluationError(f"{key}: expected {first[key]} as in the first, "
                                  f"found {second[key]}")  # fmt: skip
    seeds, others = ([episode["seed"] for episode in one["episodes"]] for one in (first, second))
    if seeds != others:
        raise EvaluationError(
            f"seeds: expected {_range(seeds)} as in the first, found {_range(others)}"
        )
    pairs = [
        (one["outcome"] == "success", other["outcome"] == "success")
        for one, other in zip(first["episodes"], second["episodes"], strict=True)
    ]
    counts = {pair: pairs.count(pair) for pair in ((a, b) for a in (1, 0) for b in (1, 0))}
    only_first, only_second = counts[(1, 0)], counts[(0, 1)]
    differing = only_first + only_second
    p = mcnemar_exact(only_first, only_second)
    lines = [
        f"{first['task']}, {first['implementation']}, {_range(seeds)}",
        *(
            f"{name}: {one['identity']}  success {one['successes']}/{len(seeds)} = "
            f"{one['success']:.3f}, 95 % Wilson interval {one['wilson_95'][0]:.3f} to "
            f"{one['wilson_95'][1]:.3f}, mean length {one['mean_steps']:.1f} steps"
            for name, one in (("A", first), ("B", second))
        ),
        "",
        "|           | B success | B failure |",
        "| --------- | --------- | --------- |",
        f"| A success | {counts[(1, 1)]:9d} | {only_first:9d} |",
        f"| A failure | {only_second:9d} | {counts[(0, 0)]:9d} |",
        "",
        f"McNemar's exact test on the {differing} differing pairs: p = {p:.4g} (two-sided)",
    ]
    return "\n".join(lines)


def _range(seeds: Sequence[int]) -> str:
    return f"{len(seeds)} seeds, {seeds[0]} to {seeds[-1]}" if seeds else "no seeds"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
