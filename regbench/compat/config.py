"""What a Learn2Reg evaluation config and its dataset JSON ask for.

Two dialects. The classical one names its task `task_name` and its landmarks are CSV files of voxel coordinates.
LUMIR, told by `name` instead of `task_name`, has landmark label images, the metric `ndv`, and fields that may have
their components first. The pairs are `eval_pairs` of the config; without them the dataset JSON's validation pairs.
Paths are relative to the folder of the dataset JSON; file names end in `_<subject>_<modality>.nii.gz`, with four
characters each.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regbench.errors import ConfigError

_METRICS = ("sdlogj", "dice", "hd95", "tre", "ndv")
_PAIR_KEYS = ("registration_val", "validation", "registration_test")
_SUFFIX = ".nii.gz"


@dataclass(frozen=True)
class Measure:
    """One entry of `evaluation_methods`: the name it has in the report, and what is measured.

    `labels_as_text` says that the config writes the labels in quotes.
    """

    name: str
    metric: str
    labels: tuple[int, ...] = ()
    destination: str = ""
    labels_as_text: bool = False


@dataclass(frozen=True)
class CasePair:
    """Fixed and moving image of a case, as paths relative to the dataset's folder."""

    fixed: str
    moving: str

    @property
    def name(self) -> str:
        """The name of the case in reports, such as '0001_0000<--0001_0001'."""
        return "{}_{}<--{}_{}".format(*_ids(self.fixed), *_ids(self.moving))

    @property
    def modalities(self) -> tuple[str, str]:
        return _ids(self.fixed)[1], _ids(self.moving)[1]

    @property
    def long_name(self) -> str:
        """The stem of the field's file with modalities."""
        return "disp_{}_{}_{}_{}".format(*_ids(self.fixed), *_ids(self.moving))

    @property
    def short_name(self) -> str:
        """The stem of the field's file without modalities, which may stand for several pairs."""
        return f"disp_{_ids(self.fixed)[0]}_{_ids(self.moving)[0]}"


@dataclass(frozen=True)
class Task:
    """A task to be evaluated; `shape` is that of its images, None where neither file tells it."""

    name: str
    is_lumir: bool
    folder: Path
    pairs: tuple[CasePair, ...]
    measures: tuple[Measure, ...]
    shape: tuple[int, int, int] | None
    masked: bool

    def ambiguous(self, short_name: str) -> bool:
        """Whether several pairs of the task would have this short name."""
        return sum(pair.short_name == short_name for pair in self.pairs) > 1


def read_task(dataset_json: Path, config_json: Path) -> Task:
    """The task that a dataset JSON and an evaluation config describe together; ConfigError where they do not."""
    dataset, config = _read_json(dataset_json), _read_json(config_json)
    is_lumir = "task_name" not in config
    name = config.get("name" if is_lumir else "task_name")
    if not isinstance(name, str):
        raise ConfigError(f"{config_json}: has neither `task_name` nor `name`; give an evaluation config of Learn2Reg")
    return Task(
        name=name,
        is_lumir=is_lumir,
        folder=dataset_json.parent,
        pairs=_pairs(config_json, config, dataset),
        measures=_measures(config_json, config),
        shape=_shape(config_json, config, dataset),
        masked=bool(config.get("masked_evaluation", False)),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is not valid JSON ({error}); give the file that came with the task") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds no JSON object; give the file that came with the task")
    return content


def _pairs(path: Path, config: Mapping[str, Any], dataset: Mapping[str, Any]) -> tuple[CasePair, ...]:
    given = config.get("eval_pairs") or next((dataset[key] for key in _PAIR_KEYS if dataset.get(key)), None)
    if not isinstance(given, list):
        raise ConfigError(f"{path}: has no `eval_pairs`, and the dataset JSON none of {', '.join(_PAIR_KEYS)}; add one")
    pairs = []
    for entry in given:
        sides = [str(entry.get(side)) if isinstance(entry, dict) else "" for side in ("fixed", "moving")]
        if not all(_is_named_right(side) for side in sides):
            raise ConfigError(
                f"{path}: pair {entry!r} is not two paths `fixed` and `moving` that end in _XXXX_YYYY{_SUFFIX}"
            )
        pairs.append(CasePair(*sides))
    _refuse_twins(path, "pair", [pair.name for pair in pairs])
    return tuple(pairs)


def _measures(path: Path, config: Mapping[str, Any]) -> tuple[Measure, ...]:
    entries = config.get("evaluation_methods")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path}: `evaluation_methods` is not a list of metrics; give an evaluation config")
    measures = tuple(_measure(path, entry) for entry in entries)
    _refuse_twins(path, "evaluation method", [measure.name for measure in measures])
    return measures


def _measure(path: Path, entry: Any) -> Measure:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or entry.get("metric") not in _METRICS:
        raise ConfigError(
            f"{path}: evaluation method {entry!r} needs a `name` and a `metric` out of {', '.join(_METRICS)}"
        )
    name, metric = entry["name"], entry["metric"]
    if metric in ("dice", "hd95"):
        given = entry.get("labels")
        if not isinstance(given, list) or not given:
            raise ConfigError(f"{path}: evaluation method {name}: `labels` is not a list of label numbers")
        labels = tuple(_label(path, name, value) for value in given)
        return Measure(name, metric, labels, labels_as_text=any(isinstance(value, str) for value in given))
    if metric == "tre":
        if not isinstance(entry.get("dest"), str):
            raise ConfigError(f"{path}: evaluation method {name}: `dest` does not name a folder such as keypoints")
        return Measure(name, metric, destination=entry["dest"])
    return Measure(name, metric)


def _label(path: Path, name: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0 or isinstance(value, bool) or (isinstance(value, float) and value != number):
        raise ConfigError(f"{path}: evaluation method {name}: {value!r} is not a label number")
    return number


def _shape(path: Path, config: Mapping[str, Any], dataset: Mapping[str, Any]) -> tuple[int, int, int] | None:
    given = config.get("expected_shape")
    if given is None:
        images = dataset.get("tensorImageShape")
        given = [*images["0"], 3] if isinstance(images, dict) and isinstance(images.get("0"), list) else None
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != 4 or given[3] != 3 or not all(isinstance(n, int) for n in given):
        raise ConfigError(f"{path}: expected_shape {given!r} is not [X, Y, Z, 3]")
    return given[0], given[1], given[2]


def _is_named_right(path: str) -> bool:
    return path.endswith(_SUFFIX) and len(path) >= 17 and path[-12] == "_" and path[-17] == "_"


def _ids(path: str) -> tuple[str, str]:
    """Subject and modality, by their place in the file name."""
    return path[-16:-12], path[-11:-7]


def _refuse_twins(path: Path, what: str, names: list[str]) -> None:
    twins = [name for name, count in Counter(names).items() if count > 1]
    if twins:
        raise ConfigError(f"{path}: {what} {twins[0]} is listed twice; list it once")
