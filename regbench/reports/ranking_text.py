"""A ranking as words and tables: on a terminal, as Markdown, as CSV and as JSON.

Conditions without a shift have a table per metric; shifted ones have a line each where there is one without.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from regbench.analysis.groups import UNSHIFTED
from regbench.analysis.rank_tables import CombinedStanding, GroupRanking, MetricRanking, Ranking, Standing
from regbench.analysis.statistics import Interval
from regbench.analysis.subject_draws import N_DRAWS, RankSpread
from regbench.metrics.table import METRICS
from regbench.reports import words

CSV_COLUMNS = (
    *("dataset", "condition", "scheme", "metric", "method", "rank", "rank_low", "rank_high", "share_first", "score"),
    *("n_pairs", "n_subjects", "mean", "ci_low", "ci_high", "sets", "better_than", "worse_than", "coverage"),
    "n_failed",
)
_DOT = " \N{MIDDLE DOT} "
_HARDEST = {"dice30": "Dice30", "tre30": "TRE30 mm"}
_MOST_NAMED = 4
_GAP = 2
_BOUNDS = " [95 %]"


@dataclass(frozen=True)
class TextTable:
    """A table of a ranking: cells as text, the columns `left` set to the left; `notes` stand below it."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: tuple[str, ...]
    notes: tuple[str, ...] = ()


# -- tables -------------------------------------------------------------------------------------------


def text_tables(ranking: Ranking) -> list[TextTable]:
    """Returns the tables of a ranking, first what is over everything."""
    whole = shown_in_full(ranking)
    brief = [group for group in ranking.groups if group not in whole]
    made = [overall_table(ranking)] if ranking.overall else []
    for group in whole:
        made += [metric_table(group, metric) for metric in group.metrics]
        made += [combined_table(group, ranking.scheme)] if group.combined else []
    return made + ([brief_table(brief)] if brief else [])


def shown_in_full(ranking: Ranking) -> list[GroupRanking]:
    """Returns the conditions with tables of their own: those without a shift; all where there is none such."""
    return [group for group in ranking.groups if group.condition == UNSHIFTED] or list(ranking.groups)


def metric_table(group: GroupRanking, metric: MetricRanking) -> TextTable:
    """Returns the table of the methods by one metric, the best first."""
    rows = [dict(_standing_cells(standing, metric)) for standing in metric.standings]
    shown = list(rows[0])
    if all(standing.coverage == 1 for standing in metric.standings):
        shown.remove("finished")
    cells = tuple(tuple(row[name] for name in shown) for row in rows)
    return TextTable(
        title_of(group, metric), tuple(shown), cells, ("method", "paradigm", "sets"), (answer(metric), *metric.notes)
    )


def _standing_cells(standing: Standing, metric: MetricRanking) -> Iterator[tuple[str, str]]:
    """Yields heading and text of each cell; all methods of a table have the same headings."""
    has_bounds = any(other.mean.low is not None for other in metric.standings)
    yield "rank", rank_words(standing.rank)
    yield "method", standing.name
    yield "paradigm", standing.label.paradigm_text
    name = heading(metric.metric)
    yield f"{name}{_BOUNDS}" if has_bounds else name, mean_words(metric.metric, standing.mean)
    if standing.score is not None:
        yield "score", words.number(standing.score, 3)
    if metric.groups:
        yield "sets", standing.letters
    if metric.groups or standing.score is not None:
        yield "beats", str(len(standing.better_than))
        yield "loses to", str(len(standing.worse_than))
    if standing.spread:
        yield from zip(("ranks drawn", "first"), spread_words(standing.spread), strict=True)
    failed = f" ({standing.n_failed} failed)" if standing.n_failed else ""
    yield "finished", f"{math.floor(100 * standing.coverage)} %{failed}"


def combined_table(group: GroupRanking, scheme: str) -> TextTable:
    """Returns the table of the methods over all metrics of one condition."""
    parts = tuple(heading(metric.metric) for metric in group.metrics)
    title = f"{_where(group)}{_DOT}all {len(parts)} metrics, by the geometric mean of {_part_words(scheme)}"
    return _combined(title, parts, group.combined, scheme)


