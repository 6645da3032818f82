"""Pairs that hold subjects on which a method was trained: how they are recognised, and what a run does with them.

A pair is *leaked* for a method if the fixed or the moving subject is among those that its card, or the card inside
its weight file, says it was trained on; it is *possibly* leaked if the card names the dataset and not the subjects, or
if the id of the subject leaves open who is meant. What a run does with both is `leaks` of its config:

    exclude    run them, mark their rows, and keep these rows out of tables, means, verdicts and figures (the default)
    include    run and mark them, and count them like any other
    refuse     do not run them: their rows are skips

Marks are facts of a plan, not of a measurement: they are no part of a case's key, and rows that were written without
one get that of the newest plan of their run folder. Which dataset a subject is of is told by the `family` of the
dataset in the config or in the tags of the pair, by the name of the dataset or of its task, by its label in the config,
or by ids that only one dataset has (see `regbench.families`).

What was trained on is a mapping: `dataset` and `subjects` (ids, or ranges such as '0001 ... 0283'), with `before` a
list of such mappings for earlier trainings. Where these are words for people, `families` says it once more: the name
of a family to its ids, to {split: name}, or to None where it is not stated which of its subjects were used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from regbench import targets
from regbench.errors import ConfigError
from regbench.families import FAMILIES, Family, family_of, listed_ids, other_family
from regbench.methods.card import Card
from regbench.methods.weights_table import WEIGHTS

LeakPolicy = Literal["exclude", "include", "refuse"]
Certainty = Literal["yes", "possibly"]
_SIDES = ("fixed", "moving")
# Learn2Reg counts the subjects of a task; other datasets number them.
_COUNTED = "learn2reg"


@dataclass(frozen=True)
class Scan:
    """A subject of a pair, as far as it can be told: its id in its dataset, family, split, and where it is read."""

    identity: str
    family: Family
    split: str | None
    source: str | None
    canonical: tuple[str, ...]


@dataclass(frozen=True)
class Training:
    """Subjects of one family that a method was trained on.

    `members` are canonical ids, or None where it is not stated which; `split` names a part that all were of; `source`
    is the file that names the subjects of a dataset of the user's own.
    """

    family: Family
    members: frozenset[str] | None
    split: str | None = None
    source: str | None = None

    def holds(self, scan: Scan) -> Certainty | None:
        """Whether a subject is among these."""
        if scan.family.name != self.family.name:
            return None
        if self.split is not None:
            return "possibly" if scan.split is None else "yes" if _split(scan.split) == _split(self.split) else None
        if self.members is None or not scan.canonical:
            return "possibly"
        found = [identity in self.members for identity in scan.canonical]
        if not any(found):
            return None
        is_same_source = not (self.source and scan.source) or self.source == scan.source
        return "yes" if all(found) and is_same_source else "possibly"


# -- what is tested ------------------------------------------------------------------------------------


def scans_of(
    pair: Mapping[str, Any],
    dataset: str,
    parameters: Mapping[str, Any],
    manifest: Mapping[str, Any],
    *names: str | None,
) -> dict[str, Scan]:
    """The sides of a pair of the dataset `dataset`; `names` are its family and its label, as the config has them."""
    tags = pair.get("tags") or {}
    family, label = (*names, None, None)[:2]
    told = [family, tags.get("family"), tags.get("dataset"), manifest.get("task"), dataset, label]
    known = [str(name) for name in told if name]
    split = tags.get("split") or parameters.get("split") or manifest.get("split")
    counted = dataset == _COUNTED or any(name.lower().startswith(_COUNTED) for name in known)
    found = {}
    for side in _SIDES:
        identity = str(pair[side])
        own = other_family(family) if family else family_of(known, identity) or other_family(dataset)
        canonical = own.identify(_seeded(own, identity, parameters), counted)
        found[side] = Scan(identity, own, None if split is None else str(split), _source(parameters), canonical)
    return found


def _seeded(family: Family, identity: str, parameters: Mapping[str, Any]) -> str:
    """The id with the seed of a generator where that is not 0: other seeds make other subjects."""
    seed = parameters.get("seed") if family.name == "mni-cohort" else None
    return f"{identity} of seed {seed}" if seed else identity


def _source(parameters: Mapping[str, Any]) -> str | None:
    path = parameters.get("path")
    return str(path) if path else None


def _split(name: str) -> str:
    return {"training": "train", "val": "validation", "testing": "test"}.get(name.lower(), name.lower())


# -- what was trained on ---------------------------------------------------------------------------------


def trainings_of(name: str, parameters: Mapping[str, Any], declared: Mapping[str, Any] | None = None) -> list[Training]:
    """What the method `name` with these parameters was trained on; `declared` is what the user says about it.

    A method that goes on from the result of another one was trained on what that one was. Of a
    weight file that is not the one on record nothing is known, unless it tells itself.
    """
    if declared is not None:
        return read_trainings(declared)
    inner = targets.inner_method(name, parameters)
    if inner is not None:
        return trainings_of(*inner)
    card = targets.method_card(name, parameters)
    return [] if _has_other_weights(name, card, parameters) else read_trainings(card.trained_on)


def _has_other_weights(name: str, card: Card, parameters: Mapping[str, Any]) -> bool:
    """Whether a released network has been given a file that is none of those on record."""
    weights = parameters.get("weights")
    if not isinstance(weights, str) or targets.method_card(name).weights not in WEIGHTS:
        return False
    path = Path(weights).expanduser()
    return path.is_file() and _sha256(path) not in {row.sha256 for row in WEIGHTS.values()}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_trainings(trained_on: Mapping[str, Any]) -> list[Training]:
    """The machine's reading of `trained_on` of a card."""
    families = trained_on.get("families")
    if isinstance(families, Mapping):
        found = [_training(other_family(str(name)), which) for name, which in families.items()]
    else:
        found = _of_dataset(trained_on)
    for earlier in trained_on.get("before") or []:
        found += read_trainings(earlier)
    return found


