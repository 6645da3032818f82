"""`demons` and its relatives: diffeomorphic or fast symmetric forces demons of SimpleITK, from coarse to fine.

The filter knows one level, so levels are made here: both images are smoothed and shrunk, and the field of
a level starts the next one. It also expects both images on one grid, so the moving image is first read
linearly at the voxels of the fixed grid; the field then maps world points as it stands and nothing has
to be composed. The filter runs along the voxel axes, on images without direction and origin, and its result
is understood as a shift in voxels: this holds on any grid, oblique, left-handed or sheared.

Source: Vercauteren et al., NeuroImage 45 (2009) S61-S72 (diffeomorphic); Vercauteren et al., MICCAI 2007 (fast
symmetric forces, whose fields are added and may fold).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodError
from regbench.pair import BlindPair
from regbench.warp import resample

if TYPE_CHECKING:
    import SimpleITK as sitk

_HISTOGRAM_POINTS = 7
# An axis is not shrunk below this extent, so thin stacks keep their slices.
_SMALLEST_AXIS_VOXELS = 8


@dataclass(frozen=True)
class Demons:
    """Demons. `shrink` and `iterations` have one number per level, coarse to fine.

    `forces` are `diffeomorphic` (updates are composed) or `fast-symmetric` (gradients of both images, updates are
    added).
    `smoothing_voxels` and `update_smoothing_voxels` are the Gaussians (of the level's voxels) over the field and
    over each update, 0 for none; no voxel moves further than `step_voxels` in one iteration.
    """

    shrink: tuple[int, ...] = (4, 2, 1)
    iterations: tuple[int, ...] = (100, 50, 25)
    smoothing_voxels: float = 1.0
    update_smoothing_voxels: float = 0.0
    step_voxels: float = 0.5
    match_histograms: bool = True
    histogram_levels: int = 256
    forces: Literal["diffeomorphic", "fast-symmetric"] = "diffeomorphic"

    def __post_init__(self) -> None:
        if not self.shrink or len(self.shrink) != len(self.iterations) or min(self.shrink) < 1:
            raise ConfigError(
                f"methods.demons: shrink {list(self.shrink)} and iterations {list(self.iterations)} must have "
                "one number for each level, and shrink factors of at least 1"
            )
        if min(*self.iterations, self.smoothing_voxels, self.update_smoothing_voxels) < 0 or self.step_voxels <= 0:
            raise ConfigError("methods.demons: iterations and smoothing must not be negative, step_voxels must be > 0")

    def prepare(self) -> None:
        """Imports SimpleITK, so that its start is not timed as registration."""
        import SimpleITK  # noqa: F401

    def register(self, pair: BlindPair) -> Displacement:
        """The displacement that makes intensities agree, on the fixed grid; MethodError for a flat image."""
        grid = pair.fixed.grid
        fixed, moving = self._intensities(pair)
        field = None
        for shrink, iterations in zip(self.shrink, self.iterations, strict=True):
            if iterations:
                field = self._level(_shrunk(fixed, shrink), _shrunk(moving, shrink), iterations, field)
        if field is None:
            return Displacement.identity(grid)
        return Displacement.from_voxels(_vectors_of(_onto(field, fixed)) / grid.spacing_mm, grid, grid)

    def _intensities(self, pair: BlindPair) -> tuple[sitk.Image, sitk.Image]:
        """Fixed and moving image on the fixed grid, along its axes, with the fixed range scaled to 0..1."""
        import SimpleITK as sitk

        seen = pair.moving
        if not seen.grid.matches(pair.fixed.grid):
            seen = resample(seen, pair.fixed.grid, outside=float(seen.array.min()))
        low, high = float(pair.fixed.array.min()), float(pair.fixed.array.max())
        for side, array in (("fixed", pair.fixed.array), ("moving", seen.array)):
            if array.max() <= array.min():
                raise MethodError(
                    f"{pair.name}: the {side} image is flat on the fixed grid; demons have nothing to match"
                )
        # The filter drops differences below 1e-3, so its result would depend on the unit of the intensities.
        fixed, moving = (
            _without_direction((array - low) / (high - low), pair.fixed.grid.spacing_mm)
            for array in (pair.fixed.array, seen.array)
        )
        if self.match_histograms:
            matching = sitk.HistogramMatchingImageFilter()
            matching.SetNumberOfHistogramLevels(self.histogram_levels)
            matching.SetNumberOfMatchPoints(_HISTOGRAM_POINTS)
            matching.ThresholdAtMeanIntensityOn()
            moving = matching.Execute(moving, fixed)
        return fixed, moving

    def _level(self, fixed: sitk.Image, moving: sitk.Image, iterations: int, start: sitk.Image | None) -> sitk.Image:
        """The field after `iterations` on one level, as a vector image in mm along the axes."""
        import SimpleITK as sitk

        demons: Any = (
            sitk.DiffeomorphicDemonsRegistrationFilter()
            if self.forces == "diffeomorphic"
            else sitk.FastSymmetricForcesDemonsRegistrationFilter()
        )
        demons.SetNumberOfIterations(iterations)
        demons.SetMaximumUpdateStepLength(self.step_voxels)
        demons.SetSmoothDisplacementField(self.smoothing_voxels > 0)
        demons.SetStandardDeviations(self.smoothing_voxels or 1.0)
        demons.SetSmoothUpdateField(self.update_smoothing_voxels > 0)
        demons.SetUpdateFieldStandardDeviations(self.update_smoothing_voxels or 1.0)
        if start is None:
            found: sitk.Image = demons.Execute(fixed, moving)
        else:
            found = demons.Execute(fixed, moving, _onto(start, fixed))
        return found


@dataclass(frozen=True)
class SymmetricDemons(Demons):
    """Fast symmetric forces, three levels."""

    iterations: tuple[int, ...] = (100, 100, 50)
    forces: Literal["diffeomorphic", "fast-symmetric"] = "fast-symmetric"


@dataclass(frozen=True)
class JenaDemons(SymmetricDemons):
    """The published call of the paper's repository: one level, 200 iterations."""

    shrink: tuple[int, ...] = (1,)
    iterations: tuple[int, ...] = (200,)
    histogram_levels: int = 1024


def _without_direction(array: np.ndarray, spacing_mm: np.ndarray) -> sitk.Image:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T, dtype=np.float32))
    image.SetSpacing(spacing_mm.tolist())
    return image


