"""Figures of a survey of intensity-label information: labels by size and information, and what choices do."""

from __future__ import annotations

import io
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regbench.information.record import Survey
from regbench.information.summary import label_summaries, sensitivities
from regbench.store import file_name, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
_INK, _BLUE, _ORANGE = "#333333", "#0072B2", "#E69F00"
_NAMED = 4


def write_figures(folder: Path, survey: Survey) -> list[Path]:
    """The figures of one label set as PNG in a folder; none without measured subjects."""
    if not survey.measured:
        return []
    made = {"labels": labels_figure(survey), "sensitivity": sensitivity_figure(survey)}
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in made.items():
        paths.append(folder / f"{file_name(survey.label_set)}-{name}.png")
        write_whole(paths[-1], _png(figure))
    return paths


def labels_figure(survey: Survey) -> Figure:
    """What intensity tells of each label (share of its entropy) against its size; colour: how visible its border is."""
    from matplotlib.figure import Figure as NewFigure

    found = [one for one in label_summaries(survey) if isfinite(one.mi_ratio)]
    figure = NewFigure(figsize=(7.0, 4.6), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    shown = axes.scatter(
        [one.voxels for one in found],
        [100 * one.mi_ratio for one in found],
        c=[100 * one.border_visible_share for one in found],
        cmap="cividis",
        vmin=0,
        vmax=max([20.0, *(100 * one.border_visible_share for one in found if isfinite(one.border_visible_share))]),
        edgecolors=_INK,
        linewidths=0.6,
        s=42,
        zorder=2,
    )
    figure.colorbar(shown, ax=axes, label="border visible in intensity (% of its area)")
    axes.set_xscale("log")
    axes.margins(x=0.14)
    top = max([1e-3, *(100 * one.mi_ratio for one in found)])
    axes.set_ylim(min([0.0, *(105 * one.mi_ratio for one in found)]), 1.08 * top)
    # The extremes are named, where there is room: names that cover each other say nothing.
    taken: list[tuple[float, float]] = []
    for place, one in enumerate([*found[:_NAMED], *reversed(found[_NAMED:][-_NAMED:])]):
        here = float(np.log10(max(one.voxels, 1.0))), 100 * one.mi_ratio / top
        if all(abs(here[0] - x) > 0.35 or abs(here[1] - y) > 0.035 for x, y in taken):
            taken.append(here)
            # The least are named below their points, away from all others.
            offset = (4, -10) if place >= _NAMED else (4, 4)
            name = one.name or one.label
            axes.annotate(name, (one.voxels, 100 * one.mi_ratio), offset, textcoords="offset points", fontsize=7)
    axes.set_xlabel("voxels of the label (mean over subjects)")
    axes.set_ylabel("told by intensity (% of the label's entropy)")
    _finish(axes, survey, "what intensity tells of each label")
    return figure


def sensitivity_figure(survey: Survey) -> Figure:
    """Information under other numbers of bins, binnings and masks, and under mergings of labels."""
    from matplotlib.figure import Figure as NewFigure

    found = sensitivities(survey)
    figure = NewFigure(figsize=(9.0, 3.8), dpi=DPI, layout="constrained")
    bins, choices, merging = figure.subplots(1, 3, width_ratios=(1.0, 1.1, 1.3))
    by_bins = {int(name): value for name, value in found.get("bins", {}).items()}
    bins.plot(list(by_bins), list(by_bins.values()), "o-", color=_BLUE)
    bins.set_xscale("log", base=2)
    bins.set_xticks(list(by_bins), [str(n) for n in by_bins])
    bins.minorticks_off()
    bins.set_ylim(0, 1.12 * max([1e-6, *(value for value in by_bins.values() if isfinite(value))]))
    bins.set_xlabel("bins")
    bins.set_ylabel("I(intensity; label) in nats")
    _finish(bins, survey, "")
    bins.set_title("bins: I in nats", fontsize=9, loc="left")
    figure.suptitle(
        f"{survey.dataset}, labels {survey.label_set}, n = {len(survey.measured)}", fontsize=9, x=0.01, ha="left"
    )
    _bars(choices, {**found.get("binning", {}), **found.get("mask", {})}, "binning and mask: I", {})
    ratios = found.get("merging_ratio", {})
    _bars(merging, found.get("merging", {}), "merged labels: I (% of entropy)", ratios)
    return figure


def _bars(axes: Axes, values: dict[str, float], heading: str, ratios: dict[str, float]) -> None:
    names = list(values)
    places = np.arange(len(names))[::-1]
    axes.barh(places, [values[name] for name in names], color=_BLUE, height=0.62)
    for place, name in zip(places, names, strict=True):
        share = f" ({100 * ratios[name]:.0f} %)" if isfinite(ratios.get(name, float("nan"))) else ""
        axes.annotate(
            f"{values[name]:.3f}{share}",
            (max(values[name], 0), place),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    axes.set_yticks(places, names, fontsize=7)
    axes.set_xlim(0, 1.45 * max([1e-6, *(v for v in values.values() if isfinite(v))]))
    axes.set_title(heading, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _finish(axes: Axes, survey: Survey, subject: str) -> None:
    n = len(survey.measured)
    told = f"{survey.dataset}, labels {survey.label_set}, n = {n}"
    axes.set_title(f"{told}: {subject}" if subject else told, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    # Without a program name, equal results make equal files.
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
