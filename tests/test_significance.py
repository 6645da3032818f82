"""Tests of paired differences: against enumeration and scipy, in step with the intervals, corrected for number."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regbench.analysis.significance import (
    EXACT_LIMIT,
    SIGNED_RANK,
    holm,
    paired_test,
    pairs_needed,
    signed_rank_balance,
    signed_rank_p,
    smallest_p,
)
from regbench.analysis.statistics import (
    BOUNDED,
    DYADIC,
    INDEPENDENT,
    TOO_FEW_PAIRS,
    TOO_FEW_SUBJECTS,
    Interval,
    mean_interval,
)

DISJOINT = [(2 * i, 2 * i + 1) for i in range(30)]
CONSECUTIVE = [(i, i + 1) for i in range(12)]
ALL_ORDERED = list(itertools.permutations(range(8), 2))


def enumerated_p(differences: list[float]) -> float:
    """The definition: Pratt's ranks, every way to sign them, how many are as far from balance as the one at hand."""
    sizes = [abs(d) for d in differences]
    ranks = [
        sum(other < size for other in sizes) + (sum(other == size for other in sizes) + 1) / 2 if size else 0.0
        for size in sizes
    ]
    balance = abs(sum(math.copysign(rank, d) for rank, d in zip(ranks, differences, strict=True)))
    used = [rank for rank in ranks if rank]
    turned = [
        sum(s * r for s, r in zip(signs, used, strict=True)) for signs in itertools.product((-1, 1), repeat=len(used))
    ]
    return sum(abs(value) >= balance - 1e-9 for value in turned) / len(turned)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_signed_rank_is_exact_with_ties_and_zeros(values: list[int]) -> None:
    differences = [float(value) for value in values]
    assert signed_rank_p(np.array(differences)) == pytest.approx(enumerated_p(differences))


@pytest.mark.parametrize("n", [6, 15, 40])
def test_signed_rank_agrees_with_scipy_where_scipy_is_exact(n: int) -> None:
    from scipy.stats import wilcoxon

    for seed in range(5):
        values = np.random.default_rng(seed).normal(0.3, 1, size=n)
        assert signed_rank_p(values) == pytest.approx(wilcoxon(values, method="exact").pvalue, rel=1e-9)


def test_exact_and_normal_meet_at_the_limit() -> None:
    values = np.random.default_rng(1).normal(0.15, 1, size=EXACT_LIMIT + 1)
    assert signed_rank_p(values) == pytest.approx(signed_rank_p(values[:-1]), rel=0.25)
    assert 0.001 < signed_rank_p(values) < 0.2


def test_differences_that_only_rounding_tells_apart_are_ties() -> None:
    values = np.array([0.1, 0.1, -0.1, 0.1, 0.1, 0.1])
    assert signed_rank_p(values + np.array([1e-17, 3e-17, 0, 1e-17, 0, 2e-17])) == signed_rank_p(values)


def test_no_difference_at_all_is_no_evidence() -> None:
    assert signed_rank_p(np.zeros(8)) == 1.0
    assert paired_test([0.0] * 12, CONSECUTIVE).p == 1.0


def test_the_test_follows_from_who_is_paired_with_whom() -> None:
    values = np.random.default_rng(2).normal(0.5, 1, size=12).tolist()
    assert paired_test(values, DISJOINT[:12]).method == SIGNED_RANK
    assert paired_test(values, [("atlas", i) for i in range(12)]).method == SIGNED_RANK
    assert paired_test(values, CONSECUTIVE).method in (DYADIC, BOUNDED)
    assert paired_test(values[:5], DISJOINT[:5]).method == TOO_FEW_PAIRS
    two_atlases = paired_test(values[:6], [("ab"[i % 2], i) for i in range(6)])
    assert (two_atlases.p, two_atlases.method) == (None, TOO_FEW_SUBJECTS)


def test_all_of_six_pairs_on_one_side_reach_what_six_signs_can() -> None:
    test = paired_test([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], DISJOINT[:6])
    assert test.p == pytest.approx(2 / 64)
    assert smallest_p(test) == test.p
    assert test.interval == mean_interval([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], DISJOINT[:6])
    assert test.n == 6


