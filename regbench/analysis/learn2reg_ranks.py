"""The ranking of the Learn2Reg challenges (Hering et al. 2023), as the code of its organisers has it.

1. Per metric and method, one list of values: cases times labels for metrics that have labels, cases for all others.
2. For every two methods scipy's rank-sum test of the two lists, taken for independent; the one ahead beats the other
   where p < 0.05, without correction.
3. The number of losses of each method, placed on equal steps from 0.1 (most losses) to 1 (fewest); equal numbers share
   the mean of their steps. A method without values of the metric has 0.1.
4. Over metrics, the geometric mean.

`dice30` and `tre30` are the same on the 30 % of the values that were the worst before registration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regbench.analysis.groups import UNSHIFTED, Group, Row, as_number, metric_mean, pair_of, shown_dataset
from regbench.analysis.subject_draws import Floats
from regbench.leaks import is_left_out
from regbench.metrics.table import METRICS

Bools = npt.NDArray[np.bool_]

POOLED = "pooled rank-sum"
LOWEST_SCORE = 0.1
SIGNIFICANT = 0.05
HARDEST_SHARE = 0.3
# What is ranked by where nothing is asked for: of every tuple the first that was measured.
USUAL_METRICS = (("dice",), ("dice30",), ("tre_mm",), ("tre30",), ("hd95_mm",), ("sdlogj_l2r", "sdlogj"))
# The hardest part of a metric, by its Learn2Reg name.
_HARDEST_OF = {"dice30": "dice", "tre30": "tre_mm"}
# Above this number of values times cases (per two methods) the ranks are not drawn again: it would take minutes.
_MOST_TO_DRAW = 4_000_000

CAVEATS = (
    "The test takes labels of one case for independent and the same case of two methods for unrelated: it finds "
    "differences rarely (with 20 cases of 35 labels and a true difference of 0.5 Dice points in 4 % of trials, where a "
    "paired test on cases finds it in 39 %), so most ranks are ties. Its description says signed-rank; its code is an "
    "unpaired rank-sum.",
    "Scores count losses only: they depend on which other methods take part, and wins change nothing.",
    "p-values are not corrected for the number of comparisons, and nothing counts that pairs share subjects.",
    "The geometric mean lets a smooth field make up for a wrong one: in one snapshot of the challenge a result with "
    "43.6 mm of landmark error came fourth.",
    "Not reproduced: failed cases filled with fixed values, and landmark errors that are NaN counted as 0 (here "
    "methods are ranked on the pairs that all of them finished); landmarks one by one (rows have their mean per case).",
)


@dataclass(frozen=True)
class PooledMetric:
    """The values that one metric is ranked by: per method a list for each pair, turned so that higher is better.

    `means` are those of the values as they were measured.
    """

    metric: str
    pairs: tuple[str, ...]
    values: Mapping[str, tuple[Floats, ...]]
    means: Mapping[str, float]

    @property
    def methods(self) -> list[str]:
        return list(self.values)

    def mean(self, method: str) -> float:
        """Returns the mean over all values of a method, in the unit of the metric."""
        return self.means[method]

    def pooled(self, method: str) -> Floats:
        return np.concatenate(self.values[method])

    def p_value(self, method: str, other: str) -> tuple[float, float]:
        """Returns statistic (positive: `method` ahead) and p-value of the rank-sum test of two methods."""
        from scipy.stats import ranksums

        found = ranksums(self.pooled(method), self.pooled(other))
        return float(found.statistic), float(found.pvalue)

    def scores(self) -> Floats:
        """Returns the rank score of every method, 0.1 to 1."""
        n = len(self.methods)
        beats = np.zeros((1, n, n), dtype=bool)
        for i, method in enumerate(self.methods):
            for k, other in enumerate(self.methods[:i]):
                statistic, p = self.p_value(method, other)
                beats[0, i, k], beats[0, k, i] = _beats(statistic, p)
        return rank_scores(beats.sum(axis=1))[0]

    def drawn_scores(self, weights: Mapping[str, Floats]) -> Floats | None:
        """Returns the rank scores where each pair counts as often as `weights` says, shape (draws, methods).

        NaN for draws without a pair; None where there are too many values for it.
        """
        if sum(map(len, next(iter(self.values.values())))) * len(self.pairs) > _MOST_TO_DRAW:
            return None
        weight = np.stack([weights[pair] for pair in self.pairs], axis=1)
        n = len(self.methods)
        beats = np.zeros((len(weight), n, n), dtype=bool)
        for i, method in enumerate(self.methods):
            for k, other in enumerate(self.methods[:i]):
                beats[:, i, k], beats[:, k, i] = self._drawn_beats(method, other, weight)
        scores = rank_scores(beats.sum(axis=1))
        scores[weight.sum(axis=1) == 0] = np.nan
        return scores

    def _drawn_beats(self, method: str, other: str, weight: Floats) -> tuple[Bools, Bools]:
        """Returns the test for all draws at once: how often a value of one is above one of the other, by two pairs."""
        from scipy.special import ndtr

        ahead = _times_ahead(self.values[method], self.values[other])
        sizes = [np.array([len(values) for values in self.values[name]], dtype=np.float64) for name in (method, other)]
        n, n_other = (weight @ size for size in sizes)
        counted = np.sum((weight @ ahead) * weight, axis=1)
        spread = np.sqrt(np.maximum(n * n_other * (n + n_other + 1) / 12, 1e-300))
        statistic = (counted - n * n_other / 2) / spread
        return _beats(statistic, 2 * ndtr(-np.abs(statistic)))


def _beats(statistic: Floats | float, p: Floats | float) -> tuple[Bools, Bools]:
    """Returns whether the first beats the second, and the other way round."""
    is_significant = np.asarray(p) < SIGNIFICANT
    return is_significant & (np.asarray(statistic) > 0), is_significant & (np.asarray(statistic) < 0)


def _times_ahead(values: Sequence[Floats], others: Sequence[Floats]) -> Floats:
    """Returns for every two pairs how many values are above how many of the others; equal ones count one half."""
    pooled, starts = np.concatenate(values), np.cumsum([0, *map(len, values)])
    columns = []
    for other in others:
        ordered = np.sort(other)
        above = np.searchsorted(ordered, pooled, "left") + np.searchsorted(ordered, pooled, "right")
        total = np.concatenate([[0], np.cumsum(above)])
        columns.append((total[starts[1:]] - total[starts[:-1]]) / 2)
    return np.stack(columns, axis=1)


def rank_scores(losses: Floats) -> Floats:
    """Returns scores from numbers of losses, along the last axis: 1 for the fewest, equal steps, ties averaged."""
    from scipy.stats import rankdata

    n = losses.shape[-1]
    steps = np.asarray(rankdata(-losses, axis=-1), dtype=np.float64) - 1
    return LOWEST_SCORE + (1 - LOWEST_SCORE) * steps / max(n - 1, 1)


# -- the values --------------------------------------------------------------------------------------


def usual_metrics(group: Group) -> list[str]:
    """Returns what Learn2Reg ranks by, as far as the group has it."""
    found = []
    for choice in USUAL_METRICS:
        measured = [name for name in choice if group.values.get(_HARDEST_OF.get(name, name))]
        if measured and (measured[0] not in _HARDEST_OF or group.identity):
            found.append(measured[0])
    return found


def measured_as(metric: str) -> str:
    """Returns the metric of the rows that a metric of this scheme is made of."""
    return _HARDEST_OF.get(metric, metric)


def pooled_metric(group: Group, rows: Iterable[Row], metric: str) -> PooledMetric | None:
    """Returns the values of a metric on the pairs that all methods finished; None where there are none."""
    source = measured_as(metric)
    pairs = tuple(group.common_pairs(source))
    entries = _entries(group, rows, source, pairs)
    if metric in _HARDEST_OF:
        hardest = _hardest(entries.get(group.identity or "", {}), source)
        entries = {name: {key: v for key, v in found.items() if key in hardest} for name, found in entries.items()}
    values = {
        method.name: tuple(_of_pair(entries[method.name], pair) for pair in pairs)
        for method in group.methods
        if entries.get(method.name)
    }
    turned = {name: tuple(_higher_better(source, v) for v in found) for name, found in values.items()}
    means = {name: float(np.concatenate(found).mean()) for name, found in values.items()}
    return PooledMetric(metric, pairs, turned, means) if turned else None


def _entries(
    group: Group, rows: Iterable[Row], metric: str, pairs: Sequence[str]
) -> dict[str, dict[tuple[str, str], float]]:
    """Returns per method the value of every (pair, label), repeats averaged; the label is empty where there is none."""
    wanted, found = set(pairs), dict[str, dict[tuple[str, str], list[float]]]()
    has_values = group.values.get(metric, {})
    for row in rows:
        name, pair = str(row.get("method", "?")), pair_of(row)[0]
        is_here = shown_dataset(row) == group.dataset and str(row.get("condition", UNSHIFTED)) == group.condition
        if not is_here or row.get("status") != "ok" or pair not in wanted or name not in has_values or is_left_out(row):
            continue
        for label, number in _by_label(row, metric).items():
            found.setdefault(name, {}).setdefault((pair, label), []).append(number)
    return {name: {key: float(np.mean(v)) for key, v in entries.items()} for name, entries in found.items()}


def _by_label(row: Row, metric: str) -> dict[str, float]:
    value = next((part[metric] for part in _parts(row) if metric in part), None)
    labels = value.get("per_label") if isinstance(value, Mapping) else None
    found = (
        {str(label): as_number(number) for label, number in labels.items()}
        if isinstance(labels, Mapping) and labels
        else {"": metric_mean(value)}
    )
    return {label: number for label, number in found.items() if np.isfinite(number)}


def _parts(row: Row) -> list[Mapping[str, object]]:
    return [row.get(part) or {} for part in ("metrics", "timing", "memory", "model")]


def _of_pair(entries: Mapping[tuple[str, str], float], pair: str) -> Floats:
    return np.array([value for (name, _), value in entries.items() if name == pair], dtype=np.float64)


def _hardest(initial: Mapping[tuple[str, str], float], metric: str) -> set[tuple[str, str]]:
    """Returns the (pair, label) that were the worst before registration."""
    keys = sorted(initial, key=lambda key: _higher_better(metric, np.array(initial[key])).item())
    return set(keys[: max(1, int(HARDEST_SHARE * len(keys)))])


def _higher_better(metric: str, values: Floats) -> Floats:
    row = METRICS.get(metric)
    if row is not None and row.direction == "target":
        return -np.abs(values - (row.target or 0.0))
    return values if row is not None and row.direction == "higher" else -values
