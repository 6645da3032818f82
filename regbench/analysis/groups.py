"""Result rows sorted into groups of one dataset under one condition, ready for paired comparison.

Within a group a value belongs to a metric, a method and a pair. Labels were averaged within the pair by the
metric, repeats are averaged within the pair here, so pairs are the only samples that any statistic sees.
Only rows with status `ok` carry values. Rows are dicts as in results.jsonl; keys that are missing are treated
as not measured, never as zero.

Rows of pairs that a method was trained on (see `regbench.leaks`) carry no values either: they are kept apart, and so
their pairs are no common pairs. A method of which that would leave less than half of the pairs to all the others, or
none, is not compared at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regbench.analysis.statistics import Interval, mean_interval
from regbench.leaks import is_left_out
from regbench.metrics.table import METRICS

# The metric that the headline is about: the first of these that was measured.
ACCURACY_METRICS = ("dice", "tre_mm", "epe_mm")
UNSHIFTED = "none"
PARADIGM_ORDER = ("none", "classical", "hybrid", "learned")

Row = Mapping[str, Any]
ValuesPerPair = dict[str, float]


@dataclass(frozen=True)
class MethodLabel:
    """A method as a run names it, with what its card says about how it came to know anatomy."""

    name: str
    paradigm: str
    supervision: str

    @property
    def paradigm_text(self) -> str:
        """Returns the paradigm with the supervision of what was trained, like 'learned (labels)'."""
        if self.paradigm in ("learned", "hybrid") and self.supervision != "none":
            return f"{self.paradigm} ({self.supervision})"
        return "-" if self.paradigm == "none" else self.paradigm


@dataclass(frozen=True)
class Leaked:
    """The pairs of a group that one method was trained on, kept apart: by pair the reason, its accuracy by metric.

    `is_apart` says that because of them the method is not compared with the others on any pair.
    """

    reasons: dict[str, str]
    values: dict[str, ValuesPerPair]
    is_apart: bool


@dataclass(frozen=True)
class Group:
    """The results of one dataset under one condition.

    `dataset` is its name in tables, which tells the label warp where that is not the default: overlap depends on how
    labels were moved, so values of two ways never stand in one group. `source` is the dataset's name in the rows.
    `subjects` maps every pair that was planned to its (fixed, moving) subjects, `values` a metric to a method to
    a pair to its value, and `statuses` a method to the statuses of all its cases. `leaked` has the methods that were
    trained on some of the pairs.
    """

    dataset: str
    condition: str
    methods: tuple[MethodLabel, ...]
    subjects: dict[str, tuple[str, str]]
    values: dict[str, dict[str, ValuesPerPair]]
    finished: dict[str, set[str]]
    statuses: dict[str, list[str]]
    source: str = ""
    leaked: dict[str, Leaked] = field(default_factory=dict)
    _common: dict[str | None, list[str]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def accuracy_metric(self) -> str | None:
        return next((name for name in ACCURACY_METRICS if self.values.get(name)), None)

    @property
    def identity(self) -> str | None:
        """Returns the name of the method that leaves the images as they are, if it is there."""
        return next((method.name for method in self.methods if method.paradigm == "none"), None)

    @property
    def compared(self) -> list[str]:
        """Returns the methods that finished at least one pair: only they take part in the common pairs."""
        return [method.name for method in self.methods if self.finished[method.name]]

    def common_pairs(self, metric: str | None = None) -> list[str]:
        """Returns the pairs that all compared methods finished; with a metric, those where all have a value."""
        if metric not in self._common:
            self._common[metric] = self._find_common_pairs(metric)
        return self._common[metric]

    def _find_common_pairs(self, metric: str | None) -> list[str]:
        compared = [self.finished[method] for method in self.compared]
        # A metric that a method cannot have (no value on any pair) does not keep the others from having it.
        measured = list(self.values.get(metric, {}).values()) if metric else []
        if not compared or (metric and not measured):
            return []
        return [pair for pair in self.subjects if all(pair in pairs for pairs in (*compared, *measured))]

    def common_values(self, metric: str, method: str) -> ValuesPerPair:
        """Returns the values of a method on the pairs common to all methods, in the unit of the metric."""
        values = self.values.get(metric, {}).get(method)
        return {pair: values[pair] for pair in self.common_pairs(metric)} if values else {}

    def interval(self, values: ValuesPerPair) -> Interval:
        """Returns the mean of values per pair with its interval."""
        return mean_interval(list(values.values()), [self.subjects[pair] for pair in values])

    def difference(self, metric: str, method: str, reference: str) -> Interval:
        """Returns the mean paired difference, method minus reference, in the unit of the metric."""
        return self.interval(
            paired_difference(self.common_values(metric, method), self.common_values(metric, reference))
        )


def paired_difference(values: ValuesPerPair, reference: ValuesPerPair) -> ValuesPerPair:
    """Returns values minus reference for the pairs that have both."""
    return {pair: value - reference[pair] for pair, value in values.items() if pair in reference}


def higher_is_better(metric: str) -> bool:
    """Returns whether a larger value is a better one, by the metric table."""
    return metric in METRICS and METRICS[metric].direction == "higher"


def group_rows(rows: Iterable[Row], order: Sequence[str] = (), *, with_leaked: bool = False) -> list[Group]:
    """Returns the groups in order of appearance, the unshifted condition of each dataset first.

    Methods stand in the given order of labels; the others follow by paradigm, then by appearance. `with_leaked` takes
    pairs that a method was trained on for pairs like any other.
    """
    if with_leaked:
        rows = [{**row, "leaked": None} for row in rows]
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((shown_dataset(row), str(row.get("condition", UNSHIFTED))), []).append(row)
    datasets = list(dict.fromkeys(dataset for dataset, _ in found))
    conditions = list(dict.fromkeys(condition for _, condition in found))
    conditions.sort(key=lambda condition: condition != UNSHIFTED)
    keys = [(d, c) for d in datasets for c in conditions if (d, c) in found]
    return [_group(*key, found[key], order) for key in keys]


def _group(dataset: str, condition: str, rows: list[Row], order: Sequence[str]) -> Group:
    methods: dict[str, MethodLabel] = {}
    subjects: dict[str, tuple[str, str]] = {}
    finished: dict[str, set[str]] = {}
    statuses: dict[str, list[str]] = {}
    samples: dict[str, dict[str, dict[str, list[float]]]] = {}
    leaking: dict[str, list[Row]] = {}
    for row in rows:
        label = _method_label(row)
        pair, fixed_and_moving = pair_of(row)
        methods.setdefault(label.name, label)
        subjects.setdefault(pair, fixed_and_moving)
        statuses.setdefault(label.name, []).append(str(row.get("status", "failed")))
        finished.setdefault(label.name, set())
        if row.get("status") != "ok":
            continue
        if is_left_out(row):
            leaking.setdefault(label.name, []).append(row)
            continue
        finished[label.name].add(pair)
        for metric, value in row_values(row).items():
            samples.setdefault(metric, {}).setdefault(label.name, {}).setdefault(pair, []).append(value)
    apart = _set_apart(finished, {name: {pair_of(row)[0] for row in kept} for name, kept in leaking.items()}, subjects)
    for name in apart:
        finished[name] = set()
    values = {
        metric: {name: _means(pairs) for name, pairs in per_method.items() if name not in apart}
        for metric, per_method in samples.items()
    }
    leaked = {name: _leaked(kept, name in apart) for name, kept in leaking.items()}
    source = str(rows[0].get("dataset", "?"))
    shown = _ordered(methods, order)
    return Group(dataset, condition, shown, subjects, values, finished, statuses, source, leaked)


def _means(samples: Mapping[str, Sequence[float]]) -> ValuesPerPair:
    """Returns the mean over repeats of each pair."""
    return {pair: sum(values) / len(values) for pair, values in samples.items()}


def _leaked(rows: Iterable[Row], is_apart: bool) -> Leaked:
    """Returns what is known of the pairs that a method was trained on."""
    reasons: dict[str, str] = {}
    samples: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        pair = pair_of(row)[0]
        reasons[pair] = str(row["leaked"].get("reason") or "trained on its subjects")
        for metric, value in row_values(row).items():
            samples.setdefault(metric, {}).setdefault(pair, []).append(value)
    return Leaked(reasons, {metric: _means(pairs) for metric, pairs in samples.items()}, is_apart)


def _set_apart(finished: dict[str, set[str]], leaked: dict[str, set[str]], planned: Mapping[str, object]) -> set[str]:
    """Returns the methods whose leaked pairs would leave too few pairs to compare on: each of them less than half of
    the pairs, all of them together none at all (those with the most leaked pairs go first).
    """
    apart = {name for name, pairs in leaked.items() if not finished[name] or 2 * len(pairs) > len(planned)}
    rest = sorted((name for name in leaked if name not in apart), key=lambda name: len(leaked[name]))
    while rest and not set.intersection(*(pairs for name, pairs in finished.items() if pairs and name not in apart)):
        apart.add(rest.pop())
    return apart


def shown_dataset(row: Row) -> str:
    """Returns the dataset of a row as tables name it, with the way of warping labels where it is not the default."""
    dataset, mode = str(row.get("dataset", "?")), row.get("label_warp") or "nearest"
    return dataset if mode == "nearest" else f"{dataset} ({mode} label warp)"


def _method_label(row: Row) -> MethodLabel:
    return MethodLabel(
        str(row.get("method", "?")), str(row.get("paradigm") or "none"), str(row.get("supervision") or "none")
    )


def _ordered(methods: dict[str, MethodLabel], order: Sequence[str]) -> tuple[MethodLabel, ...]:
    def rank(method: MethodLabel) -> tuple[int, int]:
        if method.name in order:
            return list(order).index(method.name), 0
        known = method.paradigm in PARADIGM_ORDER
        return len(order), PARADIGM_ORDER.index(method.paradigm) if known else len(PARADIGM_ORDER)

    return tuple(sorted(methods.values(), key=rank))


def pair_of(row: Row) -> tuple[str, tuple[str, str]]:
    """Returns the id of the pair of a row and its (fixed, moving) subjects."""
    pair = row.get("pair")
    if not isinstance(pair, Mapping):
        pair = {"id": pair}
    name = str(pair.get("id", "?"))
    # A pair whose subjects are not known shares none: its sides are named after the pair itself.
    return name, (str(pair.get("fixed") or f"{name} fixed"), str(pair.get("moving") or f"{name} moving"))


def row_values(row: Row) -> dict[str, float]:
    """Returns the finite numbers of a row by name: metrics (mean over labels), times, memory, size of the model."""
    found = {name: metric_mean(value) for name, value in (row.get("metrics") or {}).items()}
    for part in ("timing", "memory", "model"):
        found.update({name: as_number(value) for name, value in (row.get(part) or {}).items()})
    return {name: value for name, value in found.items() if math.isfinite(value)}


def metric_mean(value: object) -> float:
    """Returns the value of a metric in a row: the number, or the mean over its labels; NaN where there is none."""
    return as_number(value.get("mean")) if isinstance(value, Mapping) else as_number(value)


def as_number(value: object) -> float:
    """Returns a number of a row as a float; NaN for null and for anything that is not a number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
