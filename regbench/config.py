"""A run's config: strict YAML in, a checked `RunConfig` out, or one sentence per problem with its line.

    datasets: [mni-cohort, {mni-cohort: {ndim: 2, as: slices}}, data/pairs.csv, OASIS/OASIS_dataset.json]
    methods: [identity, {demons: {iterations: [50, 25], as: demons-quick}}]

An entry is a name, or a name with its parameters; the reserved parameter `as` gives it a label of its own, and
`tuned` of a method names a record of `regbench tune` to take parameters from, `python` another interpreter to run it.
`$NAME` and `${NAME}` in an entry are replaced by environment variables. Relative paths of data are relative
to the folder of the config file. Names and parameters are checked against the tables of plug-ins; no image
is opened.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from regbench.alignment import LabelWarp
from regbench.config_file import ConfigFile, Place, read_yaml
from regbench.errors import ConfigError, RegbenchError
from regbench.parameters import expand_variables, nearest
from regbench.targets import absolute_target, is_target
from regbench.tuned import read_tuning

Prealign = Literal["none", "moments", "rigid", "affine"]
# Which dataset reads a file that stands where the name of a dataset is expected.
_DATASETS_OF_FILES = {".csv": "csv", ".json": "learn2reg"}
# Which parameter of a method holds files of the user's, relative to the folder of the config file.
_FILES_OF_METHODS = {
    "command": "files",
    "elastix-bspline": "parameter_files",
    "elastix-affine-bspline": "parameter_files",
}
_LABEL = re.compile(r"\w[\w .+=@-]*")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Entry(_Strict):
    """A plug-in by name, the label under which its rows appear, and the parameters as they were written.

    `tuned` is the record of `regbench tune` that some of the parameters are from, `python` the interpreter that runs
    the method; both where the config names one.
    """

    name: str
    label: str
    parameters: dict[str, Any] = {}
    tuned: str | None = None
    python: str | None = None


class EngineConfig(_Strict):
    """How cases are executed: worker processes, threads of each, limits of time (s) and memory (MiB)."""

    kind: Literal["local"] = "local"
    workers: int = Field(default=1, ge=1)
    threads: int = Field(default=2, ge=1)
    timeout_s: float = Field(default=900.0, gt=0)
    timing: Literal["exclusive", "shared"] = "exclusive"
    memory_mib: int | None = Field(default=None, ge=64)


class Keep(_Strict):
    """What a run folder keeps beside numbers: displacement fields, and pictures per dataset and method."""

    fields: bool = False
    pictures: int = Field(default=3, ge=0)


class Tune(_Strict):
    """What `regbench tune` tries: values per parameter of each method, all combinations or `trials` of them."""

    parameters: dict[str, dict[str, list[Any]]] = Field(min_length=1)
    objective: str | None = None
    trials: int | None = Field(default=None, ge=1)


def _expand(value: Any) -> Any:
    """The value with environment variables replaced in all its strings; ValueError names one that is not set."""
    if isinstance(value, Mapping):
        return {_expand(key): _expand(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item) for item in value]
    return expand_variables(value) if isinstance(value, str) else value


def _dataset_of_file(name: str, parameters: dict[str, Any], folder: Path) -> tuple[str, dict[str, Any]]:
    """The dataset that reads the file `name`, and its parameters with the path made absolute; other names stay."""
    suffix = Path(name).suffix.lower()
    if suffix in _DATASETS_OF_FILES or "/" in name or os.sep in name:
        name, parameters = _DATASETS_OF_FILES.get(suffix, "csv"), {"path": name, **parameters}
    if name in _DATASETS_OF_FILES.values() and isinstance(parameters.get("path"), str):
        parameters["path"] = os.path.normpath(folder / Path(parameters["path"]).expanduser())
    return name, parameters


def _split_entry(value: Any) -> tuple[str, dict[str, Any]]:
    """The name and the parameters of an entry as it stands in the YAML."""
    if isinstance(value, str):
        return value, {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{value!r} is neither a name nor a name with parameters, such as {{name: {{parameter: 1}}}}")
    if len(value) != 1:
        keys = ", ".join(str(key) for key in value)
        raise ValueError(
            f"an entry has one name, this one has the keys {keys}; write {{name: {{parameter: 1}}}}, "
            "with the parameters indented below the name"
        )
    (name, parameters), *_ = value.items()
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is not a name")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise ValueError(f"parameters of '{name}' must be written as names and values, not {parameters!r}")
    return name, {str(key): item for key, item in (parameters or {}).items()}


def _parse_entry(value: Any, info: ValidationInfo) -> Any:
    """An `Entry` from YAML; entries that are complete already pass through (a config read back from a run)."""
    if isinstance(value, Entry) or (isinstance(value, Mapping) and {"name", "label", "parameters"} <= set(value)):
        return value
    name, parameters = _split_entry(_expand(value))
    label = parameters.pop("as", None)
    folder = Path.cwd() / (info.context or {}).get("folder", ".")
    if info.field_name == "methods" and {"command", "commands"} & parameters.keys() and name != "command":
        # A user's program, described on the spot: its name in the config is its label.
        name, label = "command", label or name
    if info.field_name == "methods" and isinstance(parameters.get(files := _FILES_OF_METHODS.get(name, "")), list):
        parameters[files] = [os.path.normpath(folder / Path(str(path)).expanduser()) for path in parameters[files]]
    if info.field_name == "methods" and is_target(name):
        label = label or name.rpartition(":")[2]
        name = absolute_target(name, folder)
    if info.field_name == "datasets":
        name, parameters = _dataset_of_file(name, parameters, folder)
        if name in _DATASETS_OF_FILES.values() and isinstance(parameters.get("path"), str):
            stem = Path(parameters["path"]).stem
            # Learn2Reg calls the description of a task TASK_dataset.json.
            label = label or (stem.removesuffix("_dataset") if name == "learn2reg" else stem)
    tuned = None
    if info.field_name == "methods" and "tuned" in parameters:
        tuned = os.path.normpath(folder / Path(str(parameters.pop("tuned"))).expanduser())
        # What stands in the config goes before what was tuned.
        parameters = {**read_tuning(Path(tuned), label or name, name).values, **parameters}
    python = _interpreter(parameters, folder) if info.field_name == "methods" else None
    label = name if label is None else label
    if not isinstance(label, str) or not _LABEL.fullmatch(label):
        raise ValueError(f"label {label!r} must be a word (letters, digits, spaces and . + - = @ _)")
    return {"name": name, "label": label, "parameters": parameters, "tuned": tuned, "python": python}


def _interpreter(parameters: dict[str, Any], folder: Path) -> str | None:
    """The absolute path in the reserved parameter `python`, which is taken out; links in it stay as they are."""
    python = parameters.pop("python", None)
    if python is not None and not (isinstance(python, str) and python):
        raise ValueError(f"python: {python!r} is not the path of a Python interpreter, such as envs/mine/bin/python")
    # Resolving its links would lead out of a virtual environment.
    return None if python is None else str((folder / Path(python).expanduser()).absolute())


_ParsedEntry = Annotated[Entry, BeforeValidator(_parse_entry)]


class RunConfig(_Strict):
    """Everything that determines a run; the default of every key but `datasets` and `methods` is here."""

    name: str = "run"
    datasets: list[_ParsedEntry] = Field(min_length=1)
    methods: list[_ParsedEntry] = Field(min_length=1)
    conditions: list[_ParsedEntry] = Field(default=[Entry(name="none", label="none")], min_length=1)
    prealign: Prealign = "none"
    metrics: str | list[str] = "standard"
    label_warp: LabelWarp = "nearest"
    both_directions: bool = False
    repeats: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)
    engine: EngineConfig = EngineConfig()
    keep: Keep = Keep()
    tune: Tune | None = None
    source_folder: Annotated[Path, Field(strict=False)] = Path()

    @field_validator("name")
    @classmethod
    def _name_is_a_folder_name(cls, name: str) -> str:
        if not _LABEL.fullmatch(name):
            raise ValueError(f"{name!r} must be a word (letters, digits, spaces and . + - = @ _); it names a folder")
        return name

    @field_validator("datasets", "methods", "conditions")
    @classmethod
    def _labels_differ(cls, entries: list[Entry]) -> list[Entry]:
        labels = [entry.label for entry in entries]
        for entry in entries:
            if labels.count(entry.label) > 1:
                raise ValueError(
                    f"two entries are called '{entry.label}'; "
                    f"give one a label of its own, such as {{{entry.name}: {{as: {entry.label}-2}}}}"
                )
        return entries

    @field_validator("metrics", mode="before")
    @classmethod
    def _metrics_are_names(cls, metrics: Any) -> Any:
        names = metrics if isinstance(metrics, list) else [metrics]
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"must be standard, full or a list of names, not {metrics!r}")
        return metrics


# -- reading ------------------------------------------------------------------------------------------


def load_config(path: str | Path) -> RunConfig:
    """The config of a YAML file, its names and parameters checked; ConfigError in one sentence otherwise."""
    config, problems = check_config(path)
    if config is None or problems:
        more = f" (and {len(problems) - 1} more; `regbench validate {path}` lists all)" if len(problems) > 1 else ""
        raise ConfigError(problems[0] + more)
    return config


def check_config(path: str | Path) -> tuple[RunConfig | None, list[str]]:
    """The config, or None where its form is wrong, and all problems found, one sentence each."""
    try:
        file = read_yaml(Path(path))
    except ConfigError as error:
        return None, [str(error)]
    values = {str(key): value for key, value in file.data.items()}
    if "source_folder" in values:
        return None, [file.sentence(("source_folder",), "unknown key")]
    folder = file.path.parent
    values |= {"name": values.get("name", file.path.stem), "source_folder": folder.absolute()}
    context = {"folder": folder}
    try:
        config = RunConfig.model_validate(values, context=context)
    except ValidationError as error:
        problems = [_sentence(file, problem) for problem in error.errors()]
        sound, positions = _sound_part(values, error)
        with contextlib.suppress(ValidationError):
            problems += _name_problems(RunConfig.model_validate(sound, context=context), file, positions)
        return None, list(dict.fromkeys(problems))
    return config, _name_problems(config, file, {})


def _sound_part(values: Mapping[str, Any], error: ValidationError) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """The config without what is wrong in it, so that the rest can be checked, and where kept entries stood."""
    wrong: dict[str, set[int]] = {}
    for problem in error.errors():
        key, *rest = problem["loc"]
        index = rest[0] if rest and isinstance(rest[0], int) else -1
        wrong.setdefault(str(key), set()).add(index)
    sound, positions = {}, {}
    for key, value in values.items():
        if key not in wrong:
            sound[key] = value
        elif isinstance(value, list) and -1 not in wrong[key]:
            positions[key] = [index for index in range(len(value)) if index not in wrong[key]]
            sound[key] = [value[index] for index in positions[key]]
    return sound, positions


def _sentence(file: ConfigFile, problem: Any) -> str:
    """One of pydantic's findings in our words, with its place in the file."""
    place, kind, context = tuple(problem["loc"]), problem["type"], problem.get("ctx", {})
    value = problem["input"]
    if kind == "extra_forbidden":
        known = _known_keys(place[:-1])
        hint = nearest(str(place[-1]), known) or f"; known: {', '.join(known)}"
        return file.sentence(place, f"unknown key{hint}")
    if kind == "missing":
        what = "the parameters and values to try" if place[0] == "tune" else "its datasets and its methods"
        return file.sentence(place, f"is missing; every config names {what}")
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        return file.sentence(place, f"{value!r} is not known{nearest(str(value), known)}; known: {', '.join(known)}")
    if kind == "value_error":
        return file.sentence(place, str(context["error"]))
    return file.sentence(place, _EXPECTED.get(kind, _other)(value, {**context, "msg": problem["msg"]}))


