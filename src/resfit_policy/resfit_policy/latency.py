"""Statistics of durations."""

from collections.abc import Sequence

import numpy as np


def milliseconds(durations: Sequence[float]) -> dict[str, str]:
    """p50, p99 and max of durations in s, as text in ms; '-' where there are none."""
    if not durations:
        return dict.fromkeys(("p50", "p99", "max"), "-")
    p50, p99 = np.percentile(durations, [50, 99])
    return {
        name: f"{1e3 * value:.1f}"
        for name, value in (("p50", p50), ("p99", p99), ("max", max(durations)))
    }
