"""Interquartile means and their bootstrap intervals."""

import numpy as np
import pytest
from scipy.stats import bootstrap, trim_mean

from resfit_rl.evaluation.aggregates import aggregate, interquartile_mean, mean


def test_interquartile_mean():
    # Of 8 runs the two lowest and the two highest are left out.
    scores = np.array([0.0, 0.1, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert interquartile_mean(scores[:, None]) == pytest.approx((0.5 + 0.6 + 0.7 + 0.8) / 4)
    # All runs of all tasks together.
    both = scores.reshape(4, 2)
    assert interquartile_mean(both) == pytest.approx(trim_mean(scores, 0.25))
    assert interquartile_mean(np.stack([both, both + 1])).shape == (2,)
    # One bad seed of four moves the mean, and not this.
    assert interquartile_mean(np.array([[0.9], [0.9], [0.9], [0.0]])) == pytest.approx(0.9)


@pytest.mark.parametrize("statistic", [mean, interquartile_mean])
def test_the_interval_is_that_of_the_bootstrap(statistic):
    scores = np.random.default_rng(1).beta(4, 2, (10, 1))
    found = aggregate(scores, statistic)
    proportion = 0.25 if statistic is interquartile_mean else 0.0
    expected = bootstrap(
        (scores[:, 0],), lambda x, axis: trim_mean(x, proportion, axis=axis), method="percentile",
        n_resamples=20_000, rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    assert found.value == pytest.approx(trim_mean(scores[:, 0], proportion))
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.01)
    assert found == aggregate(scores, statistic)


def test_runs_are_drawn_within_each_task():
    # An easy task and a hard one: mixing them would make the interval wide.
    scores = np.array([[0.9, 0.1], [0.92, 0.12], [0.88, 0.08]])
    found = aggregate(scores, mean)
    assert found.value == pytest.approx(0.5)
    assert found.high - found.low < 0.04


def test_no_scores():
    with pytest.raises(ValueError, match=r"expected \(runs, tasks\), found shape \(0, 1\)"):
        aggregate(np.zeros((0, 1)), mean)