def overall_table(ranking: Ranking) -> TextTable:
    """Returns the table of the methods over all conditions and datasets; single ones are not listed."""
    what = "conditions" if _is_one_dataset(ranking) else "datasets and conditions"
    title = f"Over {len(ranking.groups)} {what}, by the geometric mean of {_part_words(ranking.scheme)}"
    return _combined(title, (), ranking.overall, ranking.scheme)


def _combined(title: str, parts: tuple[str, ...], standings: Sequence[CombinedStanding], scheme: str) -> TextTable:
    has_spread = any(standing.spread for standing in standings)
    headings: tuple[str, ...] = ("rank", "method", *parts, "mean", *(("ranks drawn", "first") if has_spread else ()))
    rows = []
    for standing in standings:
        shown = [_part(part, scheme) for part in standing.parts] if parts else []
        cells = [rank_words(standing.rank), standing.name, *shown, words.number(standing.score, 2)]
        rows.append((*cells, *(spread_words(standing.spread) if has_spread else ())))
    return TextTable(title, headings, tuple(rows), ("method",))


def _part(value: float, scheme: str) -> str:
    return words.number(value, 3) if scheme == "l2r" else rank_words(value)


def brief_table(groups: Sequence[GroupRanking]) -> TextTable:
    """Returns a line per condition: the methods in order, by the first metric."""
    rows = []
    for group in groups:
        metric = group.metrics[0]
        rows.append((f"{group.dataset}{_DOT}{group.condition}", str(metric.n_pairs), order_words(metric)))
    metrics = list(dict.fromkeys(group.metrics[0].metric for group in groups))
    title = f"Under shifts, by {' or '.join(map(heading, metrics))}"
    return TextTable(title, ("condition", "pairs", "order"), tuple(rows), ("condition", "order"))


def order_words(metric: MetricRanking) -> str:
    """Returns the methods in order with the letters of their sets, like 'ants-syn a, demons ab'."""
    return ", ".join(f"{standing.name} {standing.letters}".strip() for standing in metric.standings)


# -- words --------------------------------------------------------------------------------------------


def answer(metric: MetricRanking) -> str:
    """Returns who is ahead, as a sentence, and what first place rests on."""
    best = metric.standings[0]
    ties = [standing.name for standing in metric.standings if standing.rank == best.rank]
    others = [standing.name for standing in metric.standings if standing.name not in ties]
    if not metric.is_decidable:
        return f"In the order of {'scores' if best.score is not None else 'means'} only: {best.name} stands first."
    if len(ties) > 1:
        return f"{named(ties)} share the first place."
    unsettled = [name for name in others if name not in best.better_than]
    if best.score is not None:
        return f"{best.name} has the highest score."
    if not unsettled:
        return f"{best.name} is better than {'all others' if len(others) > 1 else others[0]}."
    if len(metric.groups) == 1:
        return f"No two methods are told apart; {best.name} has the best mean."
    return f"{best.name} has the best mean; not told apart from it: {named(unsettled)}."


