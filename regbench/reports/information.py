"""Information and Dice for people: tables for the terminal, Markdown and HTML, all made of the same cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from regbench.analysis.correlation import Kind, Scope
from regbench.analysis.groups import Row
from regbench.analysis.information import MEASURES, PAPER, PAPER_SOURCE, Measure, Outcome, Relation, Unit, relate
from regbench.analysis.information_words import correlation
from regbench.reports import words
from regbench.reports.information_figures import factor_plot, scatter_plot
from regbench.reports.page import Cell, Table, environment, picture

_COLUMNS: tuple[tuple[str, Scope, Kind], ...] = (
    ("pooled r", "pooled", "pearson"),
    ("pooled, log", "pooled", "log"),
    ("pooled, ranks", "pooled", "spearman"),
    ("within", "within", "pearson"),
    ("within, ranks", "within", "spearman"),
    ("between", "between", "pearson"),
)
# What a narrow terminal leaves out, first to last; files have everything.
_GIVEN_UP = ("within, ranks", "pooled, log", "pooled, ranks", "of ranks", "with log information", "changes")
_OF_ONE: tuple[tuple[str, Scope, Kind], ...] = (
    ("r", "within", "pearson"),
    ("with log information", "within", "log"),
    ("of ranks", "within", "spearman"),
)
_MEASURES: dict[Measure, str] = {
    "mi_nats": "I(intensity; label), nats",
    "mi_ratio": "I / H(label)",
    "mi_jena_nats": "plain estimate of all voxels, nats",
}
_OUTCOMES: dict[Outcome, str] = {"dice": "Dice", "gain": "Dice gained over no registration"}


def correlation_tables(relation: Relation) -> list[Table]:
    """Returns the tables of a relation: pairs, gain, subjects, labels, other measures, and factors."""
    wanted: list[tuple[Measure, Outcome, Unit]] = [
        ("mi_nats", "dice", "pairs"),
        ("mi_nats", "gain", "pairs"),
        ("mi_nats", "dice", "subjects"),
        ("mi_nats", "dice", "labels"),
        ("mi_ratio", "dice", "labels"),
        ("mi_ratio", "dice", "pairs"),
        ("mi_jena_nats", "dice", "pairs"),
    ]
    found = [_correlation_table(relation, *one) for one in wanted]
    return [table for table in [*found, *_factor_tables(relation)] if table.rows]


def _correlation_table(relation: Relation, measure: Measure, outcome: Outcome, unit: Unit) -> Table:
    columns = _COLUMNS if len(relation.datasets) > 1 else _OF_ONE
    columns = tuple(c for c in columns if not (unit == "labels" and c[1] == "between"))
    rows, counted = [], set()
    for method in relation.methods:
        cells = [Cell(method.name, "text")]
        for _, scope, kind in columns:
            found = relation.find(method.name, scope, kind, measure=measure, outcome=outcome, unit=unit)
            if found is None:
                cells.append(Cell(words.MISSING))
                continue
            estimate = found.estimate
            cells.append(Cell(correlation(estimate), "", estimate.r, estimate.low, estimate.high))
            if scope != "between":
                points = f"{estimate.n} {unit}"
                counted.add(points if unit == "subjects" else f"{points}, {found.n_subjects} subjects")
        if any(cell.text != words.MISSING for cell in cells[1:]):
            rows.append(cells)
    told = ""
    if len(relation.datasets) > 1:
        told = " Within: relative to the mean of the data set" + ("." if unit == "labels" else "; between: its mean.")
    n = f"{len(relation.datasets)} data set{'' if len(relation.datasets) == 1 else 's'}"
    headings = [("method", "text"), *((heading, "") for heading, _, _ in columns)]
    title = f"Over {unit}: {_OUTCOMES[outcome]} with {_MEASURES[measure]}"
    note = f"n: {'; '.join(sorted(counted))}; {n}.{told}"
    return Table(f"information-{unit}-{outcome}-{measure}", title, headings, rows, [note])


def _factor_tables(relation: Relation) -> list[Table]:
    """Returns for each data set the slopes by factor, then means by level."""
    tables = []
    for dataset in dict.fromkeys(factor.dataset for factor in relation.factors):
        factors = [factor for factor in relation.factors if factor.dataset == dataset]
        methods = list(dict.fromkeys(slope.method for factor in factors for slope in factor.slopes))
        headings = [("what was changed", "text"), ("changes", "text"), ("information", ""), *((m, "") for m in methods)]
        rows = []
        for factor in factors:
            low, high = factor.extent()
            cells = [Cell(factor.name, "text"), Cell(factor.changes, "text")]
            cells.append(Cell(f"{words.number(low, 2)} to {words.number(high, 2)}"))
            for method in methods:
                slope = factor.find(method)
                if slope is None or slope.follows == "information stays" or slope.slope != slope.slope:
                    cells.append(Cell(words.MISSING))
                    continue
                text = words.number(10 * slope.slope, 1, signed=True)
                if slope.low is not None and slope.high is not None:
                    text += f" \N{PLUS-MINUS SIGN}{words.number(5 * (slope.high - slope.low), 1)}"
                cells.append(Cell(text, "", slope.slope, slope.low, slope.high))
            rows.append(cells)
        note = (
            "Dice points per 0.1 nats, inside of pairs, with 95 % intervals; a hyphen where the information stays. "
            f"n: {max((s.n_pairs for f in factors for s in f.slopes), default=0)} pairs of the same anatomy throughout."
        )
        tables.append(Table(f"information-slopes-{dataset}", f"Slopes on {dataset}", headings, rows, [note]))
        tables.append(_level_table(dataset, relation))
    return tables


def _level_table(dataset: str, relation: Relation) -> Table:
    factors = [factor for factor in relation.factors if factor.dataset == dataset]
    levels = {level.condition: level for factor in factors for level in factor.levels}
    methods = list(dict.fromkeys(m for level in levels.values() for m in level.dice))
    measured = any(level.epe_mm for level in levels.values())
    rows = []
    for level in levels.values():
        cells = [Cell("unchanged" if level.condition == "none" else level.condition, "text")]
        cells += [Cell.of(words.number(v, 3), v) for v in (level.information.get(m) for m in MEASURES[:2])]
        for method in methods:
            dice, epe = level.dice.get(method), level.epe_mm.get(method)
            text = words.number(dice, 3) + (f" / {words.number(epe, 1)}" if epe is not None else "")
            cells.append(Cell.of(text, dice))
        rows.append(cells)
    headings = [("condition", "text"), ("I nats", ""), ("I / H", ""), *((m, "") for m in methods)]
    note = "Means over pairs: Dice" + (" / true error in mm." if measured else ".")
    return Table(f"information-levels-{dataset}", f"Means on {dataset}", headings, rows, [note])


def note_line(relation: Relation) -> str:
    """Returns how the numbers were made, for below the tables."""
    return (
        f"Information {relation.told}. Intervals: {100 * relation.level:g} %, {relation.resamples} resamples of "
        f"subjects (of pairs, where pairs share none), seed {relation.seed}; they hold for these data sets. "
        f"For comparison: r = {PAPER['pearson']} and {PAPER['log']} (log), {PAPER_SOURCE}."
    )


# -- terminal and Markdown ----------------------------------------------------------------------------


def print_relation(console: Any, relation: Relation) -> None:
    """Prints the conclusions, then the tables."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    for sentence in relation.words:
        console.print(Text(sentence))
        console.print()
    for table in correlation_tables(relation):
        shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        places = _fitting(table, console.width)
        for heading, kind in (table.headings[i] for i in places):
            shown.add_column(heading, justify="left" if kind == "text" else "right", overflow="fold")
        for row in table.rows:
            shown.add_row(*(Text(row[i].text) for i in places))
        console.print(Text(table.title, style="bold cyan"))
        console.print(shown)
        for note in table.notes:
            console.print(Text(note, style="dim"))
        console.print()
    console.print(Text(note_line(relation), style="dim"))


