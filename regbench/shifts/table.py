"""The conditions under which pairs are registered: one row each; a shift changes one thing and carries the truth.

A shift is a frozen dataclass of parameters with `apply(pair, seed) -> Pair`: the same pair and seed give the same
bytes.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol

from regbench.errors import ConfigError
from regbench.pair import Pair
from regbench.parameters import nearest


class Shift(Protocol):
    """A change of a pair, made before any method sees it."""

    def apply(self, pair: Pair, seed: int) -> Pair: ...


@dataclass(frozen=True)
class ShiftCard:
    """What is known of a shift without importing it."""

    name: str
    target: str
    summary: str


_ROWS = (
    ShiftCard("none", "regbench.shifts.contrast:Unchanged", "the data as they are"),
    ShiftCard(
        "gamma",
        "regbench.shifts.contrast:Gamma",
        "a gamma curve on the intensities: another contrast, the same anatomy and labels",
    ),
)

SHIFTS: dict[str, ShiftCard] = {card.name: card for card in _ROWS}


def shift_class(name: str) -> type:
    """The class of a shift; ConfigError with the nearest known name if there is none."""
    if name not in SHIFTS:
        raise ConfigError(f"unknown condition '{name}'{nearest(name, list(SHIFTS))}; known: {', '.join(SHIFTS)}")
    module, _, attribute = SHIFTS[name].target.partition(":")
    found: type = getattr(importlib.import_module(module), attribute)
    return found
