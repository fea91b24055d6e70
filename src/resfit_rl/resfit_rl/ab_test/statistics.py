"""Paired statistics of an A/B test, and the rule that says when it may end.

Per round both policies start from the same state, so the rounds are pairs. Only those in which one
policy succeeds and the other fails say which is better. Without a difference each of them is A's or
B's with probability 1/2, whatever the scenes and however difficult they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.special import betaln

from resfit_rl.evaluation.statistics import mcnemar_exact, wilson_interval

Pair = tuple[bool, bool]  # success of A, success of B
Interval = tuple[float, float]


@dataclass(frozen=True)
class Table:
    """Counts of pairs by what A and B did."""

    both: int = 0
    only_a: int = 0
    only_b: int = 0
    neither: int = 0

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> Table:
        found = list(pairs)
        return cls(*(found.count(pair) for pair in
                     ((True, True), (True, False), (False, True), (False, False))))  # fmt: skip

    @property
    def rounds(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def successes_a(self) -> int:
        return self.both + self.only_a

    @property
    def successes_b(self) -> int:
        return self.both + self.only_b


def newcombe_interval(table: Table, confidence: float = 0.95) -> Interval:
    """Interval of the difference of two paired success rates, B's minus A's.

    Newcombe (1998), Statistics in Medicine 17, 2635: method 10. The two Wilson intervals are joined
    by their squares, with the correlation of the pairs, which is estimated with a continuity
    correction.

    Raises:
        ValueError: no pairs.
    """
    n = table.rounds
    if n < 1:
        raise ValueError("Newcombe interval: expected at least one pair, found none")
    a, b = table.successes_a / n, table.successes_b / n
    low_a, high_a = wilson_interval(table.successes_a, n, confidence)
    low_b, high_b = wilson_interval(table.successes_b, n, confidence)
    product = table.both * table.neither - table.only_a * table.only_b
    if product > 0:
        product = max(product - n / 2, 0)  # type: ignore[assignment]
    scale = math.sqrt(
        table.successes_a * (n - table.successes_a) * table.successes_b * (n - table.successes_b)
    )
    correlation = product / scale if scale else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0))

    difference = b - a
    return (
        difference - reach(b - low_b, high_a - a),
        difference + reach(high_b - b, a - low_a),
    )


def e_value(only_a: int, only_b: int) -> float:
    """Evidence against 'no difference' in the pairs that differ.

    The wealth, from 1, of a bettor who before each of these pairs bets on A the share that the
    pairs before it suggest (Krichevsky-Trofimov): the likelihood of the pairs under a Beta(1/2,
    1/2) mixture of win rates, over that under 1/2. Without a difference no bet gains on average: a
    test martingale, which by Ville's inequality ever reaches 1 / alpha with probability at most
    alpha. So one may look after each round and stop when one likes.
    """
    return math.exp(_log_e(only_a, only_b))


def _log_e(only_a: int, only_b: int) -> float:
    mixture = betaln(only_a + 0.5, only_b + 0.5) - betaln(0.5, 0.5)
    return float(mixture + (only_a + only_b) * math.log(2))


def e_values(pairs: Iterable[Pair]) -> list[float]:
    """The e-value after each round."""
    found, only_a, only_b = [], 0, 0
    for a, b in pairs:
        only_a += a and not b
        only_b += b and not a
        found.append(e_value(only_a, only_b))
    return found


@dataclass(frozen=True)
class StoppingRule:
    """When a test ends.

    Attributes:
        alpha: probability, at most, that a test of two equal policies ends with 'they differ',
            however many rounds are looked at.
        max_rounds: after which it ends without a decision; it costs no part of alpha.

    Raises:
        ValueError: alpha outside (0, 1), max_rounds below 1.
    """

    alpha: float = 0.05
    max_rounds: int = 50

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha: expected between 0 and 1, found {self.alpha}")
        if self.max_rounds < 1:
            raise ValueError(f"max_rounds: expected 1 or more, found {self.max_rounds}")

    @property
    def threshold(self) -> float:
        """The e-value at which the policies are said to differ."""
        return 1 / self.alpha

    def reason(self, pairs: Sequence[Pair]) -> str | None:
        """Why to stop after these rounds, None to go on."""
        table = Table.of(pairs)
        reached = e_value(table.only_a, table.only_b)
        if reached >= self.threshold:
            return f"e-value {reached:.3g} reached {self.threshold:.3g} = 1 / alpha"
        if table.rounds >= self.max_rounds:
            return f"max_rounds {self.max_rounds} reached"
        return None


@dataclass(frozen=True)
class Summary:
    """What the rounds say.

    Attributes:
        table: counts of pairs.
        rate_a, rate_b, difference: success rates and B's minus A's; with their intervals: Wilson's,
            and Newcombe's method 10. Each is for a number of rounds fixed beforehand.
        p_value: McNemar's exact test, two-sided; as well.
        e: after each round; these hold with stopping at will.
        p_anytime: min(1, 1 / largest e), a p-value that holds with stopping at will.
        differ: whether e has reached 1 / alpha.
    """

    table: Table
    rate_a: float
    rate_b: float
    difference: float
    interval_a: Interval
    interval_b: Interval
    interval_difference: Interval
    p_value: float
    e: tuple[float, ...]
    p_anytime: float
    differ: bool


def summarise(pairs: Sequence[Pair], rule: StoppingRule, confidence: float = 0.95) -> Summary:
    """ValueError without a single pair."""
    table = Table.of(pairs)
    interval_difference = newcombe_interval(table, confidence)
    rate_a, rate_b = table.successes_a / table.rounds, table.successes_b / table.rounds
    e = e_values(pairs)
    return Summary(
        table=table,
        rate_a=rate_a,
        rate_b=rate_b,
        difference=rate_b - rate_a,
        interval_a=wilson_interval(table.successes_a, table.rounds, confidence),
        interval_b=wilson_interval(table.successes_b, table.rounds, confidence),
        interval_difference=interval_difference,
        p_value=mcnemar_exact(table.only_a, table.only_b),
        e=tuple(e),
        p_anytime=min(1.0, 1 / max(e)),
        differ=max(e) >= rule.threshold,
    )
