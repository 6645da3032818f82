"""Whether Dice follows the information that intensities carry about labels: correlations, and what they allow to say.

Points are pairs (information: mean of both images), subjects (their own information and the mean Dice of their pairs)
or labels (information of a label against the rest, and its mean Dice). Only data as they are count, cases that
finished, and none that a method was trained on. What images and labels tell beforehand is there for the method that
leaves images as they are too: where its Dice follows the information as well, anatomy does that, and no registration.
`gain` is Dice minus that of leaving images as they are.

Information comes from `information.json` files where these know the subjects of a data set, else from the rows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from regbench.analysis.correlation import (
    RESAMPLES,
    Draws,
    Estimate,
    Kind,
    Scope,
    correlations,
    draws_of,
    units_of,
)
from regbench.analysis.groups import UNSHIFTED, MethodLabel, Row, group_rows, metric_mean, pair_of, shown_dataset
from regbench.analysis.information_factors import Factor, factors_of
from regbench.analysis.information_labels import label_points
from regbench.leaks import is_left_out

Measure = Literal["mi_nats", "mi_ratio", "mi_jena_nats"]
Outcome = Literal["dice", "gain"]
Unit = Literal["pairs", "subjects", "labels"]
MEASURES: tuple[Measure, ...] = ("mi_nats", "mi_ratio", "mi_jena_nats")
OUTCOMES: tuple[Outcome, ...] = ("dice", "gain")
# What the paper reports for the registrations of one classical method, pooled over four data sets.
PAPER: dict[Kind, float] = {"pearson": 0.886, "log": 0.933}
PAPER_SOURCE = (
    "Magic or Mirage? (arXiv 2408.05839, Figure 1): pooled over pairs of OASIS, LPBA40, MGH10 and IBSR18 registered "
    "with ANTs; intervals, correlations within a data set and the way of estimating information are not given there"
)


@dataclass(frozen=True)
class Point:
    """A pair (or a subject) of a data set with its information by measure and its value by method and outcome."""

    dataset: str
    name: str
    subjects: tuple[str, ...]
    information: Mapping[str, float]
    values: Mapping[tuple[str, Outcome], float]


@dataclass(frozen=True)
class Correlation:
    """One correlation of information with Dice or its gain."""

    method: str
    measure: Measure
    outcome: Outcome
    unit: Unit
    scope: Scope
    kind: Kind
    estimate: Estimate
    n_pairs: int
    n_subjects: int


@dataclass(frozen=True)
class Relation:
    """All that runs and information tell of each other; `points` are pairs, `told` says where information is from.

    `words` are the sentences that the numbers allow.
    """

    datasets: tuple[str, ...]
    methods: tuple[MethodLabel, ...]
    points: tuple[Point, ...]
    correlations: tuple[Correlation, ...]
    factors: tuple[Factor, ...]
    resamples: int
    level: float
    seed: int
    told: str = ""
    missing: tuple[str, ...] = ()
    _found: dict[tuple[str, ...], Correlation] = field(default_factory=dict, repr=False, compare=False)

    def find(
        self,
        method: str,
        scope: Scope = "pooled",
        kind: Kind = "pearson",
        *,
        measure: Measure = "mi_nats",
        outcome: Outcome = "dice",
        unit: Unit = "pairs",
    ) -> Correlation | None:
        """Returns one correlation; None where it was not asked for or cannot be."""
        if not self._found:
            self._found.update(
                {(c.method, c.scope, c.kind, c.measure, c.outcome, c.unit): c for c in self.correlations}
            )
        return self._found.get((method, scope, kind, measure, outcome, unit))

    @property
    def n_independent(self) -> int:
        """Returns the number of data sets whose pairs are not those of another one by name."""
        return len({frozenset(p.name for p in self.points if p.dataset == name) for name in self.datasets})

    @property
    def identity(self) -> str | None:
        """Returns the name of the method that leaves the images as they are, if it is there."""
        return next((method.name for method in self.methods if method.paradigm == "none"), None)

    @property
    def words(self) -> list[str]:
        """Returns what the numbers allow to say, sentence by sentence."""
        from regbench.analysis.information_words import conclusions

        return conclusions(self)

    def as_json(self) -> dict[str, Any]:
        """Returns everything as plain data."""
        return {
            "datasets": list(self.datasets),
            "resamples": self.resamples,
            "level": self.level,
            "seed": self.seed,
            "information": self.told,
            "paper": {"source": PAPER_SOURCE, **PAPER},
            "correlations": [_flat(c) for c in self.correlations],
            "factors": [dataclasses.asdict(factor) for factor in self.factors],
            "missing": list(self.missing),
            "words": self.words,
        }


def _flat(found: Correlation) -> dict[str, Any]:
    plain = dataclasses.asdict(found)
    estimate = plain.pop("estimate")
    return {**plain, **{name: _or_none(value) for name, value in estimate.items()}}


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def relate(
    rows: Iterable[Row],
    informations: Sequence[Any] | None = None,
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Relation:
    """Returns how Dice and its gain follow the information of intensities about labels, for each method.

    `informations` are what `mi-analysis` has written, as read from `information.json` or as surveys; without them, and
    for data sets that they do not know, information is that of the rows (metrics mi_nats, mi_ratio, mi_jena_nats).
    """
    rows = [row for row in rows if not is_left_out(row)]
    plain = [row for row in rows if str(row.get("condition", UNSHIFTED)) == UNSHIFTED]
    documents = [_document(one) for one in informations or ()]
    source = _Source.of(plain, documents)
    methods = tuple(dict.fromkeys(method for group in group_rows(plain) for method in group.methods))
    pairs = list(_pair_points(plain, source, methods))
    datasets = tuple(dict.fromkeys(point.dataset for point in pairs))
    context = _Context(methods, seed, level, resamples)
    found = [
        *context.correlations(pairs, "pairs"),
        *context.correlations(list(_subject_points(pairs, source)), "subjects"),
        *context.label_correlations(plain, source, datasets),
    ]
    used = tuple(m for m in methods if any(c.method == m.name for c in found))
    missing = tuple(name for name in dict.fromkeys(map(shown_dataset, plain)) if name not in datasets)
    factors = tuple(factors_of(rows, seed=seed, level=level, resamples=resamples))
    return Relation(
        datasets, used, tuple(pairs), tuple(found), factors, resamples, level, seed, source.told(datasets), missing
    )


def _document(one: Any) -> Mapping[str, Any]:
    """Returns what `information.json` holds, of a survey or of what was read."""
    return one if isinstance(one, Mapping) else one.as_json()


# -- where information is from ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """Documents by data set as far as they know its subjects, and the rows' own numbers of every subject.

    `documents` maps a data set to a subject to what was measured of it, `rows` a data set and subject to measures.
    """

    documents: Mapping[str, Mapping[str, Mapping[str, Any]]]
    rows: Mapping[tuple[str, str], Mapping[str, float]]

    @classmethod
    def of(cls, rows: Sequence[Row], documents: Sequence[Mapping[str, Any]]) -> _Source:
        needed: dict[str, set[str]] = {}
        sources: dict[str, str] = {}
        for row in rows:
            dataset = shown_dataset(row)
            needed.setdefault(dataset, set()).update(pair_of(row)[1])
            sources[dataset] = str(row.get("dataset", "?"))
        found: dict[str, Mapping[str, Mapping[str, Any]]] = {}
        for dataset, subjects in needed.items():
            known = [
                (_knows(one, sources[dataset]), by) for one in documents if subjects <= (by := _by_subject(one)).keys()
            ]
            # One that bears the name of the data set goes before others that have its subjects as well.
            if known:
                found[dataset] = max(known, key=lambda one: one[0])[1]
        return cls(found, dict(_row_information(rows)))

    def of_subject(self, dataset: str, subject: str) -> dict[str, float]:
        """Returns the information of a subject by measure, as far as it is known."""
        if dataset in self.documents:
            told = self.documents[dataset][subject]
            return {m: float(told[m]) for m in MEASURES if isinstance(told.get(m), int | float)}
        return dict(self.rows.get((dataset, subject), {}))

    def told(self, datasets: Sequence[str]) -> str:
        """Returns where the information of these data sets is from, in words."""
        surveyed = [name for name in datasets if name in self.documents]
        if not surveyed:
            return "from the result rows"
        return "from mi-analysis" if len(surveyed) == len(datasets) else f"from mi-analysis for {', '.join(surveyed)}"


def _knows(document: Mapping[str, Any], dataset: str) -> bool:
    return str(document.get("dataset", "")) == dataset


def _by_subject(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(one["subject"]): one for one in document.get("subjects", ())}


def _row_information(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, str], dict[str, float]]]:
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row.get("status") != "ok":
            continue
        metrics = row.get("metrics") or {}
        for side, subject in zip(("fixed", "moving"), pair_of(row)[1], strict=True):
            for measure in MEASURES:
                value = metrics.get(measure)
                value = value.get(side) if isinstance(value, Mapping) else None
                if isinstance(value, int | float) and math.isfinite(value):
                    found.setdefault((shown_dataset(row), subject), {})[measure] = float(value)
    yield from found.items()


# -- points -------------------------------------------------------------------------------------------


def _pair_points(rows: Sequence[Row], source: _Source, methods: Sequence[MethodLabel]) -> Iterator[Point]:
    """Yields the pairs that have information, each with the Dice of every method that finished it."""
    identity = next((method.name for method in methods if method.paradigm == "none"), None)
    means = {(shown_dataset(row), pair_of(row)[0]): _row_means(row) for row in rows if row.get("status") == "ok"}
    for group in group_rows(rows):
        dice = group.values.get("dice", {})
        for pair, subjects in group.subjects.items():
            information = _mean_of([source.of_subject(group.dataset, one) for one in subjects])
            information = information or means.get((group.dataset, pair), {})
            values: dict[tuple[str, Outcome], float] = {}
            for method, by_pair in dice.items():
                if pair in by_pair:
                    values[method, "dice"] = by_pair[pair]
                    if identity in dice and pair in dice[identity]:
                        values[method, "gain"] = by_pair[pair] - dice[identity][pair]
            if information and values:
                yield Point(group.dataset, pair, subjects, information, values)


def _row_means(row: Row) -> dict[str, float]:
    """Returns the information that a row tells of the pair alone, of both images together."""
    found = {m: metric_mean((row.get("metrics") or {}).get(m)) for m in MEASURES}
    return {m: value for m, value in found.items() if math.isfinite(value)}


def _mean_of(informations: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {
        measure: sum(one[measure] for one in informations) / len(informations)
        for measure in MEASURES
        if all(measure in one for one in informations)
    }


def _subject_points(pairs: Sequence[Point], source: _Source) -> Iterator[Point]:
    """Yields every subject that is not in all pairs of its data set, with the mean over its pairs."""
    for dataset in dict.fromkeys(point.dataset for point in pairs):
        here = [point for point in pairs if point.dataset == dataset]
        for subject in dict.fromkeys(s for point in here for s in point.subjects):
            own = [point for point in here if subject in point.subjects]
            information = source.of_subject(dataset, subject)
            if not information or (len(own) == len(here) > 1):
                continue
            keys = dict.fromkeys(key for point in own for key in point.values)
            values = {key: _mean([p.values[key] for p in own if key in p.values]) for key in keys}
            others = tuple(dict.fromkeys(s for point in own for s in point.subjects))
            # Subjects of one lonely pair share its Dice: they are drawn together.
            yield Point(dataset, subject, others if len(own) == 1 else (subject,), information, values)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# -- correlations -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Context:
    """What all correlations of a relation have in common."""

    methods: Sequence[MethodLabel]
    seed: int
    level: float
    resamples: int

    def correlations(self, points: Sequence[Point], unit: Unit) -> Iterator[Correlation]:
        """Yields all correlations over points, for each method over the points that it has."""
        drawn: dict[tuple[int, ...], Draws] = {}
        for method in self.methods:
            for outcome in OUTCOMES:
                if outcome == "gain" and method.paradigm == "none":
                    continue
                for measure in MEASURES:
                    key = (method.name, outcome)
                    chosen = tuple(i for i, p in enumerate(points) if key in p.values and measure in p.information)
                    if not chosen:
                        continue
                    own = [points[i] for i in chosen]
                    if chosen not in drawn:
                        drawn[chosen] = self._draws(own, unit)
                    x, y = [p.information[measure] for p in own], [p.values[key] for p in own]
                    n_subjects = len({(p.dataset, s) for p in own for s in p.subjects})
                    for (scope, kind), estimate in correlations(x, y, drawn[chosen], self.level).items():
                        yield Correlation(
                            method.name, measure, outcome, unit, scope, kind, estimate,
                            len(own) if unit == "pairs" else 0, n_subjects,
                        )  # fmt: skip

    def _draws(self, points: Sequence[Point], unit: Unit) -> Draws:
        units: dict[int, tuple[Any, ...]] = {}
        for dataset in dict.fromkeys(point.dataset for point in points):
            places = [i for i, point in enumerate(points) if point.dataset == dataset]
            own = [points[i].subjects for i in places]
            told = units_of([(s[0], s[-1]) for s in own]) if unit == "pairs" else [(tuple(sorted(s)),) for s in own]
            units.update(zip(places, told, strict=True))
        listed = [(point.dataset, units[i]) for i, point in enumerate(points)]
        return draws_of(listed, seed=self.seed, resamples=self.resamples)

    def label_correlations(
        self, rows: Sequence[Row], source: _Source, datasets: Sequence[str]
    ) -> Iterator[Correlation]:
        """Yields correlations over labels, where the information of single labels was measured."""
        documents = {name: source.documents[name] for name in datasets if name in source.documents}
        if not documents:
            return
        for method in self.methods:
            for measure in ("mi_nats", "mi_ratio"):
                found = label_points(rows, documents, method.name, measure, (self.seed, self.resamples, self.level))
                for (scope, kind), (estimate, n_pairs, n_subjects) in found.items():
                    yield Correlation(
                        method.name, measure, "dice", "labels", scope, kind, estimate, n_pairs, n_subjects
                    )  # fmt: skip
