"""What a run means, in at most two sentences.

The first sentence compares the best method of each kind (classical, unsupervised, label-supervised, ...) where
nothing was shifted; the second says what a shift does to the gain of the best learned method. All of it follows
from paired differences on common pairs and their intervals; where these do not decide, the sentence says so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from regbench.analysis.groups import UNSHIFTED, Group, MethodLabel, Row, group_rows, higher_is_better, paired_difference
from regbench.analysis.statistics import Interval
from regbench.analysis.verdicts import Verdict, amount, as_gain, too_few, verdict

KINDS = ("classical", "unsupervised", "trained on synthetic images", "label-supervised", "hybrid")
# Beyond this number of datasets the verdicts are counted instead of listed.
LISTED_DATASETS = 3


def takeaway(rows: Iterable[Row]) -> str:
    """Returns one or two sentences on what the results mean; it never raises for lack of data."""
    groups = group_rows(rows)
    if not any(group.compared for group in groups):
        if any(group.leaked for group in groups):
            return (
                "All methods that finished were trained on the subjects of these pairs, so there is nothing to compare."
            )
        return "No case finished, so there is nothing to compare; the failures say why."
    measured = [group for group in groups if group.accuracy_metric]
    if not measured:
        return (
            "No accuracy metric could be computed (no labels, landmarks or known truth), so methods cannot be ranked."
        )
    first: dict[str, Group] = {}
    for group in measured:
        first.setdefault(group.dataset, group)
    sentences = [_comparison_sentence(list(first.values()))]
    shifts = [text for group in first.values() if (text := _shift_clause(group, measured))]
    if shifts and len(first) <= LISTED_DATASETS:
        sentences.append(_sentence(shifts))
    return " ".join(sentences)


@dataclass(frozen=True)
class _Contest:
    """A method against a reference in one group, with their paired difference."""

    metric: str
    method: str
    reference: str
    difference: Interval

    @property
    def verdict(self) -> Verdict:
        return verdict(self.difference, self.metric)

    def clause(self, name: str, reference: str) -> str:
        """Returns the outcome in words, calling the two methods by the given names."""
        signed, size = amount(self.difference, self.metric), amount(self.difference, self.metric, signed=False)
        return {
            "ahead": f"{name} is ahead of {reference} by {size}",
            "behind": f"{name} is behind {reference} by {size}",
            "level": f"{name} and {reference} are level ({signed})",
            "undecided": f"{name} against {reference} is undecided ({signed})",
            "too few": f"{too_few(self.difference)} to tell {name} from {reference} ({signed})",
        }[self.verdict]


# -- the unshifted comparison -------------------------------------------------------------------------


def _comparison_sentence(groups: list[Group]) -> str:
    if len(groups) > LISTED_DATASETS:
        return _counted(groups)
    return _sentence([f"on {_where(group)}, {_comparison(group)}" for group in groups])


def _comparison(group: Group) -> str:
    """Returns the clauses that compare the leaders of this group, without the name of the dataset."""
    leaders = _leaders(group)
    names = {method: f"{method} ({kind})" for kind, method in leaders.items()}
    contests = _contests(group, list(leaders.values()))
    if not contests:
        return "only one method has results, so there is nothing to compare"
    if all(contest.verdict == "too few" for contest in contests):
        methods = dict.fromkeys(method for contest in contests for method in (contest.reference, contest.method))
        return f"{too_few(contests[0].difference)} to tell {_listed([names.get(m, m) for m in methods])} apart"
    clauses, introduced = [], set()
    for contest in contests:
        called = [
            m if m in introduced else names.get(m, _plain_name(group, m)) for m in (contest.method, contest.reference)
        ]
        introduced |= {contest.method, contest.reference}
        clauses.append(contest.clause(*called))
    return ", and ".join(clauses) if len(clauses) < 3 else ", ".join(clauses[:-1]) + f", and {clauses[-1]}"


def _contests(group: Group, leaders: list[str]) -> list[_Contest]:
    """Returns each leader against the best leader before it; for a lone kind its best two, or best and identity."""
    if len(leaders) > 1:
        return [_contest(group, method, _best(group, leaders[:i])) for i, method in enumerate(leaders) if i]
    ranked = sorted(_measured(group), key=lambda method: _goodness(group, method), reverse=True)
    rivals = [method for method in ranked if method != group.identity]
    best = leaders[0] if leaders else next(iter(rivals), None)
    others = [method for method in rivals if method != best] or [method for method in ranked if method != best]
    return [_contest(group, best, others[0])] if best and others else []


def _counted(groups: list[Group]) -> str:
    """Returns a sentence with the number of datasets per verdict, for each kind against the best one before it."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for group in groups:
        kinds = {method: kind for kind, method in _leaders(group).items()}
        for contest in _contests(group, list(kinds)):
            pair = kinds.get(contest.method, "best"), kinds.get(contest.reference, "next best")
            counts.setdefault(pair, Counter())[contest.verdict] += 1
    if not counts:
        return f"Over {len(groups)} datasets only one method has results, so there is nothing to compare."
    clauses = [
        f"{kind} against {reference}: " + ", ".join(f"{outcome} in {n}" for outcome, n in count.most_common())
        for (kind, reference), count in counts.items()
    ]
    return f"Over {len(groups)} datasets, best method of each kind, " + "; ".join(clauses) + "."


