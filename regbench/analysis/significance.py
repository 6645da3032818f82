"""Tests of paired differences, and what to do about many of them.

A difference is that of two methods on one pair, labels averaged within the pair: pairs are the only samples.

- Where no two pairs share a subject (an atlas that is in all pairs does not count), Wilcoxon's signed-rank test. Its
  null distribution is exact up to `EXACT_LIMIT` pairs, with ties and with zeros too: the signs of the differences are
  turned in all possible ways, their ranks kept. Differences of zero take part in the ranking and then say nothing for
  either side (Pratt 1959); equal sizes share the mean of their ranks.
- Where pairs share subjects no rank test is valid; the p-value is the smallest alpha whose interval of
  `regbench.analysis.statistics` excludes zero, so that p-value and interval never contradict each other. Below
  1 - level, where only corrections for many tests look, it is more careful with few subjects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regbench.analysis.statistics import (
    INDEPENDENT,
    Interval,
    SubjectPair,
    finite_values,
    mean_interval_and_p,
)

SIGNED_RANK = "signed-rank"
# Up to here the exact distribution takes milliseconds; beyond it nothing tells it from its normal limit.
EXACT_LIMIT = 200
# Sizes of differences that agree to this many digits of the largest are ties that rounding has broken.
_TIE_DIGITS = 12


@dataclass(frozen=True)
class PairedTest:
    """The p-value of a mean paired difference being zero, with the interval of the mean.

    `method` names the test, or says why there is none: then p is None.
    """

    p: float | None
    method: str
    interval: Interval

    @property
    def n(self) -> int:
        return self.interval.n


def paired_test(differences: Sequence[float], pairs: Sequence[SubjectPair], level: float = 0.95) -> PairedTest:
    """Returns the test of differences per pair, with (fixed subject, moving subject) of each pair.

    Differences that are not finite are left out with their pair.
    """
    interval, p = mean_interval_and_p(differences, pairs, level)
    if interval.method != INDEPENDENT:
        return PairedTest(p, interval.method, interval)
    return PairedTest(signed_rank_p(finite_values(differences, pairs)[0]), SIGNED_RANK, interval)


def signed_rank_p(differences: npt.NDArray[np.float64]) -> float:
    """Returns the two-sided p-value of Wilcoxon's signed-rank test; 1 where all differences are zero."""
    doubled, positive = _signed_ranks(differences)
    if not len(doubled):
        return 1.0
    tail = min(positive, int(doubled.sum()) - positive)
    if len(differences) <= EXACT_LIMIT:
        return min(1.0, 2 * _exact_tail(doubled, tail))
    expected, sd = doubled.sum() / 2, math.sqrt(float((doubled.astype(np.float64) ** 2).sum()) / 4)
    # Doubled rank sums move in steps of two where there are no ties: half a step is one.
    return min(1.0, math.erfc(max(expected - tail - 1, 0.0) / sd / math.sqrt(2)))


def signed_rank_balance(differences: Sequence[float]) -> int:
    """Returns twice the rank sum of the positive differences minus that of the negative ones: which side is ahead."""
    doubled, positive = _signed_ranks(np.array([d for d in differences if math.isfinite(d)], dtype=np.float64))
    return 2 * positive - int(doubled.sum())


def _signed_ranks(differences: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], int]:
    """Returns twice the ranks of the differences that are not zero, and twice the rank sum of the positive ones."""
    largest = float(np.abs(differences).max(initial=0.0))
    if largest == 0:
        return np.array([], dtype=np.int64), 0
    sizes = np.round(np.abs(differences) / largest, _TIE_DIGITS)
    doubled = _doubled_ranks(sizes)
    return doubled[sizes > 0], int(doubled[(sizes > 0) & (differences > 0)].sum())


def _doubled_ranks(sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Returns twice the ranks, ties sharing their mean: whole numbers, so that sums of them are exact."""
    _, which, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (2 * last - counts + 1)[which]


def _exact_tail(doubled_ranks: npt.NDArray[np.int64], tail: int) -> float:
    """Returns the probability of a rank sum up to `tail` where each rank is positive or negative by a fair coin."""
    chances = np.zeros(tail + 1)
    chances[0] = 1.0
    for rank in doubled_ranks:
        moved = np.zeros_like(chances)
        if rank <= tail:
            moved[rank:] = chances[: tail + 1 - rank]
        chances = (chances + moved) / 2
    return float(chances.sum())


def smallest_p(test: PairedTest) -> float:
    """Returns the smallest p-value that this test could have had: with n pairs, signs alone go no further."""
    return 2.0 ** (1 - test.n) if test.method == SIGNED_RANK else 0.0


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns p-values adjusted for their number (Holm 1979); None stays None and does not count."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[i] = largest
    return adjusted


def pairs_needed(interval: Interval, half_width: float) -> int | None:
    """Returns about how many pairs of the same kind would give an interval of this half width; None if not known.

    The width falls with the root of the number of pairs, and with few of them with the quantile of t too. Where pairs
    share subjects that holds for more subjects paired as before, not for more pairs of the same subjects.
    """
    known = interval.half_width
    if known is None or not half_width > 0:
        return None
    if known <= half_width:
        return interval.n
    n = needed = math.ceil(interval.n * (known / half_width) ** 2)
    if interval.method == INDEPENDENT:
        from scipy.special import stdtrit

        # Undoes the quantile of the present n (level .95; others change this little) for the one of the n to come.
        n = math.ceil(needed * (stdtrit(needed - 1, 0.975) / stdtrit(interval.n - 1, 0.975)) ** 2)
    return max(n, interval.n + 1)
