"""Value by value: every pair within the tolerance of the metric. For methods that give the same result every time.

Status comes before values in every mode: a case that lost its result is a regression, one that gained it an
improvement, and so is a single value of a case.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from regbench.analysis.comparison.baseline import rounding_slack
from regbench.analysis.comparison.outcome import STATUS, Check, Outcome, PairChange
from regbench.analysis.comparison.sides import CaseId, Side, Sides
from regbench.analysis.comparison.tolerances import Tolerance, tolerance_of, worsening
from regbench.metrics.table import METRICS

Group = tuple[str, str, str]


def grouped(cases: Iterable[CaseId]) -> dict[Group, list[CaseId]]:
    """Returns cases by dataset, condition and method."""
    found: dict[Group, list[CaseId]] = {}
    for case in cases:
        found.setdefault(case[:3], []).append(case)
    return found


def status_checks(cases: Sequence[CaseId], sides: Sides) -> list[Check]:
    """Returns a check for each group of cases in which results were lost or gained, or that the base lacks."""
    base, new = sides.base, sides.new
    checks = []
    for group, members in grouped(cases).items():
        lost, gained, added = [], [], []
        for case in members:
            before, after = _state(case, base), _state(case, new)
            if before is None:
                added.append(case)
            elif after is None:
                lost.append(PairChange(case[3], None, None, "regression", "the case is missing"))
            elif after > before:
                lost.append(PairChange(case[3], None, None, "regression", new.failures[case][-1]))
            elif after < before:
                gained.append(PairChange(case[3], None, None, "improvement", f"was {base.failures[case][-1]}"))
        n = len(members)
        if lost:
            where = _count(lost, n)
            first = f"{lost[0].pair}: {lost[0].text}"
            text = f"{where} no result any more (first: {first})"
            checks.append(Check("regression", *group, STATUS, text, mode="status", n=n, pairs=(*lost, *gained)))
        elif gained:
            text = f"{_count(gained, n)} a result that failed before (first: {gained[0].pair})"
            checks.append(Check("improvement", *group, STATUS, text, mode="status", n=n, pairs=tuple(gained)))
        if added:
            text = f"{len(added)} pair{'' if len(added) == 1 else 's'} not in the base (such as {added[0][3]})"
            checks.append(Check("new", *group, STATUS, text, mode="status", n=len(added)))
    return checks


def _state(case: CaseId, side: Side) -> int | None:
    """Returns how many results a case lacks (its repeats that failed), or None for a case that is not there."""
    if case not in side.values and case not in side.failures:
        return None
    return len(side.failures.get(case, ()))


def _count(changes: Sequence[PairChange], n: int) -> str:
    if n == 1:
        return "the one pair has"
    return f"{len(changes)} of {n} pairs {'has' if len(changes) == 1 else 'have'}"


def lost_values(metric: str, cases: Iterable[CaseId], sides: Sides) -> list[PairChange]:
    """Returns the pairs that have a result and whose value of a metric is gone."""
    base, new = sides.base, sides.new
    return [
        PairChange(case[3], base.values[case][metric], None, "regression", "no value any more")
        for case in cases
        if metric in base.values.get(case, {}) and case in new.values and metric not in new.values[case]
    ]


def gained_values(metric: str, cases: Iterable[CaseId], sides: Sides) -> list[PairChange]:
    """Returns the pairs whose value of a metric was missing and is there now."""
    base, new = sides.base, sides.new
    return [
        PairChange(case[3], None, new.values[case][metric], "improvement", "had no value")
        for case in cases
        if case in base.values and metric not in base.values[case] and metric in new.values.get(case, {})
    ]


def golden_checks(
    group: Group, cases: Sequence[CaseId], metrics: Sequence[str], sides: Sides, given: Mapping[str, Tolerance]
) -> list[Check]:
    """Returns a check per metric of a group, each over all of its pairs."""
    found = (_golden_check(group, cases, metric, sides, tolerance_of(metric, given)) for metric in metrics)
    return [check for check in found if check is not None]


def _golden_check(
    group: Group, cases: Sequence[CaseId], metric: str, sides: Sides, tolerance: Tolerance
) -> Check | None:
    both = {case: values for case in cases if (values := sides.values(case, metric)) is not None}
    missing, gained = lost_values(metric, cases, sides), gained_values(metric, cases, sides)
    n = len(both) + len(missing) + len(gained)
    if not n:
        return None
    changes = [_change(case[3], metric, before, after, tolerance=tolerance) for case, (before, after) in both.items()]
    worse = [*missing, *(change for change in changes if change.outcome == "regression")]
    better = [*(change for change in changes if change.outcome == "improvement"), *gained]
    outcome: Outcome = "regression" if worse else "improvement" if better else "same"
    before, after = (_mean([value[i] for value in both.values()]) for i in (0, 1))
    return Check(
        outcome,
        *group,
        metric,
        _text(metric, worse, better, n=n, tolerance=tolerance),
        base=before,
        new=after,
        tolerance=tolerance.amount if before is None else tolerance.around(before),
        n=len(both),
        pairs=(*_worst_first(worse, metric), *reversed(_worst_first(better, metric))),
    )


def _change(pair: str, metric: str, before: float, after: float, *, tolerance: Tolerance) -> PairChange:
    worse = worsening(metric, before, after)
    # Baselines are rounded; a value exactly on the tolerance is within it.
    slack = tolerance.around(before) + rounding_slack(before)
    outcome: Outcome = "same" if abs(worse) <= slack else "regression" if worse > 0 else "improvement"
    return PairChange(pair, before, after, outcome)


def _worst_first(changes: Sequence[PairChange], metric: str) -> list[PairChange]:
    def size(change: PairChange) -> float:
        if change.base is None or change.new is None:
            return float("inf") if change.outcome == "regression" else float("-inf")
        return worsening(metric, change.base, change.new)

    return sorted(changes, key=size, reverse=True)


def _text(
    metric: str, worse: Sequence[PairChange], better: Sequence[PairChange], *, n: int, tolerance: Tolerance
) -> str:
    """Returns how many pairs changed beyond the tolerance and which one most."""
    if not worse and not better:
        return f"all {n} pairs within {tolerance}" if n > 1 else f"the one pair within {tolerance}"
    changes, word = (worse, "worse") if worse else (better, "better")
    text = f"{len(changes)} of {n} pairs {word} by more than {tolerance}"
    most = _worst_first(changes, metric)[0 if worse else -1]
    missing = [change for change in changes if change.base is None or change.new is None]
    if len(missing) == len(changes):
        text = f"{len(missing)} of {n} pairs {'without a value now' if worse else 'with a value that was missing'}"
    if worse and better:
        text += f", {len(better)} better"
    if most.base is None or most.new is None:
        return f"{text} (such as {most.pair}: {_missing_words(most)})"
    return f"{text} (most: {most.pair}, {most.base:.4g} to {most.new:.4g}{_unit(metric)})"


def _missing_words(change: PairChange) -> str:
    if change.base is None:
        return f"had no value, now {change.new:.4g}"
    return f"was {change.base:.4g}, no value now"


def _unit(metric: str) -> str:
    unit = METRICS[metric].unit
    return "" if unit == "1" else f" {unit}"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
