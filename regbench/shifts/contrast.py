"""Conditions that change intensities and nothing else: labels, landmarks, truth and grids stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from regbench.errors import ConfigError
from regbench.pair import Pair
from regbench.volume import Image

Side = Literal["both", "fixed", "moving"]


@dataclass(frozen=True)
class Unchanged:
    """The pair as the dataset gives it."""

    def apply(self, pair: Pair, seed: int) -> Pair:
        """The same pair."""
        return pair


@dataclass(frozen=True)
class Gamma:
    """A gamma curve: intensities scaled to [0, 1] by the image's own range, raised to `strength`, scaled back.

    Monotone, so which tissue is brighter stays as it was; 1 changes nothing, above 1 darkens the middle.
    """

    strength: float = 2.0
    on: Side = "both"

    def __post_init__(self) -> None:
        if not 0.05 <= self.strength <= 20:
            raise ConfigError(f"conditions.gamma: strength is {self.strength:g}; it must lie between 0.05 and 20")

    def apply(self, pair: Pair, seed: int) -> Pair:
        """The pair with the curve applied to the chosen images."""
        return replace(
            pair,
            fixed=self._curved(pair.fixed) if self.on in ("both", "fixed") else pair.fixed,
            moving=self._curved(pair.moving) if self.on in ("both", "moving") else pair.moving,
        )

    def _curved(self, image: Image) -> Image:
        low, high = float(image.array.min()), float(image.array.max())
        if high <= low or self.strength == 1.0:
            return image
        unit = (image.array.astype(np.float64) - low) / (high - low)
        return Image(low + (high - low) * unit**self.strength, image.grid)
