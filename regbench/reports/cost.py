"""Accuracy against what it costs: time per pair and irregularity of the field, with the Pareto front.

On the front is a method that no other one beats in accuracy at equal or lower cost. Means are compared as they are;
their intervals say how sure a place on the front is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regbench.analysis.groups import Group, MethodLabel, higher_is_better
from regbench.analysis.statistics import Interval
from regbench.reports import words
from regbench.reports.figures import (
    DPI,
    Plot,
    axis_label,
    error_bar,
    kind_legend,
    left_out,
    panel_title,
    panels,
    png,
    style_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COSTS = {
    "ndv_percent": "non-diffeomorphic volume in %",
    "fold_percent": "folds in %",
    "register_s": "time per pair in s",
}
_MOST_DATASETS = 6
_LABEL_POINTS = 8
# Below this share of the volume, in %, the axis is linear so that it can show none at all.
_LINEAR_PERCENT = 1e-3


@dataclass(frozen=True)
class Point:
    """A method in the plane of cost and accuracy."""

    method: MethodLabel
    cost: float
    accuracy: Interval


def cost_plot(groups: Sequence[Group]) -> Plot:
    """Returns accuracy against irregularity and against time per pair, for the first condition of each dataset."""
    first: dict[str, Group] = {}
    for group in groups:
        first.setdefault(group.dataset, group)
    n_datasets = len(first)
    first = dict(list(first.items())[:_MOST_DATASETS])
    costs = [cost for cost in _COSTS if any(cost in costs_of(group) for group in first.values())]
    figure, axes = panels(len(first), len(costs), (5.4, 3.9))
    fronts, labelled = [], []
    for row, group in zip(axes, first.values(), strict=True):
        for panel, cost in zip(row, costs, strict=True):
            if cost in costs_of(group):
                points = points_of(group, cost)
                fronts.append((group, cost, _draw(panel, group, cost, points)))
                labelled.append((panel, points))
            else:
                panel.set_axis_off()
    kind_legend(figure, [method for group in first.values() for method in group.methods])
    # Labels come last: where they fit depends on the size that all else leaves to the panels.
    figure.draw_without_rendering()
    for panel, points in labelled:
        _place_labels(panel, points)
    told = " and against ".join(_COSTS[cost] for cost in costs)
    return Plot(
        "cost",
        "Accuracy against regularity and time" if len(costs) > 1 else "Accuracy against cost",
        f"Mean accuracy of each method with its 95 % interval against {told}, for {', '.join(first)}; a dashed line "
        f"is no registration, dotted steps are the Pareto front.{_front_words(fronts)}"
        f"{left_out(n_datasets - len(first), 'dataset')}",
        png(figure),
    )


def costs_of(group: Group) -> list[str]:
    """Returns the costs that were measured: time, and one measure of irregularity."""
    found = [cost for cost in _COSTS if any(group.common_values(cost, method.name) for method in group.methods)]
    return [cost for cost in found if cost != "fold_percent" or "ndv_percent" not in found]


def points_of(group: Group, cost: str) -> list[Point]:
    """Returns all methods but the one that does nothing; time is the median, anything else the mean over pairs."""
    metric, found = str(group.accuracy_metric), []
    for method in group.methods:
        values, costs = group.common_values(metric, method.name), list(group.common_values(cost, method.name).values())
        if values and costs and method.name != group.identity:
            x = sorted(costs)[len(costs) // 2] if cost == "register_s" else sum(costs) / len(costs)
            found.append(Point(method, x, group.interval(values)))
    return found


def pareto_front(points: Sequence[Point], metric: str) -> list[Point]:
    """Returns the points that no other one beats in accuracy at equal or lower cost, cheapest first."""
    sign = 1 if higher_is_better(metric) else -1
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -sign * p.accuracy.mean)):
        if not front or sign * (point.accuracy.mean - front[-1].accuracy.mean) > 0:
            front.append(point)
    return front


def _front_words(fronts: Sequence[tuple[Group, str, list[Point]]]) -> str:
    told = [
        f"{group.dataset}, {'time' if cost == 'register_s' else 'regularity'}: "
        + ", ".join(point.method.name for point in front)
        for group, cost, front in fronts
        if front
    ]
    return f" On the front, cheapest first: {'; '.join(told)}." if told and len(told) <= 6 else ""


# -- drawing ------------------------------------------------------------------------------------------


def _draw(axes: Axes, group: Group, cost: str, points: Sequence[Point]) -> list[Point]:
    """Draws the methods of a group and returns the front."""
    metric = str(group.accuracy_metric)
    for point in points:
        colour, marker, _ = style_of(point.method)
        error_bar(axes, point.cost, point.accuracy, colour, marker)
    _draw_identity(axes, group, points)
    _set_scale(axes, [point.cost for point in points], cost)
    axes.margins(y=0.1)
    axes.grid(axis="x", color="#efefef", linewidth=0.6)
    axes.set_xlabel(
        _COSTS[cost] + (" (median, log scale)" if cost == "register_s" else " (mean, log scale above 0.001)")
    )
    axes.set_ylabel(axis_label(metric))
    axes.set_title(panel_title(group), fontsize=9, loc="left")
    front = pareto_front(points, metric)
    if front:
        # The last of the front stays unbeaten however much more is spent.
        costs = [*(point.cost for point in front), axes.get_xlim()[1]]
        means = [*(point.accuracy.mean for point in front), front[-1].accuracy.mean]
        axes.step(costs, means, where="post", color="#555555", linestyle=":", linewidth=1.3, zorder=2)
    return front


def _draw_identity(axes: Axes, group: Group, points: Sequence[Point]) -> None:
    """Draws the accuracy of no registration as a line; where it would squeeze all else, it is told at the edge."""
    metric = str(group.accuracy_metric)
    nothing = group.common_values(metric, group.identity) if group.identity else {}
    if not nothing or not points:
        return
    level = group.interval(nothing).mean
    bounds = [b for p in points for b in (p.accuracy.mean, p.accuracy.low, p.accuracy.high) if b is not None]
    span = max(bounds) - min(bounds)
    if min(bounds) - 0.6 * span <= level <= max(bounds) + 0.6 * span:
        axes.axhline(level, color="#7f7f7f", linewidth=1, linestyle="--", zorder=1)
        return
    text = f"no registration: {words.number(level, words.accuracy_digits(metric))}"
    is_below = level < min(bounds)
    text = f"\N{DOWNWARDS ARROW} {text}" if is_below else f"\N{UPWARDS ARROW} {text}"
    place = (0.99, 0.02 if is_below else 0.98)
    axes.text(
        *place,
        text,
        transform=axes.transAxes,
        ha="right",
        va="bottom" if is_below else "top",
        fontsize=7.5,
        color="#555555",
    )


def _set_scale(axes: Axes, costs: Sequence[float], cost: str) -> None:
    """Sets a logarithmic axis with plain numbers; irregularity has a linear part around 0, which is a real value."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if cost == "register_s":
        positive = [c for c in costs if c > 0] or [1.0]
        low, high = min(positive) / 1.8, max(positive) * 1.8
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        ticks = list(_decades(low, high, (1, 3) if high / low < 300 else (1,)))
        if len(ticks) < 3:
            ticks = list(_decades(low, high, (1, 2, 5)))
    else:
        axes.set_xscale("symlog", linthresh=_LINEAR_PERCENT, linscale=0.35)
        high = max(max(costs, default=0.0) * 2, _LINEAR_PERCENT * 3)
        axes.set_xlim(-_LINEAR_PERCENT / 3, high)
        ticks = [0.0, *_decades(_LINEAR_PERCENT, high, (1,))]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _decades(low: float, high: float, steps: tuple[int, ...]) -> Iterator[float]:
    for exponent in range(-6, 7):
        for step in steps:
            value = step * 10.0**exponent
            if low <= value <= high:
                yield value


