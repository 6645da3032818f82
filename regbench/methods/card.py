"""What is known of a registration method without importing it: its card; and what it must offer.

Cards are plain data, so listing all methods imports no engine. The module of a method imports nothing
heavier than numpy at its top either; engines (SimpleITK, ants, torch) are imported where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from regbench.displacement import Displacement
from regbench.pair import BlindPair

Paradigm = Literal["none", "classical", "learned", "hybrid"]
Supervision = Literal["none", "image", "labels", "synthetic"]
Transformation = Literal["none", "rigid", "affine", "deformable", "diffeomorphic"]


class Method(Protocol):
    """A registration method: a frozen dataclass of parameters with defaults in view.

    Construction checks parameters and is cheap. An optional `prepare()` does the slow part (weights,
    compilation); it runs once per worker and is timed as set-up. `register` is timed, does not depend on
    earlier calls, never sees labels, writes no files outside private temporary folders, leaves its input
    unchanged, and returns host memory on the fixed grid. It raises MethodDeclined for a case that it
    cannot do by design, and MethodError (or anything else) where it failed. A field named `seed` is
    filled with the seed of the case unless the user set it.
    """

    def register(self, pair: BlindPair) -> Displacement: ...


@dataclass(frozen=True)
class Package:
    """A Python package that a method needs: what to import, and what to install if it is missing."""

    module: str
    distribution: str

    @property
    def install_hint(self) -> str:
        return f"pip install {self.distribution}"


@dataclass(frozen=True)
class Card:
    """The facts of a method that tables, plans and reports need."""

    name: str
    target: str
    summary: str
    paradigm: Paradigm
    supervision: Supervision
    transformation: Transformation
    citation: str
    licence: str
    dimensions: tuple[int, ...] = (2, 3)
    grids: str = "any"
    packages: tuple[Package, ...] = ()
    versioned_by: str = "regbench"
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    deterministic: str = "yes"
    notes: str = ""
