"""Methods of one group by one metric: the numbers that put them in order, also with other subjects, and their tests.

The schemes are those of `regbench.analysis.rank`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regbench.analysis import learn2reg_ranks
from regbench.analysis.groups import Group, Row
from regbench.analysis.rank_tables import Comparison
from regbench.analysis.significance import (
    SIGNED_RANK,
    PairedTest,
    holm,
    paired_test,
    signed_rank_balance,
    smallest_p,
)
from regbench.analysis.statistics import Interval, SubjectPair
from regbench.analysis.subject_draws import Floats, RankSpread, ranks_of, spreads
from regbench.analysis.verdicts import too_few
from regbench.metrics.table import METRICS

ALPHA = 0.05
# What is ranked by where nothing is asked for, beside the accuracy metric. Regularity is not: doing nothing is
# perfectly regular, so whoever wants it in the order has to say so.
_ALSO = ("hd95_mm",)
# Fewer pairs than this make rank intervals too narrow: a bootstrap cannot show what it has never drawn.
_FEW_PAIRS = 10

Weights = Mapping[str, Floats]


def comparisons_of(
    values: Mapping[str, Sequence[float]], pairs: Sequence[SubjectPair], *, higher: bool = True, alpha: float = ALPHA
) -> list[Comparison]:
    """Returns every two methods compared, from the values of each method on the same pairs of subjects."""
    names = list(itertools.combinations(values, 2))
    differences = [[a - b for a, b in zip(values[one], values[other], strict=True)] for one, other in names]
    tests = [paired_test(difference, pairs, 1 - alpha) for difference in differences]
    adjusted = holm([test.p for test in tests])
    found = []
    for (method, other), difference, test, p in zip(names, differences, tests, adjusted, strict=True):
        side = _side(difference, test) * (1 if higher else -1)
        winner = None if p is None or p >= alpha or side == 0 else method if side > 0 else other
        found.append(Comparison(method, other, test.interval, test.method, test.p, p, winner))
    return found


def _side(differences: Sequence[float], test: PairedTest) -> int:
    """Returns the sign of the difference; 0 where ranks and mean point to different sides, so that nobody is ahead."""
    sign = _sign(test.interval.mean)
    return sign if test.method != SIGNED_RANK or _sign(signed_rank_balance(differences)) == sign else 0


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


@dataclass(frozen=True)
class Scored:
    """Methods with one number each by which they stand in order (higher is better), and the same in every draw.

    `part` is what enters a combination: ranks (1 is best) or rank scores; `drawn` is None with too little data.
    """

    metric: str
    pairs: tuple[str, ...]
    names: list[str]
    means: list[Interval]
    ranks: Floats
    part: Floats
    drawn_part: Floats | None
    comparisons: list[Comparison]
    notes: tuple[str, ...]
    is_decidable: bool
    is_rank_score: bool

    @property
    def spreads(self) -> list[RankSpread | None]:
        return spreads_of(self.drawn_part, self.is_rank_score, len(self.names))


def spreads_of(drawn: Floats | None, is_rank_score: bool, n: int) -> list[RankSpread | None]:
    if drawn is None:
        return [None] * n
    valid = drawn[np.isfinite(drawn).all(axis=1)]
    return [*spreads(ranks_of(valid if is_rank_score else -valid))] if len(valid) else [None] * n


def scored_group(
    group: Group, rows: Sequence[Row], scheme: str, metrics: Sequence[str], weights: Weights
) -> list[Scored]:
    """Returns the metrics that a group can be ranked by: those of two methods and more."""
    if scheme == "l2r":
        wanted = list(metrics) or learn2reg_ranks.usual_metrics(group)
        scored = [_scored_by_losses(group, rows, metric, weights) for metric in wanted]
    else:
        wanted = list(metrics) or _usual_metrics(group)
        scored = [_scored_by_mean(group, metric, weights) for metric in wanted]
    return [found for found in scored if found]


def _usual_metrics(group: Group) -> list[str]:
    accuracy = group.accuracy_metric
    return [name for name in (accuracy, *_ALSO) if name and group.values.get(name)]


def _scored_by_mean(group: Group, metric: str, weights: Weights) -> Scored | None:
    pairs = tuple(group.common_pairs(metric))
    names = [m.name for m in group.methods if group.values.get(metric, {}).get(m.name)]
    if not pairs or len(names) < 2:
        return None
    values = {name: list(group.common_values(metric, name).values()) for name in names}
    subjects = [group.subjects[pair] for pair in pairs]
    higher = METRICS[metric].direction == "higher"
    # A metric with a target is compared by how far it lies from that.
    compared = {name: _distances(metric, found) for name, found in values.items()}
    comparisons = comparisons_of(compared, subjects, higher=higher)
    table = np.array([compared[name] for name in names]).T * (1 if higher else -1)
    ranks = ranks_of(table.mean(axis=0))
    is_enough = comparisons[0].difference.low is not None
    drawn = _drawn_means(table, np.stack([weights[pair] for pair in pairs], axis=1)) if is_enough else None
    told, is_decidable = _what_is_too_little(comparisons)
    means = [group.interval(dict(zip(pairs, values[name], strict=True))) for name in names]
    return Scored(
        metric, pairs, names, means, ranks, ranks, drawn, comparisons, told, is_decidable, is_rank_score=False
    )


def _distances(metric: str, values: Sequence[float]) -> list[float]:
    target = METRICS[metric].target
    return list(values) if target is None else [abs(value - target) for value in values]


def _drawn_means(table: Floats, weights: Floats) -> Floats:
    """Returns the ranks of the weighted means, shape (draws, methods); NaN for draws without a pair."""
    totals = weights.sum(axis=1, keepdims=True)
    ranks = ranks_of(weights @ table / np.maximum(totals, 1))
    ranks[totals[:, 0] == 0] = np.nan
    return ranks


def _what_is_too_little(comparisons: Sequence[Comparison]) -> tuple[tuple[str, ...], bool]:
    """Returns in words what the number of pairs does not allow, and whether any two methods could be told apart."""
    first = comparisons[0]
    if first.p is None:
        return (f"{too_few(first.difference)} to tell methods apart: no p-values, no drawn ranks.",), False
    n, m = first.difference.n, len(comparisons)
    told = [f"Drawn ranks spread too little with {n} pairs."] if n < _FEW_PAIRS else []
    least = smallest_p(PairedTest(first.p, first.test, first.difference))
    if m * least < ALPHA:
        return tuple(told), True
    needed = math.floor(1 + math.log2(m / ALPHA)) + 1
    too_many = (
        f"With {n} pairs no signed-rank test has a p-value below {least:.2g}; corrected for {m} comparisons no two "
        f"methods can be told apart. {needed} pairs could do it, or fewer methods (--only)."
    )
    return (too_many, *told), False


def _scored_by_losses(group: Group, rows: Sequence[Row], metric: str, weights: Weights) -> Scored | None:
    pooled = learn2reg_ranks.pooled_metric(group, rows, metric)
    if pooled is None or len(pooled.methods) < 2:
        return None
    names, n = pooled.methods, len(pooled.pairs)
    means = [Interval(pooled.mean(name), None, None, learn2reg_ranks.POOLED, n) for name in names]
    is_enough = paired_test([0.0] * n, [group.subjects[pair] for pair in pooled.pairs]).p is not None
    drawn = pooled.drawn_scores(weights) if is_enough else None
    told = []
    if not is_enough:
        told.append(f"{n} pair{'' if n == 1 else 's'}: too few to draw ranks again, and for any trust in the scores.")
    elif drawn is None:
        told.append("Too many values to draw ranks again.")
    elif n < _FEW_PAIRS:
        told.append(f"Drawn ranks spread too little with {n} pairs.")
    scores = pooled.scores()
    return Scored(
        metric,
        pooled.pairs,
        names,
        means,
        ranks_of(scores),
        scores,
        drawn,
        _pooled_comparisons(pooled),
        tuple(told),
        is_decidable=is_enough,
        is_rank_score=True,
    )


def _pooled_comparisons(pooled: learn2reg_ranks.PooledMetric) -> list[Comparison]:
    found = []
    for method, other in itertools.combinations(pooled.methods, 2):
        statistic, p = pooled.p_value(method, other)
        ahead = None if statistic == 0 or p >= learn2reg_ranks.SIGNIFICANT else method if statistic > 0 else other
        mean = pooled.mean(method) - pooled.mean(other)
        difference = Interval(mean, None, None, learn2reg_ranks.POOLED, len(pooled.pairs))
        found.append(Comparison(method, other, difference, learn2reg_ranks.POOLED, p, None, ahead))
    return found
