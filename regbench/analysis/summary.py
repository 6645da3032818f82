"""Result rows to one summary per dataset, condition and method.

All means of a group are over the pairs that every compared method finished, so that no method looks better for
having failed on the hard ones; coverage says how much that leaves out. A method that finished no pair at all
does not take part, or one missing package would empty the whole table.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from regbench.analysis.groups import (
    ACCURACY_METRICS,
    Group,
    Leaked,
    MethodLabel,
    Row,
    ValuesPerPair,
    group_rows,
    higher_is_better,
)
from regbench.analysis.statistics import Interval
from regbench.analysis.takeaway import takeaway
from regbench.metrics.table import METRICS

__all__ = ["MetricSummary", "SummaryRow", "best_rows", "notes", "summarise", "takeaway"]


@dataclass(frozen=True)
class MetricSummary:
    """A metric of one method over pairs, in the unit of the metric; sd (over pairs) is None for fewer than two."""

    interval: Interval
    sd: float | None
    median: float
    maximum: float


@dataclass(frozen=True)
class SummaryRow:
    """What one method reached on one dataset under one condition.

    `n_pairs` are the pairs that all compared methods finished, `coverage` is the share (0 to 1) of the planned
    pairs that this method finished, and the counts are of cases (pairs times repeats). `change` is the paired
    difference of the accuracy metric against identity. `quantiles` are the robust aggregates, such as `dice30`.
    `n_leaked` of the planned pairs hold subjects that the method was trained on; where `is_apart`, it is not compared
    because of them, and has no metrics here.
    """

    dataset: str
    condition: str
    method: MethodLabel
    n_pairs: int
    coverage: float
    n_cases: int
    n_failed: int
    n_skipped: int
    accuracy_metric: str | None
    change: Interval | None
    metrics: dict[str, MetricSummary]
    quantiles: dict[str, float] = field(default_factory=dict)
    n_leaked: int = 0
    is_apart: bool = False

    @property
    def accuracy(self) -> Interval | None:
        found = self.metrics.get(self.accuracy_metric or "")
        return found.interval if found else None

    @property
    def seconds_per_pair(self) -> float | None:
        """Returns the median time of `register` per pair, in s."""
        return self.metrics["register_s"].median if "register_s" in self.metrics else None

    @property
    def peak_mib(self) -> float | None:
        """Returns the highest memory that any case reached, in MiB."""
        return self.metrics["rss_peak_mib"].maximum if "rss_peak_mib" in self.metrics else None

    def mean(self, metric: str) -> float | None:
        """Returns the mean of a metric over the common pairs, in its unit; None where it was not measured."""
        return self.metrics[metric].interval.mean if metric in self.metrics else None


def summarise(rows: Iterable[Row], order: Sequence[str] = ()) -> list[SummaryRow]:
    """Returns the summaries, grouped by dataset and condition, methods in the given order of labels."""
    return [_summary(group, method) for group in group_rows(rows, order) for method in group.methods]


def best_rows(summary: Sequence[SummaryRow]) -> list[SummaryRow]:
    """Returns the row with the best mean accuracy of each dataset and condition."""
    best: dict[tuple[str, str], SummaryRow] = {}
    for row in summary:
        if row.accuracy is None or row.accuracy_metric is None:
            continue
        sign = 1 if higher_is_better(row.accuracy_metric) else -1
        known = best.get((row.dataset, row.condition))
        if known is None or known.accuracy is None or sign * (row.accuracy.mean - known.accuracy.mean) > 0:
            best[row.dataset, row.condition] = row
    return list(best.values())


def notes(rows: Iterable[Row]) -> list[str]:
    """Returns a sentence for every group whose table does not cover all that was planned, and why metrics lack."""
    rows = list(rows)
    return [note for group in group_rows(rows) for note in _group_notes(group)] + _declined(rows)


def _declined(rows: Sequence[Row]) -> list[str]:
    """Returns a sentence for every metric that declined, with its reason and the number of cases."""
    found: dict[tuple[str, str, str], int] = {}
    for row in rows:
        for metric, value in (row.get("metrics") or {}).items():
            if isinstance(value, Mapping) and value.get("reason"):
                key = (str(row.get("dataset", "?")), metric, str(value["reason"]))
                found[key] = found.get(key, 0) + 1
    return [
        f"{dataset}: no {metric} in {count} case{'' if count == 1 else 's'}: {reason}."
        for (dataset, metric, reason), count in found.items()
    ]


def _summary(group: Group, method: MethodLabel) -> SummaryRow:
    metric = group.accuracy_metric
    statuses = group.statuses[method.name]
    n_skipped = statuses.count("skipped")
    change = None
    if metric and group.identity and method.name != group.identity and group.values[metric].get(method.name):
        change = group.difference(metric, method.name, group.identity)
    common = {name: group.common_values(name, method.name) for name in group.values}
    leaked = group.leaked.get(method.name)
    return SummaryRow(
        dataset=group.dataset,
        condition=group.condition,
        method=method,
        n_pairs=len(group.common_pairs()),
        coverage=len(group.finished[method.name]) / len(group.subjects),
        n_cases=len(statuses),
        n_failed=len(statuses) - n_skipped - statuses.count("ok"),
        n_skipped=n_skipped,
        accuracy_metric=metric,
        change=change if change and change.n else None,
        metrics={name: _metric_summary(group, values) for name, values in common.items() if values},
        quantiles=_quantiles(common),
        n_leaked=len(leaked.reasons) if leaked else 0,
        is_apart=leaked is not None and leaked.is_apart,
    )


def _quantiles(common: Mapping[str, ValuesPerPair]) -> dict[str, float]:
    """Returns the aggregates of the metric table that are quantiles over pairs, linearly interpolated."""
    found = {}
    for name, metric in METRICS.items():
        source, share = metric.quantile_of or ("", 0.0)
        if common.get(source):
            found[name] = float(np.quantile(list(common[source].values()), share))
    return found


def _metric_summary(group: Group, values: ValuesPerPair) -> MetricSummary:
    sample = list(values.values())
    sd = statistics.stdev(sample) if len(sample) > 1 else None
    return MetricSummary(group.interval(values), sd, statistics.median(sample), max(sample))


def _group_notes(group: Group) -> list[str]:
    where = f"{group.dataset}, condition {group.condition}"
    planned, common = len(group.subjects), len(group.common_pairs())
    found = _leak_notes(group, where)
    apart = [name for name, leaked in group.leaked.items() if leaked.is_apart]
    idle = [m.name for m in group.methods if not group.finished[m.name] and m.name not in apart]
    if idle and group.compared:
        found.append(f"{where}: {', '.join(idle)} finished no pair and is left out of the comparison.")
    elif idle and not apart:
        found.append(f"{where}: no method finished a pair.")
    left = {pair for leaked in group.leaked.values() if not leaked.is_apart for pair in leaked.reasons}
    if group.compared and common < planned - len(left):
        fewest = min(group.compared, key=lambda name: len(group.finished[name]))
        found.append(
            f"{where}: means are over the {common} of {planned} pairs that all compared methods finished "
            f"(fewest: {fewest}, {len(group.finished[fewest])})."
        )
    return found


def _leak_notes(group: Group, where: str) -> list[str]:
    """Returns which methods were trained on the subjects of which pairs, and what that leaves out."""
    planned, found = len(group.subjects), []
    left: dict[str, set[str]] = {
        name: set(leaked.reasons) for name, leaked in group.leaked.items() if not leaked.is_apart
    }
    if left:
        n = len(set.union(*left.values()))
        told = "; ".join(f"{name} was {_trained(group.leaked[name], planned)}" for name in left)
        found.append(f"{where}: {n} of {planned} pairs left out for all methods: {told}.")
    for name, leaked in group.leaked.items():
        if leaked.is_apart:
            found.append(
                f"{where}: {name} is not compared: it was {_trained(leaked, planned)}{_leaked_accuracy(group, leaked)}."
            )
    return found


def _trained(leaked: Leaked, planned: int) -> str:
    """Returns what a method was trained on, in words that say whether it is certain; one pair with its own reason."""
    reasons = list(dict.fromkeys(leaked.reasons.values()))
    n = len(leaked.reasons)
    pairs = f"{'all' if n == planned else f'{n} of'} {planned} pairs" if planned > 1 else "the pair"
    if len(reasons) == 1:
        return f"{reasons[0]} ({pairs})"
    possible = all("not known" in reason or reason.startswith("possibly") for reason in reasons)
    return f"{'possibly ' if possible else ''}trained on subjects of {pairs} (such as: {reasons[0]})"


def _leaked_accuracy(group: Group, leaked: Leaked) -> str:
    """Returns the mean accuracy that a method reached on pairs it was trained on."""
    metric = next((name for name in ACCURACY_METRICS if leaked.values.get(name)), None)
    if metric is None:
        return ""
    values = leaked.values[metric]
    n = len(values)
    mean = sum(values.values()) / n
    return f"; {metric} {mean:.3f} there, over {n} pair{'' if n == 1 else 's'} (not comparable)"
