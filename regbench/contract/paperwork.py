"""What can be said of a method before it registers anything: its class and its card."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

from regbench.contract.judging import Finding
from regbench.methods.card import Card

_HEAVY = ("torch", "tensorflow", "jax", "SimpleITK", "itk", "ants", "monai", "scipy", "nibabel", "pandas", "matplotlib")


def read_papers(card: Card, cls: type, imported: Collection[str]) -> Iterator[Finding]:
    """Findings on a class, its card, and the modules that were imported with it; they belong to no dimension."""
    promise = "its class tells its parameters"
    if not dataclasses.is_dataclass(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        words = "parameters that can change between calls are no settings: `@dataclass(frozen=True)`"
        yield Finding(promise, 0, "note", words)
    else:
        yield Finding(promise, 0)
    missing = [name for name in ("summary", "citation", "licence") if not getattr(card, name)]
    if missing:
        words = (
            f"no {' and no '.join(missing)}: give the class a `card = Card(...)` (regbench.methods.card), which also "
            "says paradigm, supervision, dimensions, training data and whether it is deterministic"
        )
        yield Finding("its card is complete", 0, "note", words)
    else:
        yield Finding("its card is complete", 0)
    heavy = [name for name in _HEAVY if name in imported]
    if heavy:
        words = (
            f"its module imports {', '.join(heavy)} at its top: import inside `prepare` and `register`, so that "
            "listing methods stays quick"
        )
        yield Finding("is quick to import", 0, "note", words)
    else:
        yield Finding("is quick to import", 0)