def named(names: Sequence[str]) -> str:
    """Returns names as a list in words, only the first of many."""
    if len(names) > _MOST_NAMED:
        return f"{', '.join(names[: _MOST_NAMED - 1])} and {len(names) - _MOST_NAMED + 1} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def legend(ranking: Ranking) -> list[str]:
    """Returns what the columns are, as sentences."""
    told = []
    metrics = [metric for group in ranking.groups for metric in group.metrics]
    tests = list(dict.fromkeys(c.test for metric in metrics if metric.groups for c in metric.comparisons))
    if ranking.scheme == "l2r":
        told.append(
            "Learn2Reg's scheme: rank-sum tests over pooled labels and cases, scores from 0.1 to 1 by the number of "
            "losses, geometric mean over metrics. Methods that share a letter (sets) are not told apart by it. Dice30, "
            "TRE30: on the 30 % of values that were the worst before registration."
        )
    elif tests:
        n = max(len(metric.comparisons) for metric in metrics)
        told.append(
            "Methods that share a letter (sets) are not told apart: paired tests of every two methods over the pairs "
            f"that all finished ({'; '.join(tests)}), with Holm's correction for up to {n} comparisons within each "
            f"table, at {100 * ranking.alpha:.0f} %. Beats, loses to: how many methods it is told apart from."
        )
    if any(standing.spread for metric in metrics for standing in metric.standings):
        told.append(
            f"Ranks drawn: the middle 95 % of ranks over {N_DRAWS} draws of subjects (seed {ranking.seed}); first: "
            "share of draws that a method leads."
        )
    if ranking.scheme == "paired" and (ranking.overall or any(group.combined for group in ranking.groups)):
        told.append(
            "Metrics and conditions are combined by the geometric mean of ranks, each counting alike; ranks do not say "
            "how far methods lie apart, nor whether they are told apart."
        )
    return told


def heading(metric: str) -> str:
    return _HARDEST.get(metric) or words.metric_heading(metric)


def digits_of(metric: str) -> int:
    return 3 if metric not in METRICS or METRICS[metric].unit in ("1", "%") else 2


def mean_words(metric: str, value: Interval) -> str:
    """Returns a mean with its interval where there is one; a percentage that is zero is told from a small one."""
    if metric.endswith("_percent") and value.low is None:
        return words.percent(value.mean)
    return words.interval(value, digits_of(metric))


def title_of(group: GroupRanking, metric: MetricRanking) -> str:
    """Returns what a table is of: dataset, condition, metric, and the numbers of pairs and subjects."""
    counted = f"{metric.n_pairs} pair{'' if metric.n_pairs == 1 else 's'} of {metric.n_subjects} subjects"
    return f"{_where(group)}{_DOT}{heading(metric.metric)}{_DOT}{counted}"


def _where(group: GroupRanking) -> str:
    return f"{group.dataset}{_DOT}{'no shift' if group.condition == UNSHIFTED else group.condition}"


def _part_words(scheme: str) -> str:
    return "scores" if scheme == "l2r" else "ranks"


def rank_words(rank: float) -> str:
    """Returns a rank; a shared one with its half, like '2.5'."""
    return f"{rank:.0f}" if rank == int(rank) else f"{rank:.1f}"


def spread_words(spread: RankSpread | None) -> tuple[str, str]:
    """Returns the range of ranks, like '1 to 3', and the share of first places."""
    if spread is None:
        return words.MISSING, words.MISSING
    low, high = rank_words(spread.low), rank_words(spread.high)
    return low if low == high else f"{low} to {high}", share_words(spread.first)


def share_words(share: float) -> str:
    """Returns a share as a percentage that shows a small one, and what lacks to all, as such."""
    if share == 0:
        return "0"
    if share == 1:
        return "100 %"
    return "<1 %" if share < 0.01 else ">99 %" if share > 0.99 else f"{100 * share:.0f} %"


def _is_one_dataset(ranking: Ranking) -> bool:
    return len({group.dataset for group in ranking.groups}) == 1


# -- outputs ------------------------------------------------------------------------------------------


def print_ranking(console: Console, ranking: Ranking) -> None:
    """Prints the tables of a ranking with what they say, and notes on what is missing."""
    for made in text_tables(ranking):
        console.print(Text(made.title, style="bold cyan"))
        console.print(_grid(made, console.width))
        for sentence in made.notes:
            console.print(Text(sentence))
        console.print()
    for sentence in (*ranking.notes, *legend(ranking), *ranking.caveats):
        console.print(Text(sentence, style="dim"))


