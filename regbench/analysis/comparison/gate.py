"""`compare`: two sides in, all checks out.

First the status of every case, then whether inputs and definitions are the same, then values in the mode of each
method, then seconds and memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from regbench.analysis.comparison.baseline import read_side
from regbench.analysis.comparison.comparable import (
    changed_definitions,
    choose_modes,
    definition_checks,
    input_checks,
    notes_on,
)
from regbench.analysis.comparison.costs import cost_checks
from regbench.analysis.comparison.golden import golden_checks, grouped, status_checks
from regbench.analysis.comparison.outcome import OUTCOMES, Check, Comparison, Mode, ModeChoice
from regbench.analysis.comparison.paired import Question, answer, ask
from regbench.analysis.comparison.sides import CaseId, Side, Sides, side_of_rows
from regbench.analysis.comparison.tolerances import COST_TOLERANCES, Tolerance, checked, default_margins
from regbench.analysis.groups import ACCURACY_METRICS, Row
from regbench.errors import ConfigError
from regbench.metrics.table import METRICS
from regbench.parameters import nearest


@dataclass(frozen=True)
class Options:
    """How to compare: the mode (None: chosen for each method), tolerances and margins by metric, and which metrics.

    `only` restricts the metrics that are compared, which also keeps the family of tests small.
    """

    mode: Mode | None = None
    tolerances: Mapping[str, Tolerance | float] = field(default_factory=dict)
    margins: Mapping[str, Tolerance | float] = field(default_factory=dict)
    only: Sequence[str] = ()


def compare(base: Path | str, new: Path | str, options: Options | None = None) -> Comparison:
    """Returns how a run differs from a baseline file or another run. Raises StoreError and ConfigError."""
    return compare_sides(read_side(base), read_side(new), options)


def compare_golden(
    base: Path | str, new: Path | str, tolerances: Mapping[str, Tolerance | float] | None = None
) -> Comparison:
    """Returns the comparison value by value, whatever the methods are."""
    return compare(base, new, Options("golden", tolerances or {}))


def compare_methods(folder: Path | str, method: str, other: str, options: Options | None = None) -> Comparison:
    """Returns how the method `other` of a run stands against `method`, pair by pair."""
    return methods_of_runs(folder, folder, (method, other), options)


def methods_of_runs(
    base: Path | str, new: Path | str, methods: tuple[str, str], options: Options | None = None
) -> Comparison:
    """Returns how the second method, in the run `new`, stands against the first one, in the run `base`."""
    method, other = methods
    shown = f"{other} against {method}"
    sides = (read_side(base, method=method, shown=shown), read_side(new, method=other, shown=shown))
    found = compare_sides(*sides, options, between_methods=True)
    where = {True: "", False: f" of {base}"}[str(base) == str(new)]
    return replace(found, base=f"{method}{where}", new=f"{other} of {new}")


def compare_rows(base: Iterable[Row], new: Iterable[Row], options: Options | None = None) -> Comparison:
    """Returns the comparison of result rows without a run folder, such as simulated ones."""
    return compare_sides(side_of_rows(base, name="base"), side_of_rows(new, name="new"), options)


def compare_sides(
    base: Side,
    new: Side,
    options: Options | None = None,
    *,
    between_methods: bool = False,
    timed: Sides | None = None,
) -> Comparison:
    """Returns the comparison of two sides; `timed` are sides to take seconds from instead of these."""
    options = options or Options()
    tolerances, margins = checked(options.tolerances), checked(options.margins, "--margin")
    _refuse_useless(options, margins)
    sides = Sides(base, new)
    cases = [case for case in dict.fromkeys((*base.cases, *new.cases)) if case not in base.left_out | new.left_out]
    both = [case for case in cases if case in base.values and case in new.values]
    different, excluded = input_checks(both, sides)
    common = [case for case in both if case not in excluded]
    mode = options.mode or ("noninferiority" if margins else None)
    modes = choose_modes(common, sides, mode or ("paired" if between_methods else None))
    if between_methods and mode is None:
        modes = [replace(choice, reason="two methods on the same pairs") for choice in modes]
    checks = [
        *status_checks(cases, sides),
        *different,
        *(check for check in definition_checks(sides) if _is_wanted(check.what, options)),
        *_values(common, sides, modes, options, between_methods=between_methods),
    ]
    # What two methods cost differs by design; it is compared where a tolerance says so.
    if not between_methods or tolerances.keys() & COST_TOLERANCES.keys():
        found = _costs(common, sides, timed, tolerances)
        checks += [c for c in found if _is_wanted(c.what, options) and (not between_methods or c.what in tolerances)]
    n_values = sum(check.n for check in checks if check.mode in ("golden", "paired", "noninferiority"))
    ordered = sorted(checks, key=lambda check: OUTCOMES.index(check.outcome))
    notes = [*([] if between_methods else notes_on(sides, common)), *_left_out(sides)]
    return Comparison(base.name, new.name, tuple(ordered), tuple(modes), tuple(notes), n_values, between_methods)


def _values(
    cases: Sequence[CaseId],
    sides: Sides,
    modes: Sequence[ModeChoice],
    options: Options,
    *,
    between_methods: bool,
) -> list[Check]:
    """Returns the checks of values, those that are tested as one family."""
    tolerances, margins = checked(options.tolerances), checked(options.margins, "--margin")
    by_method = {choice.method: choice.mode for choice in modes}
    checks: list[Check] = []
    questions: list[Question] = []
    for group, members in grouped(cases).items():
        metrics = [name for name in _metrics(members, sides) if _is_wanted(name, options)]
        chosen = by_method[group[2]]
        if chosen == "golden":
            checks += golden_checks(group, members, metrics, sides, tolerances)
            continue
        limits = tolerances
        if chosen == "noninferiority":
            limits = margins or {name: m for name, m in default_margins().items() if name == _accuracy(metrics)}
            metrics = [name for name in metrics if name in limits]
        questions += ask(group, members, metrics, sides, limits, mode=chosen)
    return checks + answer(questions, both_ways=between_methods)


def _costs(
    cases: Sequence[CaseId], sides: Sides, timed: Sides | None, tolerances: Mapping[str, Tolerance]
) -> list[Check]:
    """Returns the checks of seconds and memory; seconds from a run of their own where there is one."""
    found = cost_checks(cases, sides, tolerances)
    if timed is None:
        return found
    again = [case for case in timed.base.cases if case in timed.new.values]
    seconds = [check for check in cost_checks(again, timed, tolerances, in_turn=True) if check.what == "register_s"]
    return [*seconds, *(check for check in found if check.what != "register_s")]


def _left_out(sides: Sides) -> list[str]:
    left = sides.base.left_out | sides.new.left_out
    n = len({(dataset, condition, pair) for dataset, condition, _, pair in left})
    return (
        [f"{n} case{'' if n == 1 else 's'} left out because one of the methods was trained on the pair."] if n else []
    )


def _metrics(cases: Sequence[CaseId], sides: Sides) -> list[str]:
    """Returns the metrics that the base has of these cases and whose definition is the same, in the table's order."""
    changed = changed_definitions(sides)
    have = {name for case in cases for name in sides.base.values[case]}
    return [name for name in METRICS if name in have and name not in changed]


def _accuracy(metrics: Sequence[str]) -> str | None:
    return next((name for name in ACCURACY_METRICS if name in metrics), None)


def _is_wanted(metric: str, options: Options) -> bool:
    return not options.only or metric in options.only


def _refuse_useless(options: Options, margins: Mapping[str, Any]) -> None:
    for name in options.only:
        if name not in METRICS:
            raise ConfigError(f"--metrics: unknown metric '{name}'{nearest(name, list(METRICS))}")
    for name in margins:
        if METRICS[name].function is None:
            raise ConfigError(f"--margin {name}: a margin is of a quality metric; for times use --tol {name}=20%")
    if margins and options.mode not in (None, "noninferiority"):
        raise ConfigError(f"--margin belongs to --mode noninferiority, not to {options.mode}")