_Box = tuple[float, float, float, float]


def _place_labels(axes: Axes, points: Sequence[Point]) -> None:
    """Writes names beside their points where they hide neither a marker nor each other; a line leads far ones back."""
    scale = DPI / 72
    frame = axes.get_window_extent()
    centres = [axes.transData.transform((point.cost, point.accuracy.mean)) for point in points]
    taken: list[_Box] = [(x - 5 * scale, y - 5 * scale, x + 5 * scale, y + 5 * scale) for x, y in centres]
    bars = [
        axes.transData.transform((p.cost, b))
        for p in points
        for b in (p.accuracy.low, p.accuracy.high)
        if b is not None
    ]
    inside = (frame.x0, frame.y0, frame.x1 + 4 * scale, frame.y1)
    for point, (x, y) in sorted(zip(points, centres, strict=True), key=lambda item: -item[1][1]):
        width, height = 0.56 * _LABEL_POINTS * len(point.method.name) * scale, 1.15 * _LABEL_POINTS * scale
        choices = list(_choices(width, height, scale))
        costs = [_hidden((x + dx, y + dy, x + dx + width, y + dy + height), taken, bars, inside) for dx, dy in choices]
        best = min(range(len(choices)), key=lambda i: (costs[i], i))
        dx, dy = choices[best]
        taken.append((x + dx, y + dy, x + dx + width, y + dy + height))
        is_far = abs(dy + height / 2) > height or dx > 10 * scale or dx < -width - 10 * scale
        axes.annotate(
            point.method.name,
            (point.cost, point.accuracy.mean),
            xytext=(dx / scale, (dy + height / 2) / scale),
            textcoords="offset points",
            va="center",
            fontsize=_LABEL_POINTS,
            arrowprops={"arrowstyle": "-", "color": "#aaaaaa", "linewidth": 0.6, "shrinkB": 4} if is_far else None,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            zorder=5,
        )


def _choices(width: float, height: float, scale: float) -> Iterator[tuple[float, float]]:
    """Yields offsets of the lower left corner of a label from its point, nearest first."""
    for step in range(10):
        for sign in (1, -1) if step else (1,):
            rise = sign * step * 0.75 * height - height / 2
            for away in (7 * scale, 18 * scale):
                yield away, rise
                yield -away - width, rise


def _hidden(box: _Box, taken: Sequence[_Box], bars: Sequence[Any], inside: _Box) -> float:
    """Returns how much a label at this place would hide; outside of the panel counts most."""
    cost = 0.0
    if box[0] < inside[0] or box[1] < inside[1] or box[2] > inside[2] or box[3] > inside[3]:
        cost += 1e6
    for other in taken:
        width = min(box[2], other[2]) - max(box[0], other[0])
        height = min(box[3], other[3]) - max(box[1], other[1])
        cost += width * height if width > 0 and height > 0 else 0.0
    # Error bars are vertical lines between pairs of bounds.
    for low, high in zip(bars[::2], bars[1::2], strict=False):
        crosses = box[0] < low[0] < box[2] and box[1] < max(low[1], high[1]) and min(low[1], high[1]) < box[3]
        cost += 60.0 if crosses else 0.0
    return cost
