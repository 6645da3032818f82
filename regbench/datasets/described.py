"""`described`: any other layout, described in a YAML file by patterns of file names.

    root: $DATA/my-study                              # default: the folder of the YAML file
    image: "{split}/{subject}_{session}/T1_*.nii.gz"  # paths below root
    labels: "seg/{subject}_{session}.nii.gz"          # or several: {aseg: "...", dkt: "..."}
    mask: "masks/{subject}.nii.gz"                    # also landmarks, keypoints (.csv)
    excluded: "lesions/{subject}.nii.gz"              # masks of what takes no part in scores
    label_names: {1: left hippocampus, 2: right hippocampus}
    pairs: consecutive                                # any parameter of folders: pairs, split, labels, seed, held_out

`{name}` stands for a part of a path without a slash, `*` and `?` for anything within a folder, `**` for folders.
`subject` must occur; `split` tells the part (train, validation, test); all others become tags of the rows. A scan is
called by its subject and, where a subject has several, by the other groups. Groups in the patterns of labels, masks
and points are those of their image; where a `*` leaves several files to choose from, that is an error, not a guess.
In a config write the path of the YAML file; parameters given there go before those in the file.

Also: `label_table: freesurfer` (or seg35, lpba40, ...) for what `labels: common` needs; `label_set` what the
parameter `labels` is elsewhere; `points: one-based | lps-mm` for landmarks in text files of voxel indices from one,
or in LPS mm; `family`, see `regbench.families`; `licence` and `citation` go into the record of a run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from regbench.datasets.folder_dataset import FolderDataset, split_name
from regbench.datasets.label_sets import LabelChoice, LabelSet, check_table
from regbench.datasets.listing import Layout, ListedScan
from regbench.datasets.pair_protocols import order_key
from regbench.errors import ConfigError, DatasetError
from regbench.parameters import check_parameters, expand_variables, nearest
from regbench.volume import Grid, Landmarks

_FILES = ("image", "labels", "mask", "landmarks", "keypoints", "excluded")
_PARAMETERS = ("pairs", "split", "held_out", "seed", "limit", "label_set")
_KEYS = (*_FILES, "root", "name", "points", "label_names", "label_table", "family", "licence", "citation", *_PARAMETERS)
_POINTS = ("voxels", "one-based", "lps-mm")
_GROUP = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Described(FolderDataset):
    """The data set; `path` is the YAML file, and what is null here is taken from it."""

    pairs: str = ""
    labels: LabelChoice = None

    layout: ClassVar = Layout(name="described", looks_for="a YAML file with the key image")

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The one YAML file of a folder that describes it (`regbench.yaml` or `dataset.yaml`)."""
        for name in ("regbench.yaml", "dataset.yaml"):
            if (folder / name).is_file():
                return {"path": str(folder / name)}
        return None

    @property
    def folder(self) -> Path:
        """The root of the data."""
        root = str(self.description.get("root", "."))
        try:
            return (self._yaml.parent / Path(expand_variables(root)).expanduser()).absolute()
        except ValueError as error:
            raise DatasetError(f"{self._yaml}: root: {error}; set it to the folder of the data") from None

    @property
    def _yaml(self) -> Path:
        try:
            return Path(expand_variables(self.path)).expanduser()
        except ValueError as error:
            raise DatasetError(f"{self._where('path')}: {error}; set it to the folder of the data") from None

    @cached_property
    def description(self) -> dict[str, Any]:
        """The content of the YAML file, checked; DatasetError, naming the key, for anything not understood."""
        import yaml

        try:
            read = yaml.safe_load(self._yaml.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DatasetError(f"{self._yaml}: no such file; check the path") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DatasetError(f"{self._yaml}: cannot be read as YAML ({' '.join(str(error).split())})") from None
        if not isinstance(read, dict) or not isinstance(read.get("image"), str):
            raise DatasetError(f"{self._yaml}: describes no dataset; it needs the key image with a pattern of paths")
        for key in read:
            if key not in _KEYS:
                hint = nearest(str(key), list(_KEYS))
                raise DatasetError(f"{self._yaml}: unknown key '{key}'{hint}; known: {', '.join(_KEYS)}")
        if "subject" not in _GROUP.findall(read["image"]):
            raise DatasetError(f"{self._yaml}: image: the group {{subject}} is missing; it says whose scan a file is")
        if read.get("points", "voxels") not in _POINTS:
            raise DatasetError(f"{self._yaml}: points: {read['points']!r} is not known; known: {', '.join(_POINTS)}")
        check_table(read.get("label_table"), f"{self._yaml}: label_table")
        return read

    @cached_property
    def _in_force(self) -> Described:
        """This dataset with the parameters of the file where none are given."""
        given = {key: self.description[key] for key in _PARAMETERS if key in self.description}
        if "label_set" in given:
            given["labels"] = given.pop("label_set")
        unset = {"split": None, "pairs": "", "labels": None, "held_out": 0, "seed": 0, "limit": None}
        chosen = {key: value for key, value in given.items() if getattr(self, key) == unset[key]}
        checked = check_parameters(type(self), {"path": self.path, **chosen}, str(self._yaml))
        known: dict[str, Any] = {key: checked[key] for key in chosen}
        return replace(self, **{"pairs": self.pairs or "consecutive", **known})

    def manifest(self) -> dict[str, Any]:
        """What identifies the data for the record: the description and its hash, parameters, pairs, subjects."""
        told: dict[str, Any] = {
            key: str(self.description[key]) for key in ("name", "licence", "citation") if key in self.description
        }
        return {**super().manifest(), **told, "yaml_sha256": hashlib.sha256(self._yaml.read_bytes()).hexdigest()}

    def _table(self) -> str | None:
        return self.description.get("label_table")

    def _listed(self) -> list[ListedScan]:
        pattern = self.description["image"]
        found = [(path, groups) for path, groups in _matches(self.folder, pattern)]
        per_subject: dict[str, int] = {}
        for _, groups in found:
            per_subject[groups["subject"]] = per_subject.get(groups["subject"], 0) + 1
        scans = []
        for path, groups in found:
            others = [value for key, value in groups.items() if key not in ("subject", "split")]
            many = per_subject[groups["subject"]] > 1
            scans.append(self._scan("-".join([groups["subject"], *(others if many else ())]), path, groups))
        return sorted(scans, key=lambda scan: order_key(scan.name))

    def _scan(self, name: str, image: Path, groups: Mapping[str, str]) -> ListedScan:
        labels = self.description.get("labels") or {}
        patterns = labels if isinstance(labels, Mapping) else {"labels": labels}
        found = {str(key): self._partner("labels", str(value), groups) for key, value in patterns.items()}
        others = {
            part: self._partner(part, str(self.description[part]), groups)
            for part in ("mask", "landmarks", "keypoints", "excluded")
            if part in self.description
        }
        tags: dict[str, Any] = {k: v for k, v in groups.items() if k not in ("subject", "split")}
        if "family" in self.description:
            tags["family"] = str(self.description["family"])
        return ListedScan(
            name,
            image,
            {key: path for key, path in found.items() if path is not None},
            subject=groups["subject"],
            split=split_name(groups.get("split", "")),
            tags=tags,
            **others,
        )

    def _partner(self, part: str, pattern: str, groups: Mapping[str, str]) -> Path | None:
        for name in _GROUP.findall(pattern):
            if name not in groups:
                raise DatasetError(f"{self._yaml}: {part}: the group {{{name}}} does not occur in the pattern of image")
        filled = _GROUP.sub(lambda match: groups[match[1]], pattern)
        if not any(sign in filled for sign in "*?"):
            path = self.folder / filled
            return path if path.is_file() else None
        found = [path for path, _ in _matches(self.folder, filled)]
        if len(found) > 1:
            raise DatasetError(f"{self._yaml}: {part}: {found[0]} and {found[1]} both match; write a narrower pattern")
        return found[0] if found else None

    @cached_property
    def _label_set(self) -> tuple[str, LabelSet]:
        name, chosen = super()._label_set
        return name, chosen if chosen.names else replace(chosen, names=self._names_of_labels())

    def _names_of_labels(self) -> dict[int, str]:
        names = self.description.get("label_names") or {}
        try:
            return {int(value): str(name) for value, name in names.items()}
        except (AttributeError, ValueError):
            raise ConfigError(f"{self._yaml}: label_names: write numbers and names, such as {{1: liver}}") from None

    def _points_of(self, scan: ListedScan, path: Path, grid: Grid) -> Landmarks:
        kind = self.description.get("points", "voxels")
        if kind == "one-based":
            from regbench.datasets.dirlab import one_based_points

            return one_based_points(path, grid)
        if kind == "lps-mm":
            from regbench.datasets.brats_reg import lps_points

            return lps_points(path)
        return super()._points_of(scan, path, grid)


def _matches(root: Path, pattern: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """The files below a folder that match a pattern, with the texts of its groups; in the order of their paths."""
    compiled = re.compile(_expression(pattern))
    coarse = _GROUP.sub("*", pattern)
    for path in sorted(root.glob(coarse), key=lambda path: order_key(str(path.relative_to(root)))):
        match = compiled.fullmatch(path.relative_to(root).as_posix())
        if match and path.is_file() and not path.name.startswith("._"):
            yield path, match.groupdict()


def _expression(pattern: str) -> str:
    """The regular expression of a pattern; a group that occurs again must be the same text again."""
    found, seen, end = "", set(), 0
    for match in _GROUP.finditer(pattern):
        found += _globbed(pattern[end : match.start()])
        found += f"(?P={match[1]})" if match[1] in seen else f"(?P<{match[1]}>[^/]+?)"
        seen.add(match[1])
        end = match.end()
    return found + _globbed(pattern[end:])


def _globbed(text: str) -> str:
    pieces = re.split(r"(\*\*/|\*|\?)", text)
    signs = {"**/": r"(?:[^/]+/)*", "*": r"[^/]*", "?": r"[^/]"}
    return "".join(signs.get(piece, re.escape(piece)) for piece in pieces)
