"""The subjects of a dataset, listed without opening an image, and read once each with their labels.

Of a folder they are the scans of its split, of a generated dataset its subjects, of a list of pairs both sides of
every pair that names a subject not met before: a subject is measured once, however many pairs it is in. Label sets
that are made of one label file share one reading; those with a file of their own are read apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from regbench.datasets.folder_dataset import FolderDataset
from regbench.datasets.label_sets import LabelChoice, LabelSet
from regbench.datasets.protocol import Dataset, PairRef, SubjectSource
from regbench.errors import ConfigError, DatasetError
from regbench.information.subject import NO_LABELS, NamedLabels, Scan

AS_THEY_ARE = "as in the files"


@dataclass(frozen=True)
class Task:
    """What a worker reads at once: a subject by its name, or the sides of a pair whose subjects are new."""

    subjects: tuple[str, ...]
    ref: PairRef | None = None
    sides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """A dataset that is read with one label file, and the label sets that are made of its labels."""

    dataset: Dataset
    sets: tuple[NamedLabels, ...]


def readings(dataset: Dataset, choices: Sequence[tuple[str, LabelChoice]]) -> list[Reading]:
    """How a dataset is read for label sets by name and choice; without any, for its own.

    Raises ConfigError if the dataset has no parameter for labels, or no such set.
    """
    if not choices:
        return [Reading(dataset, (NamedLabels(own_name(dataset), LabelSet({})),))]
    if not hasattr(dataset, "labels"):
        raise ConfigError("--labels: this dataset has one label set only; leave the option out")
    if not isinstance(dataset, FolderDataset):
        chosen = [(name, _with_labels(dataset, choice)) for name, choice in choices]
        return [Reading(one, (NamedLabels(name, LabelSet({})),)) for name, one in chosen]
    found: dict[str, Reading] = {}
    for name, choice in choices:
        one = _with_labels(dataset, choice)
        plain, file = _label_file(one)
        known = found.get(file)
        sets = (*(known.sets if known else ()), NamedLabels(name, one.harmonised))
        found[file] = Reading(known.dataset if known else _with_labels(dataset, plain), sets)
    return list(found.values())


def own_name(dataset: Dataset) -> str:
    """What to call the label set that a dataset has by itself."""
    choice = getattr(dataset, "labels", None)
    return AS_THEY_ARE if choice is None else choice if isinstance(choice, str) else "groups"


def _with_labels(dataset: Any, choice: LabelChoice) -> Any:
    return replace(dataset, labels=choice)


def _label_file(dataset: FolderDataset) -> tuple[str | None, str]:
    """The choice that reads the label file of a dataset as it is, and which file that is, by its name in the layout."""
    choice = dataset.labels
    files = {name for scan in dataset.scans.values() for name in scan.labels}
    if isinstance(choice, str) and choice in files:
        return choice, choice
    return None, ""


def tasks(dataset: Dataset, limit: int | None = None) -> list[Task]:
    """The subjects of a dataset, the first `limit` of them; opens no image."""
    if isinstance(dataset, FolderDataset | SubjectSource):
        return [Task((name,)) for name in dataset.subjects()][:limit]
    met: set[str] = set()
    found: list[Task] = []
    for ref in dataset.pair_refs():
        sides = []
        for side, subject in (("fixed", ref.fixed), ("moving", ref.moving)):
            if subject not in met and (limit is None or len(met) < limit):
                met.add(subject)
                sides.append((side, subject))
        if sides:
            found.append(Task(tuple(subject for _, subject in sides), ref, tuple(side for side, _ in sides)))
    return found


def read(dataset: Dataset, task: Task) -> list[Scan]:
    """The scans of the subjects of a task; DatasetError if they cannot be read."""
    if task.ref is not None:
        pair = dataset.load(task.ref)
        return [
            Scan(subject, *(getattr(pair, f"{side}{part}") for part in ("", "_labels", "_excluded")))
            for side, subject in zip(task.sides, task.subjects, strict=True)
        ]
    (name,) = task.subjects
    if isinstance(dataset, FolderDataset):
        return [_of_folder(dataset, name)]
    if isinstance(dataset, SubjectSource):
        return [Scan(name, *dataset.scan(name))]
    raise DatasetError(f"'{name}': this dataset cannot be read subject by subject")


def _of_folder(dataset: FolderDataset, name: str) -> Scan:
    from regbench.files.images import read_labels

    scan = dataset.scans[name]
    files = dataset.files_of(scan)
    if "labels" not in files:
        raise DatasetError(f"'{name}' {NO_LABELS}")
    image, labels, _ = dataset.read(scan)
    return Scan(name, image, labels, read_labels(files["excluded"]) if "excluded" in files else None)