def _shrunk(image: sitk.Image, factor: int) -> sitk.Image:
    """The image smoothed by half a coarse voxel and shrunk; thin axes less or not at all."""
    import SimpleITK as sitk

    factors = [min(factor, max(1, n // _SMALLEST_AXIS_VOXELS)) for n in image.GetSize()]
    if max(factors) == 1:
        return image
    sigmas_mm = [0.5 * f * s if f > 1 else 0.0 for f, s in zip(factors, image.GetSpacing(), strict=True)]
    return sitk.Shrink(sitk.DiscreteGaussian(image, [s**2 for s in sigmas_mm]), factors)


def _onto(field: sitk.Image, image: sitk.Image) -> sitk.Image:
    """The vector image at the voxels of another image, read linearly and constant beyond its border."""
    import SimpleITK as sitk

    if field.GetSize() == image.GetSize():
        return field
    sampler = sitk.ResampleImageFilter()
    sampler.SetReferenceImage(image)
    sampler.SetInterpolator(sitk.sitkLinear)
    sampler.UseNearestNeighborExtrapolatorOn()
    return sampler.Execute(field)


def _vectors_of(field: sitk.Image) -> np.ndarray:
    """The vectors of a SimpleITK image with axes in regbench's order, (*shape, ndim)."""
    import SimpleITK as sitk

    ndim = field.GetDimension()
    return sitk.GetArrayFromImage(field).transpose(*range(ndim - 1, -1, -1), ndim)
