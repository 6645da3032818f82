"""Checked parameters: a mapping from a config against the fields of a frozen dataclass.

Datasets, methods and shifts declare their parameters as dataclass fields with defaults; this module
turns what a user wrote into field values, or into one sentence that says what is wrong and what is known.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Mapping
from typing import Any, get_type_hints

from regbench.errors import ConfigError


def nearest(word: str, known: list[str]) -> str:
    """A hint such as "; did you mean 'iterations'?", or "" where nothing is near."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{found[0]}'?" if found else ""


def expand_variables(text: str) -> str:
    """The text with `$NAME` and `${NAME}` replaced by environment variables; ValueError names one that is not set."""

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise ValueError(f"environment variable ${name} is not set")
        return os.environ[name]

    return re.sub(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))", value, text)


def check_parameters(cls: type, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """All parameters of dataclass `cls`: `given` checked and converted, defaults for the rest.

    Raises ConfigError, beginning with `where`, for an unknown name (with the nearest known one), a missing
    parameter without default, or a value of the wrong type. Constructs no instance.
    """
    from pydantic import TypeAdapter, ValidationError

    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for name in given:
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise ConfigError(f"{where}: unknown parameter '{name}'{nearest(name, list(fields))}; known: {known}")
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, spec in fields.items():
        if name in given:
            try:
                values[name] = TypeAdapter(hints[name]).validate_python(given[name])
            except ValidationError as error:
                problem = error.errors()[0]
                raise ConfigError(f"{where}.{name}: {given[name]!r} is not valid: {problem['msg'].lower()}") from None
        elif spec.default is not dataclasses.MISSING:
            values[name] = spec.default
        elif spec.default_factory is not dataclasses.MISSING:
            values[name] = spec.default_factory()
        else:
            raise ConfigError(f"{where}: parameter '{name}' is missing")
    return values


def as_plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Parameter values as plain JSON data: dataclasses to mappings, tuples to lists, paths to strings."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, Mapping):
            return {str(k): plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return value if isinstance(value, bool | int | float | str | type(None)) else str(value)

    return {name: plain(value) for name, value in values.items()}
