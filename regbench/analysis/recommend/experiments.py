"""The cheapest runs that would decide, in words, with about how long they take, and as a config.

Times are those measured in the runs at hand. Without any, they come from a table of seconds per million voxels of our
own runs on two cores (3-D images at 2 mm), good to a factor of two or three.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from regbench.analysis.recommend import wording
from regbench.analysis.recommend.evidence import Case, Runs
from regbench.analysis.recommend.outcome import Experiment
from regbench.analysis.statistics import MINIMUM_PAIRS

# Seconds per million voxels, two cores of an AMD EPYC, 3-D.
SECONDS_PER_MEGAVOXEL = {
    "affine": 5.0,
    "demons": 5.0,
    "greedy": 3.0,
    "ants-quick": 4.0,
    "ants-syn": 60.0,
    "voxelmorph-cohort": 0.5,
    "voxelmorph-cohort-sup": 0.5,
    "symnet-oasis": 20.0,
    "instance-optimise": 15.0,
    "adam-instance": 45.0,
}
_MOST_PAIRS = 500
_COMFORTABLE_PAIRS = 12
_MOST_METHODS = 5
# The test subjects of mni-cohort make so many pairs without a common subject.
_DISJOINT_PAIRS = 12
# Methods that are nothing without a parameter.
_WRITTEN: Mapping[str, Any] = {"instance-optimise": {"instance-optimise": {"start": "voxelmorph-cohort"}}}
_USUAL_SHIFT = "gamma 2"


def pairs_that_would_decide(case: Case) -> Iterator[str]:
    """Yields about how many pairs of the same kind would decide, if differences stay what they are now."""
    decision = case.decision
    if decision is None or len(decision.methods) < 2:
        return
    now = min((len(s.subjects) for block in case.scores.blocks for s in block.strata), default=0)
    if now < MINIMUM_PAIRS:
        yield f"At least {MINIMUM_PAIRS} pairs per data set (now {now}); fewer allow no interval."
        return
    needed = needed_pairs(case)
    if needed is None or needed > _MOST_PAIRS:
        yield (
            f"More pairs hardly: the leaders differ by about the margin ({case.margin:g} {case.scores.unit}). "
            "A larger --margin would decide if such a difference does not matter to you."
        )
    elif needed > now:
        yield f"About {needed} pairs like these instead of {now} would decide, if the differences stay what they are."


def needed_pairs(case: Case) -> int | None:
    """Returns about how many pairs per data set would let the leader's paradigm be named; None where none would."""
    decision = case.decision
    assert decision is not None
    leader, needed = decision.leader, 0.0
    kind = case.scores.kind(leader)
    rivals = [m for m in decision.methods if case.scores.kind(m) != kind] or list(decision.methods)
    for block in case.scores.blocks:
        n = min(len(stratum.subjects) for stratum in block.strata)
        for rival in decision.methods:
            if rival == leader or rival not in rivals:
                continue
            mean, width = block.lead(rival, leader, decision.leading_level)
            room = case.margin - mean
            if room <= 0 or not math.isfinite(width):
                if len(case.scores.blocks) > 1:
                    continue
                return None
            needed = max(needed, n * (width / room) ** 2)
    return math.ceil(needed) if needed else None


def further_runs(case: Case, way: str) -> Iterator[Experiment]:
    """Yields the run that would tell most, given why the verdict is undecided."""
    decision = case.decision
    if decision is None and way == "no evidence":
        left = [m for m in case.scores.labels if m not in case.out]
        if left:
            first = {case.scores.kind(m): m for m in reversed(left)}
            kept = tuple(dict.fromkeys([*first.values(), *left]))[:_MOST_METHODS]
            yield _experiment(case, kept, _COMFORTABLE_PAIRS, ("none", _USUAL_SHIFT))
    if decision is None or way == "conflict":
        return
    contenders = _contenders(case)
    now = min((len(s.subjects) for block in case.scores.blocks for s in block.strata), default=0)
    if way == "no evidence":
        yield _experiment(case, contenders, max(now, MINIMUM_PAIRS), ("none", _USUAL_SHIFT))
    elif way == "one paradigm":
        rest = ("voxelmorph-cohort", "instance-optimise") if "classical" in decision.paradigms else ("greedy", "demons")
        methods = (decision.leader, *rest)
        conditions = ("none",) if case.situation.deploy == "same" else ("none", _USUAL_SHIFT)
        yield _experiment(case, methods, max(now, _COMFORTABLE_PAIRS), conditions)
    else:
        needed = needed_pairs(case) if now >= MINIMUM_PAIRS else _COMFORTABLE_PAIRS
        if needed and needed <= _MOST_PAIRS:
            yield _experiment(case, contenders, max(needed, MINIMUM_PAIRS), _conditions(case))


def _contenders(case: Case) -> tuple[str, ...]:
    """Returns the leader and the methods that may still be better, the best three of each paradigm at most."""
    decision = case.decision
    assert decision is not None
    open_ = decision.open_rivals(decision.leader)
    kept = [m for kind in decision.paradigms for m in [x for x in decision.of(kind) if x in open_][:3]]
    best = [decision.of(kind)[0] for kind in decision.paradigms]
    return tuple(dict.fromkeys([decision.leader, *kept, *best]))


def _conditions(case: Case) -> tuple[str, ...]:
    return tuple(dict.fromkeys(c for b in case.scores.blocks for s in b.strata for c in s.conditions))


