"""Methods of other packages, found by the entry point group `regbench.methods` and loaded when they are asked for.

    [project.entry-points."regbench.methods"]
    my-method = "my_package.registration:MyMethod"     # a class, which may carry a `card`
    my-other = "my_package.cards:OTHER"                # a Card
    my-family = "my_package.cards:CARDS"               # a list of cards, known by their own names

One method is known by the name of its entry point. Names are taken from what is installed, without importing any of
it; only a name that no entry point has makes those that give lists be loaded. Two methods of one name are refused:
which of them ran would depend on the order of installation.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from regbench.errors import ConfigError
from regbench.methods.card import Card, card_of_class

GROUP = "regbench.methods"
logger = logging.getLogger(__name__)


def plugin_names() -> list[str]:
    """The names of all entry points; imports nothing of them."""
    return [point.name for point in _points()]


def plugin_card(name: str, taken: Collection[str]) -> Card | None:
    """The card of a method of another package, or None if there is none of that name; `taken` are regbench's own.

    Raises ConfigError where a name is taken twice, or its package cannot be loaded.
    """
    own = [point for point in _points() if point.name == name]
    if name in taken:
        if own:
            raise _clash(name, ["regbench", *map(_package, own)])
        return None
    if len(own) > 1:
        raise _clash(name, [_package(point) for point in own])
    if own:
        found = _cards(own[0])
        if name in found:
            return found[name]
    # Only a list can hide a name that no entry point has.
    return plugin_cards(taken).get(name)


def plugin_cards(taken: Collection[str]) -> dict[str, Card]:
    """The cards of all other packages, loaded; one that cannot be is left out with a warning.

    Raises ConfigError where a name is taken twice.
    """
    found: dict[str, tuple[Card, str]] = {}
    for point in _points():
        try:
            cards = _cards(point)
        except ConfigError as error:
            logger.warning("%s", error)
            continue
        for name, card in cards.items():
            if name in taken or name in found:
                raise _clash(name, [found[name][1] if name in found else "regbench", _package(point)])
            found[name] = card, _package(point)
    return {name: card for name, (card, _) in found.items()}


def _points() -> tuple[EntryPoint, ...]:
    return _points_on(tuple(sys.path))


@cache
def _points_on(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of what is installed on a search path."""
    return tuple(sorted(entry_points(group=GROUP), key=lambda point: (point.name, _package(point))))


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


@cache
def _loaded(point: EntryPoint) -> object:
    try:
        return point.load()
    except Exception as error:  # whatever somebody's module raises when it is imported
        raise ConfigError(
            f"method '{point.name}' of the package {_package(point)} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


def _cards(point: EntryPoint) -> dict[str, Card]:
    """The cards that an entry point gives, by the names under which they are known."""
    given = _loaded(point)
    if isinstance(given, type) and hasattr(given, "register") and dataclasses.is_dataclass(given):
        card = card_of_class(given, point.name, f"{given.__module__}:{given.__qualname__}")
        return {point.name: _versioned(dataclasses.replace(card, name=point.name), point)}
    if isinstance(given, Card):
        return {point.name: _versioned(dataclasses.replace(given, name=point.name), point)}
    if isinstance(given, list | tuple) and given and all(isinstance(card, Card) for card in given):
        return {card.name: _versioned(card, point) for card in given}
    raise ConfigError(
        f"method '{point.name}' of the package {_package(point)}: {point.value} is neither a Card, nor a list of "
        "cards, nor a dataclass with a method `register`"
    )


def _versioned(card: Card, point: EntryPoint) -> Card:
    """The card with the version of its own package, unless it says what it depends on."""
    says = card.version is not None or card.version_command or card.versioned_by != "regbench"
    return card if says else dataclasses.replace(card, versioned_by=_package(point))


def _clash(name: str, packages: Collection[str]) -> ConfigError:
    owners = " and ".join(packages)
    return ConfigError(f"two methods are called '{name}', of {owners}; uninstall one, or have one renamed")
