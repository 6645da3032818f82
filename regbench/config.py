"""A run's config: strict YAML in, a checked `RunConfig` out, or one sentence per problem with its line.

    datasets: [mni-cohort, {mni-cohort: {ndim: 2, as: slices}}, data/pairs.csv, data/OASIS, my-study.yaml]
    methods: [identity, {demons: {iterations: [50, 25], as: demons-quick}}]

An entry is a name, or a name with its parameters; the reserved parameter `as` gives it a label of its own, and
`tuned` of a method names a record of `regbench tune` to take parameters from, `python` another interpreter to run it,
`trained_on` says what weights of your own have seen ({dataset: neurite-oasis, subjects: 0001 ... 0394}); `family` of a
dataset says whose scans are in a folder of yours, so that subjects which a method was trained on are recognised.
A condition may be written with its strength alone, or with several ({noise: [0.02, 0.05]}): see `shifts.entries`.
`$NAME` and `${NAME}` in an entry are replaced by environment variables. Relative paths of data are relative
to the folder of the config file. Names and parameters are checked against the tables of plug-ins; no image
is opened.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    ValidationError,
    field_validator,
)

from regbench.alignment import LabelWarp
from regbench.config_entries import LABEL, Entry, ParsedEntry, Strict
from regbench.config_file import ConfigFile, Place, read_yaml
from regbench.errors import ConfigError, RegbenchError
from regbench.leaks import LeakPolicy
from regbench.parameters import nearest
from regbench.shifts.entries import expanded, places
from regbench.targets import is_target

Prealign = Literal["none", "moments", "rigid", "affine"]


class EngineConfig(Strict):
    """How cases are executed: worker processes, threads of each, limits of time (s) and memory (MiB)."""

    kind: Literal["local"] = "local"
    workers: int = Field(default=1, ge=1)
    threads: int = Field(default=2, ge=1)
    timeout_s: float = Field(default=900.0, gt=0)
    timing: Literal["exclusive", "shared"] = "exclusive"
    memory_mib: int | None = Field(default=None, ge=64)


class Keep(Strict):
    """What a run folder keeps beside numbers: displacement fields, and pictures per dataset and method."""

    fields: bool = False
    pictures: int = Field(default=3, ge=0)


class Tune(Strict):
    """What `regbench tune` tries: values per parameter of each method, all combinations or `trials` of them."""

    parameters: dict[str, dict[str, list[Any]]] = Field(min_length=1)
    objective: str | None = None
    trials: int | None = Field(default=None, ge=1)


class RunConfig(Strict):
    """Everything that determines a run; the default of every key but `datasets` and `methods` is here."""

    name: str = "run"
    datasets: list[ParsedEntry] = Field(min_length=1)
    methods: list[ParsedEntry] = Field(min_length=1)
    conditions: list[ParsedEntry] = Field(default=[Entry(name="none", label="none")], min_length=1)
    prealign: Prealign = "none"
    metrics: str | list[str] = "standard"
    label_warp: LabelWarp = "nearest"
    both_directions: bool = False
    repeats: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)
    engine: EngineConfig = EngineConfig()
    keep: Keep = Keep()
    leaks: LeakPolicy = "exclude"
    tune: Tune | None = None
    source_folder: Annotated[Path, Field(strict=False)] = Path()

    @field_validator("name")
    @classmethod
    def _name_is_a_folder_name(cls, name: str) -> str:
        if not LABEL.fullmatch(name):
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
    if isinstance(conditions := values.get("conditions"), list):
        file = replace(file, origins={"conditions": places(conditions)})
        values["conditions"] = [part for entry in conditions for part in expanded(entry)]
    try:
        config = RunConfig.model_validate(values, context=context)
    except ValidationError as error:
        problems = [_sentence(file, problem) for problem in error.errors()]
        sound, positions = _sound_part(values, error)
        with contextlib.suppress(ValidationError):
            problems += _name_problems(RunConfig.model_validate(sound, context=context), file, positions)
        return None, list(dict.fromkeys(problems))
    return config, list(dict.fromkeys(_name_problems(config, file, {})))


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
