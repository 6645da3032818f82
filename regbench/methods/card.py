"""What is known of a registration method without importing it: its card; and what it must offer.

Cards are plain data, so listing all methods imports no engine. The module of a method imports nothing
heavier than numpy at its top either; engines (SimpleITK, ants, torch) are imported where they are used.
"""

from __future__ import annotations

import importlib.util
import shutil
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
    filled with the seed of the case unless the user set it. Where an engine gives both directions, the
    displacement carries the other one as `inverse`. A learned method may offer `model_size()`, the number of
    its parameters and the MiB of its weights, which is asked for when it has been prepared.
    """

    def register(self, pair: BlindPair) -> Displacement: ...


@dataclass(frozen=True)
class Package:
    """A Python package that a method needs: what to import, and what to install if it is missing."""

    module: str
    distribution: str

    @property
    def name(self) -> str:
        return self.module

    @property
    def install_hint(self) -> str:
        return f"pip install {self.distribution}"

    @property
    def is_there(self) -> bool:
        """Whether it is installed; imports nothing."""
        return importlib.util.find_spec(self.module) is not None


@dataclass(frozen=True)
class Program:
    """A program on PATH that a method runs, and how to get it."""

    name: str
    install_hint: str

    @property
    def is_there(self) -> bool:
        """Whether it is found on PATH."""
        return shutil.which(self.name) is not None


@dataclass(frozen=True)
class Environment:
    """A virtual environment of its own, for methods whose packages pin what others need; methods may share one.

    `same_as_here` are packages that it gets in the version that regbench itself runs with, so that the linear start
    and the build of torch (CPU or GPU) are those of all other methods. `requirements` are installed with all that
    they need, and `alone` are installed without, because of what they pin. Python must be at least `python_from` and
    below `python_before`.
    """

    name: str
    requirements: tuple[str, ...] = ()
    same_as_here: tuple[str, ...] = ("numpy",)
    alone: tuple[str, ...] = ()
    python_from: tuple[int, int] = (3, 11)
    python_before: tuple[int, int] | None = None


@dataclass(frozen=True)
class Card:
    """The facts of a method that tables, plans and reports need.

    A method with an `environment` runs in it once it has been made, else where regbench runs, if its packages are
    there. What determines its results besides parameters is the version of the distribution `versioned_by`, what a
    program says to `version_command` (its last word), or `version` itself; `version_suffix` adds what else does.
    """

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
    programs: tuple[Program, ...] = ()
    environment: Environment | None = None
    versioned_by: str = "regbench"
    version_command: tuple[str, ...] = ()
    version: str | None = None
    version_suffix: str = ""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    deterministic: str = "yes"
    notes: str = ""


def card_of_class(cls: type, name: str, target: str) -> Card:
    """The card that a class of somebody else's carries, or what can be said of one that carries none."""
    card = getattr(cls, "card", None)
    if isinstance(card, Card):
        return card
    return Card(
        name=name,
        target=target,
        summary=(cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip("."),
        paradigm="classical",
        supervision="none",
        transformation="deformable",
        citation="",
        licence="",
    )
