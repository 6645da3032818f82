"""What becomes of Dice where the information is changed on purpose: the same pairs, one thing changed at a time.

A factor is a family of conditions of a run that differ in their strength, such as `noise 0.05` and `noise 0.1`, with
the data as they are. The anatomy of a pair is the same under all of them, so that what differs between pairs cannot
make Dice and information go together: the slope of Dice on information is taken inside of pairs. It is what this factor
does, not what information does: a factor may change Dice by other ways than the information that it takes.

Whether labels or images were changed is seen in the Dice of leaving images as they are, which only labels change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from regbench.analysis.correlation import draws_of, units_of
from regbench.analysis.groups import UNSHIFTED, Group, Row, group_rows, metric_mean, pair_of, shown_dataset
from regbench.analysis.statistics import Interval, SubjectPair, mean_interval

Follows = Literal["follows", "goes against", "does not follow", "undecided", "too few", "information stays"]
_STRENGTH = re.compile(r"\s-?\d[\d.eE+-]*(?=\s|$)")
# Information that moves by less than this share of itself is not said to change.
_STAYS = 0.1
# Dice over the whole range of a factor: within half a point of nothing is nothing.
_MARGIN = 0.005
_ROUNDING = 1e-20
_MEASURES = ("mi_nats", "mi_ratio", "mi_jena_nats")


@dataclass(frozen=True)
class Level:
    """Means over the pairs of one condition: information by measure, Dice and true error (mm) by method."""

    condition: str
    information: Mapping[str, float]
    dice: Mapping[str, float]
    epe_mm: Mapping[str, float]


@dataclass(frozen=True)
class Slope:
    """What Dice (or its gain) of a method changes per nat, or per unit of a ratio, inside of pairs, with its interval.

    `swing` is the paired change from the level of most to that of least information, as means over pairs tell which;
    `strongest` is that from the data as they are to the level that changes the mean most.
    """

    method: str
    measure: str
    outcome: str
    slope: float
    low: float | None
    high: float | None
    r: float
    swing: Interval
    strongest: Interval
    follows: Follows
    n_pairs: int
    units: int


@dataclass(frozen=True)
class Factor:
    """One thing that was changed on one data set, by levels; the first is the data as they are."""

    dataset: str
    name: str
    changes: Literal["images", "labels", "not known"]
    levels: tuple[Level, ...]
    slopes: tuple[Slope, ...]

    def find(self, method: str, measure: str = "mi_nats", outcome: str = "dice") -> Slope | None:
        """Returns the slope of one method."""
        key = (method, measure, outcome)
        return next((one for one in self.slopes if (one.method, one.measure, one.outcome) == key), None)

    def extent(self, measure: str = "mi_nats") -> tuple[float, float]:
        """Returns the least and the most information of all levels."""
        known = [level.information[measure] for level in self.levels if measure in level.information]
        return (min(known), max(known)) if known else (float("nan"), float("nan"))


def factor_name(condition: str) -> str:
    """Returns the name of a condition without its strength: 'noise' for 'noise 0.05'."""
    return _STRENGTH.sub("", condition).strip()


def factors_of(rows: Sequence[Row], *, seed: int, level: float, resamples: int) -> Iterator[Factor]:
    """Yields the factors of all data sets in which information and Dice were measured with and without a change."""
    known = _informations(rows)
    groups = [group for group in group_rows(rows) if group.values.get("dice")]
    for base in groups:
        if base.condition != UNSHIFTED:
            continue
        families: dict[str, list[Group]] = {}
        for group in groups:
            if group.dataset == base.dataset and group.condition != UNSHIFTED:
                families.setdefault(factor_name(group.condition), []).append(group)
        for name, members in families.items():
            made = _Made(base, (base, *members), known, (seed, resamples, level))
            slopes = tuple(made.slopes())
            if slopes:
                yield Factor(base.dataset, name, made.changes, tuple(made.levels()), slopes)


def _informations(rows: Sequence[Row]) -> dict[tuple[str, str, str], dict[str, float]]:
    """Returns information by measure of each data set, condition and pair, as it was measured there."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in rows:
        key = (shown_dataset(row), str(row.get("condition", UNSHIFTED)), pair_of(row)[0])
        for measure in _MEASURES:
            value = metric_mean((row.get("metrics") or {}).get(measure))
            if np.isfinite(value):
                found.setdefault(key, {})[measure] = value
    return found


