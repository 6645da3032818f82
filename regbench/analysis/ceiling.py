"""What Dice image-driven registration can reach on a label set, predicted from what is known before any registration.

The prediction is a line through points that were measured (`ceiling_points.json`, made by `scripts/ceiling_points.py`):
the best mean Dice of classical methods and of networks that saw no labels, on the logit scale, against one or two facts
of images and labels. Every family of data sets counts alike, however many points it has.

Which facts are used, and how far the prediction can be trusted, is found by leaving out a whole family and predicting
it from the others. The interval is Student's t with one degree of freedom less than families, times the root mean
square of these errors: facts that predict nothing make it wide. Beyond the range of the measured points there is none.
It is a forecast of what methods of today reach, not a bound: intensities of single voxels are not all that a
registration sees.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

_POINTS = Path(__file__).with_name("ceiling_points.json")
FEATURES = ("mi_nats", "log_mi", "mi_ratio", "entropy_nats", "log_size", "visible_share", "mi_all_ratio")
# Known only where pairs are: the Dice of images as they are, or as pre-alignment leaves them.
OVERLAP = "overlap"
# From none to two of the facts; more would fit the points and nothing else.
CANDIDATES: tuple[tuple[str, ...], ...] = (
    (),
    ("mi_nats",),
    ("log_mi",),
    ("mi_ratio",),
    ("entropy_nats",),
    ("log_size",),
    ("visible_share",),
    ("mi_all_ratio",),
    ("mi_ratio", "log_size"),
    ("mi_nats", "log_size"),
    ("visible_share", "log_size"),
    (OVERLAP,),
    ("visible_share", OVERLAP),
)
# Facts are used only where they take this share of the error away that is left without any.
_LEAST_GAIN = 0.1
_FEWEST_FAMILIES = 3
# An interval as wide as this is told as no prediction.
_USELESS_WIDTH = 0.5
# How far beyond the measured range, as a share of it, a line is still followed.
_BEYOND = 0.1
_NAMES = {
    "mi_nats": "the information in nats",
    "log_mi": "the logarithm of the information",
    "mi_ratio": "I / H(label)",
    "entropy_nats": "the entropy of the labels",
    "log_size": "how many voxels across a label is",
    "visible_share": "the visible share of the borders",
    "mi_all_ratio": "I / H over all voxels",
    OVERLAP: "the Dice before registration",
}


@dataclass(frozen=True)
class CeilingPoint:
    """A measured point: the family of data sets that it belongs to, its facts, and the Dice that was reached."""

    family: str
    name: str
    features: Mapping[str, float]
    dice: float


@dataclass(frozen=True)
class Calibration:
    """How well facts predict families (or label sets) that they were not fitted to.

    `error` is the mean absolute error of Dice, `coverage` the share of points inside of their 95 % interval, made
    without their family; families count alike in both. `spread` is the root mean square error on the logit scale.
    """

    features: tuple[str, ...]
    error: float
    coverage: float
    spread: float
    n_points: int
    n_families: int


@dataclass(frozen=True)
class Ceiling:
    """A predicted Dice with its 95 % interval; None where the points do not allow one, and `words` say why."""

    dice: float | None
    low: float | None
    high: float | None
    words: str
    calibration: Calibration | None = None
    by_label_set: Calibration | None = None


def predict(information: Any, points: Sequence[CeilingPoint] | None = None, *, overlap: float | None = None) -> Ceiling:
    """Returns what Dice image-driven registration can reach on the label set that was surveyed.

    `information` is what `mi-analysis` measured: a survey, the content of `information.json`, or its subjects.
    `overlap` is the mean Dice of the pairs before registration, where it is known.
    """
    known = tuple(measured_points() if points is None else points)
    told = feature_values(_subjects(information))
    if not told:
        return Ceiling(None, None, None, "No ceiling: no subject with labels and information was measured.")
    if overlap is not None:
        told[OVERLAP] = _logit(overlap)
    chosen = _chosen(known, told)
    if chosen is None:
        return Ceiling(None, None, None, "No ceiling: fewer than three families of data sets were measured so far.")
    return _worded(_predicted(known, told, chosen.best), chosen)


def measured_points() -> list[CeilingPoint]:
    """Returns the points that regbench ships."""
    return list(_shipped())


@lru_cache(maxsize=1)
def _shipped() -> tuple[CeilingPoint, ...]:
    found = json.loads(_POINTS.read_text(encoding="utf-8"))["points"]
    return tuple(
        CeilingPoint(
            one["family"], f"{one['dataset']}, {one['condition']}", one["features"] | _overlap(one), one["best_dice"]
        )
        for one in found
    )


def _overlap(point: Mapping[str, Any]) -> dict[str, float]:
    return {} if point.get("identity_dice") is None else {OVERLAP: _logit(point["identity_dice"])}


# -- facts --------------------------------------------------------------------------------------------


def _subjects(information: Any) -> list[Mapping[str, Any]]:
    """Returns the subjects of a survey, of its JSON, or as they are given."""
    if not isinstance(information, Mapping | Sequence) and hasattr(information, "as_json"):
        information = information.as_json()
    listed = information.get("subjects", ()) if isinstance(information, Mapping) else information
    return [one if isinstance(one, Mapping) else vars(one) for one in listed]


def feature_values(subjects: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns the facts that predictions are made of, as means over subjects; {} without any subject measured."""
    rows = [row for one in subjects if (row := _facts(one))]
    if not rows:
        return {}
    found = {name: [row[name] for row in rows if name in row] for name in FEATURES}
    return {name: float(np.mean(values)) for name, values in found.items() if len(values) == len(rows)}


