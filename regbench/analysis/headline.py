"""The answer of a run in one sentence: does learning help here, and does it survive a shift?

It counts verdicts over datasets; `takeaway` has the sizes and intervals behind them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from regbench.analysis.groups import UNSHIFTED, Group, Row, group_rows, paired_difference
from regbench.analysis.takeaway import learned_and_reference
from regbench.analysis.verdicts import Verdict, verdict


def headline(rows: Iterable[Row]) -> str | None:
    """Returns one sentence on the best learned method against the best classical one; None without both."""
    groups = [group for group in group_rows(rows) if group.accuracy_metric]
    bases = [group for group in groups if group.condition == UNSHIFTED and _both(group)]
    if not bases:
        return None
    answer = _answer(Counter(_verdict(group) for group in bases), len(bases))
    fates = Counter(fate for base in bases for fate in _fates(base, groups))
    return f"{answer}{_shift(fates, len(bases))}."


def _both(group: Group) -> bool:
    learned, reference = learned_and_reference(group)
    return learned is not None and reference is not None and reference != group.identity


def _verdict(group: Group) -> Verdict:
    """Returns where the best learned method of a group stands against its best classical one."""
    learned, reference = learned_and_reference(group)
    return verdict(
        group.difference(str(group.accuracy_metric), str(learned), str(reference)), str(group.accuracy_metric)
    )


def _answer(verdicts: Counter[Verdict], n: int) -> str:
    if len(verdicts) > 1:
        outcomes: tuple[Verdict, ...] = ("ahead", "level", "behind", "undecided", "too few")
        counts = ", ".join(f"{v.replace('too few', 'open')} on {verdicts[v]}" for v in outcomes if verdicts[v])
        return f"Over {n} datasets, the best learned method against the best classical one is {counts}"
    where = _everywhere(n)
    learned = "the best learned method of this run"
    return {
        "ahead": f"Learning helps here: {learned} is ahead of the best classical one{where}",
        "behind": f"Learning does not help here: {learned} is behind the best classical one{where}",
        "level": f"Learned and classical methods are level here{where}",
        "undecided": f"These pairs leave open whether the best learned or the best classical method is ahead{where}",
        "too few": f"The pairs are too few to tell learned from classical methods{where}",
    }[next(iter(verdicts))]


def _everywhere(n: int) -> str:
    return {1: "", 2: " on both datasets"}.get(n, f" on all {n} datasets")


def _fates(base: Group, groups: list[Group]) -> list[Verdict]:
    """Returns, for each shift of a dataset, how the lead of the learned over the classical method changes."""
    learned, reference = (str(name) for name in learned_and_reference(base))
    metric = str(base.accuracy_metric)
    before = paired_difference(base.common_values(metric, learned), base.common_values(metric, reference))
    fates: list[Verdict] = []
    for group in groups:
        if group.dataset != base.dataset or group.condition == base.condition or group.accuracy_metric != metric:
            continue
        after = paired_difference(group.common_values(metric, learned), group.common_values(metric, reference))
        common = [pair for pair in before if pair in after]
        if common:
            change = paired_difference({p: after[p] for p in common}, {p: before[p] for p in common})
            fates.append(verdict(base.interval(change), metric))
    return fates


def _shift(fates: Counter[Verdict], n_datasets: int) -> str:
    n = sum(fates.values())
    if not n:
        return ""
    if fates["behind"] or fates["ahead"]:
        outcomes: tuple[tuple[Verdict, str], ...] = (("behind", "loses ground"), ("ahead", "gains ground"))
        told = [f"{words}{_share(fates[v], n, n_datasets)}" for v, words in outcomes if fates[v]]
        return f"; under the shift{'' if n == n_datasets else 's'} learning {' and '.join(told)}"
    if fates["level"] == n:
        return "; the shift changes nothing about that" if n == n_datasets else "; the shifts change nothing about that"
    return "; what a shift does to that is open as well"


def _share(count: int, n: int, n_datasets: int) -> str:
    """Returns where an outcome was found, of n shifted comparisons."""
    if n == n_datasets:
        return _everywhere(n) if count == n else f" on {count} of {n} datasets"
    return f" in {count} of {n} comparisons"
