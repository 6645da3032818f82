"""Accuracy per label: a table and a figure of means over pairs, which labels are hard and for whom.

Labels within a pair are no independent samples, so that these numbers describe and nothing is tested on them. A label
is averaged over the common pairs of its group in which all methods have it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regbench.analysis.groups import UNSHIFTED, Group, Row, as_number, higher_is_better, pair_of, shown_dataset
from regbench.reports import words
from regbench.reports.figures import Plot, axis_label, panels, png
from regbench.reports.page import Cell, Table

# More labels than this are unreadable in one figure; the table has them all.
MOST_DRAWN_LABELS = 120
_WRITTEN_CELLS = 260
_FOLDED_LABELS = 12


@dataclass(frozen=True)
class LabelMeans:
    """Mean accuracy of one dataset without a shift, by label and method, hardest label first; n pairs by label."""

    dataset: str
    metric: str
    methods: list[str]
    means: dict[str, dict[str, float]]
    n_pairs: dict[str, int]

    @property
    def is_long(self) -> bool:
        return len(self.means) > _FOLDED_LABELS


def label_means(
    rows: Sequence[Row], groups: Sequence[Group], names: Mapping[str, Mapping[str, str]] | None = None
) -> list[LabelMeans]:
    """Returns the means of every dataset whose accuracy was measured on more than one label."""
    found = []
    for group in groups:
        if group.condition == UNSHIFTED and group.accuracy_metric:
            means = _means(rows, group, (names or {}).get(group.source, {}))
            if means is not None and len(means.means) > 1:
                found.append(means)
    return found


def _means(rows: Sequence[Row], group: Group, names: Mapping[str, str]) -> LabelMeans | None:
    metric, common = str(group.accuracy_metric), set(group.common_pairs(group.accuracy_metric))
    # Label, method and pair, to the values of its repeats.
    samples: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        if row.get("status") != "ok" or row.get("condition") != group.condition:
            continue
        value, pair = (row.get("metrics") or {}).get(metric), pair_of(row)[0]
        if pair not in common or not isinstance(value, Mapping) or shown_dataset(row) != group.dataset:
            continue
        for label, part in (value.get("per_label") or {}).items():
            if math.isfinite(number := as_number(part)):
                per_pair = samples.setdefault(str(label), {}).setdefault(str(row.get("method")), {})
                per_pair.setdefault(pair, []).append(number)
    methods = [method.name for method in group.methods if any(method.name in of for of in samples.values())]
    means: dict[str, dict[str, float]] = {}
    n_pairs: dict[str, int] = {}
    for label, of_methods in samples.items():
        shared = set.intersection(*(set(pairs) for pairs in of_methods.values()))
        if shared and len(of_methods) == len(methods):
            shown = f"{label} {names[label]}" if label in names else label
            n_pairs[shown] = len(shared)
            means[shown] = {m: _mean(_mean(of_methods[m][pair]) for pair in sorted(shared)) for m in methods}
    if not means:
        return None
    sign = 1 if higher_is_better(metric) else -1
    hardest_first = sorted(means, key=lambda label: (sign * _mean(means[label].values()), label))
    return LabelMeans(group.dataset, metric, methods, {label: means[label] for label in hardest_first}, n_pairs)


def _mean(values: Any) -> float:
    found = list(values)
    return sum(found) / len(found)


def label_table(found: LabelMeans) -> Table:
    """Returns a row per label and a column per method; the best method of each label is marked."""
    digits = words.accuracy_digits(found.metric)
    best = max if higher_is_better(found.metric) else min
    rows = []
    for label, means in found.means.items():
        top = best(means.values())
        cells = [
            Cell.of(words.number(means[m], digits), means[m], "best" if means[m] == top else "") for m in found.methods
        ]
        rows.append([Cell(label), Cell.of(str(found.n_pairs[label]), found.n_pairs[label]), *cells])
    title = f"{found.dataset} \N{MIDDLE DOT} {words.metric_heading(found.metric)} per label"
    headings = [("label", "text"), ("pairs", ""), *((method, "") for method in found.methods)]
    return Table(f"labels {found.dataset}", title, headings, rows)


# -- the figure ---------------------------------------------------------------------------------------


def label_plot(found: LabelMeans) -> Plot:
    """Returns a map of labels (columns, hardest first) and methods (rows); light is good, dark is bad."""
    import numpy as np

    labels = list(found.means)[:MOST_DRAWN_LABELS]
    values = np.array([[found.means[label][method] for label in labels] for method in found.methods])
    width = min(max(5.0, 0.17 * len(labels) + 2.6), 12.5)
    figure, axes = panels(1, 1, (width, 0.27 * len(found.methods) + 1.1))
    panel = axes[0][0]
    higher = higher_is_better(found.metric)
    drawn = panel.imshow(values, aspect="auto", cmap="viridis" if higher else "viridis_r", interpolation="nearest")
    panel.grid(visible=False)
    panel.set_yticks(range(len(found.methods)), found.methods)
    step = max(1, math.ceil(len(labels) / 70))
    is_named = any(len(label) > 4 for label in labels)
    turned: dict[str, Any] = (
        {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if is_named else {"rotation": 90}
    )
    panel.set_xticks(range(0, len(labels), step), labels[::step], **(turned if len(labels) > 12 or is_named else {}))
    panel.tick_params(axis="x", labelsize=7)
    panel.set_xlabel("label, hardest first")
    panel.spines[["left", "bottom"]].set_visible(False)
    if values.size <= _WRITTEN_CELLS and width / len(labels) > 0.3:
        _write(panel, values, words.accuracy_digits(found.metric), light_is_high=higher)
    figure.colorbar(drawn, ax=panel, fraction=0.04, pad=0.01, label=axis_label(found.metric))
    n = sorted(set(found.n_pairs.values()))
    pairs = f"n = {n[-1]} pair{'' if n[-1] == 1 else 's'}" if len(n) == 1 else f"n = {n[0]} to {n[-1]} pairs"
    panel.set_title(f"{found.dataset} \N{MIDDLE DOT} no shift \N{MIDDLE DOT} {pairs}", fontsize=9, loc="left")
    return Plot(
        f"labels__{found.dataset}",
        f"{words.metric_name(found.metric)} per label on {found.dataset}",
        f"Mean {words.metric_heading(found.metric)} of each method on each label, {pairs}; lighter is better."
        f"{_extremes(found)}{_left_out(found, labels)}",
        png(figure),
    )


def _extremes(found: LabelMeans) -> str:
    overall = {label: _mean(means.values()) for label, means in found.means.items()}
    hardest, easiest = next(iter(overall)), list(overall)[-1]
    digits = words.accuracy_digits(found.metric)
    return (
        f" Over all methods label {hardest} is the hardest ({words.number(overall[hardest], digits)}) and label "
        f"{easiest} the easiest ({words.number(overall[easiest], digits)})."
    )


def _left_out(found: LabelMeans, drawn: Sequence[str]) -> str:
    rest = len(found.means) - len(drawn)
    return f" The {rest} other labels stand in the table." if rest else ""


def _write(axes: Any, values: Any, digits: int, *, light_is_high: bool) -> None:
    import numpy as np

    middle = (values.min() + values.max()) / 2
    for (y, x), value in np.ndenumerate(values):
        is_light = (value > middle) == light_is_high
        colour = "#111111" if is_light else "#ffffff"
        text = words.number(float(value), digits)
        axes.text(x, y, text, ha="center", va="center", fontsize=7, color=colour)
