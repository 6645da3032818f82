"""A submission to a Learn2Reg challenge, written from the displacement fields that a run kept.

    OUT/disp_0001_0000_0002_0000.nii.gz     the long name, which the current evaluator of the classical tasks looks for
    OUT/disp_0001_0002.nii.gz               the same file under the short name, for LUMIR, and for paired tasks

A field is an array (X, Y, Z, 3) in the order of the axes of the image files, on the fixed image; component k is a
displacement along axis k in voxels, and x + d(x) is where in the moving image to look. `.nii.gz` holds float32 under an
identity header, as the fields that the challenge hands out; `.npz` holds float16 under the key arr_0, a fifth of that.

The evaluator refuses a folder that lacks a single pair. So the pairs of the task are counted, not those of the run.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regbench.errors import ConfigError, DatasetError, StoreError
from regbench.files.conventions import to_learn2reg
from regbench.files.fields import load_field
from regbench.foreign.finding import learn2reg_names
from regbench.parameters import nearest
from regbench.store import RunRecord, file_name, read_run

if TYPE_CHECKING:
    from regbench.datasets.protocol import Dataset, PairRef

Format = Literal["nii.gz", "npz"]
Names = Literal["both", "long", "short"]
FORMATS: tuple[Format, ...] = ("nii.gz", "npz")
NAMES: tuple[Names, ...] = ("both", "long", "short")
_NONE = "none"


@dataclass(frozen=True)
class Submission:
    """What is written where: `dataset` and `method` of the run by their labels, the form and the names of files."""

    run: Path
    out: Path
    dataset: str | None = None
    method: str | None = None
    repeat: int = 0
    format: Format = "nii.gz"
    names: Names = "both"


@dataclass(frozen=True)
class Written:
    """The fields of one method: where they are, the pairs that have one, and why the others of the task have none."""

    method: str
    folder: Path
    pairs: tuple[str, ...]
    missing: Mapping[str, str] = field(default_factory=dict)


def write_submission(submission: Submission) -> list[Written]:
    """Writes the kept fields of a run as submissions, one folder for each method; what was written of each.

    With one method its fields lie in `out` itself. Raises StoreError if the run kept no field, ConfigError for a label
    that it does not have, DatasetError if its images are gone or have changed.
    """
    record = read_run(submission.run)
    label, rows = _rows(record, submission)
    entry = record.run["datasets"][label]
    data = _Task.of(entry["name"], entry["parameters"])
    methods = list(dict.fromkeys(row["method"] for row in rows))
    written = []
    for method in methods:
        folder = submission.out if len(methods) == 1 else submission.out / file_name(method)
        of_method = {str(row["pair"]["id"]): row for row in rows if row["method"] == method}
        written.append(_write(submission, data, method, of_method, folder))
    return written


def _rows(record: RunRecord, wanted: Submission) -> tuple[str, list[dict[str, Any]]]:
    """The label of the dataset and the rows of it that a submission is made of."""
    rows = [
        row for row in record.rows if row["condition"] == _name_of_none(record.run) and row["repeat"] == wanted.repeat
    ]
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    dataset = _chosen("dataset", wanted.dataset, datasets, record)
    rows = [row for row in rows if row["dataset"] == dataset]
    if wanted.method is not None:
        method = _chosen("method", wanted.method, list(dict.fromkeys(row["method"] for row in rows)), record)
        rows = [row for row in rows if row["method"] == method]
    if not any(row.get("field") for row in rows):
        raise StoreError(
            f"{record.folder} keeps no displacement fields of {dataset}; run again with `keep: {{fields: true}}`"
        )
    return dataset, rows


def _name_of_none(run: Mapping[str, Any]) -> str:
    """The label of the condition in which data are as they are; a challenge scores no other."""
    return next((label for label, entry in run.get("conditions", {}).items() if entry["name"] == _NONE), _NONE)


def _chosen(what: str, wanted: str | None, known: Sequence[str], record: RunRecord) -> str:
    if not known:
        raise StoreError(f"{record.folder} has no results on unchanged data; a challenge scores no conditions")
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted is None:
        raise ConfigError(f"{record.folder} has several {what}s; say which with --{what}: {', '.join(known)}")
    if wanted not in known:
        raise ConfigError(f"--{what}: {record.folder} has no {what} '{wanted}'{nearest(wanted, list(known))}")
    return wanted


@dataclass(frozen=True)
class _Task:
    """The pairs of the dataset of a run, and how many of them go by each short name."""

    dataset: Dataset
    refs: Mapping[str, PairRef]
    called: Counter[str]

    @classmethod
    def of(cls, name: str, parameters: Mapping[str, Any]) -> _Task:
        from regbench.datasets.table import build_dataset

        # A run of some pairs is no submission: all that the data list are asked for.
        whole = {key: value for key, value in parameters.items() if key != "limit"}
        dataset = build_dataset(name, whole)
        refs = {ref.id: ref for ref in dataset.pair_refs()}
        return cls(dataset, refs, Counter(learn2reg_names(ref)[-1] for ref in refs.values()))

    def names(self, ref: PairRef, wanted: Names) -> list[str]:
        """The names of the file of a pair; a short name that could mean several pairs is none."""
        *long, short = learn2reg_names(ref)
        is_certain = self.called[short] == 1
        if wanted == "short" and not is_certain:
            raise DatasetError(f"{short} could be the field of {self.called[short]} pairs; use --names long")
        chosen = {"both": [*long, *([short] if is_certain else [])], "long": long, "short": [short]}[wanted]
        return chosen or [short]


def _write(
    submission: Submission, task: _Task, method: str, rows: Mapping[str, Mapping[str, Any]], folder: Path
) -> Written:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made: {error.strerror or error}") from None
    pairs, missing = [], {}
    for ref in task.refs.values():
        reason = _why_missing(rows.get(ref.id))
        if reason:
            missing[ref.id] = reason
            continue
        _write_field(submission, task, ref, rows[ref.id], folder)
        pairs.append(ref.id)
    return Written(method, folder, tuple(pairs), missing)


def _why_missing(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "not in this run"
    if row["status"] != "ok":
        return f"{row['status']}: {row.get('reason') or 'no reason given'}"
    return "" if row.get("field") else "its field was not kept"


def _write_field(submission: Submission, task: _Task, ref: PairRef, row: Mapping[str, Any], folder: Path) -> None:
    if task.dataset.fingerprint(ref) != row["fingerprint"]:
        raise DatasetError(f"pair {ref.id}: the data have changed since this run; run it again")
    pair = task.dataset.load(ref)
    if pair.fixed.grid.ndim != 3:
        raise DatasetError(f"pair {ref.id}: is {pair.fixed.grid.ndim}-D; Learn2Reg tasks are 3-D")
    displacement = load_field(submission.run / row["field"], pair.fixed.grid, pair.moving.grid)
    array = to_learn2reg(displacement, pair.moving.grid)
    first, *others = [folder / f"{name}.{submission.format}" for name in task.names(ref, submission.names)]
    _write_array(first, array)
    for other in others:
        _link(first, other)


def _write_array(path: Path, array: np.ndarray) -> None:
    from regbench.files.atomic import replaced
    from regbench.files.nifti import write_nifti

    if path.suffix == ".npz":
        with replaced(path) as temporary:
            np.savez_compressed(temporary, arr_0=array.astype(np.float16))
    else:
        write_nifti(path, array, np.eye(4))


def _link(source: Path, target: Path) -> None:
    """A second name of a file; a copy where the file system has no links."""
    try:
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror or error}") from None


def missing_sentences(written: Written, most: int = 4) -> Iterator[str]:
    """A sentence for each reason for which pairs are missing, with the first of them."""
    reasons: dict[str, list[str]] = {}
    for pair, reason in written.missing.items():
        reasons.setdefault(reason, []).append(pair)
    for reason, pairs in reasons.items():
        more = f" and {len(pairs) - most} more" if len(pairs) > most else ""
        yield f"{written.method}: missing {', '.join(pairs[:most])}{more}: {reason}"
