"""Intervals over pairs: exact cases, and honest error rates where pairs share subjects."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regbench.analysis.statistics import (
    BOUNDED,
    DYADIC,
    INDEPENDENT,
    TOO_FEW_PAIRS,
    TOO_FEW_SUBJECTS,
    mean_interval,
)

DISJOINT = [(2 * i, 2 * i + 1) for i in range(10)]
CONSECUTIVE = [(i, i + 1) for i in range(12)]
ALL_ORDERED = list(itertools.permutations(range(10), 2))


def random_pairs(n: int, n_subjects: int, seed: int) -> list[tuple[int, int]]:
    possible = list(itertools.permutations(range(n_subjects), 2))
    chosen = np.random.default_rng(seed).choice(len(possible), n, replace=False)
    return [possible[i] for i in chosen]


def test_disjoint_pairs_give_the_t_interval() -> None:
    values = np.arange(10.0)
    interval = mean_interval(values.tolist(), DISJOINT)
    assert interval.method == INDEPENDENT
    # t quantile of 9 degrees of freedom, from tables.
    assert interval.half_width == pytest.approx(2.262157 * values.std(ddof=1) / math.sqrt(10), rel=1e-6)
    assert (interval.mean, interval.n) == (4.5, 10)


def test_dyadic_variance_counts_every_two_pairs_with_a_common_subject() -> None:
    """The quick sums over clusters equal the definition: the sum over all pairs of pairs that share a subject."""
    pairs = random_pairs(30, 8, seed=1)
    subjects = np.random.default_rng(2).normal(size=8) * 3
    values = np.array([subjects[i] + subjects[j] for i, j in pairs])
    residuals = values - values.mean()
    total = sum(residuals[a] * residuals[b] for a in range(30) for b in range(30) if set(pairs[a]) & set(pairs[b]))
    ratios = []
    for scale in (1.0, 5.0):
        half_width = mean_interval((scale * values).tolist(), pairs).half_width
        assert half_width is not None
        ratios.append(half_width / (scale * math.sqrt(total) / 30))
    assert ratios[0] == pytest.approx(ratios[1])
    # Corrections widen the plain estimate, here by a quantile and a bias of a known order.
    assert 2.0 < ratios[0] < 6.0


def test_shared_subjects_widen_the_interval() -> None:
    effects = np.random.default_rng(3).normal(size=10)
    values = [effects[i] + effects[j] for i, j in ALL_ORDERED]
    shared, independent = mean_interval(values, ALL_ORDERED), mean_interval(values, [(i, -i - 1) for i in range(90)])
    assert shared.method == DYADIC
    assert shared.half_width is not None and independent.half_width is not None
    assert shared.half_width > 3 * independent.half_width


def test_an_atlas_in_every_pair_is_given_not_sampled() -> None:
    values = [0.1, 0.3, 0.2, 0.5, 0.4, 0.25, 0.35]
    with_atlas = mean_interval(values, [("atlas", i) for i in range(7)])
    without = mean_interval(values, [(i, -i - 1) for i in range(7)])
    assert with_atlas == without


def test_with_few_pairs_the_interval_is_widened_by_design_alone() -> None:
    """Six consecutive pairs: a fixed factor of the t interval, below 2, whatever the values."""
    factors = []
    for seed in range(3):
        values = np.random.default_rng(seed).normal(size=6).tolist()
        shared, independent = mean_interval(values, CONSECUTIVE[:6]), mean_interval(values, DISJOINT[:6])
        assert shared.method == BOUNDED
        assert shared.half_width is not None and independent.half_width is not None
        factors.append(shared.half_width / independent.half_width)
    assert factors == pytest.approx([factors[0]] * 3)
    assert 1.3 < factors[0] < 2.0


def test_too_little_data_gives_no_interval() -> None:
    few = mean_interval([0.1, 0.2, 0.3, 0.4, 0.5], DISJOINT[:5])
    assert (few.low, few.high, few.method, few.n) == (None, None, TOO_FEW_PAIRS, 5)
    assert few.mean == pytest.approx(0.3)
    # Two atlases in turn: how much atlases differ cannot be known from two of them.
    two = mean_interval([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [("ab"[i % 2], i) for i in range(6)])
    assert (two.low, two.high, two.method) == (None, None, TOO_FEW_SUBJECTS)
    nothing = mean_interval([], [])
    assert math.isnan(nothing.mean) and nothing.n == 0


def test_values_that_are_not_finite_are_left_out_with_their_pair() -> None:
    values = [*range(10)]
    interval = mean_interval([*values, math.nan, math.inf], [*DISJOINT, (0, 1), (2, 3)])
    assert interval == mean_interval(values, DISJOINT)


def test_equal_values_have_an_interval_of_no_width() -> None:
    interval = mean_interval([0.25] * 12, CONSECUTIVE)
    assert (interval.low, interval.high) == (0.25, 0.25)


def test_lists_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="3 values for 2 pairs"):
        mean_interval([1, 2, 3], [(0, 1), (2, 3)])


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=12, max_size=12),
    st.floats(-10, 10),
    st.sampled_from([CONSECUTIVE, random_pairs(12, 9, 4), [(0, i) for i in range(1, 13)]]),
)
def test_intervals_move_and_scale_with_the_values(
    values: list[float], shift: float, pairs: list[tuple[int, int]]
) -> None:
    first = mean_interval(values, pairs)
    second = mean_interval([-2 * value + shift for value in values], pairs)
    assert first.half_width is not None and second.half_width is not None
    assert second.mean == pytest.approx(-2 * first.mean + shift, abs=1e-9)
    assert second.half_width == pytest.approx(2 * first.half_width, rel=1e-6, abs=1e-6)


@given(st.randoms(use_true_random=False))
def test_order_and_roles_do_not_matter(shuffler: object) -> None:
    pairs = random_pairs(12, 9, 4)
    values = [float(i * i % 7) for i in range(12)]
    order = list(range(12))
    shuffler.shuffle(order)  # type: ignore[attr-defined]
    mixed = mean_interval([values[i] for i in order], [pairs[i][::-1] for i in order])
    straight = mean_interval(values, pairs)
    assert mixed.half_width == pytest.approx(straight.half_width, rel=1e-9)


DESIGNS = {
    "random:6 of 24 subjects": random_pairs(6, 24, 5),
    "random:8 of 24 subjects": random_pairs(8, 24, 5),
    "random:8 of 9 subjects": random_pairs(8, 9, 5),
    "consecutive, 6 pairs": CONSECUTIVE[:6],
    "consecutive, 12 pairs": CONSECUTIVE,
    "all ordered, 10 subjects": ALL_ORDERED,
    "all ordered, 5 subjects": list(itertools.permutations(range(5), 2)),
    "disjoint, 10 pairs": DISJOINT,
    "three atlases, 12 pairs": [(i % 3, i + 3) for i in range(12)],
    "one atlas, 8 pairs": [(0, i) for i in range(1, 9)],
}


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("effect", [0.0, 0.7, 3.0])
def test_error_rate_under_the_null_is_within_twice_alpha(design: str, effect: float) -> None:
    """Paired differences with no mean but with subject effects of this sd (noise: 1) in both roles."""
    pairs = DESIGNS[design]
    generator = np.random.default_rng(11)
    n_simulated, n_wrong = 600, 0
    fixed, moving = np.array(pairs).T
    for _ in range(n_simulated):
        effects = generator.normal(size=fixed.max() + moving.max() + 1) * effect
        if "one atlas" in design:
            effects[0] = 0.0
        interval = mean_interval((effects[fixed] + effects[moving] + generator.normal(size=len(pairs))).tolist(), pairs)
        assert interval.low is not None and interval.high is not None
        n_wrong += not interval.low <= 0 <= interval.high
    # Twice alpha, and one and a half standard errors of the simulation.
    assert n_wrong / n_simulated < 0.118


def test_the_naive_interval_fails_where_ours_holds() -> None:
    """The simulation can fail: pairs taken for independent err many times too often."""
    generator = np.random.default_rng(12)
    n_wrong = {"as it is": 0, "as if independent": 0}
    fixed, moving = np.array(ALL_ORDERED).T
    for _ in range(300):
        effects = generator.normal(size=10)
        values = (effects[fixed] + effects[moving] + generator.normal(size=90)).tolist()
        for name, pairs in (("as it is", ALL_ORDERED), ("as if independent", [(i, -i - 1) for i in range(90)])):
            interval = mean_interval(values, pairs)
            assert interval.low is not None and interval.high is not None
            n_wrong[name] += not interval.low <= 0 <= interval.high
    assert n_wrong["as it is"] < 30
    assert n_wrong["as if independent"] > 100


def test_intervals_are_not_too_wide_to_be_of_use() -> None:
    """For 30 pairs of 24 subjects without subject effects the interval is at most half as wide again as t."""
    generator = np.random.default_rng(13)
    pairs = random_pairs(30, 24, 6)
    widths = [mean_interval(generator.normal(size=30).tolist(), pairs).half_width for _ in range(200)]
    assert np.mean([width for width in widths if width]) < 1.5 * 2.045 / math.sqrt(30)