@given(
    st.lists(st.floats(-5, 5), min_size=56, max_size=56),
    st.floats(-3, 3),
    st.sampled_from([CONSECUTIVE, ALL_ORDERED, [(i % 3, i + 3) for i in range(12)]]),
    st.sampled_from([0.9, 0.95, 0.99]),
)
def test_p_and_interval_never_contradict_each_other(
    values: list[float], shift: float, pairs: list[tuple[int, int]], level: float
) -> None:
    test = paired_test([value + shift for value in values[: len(pairs)]], pairs, level)
    low, high = test.interval.low, test.interval.high
    assert test.p is not None and low is not None and high is not None
    edge = 1e-9 * max(1.0, abs(low), abs(high))
    if min(abs(low), abs(high)) > edge:
        assert (test.p < 1 - level) == (low > 0 or high < 0)


def test_p_is_the_alpha_whose_interval_touches_zero() -> None:
    values = np.random.default_rng(4).normal(0.2, 1, size=56)
    test = paired_test(values.tolist(), ALL_ORDERED)
    assert test.p is not None and 0.05 < test.p < 0.9
    touching = mean_interval(values.tolist(), ALL_ORDERED, 1 - test.p)
    assert touching.method == test.method
    assert touching.low is not None and touching.high is not None
    assert min(abs(touching.low), abs(touching.high)) < 1e-9


def test_below_the_level_few_subjects_allow_no_very_small_p() -> None:
    """Residuals whose dyadic-robust variance vanishes: the error over pairs is left, with the subjects' freedom."""
    from scipy.stats import t

    pairs = list(itertools.permutations(range(6), 2))
    turned = np.array([1.0 if (i - j) % 6 in (1, 2, 3) else -1.0 for i, j in pairs])
    turned -= turned.mean()
    for mean, is_far in ((0.5, False), (1.0, True)):
        values = mean + turned
        ratio = mean / (values.std(ddof=1) / math.sqrt(30))
        test = paired_test(values.tolist(), pairs)
        assert test.method == DYADIC and test.p is not None
        assert test.interval.low is not None and test.interval.low > 0
        assert test.p < 0.05
        if is_far:
            assert test.p == pytest.approx(2 * t.sf(ratio, 5), rel=1e-6)
            assert test.p > 10 * 2 * t.sf(ratio, 29)


def test_values_that_are_not_finite_are_left_out_with_their_pair() -> None:
    values = [0.3, -0.1, 0.4, 0.2, 0.5, 0.25, 0.35]
    with_gap = paired_test([*values, math.nan], [*DISJOINT[:7], (0, 1)])
    assert with_gap == paired_test(values, DISJOINT[:7])


def test_ranks_say_which_side_is_ahead() -> None:
    assert signed_rank_balance([1.0, 2.0, -3.0]) == 0
    assert signed_rank_balance([1.0, 2.0, 4.0, -30.0]) > 0 > signed_rank_balance([-1.0, -2.0, -4.0, 3.0])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.02]) == [0.5, None, 0.04]
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(p is not None and q <= p <= min(1.0, len(values) * q) for p, q in zip(adjusted, values, strict=True))
    order = np.argsort(values, kind="stable")
    assert np.all(np.diff([adjusted[i] or 0.0 for i in order]) >= 0)


def test_pairs_needed() -> None:
    shared = Interval(0.0, -0.02, 0.02, DYADIC, 50)
    assert pairs_needed(shared, 0.01) == 200
    assert pairs_needed(shared, 0.02) == 50
    assert pairs_needed(Interval(0.1, None, None, TOO_FEW_PAIRS, 3), 0.01) is None
    assert pairs_needed(shared, 0.0) is None
    # With few pairs more of them bring the quantile of t down as well.
    few = pairs_needed(Interval(0.0, -0.02, 0.02, INDEPENDENT, 6), 0.01)
    assert few is not None and 14 <= few < 24


def test_that_many_pairs_do_give_that_half_width() -> None:
    generator = np.random.default_rng(5)
    pilot = mean_interval(generator.normal(size=10).tolist(), DISJOINT[:10])
    assert pilot.half_width is not None
    needed = pairs_needed(pilot, 0.4)
    assert needed is not None
    sd = pilot.half_width * math.sqrt(10) / 2.262157
    values = generator.normal(size=needed)
    values *= sd / values.std(ddof=1)
    there = mean_interval(values.tolist(), [(i, -i - 1) for i in range(needed)])
    assert there.half_width == pytest.approx(0.4, rel=0.05)