def _other(value: Any, context: Mapping[str, Any]) -> str:
    return f"{value!r} is not valid: {str(context['msg']).lower()}"


_EXPECTED: dict[str, Callable[[Any, Mapping[str, Any]], str]] = {
    "string_type": lambda value, _: f"must be text, not {value!r}",
    "int_type": lambda value, _: f"must be a whole number, not {value!r}",
    "int_from_float": lambda value, _: f"must be a whole number, not {value!r}",
    "float_type": lambda value, _: f"must be a number, not {value!r}",
    "bool_type": lambda value, _: f"must be true or false, not {value!r}",
    "list_type": lambda value, _: f"must be a list, such as [a, b], not {value!r}",
    "model_type": lambda value, _: f"must be a group of keys, such as {{key: value}}, not {value!r}",
    "too_short": lambda value, _: "the list is empty; name at least one",
    "invalid_key": lambda value, _: f"key {value!r} is not a word",
    "greater_than": lambda value, context: f"must be more than {context['gt']:g}, not {value!r}",
    "greater_than_equal": lambda value, context: f"must be at least {context['ge']:g}, not {value!r}",
}


def _known_keys(place: Place) -> list[str]:
    model: Any = RunConfig
    for step in place:
        annotation = model.model_fields[step].annotation
        # The model in `Tune | None` and its like.
        model = next((part for part in get_args(annotation) if hasattr(part, "model_fields")), annotation)
    return [key for key in model.model_fields if key != "source_folder"]


