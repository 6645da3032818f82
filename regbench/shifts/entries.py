"""Conditions as a config writes them, brought into the form of every other entry of a config.

    conditions: [none, {noise: 0.05}, {anisotropy_mm: [2, 4]}, {gamma: {strength: strong, on: moving}}]

A bare value is the strength; a list of strengths is one condition each; `mild`, `medium` and `strong` are the levels of
the table. Conditions whose strength was written short get labels of their own, such as `noise 0.05`; a condition with
one strength among its parameters keeps the name of the shift, and `as` names any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regbench.shifts.table import SHIFTS


def expanded(entry: Any) -> list[Any]:
    """The entries that one entry stands for, each a name or a name with its parameters; other forms as they are."""
    if not isinstance(entry, Mapping) or len(entry) != 1:
        return [entry]
    ((name, given),) = entry.items()
    if _is_strength(given, name) or (isinstance(given, list) and given):
        given, is_short = {"strength": given}, True
    elif isinstance(given, Mapping):
        is_short = isinstance(given.get("strength"), list)
    else:
        return [entry]
    strength = given.get("strength")
    strengths = strength if isinstance(strength, list) else [strength]
    if strength is None or not strengths:
        return [entry]
    return [_entry(name, given, _number(name, value), is_short) for value in strengths]


def places(entries: Any) -> list[int]:
    """For each condition that a list of entries stands for, the index of its entry in the list."""
    return [i for i, entry in enumerate(entries) for _ in expanded(entry)] if isinstance(entries, list) else []


def _entry(name: Any, given: Mapping[str, Any], strength: Any, is_short: bool) -> dict[Any, Any]:
    parameters = {**given, "strength": strength}
    if is_short:
        words = [str(given.get("as") or name), f"{strength:g}" if _is_number(strength) else str(strength)]
        if "as" not in given and "on" in given:
            words.append(str(given["on"]))
        parameters["as"] = " ".join(words)
    return {name: parameters}


def _is_strength(value: Any, name: Any) -> bool:
    return _is_number(value) or (isinstance(value, str) and _number(name, value) != value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(name: Any, strength: Any) -> Any:
    """The strength of a level of a shift; anything else as it is."""
    levels = SHIFTS[name].named_levels if isinstance(name, str) and name in SHIFTS else {}
    return levels.get(strength, strength) if isinstance(strength, str) else strength
