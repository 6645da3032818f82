"""Correlations over pairs: scopes told apart, and intervals that count subjects."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from regbench.analysis.correlation import correlations, draws_of, units_of


def _disjoint(n: int) -> list[tuple[int, int]]:
    return [(2 * i, 2 * i + 1) for i in range(n)]


def _simpson(rng: np.random.Generator, within: float, n: int = 20) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Data sets whose means rise together, with a correlation of their own inside."""
    x, y, names = [], [], []
    for number in range(5):
        own = rng.standard_normal((n, 2)) @ np.linalg.cholesky([[1, within], [within, 1]]).T
        x.append(0.5 * own[:, 0] + 4 * number)
        y.append(0.5 * own[:, 1] + 3 * number)
        names += [f"set {number}"] * n
    return np.concatenate(x), np.concatenate(y), names


@pytest.mark.parametrize("within", [0.0, -0.8, 0.8])
def test_what_is_between_data_sets_is_not_taken_for_what_is_within(within: float) -> None:
    x, y, names = _simpson(np.random.default_rng(1), within)
    draws = draws_of([(name, units_of(_disjoint(100))[i]) for i, name in enumerate(names)])
    found = correlations(x + 20, y, draws)
    pooled, inside, between = (found[scope, "pearson"] for scope in ("pooled", "within", "between"))
    assert pooled.r > 0.9 and pooled.low is not None and pooled.low > 0.9
    assert between.r > 0.99 and between.n == 5
    assert inside.low is not None and inside.high is not None
    assert inside.low < within < inside.high and inside.high - inside.low < 0.6
    ranks = found["within", "spearman"]
    assert ranks.low is not None and ranks.high is not None and (ranks.low > 0) == (within > 0)


def test_correlations_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.uniform(1, 2, 30), rng.uniform(0, 1, 30)
    found = correlations(x, y, draws_of([("a", unit) for unit in units_of(_disjoint(30))], resamples=50))
    assert found["pooled", "pearson"].r == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found["within", "pearson"].r == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found["pooled", "log"].r == pytest.approx(np.corrcoef(np.log(x), y)[0, 1])
    first, second = (np.argsort(np.argsort(values)) for values in (x, y))
    assert found["pooled", "spearman"].r == pytest.approx(np.corrcoef(first, second)[0, 1])


@pytest.mark.parametrize(
    ("pairs", "least", "most"),
    [(_disjoint(12), 0.88, 0.99), (list(itertools.permutations(range(8), 2)), 0.88, 1.0)],
    ids=["disjoint", "all ordered"],
)
def test_intervals_hold_the_truth_about_as_often_as_they_say(
    pairs: list[tuple[int, int]], least: float, most: float
) -> None:
    rng = np.random.default_rng(3)
    fixed, moving = np.array(pairs).T
    draws = draws_of([("a", unit) for unit in units_of(pairs)], resamples=300)
    root = np.linalg.cholesky([[1.0, 0.6], [0.6, 1.0]])
    truth, hits, naive = 0.3 / np.sqrt(0.5 * 0.59), 0, 0
    for _ in range(300):
        subjects = rng.standard_normal((24, 2)) @ root.T
        x, noise = (subjects[fixed, 0] + subjects[moving, 0]) / 2, 0.3 * rng.standard_normal(len(pairs))
        y = (subjects[fixed, 1] + subjects[moving, 1]) / 2 + noise
        found = correlations(x, y, draws)["pooled", "pearson"]
        assert found.low is not None and found.high is not None
        hits += found.low <= truth <= found.high
        reach = 1.96 / np.sqrt(len(pairs) - 3)
        naive += abs(np.arctanh(found.r) - np.arctanh(truth)) <= reach
    assert least <= hits / 300 <= most
    if len(pairs) > 12:
        assert naive / 300 < 0.7, "pairs taken for independent would be far too sure"


def test_too_little_has_no_interval_and_says_why() -> None:
    few = draws_of([("a", unit) for unit in units_of(_disjoint(5))])
    found = correlations([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], few)["pooled", "pearson"]
    assert found.r == pytest.approx(0.8) and found.low is None and found.note == "too few subjects"
    flat = correlations([1.0] * 5, [2, 1, 4, 3, 5], few)["pooled", "pearson"]
    assert np.isnan(flat.r) and "does not vary" in flat.note
    names = [f"set {i % 3}" for i in range(30)]
    three = draws_of([(name, unit) for name, unit in zip(names, units_of(_disjoint(30)), strict=True)])
    rng = np.random.default_rng(0)
    between = correlations(rng.random(30), rng.random(30), three)["between", "pearson"]
    assert between.n == 3 and between.low is None and between.note == "fewer than 4 data sets"
    assert np.isnan(correlations([0.0, 1, 2, 3, 4], [1, 2, 3, 5, 4], few)["pooled", "log"].r)


def test_draws_repeat_themselves_and_count_subjects() -> None:
    pairs = list(itertools.combinations(range(5), 2))
    points = [("a", unit) for unit in units_of(pairs)]
    first, again = draws_of(points, seed=1, resamples=40), draws_of(points, seed=1, resamples=40)
    np.testing.assert_array_equal(first.weights, again.weights)
    assert first.units == 5 and not np.array_equal(first.weights, draws_of(points, seed=2, resamples=40).weights)
    # Five draws of five subjects: sums over pairs are those of the product of multiplicities.
    assert first.weights.max() <= 6.25 and (first.weights == 0).any()
    assert units_of([("atlas", i) for i in range(4)]) == [(("pair", i),) for i in range(4)]