def _grid(made: TextTable, width: int) -> Table:
    """Returns a table for a terminal of this width, narrowed step by step until it fits or nothing is left to give."""
    for narrow in _NARROWER:
        if _width(made) > width:
            made = narrow(made)
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP, 0, 0))
    for name in made.headings:
        is_left = name in made.left
        grid.add_column(name, overflow="fold", justify="left" if is_left else "right", no_wrap=not is_left)
    for row in made.rows:
        grid.add_row(*map(escape, row), style="bold" if row[0] == "1" else None)
    return grid


def _width(made: TextTable) -> int:
    widths = [max(map(len, column)) for column in zip(made.headings, *made.rows, strict=True)]
    return sum(widths) + (_GAP + 1) * (len(widths) - 1)


def _without_column(name: str) -> Callable[[TextTable], TextTable]:
    def narrow(made: TextTable) -> TextTable:
        kept = [i for i, heading in enumerate(made.headings) if heading != name]
        headings = tuple(made.headings[i] for i in kept)
        return replace(made, headings=headings, rows=tuple(tuple(row[i] for i in kept) for row in made.rows))

    return narrow


def _without_bounds(made: TextTable) -> TextTable:
    return replace(
        made,
        headings=tuple(name.removesuffix(_BOUNDS) for name in made.headings),
        rows=tuple(tuple(cell.partition(" [")[0] for cell in row) for row in made.rows),
    )


_NARROWER = (
    _without_column("paradigm"),
    _without_bounds,
    *map(_without_column, ("loses to", "beats", "ranks drawn")),
)


def markdown(ranking: Ranking) -> str:
    """Returns the same as Markdown."""
    lines = []
    for made in text_tables(ranking):
        lines += [f"### {_cell(made.title)}", "", _md_row(made.headings)]
        lines += [_md_row([":---" if name in made.left else "---:" for name in made.headings])]
        lines += [*map(_md_row, made.rows), ""]
        lines += [line for sentence in made.notes for line in (_cell(sentence), "")]
    told = (*ranking.notes, *legend(ranking), *ranking.caveats)
    return "\n".join([*lines, *(f"- {_cell(sentence)}" for sentence in told)]) + "\n"


def _md_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def as_csv(ranking: Ranking) -> str:
    """Returns a line per method and metric of each condition, then those over all metrics and over all conditions."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CSV_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for group in ranking.groups:
        head = {"dataset": group.dataset, "condition": group.condition, "scheme": ranking.scheme}
        for metric in group.metrics:
            writer.writerows(head | _csv_line(metric, standing) for standing in metric.standings)
        writer.writerows(head | _csv_combined(standing) for standing in group.combined)
    over_all = {"dataset": "all", "condition": "all", "scheme": ranking.scheme}
    writer.writerows(over_all | _csv_combined(standing) for standing in ranking.overall)
    return stream.getvalue()


def _csv_line(metric: MetricRanking, standing: Standing) -> dict[str, object]:
    mean = standing.mean
    return {
        "metric": metric.metric,
        "method": standing.name,
        "rank": standing.rank,
        **_csv_spread(standing.spread),
        "score": standing.score,
        "n_pairs": metric.n_pairs,
        "n_subjects": metric.n_subjects,
        **{"mean": mean.mean, "ci_low": mean.low, "ci_high": mean.high},
        "sets": standing.letters,
        "better_than": " ".join(standing.better_than),
        "worse_than": " ".join(standing.worse_than),
        "coverage": standing.coverage,
        "n_failed": standing.n_failed,
    }


def _csv_combined(standing: CombinedStanding) -> dict[str, object]:
    head = {"metric": "all", "method": standing.name, "rank": standing.rank, "score": standing.score}
    return head | _csv_spread(standing.spread)


def _csv_spread(spread: RankSpread | None) -> dict[str, object]:
    return {"rank_low": spread.low, "rank_high": spread.high, "share_first": spread.first} if spread else {}


def as_json(ranking: Ranking) -> dict[str, Any]:
    """Returns the whole ranking as plain data, every comparison with it; absent values are null."""
    found: dict[str, Any] = _plain(asdict(ranking))
    return {"schema": 1, **found}


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
