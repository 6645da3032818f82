"""Conditions of the scan: noise, coil sensitivity, resolution, missing slices. Labels, truth and grids stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from regbench.errors import ConfigError
from regbench.shifts.sides import IntensityShift, brightness_of, cut_out, floor_of, head_of, smooth_field
from regbench.volume import Grid, Image
from regbench.warp import SIGMA_PER_VOXEL

Along = Literal["drawn", "R", "A", "S"]

_WORLD_AXES = ("R", "A", "S")
_FWHM_PER_SIGMA = 2.354820045


@dataclass(frozen=True)
class Noise(IntensityShift):
    """Rician noise as of a magnitude image; `strength` is its standard deviation as a share of the brightness.

    What was cut out of the image stays without noise: heads are taken off after the scan.
    """

    strength: float = 0.05

    name: ClassVar[str] = "noise"
    most: ClassVar[float] = 2.0

    def intensities(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        floor = floor_of(image)
        real, imaginary = rng.standard_normal((2, *image.array.shape)) * (self.strength * brightness_of(image))
        noisy = floor + np.hypot(image.array - floor + real, imaginary)
        return np.where(cut_out(image), image.array, noisy)


@dataclass(frozen=True)
class BiasField(IntensityShift):
    """A smooth multiplicative field as of a receiving coil: exp(strength x f), f of mean 0 and standard deviation 1.

    f varies over `length_mm`.
    """

    strength: float = 0.3
    length_mm: float = 50.0

    name: ClassVar[str] = "bias_field"
    most: ClassVar[float] = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.length_mm > 0:
            raise ConfigError(f"conditions.bias_field: length_mm is {self.length_mm:g}; it must be positive")

    def intensities(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        floor = floor_of(image)
        gain = np.exp(self.strength * smooth_field(image.grid, self.length_mm, rng))
        return floor + (image.array - floor) * gain


@dataclass(frozen=True)
class Blur(IntensityShift):
    """A Gaussian point spread of `strength` mm full width at half maximum."""

    strength: float = 4.0

    name: ClassVar[str] = "blur_mm"
    most: ClassVar[float] = 30.0

    def intensities(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        from scipy.ndimage import gaussian_filter

        sigma_voxels = self.strength / _FWHM_PER_SIGMA / image.grid.spacing_mm
        return np.asarray(gaussian_filter(image.array, sigma_voxels, mode="nearest"))


@dataclass(frozen=True)
class Anisotropy(IntensityShift):
    """Slices of `strength` mm: the image is resampled along one axis to them, and back onto its own grid.

    The point spread of the thick slices is a Gaussian; between slices intensities are read linearly. `along` names the
    direction of the world that the axis lies nearest to, or lets it be drawn for each image. Where slices are that
    thick already, nothing changes.
    """

    strength: float = 4.0
    along: Along = "drawn"

    name: ClassVar[str] = "anisotropy_mm"
    most: ClassVar[float] = 20.0

    def intensities(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        from scipy.ndimage import gaussian_filter1d

        axis = chosen_axis(image.grid, self.along, rng, self.name)
        spacing, n = float(image.grid.spacing_mm[axis]), image.grid.shape[axis]
        ratio = self.strength / spacing
        if ratio <= 1 or n < 2:
            return image.array
        sigma_voxels = SIGMA_PER_VOXEL * np.sqrt(ratio**2 - 1)
        spread = gaussian_filter1d(image.array.astype(np.float64), sigma_voxels, axis, mode="nearest")
        n_slices = int((n - 1) / ratio) + 1
        first = ((n - 1) - (n_slices - 1) * ratio) / 2
        slices = _read_along(spread, first + ratio * np.arange(n_slices), axis)
        return _read_along(slices, (np.arange(n) - first) / ratio, axis)


@dataclass(frozen=True)
class MissingSlices(IntensityShift):
    """Slices without signal: the share `strength` of those that the body takes up along an axis, drawn one by one.

    `along` is as for anisotropy_mm.
    """

    strength: float = 0.1
    along: Along = "drawn"

    name: ClassVar[str] = "missing_slices"

    def intensities(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        axis = chosen_axis(image.grid, self.along, rng, self.name)
        others = tuple(a for a in range(image.grid.ndim) if a != axis)
        occupied = np.flatnonzero(head_of(image).any(axis=others))
        # In one order for all strengths: what a weaker shift loses, a stronger one loses, too.
        order = rng.permutation(occupied)
        lost = order[: int(np.ceil(self.strength * occupied.size))]
        found = np.moveaxis(image.array.copy(), axis, 0)
        found[lost] = image.array.min()
        return np.moveaxis(found, 0, axis)


def chosen_axis(grid: Grid, along: Along, rng: np.random.Generator, shift: str) -> int:
    """The array axis nearest to a direction of the world, or a drawn one; ConfigError if a slice lacks it."""
    if along == "drawn":
        return int(rng.integers(grid.ndim))
    world = _WORLD_AXES.index(along)
    if world >= grid.ndim:
        raise ConfigError(f"conditions.{shift}: along is {along}, which 2-D images do not have; use drawn, R or A")
    letters = [{"L": "R", "P": "A", "I": "S"}.get(letter, letter) for letter in grid.orientation]
    return letters.index(along)


def _read_along(array: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    """Values at positions along one axis, read linearly; beyond its ends those of the end."""
    n = array.shape[axis]
    positions = np.clip(positions, 0, n - 1)
    lower = np.minimum(positions.astype(np.intp), max(n - 2, 0))
    fraction = (positions - lower).reshape([-1 if a == axis else 1 for a in range(array.ndim)])
    upper = np.minimum(lower + 1, n - 1)
    return np.asarray(array.take(lower, axis) * (1 - fraction) + array.take(upper, axis) * fraction)
