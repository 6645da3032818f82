"""A comparison for people: on a terminal, and as Markdown for a pull request or a step summary.

Every verdict is a word with a mark, colour is only added to it. Names come from configs and files of others: they are
shown on one line, and escaped for the form they are put into.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from regbench.analysis.comparison.outcome import Check, Comparison, Outcome, PairChange
from regbench.analysis.comparison.tolerances import COST_TOLERANCES
from regbench.analysis.groups import ACCURACY_METRICS
from regbench.reports.words import MINUS, MISSING, metric_heading

MARKS: dict[Outcome, str] = {
    "regression": "\N{BALLOT X}",
    "not comparable": "\N{NOT EQUAL TO}",
    "inconclusive": "?",
    "improvement": "\N{UPWARDS ARROW}",
    "same": "=",
    "skipped": "\N{MIDDLE DOT}",
    "new": "+",
}
_STYLES: dict[Outcome, str] = {
    "regression": "bold red",
    "not comparable": "bold magenta",
    "inconclusive": "yellow",
    "improvement": "green",
}
_BETWEEN: dict[Outcome, str] = {"regression": "worse", "improvement": "better", "same": "no difference"}
_LOUD: tuple[Outcome, ...] = ("regression", "not comparable", "inconclusive", "improvement")
_WIDE = 100
_MOST_LINES = 40
_MOST_PAIRS = 10
# GitHub takes step summaries up to a MiB, and comments up to 65536 characters.
_MOST_MARKDOWN_LINES = 100


@dataclass(frozen=True)
class Line:
    """A check as the cells of a table."""

    outcome: Outcome
    verdict: str
    place: str
    metric: str
    base: str
    new: str
    change: str
    text: str


def heading(what: str) -> str:
    """Returns what a check is about as a heading with its unit."""
    return {"register_s": "seconds", "rss_peak_mib": "memory MiB", "gpu_peak_mib": "GPU MiB"}.get(
        what, metric_heading(what)
    )


def verdict_word(check: Check, comparison: Comparison) -> str:
    """Returns the verdict of a check as one word, which between two methods is none about time."""
    return _BETWEEN.get(check.outcome, check.outcome) if comparison.between_methods else str(check.outcome)


def one_line(text: str) -> str:
    """Returns a text without line breaks and other control characters.

    Two colons are set apart: at the beginning of a line, where wrapping may put them, GitHub takes them for a command.
    """
    return " ".join("".join(c if c.isprintable() else " " for c in text).replace("::", ": :").split())


def shown_lines(comparison: Comparison) -> list[Line]:
    """Returns what a table shows: all that changed; where nothing did, the accuracy that was compared."""
    checks = comparison.of(*_LOUD)
    same = comparison.of("same")
    if comparison.between_methods:
        checks += same
    elif not checks:
        checks = [check for check in same if check.what in ACCURACY_METRICS[:1]] or same
    return [_line(check, comparison) for check in checks]


def other_lines(comparison: Comparison) -> list[str]:
    """Returns in sentences what is not in the table: skipped checks by reason, what is new, modes, notes."""
    told = _skipped(comparison)
    new = comparison.of("new")
    if new:
        names = list(dict.fromkeys(one_line(check.place) for check in new))
        told.append(
            f"Not in the base: {'; '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}."
        )
    by_choice: dict[tuple[str, str], list[str]] = {}
    for choice in comparison.modes:
        by_choice.setdefault((choice.mode, one_line(choice.reason)), []).append(one_line(choice.method))
    for (mode, why), methods in by_choice.items():
        told.append(f"{_MODES[mode]} ({why}): {', '.join(methods)}.")
    return [*told, *map(one_line, comparison.notes)]


def _skipped(comparison: Comparison) -> list[str]:
    """Returns a sentence for every reason why something was not compared: what of which methods."""
    by_reason: dict[str, list[Check]] = {}
    for check in comparison.of("skipped"):
        by_reason.setdefault(one_line(check.text), []).append(check)
    told = []
    for reason, checks in by_reason.items():
        what = " and ".join(dict.fromkeys(_COSTS.get(check.what, check.what) for check in checks))
        methods = ", ".join(dict.fromkeys(one_line(check.method) for check in checks))
        told.append(f"Not compared: {what} of {methods}: {reason}.")
    return told


_COSTS = {"register_s": "seconds", "rss_peak_mib": "memory", "gpu_peak_mib": "GPU memory"}
_MODES = {
    "golden": "Compared value by value",
    "paired": "Tested over pairs",
    "noninferiority": "Tested for non-inferiority",
}


def _line(check: Check, comparison: Comparison) -> Line:
    base, new = _values(check)
    return Line(
        check.outcome,
        verdict_word(check, comparison),
        one_line(check.place),
        heading(check.what),
        base,
        new,
        _change(check),
        one_line(check.text),
    )


def _values(check: Check) -> tuple[str, str]:
    if check.base is None or check.new is None:
        return (number(check.base), number(check.new))
    # Enough digits to tell the two apart.
    return number(check.base, check.new), number(check.new, check.base)


def number(value: float | None, other: float | None = None) -> str:
    """Returns a value with four significant digits, or as many as it takes to tell it from another one."""
    if value is None or not math.isfinite(value):
        return MISSING
    enough = (4, 5, 6) if other is not None and not _is_equal(value, other) else (4,)
    digits = next((n for n in enough if f"{value:.{n}g}" != f"{other or 0.0:.{n}g}"), enough[-1])
    return f"{value:.{digits}g}".replace("-", MINUS)


def _is_equal(value: float, other: float) -> bool:
    """Returns whether two values are the same in six digits, which is what baselines keep."""
    return f"{value:.6g}" == f"{other:.6g}"


def _change(check: Check) -> str:
    """Returns the change with its interval: a difference, or a ratio for what a machine measures."""
    found = check.difference
    if check.what in COST_TOLERANCES:
        if found is None:
            return ""
        bounds = "" if found.low is None or found.high is None else f" [{found.low:.2f}, {found.high:.2f}]"
        return f"\N{MULTIPLICATION SIGN}{found.mean:.2f}{bounds}"
    if found is None:
        if check.base is None or check.new is None:
            return ""
        return "0" if _is_equal(check.base, check.new) else _signed(check.new - check.base)
    if not math.isfinite(found.mean):
        return ""
    bounds = "" if found.low is None or found.high is None else f" [{_signed(found.low)}, {_signed(found.high)}]"
    return f"{_signed(found.mean)}{bounds}"


def _signed(value: float) -> str:
    return "0" if value == 0 else f"{value:+.2g}".replace("-", MINUS)


# -- terminal -----------------------------------------------------------------------------------------


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Prints the comparison: a table of what changed, the rest in sentences, the answer last."""
    lines = shown_lines(comparison)
    if lines:
        console.print(_table(lines[:_MOST_LINES], console.width))
        if len(lines) > _MOST_LINES:
            console.print(f"... and {len(lines) - _MOST_LINES} more; --format json has all of them", markup=False)
        console.print()
    for sentence in other_lines(comparison):
        console.print(Text(sentence, style="dim"))
    style = {0: "bold green", 1: "bold red"}.get(comparison.exit_code, "bold yellow")
    console.print(Text(f"{_mark(comparison)} {comparison.verdict}", style=style) + Text(f": {comparison.headline}"))


