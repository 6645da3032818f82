"""What a comparison finds: one check per question, with a verdict in words and the exit code of all of them.

A check is about one metric (or the status, or the inputs) of one method on one dataset under one condition. Its
outcome is one of

    regression       worse beyond the tolerance (and, where pairs are tested, significantly so), or a new failure
    not comparable   the inputs or the definition of the metric are not the same
    inconclusive     the pairs leave open what was asked
    improvement      the mirror image of a regression
    same             no change beyond the tolerance was shown
    skipped          not compared, and the text says why
    new              not in the base
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from regbench.analysis.statistics import Interval

SCHEMA = 1
# Exit codes of the command line, as in its contract.
ALL_GOOD, REGRESSION, INCONCLUSIVE, NOT_COMPARABLE, NOTHING_COMPARED = 0, 1, 3, 4, 5

Outcome = Literal["regression", "not comparable", "inconclusive", "improvement", "same", "skipped", "new"]
OUTCOMES: tuple[Outcome, ...] = (
    "regression",
    "not comparable",
    "inconclusive",
    "improvement",
    "same",
    "skipped",
    "new",
)
Mode = Literal["golden", "paired", "noninferiority"]
STATUS, INPUTS = "status", "inputs"


@dataclass(frozen=True)
class PairChange:
    """How a value of one pair changed, in the unit of the metric; `text` where there is no number to show."""

    pair: str
    base: float | None
    new: float | None
    outcome: Outcome
    text: str = ""


@dataclass(frozen=True)
class Check:
    """One question and its answer.

    `what` is a metric, "status" or "inputs"; `mode` is how it was compared. `base` and `new` are means over `n` pairs
    in the unit of the metric. `difference` is new minus base (for a metric with a target value, of the distances from
    it), for times and memory the ratio of new to base. `p` is adjusted for the number of tests. `pairs` are those
    that changed, worst first.
    """

    outcome: Outcome
    dataset: str
    condition: str
    method: str
    what: str
    text: str
    mode: Mode | Literal["cost", "status", "inputs"] = "golden"
    base: float | None = None
    new: float | None = None
    difference: Interval | None = None
    p: float | None = None
    tolerance: float | None = None
    n: int = 0
    pairs: tuple[PairChange, ...] = ()

    @property
    def place(self) -> str:
        """Returns what the check is about without its metric, like 'cohort, gamma, demons'."""
        condition = "" if self.condition == "none" else self.condition
        return ", ".join(part for part in (self.dataset, condition, self.method) if part) or "all cases"

    @property
    def json(self) -> dict[str, Any]:
        """Returns the check as strict JSON data."""
        found = self.difference
        return {
            "outcome": self.outcome,
            "dataset": self.dataset,
            "condition": self.condition,
            "method": self.method,
            "metric": self.what,
            "mode": self.mode,
            "base": _finite(self.base),
            "new": _finite(self.new),
            "difference": None if found is None else _finite(found.mean),
            "ci_low": None if found is None else _finite(found.low),
            "ci_high": None if found is None else _finite(found.high),
            "interval_method": None if found is None else found.method,
            "p": _finite(self.p),
            "tolerance": _finite(self.tolerance),
            "n": self.n,
            "text": self.text,
            "pairs": [
                {
                    "pair": change.pair,
                    "base": _finite(change.base),
                    "new": _finite(change.new),
                    "outcome": change.outcome,
                    "text": change.text,
                }
                for change in self.pairs
            ],
        }


@dataclass(frozen=True)
class ModeChoice:
    """How the values of a method were compared, and why in this way."""

    method: str
    mode: Mode
    reason: str


@dataclass(frozen=True)
class Comparison:
    """All checks of a comparison.

    `between_methods` says that base and new are two methods, so that worse is no regression of anything in time.
    """

    base: str
    new: str
    checks: tuple[Check, ...]
    modes: tuple[ModeChoice, ...] = ()
    notes: tuple[str, ...] = ()
    n_values: int = 0
    between_methods: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """Returns the number of checks by outcome."""
        return {outcome: sum(check.outcome == outcome for check in self.checks) for outcome in OUTCOMES}

    @property
    def exit_code(self) -> int:
        counts = self.counts
        if counts["regression"]:
            return REGRESSION
        if counts["not comparable"]:
            return NOT_COMPARABLE
        if counts["inconclusive"]:
            return INCONCLUSIVE
        return ALL_GOOD if counts["same"] + counts["improvement"] else NOTHING_COMPARED

    @property
    def verdict(self) -> str:
        """Returns the answer in a few words."""
        if self.between_methods:
            return {REGRESSION: "worse", ALL_GOOD: "not worse"}.get(self.exit_code, _VERDICTS[self.exit_code])
        return _VERDICTS[self.exit_code]

    @property
    def headline(self) -> str:
        """Returns the answer with the numbers of checks behind it, as one sentence."""
        if self.exit_code == NOTHING_COMPARED:
            return f"Nothing was compared: {self.base} and {self.new} have no case with a value in common."
        counts = self.counts
        names = {"regression": "worse", "improvement": "better"}
        told = [
            f"{counts[outcome]} {names.get(outcome, outcome)}"
            for outcome in OUTCOMES
            if counts[outcome] and outcome not in ("new",)
        ]
        checks = sum(counts.values()) - counts["new"]
        values = f" of {self.n_values} values" if self.n_values else ""
        return f"{checks} check{'' if checks == 1 else 's'}{values} against {self.base}: {', '.join(told)}."

    def of(self, *outcomes: Outcome) -> list[Check]:
        """Returns the checks with these outcomes, in the order in which outcomes are given."""
        return [check for outcome in outcomes for check in self.checks if check.outcome == outcome]

    @property
    def json(self) -> dict[str, Any]:
        """Returns the comparison as strict JSON data."""
        return {
            "schema": SCHEMA,
            "base": self.base,
            "new": self.new,
            "exit_code": self.exit_code,
            "verdict": self.verdict,
            "headline": self.headline,
            "counts": self.counts,
            "n_values": self.n_values,
            "between_methods": self.between_methods,
            "modes": [{"method": m.method, "mode": m.mode, "reason": m.reason} for m in self.modes],
            "notes": list(self.notes),
            "checks": [check.json for check in self.of(*OUTCOMES)],
        }


_VERDICTS = {
    ALL_GOOD: "no regression",
    REGRESSION: "regression",
    INCONCLUSIVE: "inconclusive",
    NOT_COMPARABLE: "not comparable",
    NOTHING_COMPARED: "nothing compared",
}


def joined(names: Iterable[str], limit: int = 4) -> str:
    """Returns names as a list in a sentence; of many only the first."""
    names = list(dict.fromkeys(names))
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
