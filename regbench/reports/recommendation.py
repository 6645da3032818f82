"""A recommendation for people: a terminal page, Markdown, JSON, and a section of the HTML report.

The four say the same. A page starts with the verdict and the sentence behind it; evidence, costs, risks and what would
change the verdict follow, so that a reader can stop as soon as he has what he needs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regbench.analysis.groups import Row
from regbench.analysis.recommend import Evidence, Option, Recommendation, Situation, recommend
from regbench.reports import words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_POLICIES = {
    "evidence": "from results",
    "prior": "before any run, from published results",
    "jena2024": "by the rule of Jena et al. 2024",
}
_FRONT = ("dice", "hd95_mm", "tre_mm", "epe_mm", "fold_percent", "ndv_percent")
INTERVALS = (
    "95 % intervals of the mean lead over pairs; pairs that share subjects are counted as such. A verdict ('surely') "
    "needs more: wider intervals that hold together for all methods that contend, so that the best of many is not the "
    "luckiest."
)
PUBLISHED = "Published means come without intervals of their difference."


def headline(made: Recommendation) -> str:
    """Returns the verdict in one line, with the method that it names."""
    if made.verdict == "undecided":
        until = f"; until then: {made.provisional}" if made.provisional else ""
        return f"Undecided{until}"
    if made.method:
        return f"Use {made.method} ({made.verdict})"
    if made.shortlist:
        return f"{made.verdict[0].upper()}{made.verdict[1:]}: {' or '.join(made.shortlist)}"
    return f"{made.verdict[0].upper()}{made.verdict[1:]}"


def lists(made: Recommendation) -> Iterator[tuple[str, list[str]]]:
    """Yields the headings of a page with their sentences; those without any are left out."""
    is_prior = made.policy == "prior"
    settings = ", ".join(f"{key}: {value}" for key, value in made.settings.items() if value is not None)
    decided = [f"{made.to_use}: {settings}"] if settings and made.to_use else []
    excluded = [f"{option.method}: {option.excluded}." for option in made.options if option.excluded]
    rule = [made.rule.comparison, made.rule.text] if made.rule else []
    for heading, sentences in (
        ("What to expect" if is_prior else "", list(made.notes) if is_prior else []),
        ("Settings", decided),
        ("Costs", list(made.costs)),
        ("Also published" if is_prior else "Risks", list(made.risks)),
        ("Not considered", excluded),
        ("What would change this", list(made.changes)),
        ("What to run next", [experiment.text for experiment in made.experiments]),
        ("The rule of Jena et al. 2024", rule),
        ("Notes", [] if is_prior else list(made.notes)),
    ):
        if sentences:
            yield heading, sentences


def situation_line(made: Recommendation) -> str:
    """Returns what the verdict is for and how it was found."""
    return f"{_POLICIES[made.policy]}; {'; '.join(made.situation.words)}"


def effect_words(item: Evidence) -> str:
    """Returns a gain with its interval, like '+4.1 [+3.0, +5.2]'."""
    digits = 2 if item.unit == "mm" else 1
    text = words.number(item.effect, digits, signed=True)
    if item.low is None or item.high is None:
        return text
    return f"{text} [{words.number(item.low, digits, signed=True)}, {words.number(item.high, digits, signed=True)}]"


def evidence_table(made: Recommendation) -> tuple[list[str], list[list[str]]]:
    """Returns headings and rows of the evidence."""
    unit = made.evidence[0].unit if made.evidence else ""
    if made.policy == "prior":
        return _published_table(made)
    headings = ["against", f"lead, {unit}", "pairs", "subjects", "where", "finding"]
    return headings, [
        [
            *(item.reference, effect_words(item), str(item.n_pairs), str(item.n_subjects)),
            *(f"{item.dataset}, {item.condition}", item.finding),
        ]
        for item in made.evidence
    ]


def _published_table(made: Recommendation) -> tuple[list[str], list[list[str]]]:
    """Returns published leads, one row for each source and data set."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for item in made.evidence:
        key = (item.dataset, item.reference, item.source, item.finding)
        found.setdefault(key, []).append(f"{item.method} {effect_words(item)}")
    return ["data", "against", "lead of, Dice points", "source"], [
        [dataset, reference, ", ".join(leads), f"{source}{f' ({caveat})' if caveat else ''}"]
        for (dataset, reference, source, caveat), leads in found.items()
    ]


