"""What a ranking consists of: standings of methods per metric, their comparisons, and what both amount to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from regbench.analysis.groups import MethodLabel
from regbench.analysis.statistics import Interval
from regbench.analysis.subject_draws import RankSpread


@dataclass(frozen=True)
class Comparison:
    """Two methods on the pairs that all finished: `difference` is method minus other, in the unit of the metric.

    `p` is as the test gives it, `adjusted` is corrected for the number of comparisons where the scheme does so; both
    are None where there is too little. `winner` is the better one where they are told apart.
    """

    method: str
    other: str
    difference: Interval
    test: str
    p: float | None
    adjusted: float | None
    winner: str | None


@dataclass(frozen=True)
class Standing:
    """One method in the ranking by one metric.

    `rank` is 1 for the best; `score` is the rank score of a scheme that has one. `better_than` and `worse_than` are
    the methods it is told apart from, `letters` the sets of methods not told apart that it belongs to. `coverage` is
    the share (0 to 1) of the planned pairs that it finished.
    """

    label: MethodLabel
    mean: Interval
    rank: float
    spread: RankSpread | None
    better_than: tuple[str, ...]
    worse_than: tuple[str, ...]
    letters: str
    coverage: float
    n_failed: int
    score: float | None = None

    @property
    def name(self) -> str:
        return self.label.name


@dataclass(frozen=True)
class MetricRanking:
    """The methods by one metric, the best first; `groups` are the largest sets of methods that are not told apart.

    `is_decidable` says whether the data could have told any two apart; if not, `notes` say why. `title` is given
    where the metric is no row of the metric table.
    """

    metric: str
    n_pairs: int
    n_subjects: int
    standings: tuple[Standing, ...]
    comparisons: tuple[Comparison, ...]
    groups: tuple[tuple[str, ...], ...]
    is_decidable: bool
    notes: tuple[str, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class CombinedStanding:
    """One method over several rankings: `score` is the geometric mean of their ranks (or rank scores), in `parts`."""

    label: MethodLabel
    parts: tuple[float, ...]
    score: float
    rank: float
    spread: RankSpread | None

    @property
    def name(self) -> str:
        return self.label.name


@dataclass(frozen=True)
class GroupRanking:
    """The rankings of one dataset under one condition; `combined` is there for two metrics and more."""

    dataset: str
    condition: str
    metrics: tuple[MetricRanking, ...]
    combined: tuple[CombinedStanding, ...]


@dataclass(frozen=True)
class Ranking:
    """All that a run says of the order of its methods.

    `overall` is over the groups named in `overall_of`, only where the same methods ran in all of them. `notes` are
    sentences on what is missing, `caveats` on the scheme itself.
    """

    scheme: str
    seed: int
    alpha: float
    groups: tuple[GroupRanking, ...]
    overall: tuple[CombinedStanding, ...]
    notes: tuple[str, ...]
    caveats: tuple[str, ...]

    @property
    def is_decidable(self) -> bool:
        return any(metric.is_decidable for group in self.groups for metric in group.metrics)


def sets_not_told_apart(names: Sequence[str], apart: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Returns the largest sets of methods of which no two are told apart, each in the given order, the best first.

    A method that is told apart from all others is a set of its own.
    """
    places = {name: i for i, name in enumerate(names)}
    alike = {i: set(range(len(names))) - {i} for i in range(len(names))}
    for one, other in apart:
        alike[places[one]].discard(places[other])
        alike[places[other]].discard(places[one])
    found: list[list[int]] = []
    _largest_cliques(set(), set(alike), set(), alike, found)
    return tuple(tuple(names[i] for i in members) for members in sorted(found))


def _largest_cliques(
    chosen: set[int], candidates: set[int], done: set[int], alike: Mapping[int, set[int]], found: list[list[int]]
) -> None:
    """Adds the largest cliques that hold `chosen` (Bron and Kerbosch 1973, with a pivot)."""
    if not candidates and not done:
        found.append(sorted(chosen))
        return
    pivot = max(candidates | done, key=lambda i: len(alike[i] & candidates))
    for i in sorted(candidates - alike[pivot]):
        _largest_cliques(chosen | {i}, candidates & alike[i], done & alike[i], alike, found)
        candidates = candidates - {i}
        done = done | {i}


def letters_of(name: str, groups: Sequence[Sequence[str]]) -> str:
    """Returns the letters of the sets that a method belongs to, like 'ab'."""
    return "".join(_letter(i) for i, members in enumerate(groups) if name in members)


def _letter(i: int) -> str:
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    return alphabet[i] if i < len(alphabet) else f"({i + 1})"
