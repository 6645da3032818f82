"""Seconds and memory of two sides, as ratios; only where both were measured under equal circumstances.

Equal are the CPU model, the number of cores and the GPU, the number of threads, and cases that ran one at a time
(`timing: exclusive`; for memory that does not matter). Per pair the logarithm of the ratio new / base is taken, its
mean over conditions and repeats first, then over pairs with its interval; ratios are tested with that interval (their
noise is that of a clock, not of anatomy), Holm over the tests of all methods.

A time under `SHORTEST_S` on both sides is the noise of a call, and is left out. Seconds of two runs that differ where
the CPU seconds do not are no finding: the machine was busier once, or less of the work ran in parallel, and only a run
of both in turn can tell (`regbench.interleaved`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from regbench.analysis.comparison.outcome import Check, Outcome, PairChange
from regbench.analysis.comparison.paired import ALPHA
from regbench.analysis.comparison.sides import CPU_SECONDS, CaseId, Side, Sides
from regbench.analysis.comparison.tolerances import COST_TOLERANCES, Tolerance, tolerance_of
from regbench.analysis.significance import holm
from regbench.analysis.statistics import MINIMUM_PAIRS, TOO_FEW_SUBJECTS, Interval, mean_interval_and_p

SHORTEST_S = 0.01


@dataclass(frozen=True)
class _Ratios:
    """The logarithms of new / base of one cost of one method on one dataset, by pair."""

    dataset: str
    method: str
    metric: str
    tolerance: Tolerance
    logs: dict[str, float]
    bases: dict[str, float]
    news: dict[str, float]
    interval: Interval
    p: float | None


def cost_checks(
    cases: Sequence[CaseId], sides: Sides, given: Mapping[str, Tolerance], *, in_turn: bool = False
) -> list[Check]:
    """Returns a check per dataset, method and cost, over the cases that both sides finished.

    `in_turn` says that the cases of the two sides ran alternately.
    """
    base, new = sides.base, sides.new
    if base.is_file or new.is_file:
        return []
    found: list[_Ratios] = []
    skipped: list[Check] = []
    for (dataset, method), members in _by_method(cases).items():
        for metric in COST_TOLERANCES:
            both = [c for c in members if all(metric in side.facts_of(c).costs for side in (base, new))]
            if not both:
                continue
            reason = _obstacle(both, metric, sides)
            kept = [case for case in both if not _is_short(case, metric, sides)]
            if reason is None and not kept:
                reason = f"every call took less than {1000 * SHORTEST_S:.0f} ms"
            if reason is not None:
                skipped.append(Check("skipped", dataset, "", method, metric, reason, mode="cost"))
            else:
                found.append(_ratios((dataset, method), metric, kept, sides, tolerance_of(metric, given)))
    adjusted = holm([ratios.p for ratios in found])
    checks = [_check(ratios, p) for ratios, p in zip(found, adjusted, strict=True)]
    if not in_turn:
        checks = [_unless_busy(check, cases, sides) for check in checks]
    return [*checks, *skipped]


def _unless_busy(check: Check, cases: Sequence[CaseId], sides: Sides) -> Check:
    """Returns a check of seconds as skipped if the CPU seconds did not change with them."""
    if check.what != "register_s" or check.outcome not in ("regression", "inconclusive", "improvement"):
        return check
    members = [
        case
        for case in cases
        if (case[0], case[2]) == (check.dataset, check.method)
        and all(CPU_SECONDS in side.facts_of(case).costs for side in (sides.base, sides.new))
        and not str(sides.new.facts_of(case).device).startswith("cuda")
        and not _is_short(case, "register_s", sides)
    ]
    if not members or check.difference is None or check.tolerance is None:
        return check
    before, after = (_logs(members, CPU_SECONDS, side) for side in (sides.base, sides.new))
    ratio = math.exp(sum(after[pair] - before[pair] for pair in before) / len(before))
    slower = check.difference.mean > 1
    if (ratio > 1 + check.tolerance) if slower else (ratio < 1 / (1 + check.tolerance)):
        return check
    text = (
        f"a ratio of {check.difference.mean:.2f}, of CPU seconds {ratio:.2f}: the machine was busier once, or less "
        "ran in parallel; --timing-in-one-run tells"
    )
    return Check("skipped", check.dataset, "", check.method, check.what, text, mode="cost")


def _by_method(cases: Sequence[CaseId]) -> dict[tuple[str, str], list[CaseId]]:
    found: dict[tuple[str, str], list[CaseId]] = {}
    for case in cases:
        found.setdefault((case[0], case[2]), []).append(case)
    return found


def _obstacle(cases: Sequence[CaseId], metric: str, sides: Sides) -> str | None:
    """Returns why a cost of these cases cannot be compared, or None."""
    for case in cases:
        before, after = sides.base.facts_of(case), sides.new.facts_of(case)
        if before.hardware is None or after.hardware is None:
            return "the hardware is not recorded"
        if before.hardware != after.hardware:
            return f"other hardware ({before.hardware}; now {after.hardware})"
        if before.threads != after.threads:
            return f"another number of threads ({before.threads}, now {after.threads})"
        if before.device != after.device:
            return f"another device ({before.device}, now {after.device})"
        if metric != "register_s":
            continue
        modes = {facts.timing_mode for facts in (before, after)}
        if modes != {"exclusive"}:
            told = " and ".join(sorted(str(mode or "not recorded") for mode in modes))
            return f"cases did not run one at a time (timing: {told})"
    return None


def _is_short(case: CaseId, metric: str, sides: Sides) -> bool:
    return metric == "register_s" and all(
        side.facts_of(case).costs[metric] < SHORTEST_S for side in (sides.base, sides.new)
    )


def _ratios(
    place: tuple[str, str], metric: str, cases: Sequence[CaseId], sides: Sides, tolerance: Tolerance
) -> _Ratios:
    before, after = (_logs(cases, metric, side) for side in (sides.base, sides.new))
    logs = {pair: after[pair] - before[pair] for pair in before}
    subjects = {case[3]: sides.subjects(case) for case in cases}
    interval, p = mean_interval_and_p(list(logs.values()), [subjects[pair] for pair in logs])
    bases, news = ({pair: math.exp(value) for pair, value in side.items()} for side in (before, after))
    return _Ratios(*place, metric, tolerance, logs, bases, news, interval, p)


def _logs(cases: Sequence[CaseId], metric: str, side: Side) -> dict[str, float]:
    """Returns the mean logarithm of a cost over the conditions of each pair."""
    found: dict[str, list[float]] = {}
    for case in cases:
        # A clock may say zero.
        found.setdefault(case[3], []).append(math.log(max(side.facts_of(case).costs[metric], 1e-6)))
    return {pair: sum(values) / len(values) for pair, values in found.items()}


def _check(ratios: _Ratios, p: float | None) -> Check:
    limit = math.log1p(ratios.tolerance.amount)
    found = ratios.interval
    outcome, text = _verdict(found, p, limit, ratios)
    order = sorted(ratios.logs, key=lambda pair: -ratios.logs[pair])
    changes = tuple(
        PairChange(
            pair, ratios.bases[pair], ratios.news[pair], "regression" if ratios.logs[pair] > 0 else "improvement"
        )
        for pair in order
        if abs(ratios.logs[pair]) > limit
    )
    low, high = (None if v is None else math.exp(v) for v in (found.low, found.high))
    return Check(
        outcome,
        ratios.dataset,
        "",
        ratios.method,
        ratios.metric,
        text,
        mode="cost",
        base=_geometric_mean(ratios.bases.values()),
        new=_geometric_mean(ratios.news.values()),
        difference=replace(found, mean=math.exp(found.mean), low=low, high=high),
        p=p,
        tolerance=ratios.tolerance.amount,
        n=len(ratios.logs),
        pairs=changes,
    )


def _verdict(found: Interval, p: float | None, limit: float, ratios: _Ratios) -> tuple[Outcome, str]:
    more, less = ("slower", "faster") if ratios.metric == "register_s" else ("more", "less")
    factor = math.exp(abs(found.mean))
    told = f"{factor:.2f} times {'as slow' if more == 'slower' else 'as much'}"
    if found.mean < 0:
        told = f"{factor:.2f} times {'as fast' if less == 'faster' else 'less'}"
    within = f"a ratio of {math.exp(found.mean):.2f}, within the tolerance of {ratios.tolerance}"
    if abs(found.mean) <= limit:
        return "same", within
    if found.low is None:
        few = "the subjects are too few" if found.method == TOO_FEW_SUBJECTS else f"{found.n} pairs are too few"
        hint = "" if found.method == TOO_FEW_SUBJECTS else f"; it takes {MINIMUM_PAIRS}"
        return ("inconclusive" if found.mean > 0 else "same"), f"{told}, but {few} to be sure{hint}"
    if p is not None and p < ALPHA:
        return (
            "regression" if found.mean > 0 else "improvement"
        ), f"{told}, more than the tolerance of {ratios.tolerance}"
    return ("inconclusive" if found.mean > 0 else "same"), f"{told}, but not significantly"


def _geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))