# -- names and parameters against the tables ------------------------------------------------------------


@dataclass(frozen=True)
class _Tables:
    """What is known of the plug-ins of one key: all names, and a check of one entry's parameters."""

    what: str
    known: list[str]
    check: Callable[[Entry, str], object]


def _tables(methods: Iterable[str]) -> dict[str, _Tables]:
    from regbench.datasets.table import DATASETS, build_dataset, dataset_class
    from regbench.methods.table import method_names
    from regbench.parameters import check_parameters
    from regbench.shifts.table import SHIFTS, shift_class
    from regbench.targets import build_method, method_parameters

    def check_dataset(entry: Entry, where: str) -> None:
        check_parameters(dataset_class(entry.name), entry.parameters, where)
        build_dataset(entry.name, entry.parameters)

    def check_method(entry: Entry, where: str) -> None:
        build_method(entry.name, method_parameters(entry.name, entry.parameters, where))

    def check_shift(entry: Entry, where: str) -> None:
        cls = shift_class(entry.name)
        cls(**check_parameters(cls, entry.parameters, where))

    return {
        "datasets": _Tables("dataset", list(DATASETS), check_dataset),
        "methods": _Tables("method", method_names(methods), check_method),
        "conditions": _Tables("condition", list(SHIFTS), check_shift),
    }


def _name_problems(config: RunConfig, file: ConfigFile, positions: Mapping[str, list[int]]) -> list[str]:
    """A sentence for each entry with an unknown name or parameters that its plug-in refuses.

    `positions` says where the entries stand in the file, for keys of which some were left out.
    """
    from regbench.metrics.table import select_metrics

    problems: list[str] = []
    for key, tables in _tables(entry.name for entry in config.methods if not is_target(entry.name)).items():
        for index, entry in enumerate(getattr(config, key)):
            place = (key, positions[key][index] if key in positions else index)
            if entry.name not in tables.known and not (key == "methods" and is_target(entry.name)):
                hint = nearest(entry.name, tables.known)
                text = f"unknown {tables.what} '{entry.name}'{hint}; known: {', '.join(tables.known)}"
                problems.append(file.sentence(place, text))
                continue
            where = f"{key}.{entry.label}"
            try:
                tables.check(entry, where)
            except RegbenchError as error:
                problems.append(file.at_line(place, str(error)))
    try:
        select_metrics(config.metrics)
    except ConfigError as error:
        problems.append(file.at_line(("metrics",), str(error)))
    return problems
