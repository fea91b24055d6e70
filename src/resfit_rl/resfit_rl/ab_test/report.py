"""One page on a test: text and picture."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resfit_rl.ab_test.blind_test import RECORD, Verified, verify
from resfit_rl.ab_test.record import RecordError
from resfit_rl.ab_test.statistics import Summary, summarise
from resfit_rl.episode_store.atomic_file import write_atomically

TEXT, PICTURE, NUMBERS, STARTS = "report.md", "report.png", "report.json", "starts"
_GREEN, _RED, _INK = "#2a9d5c", "#d1495b", "#333333"
_SHOWN_STARTS, _STARTS_A_ROW = 18, 6


def start_file(folder: Path, number: int) -> Path:
    """Picture of the scene of a round."""
    return folder / STARTS / f"round_{number:04d}.png"


def write_report(folder: Path, picture: Path | None = None) -> Summary:
    """Verify the record in `folder` and write report.md, report.png and report.json beside it.

    Args:
        picture: a second file to write the picture to.

    Raises:
        RecordError: the record was changed, or has no finished round.
        OSError: a file could not be written.
    """
    found = verify(folder)
    if not found.rounds:
        raise RecordError(f"{folder}: expected at least one finished round, found none")
    summary = summarise([one.pair for one in found.rounds], found.terms.rule)
    page = _page(folder, found, summary)
    for file in (folder / PICTURE, picture):
        if file is not None:
            write_atomically(file, page)
    write_atomically(folder / TEXT, report_text(found, summary).encode())
    numbers = {
        **asdict(summary), "lines": found.lines, "head": found.digests[-1], "ended": found.ended,
    }  # fmt: skip
    write_atomically(folder / NUMBERS, (json.dumps(numbers, indent=2) + "\n").encode())
    return summary


def check_noted(folder: Path, found: Verified) -> int:
    """Lines of the record that an earlier report vouches for, 0 without a report.

    Raises:
        RecordError: they are no longer there as they were.
    """
    try:
        noted: dict[str, Any] = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0
    lines = int(noted["lines"])
    digest = found.digests[lines] if lines <= found.lines else f"{found.lines} lines only"
    if digest != noted["head"]:
        raise RecordError(
            f"{folder / RECORD}, line {lines}: digest: expected {noted['head']} as {NUMBERS} "
            f"notes, found {digest}"
        )
    return lines


def report_text(found: Verified, summary: Summary) -> str:
    """Markdown."""
    terms, table = found.terms, summary.table
    names = names_of(found)
    differing = table.only_a + table.only_b

    def rate(successes: int, value: float, interval: tuple[float, float]) -> str:
        return f"{successes}/{table.rounds} | {value:.3f} | {interval[0]:.3f} to {interval[1]:.3f}"

    ended = f"ended: {found.ended}" if found.ended else "not ended yet"
    low, high = summary.interval_difference
    return f"""\
# Blind A/B test on {terms.task}

**{verdict(found, summary)}** {table.rounds} rounds, {found.discarded} discarded; {ended}.

| | policy | success | rate | 95 % interval |
| --- | --- | --- | --- | --- |
| A | `{names["a"]}` | {rate(table.successes_a, summary.rate_a, summary.interval_a)} (Wilson) |
| B | `{names["b"]}` | {rate(table.successes_b, summary.rate_b, summary.interval_b)} (Wilson) |
| B - A | | | {summary.difference:+.3f} | {low:+.3f} to {high:+.3f} (Newcombe, method 10) |

| rounds | B success | B failure |
| --- | --- | --- |
| A success | {table.both} | {table.only_a} |
| A failure | {table.only_b} | {table.neither} |

- Stops at will, guaranteed: e-value {max(summary.e):.4g} against {1 / terms.alpha:.4g} (alpha \
{terms.alpha:g}); anytime-valid p = {summary.p_anytime:.4g}. If the policies were equal, the \
e-value would ever reach that with probability {terms.alpha:g} at most, however often one looks.
- McNemar's exact test on the {differing} differing rounds: p = {summary.p_value:.4g}, two-sided. \
This p-value and the intervals are those of a number of rounds fixed beforehand; after an early \
stop they flatter the difference.

![report]({PICTURE})

