"""One kind of method against another within a group of results, without being fooled by the choice of the best.

The best of several methods was chosen on the same pairs that judge it, so its lead is too good. Here nothing is chosen:
a kind is *ahead* if one of its methods beats every method of the other kind, and *not ahead* if each of its methods
has one of the other kind that it does not beat; levels are corrected (Bonferroni) for the methods among which such a
one is sought. What has to hold for all needs no correction (intersection-union).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from regbench.analysis.groups import Group, higher_is_better, paired_difference
from regbench.analysis.statistics import Interval, mean_interval
from regbench.analysis.verdicts import MARGINS

Outcome = Literal["ahead", "behind", "not ahead", "undecided", "too few"]
_ALPHA = 0.05


@dataclass(frozen=True)
class Contest:
    """The outcome of challengers against holders: the lead, best against best, is for reading, not for judging."""

    outcome: Outcome
    metric: str
    challenger: str
    holder: str
    lead: Interval


def contest(group: Group, challengers: Sequence[str], holders: Sequence[str]) -> Contest | None:
    """Returns how challengers stand against holders by accuracy; None where one side has no values."""
    metric = group.accuracy_metric
    sides = [[name for name in side if metric and group.common_values(metric, name)] for side in (challengers, holders)]
    if metric is None or not all(sides):
        return None
    ours, theirs = sides
    best = [max(side, key=lambda name: _goodness(group, metric, name)) for side in sides]
    lead = _gain(group, metric, best[0], best[1], 1 - _ALPHA)
    return Contest(_outcome(group, metric, ours, theirs), metric, best[0], best[1], lead)


def of_kind(group: Group, paradigm: str, supervision: Iterable[str] = ()) -> list[str]:
    """Returns the methods of a paradigm, and of one of these kinds of supervision where any are given."""
    wanted = set(supervision)
    return [m.name for m in group.methods if m.paradigm == paradigm and (not wanted or m.supervision in wanted)]


def _outcome(group: Group, metric: str, ours: Sequence[str], theirs: Sequence[str]) -> Outcome:
    margin = MARGINS.get(metric, 0.0)
    seeking_ours = {(a, b): _gain(group, metric, a, b, 1 - _ALPHA / len(ours)) for a in ours for b in theirs}
    seeking_theirs = {(a, b): _gain(group, metric, a, b, 1 - _ALPHA / len(theirs)) for a in ours for b in theirs}
    if any(gain.low is None for gain in seeking_ours.values()):
        return "too few"
    if any(all(_low(seeking_ours[a, b]) >= margin for b in theirs) for a in ours):
        return "ahead"
    if all(any(_high(seeking_theirs[a, b]) <= -margin for b in theirs) for a in ours):
        return "behind"
    if all(any(_high(seeking_theirs[a, b]) <= margin for b in theirs) for a in ours):
        return "not ahead"
    return "undecided"


def _gain(group: Group, metric: str, method: str, reference: str, level: float) -> Interval:
    """Returns how much better a method is than a reference, positive is better, in the unit of the metric."""
    values = paired_difference(group.common_values(metric, method), group.common_values(metric, reference))
    sign = 1.0 if higher_is_better(metric) else -1.0
    return mean_interval([sign * v for v in values.values()], [group.subjects[pair] for pair in values], level)


def _goodness(group: Group, metric: str, method: str) -> float:
    values = group.common_values(metric, method).values()
    return (1 if higher_is_better(metric) else -1) * sum(values) / len(values)


def _low(gain: Interval) -> float:
    assert gain.low is not None
    return gain.low


def _high(gain: Interval) -> float:
    assert gain.high is not None
    return gain.high
