"""How sure a success rate is."""

from scipy.stats import binomtest


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a success probability.

    Raises:
        ValueError: no trials, or successes outside 0 .. trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(
            f"wilson interval: expected 0 <= successes <= trials, trials >= 1, "
            f"found {successes} of {trials}"
        )
    interval = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
