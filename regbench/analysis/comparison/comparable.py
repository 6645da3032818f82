"""What may be compared with what: equal inputs, equal definitions, equal machines; and in which mode.

Inputs are equal where the content hashes of the files of a pair, the parameters of the condition and the kind of the
shared pre-alignment are. What one side did not record is taken for equal; a comparison says so in its notes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from regbench.analysis.comparison.outcome import INPUTS, Check, Mode, ModeChoice, joined
from regbench.analysis.comparison.sides import CaseFacts, CaseId, Side, Sides


def input_difference(case: CaseId, sides: Sides) -> str | None:
    """Returns in which way the inputs of a case differ, or None."""
    base, new = sides.base, sides.new
    dataset, condition, _, _ = case
    before, after = base.facts_of(case), new.facts_of(case)
    if before.fingerprint and after.fingerprint:
        n = min(len(before.fingerprint), len(after.fingerprint))
        if before.fingerprint[:n] != after.fingerprint[:n]:
            return "the images or labels are not the same"
    elif _both_and_differ(base.manifests.get(dataset), new.manifests.get(dataset)):
        return "the dataset is not the same (its manifest in run.json differs)"
    if _is_other_condition(base.conditions.get(condition), new.conditions.get(condition)):
        return f"the condition '{condition}' has other parameters"
    if before.prealign != after.prealign and not _is_unrecorded(base, case) and not _is_unrecorded(new, case):
        return f"the shared pre-alignment is not the same ({before.prealign or 'none'}, now {after.prealign or 'none'})"
    return None


def input_checks(cases: Iterable[CaseId], sides: Sides) -> tuple[list[Check], set[CaseId]]:
    """Returns a check for each dataset, condition and reason for which inputs differ, and the cases they are about."""
    found: dict[tuple[str, str, str], list[CaseId]] = {}
    for case in cases:
        reason = input_difference(case, sides)
        if reason is not None:
            found.setdefault((case[0], case[1], reason), []).append(case)
    checks = []
    for (dataset, condition, reason), members in found.items():
        pairs = list(dict.fromkeys(pair for *_, pair in members))
        text = f"{reason} in {len(pairs)} pair{'' if len(pairs) == 1 else 's'} (such as {pairs[0]})"
        checks.append(Check("not comparable", dataset, condition, "", INPUTS, text, mode="inputs", n=len(pairs)))
    return checks, {case for members in found.values() for case in members}


def changed_definitions(sides: Sides) -> dict[str, tuple[int, int]]:
    """Returns the metrics whose definition changed, with their versions before and after."""
    base, new = sides.base, sides.new
    measured = sorted({metric for values in base.values.values() for metric in values})
    versions = {metric: (base.versions.get(metric, 1), new.versions.get(metric, 1)) for metric in measured}
    return {metric: both for metric, both in versions.items() if both[0] != both[1]}


def definition_checks(sides: Sides) -> list[Check]:
    """Returns a check for each metric whose definition changed."""
    return [
        Check(
            "not comparable",
            "",
            "",
            "",
            metric,
            f"{metric}: its definition changed from version {was} to {now}; run the base again, or write a new "
            "baseline with --update-baseline",
            mode="inputs",
        )
        for metric, (was, now) in changed_definitions(sides).items()
    ]


# -- modes --------------------------------------------------------------------------------------------


def choose_mode(method: str, cases: Sequence[CaseId], sides: Sides) -> ModeChoice:
    """Returns how to compare the values of a method: value by value where chance has no part in them."""
    base, new = sides.base, sides.new
    facts = [found for side in (new, base) if (found := side.methods.get(method)) is not None]
    told = next((found.deterministic for found in facts if found.deterministic), None)
    if told is None:
        return ModeChoice(method, "paired", "no card says whether it is deterministic")
    if not told.startswith("yes"):
        return ModeChoice(method, "paired", f"its card says of determinism: {told}")
    pairs = [(base.facts_of(case), new.facts_of(case)) for case in cases]
    for what, differs in (
        ("seeds", [(b.seeds, n.seeds) for b, n in pairs]),
        ("threads", [(b.threads, n.threads) for b, n in pairs]),
        ("device", [(b.device, n.device) for b, n in pairs]),
    ):
        odd = next((both for both in differs if _both_and_differ(*both)), None)
        if odd is not None:
            return ModeChoice(method, "paired", f"its {what} differ ({_shown(odd[0])}, now {_shown(odd[1])})")
    if "CPU" in told and any("cuda" in str(f.device) for both in pairs for f in both):
        return ModeChoice(method, "paired", f"deterministic {told.removeprefix('yes ')}, and it ran on a GPU")
    recorded = all(b.seeds is not None and b.threads is not None for b, _ in pairs)
    same = "same seeds and threads" if recorded else "seeds and threads of the base are not recorded"
    return ModeChoice(method, "golden", f"said to be deterministic, {same}")


def choose_modes(cases: Iterable[CaseId], sides: Sides, wanted: Mode | None) -> list[ModeChoice]:
    """Returns the mode of every method; `wanted` for all where it is given."""
    by_method: dict[str, list[CaseId]] = {}
    for case in cases:
        by_method.setdefault(case[2], []).append(case)
    if wanted is not None:
        return [ModeChoice(method, wanted, "asked for") for method in by_method]
    return [choose_mode(method, members, sides) for method, members in by_method.items()]


def notes_on(sides: Sides, cases: Sequence[CaseId]) -> list[str]:
    """Returns what a reader should know of the two sides: unrecorded inputs, other versions, other parameters."""
    base, new = sides.base, sides.new
    notes = []
    unrecorded = {case[0] for case in cases if not (base.facts_of(case).fingerprint and new.facts_of(case).fingerprint)}
    unknown = [name for name in sorted(unrecorded) if not (base.manifests.get(name) and new.manifests.get(name))]
    if unknown:
        notes.append(f"Whether the images of {joined(unknown)} are the same is not recorded; it is taken for granted.")
    for method in dict.fromkeys(case[2] for case in cases):
        before, after = base.methods.get(method), new.methods.get(method)
        if before is None or after is None:
            continue
        if before.version and after.version and before.version != after.version:
            notes.append(f"{method}: version {before.version}, now {after.version}.")
        changed = _changed_parameters(before.parameters, after.parameters)
        if changed:
            notes.append(f"{method}: other parameters ({'; '.join(changed)}).")
    return notes


def _changed_parameters(before: object, after: object) -> list[str]:
    if not isinstance(before, dict) or not isinstance(after, dict):
        return []
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return [f"{name} {_shown(before.get(name))}, now {_shown(after.get(name))}" for name in names if name != "seed"]


def _is_unrecorded(side: Side, case: CaseId) -> bool:
    """Returns whether a side cannot tell a missing pre-alignment from one that was not recorded."""
    return side.facts_of(case) == CaseFacts() or side.facts_of(case).threads is None


def _both_and_differ(before: object, after: object) -> bool:
    return before is not None and after is not None and before != after


def _is_other_condition(before: object, after: object) -> bool:
    """Returns whether two records of a condition differ in what both of them say."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return False
    return any(before[key] != after[key] for key in before.keys() & after.keys())


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
