"""The summary of a run as tables of the report: a table per dataset without a shift, one for all of its shifts.

What tables of this kind are read for stands in the first table; everything else that was measured stands in a second
one. The best mean of a dataset and condition is marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from regbench.analysis.groups import UNSHIFTED
from regbench.analysis.summary import SummaryRow, best_rows
from regbench.metrics.table import METRICS
from regbench.reports import words
from regbench.reports.page import Cell, Table

MAIN_METRICS = ("hd95_mm", "fold_percent", "ndv_percent")
_COSTS = ("register_s", "rss_peak_mib")
# What every table has in columns of its own, or what says nothing about a method.
_SHOWN_ELSEWHERE = (*MAIN_METRICS, *_COSTS, "load_s", "setup_s", "cpu_s")
# Up to this many rows of shifts are shown at once, more are folded away.
_OPEN_ROWS = 12


@dataclass(frozen=True)
class SummaryPart:
    """The tables of one dataset; `is_folded` says that the first of them only details the others."""

    title: str
    main: Table
    further: Table | None
    is_folded: bool = False


def summary_parts(summary: Sequence[SummaryRow]) -> list[SummaryPart]:
    """Returns the parts in the order of the summary: per dataset without a shift, then under its shifts."""
    best = {id(row) for row in best_rows(summary)}
    parts = []
    for dataset in dict.fromkeys(row.dataset for row in summary):
        members = [row for row in summary if row.dataset == dataset]
        plain = [row for row in members if row.condition == UNSHIFTED]
        shifted = [row for row in members if row.condition != UNSHIFTED]
        if plain:
            parts.append(_part(words.group_title(plain[0]), plain, best))
        if shifted:
            conditions = list(dict.fromkeys(row.condition for row in shifted))
            what = conditions[0] if len(conditions) == 1 else f"{len(conditions)} shifts"
            is_folded = bool(plain) and len(shifted) > _OPEN_ROWS
            parts.append(_part(f"{dataset} \N{MIDDLE DOT} under {what}", shifted, best, is_folded=is_folded))
    return parts


def _part(title: str, rows: Sequence[SummaryRow], best: set[int], *, is_folded: bool = False) -> SummaryPart:
    metrics = list(dict.fromkeys(row.accuracy_metric for row in rows if row.accuracy_metric))
    metric = metrics[0] if metrics else None
    main = [name for name in MAIN_METRICS if name != metric and _is_measured(name, rows)]
    has_shifts = any(row.condition != UNSHIFTED for row in rows)
    headings = [("method", "text"), ("paradigm", "text")]
    headings += [("condition", "text"), ("pairs", "")] if has_shifts else []
    if metric:
        headings += [(f"{words.metric_heading(metric)} [95 %]", "")]
        headings += [("\N{GREEK CAPITAL LETTER DELTA} identity \N{PLUS-MINUS SIGN}95 %", "")]
    headings += [(words.metric_heading(name), "") for name in main]
    headings += [("s / pair", ""), ("peak MiB", ""), ("failed", ""), ("coverage", "")]
    cells = [_main_cells(row, metric, main, has_shifts=has_shifts, is_best=id(row) in best) for row in rows]
    return SummaryPart(
        title, Table(f"results {title}", title, headings, cells), _further(title, rows, metric), is_folded
    )


def _main_cells(
    row: SummaryRow, metric: str | None, main: Sequence[str], *, has_shifts: bool, is_best: bool
) -> list[Cell]:
    digits = words.accuracy_digits(metric)
    cells = [Cell(row.method.name), Cell(row.method.paradigm_text, "text")]
    if has_shifts:
        cells += [Cell(row.condition, "text"), Cell.of(str(row.n_pairs), row.n_pairs)]
    if metric:
        cells.append(Cell.of(words.interval(row.accuracy, digits), row.accuracy, "best" if is_best else ""))
        cells.append(Cell.of(words.plus_minus(row.change, digits, signed=True), row.change))
    cells += [metric_cell(name, row.mean(name)) for name in main]
    cells.append(Cell.of(words.seconds(row.seconds_per_pair), row.seconds_per_pair))
    cells.append(Cell.of(words.number(row.peak_mib, 0), row.peak_mib))
    cells.append(Cell(words.failed(row), "bad" if row.n_failed else ""))
    return [*cells, Cell.of(f"{100 * row.coverage:.0f} %", row.coverage)]


def _further(title: str, rows: Sequence[SummaryRow], metric: str | None) -> Table | None:
    """Returns all other metrics, or None where there are none."""
    shown = (metric, *_SHOWN_ELSEWHERE)
    names = [name for name in METRICS if name not in shown and _is_measured(name, rows)]
    quantiles = [name for name in METRICS if any(name in row.quantiles for row in rows)]
    if not names and not quantiles:
        return None
    has_shifts = any(row.condition != UNSHIFTED for row in rows)
    headings = [("method", "text"), *([("condition", "text")] if has_shifts else [])]
    headings += [(words.metric_heading(name), "") for name in (*names, *quantiles)]
    cells = []
    for row in rows:
        line = [Cell(row.method.name), *([Cell(row.condition, "text")] if has_shifts else [])]
        line += [metric_cell(name, row.mean(name)) for name in names]
        cells.append(line + [metric_cell(name, row.quantiles.get(name)) for name in quantiles])
    return Table(f"further {title}", f"{title} \N{MIDDLE DOT} other metrics", headings, cells)


def _is_measured(name: str, rows: Sequence[SummaryRow]) -> bool:
    return any(name in row.metrics for row in rows)


def metric_cell(metric: str, value: float | None) -> Cell:
    """Returns the mean of a metric, with the digits that it is read with."""
    return Cell.of(metric_text(metric, value), value)


def metric_text(metric: str, value: float | None) -> str:
    """Returns a value of a metric as text, with the digits that it is read with."""
    if metric.endswith("_percent"):
        return words.percent(value)
    if metric.endswith("_s"):
        return words.seconds(value)
    if metric == "model_parameters":
        return words.MISSING if value is None else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return words.number(value, 2 if metric.endswith("_mm") else 3)
