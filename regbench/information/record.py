"""What was measured, in files: `information.json` and `information.csv`, complete or not there at all.

The JSON of a label set holds the settings, one object per subject with what was measured, subjects that could not be,
and whether all were looked at (`complete`). The first label set is in `information.json`, others are in
`information-NAME.json`. The CSV has one line per subject and one per subject and label, of all label sets. Equal data
make equal files.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isnan
from pathlib import Path
from typing import Any

from regbench.errors import StoreError
from regbench.information.subject import LabelInformation, Settings, SubjectInformation
from regbench.store import file_name, plain_json, write_whole

SCHEMA = 1
JSON_NAME, CSV_NAME = "information.json", "information.csv"
_COLUMNS: tuple[str, ...] = ("voxels", "mi_nats", "label_entropy_nats", "mi_ratio", "mi_all_nats", "mi_all_ratio")
_COLUMNS += ("mi_jena_nats", "background_share", "border_visible_share", "border_between_visible_share")
_APART = ("subject", "label_set", "label_names", "problem")


@dataclass(frozen=True)
class Survey:
    """What was measured of a dataset in one label set; `complete` if no subject is missing."""

    dataset: str
    label_set: str
    settings: Settings
    subjects: Sequence[SubjectInformation]
    complete: bool = True

    @property
    def measured(self) -> list[SubjectInformation]:
        """The subjects that could be measured."""
        return [one for one in self.subjects if not one.problem]

    @property
    def label_names(self) -> dict[str, str]:
        """Names of labels by number, where there are any."""
        return {value: name for one in self.subjects for value, name in one.label_names.items()}

    def as_json(self) -> dict[str, Any]:
        """The content of the JSON file."""
        names = self.label_names
        return {
            "schema": SCHEMA,
            "dataset": self.dataset,
            "label_set": self.label_set,
            "settings": self.settings.as_json(),
            "complete": self.complete,
            "label_names": {value: names[value] for value in sorted(names, key=_number)},
            "subjects": [_subject_json(one) for one in self.measured],
            "problems": [{"subject": one.subject, "problem": one.problem} for one in self.subjects if one.problem],
        }


def _number(value: str) -> int:
    return int(value)


def _subject_json(one: SubjectInformation) -> dict[str, Any]:
    return {"subject": one.subject, **{name: value for name, value in asdict(one).items() if name not in _APART}}


def write_surveys(folder: Path, surveys: Sequence[Survey]) -> list[Path]:
    """The files written: a JSON per label set, then the CSV. Raises StoreError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made ({error.strerror}); choose another folder with -o") from None
    paths = []
    for place, survey in enumerate(surveys):
        paths.append(json_path(folder, survey.label_set, place))
        write_whole(paths[-1], json.dumps(plain_json(survey.as_json()), indent=1).encode("ascii") + b"\n")
    paths.append(folder / CSV_NAME)
    write_whole(paths[-1], _csv(surveys).encode())
    return paths


def json_path(folder: Path, label_set: str, place: int) -> Path:
    """Where the JSON of a label set is, the `place`-th one."""
    return folder / (JSON_NAME if place == 0 else f"information-{file_name(label_set)}.json")


def read_document(path: Path) -> dict[str, Any]:
    """The content of an `information.json`, of a folder or by its path; StoreError if it cannot be read."""
    path = path / JSON_NAME if path.is_dir() else path
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file; write it with `regbench mi-analysis DATASET -o DIR`") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read as JSON ({error}); write it again") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or "subjects" not in found:
        raise StoreError(f"{path}: is no record of intensity-label information; give that of `regbench mi-analysis`")
    return found


def unfinished(folder: Path, dataset: str, label_sets: Sequence[str], settings: Settings) -> list[SubjectInformation]:
    """What an interrupted survey of the same dataset with the same settings has measured of subjects in all label
    sets; nothing if there is none."""
    kept: list[list[SubjectInformation]] = []
    for place, label_set in enumerate(label_sets):
        path = json_path(folder, label_set, place)
        if not path.is_file():
            return []
        found = read_document(path)
        same = (found.get("dataset"), found.get("label_set")) == (dataset, label_set)
        if not same or found.get("complete") or found.get("settings") != plain_json(settings.as_json()):
            return []
        names = found.get("label_names", {})
        kept.append([_from_json(one, label_set, names) for one in found["subjects"]])
    in_all = set.intersection(*({one.subject for one in each} for each in kept)) if kept else set()
    return [one for each in kept for one in each if one.subject in in_all]


def _from_json(found: Mapping[str, Any], label_set: str, names: Mapping[str, str]) -> SubjectInformation:
    """A subject as it was measured; NaN is null in JSON."""
    known = {each.name: found[each.name] for each in fields(SubjectInformation) if each.name in found}
    known = {name: float("nan") if value is None else value for name, value in known.items()}
    per_label = {value: LabelInformation(**_with_nan(one)) for value, one in found.get("per_label", {}).items()}
    sensitivity = {kind: _with_nan(values) for kind, values in found.get("sensitivity", {}).items()}
    shapes = {name: tuple(found.get(name, ())) for name in ("shape", "spacing_mm")}
    here = {value: names[value] for value in per_label if value in names}
    return SubjectInformation(
        **{
            **known,
            **shapes,
            "label_set": label_set,
            "per_label": per_label,
            "sensitivity": sensitivity,
            "label_names": here,
        }
    )


def _with_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float("nan") if value is None else value for name, value in values.items()}


def _csv(surveys: Sequence[Survey]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("dataset", "label_set", "subject", "label", "name", *_COLUMNS))
    for survey in surveys:
        names = survey.label_names
        for one in survey.measured:
            place = (survey.dataset, survey.label_set, one.subject)
            writer.writerow((*place, "", "", *(_cell(getattr(one, name)) for name in _COLUMNS)))
            for value, label in one.per_label.items():
                cells = {
                    "voxels": label.voxels,
                    "mi_nats": label.mi_nats,
                    "label_entropy_nats": label.entropy_nats,
                    "mi_ratio": label.mi_ratio,
                    "border_visible_share": label.border_visible_share,
                }
                row = (_cell(cells[name]) if name in cells else "" for name in _COLUMNS)
                writer.writerow((*place, value, names.get(value, ""), *row))
    return stream.getvalue()


def _cell(value: float) -> str:
    return "" if isnan(value) else repr(value) if isinstance(value, int) else f"{value:.9g}"
