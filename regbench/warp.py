"""The one resampler of regbench: images linearly, label maps by the nearest voxel.

Rules, chosen so that nearest-label results equal those of the Learn2Reg evaluator:

- Pull-back: the value at fixed voxel i is the moving value at world point x(i) + u(x(i)).
- Nearest is floor(c + 0.5) of the moving voxel coordinate c (halves go up).
- A coordinate outside [0, n - 1] of any moving axis reads `outside`; there is no half-voxel margin.
  A tolerance of 1e-4 voxels absorbs rounding, so that the identity on equal grids keeps its faces.
- Coordinates are float64, one array per axis; work goes through slabs of the first axis, so scratch memory
  stays small. No matrix products: their rounding may depend on place and on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from regbench.displacement import Displacement
from regbench.volume import Grid, Image, Labels

OnGrid = TypeVar("OnGrid", Image, Labels)

_TOLERANCE_VOXELS = 1e-4
# A Gaussian of sigma 0.42 voxels is about one voxel wide at half its height.
SIGMA_PER_VOXEL = 0.42
_SLAB_POINTS = 1 << 16


def warp(moving: OnGrid, displacement: Displacement, outside: float = 0) -> OnGrid:
    """The moving image or label map seen through a displacement, on the displacement's (fixed) grid.

    Labels stay labels and are read from the nearest voxel; images are read linearly.
    """
    grid = displacement.grid
    chain = moving.grid.inverse @ grid.affine
    if moving.grid.matches(grid, tolerance_mm=1e-9):
        chain = np.eye(len(chain))
    linear = moving.grid.inverse[:-1, :-1]
    out = np.empty(grid.shape, moving.array.dtype)
    for rows in _slabs(grid):
        coordinates = _chained(chain, grid, rows)
        vectors = displacement.vectors_mm[rows]
        # Index and vector parts are mapped apart, so that whole-voxel shifts stay exact.
        for axis, component in np.argwhere(linear):
            coordinates[axis] += linear[axis, component] * vectors[..., component].astype(np.float64)
        out[rows] = _sample(moving, coordinates, outside)
    return _like(moving, out, grid)


def resample(moving: OnGrid, grid: Grid, matrix: np.ndarray | None = None, outside: float = 0) -> OnGrid:
    """The moving image or label map on another grid, through a world affine (fixed mm -> moving mm) if given."""
    out = np.empty(grid.shape, moving.array.dtype)
    chain = moving.grid.inverse @ (np.eye(grid.ndim + 1) if matrix is None else matrix) @ grid.affine
    for rows in _slabs(grid):
        out[rows] = _sample(moving, _chained(chain, grid, rows), outside)
    return _like(moving, out, grid)


def band_limited(image: Image, spacing_mm: float | np.ndarray) -> Image:
    """The image smoothed so that a grid of `spacing_mm` (mm, per axis or for all) can hold it.

    The Gaussian supplies what the point spread of the larger voxel has beyond that of the smaller one, taking
    the width of a voxel for the width at half height of its point spread (sigma = 0.42 voxels).
    """
    from scipy.ndimage import gaussian_filter

    wider = np.maximum(np.square(spacing_mm) - image.grid.spacing_mm**2, 0.0)
    sigma_voxels = SIGMA_PER_VOXEL * np.sqrt(wider) / image.grid.spacing_mm
    if sigma_voxels.max() < 0.1:
        return image
    return Image(gaussian_filter(image.array, sigma_voxels, mode="nearest"), image.grid)


def sample_at(moving: Image | Labels, points_mm: np.ndarray, outside: float = 0) -> np.ndarray:
    """Values of an image or a label map at world points in mm, (..., ndim) -> (...)."""
    return _sample(moving, _planar(moving.grid.to_voxel(points_mm)), outside)


def sample_displacement(displacement: Displacement, points_mm: np.ndarray) -> np.ndarray:
    """Displacements in mm at world points, (..., ndim) -> (..., ndim) float64, read linearly.

    Points outside the grid read the nearest point of its border, so a field goes on as a constant.
    """
    grid = displacement.grid
    coordinates = np.clip(grid.to_voxel(points_mm), 0, np.array(grid.shape) - 1.0)
    return linear_samples(displacement.vectors_mm, coordinates)


def linear_samples(array: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Linear interpolation of `array` (*shape, ...) at voxel coordinates (..., ndim) inside [0, n - 1], float64.

    Trailing axes of the array (the components of a field) are kept.
    """
    return _linear(array, _planar(coordinates))


