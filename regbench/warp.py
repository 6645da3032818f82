"""The one resampler of regbench: images linearly, label maps by the nearest voxel.

Rules, chosen so that nearest-label results equal those of the Learn2Reg evaluator:

- Pull-back: the value at fixed voxel i is the moving value at world point x(i) + u(x(i)).
- Nearest is floor(c + 0.5) of the moving voxel coordinate c (halves go up).
- A coordinate outside [0, n - 1] of any moving axis reads `outside`; there is no half-voxel margin.
  A tolerance of 1e-4 voxels absorbs rounding, so that the identity on equal grids keeps its faces.
- Coordinates are float64; work goes through slabs of the first axis, so scratch memory stays small.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from regbench.displacement import Displacement
from regbench.volume import Grid, Image, Labels

OnGrid = TypeVar("OnGrid", Image, Labels)

_TOLERANCE_VOXELS = 1e-4
_SLAB_POINTS = 1 << 16


def warp(moving: OnGrid, displacement: Displacement, outside: float = 0) -> OnGrid:
    """The moving image or label map seen through a displacement, on the displacement's (fixed) grid.

    Labels stay labels and are read from the nearest voxel; images are read linearly.
    """
    out = np.empty(displacement.grid.shape, moving.array.dtype)
    for rows, coordinates in _moving_coordinates(displacement, moving.grid):
        out[rows] = _sample(moving, coordinates, outside)
    return _like(moving, out, displacement.grid)


def resample(moving: OnGrid, grid: Grid, matrix: np.ndarray | None = None, outside: float = 0) -> OnGrid:
    """The moving image or label map on another grid, through a world affine (fixed mm -> moving mm) if given."""
    out = np.empty(grid.shape, moving.array.dtype)
    chain = moving.grid.inverse @ (np.eye(grid.ndim + 1) if matrix is None else matrix) @ grid.affine
    for rows, indices in _slabs(grid):
        out[rows] = _sample(moving, indices @ chain[:-1, :-1].T + chain[:-1, -1], outside)
    return _like(moving, out, grid)


def sample_at(moving: Image | Labels, points_mm: np.ndarray, outside: float = 0) -> np.ndarray:
    """Values of an image or a label map at world points in mm, (..., ndim) -> (...)."""
    return _sample(moving, moving.grid.to_voxel(points_mm), outside)


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
    ndim = coordinates.shape[-1]
    shape = np.array(array.shape[:ndim])
    low = np.minimum(np.floor(coordinates), shape - 2).astype(np.intp)
    np.maximum(low, 0, out=low)
    fraction = coordinates - low
    strides = np.array([int(np.prod(shape[a + 1 :])) for a in range(ndim)], dtype=np.intp)
    flat = array.reshape(int(np.prod(shape)), *array.shape[ndim:])
    base = low @ strides
    # An axis of one voxel has no upper neighbour; its step is 0 and its fraction is 0.
    steps = np.where(shape > 1, strides, 0)
    extra = (1,) * (array.ndim - ndim)
    result = np.zeros((*coordinates.shape[:-1], *array.shape[ndim:]))
    for corner in range(1 << ndim):
        weight = np.ones(coordinates.shape[:-1])
        offset = 0
        for axis in range(ndim):
            upper = corner >> axis & 1
            weight *= fraction[..., axis] if upper else 1.0 - fraction[..., axis]
            offset += int(steps[axis]) if upper else 0
        result += weight.reshape(weight.shape + extra) * flat[base + offset]
    return result


def _slabs(grid: Grid) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of the first axis with the voxel indices of each slab, (rows, *shape[1:], ndim) float64."""
    per_row = max(grid.n_voxels // grid.shape[0], 1)
    step = max(_SLAB_POINTS // per_row, 1)
    rest = [np.arange(n, dtype=np.float64) for n in grid.shape[1:]]
    for start in range(0, grid.shape[0], step):
        rows = slice(start, min(start + step, grid.shape[0]))
        first = np.arange(rows.start, rows.stop, dtype=np.float64)
        yield rows, np.stack(np.meshgrid(first, *rest, indexing="ij"), axis=-1)


def _moving_coordinates(displacement: Displacement, moving_grid: Grid) -> Iterator[tuple[slice, np.ndarray]]:
    """Slabs of moving voxel coordinates of x + u(x); index and vector parts are mapped apart to stay exact."""
    chain = moving_grid.inverse @ displacement.grid.affine
    if moving_grid.matches(displacement.grid, tolerance_mm=1e-9):
        chain = np.eye(len(chain))
    linear = moving_grid.inverse[:-1, :-1]
    for rows, indices in _slabs(displacement.grid):
        coordinates = indices @ chain[:-1, :-1].T + chain[:-1, -1]
        coordinates += displacement.vectors_mm[rows].astype(np.float64) @ linear.T
        yield rows, coordinates


def _sample(moving: Image | Labels, coordinates: np.ndarray, outside: float) -> np.ndarray:
    top = np.array(moving.grid.shape) - 1.0
    inside = np.all((coordinates >= -_TOLERANCE_VOXELS) & (coordinates <= top + _TOLERANCE_VOXELS), axis=-1)
    clipped = np.clip(coordinates, 0, top)
    if isinstance(moving, Labels):
        nearest = np.floor(clipped + 0.5).astype(np.intp)
        values = moving.array[tuple(np.moveaxis(nearest, -1, 0))]
    else:
        values = linear_samples(moving.array, clipped)
    return np.where(inside, values, outside)


def _like(moving: OnGrid, array: np.ndarray, grid: Grid) -> OnGrid:
    if isinstance(moving, Labels):
        return Labels(array, grid, moving.names)  # type: ignore[return-value]
    return Image(array, grid)  # type: ignore[return-value]