# -- what a shift does --------------------------------------------------------------------------------


def _shift_clause(base: Group, groups: list[Group]) -> str | None:
    """Returns what the hardest shift of this dataset does to the learned gain; None where nothing was shifted."""
    metric = base.accuracy_metric
    shifted = [
        g for g in groups if g.dataset == base.dataset and g.condition != base.condition and g.accuracy_metric == metric
    ]
    if base.condition != UNSHIFTED or not shifted or metric is None:
        return None
    method, reference = learned_and_reference(base)
    if method is None:
        return None
    found = [(group, _gains(base, group, metric, method, reference)) for group in shifted]
    usable = [(group, gains) for group, gains in found if gains.change.n]
    if not usable:
        return f"on {base.dataset}, {method} has no results under {_listed([g.condition for g in shifted])}"
    sign = 1 if higher_is_better(metric) else -1
    group, gains = min(usable, key=lambda item: sign * item[1].change.mean)
    among = f" (the hardest of {len(usable)} shifts)" if len(usable) > 1 else ""
    return f"under {group.condition}{among} on {base.dataset}, {gains.clause(method, reference)}"


@dataclass(frozen=True)
class _Gains:
    """The lead of a method over a reference before and after a shift, and the paired change of this lead."""

    metric: str
    before: Interval
    after: Interval
    change: Interval

    def clause(self, method: str, reference: str | None) -> str:
        change = verdict(self.change, self.metric)
        signed = amount(as_gain(self.change, self.metric), self.metric)
        size = amount(self.change, self.metric, signed=False)
        if reference is None:
            return {
                "ahead": f"{method} gains {size}",
                "behind": f"{method} loses {size}",
                "level": f"{method} holds its accuracy ({signed})",
                "undecided": f"whether {method} loses or gains is undecided ({signed})",
                "too few": f"{too_few(self.change)} to tell what becomes of {method} ({signed})",
            }[change]
        if change == "too few":
            return f"{too_few(self.change)} to tell what becomes of {method} against {reference} ({signed})"
        before, after = as_gain(self.before, self.metric), as_gain(self.after, self.metric)
        values = f"{_bare(before, self.metric)} to {amount(after, self.metric)}"
        if verdict(self.before, self.metric) != "ahead":
            return f"the lead of {method} over {reference} goes from {values}, {_ground(change)}"
        fate = _fate(verdict(self.after, self.metric), change)
        return f"the gain of {method} over {reference} goes from {values}: {fate}"


def _fate(after: Verdict, change: Verdict) -> str:
    """Returns what became of a gain that was there before the shift."""
    if after == "ahead":
        return {"behind": "smaller, but still there", "ahead": "larger", "level": "it holds"}.get(
            change, "still there, whether smaller or not is undecided"
        )
    if after == "behind":
        return "it turns into a loss"
    if after == "level":
        return "it is gone"
    return "smaller, and whether any is left is undecided" if change == "behind" else "whether it holds is undecided"


