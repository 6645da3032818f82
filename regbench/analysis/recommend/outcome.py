"""What a recommendation says: the verdict, and everything that a reader needs to check it.

All texts are sentences for people; numbers stand beside them for programs. Gains are positive where better: in Dice
points (100 times Dice) for Dice, in mm for errors. Nothing here depends on the clock or on the order of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from regbench.analysis.recommend.situation import Situation

Kind = Literal["classical", "learned (unsupervised)", "learned (supervised)", "hybrid"]
Verdict = Literal["classical", "learned (unsupervised)", "learned (supervised)", "hybrid", "undecided"]
Policy = Literal["evidence", "jena2024", "prior"]
# From what asks least of the user to what asks most: nothing to train, images, images and time per pair, labels.
KINDS: tuple[Kind, ...] = ("classical", "learned (unsupervised)", "hybrid", "learned (supervised)")
DECIDED, UNDECIDED, NOTHING = 0, 3, 5


@dataclass(frozen=True)
class Evidence:
    """One measured or published comparison: the gain of a method over another one, positive where it is better.

    The interval is None where the data are too few for one. `source` is the runs, or the citation.
    """

    metric: str
    method: str
    reference: str
    effect: float
    low: float | None
    high: float | None
    unit: str
    n_pairs: int
    n_subjects: int
    dataset: str
    condition: str
    source: str
    finding: str


@dataclass(frozen=True)
class Option:
    """A method that was considered: its place on the front of several metrics, and what it costs.

    `means` are over the pairs that count, in the unit of the metric; `dominated_by` is another method that is at least
    as good in all of them and better in one. `excluded` says why it is out, None where it is not.
    """

    method: str
    kind: str
    means: Mapping[str, float]
    seconds: float | None
    device: str
    failed: int
    cases: int
    dominated_by: str | None = None
    excluded: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A run that would help to decide: what to run, about how long it takes, and the config that runs it."""

    text: str
    methods: tuple[str, ...]
    n_pairs: int
    conditions: tuple[str, ...]
    minutes: float | None


@dataclass(frozen=True)
class Rule:
    """What the rule of the paper says here, in its own words, and whether that agrees with the evidence."""

    verdict: str
    text: str
    quote: str
    agrees: bool | None
    comparison: str


@dataclass(frozen=True)
class Recommendation:
    """A verdict with its reasons.

    `method` is the one to use, None where the verdict names no single one; then `shortlist` has those of the paradigm
    that cannot be told apart, the best one first. `provisional` is what to use where nothing is decided.
    """

    policy: Policy
    situation: Situation
    verdict: Verdict
    summary: str
    method: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    shortlist: tuple[str, ...] = ()
    provisional: str | None = None
    leaning: str | None = None
    evidence: tuple[Evidence, ...] = ()
    options: tuple[Option, ...] = ()
    costs: tuple[str, ...] = ()
    risks: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    notes: tuple[str, ...] = ()
    rule: Rule | None = None
    is_empty: bool = False

    @property
    def exit_code(self) -> int:
        """Returns 0 for a verdict, 3 where it is undecided, 5 where there was nothing to go by."""
        if self.is_empty:
            return NOTHING
        return UNDECIDED if self.verdict == "undecided" else DECIDED

    @property
    def to_use(self) -> str | None:
        """Returns the method to use now: the one of the verdict, the first of the shortlist, or a provisional one."""
        return self.method or next(iter(self.shortlist), None) or self.provisional
