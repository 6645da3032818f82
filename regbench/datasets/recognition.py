"""Which dataset reads a file or a folder that stands where the name of a dataset is expected.

Files go by their suffix: a CSV of pairs, the JSON of a Learn2Reg task, a YAML description. Of a folder every loader
is asked whether it knows its layout, in the order of the table.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regbench.errors import DatasetError

# How far below an unknown folder known ones are looked for, so that a home folder is no matter of minutes.
_DEPTH, _MOST_FOLDERS, _MOST_SHOWN = 2, 60, 4

_OF_FILES = {".csv": "csv", ".json": "learn2reg", ".yaml": "described", ".yml": "described"}


def recognised(folder: Path) -> tuple[str, dict[str, Any]]:
    """The name of the dataset that a folder holds and the parameters to read it with; no image is opened.

    Raises DatasetError that says what was looked for if no layout fits.
    """
    from regbench.datasets.table import DATASETS, dataset_class

    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; check the path")
    looked_for = []
    for name, card in DATASETS.items():
        if not card.looks_for:
            continue
        found = dataset_class(name).recognise(folder)  # type: ignore[attr-defined]
        if found is not None:
            return name, found
        looked_for.append(f"{card.looks_for} ({name})")
    configs = sorted(path.name for path in folder.glob("*_evaluation_config.json"))
    if configs:
        raise DatasetError(f"{folder}: has {configs[0]}, but not the TASK_dataset.json of its task; put that beside it")
    inner = _known_below(folder)
    if inner:
        raise DatasetError(f"{folder}: holds no layout that is known, but folders below it do: {', '.join(inner)}")
    raise DatasetError(
        f"{folder}: holds no layout that is known; looked for {'; '.join(looked_for)}. "
        "Describe it in a YAML file (regbench datasets described), or list pairs in a CSV (regbench datasets csv)"
    )


def _known_below(folder: Path) -> list[str]:
    """The folders in a folder, or in those, that hold a known layout, with its name; the first few."""
    from regbench.datasets.listing import walked
    from regbench.datasets.table import DATASETS, dataset_class

    layouts = [(name, dataset_class(name)) for name, card in DATASETS.items() if card.looks_for]
    found: dict[Path, str] = {}
    for inner in itertools.islice(walked(folder, _DEPTH), 1, _MOST_FOLDERS):
        # Label maps and masks alone look like images in a plain folder.
        is_part = re.match(r"(?i)(masks?|labels?|seg)", inner.name)
        if not is_part and not any(parent in found for parent in inner.parents):
            name = next((name for name, cls in layouts if cls.recognise(inner) is not None), None)  # type: ignore[attr-defined]
            found |= {} if name is None else {inner: name}
    shown = [f"{inner} ({name})" for inner, name in found.items()]
    return shown[:_MOST_SHOWN]


def dataset_at(name: str, parameters: Mapping[str, Any], base: Path) -> tuple[str, dict[str, Any], str | None]:
    """The dataset that `name` means, its parameters with paths made absolute from `base`, and a label or None.

    `name` is that of a dataset, which stays, or the path of a file or a folder. Parameters that are given go before
    those with which a folder is recognised. Raises DatasetError if a folder is in no known layout.
    """
    from regbench.datasets.table import DATASETS

    given = dict(parameters)
    suffix = Path(name).suffix.lower()
    is_path = suffix in _OF_FILES or "/" in name or os.sep in name
    if name not in DATASETS and (is_path or (base / name).is_dir()):
        given = {"path": name, **given}
        name = _OF_FILES.get(suffix, "")
    if isinstance(given.get("labels"), str) and given["labels"].lower().endswith(".json"):
        given["labels"] = _absolute(given["labels"], base)
    if not isinstance(given.get("path"), str) or (name and name not in DATASETS):
        return name, given, None
    path = given["path"] = _absolute(given["path"], base)
    label = _label(Path(path), name)
    if not name and not Path(path).exists():
        raise DatasetError(f"{path}: there is no such file or folder; check the path")
    if Path(path).is_dir() and (not name or DATASETS[name].looks_for):
        return *_in_folder(name, given), label
    return name or "csv", given, label


def _in_folder(name: str, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The dataset of a folder and its parameters: recognised, or where its name is known only looked for inside."""
    from regbench.datasets.table import dataset_class

    folder = Path(given["path"])
    if not name:
        name, found = recognised(folder)
    else:
        found = dataset_class(name).recognise(folder) or {}  # type: ignore[attr-defined]
    return name, {**found, **given, "path": found.get("path", given["path"])}


def _absolute(path: str, base: Path) -> str:
    return os.path.normpath(base / Path(path).expanduser())


def _label(path: Path, name: str) -> str | None:
    """What to call a dataset: as its file or folder; None for a folder whose dataset is named."""
    if path.suffix.lower() not in _OF_FILES:
        return None if name else re.sub(r"[^\w .+=@-]", "-", path.name).lstrip(" .+=@-") or None
    # Learn2Reg calls the description of a task TASK_dataset.json.
    return path.stem.removesuffix("_dataset") if name == "learn2reg" else path.stem
