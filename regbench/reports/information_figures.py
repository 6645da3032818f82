"""Figures of information and Dice: a scatter of pairs for each method, and curves where the information was changed.

Every data set has a marker. Lines are least squares of pooled pairs with a band from the draws of subjects; where there
are several data sets the short lines are those within a data set, all of one slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from regbench.analysis.correlation import RESAMPLES, draws_of, units_of
from regbench.analysis.information import PAPER, Point, Relation
from regbench.analysis.information_factors import Factor
from regbench.analysis.information_words import correlation
from regbench.reports.figures import Plot, panels, png, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#8c6d31")
_MOST_PANELS = 12
_COLUMNS = 3
_PANEL_INCHES = (3.5, 2.9)
_LINE_POINTS = 50


def scatter_plot(relation: Relation) -> Plot | None:
    """Returns Dice against information, a panel per method; None without pairs."""
    methods = [m for m in relation.methods if relation.find(m.name, "pooled") is not None][:_MOST_PANELS]
    if not methods:
        return None
    n_columns = min(_COLUMNS, len(methods))
    n_rows = -(-len(methods) // n_columns)
    figure, axes = panels(n_rows, n_columns, _PANEL_INCHES)
    places = [panel for row in axes for panel in row]
    values = [p.values[m.name, "dice"] for m in methods for p in relation.points if (m.name, "dice") in p.values]
    for number, (panel, method) in enumerate(zip(places, methods, strict=False)):
        _draw_method(panel, relation, method.name)
        # Room above for the correlations.
        panel.set_ylim(min(0.0, *values) - 0.02, max(values) + 0.2)
        panel.set_yticks([tick for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0) if tick < max(values) + 0.2])
        if number % n_columns == 0:
            panel.set_ylabel("Dice")
        if number >= len(methods) - n_columns:
            panel.set_xlabel("I(intensity; label), nats")
    for panel in places[len(methods) :]:
        panel.set_axis_off()
    if len(relation.datasets) > 1:
        _legend(figure, relation.datasets)
    told = "; ".join(f"{m.name} {correlation(found.estimate)}" for m in methods if (found := relation.find(m.name)))
    return Plot(
        "information",
        "Dice against the information of intensities about labels",
        f"A mark is a pair of the data as they are. Pooled correlations: {told}. The line is least squares of pooled "
        "pairs, the band its 95 % interval from resampled subjects; thin lines are those within data sets. For "
        f"comparison, the paper (arXiv 2408.05839) reports r = {PAPER['pearson']}, with the logarithm {PAPER['log']}, "
        "pooled over four data sets.",
        png(figure),
    )


def _draw_method(axes: Axes, relation: Relation, method: str) -> None:
    points = [p for p in relation.points if (method, "dice") in p.values and "mi_nats" in p.information]
    x = np.array([p.information["mi_nats"] for p in points])
    y = np.array([p.values[method, "dice"] for p in points])
    dataset = np.array([relation.datasets.index(p.dataset) for p in points])
    for number in np.unique(dataset):
        chosen = dataset == number
        axes.plot(
            x[chosen], y[chosen], linestyle="none", marker=_MARKERS[number % len(_MARKERS)], markersize=4.5,
            color=_COLOURS[number % len(_COLOURS)], markeredgecolor="white", markeredgewidth=0.4, zorder=3,
        )  # fmt: skip
    _draw_line(axes, points, x, y, relation.seed)
    if len(relation.datasets) > 1:
        _draw_within(axes, x, y, dataset)
    found = [relation.find(method, scope) for scope in ("pooled", "within")]
    told = [correlation(one.estimate) if one else "-" for one in found]
    text = f"pooled r = {told[0]}\nwithin r = {told[1]}" if len(relation.datasets) > 1 else f"r = {told[1]}"
    axes.set_title(method, fontsize=9, loc="left")
    axes.text(0.02, 0.98, text, transform=axes.transAxes, va="top", fontsize=7.5, color="#333333")


def _draw_line(axes: Axes, points: Sequence[Point], x: np.ndarray, y: np.ndarray, seed: int) -> None:
    if len(x) < 3 or float(np.ptp(x)) <= 0:
        return
    units: dict[int, Any] = {}
    for name in dict.fromkeys(p.dataset for p in points):
        own = [i for i, p in enumerate(points) if p.dataset == name]
        subjects = [(points[i].subjects[0], points[i].subjects[-1]) for i in own]
        units.update(zip(own, units_of(subjects), strict=True))
    draws = draws_of([(p.dataset, units[i]) for i, p in enumerate(points)], seed=seed, resamples=RESAMPLES)
    at = np.linspace(float(x.min()), float(x.max()), _LINE_POINTS)
    axes.plot(at, _fitted(np.ones((1, len(x))), x, y, at)[0], color="#333333", linewidth=1.2, zorder=2)
    if draws.degrees >= 1:
        fitted = _fitted(draws.weights, x, y, at)
        low, high = np.nanquantile(fitted, (0.025, 0.975), axis=0)
        axes.fill_between(at, low, high, color="#333333", alpha=0.13, linewidth=0, zorder=1)


def _fitted(weights: np.ndarray, x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Returns the weighted least-squares line at some places in each draw, (draws, places); NaN where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        total = weights.sum(axis=1, keepdims=True)
        mx, my = ((weights @ v)[:, np.newaxis] / total for v in (x, y))
        xx = (weights * (x - mx) ** 2).sum(axis=1, keepdims=True)
        slope = (weights * (x - mx) * (y - my)).sum(axis=1, keepdims=True) / np.where(xx > 1e-12, xx, np.nan)
        return np.asarray(my + slope * (at - mx))


def _draw_within(axes: Axes, x: np.ndarray, y: np.ndarray, dataset: np.ndarray) -> None:
    """Draws a short line of the common slope within data sets through each of them."""
    mean_x, mean_y = ({n: v[dataset == n].mean() for n in np.unique(dataset)} for v in (x, y))
    dx = x - np.array([mean_x[n] for n in dataset])
    dy = y - np.array([mean_y[n] for n in dataset])
    if float(dx @ dx) <= 0:
        return
    slope = float(dx @ dy) / float(dx @ dx)
    for number, centre in mean_x.items():
        ends = np.array([x[dataset == number].min(), x[dataset == number].max()])
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(ends, mean_y[number] + slope * (ends - centre), color=colour, linewidth=1.0, zorder=2)


def _legend(figure: Figure, datasets: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="none", marker=_MARKERS[i % len(_MARKERS)], color=_COLOURS[i % len(_COLOURS)], label=n)
        for i, n in enumerate(datasets)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5), frameon=False, fontsize=8)


# -- where the information was changed ----------------------------------------------------------------


def factor_plot(relation: Relation) -> Plot | None:
    """Returns mean Dice against mean information, a panel per factor and a line per method; None without factors."""
    factors = relation.factors[:_MOST_PANELS]
    if not factors:
        return None
    n_columns = min(_COLUMNS, len(factors))
    figure, axes = panels(-(-len(factors) // n_columns), n_columns, _PANEL_INCHES)
    places = [panel for row in axes for panel in row]
    several = len({factor.dataset for factor in factors}) > 1
    for number, (panel, factor) in enumerate(zip(places, factors, strict=False)):
        _draw_factor(panel, factor, relation)
        title = f"{factor.name} on {factor.dataset}" if several else factor.name
        panel.set_title(f"{title} \N{MIDDLE DOT} {factor.changes} change", fontsize=9, loc="left")
        if number % n_columns == 0:
            panel.set_ylabel("mean Dice")
        if number >= len(factors) - n_columns:
            panel.set_xlabel("mean I(intensity; label), nats")
    for panel in places[len(factors) :]:
        panel.set_axis_off()
    _share(places[: len(factors)])
    _method_legend(figure, relation)
    return Plot(
        "information-factors",
        "Dice where the information was changed and the anatomy stayed",
        "Means over the same pairs at every level; the open mark is the data as they are, and each line goes from "
        "there to stronger changes. If information decided Dice, all panels would show one curve per method.",
        png(figure),
    )


def _draw_factor(axes: Axes, factor: Factor, relation: Relation) -> None:
    for place, method in enumerate(relation.methods):
        x = [level.information.get("mi_nats", np.nan) for level in factor.levels]
        y = [level.dice.get(method.name, np.nan) for level in factor.levels]
        colour, marker, line = _look(relation, place)
        axes.plot(x, y, color=colour, marker=marker, linestyle=line, markersize=4, linewidth=1.1)
        axes.plot(x[:1], y[:1], color=colour, marker=marker, markerfacecolor="white", markersize=5.5, zorder=4)


def _look(relation: Relation, place: int) -> tuple[str, str, Any]:
    """Returns colour, marker and line of a method; those of one kind differ in their line."""
    methods = relation.methods
    colour, marker, _ = style_of(methods[place])
    before = sum(style_of(other) == style_of(methods[place]) for other in methods[:place])
    return colour, marker, ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))[before % 4]


def _share(axes: Sequence[Axes]) -> None:
    for get, put in (("get_xlim", "set_xlim"), ("get_ylim", "set_ylim")):
        limits = [getattr(panel, get)() for panel in axes]
        for panel in axes:
            getattr(panel, put)(min(low for low, _ in limits), max(high for _, high in limits))


def _method_legend(figure: Figure, relation: Relation) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for place, method in enumerate(relation.methods):
        colour, marker, line = _look(relation, place)
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle=line, markersize=5, label=method.name))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), 6), frameon=False, fontsize=8,
        handlelength=4,
    )  # fmt: skip