def _facts(one: Mapping[str, Any]) -> dict[str, float]:
    """Returns the facts of one subject."""
    mi, voxels, labels = (_finite(one.get(name)) for name in ("mi_nats", "voxels", "n_labels"))
    if mi is None or not voxels or not labels:
        return {}
    ndim = len(one.get("shape") or ()) or 3
    found = {
        "mi_nats": mi,
        "log_mi": math.log(max(mi, 1e-3)),
        "mi_ratio": _finite(one.get("mi_ratio")),
        "entropy_nats": _finite(one.get("label_entropy_nats")),
        # The edge in voxels of a square or cube as large as a label on average.
        "log_size": math.log(voxels / labels) / ndim,
        "visible_share": _finite(one.get("border_visible_share")),
        "mi_all_ratio": _finite(one.get("mi_all_ratio")),
    }
    return {name: value for name, value in found.items() if value is not None}


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


# -- fitting ------------------------------------------------------------------------------------------


def calibrations(points: Sequence[CeilingPoint], *, by: str = "family") -> list[Calibration]:
    """Returns how well each choice of facts predicts families (or label sets) that were left out one by one."""
    groups = _groups(points, by)
    found = []
    for features in CANDIDATES:
        usable = [point for point in points if all(name in point.features for name in features)]
        if len({_group(p, by) for p in usable}) == len(groups) >= _FEWEST_FAMILIES:
            found.append(_calibration(usable, features, by))
    return found


def _group(point: CeilingPoint, by: str) -> str:
    return point.family if by == "family" else point.name


def _groups(points: Sequence[CeilingPoint], by: str) -> list[str]:
    return list(dict.fromkeys(_group(point, by) for point in points))


@dataclass(frozen=True)
class _Chosen:
    """The facts that are used, beside none of them and the information alone; `by_set` leaves out label sets."""

    best: Calibration
    base: Calibration
    information: Calibration | None
    by_set: Calibration


def _chosen(points: Sequence[CeilingPoint], told: Mapping[str, float]) -> _Chosen | None:
    """Returns the facts to predict with, of those that are known here; None with too few families."""
    found = [one for one in calibrations(points) if all(name in told for name in one.features)]
    if not found:
        return None
    base = found[0]
    useful = [one for one in found[1:] if one.spread <= (1 - _LEAST_GAIN) * base.spread]
    best = min(useful, key=lambda one: (round(one.spread, 3), len(one.features)), default=base)
    information = next((one for one in found if one.features == ("mi_nats",)), None)
    return _Chosen(best, base, information, _calibration(points, best.features, "name"))


def _calibration(points: Sequence[CeilingPoint], features: tuple[str, ...], by: str) -> Calibration:
    """Returns the errors where groups are left out; the interval of each is made without it as well."""
    groups = _groups(points, by)
    errors: dict[str, list[float]] = {group: [] for group in groups}
    inside: dict[str, list[bool]] = {group: [] for group in groups}
    residuals: dict[str, list[float]] = {group: [] for group in groups}
    for group in groups:
        rest = [point for point in points if _group(point, by) != group]
        coefficients = _fit(rest, features)
        spread, degrees = _spread(rest, features, by)
        for point in (p for p in points if _group(p, by) == group):
            guess = _at(coefficients, point.features, features)
            errors[group].append(abs(_dice(guess) - point.dice))
            residuals[group].append((guess - _logit(point.dice)) ** 2)
            inside[group].append(math.sqrt(residuals[group][-1]) <= _t(degrees) * spread)
    return Calibration(
        features,
        float(np.mean([np.mean(values) for values in errors.values()])),
        float(np.mean([np.mean(values) for values in inside.values()])),
        math.sqrt(float(np.mean([np.mean(values) for values in residuals.values()]))),
        len(points),
        len(groups),
    )


