"""How accuracy and folds follow the strength of a shift, as a figure, a table of relative drops, and a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regbench.analysis.groups import Group, MethodLabel
from regbench.analysis.robustness import Conditions, Curve, curves, drops
from regbench.analysis.statistics import Interval
from regbench.reports import words
from regbench.reports.figures import Plot, axis_label, panels, png, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CSV_COLUMNS = (
    *("dataset", "shift", "strength", "condition", "method", "metric", "n", "mean", "ci_low", "ci_high"),
    *("drop_percent", "drop_low", "drop_high"),
)
_IRREGULARITIES = ("fold_percent", "ndv_percent")
_MOST_COLUMNS = 4
_PANEL_INCHES = (3.1, 2.25)
# Methods of one kind share a colour and a marker; lines tell them apart.
_LINES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
# How far methods stand apart at one strength, as a share of the range of strengths.
_APART = 0.012


@dataclass(frozen=True)
class DropTable:
    """What shifts cost on one dataset: a row per condition, a cell (text, CSS class) per method."""

    dataset: str
    metric: str
    methods: list[str]
    rows: list[tuple[str, list[tuple[str, str]]]]


def drop_tables(groups: Sequence[Group]) -> list[DropTable]:
    """Returns a table per dataset that was measured with and without a shift; the largest drop of a row is marked."""
    tables: dict[str, DropTable] = {}
    found = {(drop.dataset, drop.condition, drop.method): drop for drop in drops(groups)}
    for drop in found.values():
        if drop.dataset not in tables:
            methods = list(dict.fromkeys(d.method for d in found.values() if d.dataset == drop.dataset))
            tables[drop.dataset] = DropTable(drop.dataset, words.metric_name(drop.metric), methods, [])
    for dataset, table in tables.items():
        for condition in dict.fromkeys(d.condition for d in found.values() if d.dataset == dataset):
            row = [found.get((dataset, condition, method)) for method in table.methods]
            worst = max((drop.percent.mean for drop in row if drop), default=0.0)
            cells = [
                ("-", "")
                if drop is None
                else (_percent(drop.percent), "best" if drop.percent.mean == worst > 0 else "")
                for drop in row
            ]
            table.rows.append((condition, cells))
    return list(tables.values())


def _percent(value: Interval) -> str:
    return words.plus_minus(value, 1)


def robustness_csv(groups: Sequence[Group], conditions: Conditions) -> str:
    """Returns a line per curve, strength, method and metric, with the drop of accuracy where there is one."""
    found = {(drop.dataset, drop.condition, drop.method, drop.metric): drop.percent for drop in drops(groups)}
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for curve in curves(groups, conditions):
        for strength, group in curve.steps:
            for metric in (group.accuracy_metric, *_IRREGULARITIES):
                for method in group.methods if metric else ():
                    value = _value(group, str(metric), method)
                    if value is None:
                        continue
                    head = [curve.dataset, curve.shift, strength, group.condition, method.name, metric]
                    drop = found.get((curve.dataset, group.condition, method.name, str(metric)))
                    change = [drop.mean, drop.low, drop.high] if drop else ["", "", ""]
                    writer.writerow([*head, value.n, value.mean, value.low, value.high, *change])
    return stream.getvalue()


def _value(group: Group, metric: str, method: MethodLabel) -> Interval | None:
    values = group.common_values(metric, method.name)
    return group.interval(values) if values else None


# -- the figure ---------------------------------------------------------------------------------------


def robustness_plots(groups: Sequence[Group], conditions: Conditions) -> Iterator[Plot]:
    """Yields the figure of all curves, if there is any: accuracy above, irregularity below, a column per shift."""
    drawn = [curve for curve in curves(groups, conditions) if curve.steps[0][1].accuracy_metric]
    if not drawn:
        return
    rows = list(_rows(drawn))
    n_columns = min(_MOST_COLUMNS, max(len(row) for _, row in rows))
    figure, axes = panels(len(rows), n_columns, _PANEL_INCHES)
    methods = _methods(drawn)
    alike: dict[tuple[str, str], list[Axes]] = {}
    for panel_row, (metric, row) in zip(axes, rows, strict=True):
        for k, panel in enumerate(panel_row):
            if k < len(row):
                _draw(panel, row[k], metric, methods, is_first=k == 0)
                alike.setdefault((row[k].dataset, metric), []).append(panel)
            else:
                panel.set_axis_off()
    for (_, metric), panels_of_metric in alike.items():
        _share_limits(panels_of_metric, 0.0 if metric in _IRREGULARITIES else None)
    _method_legend(figure, methods)
    told = "; ".join(f"{curve.shift} on {curve.dataset}" for curve in drawn)
    yield Plot(
        "robustness",
        "Accuracy and folds against the strength of a shift",
        f"Mean accuracy of each method{_said_of_folds(drawn, rows)}, against the strength of {told}.",
        png(figure),
    )


def _said_of_folds(drawn: Sequence[Curve], rows: Sequence[tuple[str, list[Curve]]]) -> str:
    """What the description says of the second measure."""
    shown = list(dict.fromkeys(words.metric_heading(metric) for metric, _ in rows if metric in _IRREGULARITIES))
    if shown:
        return f", and below it {' or '.join(shown)}"
    measured = any(group.values.get(_IRREGULARITIES[0]) for curve in drawn for _, group in curve.steps)
    return " (no method folds any voxel)" if measured else ""


def _rows(drawn: Sequence[Curve]) -> Iterator[tuple[str, list[Curve]]]:
    """Yields rows of panels, a metric and curves each: accuracy and irregularity by turns, dataset by dataset."""
    for dataset in dict.fromkeys(curve.dataset for curve in drawn):
        of_dataset = [curve for curve in drawn if curve.dataset == dataset]
        metrics = [str(of_dataset[0].steps[0][1].accuracy_metric), *_irregularity(of_dataset)]
        n_rows = -(-len(of_dataset) // _MOST_COLUMNS)
        # Rows of about one length.
        length = -(-len(of_dataset) // n_rows)
        for first in range(0, len(of_dataset), length):
            for metric in metrics:
                yield metric, of_dataset[first : first + length]


def _irregularity(of_dataset: Sequence[Curve]) -> list[str]:
    """The first measure of irregularity that is not 0 throughout; none where every field is regular."""
    groups = [group for curve in of_dataset for _, group in curve.steps]
    for metric in _IRREGULARITIES:
        if any(
            value > 0 for group in groups for pairs in group.values.get(metric, {}).values() for value in pairs.values()
        ):
            return [metric]
    return []


def _draw(axes: Axes, curve: Curve, metric: str, methods: Sequence[MethodLabel], *, is_first: bool) -> None:
    strengths = [strength for strength, _ in curve.steps]
    span = (max(strengths) - min(strengths)) or 1.0
    for i, method in enumerate(methods):
        points = [(s, _value(group, metric, method)) for s, group in curve.steps]
        known = [(s + (i - (len(methods) - 1) / 2) * _APART * span, value) for s, value in points if value]
        if not known:
            continue
        colour, marker, _ = style_of(method)
        heights = [value.mean for _, value in known]
        axes.plot([x for x, _ in known], heights, color=colour, linestyle=_line(method, methods), linewidth=1.3)
        bars = [value.half_width or 0.0 for _, value in known]
        axes.errorbar([x for x, _ in known], heights, yerr=bars, color=colour, marker=marker, **_BAR)
    axes.set_xticks(strengths, [f"{strength:g}" for strength in strengths])
    axes.set_xlabel(curve.unit)
    axes.set_title(curve.shift, fontsize=9, loc="left")
    if is_first:
        axes.set_ylabel(axis_label(metric))


_BAR: dict[str, Any] = {
    "markersize": 4.5,
    "markeredgecolor": "white",
    "markeredgewidth": 0.5,
    "elinewidth": 1.0,
    "capsize": 2,
    "linestyle": "none",
    "zorder": 4,
}


def _share_limits(panels_of_metric: Sequence[Axes], bottom: float | None) -> None:
    limits = [axes.get_ylim() for axes in panels_of_metric]
    lowest = min(low for low, _ in limits) if bottom is None else bottom
    for axes in panels_of_metric:
        axes.set_ylim(lowest, max(high for _, high in limits))


def _methods(drawn: Sequence[Curve]) -> list[MethodLabel]:
    return list(dict.fromkeys(method for curve in drawn for _, group in curve.steps for method in group.methods))


def _line(method: MethodLabel, methods: Sequence[MethodLabel]) -> Any:
    alike = [other for other in methods if style_of(other) == style_of(method)]
    return _LINES[alike.index(method) % len(_LINES)]


def _method_legend(figure: Figure, methods: Sequence[MethodLabel]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for method in methods:
        colour, marker, _ = style_of(method)
        line = _line(method, methods)
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle=line, markersize=5, label=method.name))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 6),
        frameon=False,
        fontsize=8,
        handlelength=4,
    )