def _experiment(case: Case, methods: Sequence[str], n_pairs: int, conditions: tuple[str, ...]) -> Experiment:
    datasets = dict.fromkeys(s.dataset for block in case.scores.blocks for s in block.strata)
    known = [case.scores.seconds(method) for method in methods if method in case.scores.labels]
    seconds = [value for value in known if value is not None]
    minutes = None
    if seconds:
        # Methods that were not run yet count like the slowest of those that were.
        total = sum(seconds) + (len(methods) - len(seconds)) * max(seconds)
        minutes = total * n_pairs * len(conditions) * max(len(datasets), 1) / 60
    return Experiment(run_words(methods, n_pairs, conditions, minutes), tuple(methods), n_pairs, conditions, minutes)


def run_words(methods: Sequence[str], n_pairs: int, conditions: Sequence[str], minutes: float | None) -> str:
    """Returns what to run in a sentence, with about how long it takes."""
    under = ""
    if len(conditions) > 3:
        under = f", under the same {len(conditions)} conditions"
    elif tuple(conditions) != ("none",):
        under = f", under {wording.listed(['no shift' if c == 'none' else c for c in conditions])}"
    time = f": {duration(minutes)}" if minutes is not None else ""
    return f"Run {wording.listed(methods)} on {n_pairs} pairs{under}{time}."


def duration(minutes: float) -> str:
    """Returns a time in words, like 'about 8 minutes'."""
    if minutes < 1.5:
        return "about one minute" if minutes >= 0.75 else "less than a minute"
    return f"about {minutes:.0f} minutes" if minutes < 100 else f"about {minutes / 60:.0f} hours"


def prior_minutes(methods: Sequence[str], n_pairs: int, n_conditions: int, megavoxels: float | None) -> float | None:
    """Returns about how many minutes a run takes; None where the size of the images is not known."""
    if megavoxels is None:
        return None
    per_pair = sum(SECONDS_PER_MEGAVOXEL.get(method, 20.0) * megavoxels for method in methods)
    return per_pair * n_pairs * n_conditions / 60


# -- as a config --------------------------------------------------------------------------------------


def config_of(experiment: Experiment, datasets: Sequence[Any], runs: Runs = (), name: str = "to-decide") -> str:
    """Returns the text of a config for `regbench run`: these datasets, methods and conditions, all else as default.

    `datasets` are entries as configs have them. Methods that a run has are written with the parameters of that run.
    """
    known = {m.get("label"): m for run in runs for m in (run.get("config") or {}).get("methods") or ()}
    shifts = {label: entry for run in runs for label, entry in (run.get("conditions") or {}).items()}
    labels = dict.fromkeys(["identity", *experiment.methods])
    content: dict[str, Any] = {
        "name": name,
        "datasets": list(datasets),
        "methods": [entry_of(known[label]) if label in known else _WRITTEN.get(label, label) for label in labels],
        "conditions": [_condition(label, shifts) for label in experiment.conditions],
    }
    prealign = {(run.get("config") or {}).get("prealign") for run in runs} - {None, "none"}
    if len(prealign) == 1:
        content["prealign"] = prealign.pop()
    head = f"# {experiment.text}\n# Then: regbench recommend runs/{name}\n"
    return head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def datasets_for(
    experiment: Experiment, runs: Sequence[Mapping[str, Any]], dataset: str | None
) -> tuple[list[Any], str]:
    """Returns the entries of the data sets to run on, and a note where their pairs are not as many as asked for.

    Data sets that draw their pairs draw the wanted number; of others all pairs are taken.
    """
    if not runs:
        if dataset is None:
            return [_drawn({"name": "mni-cohort", "parameters": {"spacing_mm": 3}}, experiment.n_pairs)], (
                " for simulated subjects (name your own with --dataset)"
            )
        path = Path(dataset)
        entry = {"name": str(path.resolve()) if path.exists() else dataset, "parameters": {}}
        return [_drawn(entry, experiment.n_pairs)], ""
    entries = [entry for run in runs for entry in (run.get("config") or {}).get("datasets") or ()]
    entries = [entry for entry in entries if dataset in (None, entry.get("label"), entry.get("name"))]
    written = [_drawn(entry, experiment.n_pairs) for entry in entries]
    unique = [entry for number, entry in enumerate(written) if entry not in written[:number]]
    fixed = any(not _draws(entry) for entry in entries)
    return unique, f" (all pairs of the data; {experiment.n_pairs} are wanted)" if fixed else ""


def _draws(entry: Mapping[str, Any]) -> bool:
    return entry.get("name") == "mni-cohort"


def _drawn(entry: Mapping[str, Any], n_pairs: int) -> Any:
    if not _draws(entry):
        return entry_of(entry)
    kind = "disjoint" if n_pairs <= _DISJOINT_PAIRS else "random"
    return entry_of(entry, pairs=f"{kind}:{n_pairs}")


def entry_of(entry: Mapping[str, Any], **changes: Any) -> Any:
    """Returns an entry of a resolved config as it is written in a config."""
    parameters = {**(entry.get("parameters") or {}), **changes}
    if entry.get("label") not in (None, entry.get("name")):
        parameters["as"] = entry["label"]
    return {entry["name"]: parameters} if parameters else entry["name"]


def _condition(label: str, shifts: Mapping[str, Mapping[str, Any]]) -> Any:
    """Returns a condition as a config has it; those of a run keep their parameters and their labels."""
    if label in shifts:
        return entry_of({"label": label, **shifts[label]})
    name, _, strength = label.partition(" ")
    return {name: {"strength": float(strength)}} if strength else name