def _spread(points: Sequence[CeilingPoint], features: tuple[str, ...], by: str) -> tuple[float, int]:
    """Returns the root mean square error where groups are left out, on the logit scale, and degrees of freedom."""
    squares = []
    groups = _groups(points, by)
    for group in groups:
        coefficients = _fit([p for p in points if _group(p, by) != group], features)
        left = [p for p in points if _group(p, by) == group]
        squares.append(np.mean([(_at(coefficients, p.features, features) - _logit(p.dice)) ** 2 for p in left]))
    return math.sqrt(float(np.mean(squares))), max(len(groups) - 1, 1)


def _fit(points: Sequence[CeilingPoint], features: tuple[str, ...]) -> np.ndarray:
    """Returns the coefficients of least squares in which families count alike, a constant first."""
    counts = {family: sum(p.family == family for p in points) for family in {p.family for p in points}}
    weights = np.sqrt([1 / counts[p.family] for p in points])
    design = np.array([[1.0, *(p.features[name] for name in features)] for p in points])
    target = np.array([_logit(p.dice) for p in points])
    return np.asarray(np.linalg.lstsq(design * weights[:, np.newaxis], target * weights, rcond=1e-6)[0])


def _at(coefficients: np.ndarray, facts: Mapping[str, float], features: tuple[str, ...]) -> float:
    return float(sum(c * v for c, v in zip(coefficients, [1.0, *(facts[name] for name in features)], strict=True)))


def _logit(dice: float) -> float:
    share = min(max(dice, 0.01), 0.99)
    return math.log(share / (1 - share))


def _dice(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _t(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.975))


# -- words --------------------------------------------------------------------------------------------


def _predicted(
    points: Sequence[CeilingPoint], told: Mapping[str, float], calibration: Calibration
) -> tuple[float, float, float] | str:
    """Returns Dice with its bounds, or why there is none."""
    features = calibration.features
    lacking = [name for name in features if name not in told]
    if lacking:
        return f"{_NAMES[lacking[0]]} is not known for this label set"
    for name in features:
        measured = [point.features[name] for point in points if name in point.features]
        low, high = min(measured), max(measured)
        reach = _BEYOND * (high - low)
        if not low - reach <= told[name] <= high + reach:
            return (
                f"{_NAMES[name]} ({told[name]:.2f}) lies outside of what was measured so far ({low:.2f} to {high:.2f})"
            )
    usable = [point for point in points if all(name in point.features for name in features)]
    middle = _at(_fit(usable, features), told, features)
    reach = _t(calibration.n_families - 1) * calibration.spread * math.sqrt(1 + 1 / calibration.n_families)
    return _dice(middle), _dice(middle - reach), _dice(middle + reach)


def _worded(found: tuple[float, float, float] | str, chosen: _Chosen) -> Ceiling:
    """Returns the ceiling with its words."""
    used, by_set = chosen.best, chosen.by_set
    n = f"{used.n_points} measured points of {used.n_families} families of data sets"
    if isinstance(found, str):
        return Ceiling(None, None, None, f"No ceiling: {found}; {n} are known.", used, by_set)
    dice, low, high = found
    extent = f"Dice {dice:.2f}, 95 % interval {low:.2f} to {high:.2f}"
    if used.features:
        by = " and ".join(_NAMES[name] for name in used.features)
        told = f"Image-driven registration can be expected to reach {extent}, from {by}."
    else:
        told = (
            "Nothing that is known of images and labels predicts the Dice of other data sets better than their mean: "
            f"{extent}."
        )
    if high - low >= _USELESS_WIDTH:
        told += " That is too wide to decide anything: too little is known yet."
    errors = [f"{100 * used.error:.0f} Dice points on average ({100 * used.coverage:.0f} % inside of their interval)"]
    if used.features:
        errors.append(f"{100 * chosen.base.error:.0f} without any fact")
    if chosen.information is not None and used is not chosen.information:
        errors.append(f"{100 * chosen.information.error:.0f} from the information in nats alone")
    return Ceiling(
        dice, low, high,
        f"{told} Families of data sets, left out one by one, were missed by {', '.join(errors)}; label sets, left out "
        f"one by one, by {100 * by_set.error:.0f}. Known are {n}.",
        used, by_set,
    )  # fmt: skip
