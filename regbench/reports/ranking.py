"""The ranking as a part of the report, with a figure: who is how far behind, and who is not told apart from whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from regbench.analysis.groups import Row
from regbench.analysis.rank import rank_rows
from regbench.analysis.rank_tables import GroupRanking, MetricRanking, Standing
from regbench.analysis.statistics import Interval
from regbench.reports import ranking_text, words
from regbench.reports.derived import method_order
from regbench.reports.figures import Plot, kind_legend, panels, png, style_of
from regbench.reports.page import Cell, Picture, Table, environment, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Tables of more conditions than this are for `regbench rank`, not for a page.
_MOST_SHOWN = 8
_INK = "#333333"
_BAR = "#56606b"


@dataclass(frozen=True)
class _Section:
    title: str
    sentences: tuple[str, ...]
    picture: Picture | None
    table: Table


def ranking_html(run: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Returns the part of the report on the order of methods; empty where there is none to tell."""
    ranking = rank_rows(rows, order=method_order(run))
    if not ranking.groups:
        return ""
    whole = ranking_text.shown_in_full(ranking)
    sections = [_overall(ranking_text.overall_table(ranking))] if ranking.overall else []
    for group in whole[:_MOST_SHOWN]:
        sections += [_section(group, metric, is_drawn=i == 0) for i, metric in enumerate(group.metrics)]
        if group.combined:
            sections.append(_overall(ranking_text.combined_table(group, ranking.scheme)))
    brief = [group for group in ranking.groups if group not in whole]
    if brief:
        sections.append(_overall(ranking_text.brief_table(brief)))
    notes = ranking_text.legend(ranking)
    if len(whole) > _MOST_SHOWN:
        notes.append(f"Not shown: {len(whole) - _MOST_SHOWN} more; `regbench rank` has all of them.")
    return environment().get_template("_ranking.html.j2").render(sections=sections, notes=notes)


def _section(group: GroupRanking, metric: MetricRanking, *, is_drawn: bool) -> _Section:
    made = ranking_text.metric_table(group, metric)
    plot = ranking_plot(group, metric) if is_drawn else None
    values: list[Mapping[str, Interval | float | None]] = [_values(standing) for standing in metric.standings]
    return _Section(made.title, made.notes, picture(plot) if plot else None, _table(made, values))


def _values(standing: Standing) -> dict[str, Interval | float | None]:
    """Returns the numbers behind the text of some columns; the mean goes by the heading of its column."""
    return {"rank": standing.rank, "mean": standing.mean, "first": standing.spread.first if standing.spread else None}


def _overall(made: ranking_text.TextTable) -> _Section:
    return _Section(made.title, (), None, _table(made, [{}] * len(made.rows)))


def _table(made: ranking_text.TextTable, values: Sequence[Mapping[str, Interval | float | None]]) -> Table:
    """Returns a table for the page: the method stands first there, because the first cell names a row."""
    order = list(range(len(made.headings)))
    if "method" in made.headings:
        order.remove(made.headings.index("method"))
        order.insert(0, made.headings.index("method"))
    headings = [(made.headings[i], "text" if made.headings[i] in made.left else "") for i in order]
    rows = []
    for row, known in zip(made.rows, values, strict=True):
        cells = []
        for i in order:
            name = "mean" if made.headings[i].endswith("[95 %]") else made.headings[i]
            cells.append(Cell.of(row[i], known.get(name), "text" if made.headings[i] in made.left else ""))
        rows.append(cells)
    return Table(f"ranking {made.title}", f"Ranking: {made.title}", headings, rows)


# -- the figure ---------------------------------------------------------------------------------------


def ranking_plot(group: GroupRanking, metric: MetricRanking) -> Plot | None:
    """Returns the figure of one table: distance to the best, sets not told apart, drawn ranks; None with too little.

    Methods stand below each other, the best on top. A bar joins methods that are not told apart: a dot marks its
    members, so that a method which it only passes by is not taken for one.
    """
    best = metric.standings[0].name
    behind = {standing.name: _behind(metric, standing.name, best) for standing in metric.standings}
    if any(interval is None for name, interval in behind.items() if name != best):
        return None
    n, n_sets = len(metric.standings), len(metric.groups)
    widths = [4.6, *([max(1.1, 0.26 * n_sets + 0.6)] if n_sets else []), 3.4]
    figure, axes = panels(1, len(widths), (sum(widths) / len(widths), 0.27 * n + 1.0))
    axes[0][0].get_gridspec().set_width_ratios(widths)
    _draw_behind(axes[0][0], metric, behind)
    _draw_ranks(axes[0][-1], metric)
    for panel in axes[0]:
        panel.set_ylim(n - 0.4, -0.6)
        panel.grid(axis="x", color="#eeeeee", linewidth=0.7)
    if n_sets:
        _draw_sets(axes[0][1], metric)
    figure.suptitle(ranking_text.title_of(group, metric), fontsize=9.5, x=0.01, ha="left")
    kind_legend(figure, [standing.label for standing in metric.standings])
    title = f"Ranking: {ranking_text.title_of(group, metric)}"
    return Plot("ranking", title, _description(metric), png(figure))


