"""A recommendation from the evidence, put together: verdict, reasons, costs, risks, and what would change it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from regbench.analysis.groups import Row
from regbench.analysis.recommend import wording
from regbench.analysis.recommend.constraints import Facts
from regbench.analysis.recommend.decide import USUAL_LEVEL
from regbench.analysis.recommend.evidence import (
    Case,
    Runs,
    conflicting,
    effort,
    evidence_items,
    examine,
    options,
    verdict_of,
)
from regbench.analysis.recommend.experiments import further_runs, pairs_that_would_decide
from regbench.analysis.recommend.outcome import Recommendation
from regbench.analysis.recommend.rule import compared_with
from regbench.analysis.recommend.situation import Deploy, Situation
from regbench.leaks import is_left_out

# Below this share (in percent) folds are a few voxels of a whole volume.
_LEAST_FOLDS = 0.001
_ERRORS = {"tre_mm": "landmark error", "epe_mm": "error against the known truth"}


def advise(rows: Sequence[Row], situation: Situation, runs: Runs = (), *, explore: bool = True) -> Recommendation:
    """Returns the recommendation that result rows allow; `explore` also asks what other situations would give."""
    case = examine(rows, situation, runs)
    if case is None:
        return _nothing(rows, situation)
    verdict, method, shortlist, way = verdict_of(case)
    subject = method or (shortlist[0] if shortlist else _leader(case))
    made = Recommendation(
        policy="evidence",
        situation=situation,
        verdict=verdict,
        summary=_summary(case, way, subject, shortlist),
        method=method,
        settings=_settings(case, subject),
        shortlist=shortlist,
        provisional=subject if verdict == "undecided" else None,
        evidence=evidence_items(case, subject) if subject else (),
        options=options(case),
        costs=tuple(_costs(case, subject)),
        risks=tuple(_risks(case, rows, subject)),
        changes=tuple(_changes(case, rows, runs, verdict, way) if explore else ()),
        experiments=tuple(further_runs(case, way) if explore and verdict == "undecided" else ()),
        notes=tuple(dict.fromkeys(case.scores.notes)),
    )
    return replace(made, rule=compared_with(made))


def _nothing(rows: Sequence[Row], situation: Situation) -> Recommendation:
    leaked = sum(is_left_out(row) for row in rows)
    if not rows:
        told = "There are no results."
    elif situation.modality == "multi":
        told = "No pair of these runs has two modalities."
    elif leaked:
        told = f"No method has a usable result; {leaked} of {len(rows)} cases are of subjects it was trained on."
    else:
        told = "No method has an accuracy here: no case finished, or there are no labels, landmarks or known truth."
    made = Recommendation("evidence", situation, "undecided", told, is_empty=True)
    return replace(made, rule=compared_with(made))


def _leader(case: Case) -> str:
    return case.decision.leader if case.decision else ""


def _settings(case: Case, method: str) -> dict[str, object]:
    facts = case.facts.get(method)
    if facts is None:
        return {}
    # A label of the user's own does not say which method it is.
    return {**({"method": facts.name} if facts.name != method else {}), **facts.settings}


# -- the verdict in words -----------------------------------------------------------------------------


def _summary(case: Case, way: str, subject: str, shortlist: Sequence[str]) -> str:
    decision = case.decision
    margin = f"{case.margin:g} {case.scores.unit}"
    if way == "no evidence" and decision is None:
        return f"Nothing was run on {case.missing_block}, which this situation asks about."
    if way == "nothing left" or decision is None:
        if case.out:
            return "No method is left: " + "; ".join(f"{m} {reason}" for m, reason in case.out.items()) + "."
        return "No pair has results of the methods that are left."
    if way == "no evidence":
        return (
            f"Nothing was run on {case.missing_block}, which this situation asks about. On the others, {subject} is "
            f"{'ahead' if len(decision.methods) > 1 else 'alone'}."
        )
    if way == "one paradigm":
        only = case.scores.kind(subject)
        return (
            f"Only {only} methods were run, so nothing compares them with another paradigm. Of these, {subject} is "
            "ahead."
        )
    if way == "conflict":
        conflict = conflicting(case, _named(case))
        assert conflict is not None
        metric, rival, mean, width = conflict
        errors = f"{wording.number(mean, 2)} [{wording.number(mean - width, 2)}, {wording.number(mean + width, 2)}] mm"
        return (
            f"Metrics disagree: by overlap it is {_named(case)}, but {rival} is ahead by {errors} in "
            f"{_ERRORS[metric]}. They are not added up; what the registration is for decides."
        )
    if way == "method":
        return _why_this_method(case, subject, margin)
    if way == "paradigm":
        kind = case.scores.kind(subject)
        among = f"; between {wording.listed(shortlist)} it is open" if len(shortlist) > 1 else ""
        return f"The best {kind} method is surely within {margin} of the best method of any paradigm{among}."
    rivals = decision.open_rivals(subject)
    which = f"one of {wording.listed(rivals, 4)}" if len(rivals) > 1 else wording.listed(rivals)
    return f"{subject} is ahead so far, but these pairs do not exclude that {which} is better by more than {margin}."


def _named(case: Case) -> str:
    assert case.decision is not None
    return min(case.decision.namable, key=lambda m: (*effort(case, m), m))


def _why_this_method(case: Case, method: str, margin: str) -> str:
    decision = case.decision
    assert decision is not None
    if len(decision.methods) == 1:
        return f"{method} is the only method that the situation leaves."
    equals = [m for m in decision.namable if m != method]
    if not equals:
        if decision.is_surely_ahead(method):
            return (
                f"{method} is surely ahead of all {len(decision.methods) - 1} other methods that the situation leaves."
            )
        return f"{method} is surely within {margin} of the best method, and no other method is."
    best = max(equals, key=lambda m: -decision.regrets[m])
    told = f"{method} and {wording.listed(equals, 4)} are surely within {margin} of the best method"
    own, other = effort(case, method), effort(case, best)
    if own[0] < other[0]:
        return f"{told}; of these, {method} asks least: {_needs(case, method)}."
    return f"{told}; of these, {method} is the quickest that asks no more than the others."


def _needs(case: Case, method: str) -> str:
    return wording.needs_of(case.scores, method, case.facts.get(method) or Facts(method, {}))


# -- costs, risks, what would change it ---------------------------------------------------------------


def _costs(case: Case, subject: str) -> Iterator[str]:
    if not subject:
        return
    methods = [subject]
    if case.decision:
        own = case.scores.kind(subject)
        methods += [case.decision.of(kind)[0] for kind in case.decision.paradigms if kind != own]
    for method in methods:
        seconds, facts = case.scores.seconds(method), case.facts.get(method)
        most = "up to " if len({dataset for dataset, _ in case.scores.groups}) > 1 else ""
        time = f"{most}{wording.seconds(seconds)} per pair" if seconds is not None else "time not measured"
        where = f" on the {wording.listed(facts.devices).upper()}" if facts and facts.devices else ""
        yield f"{method} ({case.scores.kind(method)}): {time}{where}; {_needs(case, method)}."


def _risks(case: Case, rows: Sequence[Row], subject: str) -> Iterator[str]:
    if not subject or case.decision is None:
        return
    if loss := _loss_under_shift(case, subject):
        yield loss
    folds, ndv = (case.scores.mean_of(name, subject) for name in ("fold_percent", "ndv_percent"))
    if folds is not None and max(folds, ndv or 0.0) >= _LEAST_FOLDS:
        more = f", non-diffeomorphic volume {ndv:.2g} %" if ndv is not None else ""
        yield f"{subject} folds: {folds:.2g} % of voxels under the condition where it folds most{more}."
    yield from wording.failures(case.scores, case.decision.methods)
    cases = case.scores.cases.get(subject, 0)
    if not case.scores.failed.get(subject) and 0 < cases < 60:
        share = 100 * wording.unseen_failures(cases)
        yield f"{subject} failed on none of {cases} cases, which does not exclude that it fails on up to {share:.0f} %."
    if blind := _not_better_than_nothing(case, subject):
        yield blind
    leaked = {str(row.get("method")) for row in rows if isinstance(row.get("leaked"), dict)}
    for method in sorted(leaked):
        n = sum(isinstance(row.get("leaked"), dict) and str(row.get("method")) == method for row in rows)
        yield f"{method} was, or may have been, trained on subjects of {n} cases; these never count here."
    yield from _disagreeing_datasets(case, subject)


def _loss_under_shift(case: Case, method: str) -> str | None:
    """Returns what a method loses where images are shifted, over the pairs that both blocks have."""
    blocks = {block.name: block for block in case.scores.blocks}
    if len(blocks) < 2:
        return None
    both = {s.dataset: s for s in blocks["same"].strata}
    losses = []
    for stratum in blocks["shifted"].strata:
        base = both.get(stratum.dataset)
        if base is not None and base.subjects == stratum.subjects:
            losses += (base.gains[method] - stratum.gains[method]).tolist()
    if not losses:
        return None
    mean = sum(losses) / len(losses)
    digits = wording.digits_of(case.scores.unit)
    verb = "loses" if mean >= 0 else "gains"
    shifts = wording.block_words(blocks["shifted"])
    return f"{method} {verb} {wording.number(abs(mean), digits)} {case.scores.unit} on average under {shifts}."


def _not_better_than_nothing(case: Case, method: str) -> str | None:
    """Returns a warning where identity is there and the method is not surely better than it."""
    for block in case.scores.blocks:
        for stratum in block.strata:
            for condition in stratum.conditions:
                group = case.scores.groups[stratum.dataset, condition]
                if group.identity is None or not group.values[case.scores.metric].get(group.identity):
                    continue
                own, still = (group.values[case.scores.metric][m] for m in (method, group.identity))
                gain = group.interval({p: case.scores.scale * (v - still[p]) for p, v in own.items() if p in still})
                if gain.low is None or gain.low <= 0:
                    told = wording.gain(gain.mean, gain.low, gain.high, case.scores.unit)
                    where = "" if condition == "none" else f" under {condition}"
                    return f"{method} is not surely better than no registration on {stratum.dataset}{where} ({told})."
    return None


def _disagreeing_datasets(case: Case, subject: str) -> Iterator[str]:
    """Yields where a method is surely behind another one on a single dataset."""
    assert case.decision is not None
    for block in case.scores.blocks:
        if len(block.strata) < 2:
            continue
        for stratum in block.strata:
            rival = max(case.decision.methods, key=lambda m: (stratum.gains[m].mean(), m))
            lead = stratum.lead(rival, subject, USUAL_LEVEL)
            if lead.low is not None and lead.low > case.margin:
                told = wording.gain(lead.mean, lead.low, lead.high, case.scores.unit)
                yield f"On {stratum.dataset} alone, {rival} is ahead of {subject} by {told.lstrip('+')}."


def _changes(case: Case, rows: Sequence[Row], runs: Runs, verdict: str, way: str) -> Iterator[str]:
    """Yields what would change the verdict: other situations, other margins, more pairs."""
    situation = case.situation
    asked: tuple[Deploy, ...] = ("same", "shifted", "unknown")
    for deploy in asked if situation.modality == "mono" else ():
        if deploy != situation.deploy:
            yield from _other(rows, runs, replace(situation, deploy=deploy), verdict, f"--deploy {deploy}")
    for words, without in _lifted(situation):
        yield from _other(rows, runs, without, verdict, words)
    if case.decision and way == "method" and len(case.decision.methods) > 1:
        least = case.decision.worst_bound(_named(case))
        if least > 0:
            smallest = wording.number(math.ceil(least * 100) / 100, 2)
            yield f"A margin below {smallest} {case.scores.unit}: another verdict or none."
    if way == "open":
        yield from pairs_that_would_decide(case)


def _lifted(situation: Situation) -> Iterator[tuple[str, Situation]]:
    """Yields the situation without each of the limits that the user set, with words for that."""
    if situation.training_labels is not None:
        yield "with labels to train on", replace(situation, training_labels=None)
    if situation.training_pairs is not None:
        yield "with pairs to train on", replace(situation, training_pairs=None)
    if situation.max_seconds is not None:
        yield "without a limit on time", replace(situation, max_seconds=None)
    if situation.max_fold_percent is not None:
        yield "without a limit on folds", replace(situation, max_fold_percent=None)
    if situation.device is not None:
        yield "on any device", replace(situation, device=None)
    if situation.invertible:
        yield "without --invertible", replace(situation, invertible=False)


def _other(rows: Sequence[Row], runs: Runs, situation: Situation, verdict: str, words: str) -> Iterator[str]:
    other = examine(rows, situation, runs)
    if other is None:
        return
    new, method, shortlist, way = verdict_of(other)
    if new not in (verdict, "undecided"):
        named = f" ({method})" if method else f" ({wording.listed(shortlist)})" if shortlist else ""
        yield f"{words[0].upper()}{words[1:]}: {new}{named}."
    elif new != verdict:
        why = f" (nothing was run on {other.missing_block})" if way == "no evidence" else ""
        yield f"{words[0].upper()}{words[1:]}: undecided{why}."
