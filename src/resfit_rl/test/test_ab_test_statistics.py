"""Paired statistics of an A/B test, and the guarantee of its stopping rule."""

import numpy as np
import pytest
from scipy.stats import binom

from resfit_rl.ab_test.statistics import (
    StoppingRule,
    Table,
    e_value,
    e_values,
    newcombe_interval,
    summarise,
)
from resfit_rl.evaluation.statistics import mcnemar_exact, wilson_interval

A_ONLY, B_ONLY, BOTH, NEITHER = (True, False), (False, True), (True, True), (False, False)


@pytest.mark.parametrize(
    ("table", "published", "digits"),
    [
        # Newcombe 1998, Statistics in Medicine 17: 2635, method 10.
        (Table(36, 2, 12, 0), (0.0569, 0.3404), 4),
        # Altman et al. 2000, Statistics with Confidence, table 6.2.
        (Table(14, 0, 5, 22), (0.011, 0.226), 3),
        # Fagerland, Lydersen, Laake 2014, BMC Medical Research Methodology: Bentur's and Cavo's
        # data, whose difference is the first minus the second.
        (Table(1, 7, 1, 12), (-0.507, -0.026), 3),
        (Table(59, 16, 6, 80), (-0.119, -0.005), 3),
    ],
)
def test_newcombe_is_the_published_one(table, published, digits):
    assert newcombe_interval(table) == pytest.approx(published, abs=0.51 * 10**-digits)


def test_newcombe_keeps_its_properties():
    rng = np.random.default_rng(0)
    for _ in range(60):
        counts = [int(n) for n in rng.integers(0, 12, 4)]
        if not sum(counts):
            continue
        both, only_a, only_b, neither = counts
        table = Table(both, only_a, only_b, neither)
        low, high = newcombe_interval(table)
        difference = (only_b - only_a) / table.rounds
        assert -1 <= low <= difference <= high <= 1
        swapped = newcombe_interval(Table(both, only_b, only_a, neither))
        assert swapped == pytest.approx((-high, -low))
        wider = newcombe_interval(table, 0.99)
        assert wider[0] <= low and wider[1] >= high
    # Equal outcomes in all pairs: an interval still, unlike Wald's.
    low, high = newcombe_interval(Table(both=10, neither=10))
    assert low < 0 < high
    with pytest.raises(ValueError, match="found none"):
        newcombe_interval(Table())


def test_newcombe_covers():
    """About 95 % of intervals hold the true difference, for pairs that go together."""
    rng = np.random.default_rng(1)
    chances = {BOTH: 0.45, A_ONLY: 0.05, B_ONLY: 0.25, NEITHER: 0.25}
    tables = [Table(*map(int, c)) for c in rng.multinomial(40, list(chances.values()), size=2000)]
    intervals = {table: newcombe_interval(table) for table in set(tables)}
    covered = [intervals[table][0] <= 0.20 <= intervals[table][1] for table in tables]
    assert 0.93 < np.mean(covered) < 0.98


def test_mcnemar_counts_the_differing_pairs():
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(0, 7) == pytest.approx(2 / 2**7)
    assert mcnemar_exact(3, 9) == mcnemar_exact(9, 3) == pytest.approx(0.1460, abs=1e-4)


def test_the_e_value_is_the_wealth_of_a_bettor():
    """Bets on A the share (wins + 1/2) / (pairs + 1): never more than was seen before the pair."""
    rng = np.random.default_rng(2)
    pairs = [(A_ONLY, B_ONLY, BOTH, NEITHER)[k] for k in rng.integers(0, 4, 200)]
    wealth, wins, expected = 1.0, [0, 0], []
    for a, b in pairs:
        if a != b:
            share = (wins[0] + 0.5) / (sum(wins) + 1)
            wealth *= 2 * (share if a else 1 - share)
            wins[0 if a else 1] += 1
        expected.append(wealth)
    assert e_values(pairs) == pytest.approx(expected)
    assert e_value(0, 7) == e_value(7, 0) == pytest.approx(26.8125)


def test_without_a_difference_no_bet_gains():
    """The next e-value's mean is this one: a martingale, exactly."""
    for only_a in range(12):
        for only_b in range(12):
            ahead = (e_value(only_a + 1, only_b) + e_value(only_a, only_b + 1)) / 2
            assert ahead == pytest.approx(e_value(only_a, only_b))


def test_equal_policies_are_rarely_told_apart_however_often_one_looks():
    """5000 tests of equal policies, each looked at after every one of 100 differing pairs: the
    rule errs in alpha of them at most. McNemar's test, looked at as often, errs far more."""
    alpha, tests, pairs = 0.05, 5000, 100
    threshold = StoppingRule(alpha, pairs).threshold
    wins = np.cumsum(np.random.default_rng(3).random((tests, pairs)) < 0.5, axis=1)
    number = np.arange(1, pairs + 1)
    e = np.array([[e_value(a, max(n - a, 0)) for a in range(pairs + 1)] for n in number])
    errors = (e[number - 1, wins] >= threshold).any(axis=1).mean()
    assert 0.01 < errors <= alpha
    p = np.minimum(1, 2 * binom.cdf(np.minimum(wins, number - wins), number, 0.5))
    assert p[0, -1] == pytest.approx(mcnemar_exact(wins[0, -1], pairs - wins[0, -1]))
    assert (p < alpha).any(axis=1).mean() > 3 * alpha


def test_a_difference_is_found():
    rng = np.random.default_rng(4)
    rule = StoppingRule(0.05, 60)
    found = []
    for _ in range(200):
        pairs = []
        while (reason := rule.reason(pairs)) is None:
            pairs.append((bool(rng.random() < 0.4), bool(rng.random() < 0.9)))
        found.append("e-value" in reason)
    assert np.mean(found) > 0.95


def test_the_rule_stops():
    rule = StoppingRule(0.05, 9)
    assert rule.reason([B_ONLY] * 6 + [BOTH] * 2) is None
    assert "26.8 reached 20" in rule.reason([B_ONLY] * 7)
    assert rule.reason([BOTH] * 9) == "max_rounds 9 reached"
    for values in ({"alpha": 0.0}, {"alpha": 1.0}, {"max_rounds": 0}):
        with pytest.raises(ValueError, match="found"):
            StoppingRule(**values)


def test_summary():
    pairs = [BOTH] * 10 + [B_ONLY] * 7
    found = summarise(pairs, StoppingRule())
    assert found.table == Table(10, 0, 7, 0)
    assert (found.rate_a, found.rate_b) == (10 / 17, 1.0)
    assert found.interval_a == wilson_interval(10, 17)
    assert found.p_value == pytest.approx(0.015625)
    assert found.differ and found.p_anytime == pytest.approx(1 / 26.8125)
    # Evidence that was reached stays reached.
    assert summarise([*pairs, *[A_ONLY] * 7], StoppingRule()).differ
    with pytest.raises(ValueError, match="at least one pair"):
        summarise([], StoppingRule())
