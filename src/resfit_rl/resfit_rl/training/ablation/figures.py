"""Curves of an ablation's variants: mean and interquartile mean over seeds, with intervals."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resfit_rl.evaluation.aggregates import Aggregate, aggregate, interquartile_mean, mean
from resfit_rl.training.scores import Score

_STATISTICS = {"mean": mean, "interquartile mean": interquartile_mean}


@dataclass(frozen=True)
class Curve:
    """A variant over the runs that have got as far.

    Attributes:
        runs: of each task; a curve of unequally many takes the fewest.
        steps: control steps of the evaluations.
        aggregates: statistic -> one value for each of `steps`.
    """

    runs: int
    steps: list[int]
    aggregates: dict[str, list[Aggregate]]


def curve_of(scores: Sequence[Sequence[Sequence[Score]]]) -> Curve | None:
    """Of one variant's scores by task and run; None while a task has none.

    Runs that have not got as far as the others leave a step out; the evaluation of the base policy
    alone is step 0.
    """
    by_step: dict[int, list[list[float]]] = {}
    for number, runs in enumerate(scores):
        for run in runs:
            for score in run:
                columns = by_step.setdefault(score.milestone, [[] for _ in scores])
                columns[number].append(score.success)
    counts = {step: min(map(len, columns)) for step, columns in by_step.items()}
    full = max(counts.values(), default=0)
    if not full:
        return None
    steps = sorted(step for step, count in counts.items() if count == full)
    aggregates: dict[str, list[Aggregate]] = {name: [] for name in _STATISTICS}
    for step in steps:
        columns = [column[:full] for column in by_step[step]]
        for name, statistic in _STATISTICS.items():
            aggregates[name].append(aggregate(np.array(columns).T, statistic))
    return Curve(full, steps, aggregates)


def figure(curves: Mapping[str, Curve], title: str) -> bytes:
    """PNG: one panel for each statistic, one line for each variant, 95 % intervals shaded."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Figure(figsize=(10, 4.2), layout="constrained")
    panels = picture.subplots(1, len(_STATISTICS), sharey=True)
    for axes, statistic in zip(panels, _STATISTICS, strict=True):
        for number, (name, curve) in enumerate(curves.items()):
            colour = colormaps["tab10"](number % 10)
            found = curve.aggregates[statistic]
            axes.plot(
                curve.steps, [a.value for a in found], marker="o", markersize=3, color=colour,
                label=f"{name} ({curve.runs} seeds)",
            )  # fmt: skip
            axes.fill_between(
                curve.steps, [a.low for a in found], [a.high for a in found], color=colour,
                alpha=0.15, linewidth=0,
            )  # fmt: skip
        axes.set(title=f"{title}: {statistic}", xlabel="environment steps", ylim=(-0.02, 1.02))
    panels[0].set_ylabel("success, 95 % bootstrap interval")
    panels[0].legend(fontsize=8, loc="upper left")
    png = io.BytesIO()
    FigureCanvasAgg(picture).print_png(png)
    return png.getvalue()


def as_json(curves: Mapping[str, Curve]) -> dict[str, Any]:
    """variant -> runs, steps, and per statistic [value, low, high] for each step."""
    return {
        name: {
            "runs": curve.runs,
            "steps": curve.steps,
            **{
                statistic: [[a.value, a.low, a.high] for a in found]
                for statistic, found in curve.aggregates.items()
            },
        }
        for name, curve in curves.items()
    }


def table(curves: Mapping[str, Curve]) -> str:
    """A line for each variant at its last step."""
    lines = ["| variant | seeds | steps | mean | interquartile mean |", "|" + " --- |" * 5]
    for name, curve in curves.items():
        cells = [
            f"{a.value:.2f} ({a.low:.2f} to {a.high:.2f})"
            for a in (found[-1] for found in curve.aggregates.values())
        ]
        lines.append(f"| {name} | {curve.runs} | {curve.steps[-1]:,} | {' | '.join(cells)} |")
    return "\n".join(lines)
