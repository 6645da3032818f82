"""Plots of a run as PNG: accuracy per method, and what a shift takes away; accuracy against cost has its own module.

Kinds of methods differ in colour and in marker, so that neither print nor colour blindness hides them; the
colours are those of Okabe and Ito (2008). Every mean carries its interval where there is one.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regbench.analysis.groups import UNSHIFTED, Group, MethodLabel, higher_is_better, paired_difference
from regbench.analysis.statistics import Interval
from regbench.reports import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLOT_NAMES = ("accuracy", "cost", "shift", "robustness")
# Dots per inch: a figure is shown at 100 per inch of the page, which leaves it sharp on fine screens and on paper.
DPI = 160
# Lines that join a pair over methods tell something up to about this many pairs, then they only darken.
_JOINED_PAIRS = 80
_LEGEND_INCHES = 1.6
_NEARLY_WHITE = 240
# Fewer values than this are better seen than summed up in a box.
_FEWEST_BOXED = 5
# More panels than this make a figure that nobody reads; conditions beyond them stand in the tables.
_MOST_PANELS = 12
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
    from regbench.reports.cost import cost_plot, costs_of

    yield accuracy_plot(measured)
    if any(costs_of(group) for group in measured):
        yield cost_plot([group for group in measured if costs_of(group)])
    shifts = [(base, shifted) for base in measured for shifted in measured if _is_shift_of(shifted, base)]
    if shifts:
        yield shift_plot(shifts[:_MOST_PANELS], n_left_out=max(0, len(shifts) - _MOST_PANELS))


# -- accuracy per method ------------------------------------------------------------------------------


def accuracy_plot(groups: Sequence[Group]) -> Plot:
    """Returns accuracy per method: a dot per pair, joined within a pair, a box, and the mean with its interval."""
    datasets = list(dict.fromkeys(group.dataset for group in groups))
    n_conditions = len({group.condition for group in groups})
    n_columns = max(1, min(n_conditions, _MOST_PANELS // len(datasets)))
    conditions = list(dict.fromkeys(group.condition for group in groups))[:n_columns]
    drawn = [group for group in groups if group.condition in conditions]
    n_methods = max(len(group.methods) for group in drawn)
    panel_width = max(4.2, 0.72 * n_methods + 1.0)
    figure, axes = panels(len(datasets), len(conditions), (panel_width, 3.5))
    for i, dataset in enumerate(datasets):
        row = {group.condition: group for group in drawn if group.dataset == dataset}
        limits = _common_limits(list(row.values())) if row else (0.0, 1.0)
        for k, condition in enumerate(conditions):
            if condition in row:
                _draw_accuracy(axes[i][k], row[condition], limits)
            else:
                axes[i][k].set_axis_off()
    kind_legend(figure, [method for group in drawn for method in group.methods])
    told = ", ".join(f"{group.dataset} {condition_words(group)} (n = {n_common(group)})" for group in drawn)
    return Plot(
        "accuracy",
        "Accuracy per method",
        f"Accuracy of each method, one dot per pair, for {told}. {_best_words(drawn)}"
        "Lines join the results of one pair; boxes span the quartiles with the median, whiskers reach the last value "
        "within 1.5 times that span; the marker beside them is the mean with its 95 % interval."
        + left_out(len(groups) - len(drawn), "condition"),
        png(figure),
    )


def _best_words(groups: Sequence[Group]) -> str:
    """Returns which method has the best mean in every group, as a sentence that a picture would say."""
    told = []
    for group in groups[:4]:
        metric = str(group.accuracy_metric)
        means = {m.name: group.interval(v).mean for m in group.methods if (v := group.common_values(metric, m.name))}
        if len(means) > 1:
            best = (max if higher_is_better(metric) else min)(means, key=lambda name: means[name])
            where = f" on {group.dataset} {condition_words(group)}" if len(groups) > 1 else ""
            digits = words.accuracy_digits(metric)
            told.append(f"{best}{where} ({words.metric_heading(metric)} {words.number(means[best], digits)})")
    return f"Highest mean accuracy: {', '.join(told)}. " if told else ""


def left_out(n: int, what: str) -> str:
    """Returns a sentence on what a figure does not show, with a space before it; nothing where it shows all."""
    return f" Not drawn: {n} more {what}{'' if n == 1 else 's'}; the tables have them." if n > 0 else ""


def _draw_accuracy(axes: Axes, group: Group, limits: tuple[float, float]) -> None:
    metric = str(group.accuracy_metric)
    methods = [method for method in group.methods if group.common_values(metric, method.name)]
    values = [group.common_values(metric, method.name) for method in methods]
    n = n_common(group)
    if n <= _JOINED_PAIRS:
        for pair in group.common_pairs(metric):
            heights = [per_pair[pair] for per_pair in values]
            axes.plot(range(len(methods)), heights, color="#999999", linewidth=0.6, alpha=0.5, zorder=1)
    for x, (method, per_pair) in enumerate(zip(methods, values, strict=True)):
        colour, marker, _ = style_of(method)
        if n >= _FEWEST_BOXED:
            _draw_box(axes, x, list(per_pair.values()), colour)
        size = 5 if n <= _JOINED_PAIRS else 3
        axes.plot([x] * n, list(per_pair.values()), ".", color=colour, alpha=0.5, markersize=size, zorder=3)
        error_bar(axes, x + 0.33, group.interval(per_pair), colour, marker)
    axes.set_xticks(range(len(methods)), [method.name for method in methods], rotation=30, ha="right")
    axes.set_xlim(-0.5, len(methods) - 0.3)
    axes.set_ylim(*limits)
    axes.set_ylabel(axis_label(metric))
    axes.set_title(panel_title(group), fontsize=9, loc="left")


def _draw_box(axes: Axes, x: float, values: list[float], colour: str) -> None:
    drawn = axes.boxplot([values], positions=[x], widths=0.36, showfliers=False, patch_artist=True, manage_ticks=False)
    for part in ("boxes", "whiskers", "caps", "medians"):
        for line in drawn[part]:
            line.set(color=colour, linewidth=1.6 if part == "medians" else 0.9, zorder=2)
    for box in drawn["boxes"]:
        box.set_facecolor((*_rgb(colour), 0.14))


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _common_limits(groups: list[Group]) -> tuple[float, float]:
    """Returns y limits that hold all values of one dataset, so that conditions can be compared by eye."""
    metric = str(groups[0].accuracy_metric)
    found = [v for g in groups for m in g.methods for v in g.common_values(metric, m.name).values()] or [0.0, 1.0]
    margin = 0.05 * (max(found) - min(found) or 1.0)
    return min(found) - margin, max(found) + margin


# -- what a shift takes away --------------------------------------------------------------------------


def shift_plot(shifts: Sequence[tuple[Group, Group]], n_left_out: int = 0) -> Plot:
    """Returns the paired change of accuracy of each method under each shift; `n_left_out` shifts are not drawn."""
    n_methods = max(len(base.methods) for base, _ in shifts)
    n_columns = min(len(shifts), 2)
    n_rows = -(-len(shifts) // n_columns)
    figure, axes = panels(n_rows, n_columns, (5.0, 0.34 * n_methods + 1.25))
    places = [panel for row in axes for panel in row]
    for panel, (base, shifted) in zip(places, shifts, strict=False):
        _draw_shift(panel, base, shifted)
    for panel in places[len(shifts) :]:
        panel.set_axis_off()
    kind_legend(figure, [method for base, _ in shifts for method in base.methods])
    told = ", ".join(f"{shifted.condition} on {base.dataset}" for base, shifted in shifts)
    description = (
        f"Paired change of accuracy of each method under {told}: mean over pairs with its 95 % interval; the line at 0 "
        f"is no change.{left_out(n_left_out, 'shift')}"
    )
    return Plot("shift", "What a shift changes", description, png(figure))


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


def error_bar(axes: Axes, x: float, interval: Interval, colour: str, marker: str) -> None:
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


def kind_legend(figure: Figure, methods: Iterable[MethodLabel]) -> None:
    """Adds a legend of the kinds of methods that occur, below all panels."""
    from matplotlib.lines import Line2D

    styles = list(dict.fromkeys(style_of(method) for method in methods))
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=7, label=kind)
        for colour, marker, kind in styles
    ]
    # As many columns as fit: constrained layout cuts off what is wider than the figure.
    n_columns = max(1, min(len(handles), int(figure.get_figwidth() / _LEGEND_INCHES)))
    figure.legend(handles=handles, loc="outside lower center", ncols=n_columns, frameon=False, fontsize=8)


def axis_label(metric: str) -> str:
    return (
        words.metric_heading(metric)
        if metric == "dice"
        else f"{words.metric_heading(metric)} ({words.better_is(metric)})"
    )


def condition_words(group: Group) -> str:
    return "no shift" if group.condition == UNSHIFTED else group.condition


def panel_title(group: Group) -> str:
    n = n_common(group)
    pairs = f"n = {n} pair{'' if n == 1 else 's'}"
    return f"{group.dataset} \N{MIDDLE DOT} {condition_words(group)} \N{MIDDLE DOT} {pairs}"


def n_common(group: Group) -> int:
    return len(group.common_pairs(group.accuracy_metric))


def png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    # Without a date and a program name, equal results make equal files.
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def png_of_few_colours(figure: Figure) -> bytes:
    """Returns a figure as PNG with a palette of 256 colours: pictures of slices take a third of the room."""
    from PIL import Image

    stream = io.BytesIO()
    with Image.open(io.BytesIO(png(figure))) as image:
        few = image.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    # The lightest colour of a palette is white only about; on a white page that would show.
    palette = few.getpalette() or []
    lightest = max(range(0, len(palette), 3), key=lambda i: sum(palette[i : i + 3]), default=0)
    if sum(palette[lightest : lightest + 3]) > 3 * _NEARLY_WHITE:
        few.putpalette([*palette[:lightest], 255, 255, 255, *palette[lightest + 3 :]])
    few.save(stream, format="PNG", optimize=True)
    return stream.getvalue()