def _planar(points: np.ndarray) -> list[np.ndarray]:
    """One array per coordinate, from (..., ndim)."""
    return [np.ascontiguousarray(points[..., axis], dtype=np.float64) for axis in range(points.shape[-1])]


def _linear(array: np.ndarray, coordinates: list[np.ndarray]) -> np.ndarray:
    ndim = len(coordinates)
    shape = array.shape[:ndim]
    flat = array.reshape(-1, *array.shape[ndim:])
    base = np.zeros(coordinates[0].shape, np.intp)
    steps, fractions = [], []
    for axis, (coordinate, n) in enumerate(zip(coordinates, shape, strict=True)):
        stride = int(np.prod(shape[axis + 1 :]))
        low = coordinate.astype(np.intp)
        np.minimum(low, max(n - 2, 0), out=low)
        fraction = coordinate - low
        fractions.append(fraction.reshape(fraction.shape + (1,) * (array.ndim - ndim)))
        low *= stride
        base += low
        # An axis of one voxel has no upper neighbour; its step is 0 and its fraction is 0.
        steps.append(stride if n > 1 else 0)

    return _blend(flat, base, steps, fractions)


def _blend(
    flat: np.ndarray, base: np.ndarray, steps: list[int], fractions: list[np.ndarray], offset: int = 0
) -> np.ndarray:
    """Values at `base + offset`, interpolated over the axes that have a step and a fraction, first axis outermost."""
    if not steps:
        return flat[offset:].take(base, axis=0).astype(np.float64)
    lower = _blend(flat, base, steps[1:], fractions[1:], offset)
    upper = _blend(flat, base, steps[1:], fractions[1:], offset + steps[0])
    # Not lower + f * (upper - lower), which is not exact at f = 1.
    upper *= fractions[0]
    lower *= 1.0 - fractions[0]
    lower += upper
    return lower


def _slabs(grid: Grid) -> Iterator[slice]:
    """Slices of the first axis of about `_SLAB_POINTS` voxels each."""
    per_row = max(grid.n_voxels // grid.shape[0], 1)
    step = max(_SLAB_POINTS // per_row, 1)
    for start in range(0, grid.shape[0], step):
        yield slice(start, min(start + step, grid.shape[0]))


def _chained(chain: np.ndarray, grid: Grid, rows: slice) -> list[np.ndarray]:
    """Coordinates chain @ index of the voxels in some rows of the first axis, one array (rows, *shape[1:]) per axis."""
    lengths = (rows.stop - rows.start, *grid.shape[1:])
    starts = (rows.start, *(0 for _ in grid.shape[1:]))
    indices = [
        (start + np.arange(n, dtype=np.float64)).reshape([-1 if a == axis else 1 for a in range(grid.ndim)])
        for axis, (start, n) in enumerate(zip(starts, lengths, strict=True))
    ]
    coordinates = []
    for row in chain[:-1]:
        coordinate = np.full(lengths, row[-1])
        for factor, index in zip(row, indices, strict=False):
            if factor:
                coordinate += factor * index
        coordinates.append(coordinate)
    return coordinates


def _sample(moving: Image | Labels, coordinates: list[np.ndarray], outside: float) -> np.ndarray:
    """Values at voxel coordinates, which are clipped to the grid in place."""
    inside: np.ndarray | None = None
    for coordinate, n in zip(coordinates, moving.grid.shape, strict=True):
        within = (coordinate >= -_TOLERANCE_VOXELS) & (coordinate <= n - 1 + _TOLERANCE_VOXELS)
        inside = within if inside is None else np.logical_and(inside, within, out=inside)
        np.maximum(coordinate, 0, out=coordinate)
        np.minimum(coordinate, n - 1, out=coordinate)
    assert inside is not None
    values = _nearest(moving.array, coordinates) if isinstance(moving, Labels) else _linear(moving.array, coordinates)
    values[~inside] = outside
    return values


def _nearest(array: np.ndarray, coordinates: list[np.ndarray]) -> np.ndarray:
    place = np.zeros(coordinates[0].shape, np.intp)
    for axis, coordinate in enumerate(coordinates):
        nearest = (coordinate + 0.5).astype(np.intp)
        nearest *= int(np.prod(array.shape[axis + 1 :]))
        place += nearest
    return array.ravel().take(place)


def _like(moving: OnGrid, array: np.ndarray, grid: Grid) -> OnGrid:
    if isinstance(moving, Labels):
        return Labels(array, grid, moving.names)  # type: ignore[return-value]
    return Image(array, grid)
