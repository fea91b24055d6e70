"""How sure a success rate and a difference of two are."""

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


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value of McNemar's test, from the pairs in which exactly one succeeded.

    For a number of pairs that was fixed beforehand. 1 when no pair differs.
    """
    differing = only_first + only_second
    return float(binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0
