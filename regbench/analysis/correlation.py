"""Correlations over pairs of several data sets, with intervals that count subjects and not pairs.

Correlations come in three scopes. `pooled` takes all points alike. `within` takes points relative to the mean of their
data set, so that only differences inside of data sets count. `between` is over the means of data sets, one point each.
Pooled points of a few data sets mostly tell what is between the data sets.

Intervals of pooled and within are from resampled subjects, data set by data set: a pair counts as often as the product
of how often its two subjects were drawn. Where no two pairs share a subject (or share one atlas) pairs are resampled
instead, since the product would take one draw for two. Bounds are the estimate plus and minus Student's t times half
the range of the middle 68.3 % of the draws, on Fisher's scale z = atanh r: the standard deviation, but for draws
of two or three points. They hold for these data sets, not for others. Simulated, nominal 95 % intervals hold the truth
in 91 to 98 % for pairs without a common subject and for all pairs of ten subjects, and in more where pairs are
consecutive, for which they are too wide. tests/test_mi_dice_correlation.py repeats
a part.

The interval of `between` takes data sets for draws of their own: Fisher's 1 / (D - 3) and the variance over the draws
of subjects together. There is none below four data sets.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from regbench.analysis.statistics import MINIMUM_PAIRS, SubjectPair, is_independent

Scope = Literal["pooled", "within", "between"]
Kind = Literal["pearson", "log", "spearman"]
SCOPES: tuple[Scope, ...] = ("pooled", "within", "between")
KINDS: tuple[Kind, ...] = ("pearson", "log", "spearman")
RESAMPLES = 1000
# Below four data sets a correlation of their means is drawn through any points.
FEWEST_DATASETS = 4
_FEWEST_POINTS = 3
# Draws in which the correlation is not defined or exactly 1, at most: beyond this there is no interval.
_MOST_UNDEFINED = 0.2
_ONE = 1 - 1e-12
# Between these quantiles lies what is within a standard deviation of a normal mean.
_MIDDLE = (0.15866, 0.84134)


@dataclass(frozen=True)
class Estimate:
    """A correlation with its interval, NaN where it is not defined; no bounds where units or data sets are too few.

    `n` is the number of points, `units` that of what was resampled (subjects, or pairs), and `note` says why there are
    no bounds.
    """

    r: float
    low: float | None
    high: float | None
    n: int
    units: int
    datasets: int
    note: str = ""


@dataclass(frozen=True)
class Draws:
    """How often each point counts in each draw, (draws, points), the data set of each point, and degrees of freedom."""

    weights: np.ndarray
    dataset: np.ndarray
    units: int

    @property
    def n_datasets(self) -> int:
        return int(self.dataset.max(initial=-1)) + 1

    @property
    def degrees(self) -> int:
        """Returns the degrees of freedom of an interval; 0 where there are too few units for one."""
        # Every data set takes one for its mean, the slope takes another.
        return self.units - self.n_datasets - 1 if self.units >= MINIMUM_PAIRS else 0


def draws_of(
    points: Sequence[tuple[Hashable, Sequence[Hashable]]], *, seed: int = 0, resamples: int = RESAMPLES
) -> Draws:
    """Returns draws for points given as (data set, the units that it belongs to); the same input, the same draws."""
    names = list(dict.fromkeys(dataset for dataset, _ in points))
    dataset = np.array([names.index(name) for name, _ in points], dtype=np.intp)
    weights = np.ones((resamples, len(points)))
    n_units = 0
    for number, _name in enumerate(names):
        chosen = np.flatnonzero(dataset == number)
        units = list(dict.fromkeys(unit for i in chosen for unit in points[i][1]))
        place = {unit: k for k, unit in enumerate(units)}
        n_units += len(units)
        rng = np.random.default_rng([seed, number, len(units)])
        counts = rng.multinomial(len(units), [1 / len(units)] * len(units), size=resamples) if units else None
        for i in chosen:
            for unit in dict.fromkeys(points[i][1]):
                assert counts is not None
                weights[:, i] *= counts[:, place[unit]]
    return Draws(weights, dataset, n_units)


def units_of(pairs: Sequence[SubjectPair]) -> list[tuple[Hashable, ...]]:
    """Returns for each pair of one data set what it is resampled with: the pair where none shares a subject, else its
    subjects without those that are in every pair."""
    if is_independent(pairs):
        return [(("pair", number),) for number in range(len(pairs))]
    counts = Counter(subject for pair in pairs for subject in set(pair))
    return [tuple(s for s in dict.fromkeys(pair) if counts[s] < len(pairs)) for pair in pairs]


def correlations(
    x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, draws: Draws, level: float = 0.95
) -> dict[tuple[Scope, Kind], Estimate]:
    """Returns the correlation of x and y in all scopes and kinds; `log` is with the logarithm of x, as far as x > 0."""
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    found: dict[tuple[Scope, Kind], Estimate] = {}
    for kind in KINDS:
        for scope in SCOPES:
            found[scope, kind] = _estimate(first, second, _Which(draws, scope, kind), level)
    return found


@dataclass(frozen=True)
class _Which:
    """Which correlation of drawn points."""

    draws: Draws
    scope: Scope
    kind: Kind


def _estimate(x: np.ndarray, y: np.ndarray, which: _Which, level: float) -> Estimate:
    draws, scope, kind = which.draws, which.scope, which.kind
    if kind == "log":
        if not (x > 0).all():
            return Estimate(math.nan, None, None, len(x), draws.units, draws.n_datasets, "information is not positive")
        x = np.log(x)
    if kind == "spearman" and scope != "between":
        x, y = (_ranks(values, draws.dataset if scope == "within" else None) for values in (x, y))
    r = float(_correlation(np.ones((1, len(x))), x, y, which)[0]) if len(x) else math.nan
    points = draws.n_datasets if scope == "between" else len(x)
    if points < _FEWEST_POINTS or math.isnan(r):
        note = "too few points" if points < _FEWEST_POINTS else "one of the two does not vary"
        return Estimate(math.nan, None, None, points, draws.units, draws.n_datasets, note)
    low, high, note = _bounds(r, _correlation(draws.weights, x, y, which), which, level)
    return Estimate(r, low, high, points, draws.units, draws.n_datasets, note)


def _bounds(r: float, drawn: np.ndarray, which: _Which, level: float) -> tuple[float | None, float | None, str]:
    draws = which.draws
    if which.scope == "between":
        if draws.n_datasets < FEWEST_DATASETS:
            return None, None, f"fewer than {FEWEST_DATASETS} data sets"
        return fisher_bounds(r, drawn, math.inf, level, 1 / (draws.n_datasets - 3))
    return fisher_bounds(r, drawn, draws.degrees, level)


def fisher_bounds(
    r: float, drawn: np.ndarray, degrees: float, level: float, variance: float = 0.0
) -> tuple[float | None, float | None, str]:
    """Returns the bounds of a correlation from what it is in draws, or why there are none.

    `degrees` are those of Student's t (infinite: normal), and `variance` is added to that of the draws, on Fisher's
    scale.
    """
    from scipy.special import ndtri, stdtrit

    known = drawn[np.isfinite(drawn)]
    if degrees < 1 or len(known) < (1 - _MOST_UNDEFINED) * len(drawn):
        return None, None, "too few subjects"
    lower, upper = np.quantile(np.arctanh(np.clip(known, -_ONE, _ONE)), _MIDDLE)
    multiplier = ndtri(0.5 + level / 2) if math.isinf(degrees) else stdtrit(degrees, 0.5 + level / 2)
    reach = float(multiplier) * math.hypot(float(upper - lower) / 2, math.sqrt(variance))
    middle = math.atanh(min(max(r, -_ONE), _ONE))
    return math.tanh(middle - reach), math.tanh(middle + reach), ""


def _correlation(weights: np.ndarray, x: np.ndarray, y: np.ndarray, which: _Which) -> np.ndarray:
    """Returns the weighted correlation in each draw; NaN where it is not defined."""
    draws, scope = which.draws, which.scope
    # Sums of squares far from 0 would cost digits.
    x, y = x - x.mean(), y - y.mean()
    columns = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    sums = np.stack(
        [weights[:, draws.dataset == d] @ columns[draws.dataset == d] for d in range(draws.n_datasets)], axis=1
    )
    if scope == "pooled":
        sums = sums.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        if scope == "between":
            return plain_correlation(sums[..., 1] / sums[..., 0], sums[..., 2] / sums[..., 0], which.kind)
        weight, sx, sy, sxx, syy, sxy = np.moveaxis(sums, -1, 0)
        share = np.where(weight > 0, 1 / np.where(weight > 0, weight, 1), 0.0)
        xx, yy, xy = ((a - b * c * share).sum(axis=1) for a, b, c in ((sxx, sx, sx), (syy, sy, sy), (sxy, sx, sy)))
        scale = np.sqrt(np.maximum(xx, 0) * np.maximum(yy, 0))
        tiny = 1e-12 * math.sqrt(float(x @ x) * float(y @ y))
        return np.where(scale > tiny, np.clip(xy / scale, -1, 1), np.nan)


def plain_correlation(x: np.ndarray, y: np.ndarray, kind: Kind) -> np.ndarray:
    """Returns the correlation along the last axis, of ranks for Spearman."""
    if kind == "spearman":
        from scipy.stats import rankdata

        x, y = rankdata(x, axis=-1), rankdata(y, axis=-1)
    x, y = (values - values.mean(axis=-1, keepdims=True) for values in (x, y))
    scale = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    return (x * y).sum(axis=-1) / np.where(scale > 1e-15, scale, np.nan)


def _ranks(values: np.ndarray, dataset: np.ndarray | None) -> np.ndarray:
    """Returns the ranks of values as shares, in all or in each data set."""
    from scipy.stats import rankdata

    if dataset is None:
        return np.asarray(rankdata(values) / max(len(values), 1))
    found = np.zeros(len(values))
    for number in np.unique(dataset):
        chosen = dataset == number
        found[chosen] = rankdata(values[chosen]) / int(chosen.sum())
    return found