def _fitting(table: Table, width: int) -> list[int]:
    """Returns the columns that fit side by side; those that can go are given up one after the other."""
    places = list(range(len(table.headings)))
    wide = [max(len(table.headings[i][0]), *(len(row[i].text) for row in table.rows)) + 2 for i in places]
    for heading in _GIVEN_UP:
        if sum(wide[i] for i in places) <= width:
            break
        places = [i for i in places if table.headings[i][0] != heading]
    return places


def relation_markdown(relation: Relation) -> str:
    """Returns the conclusions and tables as Markdown."""
    parts = [f"- {sentence}" for sentence in relation.words]
    for table in correlation_tables(relation):
        parts += ["", f"**{table.title}**", "", _markdown_line([heading for heading, _ in table.headings])]
        parts.append(_markdown_line(["---" if kind == "text" else "---:" for _, kind in table.headings]))
        parts += [_markdown_line([cell.text for cell in row]) for row in table.rows]
        parts += ["", *table.notes]
    return "\n".join([*parts, "", note_line(relation), ""])


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


# -- HTML ---------------------------------------------------------------------------------------------


def information_html(run: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Returns the section of the report, '' where no row has information."""
    if not any(measure in (row.get("metrics") or {}) for row in rows for measure in MEASURES):
        return ""
    relation = relate(rows)
    if not relation.points:
        return ""
    return relation_html(relation)


def relation_html(relation: Relation) -> str:
    """Returns a relation as a section of HTML: sentences, figures, tables."""
    plots = [plot for plot in (scatter_plot(relation), factor_plot(relation)) if plot]
    return (
        environment()
        .get_template("_information.html.j2")
        .render(
            words=relation.words,
            pictures=[picture(plot) for plot in plots],
            tables=correlation_tables(relation),
            note=note_line(relation),
        )
    )
