"""A pair seen through a displacement: what all metrics share, computed once and only where it is asked for.

Conventions:

- The moved image and the moved labels are the moving ones pulled back onto the fixed grid (`regbench.warp`).
- The field is differentiated in voxel units of the FIXED grid: with v = A^-1 u, where A is the linear part
  of the fixed affine, det(d(x + u)/dx) in mm equals det(I + dv/di) over voxel indices. So the determinant
  is the physical one on oblique, anisotropic and left-handed grids, whatever the moving grid is like.
- The foreground is a region of the FIXED image, so it is the same for all methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import InvalidDisplacement
from regbench.pair import Pair
from regbench.volume import Image, Labels
from regbench.warp import warp

# Scratch memory of a few of these stays inside the cache of one core.
_SLAB_POINTS = 1 << 17

Matrix = Sequence[Sequence[np.ndarray]] | np.ndarray


@dataclass(frozen=True, eq=False)
class Alignment:
    """A pair and the displacement that a method returned for it.

    Raises InvalidDisplacement if the displacement is not on the fixed grid.
    """

    pair: Pair
    displacement: Displacement

    def __post_init__(self) -> None:
        given, fixed = self.displacement.grid, self.pair.fixed.grid
        if not given.matches(fixed):
            raise InvalidDisplacement(
                f"pair {self.pair.name}: the displacement is on {given.describe()}, "
                f"not on the fixed grid of {fixed.describe()}; return it on the fixed grid"
            )

    @cached_property
    def moved_image(self) -> Image:
        """The moving image on the fixed grid, read linearly; 0 where the field points outside the moving image."""
        return warp(self.pair.moving, self.displacement)

    @cached_property
    def moved_labels(self) -> Labels | None:
        """The moving labels on the fixed grid, read from the nearest voxel; None if the pair has none."""
        return None if self.pair.moving_labels is None else warp(self.pair.moving_labels, self.displacement)

    @cached_property
    def scored_labels(self) -> np.ndarray:
        """The labels that occur in the fixed and in the (unwarped) moving label map, ascending."""
        fixed, moving = self.pair.fixed_labels, self.pair.moving_labels
        if fixed is None or moving is None:
            return np.zeros(0, dtype=np.intp)
        return np.intersect1d(fixed.values, moving.values)

    @cached_property
    def absent_labels(self) -> np.ndarray:
        """The labels that occur on one side only, fixed or (unwarped) moving, ascending; they have no score."""
        fixed, moving = self.pair.fixed_labels, self.pair.moving_labels
        if fixed is None or moving is None:
            return np.zeros(0, dtype=np.intp)
        return np.setxor1d(fixed.values, moving.values)

    @cached_property
    def jacobian(self) -> np.ndarray:
        """Determinants of d(x + u)/dx at interior voxels, float32 of shape (n - 2 for n in grid.shape).

        Central differences; negative or zero where the map folds. Empty if an axis has fewer than 3 voxels.
        """
        return jacobian_determinants(self.displacement)

    @cached_property
    def foreground(self) -> np.ndarray:
        """The region of the fixed image that is looked at, bool of the fixed shape, never empty.

        The first of these that holds any voxel: fixed labels > 0, fixed mask > 0, fixed image > 0, everything.
        """
        for part in (self.pair.fixed_labels, self.pair.fixed_mask, self.pair.fixed):
            if part is not None:
                region = part.array > 0
                if region.any():
                    return region
        return np.ones(self.pair.fixed.grid.shape, bool)


def voxel_components(displacement: Displacement, rows: slice) -> np.ndarray:
    """The field in voxels of its own grid for some rows of the first axis, planar (ndim, rows, ...) float32."""
    grid = displacement.grid
    # Written out element by element: a matrix product may round equal vectors differently at different places,
    # and a pure translation must have differences of exactly zero.
    matrix = np.linalg.inv(grid.linear).astype(np.float32)
    vectors = displacement.vectors_mm[rows]
    out = np.empty((grid.ndim, *vectors.shape[:-1]), np.float32)
    for component in range(grid.ndim):
        terms = [axis for axis in range(grid.ndim) if matrix[component, axis] != 0]
        np.multiply(vectors[..., terms[0]], matrix[component, terms[0]], out=out[component])
        for axis in terms[1:]:
            out[component] += vectors[..., axis] * matrix[component, axis]
    return out


def row_slabs(shape: Sequence[int], n_points: int = _SLAB_POINTS) -> Iterator[slice]:
    """Slices of the first axis of an array that hold about `n_points` elements each, and one row at least."""
    per_row = max(int(np.prod(shape[1:])), 1)
    step = max(n_points // per_row, 1)
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def jacobian_determinants(displacement: Displacement) -> np.ndarray:
    """Determinants of d(x + u)/dx by central differences at interior voxels, float32 (n - 2 for n in shape)."""
    ndim = displacement.grid.ndim
    out = np.empty([max(n - 2, 0) for n in displacement.grid.shape], np.float32)
    if out.size == 0:
        return out
    for rows in row_slabs(out.shape):
        field = voxel_components(displacement, slice(rows.start, rows.stop + 2))
        slab = out[rows]
        gradient = np.empty((ndim, ndim, *slab.shape), np.float32)
        for axis in range(ndim):
            inner = [slice(1, -1)] * ndim
            ahead = (slice(None), *inner[:axis], slice(2, None), *inner[axis + 1 :])
            behind = (slice(None), *inner[:axis], slice(None, -2), *inner[axis + 1 :])
            np.subtract(field[ahead], field[behind], out=gradient[:, axis])
            # The differences span two voxels; halving them all is one factor at the end.
            gradient[axis, axis] += 2
        determinant(gradient, out=slab)
        slab *= 0.5**ndim
    return out


def determinant(matrix: Matrix, out: np.ndarray | None = None) -> np.ndarray:
    """Determinants of 2x2 or 3x3 matrices given by their elements: rows of columns of arrays of one shape."""
    out = np.empty_like(matrix[0][0]) if out is None else out
    product = np.empty_like(out)
    _minor(matrix, (0, 1), product, out)
    if len(matrix) == 2:
        return out
    out *= matrix[2][2]
    minor = np.empty_like(out)
    for axes, cofactor, combine in (((1, 2), matrix[2][0], np.add), ((0, 2), matrix[2][1], np.subtract)):
        _minor(matrix, axes, product, minor)
        minor *= cofactor
        combine(out, minor, out=out)
    return out


def _minor(matrix: Matrix, axes: tuple[int, int], product: np.ndarray, out: np.ndarray) -> None:
    """Write the minor of the first two rows and columns `axes` into `out`."""
    a, b = axes
    np.multiply(matrix[0][a], matrix[1][b], out=out)
    np.multiply(matrix[0][b], matrix[1][a], out=product)
    out -= product
