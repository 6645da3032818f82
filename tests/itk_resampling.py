"""SimpleITK's answer to the resampler's question, by the shortest way: LPS mm, and arrays with their axes reversed."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from regbench.displacement import Displacement
from regbench.volume import Grid, Image, Labels


def itk_resample(moving: Image | Labels, displacement: Displacement, interpolator: int) -> np.ndarray:
    fixed = displacement.grid
    lps = np.array([-1.0, -1.0, 1.0])[: fixed.ndim]
    field = sitk.GetImageFromArray(_reversed(displacement.vectors_mm * lps, fixed.ndim).astype(float), isVector=True)
    transform = sitk.DisplacementFieldTransform(_placed(field, fixed, lps))
    reference = _placed(sitk.GetImageFromArray(np.zeros(fixed.shape[::-1], np.float32)), fixed, lps)
    array = moving.array.astype(np.float64 if isinstance(moving, Image) else np.int32)
    source = _placed(sitk.GetImageFromArray(_reversed(array, fixed.ndim)), moving.grid, lps)
    moved = sitk.GetArrayFromImage(sitk.Resample(source, reference, transform, interpolator, 0.0, source.GetPixelID()))
    return _reversed(moved, fixed.ndim)


def inside_moving(displacement: Displacement, moving_grid: Grid, margin: float = -1e-6) -> np.ndarray:
    """Which fixed voxels are read from inside the moving grid, grown by a margin in voxels."""
    coordinates = moving_grid.to_voxel(displacement.targets())
    top = np.array(moving_grid.shape) - 1
    return np.all((coordinates >= -margin) & (coordinates <= top + margin), axis=-1)


def _reversed(array: np.ndarray, ndim: int) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(*reversed(range(ndim)), *range(ndim, array.ndim)))


def _placed(image: sitk.Image, grid: Grid, lps: np.ndarray) -> sitk.Image:
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin((lps * grid.origin_mm).tolist())
    image.SetDirection((lps[:, None] * grid.linear / grid.spacing_mm).ravel().tolist())
    return image
