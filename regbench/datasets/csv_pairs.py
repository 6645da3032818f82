"""`csv`: a user's own pairs, one per row of a CSV file, without writing code.

    fixed,moving,fixed_labels,moving_labels
    $DATA/0001/brain.nii.gz,$DATA/0002/brain.nii.gz,$DATA/0001/labels.nii.gz,$DATA/0002/labels.nii.gz

Columns: `fixed` and `moving` are images and required; `*_labels`, `*_landmarks`, `*_mask` and `*_excluded` are
optional, and may be empty in single rows. `*_excluded` are masks of what takes no part in scores (lesions, resections),
of either image or both; methods do not see them. Paths are relative to the folder of the CSV; `$NAME` and `${NAME}` are
environment variables. Formats: NIfTI, Analyze, MetaImage, NRRD, npz, npy, mgz. `id` names a pair.

`fixed_id` and `moving_id` name the subjects. Statistics depend on knowing which pairs share a subject, so
an image file has one subject wherever it occurs: the id given to it in any row, else its file name
without suffix, preceded by folders where file names clash (by the folder alone if all files have one
name, as in `S01/brain.nii.gz`). Give ids yourself if one subject has several image files.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from regbench.datasets.contents import content_hash
from regbench.datasets.label_sets import LabelChoice, LabelSet, check_table, label_set
from regbench.datasets.protocol import PairRef
from regbench.errors import ConfigError, DatasetError
from regbench.pair import Pair
from regbench.parameters import expand_variables, nearest

_SIDES = ("fixed", "moving")
_PARTS = ("labels", "landmarks", "mask", "excluded")
FILE_COLUMNS = (*_SIDES, *(f"{side}_{part}" for part in _PARTS for side in _SIDES))
COLUMNS = (*FILE_COLUMNS, "id", "fixed_id", "moving_id")
_SEPARATORS = re.compile(r"[/\\]+")


@dataclass(frozen=True)
class _Row:
    """One pair of the CSV: its line, the given ids (or ""), and the absolute path of each file that it names."""

    line: int
    ids: dict[str, str]
    files: dict[str, Path]


@dataclass(frozen=True)
class CsvPairs:
    """The data set; `limit` keeps the first pairs, `spacing_mm` resamples both images (see `respacing`).

    `labels` chooses and merges labels, see `regbench.datasets.label_sets`; `label_table` says which names they have.
    """

    path: str
    limit: int | None = None
    spacing_mm: float | None = None
    labels: LabelChoice = None
    label_table: str | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"datasets.csv.limit: is {self.limit}; it must be at least 1")
        if self.spacing_mm is not None and not 0.05 <= self.spacing_mm <= 50:
            raise ConfigError(f"datasets.csv.spacing_mm: is {self.spacing_mm:g}; it must lie between 0.05 and 50")
        check_table(self.label_table, "datasets.csv.label_table")

    def pair_refs(self) -> Sequence[PairRef]:
        """The pairs in the order of their rows; opens no image. DatasetError if the CSV cannot be used."""
        return [ref for ref, _ in self._rows.values()][: self.limit]

    def load(self, ref: PairRef) -> Pair:
        """One pair from its files; DatasetError, naming the file, if one of them cannot be used."""
        from regbench.datasets.respacing import respaced_pair

        pair = self._read(ref)
        return pair if self.spacing_mm is None else respaced_pair(pair, self.spacing_mm)

    def fingerprint(self, ref: PairRef) -> str:
        """The hash of the contents of all files of a pair; DatasetError, naming the file, if one is missing."""
        files = self._row(ref).files
        contents = {column: content_hash(path) for column, path in sorted(files.items())}
        chosen = [] if self.labels is None else [self._label_set.as_json()]
        return hashlib.sha256(json.dumps([contents, self.spacing_mm, *chosen]).encode()).hexdigest()

    def manifest(self) -> dict[str, Any]:
        """What identifies the data for the record: the CSV and its hash, the voxel size, the subjects."""
        refs = self.pair_refs()
        return {
            "csv": self._csv.name,
            "csv_sha256": hashlib.sha256(self._csv.read_bytes()).hexdigest(),
            "spacing_mm": self.spacing_mm,
            "n_pairs": len(refs),
            "subjects": sorted({name for ref in refs for name in (ref.fixed, ref.moving)}),
            **({} if self.labels is None else {"labels": self._label_set.as_json()}),
        }

    # -- rows ---------------------------------------------------------------------------------------

    @property
    def _csv(self) -> Path:
        return Path(_expanded(self.path, "datasets.csv.path")).expanduser()

    @cached_property
    def _rows(self) -> dict[str, tuple[PairRef, _Row]]:
        rows = _read_rows(self._csv)
        subjects = _subjects(self._csv, rows)
        found: dict[str, tuple[PairRef, _Row]] = {}
        for row in rows:
            fixed, moving = (subjects[_identity(row.files[side])] for side in _SIDES)
            ref = PairRef(row.ids["id"] or f"{fixed}_{moving}", fixed, moving)
            if ref.id in found:
                raise DatasetError(
                    f"{self._csv}: lines {found[ref.id][1].line} and {row.line} are both the pair '{ref.id}'; "
                    "give them different names in a column `id`"
                )
            found[ref.id] = (ref, row)
        return found

    @cached_property
    def _label_set(self) -> LabelSet:
        return label_set(self.labels, self.label_table, "datasets.csv.labels")

    def _row(self, ref: PairRef) -> _Row:
        if ref.id not in self._rows:
            raise DatasetError(f"{self._csv}: has no pair '{ref.id}'")
        return self._rows[ref.id][1]

    def _read(self, ref: PairRef) -> Pair:
        from regbench.files.images import read_image, read_labels, read_landmarks

        files = self._row(ref).files
        parts: dict[str, Any] = {side: read_image(files[side]) for side in _SIDES}
        for side in _SIDES:
            for part in ("labels", "mask", "excluded"):
                if f"{side}_{part}" in files:
                    parts[f"{side}_{part}"] = read_labels(files[f"{side}_{part}"])
            if f"{side}_labels" in parts:
                parts[f"{side}_labels"] = self._label_set.apply(parts[f"{side}_labels"])
            if f"{side}_landmarks" in files:
                parts[f"{side}_landmarks"] = read_landmarks(files[f"{side}_landmarks"], parts[side].grid)
        pair = Pair(name=ref.id, fixed_id=ref.fixed, moving_id=ref.moving, **parts)
        if pair.fixed_landmarks and pair.moving_landmarks and len(pair.fixed_landmarks) != len(pair.moving_landmarks):
            raise DatasetError(
                f"pair {ref.id}: {len(pair.fixed_landmarks)} fixed and {len(pair.moving_landmarks)} moving landmarks; "
                "rows of both files must correspond, so remove those without a partner"
            )
        return pair


def _read_rows(path: Path) -> list[_Row]:
    """The rows of the CSV with absolute paths; DatasetError, naming the line, for anything not understood."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; check the path of the CSV") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as CSV ({error}); save it as comma-separated text") from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise DatasetError(f"{path}: is empty; its first line names the columns, at least fixed,moving")
    header = lines[0][1]
    _check_header(path, header)
    if len(lines) == 1:
        raise DatasetError(f"{path}: has column names and no pair; add one line per pair")
    return [_parsed_row(path, number, header, cells) for number, cells in lines[1:]]


