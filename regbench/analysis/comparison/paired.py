"""Pairs as a sample: for methods in which chance has a part, and for two methods on the same pairs.

A regression is a mean change for the worse beyond the tolerance that is also significant: signed-rank test where
pairs share no subject, dyadic-robust where they do, Holm over all tests of a comparison, at 5 %. A change for the
worse beyond the tolerance that is not significant is inconclusive: it would be wrong to call it none. Tests of
differences that are all exactly zero do not count among the tests, for they cannot be false alarms.

Non-inferiority turns the question round: the whole 95 % interval of the difference must lie on the good side of the
margin. One that lies on its bad side, significantly (Holm again), is a regression; anything else is inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from regbench.analysis.comparison.baseline import rounding_slack
from regbench.analysis.comparison.golden import Group, gained_values, lost_values
from regbench.analysis.comparison.outcome import Check, Mode, Outcome, PairChange
from regbench.analysis.comparison.sides import CaseId, Sides
from regbench.analysis.comparison.tolerances import Tolerance, tolerance_of, worsening
from regbench.analysis.significance import PairedTest, holm, paired_test, pairs_needed, smallest_p
from regbench.analysis.statistics import MINIMUM_PAIRS, TOO_FEW_SUBJECTS, Interval
from regbench.metrics.table import METRICS

ALPHA = 0.05


@dataclass(frozen=True)
class Question:
    """A metric of a group with its differences per pair, positive where new is worse.

    `test` is of these differences; in non-inferiority mode of what exceeds the margin.
    """

    group: Group
    metric: str
    mode: Mode
    limit: float
    changes: tuple[PairChange, ...]
    broken: tuple[PairChange, ...]
    mended: tuple[PairChange, ...]
    worse: tuple[float, ...]
    test: PairedTest

    @property
    def is_tested(self) -> bool:
        """Returns whether this counts among the tests: it has a p-value, and not all differences are zero."""
        return self.test.p is not None and any(self.worse)

    @property
    def leaning(self) -> float:
        """Returns to which side the ranks of the differences lean, which a few large ones keep the mean from."""
        ranks = np.argsort(np.argsort(np.abs(self.worse)))
        return float(np.sum((ranks + 1) * np.sign(self.worse)))

    @property
    def worsening(self) -> Interval:
        """Returns the mean change for the worse with its interval, in the unit of the metric."""
        found = self.test.interval
        if self.mode != "noninferiority":
            return found
        low, high = (None if v is None else v + self.limit for v in (found.low, found.high))
        return replace(found, mean=found.mean + self.limit, low=low, high=high)


def ask(
    group: Group,
    cases: Sequence[CaseId],
    metrics: Sequence[str],
    sides: Sides,
    limits: Mapping[str, Tolerance],
    *,
    mode: Mode,
) -> list[Question]:
    """Returns the questions of a group; `limits` are tolerances, or margins in non-inferiority mode."""
    questions = []
    for metric in metrics:
        both = {case: values for case in cases if (values := sides.values(case, metric)) is not None}
        broken, mended = lost_values(metric, cases, sides), gained_values(metric, cases, sides)
        if not both and not broken:
            continue
        worse = [worsening(metric, before, after) for before, after in both.values()]
        if sides.base.is_file:
            # Baselines are rounded; what only that explains is no difference.
            firsts = [before for before, _ in both.values()]
            worse = [0.0 if abs(w) <= rounding_slack(b) else w for w, b in zip(worse, firsts, strict=True)]
        limit = (limits[metric] if mode == "noninferiority" else tolerance_of(metric, limits)).around(
            _mean([before for before, _ in both.values()])
        )
        shift = limit if mode == "noninferiority" else 0.0
        test = paired_test([w - shift for w in worse], [sides.subjects(case) for case in both])
        changes = _changes(both, worse, limit)
        questions.append(
            Question(group, metric, mode, limit, changes, tuple(broken), tuple(mended), tuple(worse), test)
        )
    return questions


def answer(questions: Sequence[Question], *, both_ways: bool = False) -> list[Check]:
    """Returns the checks of questions that are asked together, their p-values adjusted for their number.

    `both_ways` says that a change for the better is asked after as well, so that it too can be inconclusive.
    """
    adjusted = holm([question.test.p if question.is_tested else None for question in questions])
    n_tests = sum(p is not None for p in adjusted)
    return [_answer(question, p, n_tests, both_ways=both_ways) for question, p in zip(questions, adjusted, strict=True)]


def _answer(question: Question, p: float | None, n_tests: int, *, both_ways: bool) -> Check:
    outcome, text = _verdict(question, p, n_tests, both_ways=both_ways)
    if question.broken:
        one = question.broken[0]
        n = len(question.changes) + len(question.broken)
        text = f"{len(question.broken)} of {n} pairs without a value now (such as {one.pair}); of the others: {text}"
        outcome = "regression"
    bases = [change.base for change in question.changes if change.base is not None]
    news = [change.new for change in question.changes if change.new is not None]
    return Check(
        outcome,
        *question.group,
        question.metric,
        text,
        mode=question.mode,
        base=_mean(bases) if bases else None,
        new=_mean(news) if news else None,
        difference=_as_change(question),
        p=p,
        tolerance=question.limit,
        n=len(question.changes),
        pairs=(*question.broken, *(c for c in question.changes if c.outcome != "same"), *question.mended),
    )


def _verdict(question: Question, p: float | None, n_tests: int, *, both_ways: bool) -> tuple[Outcome, str]:
    if question.mode == "noninferiority":
        return _noninferior(question, p, n_tests)
    found, limit = question.worsening, question.limit
    if not any(question.worse) and question.worse:
        return "same", "identical in all pairs"
    if found.low is None:
        return "inconclusive", f"{_too_few(found)}, and the results are not the same"
    is_significant = p is not None and p < ALPHA
    # Rounding must not decide about a difference that lies exactly on the tolerance.
    if abs(found.mean) <= limit * (1 + 1e-9):
        return "same", f"within the tolerance of {limit:g}{_p(p)}"
    if is_significant and question.leaning * found.mean < 0:
        return (
            "inconclusive",
            f"most pairs are {'better' if found.mean > 0 else 'worse'}, a few much the other way{_p(p)}",
        )
    if is_significant:
        outcome: Outcome = "regression" if found.mean > 0 else "improvement"
        return outcome, f"{'worse' if found.mean > 0 else 'better'} by more than {limit:g}{_p(p)}"
    word = "worse" if found.mean > 0 else "better"
    text = f"{word} by more than {limit:g}, but not significantly{_p(p)}"
    if found.mean < 0 and not both_ways:
        return "same", text
    return "inconclusive", f"{text}{_needed(question, abs(found.mean), n_tests)}"


def _noninferior(question: Question, p: float | None, n_tests: int) -> tuple[Outcome, str]:
    found, margin = question.worsening, question.limit
    if question.worse and not any(question.worse):
        return "same", "identical in all pairs"
    if found.low is None or found.high is None:
        return "inconclusive", _too_few(found)
    if found.high < margin:
        return (
            ("improvement", "better, and not inferior") if found.high < 0 else ("same", f"not inferior by {margin:g}")
        )
    if found.low > margin and p is not None and p < ALPHA:
        return "regression", f"inferior by more than {margin:g}{_p(p)}"
    needed = _needed(question, abs(margin - found.mean), n_tests if found.mean > margin else 0)
    if found.low > margin:
        return "inconclusive", f"inferior by more than {margin:g}, but not significantly{_p(p)}{needed}"
    return "inconclusive", f"the interval holds the margin of {margin:g}{needed}"


def _needed(question: Question, half_width: float, n_tests: int) -> str:
    """Returns in words how many pairs would answer a question, for so many tests at once."""
    n = pairs_needed(question.test.interval, half_width)
    # Signs alone go no further than this with n pairs, whatever their sizes.
    if n is not None and n_tests and smallest_p(question.test) > 0:
        n = max(n, math.ceil(1 + math.log2(n_tests / ALPHA)))
    if n is None or n > 100_000:
        return "; no number of pairs that one could run would tell"
    if n <= question.test.n:
        reason = f"{n_tests} tests at once ask" if n_tests > 1 else "its ranks ask"
        return f"; {reason} for more pairs than these {question.test.n}"
    return f"; about {n} pairs would tell"


def _too_few(found: Interval) -> str:
    if found.method == TOO_FEW_SUBJECTS:
        return "the subjects are too few to tell a change from chance"
    pairs = "1 pair is" if found.n == 1 else f"{found.n} pairs are"
    return f"{pairs} too few to tell a change from chance, which takes {MINIMUM_PAIRS}"


def _as_change(question: Question) -> Interval:
    """Returns new minus base (of a metric with a target value: of the distances from it)."""
    found = question.worsening
    if METRICS[question.metric].direction != "higher":
        return found
    low, high = (None if v is None else -v or 0.0 for v in (found.high, found.low))
    return replace(found, mean=-found.mean or 0.0, low=low, high=high)


def _changes(
    both: Mapping[CaseId, tuple[float, float]], worse: Sequence[float], limit: float
) -> tuple[PairChange, ...]:
    """Returns the pairs, worst first, each with whether it alone changed by more than the limit."""
    cases, order = list(both.items()), sorted(range(len(both)), key=lambda i: -worse[i])
    outcomes: list[Outcome] = [
        "regression" if worse[i] > limit else "improvement" if worse[i] < -limit else "same" for i in order
    ]
    return tuple(PairChange(cases[i][0][3], *cases[i][1], outcome) for i, outcome in zip(order, outcomes, strict=True))


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return " (p < 0.001)" if p < 0.001 else f" (p = {p:.3f})" if p < 0.1 else f" (p = {p:.2f})"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
