"""Training under conditions: the pairs of another source with the same changes of contrast that `regbench run` makes.

Each pair gets one of the conditions, drawn evenly; validation takes them in turn. Only conditions that change
intensities and nothing else are known here. A condition sees the image on the grid of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from regbench.config_entries import Entry
from regbench.methods.trained import network_input
from regbench.pair import Pair
from regbench.parameters import as_plain, check_parameters
from regbench.shifts.table import shift_class
from regbench.training.sources import Batch, PairSource
from regbench.volume import Grid, Image

_SEEDS = 1 << 31


class ConditionedPairs:
    """A source whose pairs are those of another one under conditions (see `training.sources`)."""

    def __init__(self, inner: PairSource, conditions: Sequence[Entry]) -> None:
        self._inner, self._conditions = inner, list(conditions)
        self.grid, self.label_values = inner.grid, inner.label_values
        self.placement = getattr(inner, "placement", "world")
        self.supervision = inner.supervision

    def draw(self, rng: np.random.Generator, batch: int) -> Batch:
        """Pairs of the other source, each under one of the conditions."""
        drawn = self._inner.draw(rng, batch)
        chosen = [self._conditions[i] for i in rng.integers(len(self._conditions), size=batch)]
        return conditioned(drawn, chosen, self.grid, [int(seed) for seed in rng.integers(_SEEDS, size=batch)])

    def facts(self) -> dict[str, Any]:
        """What is known of the other source, and the conditions."""
        conditions = [{entry.name: as_plain(entry.parameters)} for entry in self._conditions]
        return {**self._inner.facts(), "conditions": conditions}


def conditioned(batch: Batch, conditions: Sequence[Entry], grid: Grid, seeds: Sequence[int]) -> Batch:
    """The batch, each pair under its condition; images are normalised again as a network's input is."""
    fixed, moving = batch.fixed.clone(), batch.moving.clone()
    for k, (entry, seed) in enumerate(zip(conditions, seeds, strict=True)):
        if entry.name == "none":
            continue
        cls = shift_class(entry.name)
        shift = cls(**check_parameters(cls, entry.parameters, f"conditions.{entry.label}"))
        sides = (Image(images[k, 0].numpy(), grid) for images in (batch.fixed, batch.moving))
        changed = shift.apply(Pair(f"pair-{k}", next(sides), next(sides)), seed)
        for images, image in ((fixed, changed.fixed), (moving, changed.moving)):
            images[k, 0] = torch.from_numpy(network_input(image, grid))
    return replace(batch, fixed=fixed, moving=moving)


def conditioned_reading(
    read: Callable[[int], Batch], conditions: Sequence[Entry], grid: Grid, seed: int
) -> Callable[[int], Batch]:
    """How validation pairs are read: number i under condition i, and from the first one again."""

    def reading(i: int) -> Batch:
        return conditioned(read(i), [conditions[i % len(conditions)]], grid, [(seed + i) % _SEEDS])

    return reading
