"""What a change of the data costs: accuracy and folds against its strength, and the relative drop of accuracy.

A curve joins the conditions of one dataset that differ in the strength of one shift and in nothing else; the data as
they are stand at the strength that changes nothing. A drop is the paired change of accuracy in percent of the mean
without the shift, over the pairs that all compared methods finished under both conditions; it is positive where
accuracy got worse, whatever the direction of the metric. Its interval takes that mean for known.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regbench.analysis.groups import UNSHIFTED, Group, higher_is_better, paired_difference
from regbench.analysis.statistics import Interval
from regbench.errors import ConfigError
from regbench.shifts.table import SHIFTS, shift_class

# Two points and the data as they are make a curve; fewer are a comparison.
_FEWEST_STRENGTHS = 2

# The conditions of a run as run.json has them: label to name and parameters.
Conditions = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Curve:
    """The groups of one dataset under one shift, by strength, ascending; the data as they are among them.

    `shift` is its name, with the parameters that are not the default ones, and `unit` what its strength is.
    """

    dataset: str
    shift: str
    unit: str
    steps: tuple[tuple[float, Group], ...]


@dataclass(frozen=True)
class Drop:
    """What one shift costs one method, in percent of its accuracy without it; positive where accuracy got worse."""

    dataset: str
    condition: str
    method: str
    metric: str
    percent: Interval


def curves(groups: Sequence[Group], conditions: Conditions) -> list[Curve]:
    """Returns the curves that the groups of a run allow, in their order."""
    found: dict[tuple[str, str, str], list[tuple[float, Group]]] = {}
    for group in groups:
        if group.condition in conditions and group.condition != UNSHIFTED:
            name, others, strength = _taken_apart(conditions[group.condition])
            if name in SHIFTS and strength is not None:
                found.setdefault((group.dataset, name, others), []).append((strength, group))
    bases = _bases(groups)
    made = []
    for (dataset, name, others), steps in found.items():
        base = bases.get(dataset)
        if base is None or len({strength for strength, _ in steps}) < _FEWEST_STRENGTHS:
            continue
        whole = sorted([(SHIFTS[name].neutral, base), *steps], key=lambda step: step[0])
        made.append(Curve(dataset, _title(name, json.loads(others)), SHIFTS[name].unit, tuple(whole)))
    return made


def curved_conditions(groups: Sequence[Group], conditions: Conditions) -> set[str]:
    """Returns the conditions that lie on a curve, without the data as they are."""
    found = {group.condition for curve in curves(groups, conditions) for _, group in curve.steps}
    return found - {UNSHIFTED}


def drops(groups: Sequence[Group]) -> Iterator[Drop]:
    """Yields what every shift costs every method, by dataset and condition."""
    bases = _bases(groups)
    for shifted in groups:
        base = bases.get(shifted.dataset)
        if base is None or shifted is base or not base.accuracy_metric:
            continue
        for method in base.methods:
            percent = _drop(base, shifted, base.accuracy_metric, method.name)
            if percent is not None:
                yield Drop(shifted.dataset, shifted.condition, method.name, base.accuracy_metric, percent)


def _bases(groups: Sequence[Group]) -> dict[str, Group]:
    return {group.dataset: group for group in groups if group.condition == UNSHIFTED}


def _drop(base: Group, shifted: Group, metric: str, method: str) -> Interval | None:
    """The drop in percent; None without a common pair, or of something that was 0."""
    before, after = base.common_values(metric, method), shifted.common_values(metric, method)
    change = paired_difference(after, before)
    if not change:
        return None
    mean = sum(before[pair] for pair in change) / len(change)
    if mean == 0:
        return None
    scale = (-100.0 if higher_is_better(metric) else 100.0) / mean
    return base.interval({pair: scale * value for pair, value in change.items()})


def _taken_apart(condition: Mapping[str, Any]) -> tuple[str, str, float | None]:
    """The name of a shift, its parameters without the strength as text that can be compared, and the strength."""
    parameters = dict(condition.get("parameters") or {})
    strength = parameters.pop("strength", None)
    is_number = isinstance(strength, int | float) and not isinstance(strength, bool)
    return str(condition.get("name")), json.dumps(parameters, sort_keys=True), float(strength) if is_number else None


def _title(name: str, parameters: Mapping[str, Any]) -> str:
    """The name of a shift with those of its parameters that are not the default ones."""
    try:
        defaults = {spec.name: spec.default for spec in dataclasses.fields(shift_class(name))}
    except ConfigError:
        defaults = {}
    words = [name]
    for key, value in parameters.items():
        if value != defaults.get(key):
            words.append(f"on {value}" if key == "on" else f"{key} {value}")
    return " ".join(words) if len(words) < 3 else f"{words[0]} {', '.join(words[1:])}"