def _training(family: Family, which: Any) -> Training:
    if which is None:
        return Training(family, None)
    if isinstance(which, Mapping) and "split" in which:
        return Training(family, None, split=str(which["split"]))
    if not isinstance(which, str | list | tuple):
        raise ConfigError(f"trained_on: families.{family.name} is {which!r}; give ids, {{split: name}}, or nothing")
    return Training(family, frozenset(c for i in listed_ids(which) for c in family.identify(i, False)))


def _of_dataset(trained_on: Mapping[str, Any]) -> list[Training]:
    """The trainings of `dataset` and `subjects`, sorted by the families that the ids belong to."""
    dataset, parameters = trained_on.get("dataset"), trained_on.get("parameters") or {}
    subjects = trained_on.get("subjects")
    if not dataset:
        return []
    if not subjects:
        return [Training(other_family(str(dataset)), None)]
    if not isinstance(subjects, str | list | tuple):
        subjects = str(subjects)
    sorted_ids: dict[str, set[str]] = {}
    for identity in listed_ids(subjects):
        family = family_of([str(dataset)], identity) or other_family(str(dataset))
        canonical = family.identify(_seeded(family, identity, parameters), dataset == _COUNTED)
        sorted_ids.setdefault(family.name, set()).update(canonical)
    return [
        Training(other_family(name), frozenset(ids), source=None if name in FAMILIES else _source(parameters))
        for name, ids in sorted_ids.items()
    ]


# -- marks ---------------------------------------------------------------------------------------------


def leak_of(trainings: Iterable[Training], scans: Mapping[str, Scan]) -> dict[str, Any] | None:
    """The mark of a pair for a method: `sides`, whether that is `certain`, and `reason` in words; None without one."""
    trainings = list(trainings)
    held: dict[str, tuple[Certainty, Training]] = {}
    for side, scan in scans.items():
        answers = [(answer, training) for training in trainings if (answer := training.holds(scan))]
        if answers:
            # What is certain goes before what is possible.
            held[side] = max(answers, key=lambda found: found[0] == "yes")
    if not held:
        return None
    certain = [side for side, (answer, _) in held.items() if answer == "yes"]
    sides = certain or list(held)
    training = held[sides[0]][1]
    ids = " and ".join(dict.fromkeys(scans[side].identity for side in sides))
    if certain:
        reason = f"trained on {ids} of {training.family.name}"
    elif training.members is None:
        which = f"part '{training.split}' of " if training.split else ""
        reason = f"trained on {which}{training.family.name}, and it is not known whether on {ids}"
    else:
        reason = f"possibly trained on {ids}: the id leaves open who that is in {training.family.name}"
    return {"sides": sides, "certain": bool(certain), "reason": reason}


def refusal(leak: Mapping[str, Any]) -> str:
    """Why a leaked pair is skipped where leaks are refused."""
    return f"leak refused: {leak['reason']} (`leaks: exclude` would run it, and keep it out of the tables)"


def leak_sentences(cases: Iterable[Any], policy: LeakPolicy) -> list[str]:
    """A sentence per dataset and method with leaked pairs: how many there are, an example, what becomes of them."""
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    for case in cases:
        pairs.setdefault((case.dataset, case.method), {})[str(case.pair["id"])] = case.leak
    fate = {
        "exclude": "they run, and are left out of the tables (`leaks: include` counts them)",
        "include": "they count like any other, as `leaks: include` says",
        "refuse": "they are skipped, as `leaks: refuse` says",
    }[policy]
    found = []
    for (dataset, method), marks in pairs.items():
        leaks = [mark for mark in marks.values() if mark is not None]
        if leaks:
            many = f"{len(leaks)} of {len(marks)} pairs"
            found.append(f"{dataset}: {method} was {leaks[0]['reason']} ({many} are such): {fate}")
    return found


def is_left_out(row: Mapping[str, Any]) -> bool:
    """Whether a row is kept out of tables because the method was trained on its subjects."""
    leak = row.get("leaked")
    return isinstance(leak, Mapping) and not leak.get("included", False)


def marked_rows(run: Mapping[str, Any], rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a run with the marks and the policy of its latest plan, which run.json has."""
    config = run.get("config")
    is_included = isinstance(config, Mapping) and config.get("leaks") == "include"
    marks = run.get("leaked") if isinstance(run.get("leaked"), Mapping) else {}
    assert isinstance(marks, Mapping)
    marked = []
    for row in rows:
        leak = marks.get(row.get("key")) or row.get("leaked")
        marked.append({**row, "leaked": {**leak, "included": is_included}} if isinstance(leak, Mapping) else row)
    return marked
