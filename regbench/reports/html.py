"""The HTML report of a run: one file that opens offline, with all figures inside."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from regbench.analysis.groups import Row, group_rows, pair_of
from regbench.analysis.headline import headline
from regbench.analysis.summary import SummaryRow, best_rows, notes, summarise, takeaway
from regbench.metrics.table import METRICS
from regbench.reports import words
from regbench.reports.figures import Plot
from regbench.reports.robustness import drop_tables

# Parts of run.json that would only fill pages; they stand in the file itself.
_LEFT_OUT = ("plan_keys", "manifest")
_LONGEST_FACT = 300
_MAIN_METRICS = ("hd95_mm", "fold_percent", "ndv_percent")
_FURTHER_METRICS = tuple(name for name, row in METRICS.items() if row.function and name not in _MAIN_METRICS)


@dataclass(frozen=True)
class _Section:
    """A table of one dataset under one condition, as text."""

    title: str
    headings: list[str]
    rows: list[dict[str, Any]]


def render_report(run: Mapping[str, Any], rows: Sequence[Row], plots: Sequence[Plot], order: Sequence[str] = ()) -> str:
    """Returns the report as HTML text."""
    from jinja2 import Environment, FileSystemLoader

    summary = [row for row in summarise(rows, order) if not row.is_apart]
    folder = Path(__file__).with_name("templates")
    environment = Environment(loader=FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("report.html.j2").render(
        name=run.get("name") or run.get("run") or "run",
        headline=headline(rows),
        takeaway=takeaway(rows),
        notes=notes(rows),
        counts=_counts(rows),
        sections=list(_sections(summary)),
        plots=[_embedded(plot) for plot in plots if not plot.name.startswith("pictures")],
        pictures=[_embedded(plot) for plot in plots if plot.name.startswith("pictures") and plot.in_report],
        failures=_failures(rows),
        drops=drop_tables(group_rows(rows, order)),
        intervals=words.INTERVALS_LINE,
        tuning=words.tuning_line(run.get("tuning") or {}),
        metrics=[METRICS[name] for name in METRICS if any(name in row.metrics for row in summary)],
        facts=list(_facts(run)),
        hosts=_distinct(rows, "host"),
        method_versions=_method_versions(rows),
    )


def _sections(summary: Sequence[SummaryRow]) -> Iterator[_Section]:
    best = {id(row) for row in best_rows(summary)}
    for _, members in groupby(summary, key=lambda row: (row.dataset, row.condition)):
        group = list(members)
        yield _Section(words.group_title(group[0]), *_cells(group, best))


def _cells(group: list[SummaryRow], best: set[int]) -> tuple[list[str], list[dict[str, Any]]]:
    """Returns headings and rows; each cell is (text, CSS class). What tables of this kind are read for comes first."""
    metric = group[0].accuracy_metric
    main, further = (
        [name for name in names if name != metric and any(name in row.metrics for row in group)]
        for names in (_MAIN_METRICS, _FURTHER_METRICS)
    )
    headings = ["method", "paradigm"]
    if metric:
        headings += [
            f"{words.metric_heading(metric)} [95 %]",
            "\N{GREEK CAPITAL LETTER DELTA} identity \N{PLUS-MINUS SIGN}95 %",
        ]
    headings += [*map(words.metric_heading, main), "s / pair", "peak MiB", "failed", "coverage"]
    headings += map(words.metric_heading, further)
    return headings, [
        {"method": row.method.name, "cells": _row_cells(row, main, further, is_best=id(row) in best)} for row in group
    ]


def _row_cells(row: SummaryRow, main: list[str], further: list[str], *, is_best: bool) -> list[tuple[str, str]]:
    digits = words.accuracy_digits(row.accuracy_metric)
    cells = [(row.method.paradigm_text, "text")]
    if row.accuracy_metric:
        cells.append((words.interval(row.accuracy, digits), "best" if is_best else ""))
        cells.append((words.plus_minus(row.change, digits, signed=True), ""))
    cells += [(_metric_cell(name, row.mean(name)), "") for name in main]
    cells += [(words.seconds(row.seconds_per_pair), ""), (words.number(row.peak_mib, 0), "")]
    cells += [(words.failed(row), "bad" if row.n_failed else ""), (f"{100 * row.coverage:.0f} %", "")]
    return cells + [(_metric_cell(name, row.mean(name)), "") for name in further]


def _metric_cell(metric: str, value: float | None) -> str:
    if metric.endswith("_percent"):
        return words.percent(value)
    return words.number(value, 2 if metric.endswith("_mm") else 3)


def _embedded(plot: Plot) -> dict[str, str]:
    data = base64.b64encode(plot.png).decode("ascii")
    return {"title": plot.title, "description": plot.description, "source": f"data:image/png;base64,{data}"}


def _counts(rows: Sequence[Row]) -> str:
    counts = Counter(str(row.get("status")) for row in rows)
    return f"{len(rows)} cases: " + ", ".join(f"{n} {status}" for status, n in counts.most_common())


def _failures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns failures and skips with their reasons, cases with the same reason together."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if row.get("status") != "ok":
            reason = str(row.get("reason") or "no reason given")
            key = *(str(row.get(name)) for name in ("status", "dataset", "condition", "method")), reason
            found.setdefault(key, []).append(pair_of(row)[0])
    return [
        {"status": status, "where": f"{dataset}, {condition}", "method": method, "reason": reason, "pairs": pairs}
        for (status, dataset, condition, method, reason), pairs in found.items()
    ]


def _facts(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields the entries of nested data as (path, text), long texts cut."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _LEFT_OUT:
                yield from _facts(item, f"{path}.{key}" if path else str(key))
        return
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for i, item in enumerate(value, 1):
            yield from _facts(item, f"{path} {i}")
        return
    text = " ".join(map(str, value)) if isinstance(value, list) else words.MISSING if value is None else str(value)
    yield path, text if len(text) <= _LONGEST_FACT else text[:_LONGEST_FACT] + " \N{HORIZONTAL ELLIPSIS}"


def _distinct(rows: Iterable[Row], key: str) -> str:
    return ", ".join(dict.fromkeys(str(row[key]) for row in rows if row.get(key)))


def _method_versions(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Returns each method with its version, parameters and threads, as they were recorded with its rows."""
    found: dict[str, str] = {}
    for row in rows:
        parts = [str(row.get("method_version") or "version unknown")]
        params = row.get("params")
        if isinstance(params, Mapping) and params:
            parts.append(", ".join(f"{key} = {value}" for key, value in params.items()))
        parts += [f"{row['threads']} threads"] if row.get("threads") else []
        found.setdefault(str(row.get("method")), "; ".join(parts))
    return list(found.items())
