"""Plots of a run as PNG: accuracy per method, accuracy against cost, and what a shift takes away.

Kinds of methods differ in colour and in marker, so that neither print nor colour blindness hides them; the
colours are those of Okabe and Ito (2008). Every mean carries its interval where there is one.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regbench.analysis.groups import UNSHIFTED, Group, MethodLabel, paired_difference
from regbench.analysis.statistics import Interval
from regbench.reports import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLOT_NAMES = ("accuracy", "cost", "shift", "robustness")
DPI = 110
# Lines that join a pair over methods tell something up to about this many pairs, then they only darken.
_JOINED_PAIRS = 80
_INK = "#333333"
_STYLES = {
    ("none", "none"): ("#7f7f7f", "X", "no registration"),
    ("classical", "none"): ("#0072B2", "o", "classical"),
    ("learned", "image"): ("#E69F00", "^", "learned, images only"),
    ("learned", "labels"): ("#D55E00", "s", "learned, with labels"),
    ("learned", "synthetic"): ("#CC79A7", "v", "learned, synthetic images"),
    ("hybrid", "none"): ("#009E73", "D", "hybrid"),
}
_OTHER_STYLE = ("#009E73", "P", "other")


@dataclass(frozen=True)
class Plot:
    """A finished figure: file name without ending, heading, a description for those who cannot see it, and PNG.

    `in_report` is False for what would only repeat itself there; it is a file of the run folder all the same.
    """

    name: str
    title: str
    description: str
    png: bytes
    in_report: bool = True


def draw_plots(groups: Sequence[Group], elsewhere: Collection[str] = ()) -> Iterator[Plot]:
    """Yields the plots that the results allow, without the conditions that are drawn elsewhere."""
    groups = [group for group in groups if group.condition not in elsewhere]
    measured = [group for group in groups if group.accuracy_metric and group.common_pairs(group.accuracy_metric)]
    if not measured:
        return
    yield accuracy_plot(measured)
    if any(_costs(group) for group in measured):
        yield cost_plot([group for group in measured if _costs(group)])
    shifts = [(base, shifted) for base in measured for shifted in measured if _is_shift_of(shifted, base)]
    if shifts:
        yield shift_plot(shifts)


# -- accuracy per method ------------------------------------------------------------------------------


def accuracy_plot(groups: Sequence[Group]) -> Plot:
    """Returns accuracy per method: a dot per pair, joined within a pair, with mean and interval."""
    datasets = list(dict.fromkeys(group.dataset for group in groups))
    conditions = list(dict.fromkeys(group.condition for group in groups))
    n_methods = max(len(group.methods) for group in groups)
    panel_width = max(3.4, 0.75 * n_methods + 0.9)
    figure, axes = panels(len(datasets), len(conditions), (panel_width, 3.3))
    for i, dataset in enumerate(datasets):
        row = {group.condition: group for group in groups if group.dataset == dataset}
        limits = _common_limits(list(row.values()))
        for k, condition in enumerate(conditions):
            if condition in row:
                _draw_accuracy(axes[i][k], row[condition], limits)
            else:
                axes[i][k].set_axis_off()
    _kind_legend(figure, [method for group in groups for method in group.methods])
    told = ", ".join(f"{group.dataset} {_condition(group)} (n = {_n(group)})" for group in groups)
    return Plot(
        "accuracy", "Accuracy per method", f"Accuracy of each method, one dot per pair, for {told}.", png(figure)
    )


def _draw_accuracy(axes: Axes, group: Group, limits: tuple[float, float]) -> None:
    metric = str(group.accuracy_metric)
    methods = [method for method in group.methods if group.common_values(metric, method.name)]
    values = [group.common_values(metric, method.name) for method in methods]
    for pair in group.common_pairs(metric) if _n(group) <= _JOINED_PAIRS else ():
        heights = [per_pair[pair] for per_pair in values]
        axes.plot(range(len(methods)), heights, color="#999999", linewidth=0.6, alpha=0.5, zorder=1)
    for x, (method, per_pair) in enumerate(zip(methods, values, strict=True)):
        colour, marker, _ = style_of(method)
        axes.plot([x] * len(per_pair), list(per_pair.values()), ".", color=colour, alpha=0.45, markersize=5, zorder=2)
        interval = group.interval(per_pair)
        _error_bar(axes, x + 0.22, interval, colour, marker)
    axes.set_xticks(range(len(methods)), [method.name for method in methods], rotation=30, ha="right")
    axes.set_xlim(-0.5, len(methods) - 0.3)
    axes.set_ylim(*limits)
    axes.set_ylabel(axis_label(metric))
    axes.set_title(
        f"{group.dataset} \N{MIDDLE DOT} {_condition(group)} \N{MIDDLE DOT} n = {_n(group)} pairs",
        fontsize=9,
        loc="left",
    )


def _common_limits(groups: list[Group]) -> tuple[float, float]:
    """Returns y limits that hold all values of one dataset, so that conditions can be compared by eye."""
    metric = str(groups[0].accuracy_metric)
    found = [v for g in groups for m in g.methods for v in g.common_values(metric, m.name).values()] or [0.0, 1.0]
    margin = 0.05 * (max(found) - min(found) or 1.0)
    return min(found) - margin, max(found) + margin


# -- accuracy against cost ----------------------------------------------------------------------------


def cost_plot(groups: Sequence[Group]) -> Plot:
    """Returns accuracy against time per pair and against irregularity, for the unshifted condition of datasets."""
    first: dict[str, Group] = {}
    for group in groups:
        first.setdefault(group.dataset, group)
    costs = [cost for cost in _COSTS if any(cost in _costs(group) for group in first.values())]
    figure, axes = panels(len(first), len(costs), (4.6, 3.3))
    for row, group in zip(axes, first.values(), strict=True):
        for panel, cost in zip(row, costs, strict=True):
            if cost in _costs(group):
                _draw_cost(panel, group, cost)
            else:
                panel.set_axis_off()
    _kind_legend(figure, [method for group in first.values() for method in group.methods])
    told = " and ".join(_COSTS[cost] for cost in costs)
    return Plot(
        "cost",
        "Accuracy against cost",
        f"Mean accuracy of each method against {told}, for {', '.join(first)}; the dashed line is no registration.",
        png(figure),
    )


_COSTS = {
    "register_s": "time per pair in s",
    "ndv_percent": "non-diffeomorphic volume in %",
    "fold_percent": "folds in %",
}


def _costs(group: Group) -> list[str]:
    """Returns the costs that were measured: time, and one measure of irregularity."""
    found = [cost for cost in _COSTS if any(group.common_values(cost, method.name) for method in group.methods)]
    return [cost for cost in found if cost != "fold_percent" or "ndv_percent" not in found]


def _draw_cost(axes: Axes, group: Group, cost: str) -> None:
    metric = str(group.accuracy_metric)
    labels = []
    for method in group.methods:
        per_pair, costs = group.common_values(metric, method.name), group.common_values(cost, method.name)
        if not per_pair:
            continue
        interval, (colour, marker, _) = group.interval(per_pair), style_of(method)
        if method.name == group.identity:
            axes.axhline(interval.mean, color=colour, linewidth=1, linestyle="--", zorder=1)
        elif costs:
            x = sorted(costs.values())[len(costs) // 2] if cost == "register_s" else sum(costs.values()) / len(costs)
            _error_bar(axes, x, interval, colour, marker)
            labels.append((x, interval.mean, method.name))
    if cost == "register_s":
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=1e-3)
        axes.set_xlim(left=-2e-4)
    axes.margins(x=0.12, y=0.12)
    axes.set_xlabel(_COSTS[cost] + (" (median, log scale)" if cost == "register_s" else " (mean)"))
    axes.set_ylabel(axis_label(metric))
    axes.set_title(
        f"{group.dataset} \N{MIDDLE DOT} {_condition(group)} \N{MIDDLE DOT} n = {_n(group)} pairs",
        fontsize=9,
        loc="left",
    )
    _place_labels(axes, labels)


def _place_labels(axes: Axes, labels: list[tuple[float, float, str]]) -> None:
    """Writes names beside their points, towards the middle of the panel, pushed apart where they would overlap."""
    left, right = axes.get_xlim()
    middle = axes.transData.transform((left, 0))[0] / 2 + axes.transData.transform((right, 0))[0] / 2
    placed: list[tuple[float, float, float]] = []
    for x, y, name in sorted(labels, key=lambda label: label[1]):
        pixel_x, pixel_y = axes.transData.transform((x, y))
        side = 1 if pixel_x <= middle else -1
        width = 5.4 * len(name) * DPI / 100
        start = pixel_x + 9 if side > 0 else pixel_x - 9 - width
        height = pixel_y
        for other_start, other_end, other_y in placed:
            if start < other_end and other_start < start + width and abs(height - other_y) < 13:
                height = other_y + 13
        placed.append((start, start + width, height))
        axes.annotate(
            name,
            (x, y),
            xytext=(side * 7, (height - pixel_y) * 72 / DPI),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            fontsize=8,
        )


# -- what a shift takes away --------------------------------------------------------------------------


def shift_plot(shifts: Sequence[tuple[Group, Group]]) -> Plot:
    """Returns the paired change of accuracy of each method under each shift."""
    n_methods = max(len(base.methods) for base, _ in shifts)
    n_columns = min(len(shifts), 2)
    n_rows = -(-len(shifts) // n_columns)
    figure, axes = panels(n_rows, n_columns, (5.0, 0.34 * n_methods + 1.25))
    places = [panel for row in axes for panel in row]
    for panel, (base, shifted) in zip(places, shifts, strict=False):
        _draw_shift(panel, base, shifted)
    for panel in places[len(shifts) :]:
        panel.set_axis_off()
    _kind_legend(figure, [method for base, _ in shifts for method in base.methods])
    told = ", ".join(f"{shifted.condition} on {base.dataset}" for base, shifted in shifts)
    return Plot("shift", "What a shift changes", f"Paired change of accuracy of each method under {told}.", png(figure))


def _draw_shift(axes: Axes, base: Group, shifted: Group) -> None:
    metric = str(base.accuracy_metric)
    changes: list[tuple[MethodLabel, Interval]] = []
    for method in base.methods:
        before, after = base.common_values(metric, method.name), shifted.common_values(metric, method.name)
        change = base.interval(paired_difference(after, before))
        if change.n:
            changes.append((method, change))
    for y, (method, change) in enumerate(changes):
        colour, marker, _ = style_of(method)
        error = None if change.half_width is None else [change.half_width]
        axes.errorbar([change.mean], [y], xerr=error, color=colour, marker=marker, **_ERROR_BAR)
    axes.axvline(0, color=_INK, linewidth=0.8, zorder=1)
    axes.set_yticks(range(len(changes)), [method.name for method, _ in changes])
    axes.set_ylim(len(changes) - 0.5, -0.5)
    axes.margins(x=0.1)
    axes.set_xlabel(f"change of {axis_label(metric)}")
    n = max((change.n for _, change in changes), default=0)
    axes.set_title(
        f"{base.dataset} \N{MIDDLE DOT} {shifted.condition} minus no shift \N{MIDDLE DOT} n = {n} pairs",
        fontsize=9,
        loc="left",
    )


def _is_shift_of(shifted: Group, base: Group) -> bool:
    is_same = shifted.dataset == base.dataset and shifted.accuracy_metric == base.accuracy_metric
    return is_same and base.condition == UNSHIFTED and shifted.condition != UNSHIFTED


# -- shared parts -------------------------------------------------------------------------------------

_ERROR_BAR: dict[str, Any] = {
    "markersize": 6.5,
    "markeredgecolor": "white",
    "markeredgewidth": 0.6,
    "elinewidth": 1.6,
    "capsize": 3,
    "linestyle": "none",
    "zorder": 4,
}


def _error_bar(axes: Axes, x: float, interval: Interval, colour: str, marker: str) -> None:
    error = None if interval.half_width is None else [interval.half_width]
    axes.errorbar([x], [interval.mean], yerr=error, color=colour, marker=marker, **_ERROR_BAR)


def style_of(method: MethodLabel) -> tuple[str, str, str]:
    """Returns colour, marker and the words for the kind of a method."""
    if method.paradigm in ("classical", "none"):
        return _STYLES[method.paradigm, "none"]
    if method.paradigm == "hybrid":
        return _STYLES["hybrid", "none"]
    return _STYLES.get((method.paradigm, method.supervision), _OTHER_STYLE)


def panels(n_rows: int, n_columns: int, size: tuple[float, float]) -> tuple[Figure, Any]:
    """Returns a figure with a grid of panels of this size in inches, not tied to any screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * n_columns, size[1] * n_rows + 0.4), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", color="#e6e6e6", linewidth=0.7)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8)
        panel.xaxis.label.set_fontsize(8.5)
        panel.yaxis.label.set_fontsize(8.5)
    return figure, axes


def _kind_legend(figure: Figure, methods: Iterable[MethodLabel]) -> None:
    """Adds a legend of the kinds of methods that occur, below all panels."""
    from matplotlib.lines import Line2D

    styles = list(dict.fromkeys(style_of(method) for method in methods))
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=7, label=kind)
        for colour, marker, kind in styles
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)


def axis_label(metric: str) -> str:
    return (
        words.metric_heading(metric)
        if metric == "dice"
        else f"{words.metric_heading(metric)} ({words.better_is(metric)})"
    )


def _condition(group: Group) -> str:
    return "no shift" if group.condition == UNSHIFTED else group.condition


def _n(group: Group) -> int:
    return len(group.common_pairs(group.accuracy_metric))


def png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    # Without a date and a program name, equal results make equal files.
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
