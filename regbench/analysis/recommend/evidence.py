"""The policy `evidence`: a verdict from result rows.

What the situation excludes goes first. Then `decide` says which methods are surely within the margin of the best one;
among several the one is named that asks least of the user. Where no method can be named but a paradigm can, the verdict
is the paradigm with a shortlist. Everything else is undecided, with what to use until more is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regbench.analysis.groups import Row
from regbench.analysis.recommend import wording
from regbench.analysis.recommend.constraints import Facts, exclusions, facts_of
from regbench.analysis.recommend.decide import USUAL_LEVEL, Decision, decide
from regbench.analysis.recommend.outcome import KINDS, Evidence, Kind, Option, Recommendation, Verdict
from regbench.analysis.recommend.scores import Block, Scores, block_of, compared, gather, tabulate
from regbench.analysis.recommend.situation import DEFAULT_MARGIN, Situation
from regbench.analysis.verdicts import MARGINS

Runs = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Case:
    """A situation with what was measured, what it excludes, and what the rest allows to say."""

    situation: Situation
    scores: Scores
    facts: Mapping[str, Facts]
    excluded: Mapping[str, str]
    decision: Decision | None
    runs: tuple[str, ...]

    @property
    def margin(self) -> float:
        """Returns the margin in the unit of gains."""
        if self.scores.metric == "dice":
            return self.situation.margin
        return MARGINS.get(self.scores.metric, 0.1) * self.situation.margin / DEFAULT_MARGIN

    @property
    def missing_block(self) -> str | None:
        """Returns which kind of images the situation asks about and nothing was run on."""
        there = {block_of(key, self.situation) for key in self.scores.groups}
        if self.situation.modality == "multi":
            return None
        if self.situation.deploy in ("unknown", "shifted") and "shifted" not in there:
            return "images under a shift"
        return "images as they are" if self.situation.deploy != "shifted" and "same" not in there else None

    @property
    def out(self) -> dict[str, str]:
        return {**self.scores.left_out, **self.excluded}


def examine(rows: Sequence[Row], situation: Situation, runs: Runs = ()) -> Case | None:
    """Returns what the rows say of a situation; None where no accuracy was measured for it."""
    conditions = {label: entry for run in runs for label, entry in (run.get("conditions") or {}).items()}
    scores = gather(rows, situation, conditions)
    if scores is None or not scores.labels:
        return None
    facts = facts_of(list(rows), runs)
    excluded = exclusions(scores, facts, situation)
    tabulate(scores, [m for m in scores.labels if m not in excluded and m not in scores.left_out], situation)
    methods = compared(scores)
    names = tuple(dict.fromkeys(str(row.get("run") or "?") for row in rows))
    case = Case(situation, scores, facts, excluded, None, names)
    return replace(case, decision=decide(scores.blocks, methods, scores.kind, case.margin)) if methods else case


def verdict_of(case: Case) -> tuple[Verdict, str | None, tuple[str, ...], str]:
    """Returns the verdict, its method or its shortlist, and in which way it came about.

    The way is one of `method`, `paradigm`, `open`, `one paradigm`, `no evidence`, `conflict`, `nothing left`.
    """
    decision = case.decision
    if case.missing_block:
        return "undecided", None, (), "no evidence"
    if decision is None:
        return "undecided", None, (), "nothing left"
    if len(decision.paradigms) == 1 and not _others_are_excluded(case, decision.paradigms[0]):
        return "undecided", None, (), "one paradigm"
    method = _cheapest(case, decision.namable)
    if method is not None:
        if conflicting(case, method):
            return "undecided", None, (), "conflict"
        return case.scores.kind(method), method, (), "method"
    for kind in decision.paradigms:
        if decision.paradigm_is_namable(kind):
            return kind, None, _shortlist(decision, kind), "paradigm"
    return "undecided", None, (), "open"


def _others_are_excluded(case: Case, kind: Kind) -> bool:
    """Returns whether other paradigms were run and the situation rules out all of their methods."""
    others = [m for m in case.scores.labels if case.scores.kind(m) != kind]
    return bool(others) and all(m in case.excluded for m in others)


def effort(case: Case, method: str) -> tuple[int, float]:
    """Returns what a method asks of the user, for comparison: what must be trained or fetched, then seconds."""
    label, facts = case.scores.labels[method], case.facts.get(method)
    if label.paradigm == "classical":
        rank = 0
    elif facts is not None and facts.card is not None and not facts.is_own:
        rank = 1
    else:
        rank = 3 if label.supervision == "labels" else 2
    return rank, case.scores.seconds(method) or 0.0


def _cheapest(case: Case, methods: Sequence[str]) -> str | None:
    return min(methods, key=lambda m: (*effort(case, m), m), default=None)


def _shortlist(decision: Decision, kind: Kind) -> tuple[str, ...]:
    """Returns the methods of a paradigm that are not surely worse than its leader, the leader first."""
    own = decision.of(kind)
    place = decision.methods.index
    return tuple(m for m in own if m == own[0] or decision.usual[place(own[0]), place(m)] > 0)


def conflicting(case: Case, method: str) -> tuple[str, str, float, float] | None:
    """Returns a metric of true correspondence by which a method of another paradigm is surely ahead, and its interval.

    Overlap can be won without correspondence, so landmarks (or a known truth) that disagree are not averaged away.
    """
    if case.scores.metric != "dice" or case.decision is None:
        return None
    for metric in ("tre_mm", "epe_mm"):
        for rival in case.decision.methods:
            if case.scores.kind(rival) == case.scores.kind(method):
                continue
            found = []
            for block in case.scores.blocks:
                for stratum in block.strata:
                    groups = [case.scores.groups[stratum.dataset, c] for c in stratum.conditions]
                    if not all(m in g.values.get(metric, {}) for g in groups for m in (method, rival)):
                        continue
                    found += [_errors(group, metric, method, rival) for group in groups]
            sure = [interval for interval in found if interval.low is not None and interval.low > MARGINS[metric]]
            if found and len(sure) == len(found):
                mildest = min(sure, key=lambda interval: interval.mean)
                return metric, rival, mildest.mean, mildest.half_width or 0.0
    return None


def _errors(group: Any, metric: str, method: str, rival: str) -> Any:
    own, other = group.values[metric][method], group.values[metric][rival]
    return group.interval({pair: value - other[pair] for pair, value in own.items() if pair in other})


# -- what a verdict rests on --------------------------------------------------------------------------


def evidence_items(case: Case, subject: str) -> tuple[Evidence, ...]:
    """Returns a method against the best one of every other paradigm (of its own, if there is no other), per block."""
    decision = case.decision
    if decision is None:
        return ()
    found = []
    for block in case.scores.blocks:
        for rival in _rivals(case, subject, block):
            found.append(_over_all(case, block, subject, rival))
            if len(block.strata) > 1:
                found += [_over_all(case, Block(block.name, (s,)), subject, rival) for s in block.strata]
    return tuple(found)


def _rivals(case: Case, subject: str, block: Block) -> list[str]:
    assert case.decision is not None
    own = case.scores.kind(subject)
    kinds = [kind for kind in case.decision.paradigms if kind != own] or [own]
    best = [max((m for m in case.decision.of(kind) if m != subject), key=block.mean, default=None) for kind in kinds]
    return [rival for rival in best if rival is not None]


def _over_all(case: Case, block: Block, subject: str, rival: str) -> Evidence:
    """Returns the lead of a method over another one, over all datasets of a block."""
    mean, width = lead = block.lead(subject, rival, USUAL_LEVEL)
    is_known = bool(np.isfinite(width))
    return Evidence(
        metric=case.scores.metric,
        method=subject,
        reference=rival,
        effect=mean,
        low=mean - width if is_known else None,
        high=mean + width if is_known else None,
        unit=case.scores.unit,
        n_pairs=sum(len(stratum.subjects) for stratum in block.strata),
        n_subjects=sum(stratum.n_subjects for stratum in block.strata),
        dataset=wording.listed([stratum.dataset for stratum in block.strata]),
        condition=wording.block_words(block),
        source=wording.listed(case.runs),
        finding=wording.finding(lead, case.margin),
    )


_FRONT = ("dice", "hd95_mm", "tre_mm", "epe_mm", "fold_percent", "ndv_percent")


def options(case: Case) -> tuple[Option, ...]:
    """Returns all methods with their means over the common pairs without a shift, and which others dominate them."""
    methods = list(case.decision.methods) if case.decision else []
    means = {method: _means(case, method, methods) for method in methods}
    found = [_option(case, method, means[method], _dominating(method, means)) for method in methods]
    found += [_option(case, m, {}, None, reason) for m, reason in case.out.items() if m in case.scores.labels]
    return tuple(found)


def _means(case: Case, method: str, methods: Sequence[str]) -> dict[str, float]:
    """Returns the means of the metrics that every compared method has, over the first block, datasets alike."""
    block, found = case.scores.blocks[0], {}
    for metric in (*_FRONT, "register_s"):
        groups = [case.scores.groups[s.dataset, c] for s in block.strata for c in s.conditions]
        tables = [group.values.get(metric, {}) for group in groups]
        if not all(table.get(m) for table in tables for m in methods):
            continue
        if metric == case.scores.metric:
            found[metric] = block.mean(method) / case.scores.scale
            continue
        common = [[pair for pair in table[methods[0]] if all(pair in table[m] for m in methods)] for table in tables]
        if all(common):
            centre = np.median if metric == "register_s" else np.mean
            found[metric] = float(
                np.mean(
                    [centre([table[method][p] for p in pairs]) for table, pairs in zip(tables, common, strict=True)]
                )
            )
    return found


def _dominating(method: str, means: Mapping[str, Mapping[str, float]]) -> str | None:
    """Returns a method that is at least as good in every metric and better in one; the most accurate such."""
    own = means[method]
    better = []
    for other, theirs in means.items():
        if other == method:
            continue
        gains = [(theirs[m] - own[m]) * (1 if m == "dice" else -1) for m in own if m in theirs]
        if gains and min(gains) >= 0 and max(gains) > 0:
            better.append((-theirs.get("dice", 0.0), other))
    return min(better)[1] if better else None


def _option(case: Case, method: str, means: Mapping[str, float], by: str | None, reason: str | None = None) -> Option:
    facts = case.facts.get(method)
    return Option(
        method=method,
        kind=case.scores.kind(method),
        means=means,
        seconds=case.scores.seconds(method),
        device=wording.listed(facts.devices) if facts and facts.devices else "?",
        failed=case.scores.failed.get(method, 0),
        cases=case.scores.cases.get(method, 0),
        dominated_by=by,
        excluded=reason,
    )


__all__ = ["KINDS", "Case", "Recommendation", "evidence_items", "examine", "options", "verdict_of"]
