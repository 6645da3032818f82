"""Conditions that change contrast: what is bright and what is dark, with anatomy, labels and truth as they were."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from regbench.errors import ConfigError
from regbench.pair import Pair
from regbench.shifts.sides import IntensityShift, Side, cut_out, floor_of
from regbench.volume import Image

# How bright fluid, grey and white matter are in a T2-weighted scan, as shares of the brightest.
_T2 = (1.0, 0.62, 0.40)
_BINS = 256
_ROUNDS = 50


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

    name: ClassVar[str] = "gamma"
    neutral: ClassVar[float] = 1.0

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


@dataclass(frozen=True)
class _RangeMap(IntensityShift):
    """A map of intensities scaled to [0, 1], where 0 is the darkest and 1 the brightest voxel of the image."""

    def intensities(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        low, high = float(image.array.min()), float(image.array.max())
        if high <= low:
            return image.array
        unit = (image.array.astype(np.float64) - low) / (high - low)
        return low + (high - low) * self.mapped(unit, image, rng)

    def mapped(self, unit: np.ndarray, image: Image, rng: np.random.Generator) -> np.ndarray:
        """The new intensities, on the same scale."""
        raise NotImplementedError


@dataclass(frozen=True)
class ContrastCurve(_RangeMap):
    """A smooth monotone curve, drawn for each image: which tissue is brighter stays as it was, by how much does not.

    The range is cut into `pieces` equal steps, whose heights become exp(strength x N(0, 1)) of what they were; a
    monotone cubic runs through them. The ends stay.
    """

    strength: float = 0.6
    pieces: int = 5

    name: ClassVar[str] = "contrast"
    most: ClassVar[float] = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.pieces <= 20:
            raise ConfigError(f"conditions.contrast: pieces is {self.pieces}; it must lie between 2 and 20")

    def mapped(self, unit: np.ndarray, image: Image, rng: np.random.Generator) -> np.ndarray:
        from scipy.interpolate import PchipInterpolator

        steps = np.exp(self.strength * rng.standard_normal(self.pieces))
        heights = np.concatenate([[0.0], np.cumsum(steps) / steps.sum()])
        curve = PchipInterpolator(np.linspace(0, 1, self.pieces + 1), heights)
        return np.asarray(curve(unit))


@dataclass(frozen=True)
class Inversion(_RangeMap):
    """Bright becomes dark: v becomes (1 - strength) v + strength (1 - v); what was cut out of the image stays dark.

    The contrast that is left is 1 - 2 strength: half of it at 0.25, none at 0.5, all of it reversed at 1.
    """

    strength: float = 1.0

    name: ClassVar[str] = "inversion"

    def mapped(self, unit: np.ndarray, image: Image, rng: np.random.Generator) -> np.ndarray:
        turned = (1 - self.strength) * unit + self.strength * (1 - unit)
        return np.where(cut_out(image), unit, turned)


@dataclass(frozen=True)
class TissueMap(IntensityShift):
    """T1-weighted brains made T2-like: fluid bright, grey matter between, white matter dark; `strength` is the share.

    The three tissues are the three means that divide the intensities best (k-means, of what was not cut out); the curve
    through them runs from no signal, which stays none, and is not monotone: no monotone correction can undo it. On the
    way there, two tissues may look alike, so that less than all can be harder than all. The curve is made from
    intensities and never from labels, which would paint their borders into the image.
    """

    strength: float = 1.0

    name: ClassVar[str] = "t2_like"

    def intensities(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        floor, top = floor_of(image), float(image.array.max())
        values = image.array[~cut_out(image)]
        if top <= floor or values.min() == values.max():
            return image.array
        unit = (image.array.astype(np.float64) - floor) / (top - floor)
        means = _three_means((values.astype(np.float64) - floor) / (top - floor))
        # Beyond white matter lies little: vessels and fat, which stay about as dark.
        mapped = np.interp(unit, [0.0, *means, 1.0], [0.0, *_T2, _T2[-1]])
        return floor + (top - floor) * ((1 - self.strength) * unit + self.strength * mapped)


def _three_means(values: np.ndarray) -> list[float]:
    """Three ascending means in (0, 1) that divide values in [0, 1] best: Lloyd's rounds over a histogram."""
    counts, edges = np.histogram(values, _BINS, (0.0, 1.0))
    centres = (edges[:-1] + edges[1:]) / 2
    means = np.quantile(values, [1 / 6, 1 / 2, 5 / 6])
    for _ in range(_ROUNDS):
        nearest = np.searchsorted((means[:-1] + means[1:]) / 2, centres)
        weights = np.bincount(nearest, counts, minlength=3)
        sums = np.bincount(nearest, counts * centres, minlength=3)
        new = np.where(weights > 0, sums / np.maximum(weights, 1), means)
        if np.array_equal(new, means):
            break
        means = new
    # Knots of a curve must ascend; flat images may have given equal ones.
    apart = 1e-6 * np.arange(1, 4)
    return [float(m) for m in np.clip(np.maximum.accumulate(means), 0, 1 - 1e-5) + apart]
