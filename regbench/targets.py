"""Methods by name: those of the table, those of other packages (see `regbench.methods.plugins`), and a user's own class
as `path/to/file.py:Class` or `package.module:Class`.

A class of the user's may carry a `card` (see `regbench.methods.card`); without one it is listed as a
classical method, whose version is a hash of its file, so that an edited file is run again.

A method may go on from another one: its class says with `of_method` which parameter holds that one, as a name or as a
name with its parameters. Such a parameter is checked as the entry of a config is, and given to the class as a method
that is built; its card is completed with that of the other one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from regbench.errors import ConfigError
from regbench.methods.card import Card, Method, card_of_class
from regbench.parameters import check_parameters


def is_target(name: str) -> bool:
    """Whether a method's name points to a class instead of a row of the method table."""
    return ":" in name


def absolute_target(name: str, folder: Path) -> str:
    """The target with the path of its file made absolute, relative to `folder`; other names as they are."""
    if not is_target(name):
        return name
    place, _, attribute = name.rpartition(":")
    return f"{(folder / Path(place).expanduser()).absolute()}:{attribute}" if place.endswith(".py") else name


def method_card(name: str, parameters: Mapping[str, Any] | None = None) -> Card:
    """The card of a method; ConfigError if it is not known or cannot be imported.

    A method that is described by its parameters (a user's program) has what the parameters say in its card.
    """
    if is_target(name):
        return card_of_class(resolve_target(name), name, name)
    from regbench.methods.table import card, method_class

    found = card(name)
    completed = getattr(method_class(name), "completed_card", None)
    if completed is None or parameters is None:
        return found
    inner = inner_method(name, parameters)
    others = () if inner is None else (method_card(*inner),)
    complete: Card = completed(found, parameters, *others)
    return complete


def method_class(name: str) -> type:
    """The class of a method, its module imported; ConfigError as for `method_card`."""
    if is_target(name):
        return resolve_target(name)
    from regbench.methods import table

    return table.method_class(name)


def method_parameters(name: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """All parameters of a method, checked and converted; ConfigError, beginning with `where`, otherwise."""
    if is_target(name):
        values = check_parameters(resolve_target(name), given, where)
    else:
        from regbench.methods.table import resolve_parameters

        values = resolve_parameters(name, dict(given), where)
    key = _parameter_of_method(name)
    if key is not None:
        values[key] = _inner_parameters(values[key], f"{where}.{key}")
    return values


def inner_method(name: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Name and parameters of the method that another one goes on from; None where there is none.

    `parameters` are those that `method_parameters` returns.
    """
    key = _parameter_of_method(name)
    if key is None:
        return None
    # Parameters as they stand in a config need not name the other method: the class has a default.
    value = parameters[key] if key in parameters else _inner_parameters(getattr(method_class(name), key), name)
    ((inner, given),) = value.items()
    return inner, dict(given)


def placeless(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, in which a method of the user's own has the name of its class, without the path of its file."""
    inner = inner_method(name, parameters)
    if inner is None:
        return dict(parameters)
    return {**parameters, str(_parameter_of_method(name)): {inner[0].rpartition(":")[2]: placeless(*inner)}}


def _parameter_of_method(name: str) -> str | None:
    """Which parameter of a method holds another method."""
    found: str | None = getattr(method_class(name), "of_method", None)
    return found


def _inner_parameters(value: Any, where: str) -> dict[str, dict[str, Any]]:
    """The name of a method with all its parameters, but for a seed that was not given: it gets that of the outer one.

    Raises ConfigError, beginning with `where`, for anything else than a known name, or one with parameters.
    """
    if isinstance(value, str):
        value = {value: {}}
    if not isinstance(value, Mapping) or len(value) != 1 or not all(isinstance(part, str) for part in value):
        raise ConfigError(f"{where}: {value!r} is not a method: give its name, or {{name: {{parameter: value}}}}")
    ((name, given),) = value.items()
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(f"{where}.{name}: parameters must be written as names and values, not {given!r}")
    try:
        method_card(name)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    values = method_parameters(name, given or {}, f"{where}.{name}")
    if "seed" not in (given or {}):
        values.pop("seed", None)
    return {name: values}


def build_method(name: str, parameters: Mapping[str, Any]) -> Method:
    """A method with its parameters; construction only, nothing is prepared."""
    inner = inner_method(name, parameters)
    if inner is not None:
        started, values = inner
        has_seed = "seed" in parameters and "seed" in {spec.name for spec in dataclasses.fields(method_class(started))}
        values = {"seed": parameters["seed"], **values} if has_seed else values
        parameters = {**parameters, str(_parameter_of_method(name)): build_method(started, values)}
    if is_target(name):
        method: Method = resolve_target(name)(**parameters)
        return method
    from regbench.methods.table import build

    return build(name, dict(parameters))


def version_of(name: str, parameters: Mapping[str, Any] | None = None) -> str:
    """The version that determines a method's results, such as 'antspyx 0.6.3', or the hash of a user's file."""
    if not is_target(name):
        from regbench.methods.table import method_version

        return method_version(method_card(name, parameters))
    source = getattr(sys.modules.get(resolve_target(name).__module__), "__file__", None)
    if source is None:
        return "unknown"
    return f"{Path(source).name} {hashlib.sha256(Path(source).read_bytes()).hexdigest()[:12]}"


def resolve_target(name: str) -> type:
    """The class that a target names, imported; ConfigError in one sentence if there is none."""
    place, _, attribute = name.rpartition(":")
    try:
        module = _module_of_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except FileNotFoundError:
        raise ConfigError(f"method '{name}': there is no file {place}") from None
    except Exception as error:  # whatever a user's module raises when it is imported
        raise ConfigError(f"method '{name}': cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, type) or not hasattr(found, "register"):
        raise ConfigError(f"method '{name}': {place} has no class '{attribute}' with a method `register`")
    if not hasattr(found, "__dataclass_fields__"):
        raise ConfigError(f"method '{name}': class '{attribute}' must be a dataclass, its fields are its parameters")
    return found


def _module_of_file(path: Path) -> ModuleType:
    """The module in a file, imported once per process under a name that only this path has."""
    path = path.absolute()
    name = f"regbench_target_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise FileNotFoundError(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name while it is being executed.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