def comparison_text(comparison: Comparison) -> str:
    """Returns what the terminal shows as plain text, 120 columns wide."""
    stream = io.StringIO()
    print_comparison(Console(file=stream, width=120, highlight=False), comparison)
    return stream.getvalue()


def _mark(comparison: Comparison) -> str:
    return {0: "\N{CHECK MARK}", 1: MARKS["regression"], 3: "?", 4: MARKS["not comparable"]}.get(
        comparison.exit_code, "\N{EMPTY SET}"
    )


def _table(lines: Sequence[Line], width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    has_numbers = any(line.base != MISSING for line in lines)
    # Where there is no room, the change says more than the two values.
    columns = ("base", "new", "change") if width >= _WIDE else ("change",)
    table.add_column("verdict", no_wrap=True)
    table.add_column("where", overflow="fold", min_width=min(20, width // 5))
    table.add_column("metric", no_wrap=True)
    if has_numbers:
        for name in columns:
            table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold", ratio=1, min_width=min(24, width // 4))
    for line in lines:
        style = _STYLES.get(line.outcome, "")
        cells = (line.base, line.new, line.change)[-len(columns) :]
        numbers = [Text(cell) for cell in cells] if has_numbers else []
        verdict = Text(f"{MARKS[line.outcome]} {line.verdict}", style=style)
        table.add_row(verdict, Text(line.place), Text(line.metric), *numbers, Text(line.text))
    return table


# -- Markdown -----------------------------------------------------------------------------------------


def comparison_markdown(comparison: Comparison) -> str:
    """Returns the comparison as GitHub Markdown, the pairs that changed most folded away."""
    parts = [f"### regbench: {comparison.verdict}", escape(comparison.headline)]
    lines = shown_lines(comparison)
    if lines:
        parts.append(_markdown_table(lines[:_MOST_MARKDOWN_LINES]))
        if len(lines) > _MOST_MARKDOWN_LINES:
            parts.append(f"... and {len(lines) - _MOST_MARKDOWN_LINES} more; `--format json` has all of them.")
    folded = list(_folded(comparison.of("regression", "improvement", "inconclusive")))
    parts += folded[:_MOST_MARKDOWN_LINES]
    others = other_lines(comparison)
    if others:
        parts.append("\n".join(f"- {escape(sentence)}" for sentence in others))
    return "\n\n".join(parts) + "\n"


def _markdown_table(lines: Iterable[Line]) -> str:
    rows = [
        "| verdict | where | metric | base | new | change | why |",
        "| --- | --- | --- | ---: | ---: | ---: | --- |",
    ]
    for line in lines:
        verdict = f"{MARKS[line.outcome]} {'**' if line.outcome in _STYLES else ''}{line.verdict}"
        verdict += "**" if line.outcome in _STYLES else ""
        cells = (line.place, line.metric, line.base, line.new, line.change, line.text)
        rows.append(f"| {verdict} | {' | '.join(escape(cell) for cell in cells)} |")
    return "\n".join(rows)


def _folded(checks: Iterable[Check]) -> Iterable[str]:
    for check in checks:
        if not check.pairs:
            continue
        shown = _extreme(check)
        title = f"{one_line(check.place)}, {heading(check.what)}: the {len(shown)} pairs that changed most"
        if len(shown) == 1:
            title = f"{one_line(check.place)}, {heading(check.what)}: the pair that changed"
        rows = ["| pair | base | new | change | |", "| --- | ---: | ---: | ---: | --- |"]
        rows += [_pair_row(change) for change in shown]
        yield f"<details><summary>{escape(title)}</summary>\n\n" + "\n".join(rows) + "\n\n</details>"


def _extreme(check: Check) -> Sequence[PairChange]:
    """Returns the pairs to show: the worst, or of an improvement the best."""
    return check.pairs[-_MOST_PAIRS:][::-1] if check.outcome == "improvement" else check.pairs[:_MOST_PAIRS]


def _pair_row(change: PairChange) -> str:
    difference = "" if change.base is None or change.new is None else _signed(change.new - change.base)
    told = change.text or {"regression": "worse", "improvement": "better"}.get(change.outcome, "")
    cells = (change.pair, number(change.base, change.new), number(change.new, change.base), difference, told)
    return f"| {' | '.join(escape(cell) for cell in cells)} |"


_SPECIAL = {
    **{c: f"\\{c}" for c in "\\`*_[]|~#"},
    "<": "&lt;",
    ">": "&gt;",
    "&": "&amp;",
    # Somebody who is called like this is not to be told of it.
    "@": "&#64;",
}


def escape(text: str) -> str:
    """Returns a text as Markdown that shows it as it is, on one line, in a table too."""
    return "".join(_SPECIAL.get(c, c) for c in one_line(text))
