"""Correlation over labels: the information of each label against the rest, and the mean Dice of that label.

A point is a label of a data set. Intervals hold for these labels: subjects are drawn, labels are not. Small labels
have little information in nats and, being thin, a low Dice as well; the ratio to their entropy is free of the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from regbench.analysis.correlation import (
    KINDS,
    Draws,
    Estimate,
    Kind,
    Scope,
    draws_of,
    fisher_bounds,
    plain_correlation,
    units_of,
)
from regbench.analysis.groups import Row, pair_of, shown_dataset

_SCOPES: tuple[Scope, ...] = ("pooled", "within")
# Data set to subject to what mi-analysis measured of it.
Documents = Mapping[str, Mapping[str, Mapping[str, Any]]]
_Found = dict[tuple[Scope, Kind], tuple[Estimate, int, int]]


def label_points(
    rows: Sequence[Row], documents: Documents, method: str, measure: str, drawing: tuple[int, int, float]
) -> _Found:
    """Returns the correlation over labels by scope and kind, with the numbers of pairs and of subjects; {} without any.

    `drawing` is (seed, resamples, level).
    """
    seed, resamples, level = drawing
    tables, listed = [], []
    subjects: set[tuple[str, str]] = set()
    for dataset in documents:
        own = [row for row in rows if shown_dataset(row) == dataset and row.get("method") == method]
        finished = [row for row in own if row.get("status") == "ok"]
        cells = [(pair_of(row)[1], _cells(row, documents[dataset], measure)) for row in finished]
        cells = [one for one in cells if one[1][0]]
        if not cells:
            continue
        labels = sorted({label for _, (x, _) in cells for label in x})
        units = units_of([both for both, _ in cells])
        listed += [(dataset, unit) for unit in units]
        subjects |= {(dataset, one) for both, _ in cells for one in both}
        tables.append([_table([one[1][k] for one in cells], labels) for k in (0, 1)])
    if not tables:
        return {}
    draws = draws_of(listed, seed=seed, resamples=resamples)
    found = {}
    for kind in KINDS:
        for scope in _SCOPES:
            found[scope, kind] = (_estimate(tables, draws, (scope, kind), level), len(listed), len(subjects))
    return found


def _table(cells: Sequence[Mapping[str, float]], labels: Sequence[str]) -> np.ndarray:
    """Returns (pairs, labels), NaN where a pair has no such label."""
    return np.array([[one.get(label, np.nan) for label in labels] for one in cells])


def _cells(
    row: Row, subjects: Mapping[str, Mapping[str, Any]], measure: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns information and Dice by label of a pair, for the labels that have both."""
    told = [subjects[one].get("per_label", {}) for one in pair_of(row)[1]]
    dice = (row.get("metrics") or {}).get("dice")
    dice = dice.get("per_label", {}) if isinstance(dice, Mapping) else {}
    x, y = {}, {}
    for label, value in dice.items():
        information = [one.get(label, {}).get(measure) for one in told]
        if value is not None and all(isinstance(one, int | float) for one in information):
            x[label], y[label] = sum(information) / 2, float(value)
    return x, y


def _estimate(
    tables: Sequence[Sequence[np.ndarray]], draws: Draws, which: tuple[Scope, Kind], level: float
) -> Estimate:
    one = np.ones((1, draws.weights.shape[1]))
    r = float(_over_labels(tables, one, draws, which)[0])
    n = sum(x.shape[1] for x, _ in tables)
    if not np.isfinite(r) or n < 3:
        return Estimate(float("nan"), None, None, n, draws.units, len(tables), "too few labels")
    low, high, note = fisher_bounds(r, _over_labels(tables, draws.weights, draws, which), draws.degrees, level)
    return Estimate(r, low, high, n, draws.units, len(tables), note)


def _over_labels(
    tables: Sequence[Sequence[np.ndarray]], weights: np.ndarray, draws: Draws, which: tuple[Scope, Kind]
) -> np.ndarray:
    """Returns the correlation over labels in each draw; a label that was not drawn keeps its mean over all pairs."""
    scope, kind = which
    columns: list[list[np.ndarray]] = [[], []]
    for number, table in enumerate(tables):
        own = weights[:, draws.dataset == number]
        for values, column in zip(table, columns, strict=True):
            known = np.isfinite(values)
            count = own @ known
            mean = (own @ np.where(known, values, 0.0)) / np.where(count > 0, count, np.nan)
            mean = np.where(np.isnan(mean), np.nanmean(values, axis=0), mean)
            column.append(mean)
    x, y = columns
    if kind == "log":
        x = [np.log(np.maximum(one, 1e-6)) for one in x]
    if scope == "within":
        x, y = ([one - one.mean(axis=1, keepdims=True) for one in part] for part in (x, y))
    return plain_correlation(np.concatenate(x, axis=1), np.concatenate(y, axis=1), kind)