@dataclass(frozen=True)
class _Made:
    """A factor in the making: the groups of its levels, information, and (seed, resamples, level)."""

    base: Group
    groups: tuple[Group, ...]
    known: Mapping[tuple[str, str, str], Mapping[str, float]]
    drawing: tuple[int, int, float]

    @property
    def changes(self) -> Literal["images", "labels", "not known"]:
        """Returns what the factor changes, as the Dice of leaving images as they are tells."""
        if self.base.identity is None:
            return "not known"
        before = self._values(self.base, self.base.identity, "dice")
        for group in self.groups[1:]:
            after = self._values(group, self.base.identity, "dice")
            if any(abs(after[pair] - before[pair]) > 1e-9 for pair in before.keys() & after.keys()):
                return "labels"
        return "images"

    @staticmethod
    def _values(group: Group, method: str | None, metric: str) -> Mapping[str, float]:
        return group.values.get(metric, {}).get(method, {}) if method else {}

    def levels(self) -> Iterator[Level]:
        """Yields the levels: means over the pairs that all of them have."""
        pairs = [p for p in self.base.subjects if all(self._information(g, p) for g in self.groups)]
        for group in self.groups:
            told = [self._information(group, pair) for pair in pairs]
            information = {m: float(np.mean([one[m] for one in told])) for m in _MEASURES if all(m in t for t in told)}
            by_metric = [
                {
                    method: float(np.mean([values[p] for p in pairs if p in values]))
                    for method, values in group.values.get(metric, {}).items()
                    if any(p in values for p in pairs)
                }
                for metric in ("dice", "epe_mm")
            ]
            if told:
                yield Level(group.condition, information, by_metric[0], by_metric[1])

    def _information(self, group: Group, pair: str) -> Mapping[str, float]:
        return self.known.get((group.dataset, group.condition, pair), {})

    def slopes(self) -> Iterator[Slope]:
        """Yields the slope of every method, measure and outcome."""
        for method in self.base.methods:
            for outcome in ("dice", "gain"):
                if outcome == "gain" and (self.base.identity is None or method.name == self.base.identity):
                    continue
                for measure in _MEASURES:
                    points = dict(self._points(method.name, measure, outcome))
                    if points:
                        yield self._slope(method.name, measure, outcome, points)

    def _points(self, method: str, measure: str, outcome: str) -> Iterator[tuple[str, np.ndarray]]:
        """Yields for each pair that every level has its (information, Dice) by level, (levels, 2)."""
        for pair in self.base.subjects:
            found = []
            for group in self.groups:
                value = self._values(group, method, "dice").get(pair)
                if value is not None and outcome == "gain":
                    reference = self._values(group, self.base.identity, "dice").get(pair)
                    value = None if reference is None else value - reference
                information = self._information(group, pair).get(measure)
                if value is None or information is None:
                    break
                found.append((information, value))
            else:
                yield pair, np.array(found)

    def _slope(self, method: str, measure: str, outcome: str, points: Mapping[str, np.ndarray]) -> Slope:
        subjects: list[SubjectPair] = [self.base.subjects[pair] for pair in points]
        table = np.stack(list(points.values()))
        centred = table - table.mean(axis=1, keepdims=True)
        xx, yy, xy = (np.einsum("pl,pl->p", centred[..., a], centred[..., b]) for a, b in ((0, 0), (1, 1), (0, 1)))
        means = table[..., 0].mean(axis=0)
        furthest = int(np.abs(table[..., 1].mean(axis=0) - table[:, 0, 1].mean()).argmax())
        swing, strongest = (
            mean_interval(list(table[:, to, 1] - table[:, since, 1]), subjects, self.drawing[2])
            for to, since in ((int(means.argmin()), int(means.argmax())), (furthest, 0))
        )
        # Means of equal numbers differ from them by their rounding: that is no change.
        xx, yy, xy = (np.where(np.abs(one) < _ROUNDING, 0.0, one) for one in (xx, yy, xy))
        slope = float(xy.sum() / xx.sum()) if xx.sum() > 0 else float("nan")
        scale = float(np.sqrt(xx.sum() * yy.sum()))
        low, high, units = self._bounds(slope, xx, xy, subjects)
        made = Slope(
            method, measure, outcome, slope, low, high, float(xy.sum() / scale) if scale > 0 else float("nan"),
            swing, strongest, "too few", len(points), units,
        )  # fmt: skip
        return replace(made, follows=_follows(made, float(np.ptp(means)), abs(float(means[0]))))

    def _bounds(
        self, slope: float, xx: np.ndarray, xy: np.ndarray, subjects: Sequence[SubjectPair]
    ) -> tuple[float | None, float | None, int]:
        from scipy.special import stdtrit

        seed, resamples, level = self.drawing
        draws = draws_of([("", unit) for unit in units_of(subjects)], seed=seed, resamples=resamples)
        below = draws.weights @ xx
        drawn = (draws.weights @ xy)[below > 0] / below[below > 0]
        if draws.degrees < 1 or len(drawn) < 0.8 * resamples or not np.isfinite(slope):
            return None, None, draws.units
        reach = float(stdtrit(draws.degrees, 0.5 + level / 2)) * float(drawn.std())
        return slope - reach, slope + reach, draws.units


def _follows(slope: Slope, extent: float, base: float) -> Follows:
    """Returns what the interval of a slope says of Dice and information in this factor."""
    if extent < _STAYS * base:
        return "information stays"
    if slope.low is None or slope.high is None:
        return "too few"
    if max(abs(slope.low), abs(slope.high)) * extent <= _MARGIN:
        return "does not follow"
    if slope.low > 0:
        return "follows"
    return "goes against" if slope.high < 0 else "undecided"