def options_table(made: Recommendation) -> tuple[list[str], list[list[str]]]:
    """Returns headings and rows of the methods that were compared, most accurate first, and what dominates them."""
    compared = [option for option in made.options if option.means]
    shown = [metric for metric in _FRONT if any(metric in option.means for option in compared)]
    sign = -1 if "dice" in shown else 1
    compared.sort(key=lambda option: (sign * option.means.get(shown[0], 0.0) if shown else 0.0, option.method))
    headings = ["method", "paradigm", *map(words.metric_heading, shown), "s / pair", "failed", "front"]
    return headings, [
        [
            *(option.method, option.kind),
            *(_value(metric, option.means.get(metric)) for metric in shown),
            *(words.seconds(option.means.get("register_s", option.seconds)), f"{option.failed}/{option.cases}"),
            f"dominated by {option.dominated_by}" if option.dominated_by else "on it",
        ]
        for option in compared
    ]


def _value(metric: str, value: float | None) -> str:
    if metric.endswith("_percent"):
        return words.percent(value)
    return words.number(value, 2 if metric.endswith("_mm") else 3)


def front_line(options: Sequence[Option]) -> str:
    """Returns what the front is, for readers of the table."""
    shown = any("dice" in option.means for option in options)
    return (
        f"Means over common pairs{' without a shift where there are such' if shown else ''}. Metrics are not added up: "
        "a method is dominated if another one is at least as good in every column and better in one."
    )


# -- terminal -----------------------------------------------------------------------------------------


def print_recommendation(console: Console, made: Recommendation) -> None:
    """Prints the page."""
    console.print(headline(made), markup=False, style="bold", highlight=False)
    console.print(f"{made.summary}\n", markup=False)
    console.print(f"Asked: {situation_line(made)}.", markup=False, style="dim")
    for title, (headings, rows), line in _tables(made):
        console.print(f"\n{title}", style="bold cyan", markup=False)
        console.print(_terminal_table(headings, rows))
        console.print(line, style="dim", markup=False)
    for heading, sentences in lists(made):
        console.print(f"\n{heading}", style="bold cyan", markup=False)
        for sentence in sentences:
            console.print(_bullet(sentence))


def _tables(made: Recommendation) -> Iterator[tuple[str, tuple[list[str], list[list[str]]], str]]:
    if made.evidence:
        sources = list(dict.fromkeys(item.source for item in made.evidence))
        line = PUBLISHED if made.policy == "prior" else f"{INTERVALS} Run: {', '.join(sources)}."
        subject = made.evidence[0].method
        yield "Published" if made.policy == "prior" else f"Evidence: {subject}", evidence_table(made), line
    if any(option.means for option in made.options):
        yield "Methods", options_table(made), front_line(made.options)


def _terminal_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for number, heading in enumerate(headings):
        numeric = all(_is_number(row[number]) for row in rows)
        whole = numeric or number == 0
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _is_number(text: str) -> bool:
    return text == words.MISSING or text[:1] in "+<0123456789" or text.startswith(words.MINUS)


def _bullet(sentence: str) -> Any:
    from rich.markup import escape
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("\N{BULLET}", escape(sentence))
    return grid


# -- files --------------------------------------------------------------------------------------------


def markdown(made: Recommendation) -> str:
    """Returns the page as Markdown."""
    blocks = [f"# {headline(made)}", made.summary, f"*Asked: {situation_line(made)}.*"]
    for title, (headings, rows), line in _tables(made):
        table = [headings, ["---"] * len(headings), *rows]
        blocks += [f"## {title}", "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in table), line]
    for heading, sentences in lists(made):
        blocks += [f"## {heading}", "\n".join(f"- {sentence}" for sentence in sentences)]
    return "\n\n".join(blocks) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def as_json(made: Recommendation) -> str:
    """Returns everything as JSON text; numbers that do not exist are null."""
    content: dict[str, Any] = {"schema": 1, **dataclasses.asdict(made), "to_use": made.to_use}
    del content["is_empty"]
    content["exit_code"] = made.exit_code
    return json.dumps(_rounded(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value if isinstance(value, str | int | bool | type(None)) else str(value)


def recommendation_html(run: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Returns the section of the HTML report, for images like those of the run and for unknown ones; '' without rows.

    Nothing is said where nothing could be compared, such as in a run of one method.
    """
    from regbench.reports.page import environment

    if not rows:
        return ""
    made = [recommend(rows, Situation(deploy=deploy), runs=[run]) for deploy in ("same", "unknown")]
    if all(sum(bool(option.means) for option in one.options) < 2 for one in made):
        return ""
    parts: list[dict[str, Any]] = []
    for one in made:
        told = {"asked": situation_line(one), "headline": headline(one), "summary": one.summary}
        known = parts[0] if parts else {"tables": [], "lists": []}
        # What the first part has said already is not said again.
        tables = [table for table in _tables(one) if table not in known["tables"]]
        sentences = [section for section in lists(one) if section not in known["lists"]]
        parts.append({**told, "tables": tables, "lists": sentences})
    return environment().get_template("_recommendation.html.j2").render(parts=parts)
