"""The parameters of a plug-in as a table: name, type, default."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from typing import Any

from rich.markup import escape
from rich.table import Table

from regbench.cli.console import table


def parameter_table(cls: type) -> Table | None:
    """Name, type and default of each field of a parameter dataclass; None if it has none."""
    fields = [f for f in dataclasses.fields(cls) if f.init]
    if not fields:
        return None
    hints = typing.get_type_hints(cls)
    result = table("parameter", "default", "type")
    for spec in fields:
        result.add_row(spec.name, escape(_default(spec)), escape(type_words(hints[spec.name])))
    return result


def own_words(cls: type) -> str:
    """The docstring of a parameter dataclass, or "" where it has none but the generated signature."""
    words = inspect.cleandoc(cls.__doc__ or "")
    return "" if words.startswith(f"{cls.__name__}(") else words


def _default(spec: dataclasses.Field[Any]) -> str:
    if spec.default is not dataclasses.MISSING:
        return value_words(spec.default)
    if spec.default_factory is not dataclasses.MISSING:
        return value_words(spec.default_factory())
    return "(required)"


def value_words(value: Any) -> str:
    """A value as one would write it in a config."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = ", ".join(f"{f.name}: {value_words(getattr(value, f.name))}" for f in dataclasses.fields(value))
        return f"{{{inner}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(value_words(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {value_words(item)}' for key, item in value.items())}}}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


_PLAIN = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}


def type_words(hint: Any) -> str:
    """A type in words: 'number', 'list of whole number', 'a or b'."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " | ".join(str(choice) for choice in inner)
    if origin in (list, tuple):
        kinds = dict.fromkeys(type_words(kind) for kind in inner if kind is not Ellipsis)
        count = f"{len(inner)} " if origin is tuple and Ellipsis not in inner else ""
        return f"list of {count}{' | '.join(kinds)}"
    if inner:
        return " or ".join(dict.fromkeys(type_words(kind) for kind in inner))
    return "group" if dataclasses.is_dataclass(hint) else getattr(hint, "__name__", str(hint)).lower()
