"""Scores of a training run: a file of them and a picture."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from resfit_rl.episode_store.atomic_file import write_atomically
from resfit_rl.evaluation.statistics import wilson_interval

FILE = "scores.jsonl"
PICTURE = "curve.png"


class ScoresError(ValueError):
    """A file of scores is none; names it and the line."""


@dataclass(frozen=True)
class Score:
    """One evaluation.

    Attributes:
        milestone: control steps that it stands for; 0 is the base policy alone.
        environment_steps: control steps learned from.
        updates: critic updates made.
        policy: 'base', or the name of the weights' file.
        first_seed: of the start states; the next ones count up.
        outcomes: of each episode, 1 for success.
        seconds: that it took.
    """

    milestone: int
    environment_steps: int
    updates: int
    policy: str
    successes: int
    episodes: int
    first_seed: int
    outcomes: list[int]
    seconds: float

    @property
    def success(self) -> float:
        return self.successes / self.episodes

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval."""
        return wilson_interval(self.successes, self.episodes)


def read_scores(folder: Path) -> list[Score]:
    """Those of a run directory, by control steps; none where there is no file.

    Raises:
        ScoresError: a line that is no score.
    """
    path = folder / FILE
    if not path.exists():
        return []
    scores = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            values = json.loads(line)
            values.pop("success")
            values.pop("wilson_95")
            scores.append(Score(**values))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ScoresError(f"{path}, line {number}: expected a score, found: {error}") from error
    return sorted(scores, key=lambda score: score.environment_steps)


def write_scores(folder: Path, scores: Sequence[Score], title: str) -> None:
    """The file, one JSON object a line, and the picture of the curve; each atomically.

    Raises:
        OSError: one could not be written; the old one stays.
    """
    lines = [
        json.dumps(asdict(s) | {"success": s.success, "wilson_95": s.interval}) for s in scores
    ]
    write_atomically(folder / FILE, ("\n".join(lines) + "\n").encode())
    write_atomically(folder / PICTURE, curve(scores, title))


def curve(scores: Sequence[Score], title: str) -> bytes:
    """PNG: success against control steps with its Wilson intervals; the base policy's as a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    base = next((score for score in scores if score.policy == "base"), None)
    if base is not None:
        axes.axhspan(*base.interval, color="gray", alpha=0.15, linewidth=0)
        axes.axhline(
            base.success, color="gray", linestyle="--",
            label=f"base policy: {base.successes}/{base.episodes}",
        )  # fmt: skip
    learned = [score for score in scores if score.policy != "base"]
    if learned:
        low, high = zip(*(score.interval for score in learned), strict=True)
        success = [score.success for score in learned]
        below = [max(0.0, s - bound) for s, bound in zip(success, low, strict=True)]
        above = [max(0.0, bound - s) for s, bound in zip(success, high, strict=True)]
        axes.errorbar(
            [score.environment_steps for score in learned], success, yerr=[below, above],
            marker="o", markersize=4, capsize=3, color="tab:blue",
            label=f"learned: last {learned[-1].successes}/{learned[-1].episodes}",
        )  # fmt: skip
    axes.set(xlabel="environment steps", ylabel="success, 95 % Wilson interval", title=title)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(left=0)
    if base is not None or learned:
        axes.legend(loc="lower right", fontsize=8)
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)
    return png.getvalue()
