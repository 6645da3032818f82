"""The entries of a config: a dataset, a method or a condition, as a name or a name with its parameters.

What may stand in an entry is said in `regbench.config`; here it is brought into one form, `Entry`. Nothing is checked
against the tables of plug-ins yet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from regbench.errors import RegbenchError
from regbench.families import FAMILIES
from regbench.parameters import expand_variables, nearest
from regbench.targets import absolute_target, is_target
from regbench.tuned import read_tuning

# Which parameter of a method holds files of the user's, relative to the folder of the config file.
_FILES_OF_METHODS = {
    "command": "files",
    "elastix-bspline": "parameter_files",
    "elastix-affine-bspline": "parameter_files",
}
# Which parameter of a method is itself an entry of a method.
_METHODS_OF_METHODS = {"instance-optimise": "start"}
LABEL = re.compile(r"\w[\w .+=@-]*")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Entry(Strict):
    """A plug-in by name, the label under which its rows appear, and the parameters as they were written.

    Where the config names them: `tuned` is the record of `regbench tune` that some of the parameters are from, `python`
    the interpreter that runs the method, `trained_on` what its weights have seen, `family` whose scans a dataset has.
    """

    name: str
    label: str
    parameters: dict[str, Any] = {}
    tuned: str | None = None
    python: str | None = None
    trained_on: dict[str, Any] | None = None
    family: str | None = None


def _expand(value: Any) -> Any:
    """The value with environment variables replaced in all its strings; ValueError names one that is not set."""
    if isinstance(value, Mapping):
        return {_expand(key): _expand(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item) for item in value]
    return expand_variables(value) if isinstance(value, str) else value


def _dataset_of_file(name: str, parameters: dict[str, Any], folder: Path) -> tuple[str, dict[str, Any], str | None]:
    """The dataset that reads the file or folder `name`, its parameters with absolute paths, and what to call it.

    Names of datasets stay. ValueError if a folder is in no known layout.
    """
    from regbench.datasets.recognition import dataset_at

    try:
        return dataset_at(name, parameters, folder)
    except RegbenchError as error:
        raise ValueError(str(error)) from None


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
    if info.field_name == "methods":
        label = label or name.rpartition(":")[2]
        name, parameters = _method_entry(name, parameters, folder)
    if info.field_name == "datasets":
        name, parameters, called = _dataset_of_file(name, parameters, folder)
        label = label or called
    tuned = None
    if info.field_name == "methods" and "tuned" in parameters:
        tuned = os.path.normpath(folder / Path(str(parameters.pop("tuned"))).expanduser())
        # What stands in the config goes before what was tuned.
        parameters = {**read_tuning(Path(tuned), label or name, name).values, **parameters}
    python = _interpreter(parameters, folder) if info.field_name == "methods" else None
    trained_on = _training(parameters) if info.field_name == "methods" else None
    family = _family(parameters) if info.field_name == "datasets" else None
    label = name if label is None else label
    if not isinstance(label, str) or not LABEL.fullmatch(label):
        raise ValueError(f"label {label!r} must be a word (letters, digits, spaces and . + - = @ _)")
    found = {"name": name, "label": label, "parameters": parameters, "tuned": tuned, "python": python}
    return {**found, "trained_on": trained_on, "family": family}


def _method_entry(name: str, parameters: dict[str, Any], folder: Path) -> tuple[str, dict[str, Any]]:
    """The plug-in behind the name of a method, and its parameters with the paths of files made absolute."""
    if {"command", "commands"} & parameters.keys():
        # A user's program, described on the spot: its name in the config is its label.
        name = "command"
    if _is_trained_network(name, parameters):
        # A network of the user's, likewise.
        name = "trained"
        parameters["weights"] = os.path.normpath(folder / Path(parameters["weights"]).expanduser())
    if isinstance(parameters.get(files := _FILES_OF_METHODS.get(name, "")), list):
        parameters[files] = [os.path.normpath(folder / Path(str(path)).expanduser()) for path in parameters[files]]
    inner = _METHODS_OF_METHODS.get(name, "")
    if parameters.get(inner) is not None:
        started, values = _method_entry(*_split_entry(parameters[inner]), folder)
        parameters[inner] = {started: values}
    return absolute_target(name, folder), parameters


def _is_trained_network(name: str, parameters: Mapping[str, Any]) -> bool:
    """Whether an entry of `methods` is a weight file of `regbench train` under a name of the user's own."""
    from regbench.methods.table import method_names

    weights = parameters.get("weights")
    if not isinstance(weights, str) or not weights.endswith(".safetensors") or is_target(name):
        return False
    return name == "trained" or name not in method_names()


def _training(parameters: dict[str, Any]) -> dict[str, Any] | None:
    """What the reserved parameter `trained_on` says, which is taken out."""
    told = parameters.pop("trained_on", None)
    if told is not None and not (isinstance(told, Mapping) and {"dataset", "families"} & set(told)):
        raise ValueError(
            f"trained_on: {told!r} does not name a dataset, as in {{dataset: ixi, subjects: IXI002 IXI012}}"
        )
    return None if told is None else dict(told)


def _family(parameters: dict[str, Any]) -> str | None:
    """The reserved parameter `family`, which is taken out; one that is not known is a name of the user's own."""
    family = parameters.pop("family", None)
    if family is not None and not isinstance(family, str):
        raise ValueError(f"family: {family!r} is not a name, such as neurite-oasis")
    if family is not None and family not in FAMILIES and (hint := nearest(family, list(FAMILIES))):
        raise ValueError(f"family: '{family}' is not known{hint}; known: {', '.join(FAMILIES)}")
    return family


def _interpreter(parameters: dict[str, Any], folder: Path) -> str | None:
    """The absolute path in the reserved parameter `python`, which is taken out; links in it stay as they are."""
    python = parameters.pop("python", None)
    if python is not None and not (isinstance(python, str) and python):
        raise ValueError(f"python: {python!r} is not the path of a Python interpreter, such as envs/mine/bin/python")
    # Resolving its links would lead out of a virtual environment.
    return None if python is None else str((folder / Path(python).expanduser()).absolute())


ParsedEntry = Annotated[Entry, BeforeValidator(_parse_entry)]
