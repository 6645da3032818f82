"""The worst and the best cases of a run: which they are, and pictures of those that were kept.

For every method the pair with its lowest and with its highest accuracy, over all conditions of a dataset; what no
registration reached on the same pair tells a hard pair from a method that failed on it. Methods that do nothing are
left out. Pictures are kept during a run, of the first pairs of each dataset, so that they show the extremes among
these; how many there are is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from regbench.analysis.groups import UNSHIFTED, Group, higher_is_better
from regbench.reports import words
from regbench.reports.case_pictures import KINDS, LEGEND, case_sheet, kinds_of
from regbench.reports.figures import Plot
from regbench.reports.page import Cell, Table
from regbench.reports.slices import read_slices
from regbench.store import PICTURES, file_name

# Sheets are large: the worst and the best case of this many datasets are drawn.
_MOST_DATASETS = 4


@dataclass(frozen=True)
class Extreme:
    """A case with its accuracy, and what no registration reached on the same pair (None where that was not run)."""

    group: Group
    method: str
    pair: str
    accuracy: float
    identity: float | None

    @property
    def gain(self) -> float | None:
        """Returns the change against no registration, in the unit of the metric."""
        return None if self.identity is None else self.accuracy - self.identity

    @property
    def condition(self) -> str:
        return "no shift" if self.group.condition == UNSHIFTED else self.group.condition

    @property
    def picture_file(self) -> str:
        return f"{file_name(self.group.source, self.group.condition, self.pair, self.method)}.npz"


def extremes(groups: Sequence[Group]) -> Iterator[tuple[str, str, list[Extreme]]]:
    """Yields dataset, metric and all cases of methods that do something, worst first."""
    for dataset in dict.fromkeys(group.dataset for group in groups):
        members = [group for group in groups if group.dataset == dataset and group.accuracy_metric]
        metric = members[0].accuracy_metric if members else None
        if metric is None:
            continue
        sign = 1 if higher_is_better(metric) else -1
        found = [case for group in members if group.accuracy_metric == metric for case in _cases(group, metric)]
        if found:
            yield dataset, metric, sorted(found, key=lambda case: sign * case.accuracy)


def _cases(group: Group, metric: str) -> Iterator[Extreme]:
    unmoved = group.values[metric].get(group.identity or "", {})
    for method, values in group.values[metric].items():
        if method != group.identity:
            for pair, value in values.items():
                yield Extreme(group, method, pair, value, unmoved.get(pair))


def extremes_table(dataset: str, metric: str, cases: Sequence[Extreme]) -> Table:
    """Returns a row per method: its worst and its best case."""
    digits, name = words.accuracy_digits(metric), words.metric_heading(metric)
    has_shifts = any(case.group.condition != UNSHIFTED for case in cases)
    headings = [("method", "text")]
    for which in ("worst", "best"):
        headings += [
            (f"{which} {name}", ""),
            ("\N{GREEK CAPITAL LETTER DELTA} identity", ""),
            (f"{which} pair", "text"),
        ]
        headings += [(f"{which} condition", "text")] if has_shifts else []
    rows = []
    order = list(dict.fromkeys(method.name for case in cases for method in case.group.methods))
    for method in order:
        own = [case for case in cases if case.method == method]
        if own:
            row = [Cell(method)]
            for case in (own[0], own[-1]):
                change = words.number(case.gain, digits, signed=True)
                row += [Cell.of(words.number(case.accuracy, digits), case.accuracy), Cell.of(change, case.gain)]
                row += [Cell(case.pair, "text"), *([Cell(case.condition, "text")] if has_shifts else [])]
            rows.append(row)
    return Table(f"cases {dataset}", f"{dataset} \N{MIDDLE DOT} worst and best case of each method", headings, rows)


def draw_extremes(groups: Sequence[Group], run_folder: Path) -> Iterator[Plot]:
    """Yields a sheet of the worst and one of the best case of each dataset, among those of which pictures were kept."""
    folder = run_folder / PICTURES
    if not folder.is_dir():
        return
    kept = {path.name for path in folder.glob("*.npz")}
    for _, metric, cases in list(extremes(groups))[:_MOST_DATASETS]:
        pictured = [case for case in cases if case.picture_file in kept]
        if not pictured:
            continue
        for which, place in (("worst", 0), ("best", -1)):
            if which == "worst" or len(pictured) > 1:
                plot = _sheet(which, metric, pictured[place], folder)
                if plot is not None:
                    yield replace(plot, description=plot.description + _others(which, cases, pictured, place))


def _sheet(which: str, metric: str, case: Extreme, folder: Path) -> Plot | None:
    slices = read_slices(folder / case.picture_file)
    if not slices:
        return None
    digits = words.accuracy_digits(metric)
    value = f"{words.metric_heading(metric)} {words.number(case.accuracy, digits)}"
    against = "" if case.identity is None else f" (no registration: {words.number(case.identity, digits)})"
    title = f"{which.capitalize()} case on {case.group.dataset}: {case.method} on {case.pair}, {case.condition}"
    shown = ", ".join(KINDS[kind][0] for kind in kinds_of(slices))
    description = f"{value}{against}. From left to right: {shown}; {_planes(len(slices))}."
    name = file_name("case", which, case.group.dataset, case.group.condition, case.pair, case.method)
    return Plot(name, title, description, case_sheet(slices))


def _others(which: str, cases: Sequence[Extreme], pictured: Sequence[Extreme], place: int) -> str:
    """Returns a sentence on the case that would be shown if there were pictures of all; '' where it is shown."""
    overall = cases[place]
    if overall is pictured[place]:
        return ""
    return (
        f" Pictures were kept of {len(pictured)} of {len(cases)} cases; the {which} of all is {overall.method} on "
        f"{overall.pair}, {overall.condition}, which regbench show draws."
    )


def _planes(n: int) -> str:
    return "a row for each of three planes through the middle" if n > 1 else "one plane"


__all__ = ["LEGEND", "Extreme", "draw_extremes", "extremes", "extremes_table"]
