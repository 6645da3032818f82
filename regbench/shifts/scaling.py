"""Conditions that change the unit and the range of intensities, as the choices of those who prepare data do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from regbench.shifts.sides import IntensityShift, cut_out, floor_of
from regbench.volume import Image


@dataclass(frozen=True)
class IntensityScale(IntensityShift):
    """Another unit: intensities times 10^strength. A method that normalises its input does not notice."""

    strength: float = 2.0

    name: ClassVar[str] = "intensity_scale"
    least: ClassVar[float] = -6.0
    most: ClassVar[float] = 6.0

    def intensities(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        return image.array * np.float64(10.0) ** self.strength


@dataclass(frozen=True)
class Clipping(IntensityShift):
    """A normalisation that saturates: `strength` percent of the voxels are lost at either end of the histogram.

    What is left is scaled to the range that the image had; what was cut out of the image stays as it was.
    """

    strength: float = 5.0

    name: ClassVar[str] = "clipping"
    most: ClassVar[float] = 45.0

    def intensities(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        gone = cut_out(image)
        values = image.array[~gone].astype(np.float64)
        low, high = np.percentile(values, [self.strength, 100 - self.strength])
        if high <= low:
            return image.array
        unit = (np.clip(image.array, low, high) - low) / (high - low)
        return np.where(gone, image.array, values.min() + unit * (values.max() - values.min()))


@dataclass(frozen=True)
class Standardisation(IntensityShift):
    """The other usual normalisation: mean 0 and standard deviation 1 over what was not cut out.

    Most of the background becomes negative. The strength is a switch: 0 or 1.
    """

    strength: float = 1.0

    name: ClassVar[str] = "zscore"
    is_switch: ClassVar[bool] = True

    def intensities(self, image: Image, rng: np.random.Generator) -> np.ndarray:
        values = image.array[image.array > floor_of(image)].astype(np.float64)
        if values.size == 0 or values.std() == 0:
            return image.array
        return (image.array - values.mean()) / values.std()
