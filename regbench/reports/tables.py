"""The two CSV files of a run folder: every value in long form, and one line per method and metric.

Empty fields mean "not measured"; numbers are written with full precision, for other programs to read.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping

from regbench.analysis.groups import Row, as_number, pair_of, shown_dataset
from regbench.analysis.summary import SummaryRow
from regbench.metrics.table import METRICS

RESULT_COLUMNS = (
    *("run", "dataset", "condition", "pair", "fixed", "moving", "method", "paradigm", "supervision"),
    *("repeat", "status", "metric", "label", "value", "unit"),
)
SUMMARY_COLUMNS = (
    *("dataset", "condition", "method", "metric", "n", "n_failed", "mean", "sd", "median", "ci_low", "ci_high"),
    *("coverage", "n_leaked"),
)
_UNIT_ENDINGS = {"_s": "s", "_mm": "mm", "_mib": "MiB", "_percent": "%"}


def results_csv(rows: Iterable[Row]) -> str:
    """Returns the long table: a line per row, metric and label (empty: over all labels); one line for a failure."""
    return _csv(RESULT_COLUMNS, (line for row in rows for line in _result_lines(row)))


def summary_csv(summary: Iterable[SummaryRow]) -> str:
    """Returns a line per dataset, condition, method and metric; sd and interval are over pairs."""
    return _csv(SUMMARY_COLUMNS, (line for row in summary for line in _summary_lines(row)))


def _csv(columns: tuple[str, ...], lines: Iterable[list[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    return stream.getvalue()


def _result_lines(row: Row) -> Iterator[list[object]]:
    pair, (fixed, moving) = pair_of(row)
    head = [row.get("run"), shown_dataset(row), row.get("condition"), pair, fixed, moving]
    head += [row.get(name) for name in ("method", "paradigm", "supervision", "repeat", "status")]
    n_written = 0
    for metric, label, value in _values(row):
        n_written += 1
        yield [*head, metric, label, "" if math.isnan(value) else value, unit_of(metric)]
    if not n_written:
        yield [*head, "", "", "", ""]


def _values(row: Row) -> Iterator[tuple[str, str, float]]:
    """Yields (metric, label, value) of metrics, their labels and other parts, times and memory."""
    for metric, value in (row.get("metrics") or {}).items():
        if not isinstance(value, Mapping):
            yield metric, "", as_number(value)
            continue
        yield metric, "", as_number(value.get("mean"))
        for label, part in (value.get("per_label") or {}).items():
            yield metric, str(label), as_number(part)
        for name, part in value.items():
            if name not in ("mean", "per_label") and not isinstance(part, Mapping | list):
                yield f"{metric}.{name}", "", as_number(part)
    for part in ("timing", "memory", "model"):
        for name, value in (row.get(part) or {}).items():
            if not math.isnan(as_number(value)):
                yield name, "", as_number(value)


def _summary_lines(row: SummaryRow) -> Iterator[list[object]]:
    for name, metric in row.metrics.items():
        interval = metric.interval
        numbers = [interval.mean, metric.sd, metric.median, interval.low, interval.high, row.coverage, row.n_leaked]
        yield [row.dataset, row.condition, row.method.name, name, interval.n, row.n_failed, *numbers]
    for name, value in row.quantiles.items():
        yield [
            row.dataset,
            row.condition,
            row.method.name,
            name,
            row.n_pairs,
            row.n_failed,
            value,
            *[""] * 4,
            row.coverage,
            row.n_leaked,
        ]
    if not row.metrics:
        yield [row.dataset, row.condition, row.method.name, "", 0, row.n_failed, *[""] * 5, row.coverage, row.n_leaked]


def unit_of(metric: str) -> str:
    """Returns the unit of a metric, time or memory as text; empty where it is not known."""
    if metric in METRICS:
        return METRICS[metric].unit
    return next((unit for ending, unit in _UNIT_ENDINGS.items() if metric.endswith(ending)), "")