def _check_header(path: Path, header: list[str]) -> None:
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise DatasetError(f"{path}: columns are not separated by commas; save it as comma-separated text")
    for name in header:
        if name not in COLUMNS:
            known = ", ".join(COLUMNS)
            raise DatasetError(f"{path}: unknown column '{name}'{nearest(name, list(COLUMNS))}; known: {known}")
        if header.count(name) > 1:
            raise DatasetError(f"{path}: column '{name}' occurs twice; keep one of them")
    for name in _SIDES:
        if name not in header:
            raise DatasetError(f"{path}: column '{name}' is missing; it holds the paths of the {name} images")


def _parsed_row(path: Path, line: int, header: list[str], cells: list[str]) -> _Row:
    where = f"{path}: line {line}"
    if len(cells) > len(header):
        raise DatasetError(f"{where}: {len(cells)} values for {len(header)} columns; quote paths that hold commas")
    values = dict(zip(header, cells, strict=False))
    for side in _SIDES:
        if not values.get(side):
            raise DatasetError(f"{where}: no path of the {side} image; fill in the column '{side}'")
    ids = {name: values.get(name, "") for name in ("id", "fixed_id", "moving_id")}
    for name, value in ids.items():
        if _SEPARATORS.search(value):
            raise DatasetError(f"{where}: {name} '{value}' holds a slash; use letters, digits, - and _")
    files = {name: _absolute(values[name], path, where) for name in FILE_COLUMNS if values.get(name)}
    return _Row(line, ids, files)


def _absolute(text: str, csv_path: Path, where: str) -> Path:
    # What a variable holds is relative to where the program was started, as in a shell.
    base = Path.cwd() if text.startswith("$") else Path.cwd() / csv_path.parent
    return Path(os.path.normpath(base / Path(_expanded(text, where)).expanduser()))


def _expanded(text: str, where: str) -> str:
    try:
        return expand_variables(text)
    except ValueError as error:
        raise DatasetError(f"{where}: {error}; set it to the folder of the data") from None


# -- subjects ---------------------------------------------------------------------------------------


def _identity(path: Path) -> str:
    """What two paths of one file have in common, links followed."""
    return os.path.realpath(path)


def _subjects(csv_path: Path, rows: Sequence[_Row]) -> dict[str, str]:
    """The subject of every image file of the CSV, by `_identity`."""
    named: dict[str, str] = {}
    shown: dict[str, Path] = {}
    for row in rows:
        for side in _SIDES:
            identity, given = _identity(row.files[side]), row.ids[f"{side}_id"]
            shown.setdefault(identity, row.files[side])
            if given and named.setdefault(identity, given) != given:
                raise DatasetError(
                    f"{csv_path}: line {row.line}: {row.files[side].name} is the subject '{given}' here and "
                    f"'{named[identity]}' in another line; give it one id"
                )
    return {**dict(zip(shown, _distinct_names(list(shown.values())), strict=True)), **named}


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    """Names for different files: stems, with as many parent folders before them as tell them apart."""
    from regbench.files.atomic import stem_of

    places = [path.with_name(stem_of(path)) for path in paths]
    # Files of one folder that differ in their suffix alone keep it.
    leaves = [path.name if places.count(place) > 1 else place.name for path, place in zip(paths, places, strict=True)]
    parts = [(*path.parent.parts[1:], leaf) for path, leaf in zip(paths, leaves, strict=True)]
    depth = [1] * len(paths)
    while True:
        names = ["-".join(p[-d:]) for p, d in zip(parts, depth, strict=True)]
        clashing = [i for i, name in enumerate(names) if names.count(name) > 1 and depth[i] < len(parts[i])]
        if not clashing:
            break
        for i in clashing:
            depth[i] += 1
    if len(paths) > 1 and len({p[-1] for p in parts}) == 1:
        return ["-".join(p[-d:-1]) for p, d in zip(parts, depth, strict=True)]
    return names
