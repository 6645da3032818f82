"""A survey of intensity-label information on a terminal: quantities over subjects, labels, sensitivity, and notes."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regbench.information.record import Survey
from regbench.information.summary import (
    LabelSummary,
    Spread,
    general_notes,
    label_summaries,
    notes,
    sensitivities,
    spreads,
)
from regbench.reports import words

_ALL_LABELS = 14
_BEST_AND_WORST = 6
_SHARES = ("share", "ratio")
_COUNTS = ("voxels", "n_labels")


def print_surveys(console: Console, surveys: Sequence[Survey]) -> None:
    """Prints the label sets of a dataset one after the other, then one line for each to compare."""
    for survey in surveys:
        _print_survey(console, survey)
    if len(surveys) > 1:
        console.print(overview(surveys))
        console.print()
    for note in general_notes(surveys):
        console.print(Text(note, style="dim"))


def _print_survey(console: Console, survey: Survey) -> None:
    n = len(survey.measured)
    title = f"{survey.dataset} \N{MIDDLE DOT} labels {survey.label_set} \N{MIDDLE DOT} {n} subject{'s' * (n != 1)}"
    if n:
        console.print(Text(title, style="bold cyan"))
        console.print(_quantities(survey))
        console.print()
        _print_labels(console, survey)
        _print_sensitivity(console, survey)
    for note in notes(survey):
        console.print(Text(note, style="dim"))
    if notes(survey):
        console.print()


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=place > 0, overflow="fold")
    return table


def _quantities(survey: Survey) -> Table:
    table = _table(
        f"before any registration, {survey.settings.bins} bins", "mean", "sd over subjects", "lowest", "highest"
    )
    for key, text, spread in spreads(survey):
        values = (spread.mean, spread.sd, spread.low, spread.high)
        table.add_row(text, *(_number(key, value) for value in values))
    return table


def _number(key: str, value: float) -> str:
    if not isfinite(value):
        return words.MISSING
    if key in _COUNTS:
        return f"{value:,.0f}".replace(",", " ")
    if key.endswith(_SHARES):
        return f"{100 * value:.1f} %"
    return words.number(value, 3 if abs(value) >= 0.1 or value == 0 else 4)


def _print_labels(console: Console, survey: Survey) -> None:
    found = label_summaries(survey)
    against = "the other labels" if survey.settings.mask == "fg" else "all other voxels"
    if len(found) <= _ALL_LABELS:
        parts: list[tuple[str, Sequence[LabelSummary]]] = [(f"label against {against}", found)]
    else:
        parts = [
            (f"label with most information against {against}", found[:_BEST_AND_WORST]),
            (f"label with least information against {against}", found[-_BEST_AND_WORST:]),
        ]
    for heading, those in parts:
        table = _table(heading, "voxels", "I nats", "of its entropy", "border visible", "subjects")
        for one in those:
            table.add_row(
                f"{one.label} {one.name}".strip(),
                _number("voxels", one.voxels),
                words.number(one.mi_nats, 4),
                _number("share", one.mi_ratio),
                _number("share", one.border_visible_share),
                str(one.n),
            )
        console.print(table)
        console.print()


def _print_sensitivity(console: Console, survey: Survey) -> None:
    found = sensitivities(survey)
    where = "labelled voxels" if survey.settings.mask == "fg" else "all voxels"
    told = {
        f"bins of equal frequency, {where}": found.get("bins", {}),
        f"binning, {where}": found.get("binning", {}),
        "mask": found.get("mask", {}),
    }
    table = _table("I in nats, mean over subjects, by the choice of", "")
    table.columns[1].justify, table.columns[1].no_wrap = "left", False
    for name, values in told.items():
        table.add_row(name, "   ".join(f"{choice}: {_number('', value)}" for choice, value in values.items()))
    console.print(table)
    console.print()
    merging, ratios = found.get("merging", {}), found.get("merging_ratio", {})
    if len(merging) > 1:
        table = _table("labels merged", "I nats", "I / H")
        for name, value in merging.items():
            table.add_row(name, _number("", value), _number("share", ratios.get(name, float("nan"))))
        console.print(table)
        console.print()


def overview(surveys: Sequence[Survey]) -> Table:
    """One line per label set, for comparisons between them."""
    table = _table("label set", "labels", "I nats", "H nats", "I / H", "all voxels", "background", "borders visible")
    for survey in surveys:
        found: dict[str, Spread] = {key: spread for key, _, spread in spreads(survey)}
        keys = ("n_labels", "mi_nats", "label_entropy_nats", "mi_ratio", "mi_all_nats", "background_share")
        table.add_row(survey.label_set, *(_number(key, found[key].mean) for key in (*keys, "border_visible_share")))
    return table
