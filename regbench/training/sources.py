"""Where the pairs of a training come from: the protocol of sources, and the table of those that need no data.

A source is a dataclass; its fields are its parameters in a recipe, checked as everywhere (`regbench.parameters`):

    source:
      synth-shapes: {ndim: 2, shape: [96, 112], spacing_mm: 2}

Pairs of a dataset come from `training.subjects` (any two subjects of a split) and `training.listed` (listed pairs).
What a batch holds depends on the generator alone, never on earlier batches, so that a training that was killed sees
the pairs of an undisturbed one. `draw` may be called in a thread of its own, one call at a time.

This module imports no torch.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from regbench.errors import ConfigError
from regbench.parameters import check_parameters, nearest
from regbench.volume import Grid

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Pairs on one grid: images (B, 1, *shape) float32 of about 0 to 1, and what is known about them.

    Label maps are integers (B, 1, *shape); `displacement` (B, ndim, *shape) is the truth in voxels, pull-back.
    `labelled` (B,) says which pairs have label maps, where not all of them do; the maps of others count for nothing.
    """

    fixed: Tensor
    moving: Tensor
    fixed_labels: Tensor | None = None
    moving_labels: Tensor | None = None
    displacement: Tensor | None = None
    labelled: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch in the memory of a device."""
        parts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        moved = {name: part.to(device, non_blocking=True) for name, part in parts.items() if part is not None}
        return dataclasses.replace(self, **moved)


class PairSource(Protocol):
    """What a training draws its pairs from.

    `label_values`: the labels that occur, without the background 0; empty without labels. `supervision`: 'synthetic'
    where images are made up, 'image' where they are scans. A source whose networks work anywhere in the world, not
    only in the space of its grid, has the attribute `placement` with the value 'fixed' (see `methods.trained`).
    """

    @property
    def grid(self) -> Grid: ...
    @property
    def label_values(self) -> np.ndarray: ...
    @property
    def supervision(self) -> str: ...

    def draw(self, rng: np.random.Generator, batch: int) -> Batch:
        """A batch of pairs in host memory, a function of the generator alone."""
        ...

    def facts(self) -> dict[str, Any]:
        """What was trained on, as plain data for the model card: `dataset`, and `subjects` if there are any."""
        ...


# Name -> module:Class of the sources that need no data.
SOURCES: dict[str, str] = {
    "synth-shapes": "regbench.training.shapes:ShapeSource",
}


def check_source(name: str, parameters: Mapping[str, Any], where: str) -> dict[str, Any]:
    """All parameters of a source, checked and converted; ConfigError, beginning with `where`, otherwise."""
    return check_parameters(_source_class(name, where), parameters, f"{where}.{name}")


def build_source(name: str, parameters: Mapping[str, Any], where: str = "source") -> PairSource:
    """A source with its parameters; ConfigError, beginning with `where`, if one of them is not right."""
    source: PairSource = _source_class(name, where)(**check_source(name, parameters, where))
    return source


def _source_class(name: str, where: str) -> type:
    if name not in SOURCES:
        known = list(SOURCES)
        raise ConfigError(f"{where}: unknown source '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    module, _, attribute = SOURCES[name].partition(":")
    found: type = getattr(importlib.import_module(module), attribute)
    return found
