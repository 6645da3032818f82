"""Conditions of the field of view: images that are cut short or have more around them, on grids of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from regbench.pair import Pair
from regbench.shifts.carrying import windowed
from regbench.shifts.sides import StrengthShift, draws, on_sides, sides_of
from regbench.volume import Grid


@dataclass(frozen=True)
class _Window(StrengthShift):
    """A window drawn for each image: along every axis, a number of voxels divided at random between its two ends."""

    def changed_pair(self, pair: Pair, seed: int) -> Pair:
        return on_sides(pair, sides_of(self.on), lambda p, side: self._seen(p, side, seed))

    def _seen(self, pair: Pair, side: str, seed: int) -> Pair:
        grid: Grid = getattr(pair, side).grid
        shares = draws(seed, self.name, pair.name, side).uniform(size=grid.ndim)
        change = [round(self.strength * n) for n in grid.shape]
        below = [round(share * count) for share, count in zip(shares, change, strict=True)]
        return self.window(pair, side, np.array(change), np.array(below))

    def window(self, pair: Pair, side: str, change: np.ndarray, below: np.ndarray) -> Pair:
        """The pair with `change` voxels less or more per axis, `below` of them at its beginning."""
        raise NotImplementedError


@dataclass(frozen=True)
class Crop(_Window):
    """A smaller field of view: the share `strength` of the voxels along every axis is cut away.

    Labels that are cut away on one side only cannot be found by any method; compare with `identity`.
    """

    strength: float = 0.15

    name: ClassVar[str] = "crop"
    most: ClassVar[float] = 0.6

    def window(self, pair: Pair, side: str, change: np.ndarray, below: np.ndarray) -> Pair:
        shape = np.array(getattr(pair, side).grid.shape)
        return windowed(pair, side, below.tolist(), (shape - change).tolist())


@dataclass(frozen=True)
class Padding(_Window):
    """More around the image: the share `strength` of the voxels along every axis is added, as dark as its darkest."""

    strength: float = 0.25

    name: ClassVar[str] = "padding"
    most: ClassVar[float] = 2.0

    def window(self, pair: Pair, side: str, change: np.ndarray, below: np.ndarray) -> Pair:
        shape = np.array(getattr(pair, side).grid.shape)
        return windowed(pair, side, (-below).tolist(), (shape + change).tolist())