def _behind(metric: MetricRanking, name: str, best: str) -> Interval | None:
    """Returns how a method differs from the best, in the unit of the metric; None without an interval."""
    for comparison in metric.comparisons:
        found = comparison.difference
        if {comparison.method, comparison.other} == {name, best} and found.low is not None and found.high is not None:
            if comparison.method == name:
                return found
            return Interval(-found.mean, -found.high, -found.low, found.method, found.n)
    return None


def _draw_behind(axes: Axes, metric: MetricRanking, behind: Mapping[str, Interval | None]) -> None:
    for y, standing in enumerate(metric.standings):
        colour, marker, _ = style_of(standing.label)
        interval = behind[standing.name]
        mean, error = (interval.mean, [interval.half_width]) if interval and interval.half_width else (0.0, None)
        axes.errorbar(
            [mean if interval else 0.0],
            [y],
            xerr=error,
            color=colour,
            marker=marker,
            markersize=6.5,
            markeredgecolor="white",
            markeredgewidth=0.6,
            elinewidth=1.6,
            capsize=2.5,
        )
    axes.axvline(0, color=_INK, linewidth=0.8, zorder=1)
    axes.set_yticks(range(len(metric.standings)), [standing.name for standing in metric.standings])
    axes.margins(x=0.06)
    name = ranking_text.heading(metric.metric)
    axes.set_xlabel(f"{name}: difference to {metric.standings[0].name}\n(paired, 95 % interval, n = {metric.n_pairs})")


def _draw_sets(axes: Axes, metric: MetricRanking) -> None:
    """Draws the sets of methods not told apart as bars side by side; sets of one method as a dot."""
    places = {standing.name: y for y, standing in enumerate(metric.standings)}
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    for x, members in enumerate(metric.groups):
        found = [places[name] for name in members]
        axes.plot([x, x], [min(found), max(found)], color=_BAR, linewidth=2.6, solid_capstyle="round", zorder=2)
        axes.plot([x] * len(found), found, "o", color=_BAR, markersize=5.5, markeredgecolor="white", zorder=3)
        axes.text(x, -0.62, "abcdefghijklmnopqrstuvwxyz"[x % 26], fontsize=8, color=_INK, ha="center", va="bottom")
    axes.set_xlim(-0.8, len(metric.groups) - 0.2)
    axes.set_xlabel("not told apart", labelpad=17)


def _draw_ranks(axes: Axes, metric: MetricRanking) -> None:
    for y, standing in enumerate(metric.standings):
        colour, marker, _ = style_of(standing.label)
        if standing.spread:
            axes.plot([standing.spread.low, standing.spread.high], [y, y], color=colour, linewidth=1.8, zorder=2)
        axes.plot([standing.rank], [y], marker, color=colour, markersize=6.5, markeredgecolor="white", zorder=3)
        if standing.spread and standing.spread.first >= 0.005:
            text = ranking_text.share_words(standing.spread.first)
            axes.text(1.01, y, text, fontsize=7.5, color=_INK, va="center", transform=axes.get_yaxis_transform())
    n = len(metric.standings)
    axes.set_yticks(range(n), [""] * n)
    axes.set_xlim(0.5, n + 0.5)
    axes.set_xticks(range(1, n + 1) if n <= 15 else range(1, n + 1, 5))
    axes.set_xlabel("rank, with 95 % of draws of subjects\n(at the side: share of draws that it leads)")


def _description(metric: MetricRanking) -> str:
    """Returns the figure in words."""
    order = ", ".join(standing.name for standing in metric.standings)
    sets = "; ".join(ranking_text.named(members) for members in metric.groups if len(members) > 1)
    told = (
        f"Methods by {words.metric_name(metric.metric)}, the best first: {order}. Left: paired difference to the best "
    )
    told += f"with its 95 % interval over {metric.n_pairs} pairs, not corrected for the number of methods. "
    if metric.groups:
        told += f"Middle: bars join methods that are not told apart ({sets or 'none'}). "
    return told + "Right: ranks, and where they lie in 95 % of draws of subjects."