Implementation {terms.implementation}; A is {terms.policy_a}, B is {terms.policy_b}; scenes of \
seed {terms.seed}; labels {terms.labels}. Record: {found.lines} lines, the last of digest \
`{found.digests[-1]}`; each assignment was committed to before its round and checked after it.
"""


def verdict(found: Verified, summary: Summary) -> str:
    """One sentence."""
    if not summary.differ:
        return "No difference shown."
    better = "b" if summary.difference > 0 else "a"
    return f"Policy {better.upper()} ({names_of(found)[better]}) succeeds more often."


def names_of(found: Verified) -> dict[str, str]:
    """Policies as they were named on the command line, else their identities."""
    terms = found.terms
    return {
        "a": terms.conditions.get("policy_a", terms.policy_a),
        "b": terms.conditions.get("policy_b", terms.policy_b),
    }


def _page(folder: Path, found: Verified, summary: Summary) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-min(len(_starts(folder, found)), _SHOWN_STARTS) // _STARTS_A_ROW)
    figure = Figure(figsize=(10, 5.2 + 1.05 * rows), dpi=110, layout="constrained")
    figure.suptitle(
        f"Blind A/B test on {found.terms.task}: {verdict(found, summary)}",
        fontsize=14,
        fontweight="bold",
        color=_INK,
    )
    heights = [1.35, 2.6, *([0.25 + 1.0 * rows] if rows else [])]
    parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
    _draw_rounds(parts[0].subplots(), found)
    rates, evidence = parts[1].subplots(1, 2)
    _draw_rates(rates, found, summary)
    _draw_evidence(evidence, found, summary)
    if rows:
        _draw_starts(parts[2], folder, found, rows)
    data = io.BytesIO()
    FigureCanvasAgg(figure).print_png(data)
    return data.getvalue()


def _draw_rounds(axes: Any, found: Verified) -> None:
    for place, one in enumerate(found.rounds, 1):
        for height, policy, success in ((1, "a", one.success_a), (0, "b", one.success_b)):
            axes.plot(
                place, height, "s", markersize=11, color=_GREEN if success else _RED,
                markeredgecolor="white",
            )  # fmt: skip
            if one.first == policy:
                axes.plot(place, height, ".", markersize=4, color="white")
    names = names_of(found)
    axes.set_yticks([1, 0], [f"A: {names['a']}", f"B: {names['b']}"])
    axes.set_ylim(-0.6, 1.6)
    axes.set_xlim(0.3, max(len(found.rounds), 20) + 0.7)
    axes.set_xlabel("round", fontsize=9)
    axes.set_title(
        "outcomes: green success, red failure; a dot: acted first", fontsize=10, loc="left"
    )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)


def _draw_rates(axes: Any, found: Verified, summary: Summary) -> None:
    table = summary.table
    rows = (
        (2, "A", summary.rate_a, summary.interval_a, f"{table.successes_a}/{table.rounds}"),
        (1, "B", summary.rate_b, summary.interval_b, f"{table.successes_b}/{table.rounds}"),
        (0, "B - A", summary.difference, summary.interval_difference, f"{summary.difference:+.2f}"),
    )
    for height, _, value, (low, high), text in rows:
        axes.plot([low, high], [height, height], color=_INK, linewidth=2)
        axes.plot(value, height, "o", color=_INK, markersize=7)
        axes.annotate(
            text, (value, height), (0, 8), textcoords="offset points", ha="center", fontsize=9
        )
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks([row[0] for row in rows], [row[1] for row in rows])
    axes.set_ylim(-0.5, 2.6)
    axes.set_xlim(min(-0.1, summary.interval_difference[0] - 0.05), 1.05)
    axes.set_title(
        f"success, 95 % intervals (Wilson, Newcombe); McNemar p = {summary.p_value:.3g}",
        fontsize=10,
        loc="left",
    )
    axes.spines[["top", "right"]].set_visible(False)


def _draw_evidence(axes: Any, found: Verified, summary: Summary) -> None:
    threshold = found.terms.rule.threshold
    axes.step(range(len(summary.e) + 2), [1.0, *summary.e, summary.e[-1]], where="post", color=_INK)
    axes.axhline(threshold, color=_GREEN, linestyle="--", linewidth=1)
    axes.annotate(
        f"stop: 1 / alpha = {threshold:.3g}", (0, threshold), (2, 4), textcoords="offset points",
        fontsize=9, color=_GREEN,
    )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(min(0.5, *summary.e) / 1.5, max(threshold, *summary.e) * 3)
    axes.set_xlabel("rounds", fontsize=9)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title("evidence that they differ: e-value", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _starts(folder: Path, found: Verified) -> list[int]:
    """Places, among the rounds, of those whose scene has a picture."""
    return [k for k, one in enumerate(found.rounds) if start_file(folder, one.number).is_file()]


def _draw_starts(part: Any, folder: Path, found: Verified, rows: int) -> None:
    shown = _starts(folder, found)[:_SHOWN_STARTS]
    grid = part.subplots(rows, _STARTS_A_ROW, squeeze=False).ravel()
    words = {True: "success", False: "failure"}
    for axes in grid:
        axes.axis("off")
    for axes, place in zip(grid, shown, strict=False):
        one = found.rounds[place]
        with Image.open(start_file(folder, one.number)) as picture:
            axes.imshow(np.asarray(picture))
        text = f"{place + 1}: A {words[one.success_a]}, B {words[one.success_b]}"
        axes.set_title(text, fontsize=6.5, color=_INK, pad=2)
    part.suptitle(
        f"initial states, the same for both: {len(shown)} of {len(found.rounds)}",
        fontsize=10,
    )