def _ground(change: Verdict) -> str:
    return {
        "ahead": "which is ground gained",
        "behind": "which is ground lost",
        "level": "which is no change",
    }.get(change, "which may be no change at all")


def _gains(base: Group, shifted: Group, metric: str, method: str, reference: str | None) -> _Gains:
    """Returns the leads before and after on the pairs that both conditions share."""
    before, after = base.common_values(metric, method), shifted.common_values(metric, method)
    if reference is not None:
        before = paired_difference(before, base.common_values(metric, reference))
        after = paired_difference(after, shifted.common_values(metric, reference))
    both = [pair for pair in before if pair in after]
    before, after = {pair: before[pair] for pair in both}, {pair: after[pair] for pair in both}
    return _Gains(metric, base.interval(before), base.interval(after), base.interval(paired_difference(after, before)))


def learned_and_reference(group: Group) -> tuple[str | None, str | None]:
    """Returns the best learned method and the best classical one, or identity; without a learned one the best alone."""
    learned = [m.name for m in group.methods if m.paradigm in ("learned", "hybrid") and m.name in _measured(group)]
    classical = [m.name for m in group.methods if m.paradigm == "classical" and m.name in _measured(group)]
    if not learned:
        return (_best(group, classical) if classical else None), None
    if classical:
        return _best(group, learned), _best(group, classical)
    return _best(group, learned), group.identity if group.identity in _measured(group) else None


# -- leaders and words --------------------------------------------------------------------------------


def _measured(group: Group) -> list[str]:
    """Returns the methods with accuracy values on the common pairs."""
    metric = group.accuracy_metric
    return [m.name for m in group.methods if metric and group.common_values(metric, m.name)]


def _leaders(group: Group) -> dict[str, str]:
    """Returns the best method of each kind that has results, by kind."""
    found: dict[str, list[str]] = {}
    for method in group.methods:
        kind = _kind(method)
        if kind and method.name in _measured(group):
            found.setdefault(kind, []).append(method.name)
    return {kind: _best(group, found[kind]) for kind in KINDS if kind in found}


def _kind(method: MethodLabel) -> str | None:
    if method.paradigm in ("classical", "hybrid"):
        return method.paradigm
    if method.paradigm != "learned":
        return None
    return {"labels": "label-supervised", "synthetic": "trained on synthetic images"}.get(
        method.supervision, "unsupervised"
    )


def _best(group: Group, methods: list[str]) -> str:
    return max(methods, key=lambda method: _goodness(group, method))


def _goodness(group: Group, method: str) -> float:
    """Returns the mean accuracy over common pairs, negated where lower is better."""
    metric = str(group.accuracy_metric)
    values = group.common_values(metric, method).values()
    if not values:
        return -math.inf
    return (1 if higher_is_better(metric) else -1) * sum(values) / len(values)


def _contest(group: Group, method: str, reference: str) -> _Contest:
    metric = str(group.accuracy_metric)
    return _Contest(metric, method, reference, group.difference(metric, method, reference))


def _plain_name(group: Group, method: str) -> str:
    return f"{method} (no registration)" if method == group.identity else method


def _where(group: Group) -> str:
    n, planned = len(group.common_pairs(group.accuracy_metric)), len(group.subjects)
    pairs = f"{n} of {planned} pairs" if n < planned else f"{n} pair{'s' if n != 1 else ''}"
    condition = f" under {group.condition}" if group.condition != UNSHIFTED else ""
    return f"{group.dataset}{condition} ({pairs})"


def _bare(interval: Interval, metric: str) -> str:
    """Returns the mean of an interval alone, without its unit."""
    return amount(Interval(interval.mean, None, None, interval.method, interval.n), metric).split(" ")[0]


def _listed(names: list[str]) -> str:
    return " and ".join(names) if len(names) < 3 else ", ".join(names[:-1]) + f" and {names[-1]}"


def _sentence(clauses: list[str]) -> str:
    text = "; ".join(clauses)
    return text[0].upper() + text[1:] + "."
