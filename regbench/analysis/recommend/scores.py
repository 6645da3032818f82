"""The numbers that a verdict rests on: one accuracy value per method and pair, for the images as they are and shifted.

A block is what the user may meet: the images as they are (`same`) or changed (`shifted`). In each block every dataset
that counts has a table of pairs by methods without gaps; the value of a pair is the mean over the conditions of the
block, so that pairs stay the only samples, and datasets weigh alike whatever their number of pairs.

Two rules keep the tables honest. Rows of pairs that a method was trained on never count, whatever the run says about
leaks. A pair on which a method failed counts as not registered: it gets the value of identity there, where identity
was run, because leaving it out would reward failing on the hard ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from regbench.analysis.groups import (
    ACCURACY_METRICS,
    UNSHIFTED,
    Group,
    MethodLabel,
    Row,
    group_rows,
    higher_is_better,
    pair_of,
    shown_dataset,
)
from regbench.analysis.recommend.outcome import KINDS, Kind
from regbench.analysis.recommend.situation import Situation
from regbench.analysis.statistics import MINIMUM_PAIRS, Interval, SubjectPair, mean_interval

BlockName = Literal["same", "shifted"]
GroupKey = tuple[str, str]
# Shifts after which two images no longer share a contrast, where only one of them is shifted.
CONTRAST_SHIFTS = ("contrast", "inversion", "t2_like")
_FAILURES = ("failed", "invalid", "timeout", "crashed", "oom")
# Without identity in the run nobody knows what a failed pair costs; then this share of failed cases is too much.
_MOST_FAILED = 0.1


@dataclass(frozen=True)
class Stratum:
    """One dataset in one block: subjects of the pairs, and per method the gain of each pair (higher is better)."""

    dataset: str
    conditions: tuple[str, ...]
    subjects: tuple[SubjectPair, ...]
    gains: dict[str, np.ndarray]

    @property
    def n_subjects(self) -> int:
        return len({subject for pair in self.subjects for subject in pair})

    def lead(self, method: str, reference: str, level: float) -> Interval:
        """Returns the mean paired gain of a method over another one, with its interval."""
        return mean_interval((self.gains[method] - self.gains[reference]).tolist(), self.subjects, level)


@dataclass(frozen=True)
class Block:
    """The datasets that count in one block."""

    name: BlockName
    strata: tuple[Stratum, ...]

    def mean(self, method: str) -> float:
        """Returns the mean gain of a method, datasets weighing alike."""
        return float(np.mean([stratum.gains[method].mean() for stratum in self.strata]))

    def lead(self, method: str, reference: str, level: float) -> tuple[float, float]:
        """Returns the mean gain of a method over another one, and half the width of its interval (infinite if none).

        Squares of half widths add up over datasets, which with small ones is rather too wide than too narrow.
        """
        leads = [stratum.lead(method, reference, level) for stratum in self.strata]
        widths = [math.inf if lead.half_width is None else lead.half_width for lead in leads]
        n = len(leads)
        return sum(lead.mean for lead in leads) / n, math.sqrt(sum(width**2 for width in widths)) / n


@dataclass
class Scores:
    """Everything measured that bears on a situation.

    `left_out` maps methods to the reason why they cannot be compared; `metric` is the accuracy metric, `scale` what
    turns its values into gains (100 for Dice, -1 for errors), `unit` the unit of gains.
    """

    metric: str
    groups: dict[GroupKey, Group]
    labels: dict[str, MethodLabel]
    failed: dict[str, int] = field(default_factory=dict)
    cases: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    blocks: tuple[Block, ...] = ()

    @property
    def scale(self) -> float:
        return 100.0 if self.metric == "dice" else 1.0 if higher_is_better(self.metric) else -1.0

    @property
    def unit(self) -> str:
        return "Dice points" if self.metric == "dice" else "mm"

    def kind(self, method: str) -> Kind:
        return kind_of(self.labels[method])

    def mean_of(self, metric: str, method: str) -> float | None:
        """Returns the worst over groups of the mean of a cost metric (such as folding) of a method; None unmeasured."""
        found = [
            sum(values.values()) / len(values)
            for group in self.groups.values()
            if (values := group.values.get(metric, {}).get(method))
        ]
        return max(found, default=None)

    def seconds(self, method: str) -> float | None:
        """Returns the median time of registering a pair, in s, of the data set where it takes longest.

        Times are those without a shift, where there are any.
        """
        timed = {
            key: float(np.median(list(values.values())))
            for key, group in self.groups.items()
            if (values := group.values.get("register_s", {}).get(method))
        }
        plain = [value for (_, condition), value in timed.items() if condition == UNSHIFTED]
        return max(plain or timed.values(), default=None)


def kind_of(label: MethodLabel) -> Kind:
    """Returns the paradigm of a method as verdicts name it; learned from synthetic images counts as unsupervised."""
    if label.paradigm == "hybrid":
        return "hybrid"
    if label.paradigm == "learned":
        return "learned (supervised)" if label.supervision == "labels" else "learned (unsupervised)"
    return "classical"


def gather(rows: Iterable[Row], situation: Situation, conditions: Mapping[str, Mapping[str, Any]]) -> Scores | None:
    """Returns the groups that bear on the situation and the methods in them, not yet compared; None without any."""
    rows = [_counting_no_leak(row) for row in rows]
    crossing = {shown_dataset(row) for row in rows if _is_crossing(row)}
    groups = {
        (group.dataset, group.condition): group
        for group in group_rows(rows)
        if (group.dataset in crossing or _is_multimodal(group, conditions)) == (situation.modality == "multi")
    }
    metric = _metric(groups.values())
    if metric is None:
        return None
    groups = {key: group for key, group in groups.items() if metric in group.values}
    labels = {method.name: method for group in groups.values() for method in group.methods if method.paradigm != "none"}
    scores = Scores(metric, groups, labels)
    _count_failures(scores, rows)
    return scores


def _counting_no_leak(row: Row) -> Row:
    leak = row.get("leaked")
    return {**row, "leaked": {**leak, "included": False}} if isinstance(leak, Mapping) else row


def _metric(groups: Iterable[Group]) -> str | None:
    measured = [set(group.values) for group in groups]
    return next((name for name in ACCURACY_METRICS if any(name in names for names in measured)), None)


def _is_crossing(row: Row) -> bool:
    """Returns whether the scans of a pair are named as of two modalities."""
    tags = (row.get("pair") or {}).get("tags") or {}
    fixed, moving = tags.get("fixed_modality"), tags.get("moving_modality")
    return bool(fixed and moving and fixed != moving)


def _is_multimodal(group: Group, conditions: Mapping[str, Mapping[str, Any]]) -> bool:
    """Returns whether the two images of a pair differ in contrast, by the condition or by the names of the scans."""
    known = conditions.get(group.condition)
    if known is not None:
        on = (known.get("parameters") or {}).get("on", "both")
        return known.get("name") in CONTRAST_SHIFTS and on != "both"
    words = group.condition.split()
    return words[0] in CONTRAST_SHIFTS and words[-1] in ("moving", "fixed")


def block_of(group: GroupKey, situation: Situation) -> BlockName:
    """Returns the block of a group; for two modalities there is one block, since the pairing is what was shifted."""
    return "same" if group[1] == UNSHIFTED or situation.modality == "multi" else "shifted"


def _count_failures(scores: Scores, rows: Iterable[Row]) -> None:
    """Counts cases and failures, and gives failed pairs the value of identity where there is one."""
    for row in rows:
        key = shown_dataset(row), str(row.get("condition", UNSHIFTED))
        method = str(row.get("method", "?"))
        if key not in scores.groups or method not in scores.labels or row.get("status") == "skipped":
            continue
        scores.cases[method] = scores.cases.get(method, 0) + 1
        if row.get("status") in _FAILURES:
            scores.failed[method] = scores.failed.get(method, 0) + 1
            _count_as_not_registered(scores, scores.groups[key], method, pair_of(row)[0])
    for method, failed in scores.failed.items():
        identities = [g for g in scores.groups.values() if g.identity and scores.metric in g.values]
        if not identities and failed > _MOST_FAILED * scores.cases[method]:
            scores.left_out[method] = (
                f"failed on {failed} of {scores.cases[method]} cases, and without identity in the run it is not known "
                "what that costs"
            )


def _count_as_not_registered(scores: Scores, group: Group, method: str, pair: str) -> None:
    still = group.values[scores.metric].get(group.identity or "", {}).get(pair)
    if still is not None:
        group.values[scores.metric].setdefault(method, {}).setdefault(pair, still)


# -- tables without gaps ------------------------------------------------------------------------------


def tabulate(scores: Scores, methods: Sequence[str], situation: Situation) -> None:
    """Fills the blocks with tables of the given methods; methods that would leave too little are left out."""
    wanted = _blocks_wanted(scores, situation)
    groups = [key for key in scores.groups if block_of(key, situation) in wanted]
    groups = _with_a_contest(scores, groups, methods, situation)
    methods, groups = _without_gaps(scores, list(methods), groups, situation)
    places = {
        name: {
            dataset: [k for k in groups if k[0] == dataset and block_of(k, situation) == name] for dataset, _ in groups
        }
        for name in wanted
    }
    for tables in places.values():
        for keys in tables.values():
            methods = _with_enough_pairs(scores, keys, methods)
    blocks = []
    for name, tables in places.items():
        strata = [stratum for dataset, keys in tables.items() if (stratum := _stratum(scores, dataset, keys, methods))]
        blocks.append(Block(name, _large_enough(scores, strata)))
    scores.blocks = tuple(block for block in blocks if block.strata)


def compared(scores: Scores) -> list[str]:
    """Returns the methods that all tables have, in their order."""
    return list(scores.blocks[0].strata[0].gains) if scores.blocks else []


def _blocks_wanted(scores: Scores, situation: Situation) -> list[BlockName]:
    there = {block_of(key, situation) for key in scores.groups}
    if situation.modality == "multi":
        return ["same"] if there else []
    names: tuple[BlockName, ...] = ("same", "shifted")
    wanted = [name for name in names if situation.deploy in ("unknown", name)]
    missing = [name for name in wanted if name not in there]
    if "shifted" in missing:
        scores.notes.append("No shifted condition was run, so nothing is known of images that differ from these.")
    if "same" in missing:
        scores.notes.append("Nothing was run on the images as they are.")
    return [name for name in wanted if name in there]


def _has(scores: Scores, method: str, key: GroupKey) -> bool:
    """Returns whether a method has results for half of the pairs of a group, or of those that any method has."""
    values = scores.groups[key].values[scores.metric]
    most = max((len(pairs) for pairs in values.values()), default=0)
    return 0 < most <= 2 * len(values.get(method, {}))


def _with_a_contest(
    scores: Scores, groups: list[GroupKey], methods: Sequence[str], situation: Situation
) -> list[GroupKey]:
    """Returns the groups in which at least two paradigms have results, if there are any; the others say nothing."""

    def n_kinds(key: GroupKey) -> int:
        return len({scores.kind(method) for method in methods if _has(scores, method, key)})

    contests = [key for key in groups if n_kinds(key) > 1]
    if not contests:
        return groups
    left = dict.fromkeys(key[0] for key in groups if key not in contests)
    for dataset in left:
        if all(key[0] != dataset for key in contests):
            scores.notes.append(f"{dataset} does not count: only one paradigm has results there.")
    return contests


def _without_gaps(
    scores: Scores, methods: list[str], groups: list[GroupKey], situation: Situation
) -> tuple[list[str], list[GroupKey]]:
    """Returns methods and groups such that every method has results in every group.

    A method that lacks most groups goes, if another one of its paradigm stays; else the group goes that most lack.
    """
    dropped: dict[str, list[str]] = {}
    while groups and methods:
        lacking = {m: [key for key in groups if not _has(scores, m, key)] for m in methods}
        lacking = {m: keys for m, keys in lacking.items() if keys}
        if not lacking:
            break
        worst = max(lacking, key=lambda m: (len(lacking[m]), m))
        has_better = any(
            scores.kind(m) == scores.kind(worst) and len(lacking.get(m, ())) < len(lacking[worst])
            for m in methods
            if m != worst
        )
        emptiest = max(groups, key=lambda key: sum(key in keys for keys in lacking.values()))
        is_last = [block_of(key, situation) for key in groups].count(block_of(emptiest, situation)) == 1
        if (has_better and 2 * len(lacking[worst]) > len(groups)) or is_last or len(lacking[worst]) == len(groups):
            methods.remove(worst)
            scores.left_out.setdefault(worst, _why_lacking(scores, worst, lacking[worst]))
        else:
            groups = [key for key in groups if key != emptiest]
            dropped.setdefault(emptiest[0], []).append(_condition(emptiest[1]))
    for dataset, found in dropped.items():
        scores.notes.append(
            f"{dataset}: {len(found)} condition{'s do' if len(found) > 1 else ' does'} not count, because not all "
            f"methods were run there ({_first(found)})."
        )
    return methods, groups


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _why_lacking(scores: Scores, method: str, keys: Sequence[GroupKey]) -> str:
    for key in keys:
        leaked = scores.groups[key].leaked.get(method)
        if leaked is not None and leaked.is_apart:
            return f"was trained on subjects of these pairs ({next(iter(leaked.reasons.values()))})"
    dataset, condition = keys[0]
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"has no results on {dataset}, {_condition(condition)}{more}"


def _condition(condition: str) -> str:
    return "no shift" if condition == UNSHIFTED else condition


def _pairs_of(scores: Scores, keys: Sequence[GroupKey], method: str) -> list[str]:
    """Returns the pairs that a method has under all conditions of a dataset."""
    tables = [scores.groups[key].values[scores.metric].get(method, {}) for key in keys]
    return [pair for pair in scores.groups[keys[0]].subjects if all(pair in table for table in tables)]


def _with_enough_pairs(scores: Scores, keys: Sequence[GroupKey], methods: list[str]) -> list[str]:
    """Returns the methods without those that have less than half of the pairs that another one has."""
    if not keys:
        return methods
    own = {method: len(_pairs_of(scores, keys, method)) for method in methods}
    most = max(own.values(), default=0)
    for method in methods:
        if 2 * own[method] < most:
            leaked = scores.groups[keys[0]].leaked.get(method)
            because = ", being trained on subjects of others" if leaked else ""
            scores.left_out.setdefault(
                method, f"has usable results for {own[method]} of {most} pairs of {keys[0][0]}{because}"
            )
    return [method for method in methods if 2 * own[method] >= most]


def _stratum(scores: Scores, dataset: str, keys: Sequence[GroupKey], methods: Sequence[str]) -> Stratum | None:
    """Returns the table of a dataset over the pairs that all methods have; None without such a pair."""
    if not keys or not methods:
        return None
    own = [set(_pairs_of(scores, keys, method)) for method in methods]
    subjects = scores.groups[keys[0]].subjects
    pairs = [pair for pair in subjects if all(pair in found for found in own)]
    if not pairs:
        return None
    if len(pairs) < len(subjects):
        scores.notes.append(f"{dataset}: {len(pairs)} of {len(subjects)} pairs count, those that all methods have.")
    tables = [scores.groups[key].values[scores.metric] for key in keys]
    gains = {
        m: scores.scale * np.mean([[table[m][pair] for pair in pairs] for table in tables], axis=0) for m in methods
    }
    named = tuple((f"{dataset}/{a}", f"{dataset}/{b}") for a, b in (subjects[pair] for pair in pairs))
    return Stratum(dataset, tuple(condition for _, condition in keys), named, gains)


def _large_enough(scores: Scores, strata: Sequence[Stratum]) -> tuple[Stratum, ...]:
    """Returns the datasets with enough pairs for an interval, if there are any; else all of them."""
    large = [stratum for stratum in strata if len(stratum.subjects) >= MINIMUM_PAIRS]
    for stratum in strata if large else ():
        if stratum not in large:
            scores.notes.append(
                f"{stratum.dataset} does not count: {len(stratum.subjects)} pairs are too few for an interval."
            )
    return tuple(large or strata)


__all__ = ["KINDS", "Block", "Scores", "Stratum", "compared", "gather", "kind_of", "tabulate"]
