"""What all datasets in a folder have in common, so that a loader only says which files belong to which scan.

A loader is a frozen dataclass below `FolderDataset`. It sets `layout`, answers `recognise` and `_listed`, and where
files are of a kind of their own, how they are read (`_image_of`, `_labels_of`, `_points_of`).

Parameters of all of them: `path` is the folder; `split` keeps the scans of one part (train, validation, test);
`pairs` is a protocol of `regbench.datasets.pair_protocols`, drawn with `seed`; `labels` see
`regbench.datasets.label_sets`; `held_out: N` makes the last N subjects the split `test` and the others `train`, for
layouts that have no parts; `limit` keeps the first pairs."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from regbench.datasets.contents import content_hash
from regbench.datasets.label_sets import LabelChoice, LabelSet, groupings, label_set
from regbench.datasets.listing import Layout, ListedScan
from regbench.datasets.pair_protocols import select_pairs
from regbench.datasets.protocol import PairRef
from regbench.errors import ConfigError, DatasetError
from regbench.pair import Pair
from regbench.parameters import as_plain, expand_variables
from regbench.volume import Grid, Image, Labels, Landmarks

logger = logging.getLogger(__name__)

SIDES = ("fixed", "moving")
SPLITS = ("train", "validation", "test")
_SPLIT_WORDS = {"val": "validation", "training": "train", "testing": "test"}


@dataclass(frozen=True)
class FolderDataset:
    """A folder of scans in a known layout."""

    path: str
    split: str | None = None
    pairs: str = "consecutive"
    labels: LabelChoice = None
    held_out: int = 0
    seed: int = 0
    limit: int | None = None

    layout: ClassVar[Layout]

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"{self._where('limit')}: is {self.limit}; it must be at least 1")
        if self.held_out < 0:
            raise ConfigError(f"{self._where('held_out')}: is {self.held_out}; it must not be negative")
        if self.split is not None and split_name(self.split) not in SPLITS:
            raise ConfigError(f"{self._where('split')}: '{self.split}' is unknown; known: {', '.join(SPLITS)}")

    # -- what a loader answers -------------------------------------------------------------------------

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The parameters with which this loader reads a folder, `path` among them; None if it is of another layout."""
        raise NotImplementedError

    def _listed(self) -> list[ListedScan]:
        """All scans of the folder in their order, whatever `split` is; opens no image."""
        raise NotImplementedError

    def _official(self, scans: Mapping[str, ListedScan]) -> list[tuple[str, str]]:
        """The pairs (fixed, moving) that the dataset itself lists, by names of scans."""
        return []

    def _atlas(self) -> str | None:
        """The scan that `atlas` means where no other is named."""
        return None

    @property
    def _in_force(self) -> FolderDataset:
        """The dataset whose parameters hold: this one, unless its data bring parameters of their own."""
        return self

    def _table(self) -> str | None:
        """The table that the labels of the files belong to, see `regbench.datasets.label_tables`."""
        return self.layout.table

    def _image_of(self, scan: ListedScan) -> Image:
        from regbench.files.images import read_image

        return read_image(scan.image)

    def _labels_of(self, scan: ListedScan, path: Path) -> Labels:
        from regbench.files.images import read_labels

        return read_labels(path)

    def _points_of(self, scan: ListedScan, path: Path, grid: Grid) -> Landmarks:
        from regbench.files.images import read_landmarks

        # Half of them outside would be coordinates of another kind; single ones are left out of the score.
        return read_landmarks(path, grid, most_outside=0.5)

    def _hash_of(self, path: Path) -> list[str]:
        """The hashes of all files that the image, labels or points at a path consist of."""
        return content_hash(path)

    # -- pairs -----------------------------------------------------------------------------------------

    def pair_refs(self) -> Sequence[PairRef]:
        """The pairs of the protocol, in order; opens no image. DatasetError if the folder cannot be used."""
        return list(self._pairs.values())[: self._in_force.limit]

    def load(self, ref: PairRef) -> Pair:
        """One pair from its files; DatasetError, naming the file, if one of them cannot be used."""
        parts: dict[str, Any] = {}
        for side, scan in zip(SIDES, self.scans_of(ref), strict=True):
            parts |= {f"{side}{part}": value for part, value in self._parts_of(scan).items()}
        for part in ("landmarks", "keypoints"):
            if not all(f"{side}_{part}" in parts for side in SIDES):
                parts = {name: value for name, value in parts.items() if not name.endswith(f"_{part}")}
        tags = dict(ref.tags)
        if not overlap_in_world(parts["fixed"].grid, parts["moving"].grid):
            # Not an error: native-space data begin like this, and a shared pre-alignment brings them together.
            tags["world_overlap"] = "none"
            logger.warning(
                "%s: the images of pair %s do not meet in world coordinates; set prealign: moments, rigid or affine",
                self.layout.name,
                ref.id,
            )
        return Pair(name=ref.id, fixed_id=ref.fixed, moving_id=ref.moving, tags=tags, **parts)

    def fingerprint(self, ref: PairRef) -> str:
        """The hash of the contents of all files of a pair and of how they are read."""
        contents = [
            {part: self._hash_of(path) for part, path in sorted(self.files_of(scan).items())}
            for scan in self.scans_of(ref)
        ]
        read = [self.layout.name, ref.fixed, ref.moving, self._reading(), self._label_set[1].as_json()]
        return hashlib.sha256(json.dumps([contents, read]).encode()).hexdigest()

    def manifest(self) -> dict[str, Any]:
        """What identifies the data for the record: layout, parameters without the place, pairs and subjects."""
        refs = self.pair_refs()
        parameters = {name: value for name, value in as_plain(asdict(self._in_force)).items() if name != "path"}
        return {
            "layout": self.layout.name,
            "folder": self.folder.name,
            "parameters": parameters,
            "n_scans": len(self.scans),
            "n_pairs": len(refs),
            "subjects": list(dict.fromkeys(name for ref in refs for name in (ref.fixed, ref.moving))),
        }

    # -- scans -----------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """The folder of the data; DatasetError if a variable in `path` is not set."""
        try:
            return Path(expand_variables(self.path)).expanduser()
        except ValueError as error:
            raise DatasetError(f"{self._where('path')}: {error}; set it to the folder of the data") from None

    @cached_property
    def scans(self) -> dict[str, ListedScan]:
        """All scans by name, whatever `split` is; DatasetError if there is none or a name occurs twice."""
        if not self.folder.is_dir():
            raise DatasetError(f"{self.folder}: no such folder; check the path")
        listed = self._listed()
        if not listed:
            raise DatasetError(f"{self.folder}: holds no {self.layout.name} data; looked for {self.layout.looks_for}")
        found: dict[str, ListedScan] = {}
        for scan in listed:
            if scan.name in found:
                raise DatasetError(
                    f"{self.folder}: {found[scan.name].image} and {scan.image} are both '{scan.name}'; keep one of them"
                )
            found[scan.name] = scan
        return self._with_held_out(found)

    def subjects(self, split: str | None = None) -> list[str]:
        """The scans of a split by name (default: this dataset's own); DatasetError if the layout has no such part."""
        wanted = split_name(split or self._in_force.split or "")
        if not wanted:
            return list(self.scans)
        found = [scan.name for scan in self.scans.values() if scan.split == wanted]
        if not found:
            parts = ", ".join(dict.fromkeys(scan.split for scan in self.scans.values() if scan.split))
            has = f"has only the parts {parts}" if parts else "does not say which scans are for what"
            raise DatasetError(
                f"{self.folder}: has no scans for '{wanted}': {self.layout.name} {has}; "
                "give held_out: N to set the last N subjects apart as test"
            )
        return found

    def scan(self, name: str) -> tuple[Image, Labels]:
        """The image and the label map of one scan; DatasetError if it has no labels."""
        parts = self._parts_of(self.scans[name])
        if "_labels" not in parts:
            raise DatasetError(f"{self.folder}: scan '{name}' has no labels")
        return parts[""], parts["_labels"]

    def scans_of(self, ref: PairRef) -> tuple[ListedScan, ListedScan]:
        """The fixed and the moving scan of a pair."""
        if ref.id not in self._pairs:
            raise DatasetError(f"{self.folder}: has no pair '{ref.id}'")
        return self._scans_of_pairs[ref.id]

    def files_of(self, scan: ListedScan) -> dict[str, Path]:
        """The files of a scan that are read, by what they hold: image, labels, mask, points, what is excluded."""
        parts = {
            "image": scan.image,
            "labels": self._label_file(scan),
            "mask": scan.mask,
            "landmarks": scan.landmarks,
            "keypoints": scan.keypoints,
            "excluded": scan.excluded,
        }
        return {part: path for part, path in parts.items() if path is not None}

    def read(self, scan: ListedScan) -> tuple[Image, Labels | None, Landmarks | None]:
        """The image of a scan, its labels, harmonised, and its landmarks; None where it has none."""
        parts = self._parts_of(scan)
        return parts[""], parts.get("_labels"), parts.get("_landmarks")

    def _parts_of(self, scan: ListedScan) -> dict[str, Any]:
        """What is known of a scan, by the name that it has in a `Pair` after the side."""
        from regbench.files.images import read_labels

        files = self.files_of(scan)
        image = self._image_of(scan)
        parts: dict[str, Any] = {"": image}
        if "labels" in files:
            parts["_labels"] = self._label_set[1].apply(self._labels_of(scan, files["labels"]))
        for part in ("mask", "excluded"):
            if part in files:
                parts[f"_{part}"] = read_labels(files[part])
        for part in ("landmarks", "keypoints"):
            if part in files:
                parts[f"_{part}"] = self._points_of(scan, files[part], image.grid)
        return parts

    # -- labels ----------------------------------------------------------------------------------------

    @property
    def harmonised(self) -> LabelSet:
        """What is made of the labels of the files that are read."""
        return self._label_set[1]

    @cached_property
    def _label_set(self) -> tuple[str, LabelSet]:
        """The label file to read, by its name ("" is the default of a scan), and what is made of its labels."""
        where, choice = self._where("labels"), self._in_force.labels
        files = dict.fromkeys(name for scan in self.scans.values() for name in scan.labels)
        if isinstance(choice, str) and choice in ("none", *files):
            # A file of its own: its labels are those of the default table only if it is the default.
            is_default = choice == next(iter(files), None)
            table = self._table() if is_default else self._table_of(choice)
            return choice, label_set(None, table, where)
        try:
            return "", label_set(choice, self._table(), where)
        except ConfigError as error:
            if isinstance(choice, str) and not choice.endswith(".json"):
                known = ", ".join(["none", *files, *groupings(self._table())])
                raise ConfigError(f"{where}: unknown label set '{choice}'; known here: {known}") from error
            raise

    def _table_of(self, name: str) -> str | None:
        """The table of the label file with a name that is not the default one."""
        from regbench.datasets.label_tables import TABLES

        return name if name in TABLES else None

    def _label_file(self, scan: ListedScan) -> Path | None:
        name = self._label_set[0]
        if name == "none":
            return None
        return scan.labels.get(name) if name else next(iter(scan.labels.values()), None)

    # -- inner parts -----------------------------------------------------------------------------------

    def _where(self, parameter: str) -> str:
        return f"datasets.{self.layout.name}.{parameter}"

    def _reading(self) -> list[Any]:
        """Whatever else decides how files are read, as plain data, for fingerprints."""
        return []

    def _with_held_out(self, scans: dict[str, ListedScan]) -> dict[str, ListedScan]:
        held_out = self._in_force.held_out
        if not held_out:
            return scans
        subjects = list(dict.fromkeys(scan.of for scan in scans.values()))
        if held_out >= len(subjects):
            raise ConfigError(f"{self._where('held_out')}: is {held_out}; there are {len(subjects)} subjects")
        last = set(subjects[-held_out:])
        return {name: replace(s, split="test" if s.of in last else "train") for name, s in scans.items()}

    @cached_property
    def _pairs(self) -> dict[str, PairRef]:
        chosen, found = self._scans_of_pairs, {}
        for name, (fixed, moving) in chosen.items():
            tags: dict[str, Any] = {"family": self.layout.family} if self.layout.family else {}
            for key in dict.fromkeys((*fixed.tags, *moving.tags)):
                values = [scan.tags.get(key) for scan in (fixed, moving)]
                if values[0] == values[1]:
                    tags[key] = values[0]
                else:
                    tags |= {f"{side}_{key}": value for side, value in zip(SIDES, values, strict=True) if value}
            splits = {scan.split for scan in (fixed, moving) if scan.split}
            if len(splits) == 1:
                tags["split"] = splits.pop()
            found[name] = PairRef(name, fixed.of, moving.of, tags)
        return found

    @cached_property
    def _scans_of_pairs(self) -> dict[str, tuple[ListedScan, ListedScan]]:
        given, where, scans = self._in_force, self._where("pairs"), self.scans
        names = self.subjects()
        if given.pairs == "official":
            official = self._official({name: scans[name] for name in names})
            if not official:
                raise ConfigError(f"{where}: {self.layout.name} lists no pairs of its own here; use another protocol")
            chosen = official
        elif given.pairs.startswith("jena-"):
            chosen = select_pairs(list(scans), given.pairs, given.seed, where)
        else:
            chosen = select_pairs(names, given.pairs, given.seed, where, self._atlas())
        if not chosen:
            raise DatasetError(f"{self.folder}: has {len(names)} scans, which make no pair ({given.pairs})")
        return {self._pair_name(scans[f], scans[m]): (scans[f], scans[m]) for f, m in chosen}

    def _pair_name(self, fixed: ListedScan, moving: ListedScan) -> str:
        return f"{fixed.name}_{moving.name}"


def split_name(name: str) -> str:
    """The name of a part: train, validation or test, however it is written."""
    return _SPLIT_WORDS.get(name.lower(), name.lower())


def overlap_in_world(first: Grid, second: Grid) -> bool:
    """Whether the boxes along the world axes around two grids have a point in common."""
    (low_a, high_a), (low_b, high_b) = _box(first), _box(second)
    return bool(np.all(low_a <= high_b) and np.all(low_b <= high_a))


def _box(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape], indexing="ij")).reshape(grid.ndim, -1).T
    points = grid.to_world(corners)
    return points.min(axis=0), points.max(axis=0)
