"""Label harmonisation: subsets and merges of labels, so that sets of different content are compared on the same images.

The parameter `labels` of a dataset is one of

    null                          the labels as they are in the files
    none                          no labels
    seg35, seg4, DKT31, ...       a label file that the layout has under this name, else a grouping of its table
    common                        left and right caudate, putamen and hippocampus, and the brain stem: what all
                                  tables of whole brains share, under their FreeSurfer numbers
    freesurfer                    all labels that have one under their FreeSurfer numbers
    sides-merged                  left and right of a structure as one label
    {thalamus: [7, 26], ...}      groups of your own; they become 1, 2, ... in their order, or the number that is their
                                  name: {10: [7], 49: [26]}
    [7, 26]                       these labels, under their numbers
    groups.json                   a file that holds one of both

Labels outside of all groups become background.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from regbench.datasets.label_tables import COMMON, FREESURFER_NAMES, TABLES, LabelTable
from regbench.errors import ConfigError
from regbench.volume import Labels

LabelChoice = str | dict[str | int, list[int]] | list[int] | None
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class LabelSet:
    """New labels: their names, and the labels of the file that each of them holds; no groups keep all as they are."""

    names: Mapping[int, str]
    groups: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    def apply(self, labels: Labels) -> Labels:
        """The label map with the labels of each group as one, the rest as background, and with names."""
        if not self.groups:
            return Labels(labels.array, labels.grid, dict(self.names)) if self.names else labels
        largest = max(int(labels.values.max(initial=0)), 0)
        table = np.zeros(largest + 1, np.int32)
        for new, old in self.groups.items():
            table[[value for value in old if value <= largest]] = new
        return Labels(table[labels.array], labels.grid, dict(self.names))

    def as_json(self) -> dict[str, list[int]]:
        """The groups as plain data, for records and fingerprints; {} if labels stay as they are."""
        return {str(new): list(old) for new, old in self.groups.items()}


def label_set(choice: LabelChoice, table: str | None, where: str) -> LabelSet:
    """The label set of the parameter `labels` for label files in `table`; ConfigError, naming `where`, otherwise."""
    known = TABLES[table] if table else LabelTable({}, {})
    if choice is None:
        return LabelSet(known.names)
    if isinstance(choice, str) and choice.lower().endswith(".json"):
        return _grouped(_from_file(Path(choice), where), known, where)
    if isinstance(choice, str):
        return _named(choice, known, where)
    if isinstance(choice, Mapping):
        return _grouped({str(name): values for name, values in choice.items()}, known, where)
    return _grouped(choice, known, where)


def check_table(name: str | None, where: str) -> None:
    """ConfigError, naming `where`, if there is no table of labels with this name."""
    if name is not None and name not in TABLES:
        raise ConfigError(f"{where}: unknown table of labels '{name}'; known: {', '.join(TABLES)}")


def groupings(table: str | None) -> list[str]:
    """The names that `label_set` knows for a table."""
    if table is None:
        return []
    known = TABLES[table]
    named = list(known.merges)
    if known.freesurfer:
        named += ["common", "freesurfer"]
    return named + (["sides-merged"] if _sides(known) else [])


def _named(name: str, table: LabelTable, where: str) -> LabelSet:
    if name in table.merges:
        groups = table.merges[name]
        if all(len(old) == 1 for old in groups.values()):
            return LabelSet({old[0]: new for new, old in groups.items()}, {old[0]: old for old in groups.values()})
        return _numbered(groups)
    if name in ("common", "freesurfer") and table.freesurfer:
        wanted = COMMON if name == "common" else FREESURFER_NAMES
        found = {new: tuple(v for v, n in table.freesurfer.items() if n == new) for new in wanted}
        groups_by_number = {new: old for new, old in found.items() if old}
        return LabelSet({new: wanted[new] for new in groups_by_number}, groups_by_number)
    if name == "sides-merged" and _sides(table):
        return _numbered(_sides(table))
    if not table.names:
        raise ConfigError(
            f"{where}: '{name}' is not known, and names of these labels are not on record; give groups such as "
            "{both sides: [1, 2]}"
        )
    known = [*table.merges, *(("common", "freesurfer") if table.freesurfer else ())]
    known += ["sides-merged"] if _sides(table) else []
    raise ConfigError(f"{where}: unknown label set '{name}'; known: {', '.join(known)}; or give groups of your own")


def without_sides(names: Mapping[int, str]) -> Mapping[str, tuple[int, ...]]:
    """All structures with these names, those that only differ in their side together; {} if they have no sides."""
    groups: dict[str, tuple[int, ...]] = {}
    for value, name in names.items():
        bare = name.removeprefix("left ").removeprefix("right ")
        groups[bare] = (*groups.get(bare, ()), value)
    return groups if len(groups) < len(names) else {}


def _sides(table: LabelTable) -> Mapping[str, tuple[int, ...]]:
    return without_sides(table.names)


def _numbered(groups: Mapping[str, Sequence[int]]) -> LabelSet:
    names = dict(enumerate(groups, start=1))
    return LabelSet(names, {new: tuple(groups[name]) for new, name in names.items()})


def _grouped(groups: Mapping[str, list[int]] | Sequence[int], table: LabelTable, where: str) -> LabelSet:
    """The label set of a user's groups or list, checked."""
    if not isinstance(groups, Mapping):
        _check_values(groups, where)
        return LabelSet({v: table.names.get(v, str(v)) for v in groups}, {int(v): (int(v),) for v in groups})
    if not groups:
        raise ConfigError(f"{where}: has no groups; write {{name: [1, 2]}}")
    taken: dict[int, str] = {}
    for name, values in groups.items():
        _check_values(values, f"{where}.{name}")
        for value in values:
            if value in taken:
                raise ConfigError(f"{where}: label {value} is in '{taken[value]}' and in '{name}'; keep one of them")
            taken[value] = name
    if all(str(name).isdecimal() and 0 < int(name) <= _LARGEST for name in groups):
        numbered = {int(name): tuple(values) for name, values in groups.items()}
        return LabelSet({new: table.names.get(new, str(new)) for new in numbered}, numbered)
    return _numbered(groups)


def _check_values(values: Any, where: str) -> None:
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(f"{where}: {values!r} is not a list of labels, such as [7, 26]")
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _LARGEST:
            raise ConfigError(f"{where}: {value!r} is not a label; labels are whole numbers above 0")


def _from_file(path: Path, where: str) -> Any:
    try:
        found = json.loads(path.expanduser().read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{where}: {path}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: {path}: cannot be read as JSON ({error}); write it again") from None
    if not isinstance(found, dict | list):
        raise ConfigError(f"{where}: {path}: holds neither groups nor a list of labels")
    return found
