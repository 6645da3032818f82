"""The registration methods: one card each, and what can be asked of them by name.

A row is plain data (`cards_classical`, `cards_learned`); listing it imports no engine. A method is one file and one
row. Further methods come from other packages (`regbench.methods.plugins`) and as `path/to/file.py:Class` in a config
(`regbench.targets`).
"""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from regbench import __version__
from regbench.errors import ConfigError
from regbench.methods.card import Card, Method, Package, Program
from regbench.methods.cards_classical import CLASSICAL
from regbench.methods.cards_learned import LEARNED
from regbench.methods.plugins import plugin_card, plugin_cards, plugin_names
from regbench.parameters import check_parameters, nearest

CARDS: dict[str, Card] = {card.name: card for card in (*CLASSICAL, *LEARNED)}


def card(name: str) -> Card:
    """The card of a method, of another package's as well; ConfigError with the nearest known name if there is none."""
    found = plugin_card(name, CARDS) or CARDS.get(name)
    if found is None:
        known = method_names()
        raise ConfigError(f"unknown method '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return found


def all_cards() -> dict[str, Card]:
    """The cards of this table and of all other packages, which are imported for it."""
    return {**CARDS, **plugin_cards(CARDS)}


def method_names(wanted: Iterable[str] = ()) -> list[str]:
    """The names of all methods, other packages' as well, which are imported only if a wanted name is not found else."""
    names = [*CARDS, *plugin_names()]
    return names if set(wanted) <= set(names) else list(dict.fromkeys([*names, *all_cards()]))


def method_class(name: str) -> type:
    """The class of a method; imports its module, which is cheap, but not its engine."""
    module, _, attribute = card(name).target.partition(":")
    found: type = getattr(importlib.import_module(module), attribute)
    return found


def resolve_parameters(name: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """All parameters of a method: those given over those of its `preset` over the defaults, checked and converted."""
    values = dict(given)
    preset = values.pop("preset", None)
    if preset is not None:
        presets = card(name).presets
        if preset not in presets:
            known = ", ".join(presets) or "none"
            raise ConfigError(
                f"{where}: unknown preset '{preset}'{nearest(str(preset), list(presets))}; known: {known}"
            )
        values = {**presets[preset], **values}
    return check_parameters(method_class(name), values, where)


def build(name: str, parameters: Mapping[str, Any]) -> Method:
    """A method with its parameters; construction only, nothing is prepared."""
    method: Method = method_class(name)(**parameters)
    return method


def missing_needs(card: Card) -> list[Package | Program]:
    """The packages of a card that are not installed, and its programs that are not on PATH; imports none."""
    needs: list[Package | Program] = [*card.packages, *card.programs]
    return [need for need in needs if not need.is_there]


@cache
def _told_version(command: tuple[str, ...]) -> str:
    """The last word of the first line that a program prints about itself, or "(not installed)"."""
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603  a list
    except (OSError, subprocess.TimeoutExpired):
        return "(not installed)"
    words = (told.stdout or told.stderr).strip().partition("\n")[0].split()
    return words[-1] if words else "unknown"


def method_version(card: Card) -> str:
    """The distribution and version that determine a method's results, such as 'antspyx 0.6.3'."""
    return f"{_version(card)} {card.version_suffix}".rstrip()


def _version(card: Card) -> str:
    if card.version is not None:
        return card.version
    if card.version_command:
        return f"{card.version_command[0]} {_told_version(card.version_command)}"
    if card.versioned_by == "regbench":
        return f"regbench {__version__}"
    try:
        return f"{card.versioned_by} {importlib.metadata.version(card.versioned_by)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{card.versioned_by} (not installed)"
