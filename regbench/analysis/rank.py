"""Methods in order, with what is known of that order: the rankings of the results of a run.

Every dataset under every condition is ranked apart. Two schemes:

- `paired`: methods stand in the order of their means over the pairs that all of them finished, labels and repeats
  averaged within the pair before. Every two methods are told apart by `paired_test` on these pairs, with the p-values
  of one table corrected by Holm's method. Several metrics are combined by the geometric mean of the ranks.
- `l2r`: the scheme of the Learn2Reg challenges, see `regbench.analysis.learn2reg_ranks`.

Ranks are repeated on resampled subjects (`regbench.analysis.subject_draws`), the same subjects for all metrics and
conditions of a dataset.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regbench.analysis import learn2reg_ranks
from regbench.analysis.groups import Group, MethodLabel, Row, group_rows
from regbench.analysis.rank_scores import ALPHA, Scored, Weights, scored_group, spreads_of
from regbench.analysis.rank_tables import (
    CombinedStanding,
    GroupRanking,
    MetricRanking,
    Ranking,
    Standing,
    letters_of,
    sets_not_told_apart,
)
from regbench.analysis.statistics import SubjectPair
from regbench.analysis.subject_draws import Floats, pair_weights, ranks_of
from regbench.analysis.summary import notes
from regbench.errors import ConfigError
from regbench.metrics.table import METRICS
from regbench.parameters import nearest

SCHEMES = ("paired", "l2r")


def rank_rows(
    rows: Iterable[Row],
    scheme: str = "paired",
    metrics: Sequence[str] = (),
    *,
    only: Sequence[str] = (),
    seed: int = 0,
    order: Sequence[str] = (),
) -> Ranking:
    """Returns the ranking of result rows, methods of equal rank in the given order of labels.

    `only` leaves all other methods out, as if they had not run. Raises ConfigError where a metric or a method is not
    known, or measured nowhere.
    """
    rows = _rows_of(rows, only)
    groups = group_rows(rows, order)
    _check_metrics(metrics, groups, scheme)
    weights = _weights(groups, seed)
    scored = [scored_group(group, rows, scheme, metrics, weights[group.source]) for group in groups]
    kept = [(group, found) for group, found in zip(groups, scored, strict=True) if found]
    told = [*notes(rows), *(_not_ranked(group) for group, found in zip(groups, scored, strict=True) if not found)]
    told += _missing_metrics(kept, metrics)
    caveats = learn2reg_ranks.CAVEATS if scheme == "l2r" else ()
    ranked = tuple(_group_ranking(group, found) for group, found in kept)
    overall = _overall(kept)
    if len(kept) > 1 and not overall:
        told.append("No ranking over all conditions and datasets: not the same methods and metrics in all of them.")
    return Ranking(scheme, seed, ALPHA, ranked, overall, tuple(told), caveats)


def _group_ranking(group: Group, scored: Sequence[Scored]) -> GroupRanking:
    return GroupRanking(
        group.dataset,
        group.condition,
        tuple(_metric_ranking(group, found) for found in scored),
        _combined(group, scored),
    )


def _metric_ranking(group: Group, scored: Scored) -> MetricRanking:
    names = [scored.names[i] for i in np.argsort(scored.ranks, kind="stable")]
    won = [(c.winner, c.other if c.winner == c.method else c.method) for c in scored.comparisons if c.winner]
    sets = sets_not_told_apart(names, won) if scored.is_decidable else ()
    spread = dict(zip(scored.names, scored.spreads, strict=True))
    standings = []
    for name in names:
        i = scored.names.index(name)
        statuses = group.statuses[name]
        standings.append(
            Standing(
                label=_label(group, name),
                mean=scored.means[i],
                rank=float(scored.ranks[i]),
                spread=spread[name],
                better_than=tuple(loser for winner, loser in won if winner == name),
                worse_than=tuple(winner for winner, loser in won if loser == name and winner),
                letters=letters_of(name, sets),
                coverage=len(group.finished[name]) / len(group.subjects),
                n_failed=len(statuses) - statuses.count("ok") - statuses.count("skipped"),
                score=float(scored.part[i]) if scored.is_rank_score else None,
            )
        )
    n_subjects = len({subject for pair in scored.pairs for subject in group.subjects[pair]})
    return MetricRanking(
        scored.metric,
        len(scored.pairs),
        n_subjects,
        tuple(standings),
        tuple(scored.comparisons),
        sets,
        scored.is_decidable,
        scored.notes,
    )


def _label(group: Group, name: str) -> MethodLabel:
    return next(label for label in group.methods if label.name == name)


# -- several metrics, several groups ------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """One number per method of a ranking that enters a geometric mean, observed and in every draw."""

    observed: dict[str, float]
    drawn: dict[str, Floats] | None
    is_rank_score: bool


def _combined(group: Group, scored: Sequence[Scored]) -> tuple[CombinedStanding, ...]:
    if len(scored) < 2:
        return ()
    parts, names = _parts_of(scored)
    return _standings({name: _label(group, name) for name in names}, parts)


def _parts_of(scored: Sequence[Scored]) -> tuple[list[_Part], list[str]]:
    """Returns the parts of a combination and its methods, which are those that have all metrics.

    In the scheme of Learn2Reg a method that lacks a metric takes part with the lowest score.
    """
    is_rank_score = scored[0].is_rank_score
    names = list(dict.fromkeys(name for found in scored for name in found.names))
    if not is_rank_score:
        names = [name for name in names if all(name in found.names for found in scored)]
    parts = []
    for found in scored:
        columns = {name: i for i, name in enumerate(found.names)}
        low = learn2reg_ranks.LOWEST_SCORE
        observed = {name: float(found.part[columns[name]]) if name in columns else low for name in names}
        drawn = None
        if found.drawn_part is not None:
            filled = np.full(len(found.drawn_part), low)
            drawn = {name: found.drawn_part[:, columns[name]] if name in columns else filled for name in names}
        parts.append(_Part(observed, drawn, is_rank_score))
    return parts, names


def _standings(labels: Mapping[str, MethodLabel], parts: Sequence[_Part]) -> tuple[CombinedStanding, ...]:
    """Returns the methods by the geometric mean of their parts, the best first."""
    if len(labels) < 2:
        return ()
    combined = _geometric_mean(parts, list(labels))
    values, is_rank_score = np.array([combined.observed[name] for name in labels]), combined.is_rank_score
    ranks = ranks_of(values if is_rank_score else -values)
    drawn = None if combined.drawn is None else np.stack([combined.drawn[name] for name in labels], axis=1)
    spread = spreads_of(drawn, is_rank_score, len(labels))
    names = list(labels)
    return tuple(
        CombinedStanding(
            labels[names[i]],
            tuple(part.observed[names[i]] for part in parts),
            float(values[i]),
            float(ranks[i]),
            spread[i],
        )
        for i in np.argsort(ranks, kind="stable")
    )


def _geometric_mean(parts: Sequence[_Part], names: Sequence[str]) -> _Part:
    observed = {name: math.prod(part.observed[name] for part in parts) ** (1 / len(parts)) for name in names}
    known = [part.drawn for part in parts if part.drawn is not None]
    drawn = None
    if len(known) == len(parts):
        drawn = {name: np.exp(np.mean([np.log(part[name]) for part in known], axis=0)) for name in names}
    return _Part(observed, drawn, parts[0].is_rank_score)


def _overall(kept: Sequence[tuple[Group, Sequence[Scored]]]) -> tuple[CombinedStanding, ...]:
    """Returns the ranking over all groups; none where there is one group, or methods or metrics differ."""
    if len(kept) < 2 or len({tuple(found.metric for found in scored) for _, scored in kept}) > 1:
        return ()
    parts, methods = [], []
    for _, scored in kept:
        of_group, names = _parts_of(scored)
        methods.append(set(names))
        parts.append(_geometric_mean(of_group, names))
    if any(found != methods[0] for found in methods) or any(len(g.compared) != len(methods[0]) for g, _ in kept):
        return ()
    first = kept[0][0]
    return _standings({label.name: label for label in first.methods if label.name in methods[0]}, parts)


def _weights(groups: Sequence[Group], seed: int) -> dict[str, Weights]:
    """Returns per dataset how often every pair counts in every draw: the same under all conditions."""
    subjects: dict[str, dict[str, SubjectPair]] = {}
    for group in groups:
        subjects.setdefault(group.source, {}).update(group.subjects)
    return {source: pair_weights(found, [seed, i]) for i, (source, found) in enumerate(subjects.items())}


# -- what cannot be ranked ----------------------------------------------------------------------------


def _rows_of(rows: Iterable[Row], only: Sequence[str]) -> list[Row]:
    rows = list(rows)
    known = list(dict.fromkeys(str(row.get("method")) for row in rows))
    for name in only:
        if rows and name not in known:
            raise ConfigError(f"--only {name}: no such method in this run; there: {', '.join(known)}")
    return [row for row in rows if not only or row.get("method") in only]


def _check_metrics(metrics: Sequence[str], groups: Sequence[Group], scheme: str) -> None:
    measured = {name for group in groups for name, methods in group.values.items() if methods and name in METRICS}
    for name in metrics:
        if name not in METRICS:
            raise ConfigError(f"--metric {name}: unknown{nearest(name, [*METRICS]) or '; regbench metrics lists them'}")
        source = learn2reg_ranks.measured_as(name) if scheme == "l2r" else name
        if METRICS[source].quantile_of:
            of = METRICS[source].quantile_of
            raise ConfigError(
                f"--metric {name}: is a quantile over pairs, which no single pair has; rank by {of and of[0]}"
            )
        if groups and source not in measured:
            raise ConfigError(f"--metric {name}: not measured in this run; measured: {', '.join(sorted(measured))}")


def _not_ranked(group: Group) -> str:
    n = len(group.compared)
    why = "no metric to rank by was measured" if n > 1 else f"{n} method{'' if n == 1 else 's'} finished a pair"
    if n > 1 and group.accuracy_metric and not group.common_pairs(group.accuracy_metric):
        why = "no pair was finished by all methods"
    return f"{group.dataset}, condition {group.condition}: not ranked: {why}."


def _missing_metrics(kept: Sequence[tuple[Group, Sequence[Scored]]], metrics: Sequence[str]) -> list[str]:
    told = []
    for group, scored in kept:
        missing = [metric for metric in metrics if metric not in {found.metric for found in scored}]
        if missing:
            told.append(
                f"{group.dataset}, condition {group.condition}: not ranked by {', '.join(missing)}: not measured."
            )
        for found in scored:
            without = [name for name in group.compared if name not in found.names]
            if without:
                told.append(
                    f"{group.dataset}, condition {group.condition}: {', '.join(without)} not ranked by {found.metric}: "
                    "it has no value."
                )
    return told
