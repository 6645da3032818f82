"""The summary table on a terminal, or as plain text where there is none.

One table: its header once, then a section for each dataset and condition. Columns are as wide as what they
hold; where the terminal is too narrow, intervals get shorter first, then columns go that the report has as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from regbench.analysis.groups import Row
from regbench.analysis.summary import SummaryRow, best_rows, notes, summarise
from regbench.reports import words

_GAP = 2
_INDENT = 1
_NARROWEST_METHOD = 14


@dataclass(frozen=True)
class _Column:
    key: str
    heading: str
    cell: Callable[[SummaryRow], str]
    numeric: bool = True

    def width(self, summary: Sequence[SummaryRow]) -> int:
        return max(cell_len(text) for text in (self.heading, *map(self.cell, summary)))


def print_summary(console: Console, rows: Iterable[Row], order: Sequence[str] = ()) -> None:
    """Prints the summary of result rows, with methods in the given order of labels, and notes on what is missing."""
    rows = list(rows)
    # Methods that are not compared, because they were trained on these pairs, are told of in the notes.
    summary = [row for row in summarise(rows, order) if not row.is_apart]
    if not summary:
        console.print("\n".join(notes(rows)) or "No results yet.", markup=False)
        return
    columns = _fitting_columns(summary, console.width)
    others = sum(column.width(summary) + _GAP for column in columns[1:])
    method_width = min(columns[0].width(summary), max(_NARROWEST_METHOD, console.width - others - _INDENT))
    widths = [method_width, *(column.width(summary) for column in columns[1:])]
    best = {id(row) for row in best_rows(summary)}
    lines = [_line(columns, widths, [column.heading for column in columns], dict.fromkeys(range(len(columns)), "bold"))]
    lines.append(Text("\N{BOX DRAWINGS LIGHT HORIZONTAL}" * cell_len(lines[0].plain), style="dim"))
    for _, section in groupby(summary, key=lambda row: (row.dataset, row.condition)):
        members = list(section)
        lines.append(Text(_title(members[0], summary), style="bold cyan"))
        lines.extend(_method_line(columns, widths, row, row_is_best=id(row) in best) for row in members)
    for line in lines:
        console.print(line, no_wrap=True, crop=False, overflow="ignore")
    console.print()
    for note in [*notes(rows), _legend(columns, summary)]:
        console.print(Text(note, style="dim"))


def _method_line(columns: list[_Column], widths: list[int], row: SummaryRow, *, row_is_best: bool) -> Text:
    styles = {}
    for i, column in enumerate(columns):
        if column.key == "accuracy" and row_is_best:
            styles[i] = "bold"
        if column.key == "failed" and row.n_failed:
            styles[i] = "bold red"
    return _line(columns, widths, [column.cell(row) for column in columns], styles)


def _line(columns: list[_Column], widths: list[int], cells: list[str], styles: dict[int, str]) -> Text:
    line = Text(" " * _INDENT)
    for i, (column, width, cell) in enumerate(zip(columns, widths, cells, strict=True)):
        shown = cell if cell_len(cell) <= width else set_cell_size(cell, width - 1).rstrip() + "\N{HORIZONTAL ELLIPSIS}"
        space = " " * (width - cell_len(shown))
        line.append(" " * _GAP if i else "")
        line.append(space if column.numeric else "")
        line.append(shown, style=styles.get(i))
        line.append("" if column.numeric else space)
    return line


# -- columns ------------------------------------------------------------------------------------------


def _fitting_columns(summary: Sequence[SummaryRow], width: int) -> list[_Column]:
    """Returns the columns, narrowed step by step until they fit or nothing is left to give up."""
    columns = _all_columns(summary)
    steps: list[Callable[[list[_Column]], list[_Column]]] = [
        _without("epe_mm"),
        _with_shorter("change", words.plus_minus),
        _with_shorter("accuracy", words.plus_minus),
        _with_shorter("change", _mean_only),
        _without("memory"),
        _without("ndv_percent"),
        _without("paradigm"),
        _without("fold_percent"),
        _without("hd95_mm"),
    ]
    for step in steps:
        if _INDENT + sum(column.width(summary) + _GAP for column in columns) - _GAP <= width:
            break
        columns = step(columns)
    return columns


def _all_columns(summary: Sequence[SummaryRow]) -> list[_Column]:
    accuracy = {row.accuracy_metric for row in summary if row.accuracy_metric}
    heading = words.metric_heading(next(iter(accuracy))) if len(accuracy) == 1 else "accuracy"
    columns = [
        _Column("method", "method", lambda row: row.method.name, numeric=False),
        _Column("paradigm", "paradigm", lambda row: row.method.paradigm_text, numeric=False),
    ]
    if accuracy:
        columns.append(_Column("accuracy", heading, _accuracy_cell(words.interval)))
    if any(row.change for row in summary):
        columns.append(_Column("change", "\N{GREEK CAPITAL LETTER DELTA} identity", _change_cell(words.interval)))
    for metric, show in (("epe_mm", _fixed_digits(2)), ("hd95_mm", _fixed_digits(2)), *_PERCENTAGES):
        if accuracy != {metric} and any(metric in row.metrics for row in summary):
            columns.append(_Column(metric, words.metric_heading(metric), _mean_cell(metric, show)))
    columns.append(_Column("seconds", "s/pair", lambda row: words.seconds(row.seconds_per_pair)))
    columns.append(_Column("memory", "MiB", lambda row: words.number(row.peak_mib, 0)))
    columns.append(_Column("failed", "failed", words.failed))
    return columns


_PERCENTAGES = (("fold_percent", words.percent), ("ndv_percent", words.percent))


def _fixed_digits(digits: int) -> Callable[[float | None], str]:
    return lambda value: words.number(value, digits)


def _mean_cell(metric: str, show: Callable[[float | None], str]) -> Callable[[SummaryRow], str]:
    return lambda row: show(row.mean(metric))


def _accuracy_cell(show: Callable[..., str]) -> Callable[[SummaryRow], str]:
    return lambda row: show(row.accuracy, words.accuracy_digits(row.accuracy_metric))


def _change_cell(show: Callable[..., str]) -> Callable[[SummaryRow], str]:
    return lambda row: show(row.change, words.accuracy_digits(row.accuracy_metric), signed=True)


def _mean_only(value: object, digits: int, *, signed: bool = False) -> str:
    return words.number(getattr(value, "mean", None), digits, signed=signed)


def _without(key: str) -> Callable[[list[_Column]], list[_Column]]:
    return lambda columns: [column for column in columns if column.key != key]


def _with_shorter(key: str, show: Callable[..., str]) -> Callable[[list[_Column]], list[_Column]]:
    cell = _change_cell(show) if key == "change" else _accuracy_cell(show)
    return lambda columns: [replace(column, cell=cell) if column.key == key else column for column in columns]


# -- words --------------------------------------------------------------------------------------------


def _title(row: SummaryRow, summary: Sequence[SummaryRow]) -> str:
    """Returns the heading of a section, naming its accuracy metric where sections differ in it."""
    title = words.group_title(row)
    if row.accuracy_metric and len({other.accuracy_metric for other in summary}) > 1:
        title += f" \N{MIDDLE DOT} accuracy is {words.metric_heading(row.accuracy_metric)}"
    return title


def _legend(columns: list[_Column], summary: Sequence[SummaryRow]) -> str:
    """Returns what the numbers are, with only the parts that the table shows."""
    shown = {column.key for column in columns}
    parts = []
    if "accuracy" in shown:
        few = all(row.accuracy is None or row.accuracy.low is None for row in summary)
        bounds = "(no intervals: too few pairs)" if few else "with 95 % confidence intervals"
        parts.append(f"Means over pairs {bounds}")
    if "change" in shown:
        parts.append("\N{GREEK CAPITAL LETTER DELTA} identity: paired change against no registration")
    parts.append("s/pair: median of the registration alone" + ("; MiB: peak memory" if "memory" in shown else ""))
    if "accuracy" in shown:
        parts.append("bold: best of its section")
    return "; ".join(parts) + "."
