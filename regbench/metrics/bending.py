"""How much the map x -> x + u(x) bends: its second derivatives in mm, by central differences.

With H the second derivatives of one component of u by voxel index and A the linear part of the affine of the grid,
those by mm are B^T H B with B = A^-1, on any grid. Their sum of squares depends on B B^T only, so B may be replaced by
its Cholesky factor C: then C^T H C takes one multiplication per element where the axes are at right angles.
"""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np

from regbench.alignment import Alignment, component_planes, line_strides
from regbench.displacement import Displacement
from regbench.slabs import Scratch, map_slabs, row_slabs


def bending(alignment: Alignment) -> dict[str, float]:
    """Bending energy in mm^-2: the mean of the sum of squares of all second derivatives of all components of u.

    Over voxels that have all neighbours, mixed derivatives counted twice; `foreground` over those of them in the fixed
    foreground. NaN where there is no such voxel. 0 for affine maps.
    """
    grid = alignment.displacement.grid
    interior = [max(n - 2, 0) for n in grid.shape]
    if 0 in interior:
        return {"mean": float("nan"), "foreground": float("nan")}
    inner = (slice(1, -1),) * grid.ndim
    inside = alignment.foreground[inner]

    def look(rows: slice, scratch: Scratch) -> np.ndarray:
        energies = _energies(alignment.displacement, rows, scratch)
        return np.array([_sums(*row, scratch) for row in zip(energies, inside[rows], strict=True)])

    total, total_inside = np.concatenate(map_slabs(look, row_slabs(interior), alignment.threads)).sum(axis=0)
    n_inside = int(np.count_nonzero(inside))
    return {
        "mean": float(total) / inside.size,
        "foreground": float(total_inside) / n_inside if n_inside else float("nan"),
    }


def _sums(energies: np.ndarray, inside: np.ndarray, scratch: Scratch) -> tuple[float, float]:
    """The sum of some values, and of those inside, in float64."""
    values = scratch.array("values", energies.shape, np.float64)
    np.copyto(values, energies)
    total = float(values.sum())
    values *= inside
    return total, float(values.sum())


def _energies(displacement: Displacement, rows: slice, scratch: Scratch) -> np.ndarray:
    """Sums of squares of the second derivatives for some rows of the interior, float32 (rows, n - 2, ...)."""
    shape = displacement.grid.shape
    strides = line_strides(shape)
    planes = component_planes(displacement, slice(rows.start, rows.stop + 2), scratch).reshape(len(shape), -1)
    first = sum(strides)
    length = planes.shape[1] - 2 * first
    weights = _derivatives_in_mm(displacement.grid.linear)
    whole = scratch.array("energies", (rows.stop - rows.start, *shape[1:]))
    energies = whole.reshape(-1)[first - strides[0] :][:length]
    energies[:] = 0
    term = scratch.array("term", (length,))
    for plane in planes:
        by_index = _second_differences(plane, strides, scratch)
        for place, row in enumerate(weights):
            # The weights are triangular, so that what is overwritten here is not needed any more.
            element = np.multiply(by_index[place], row[place], out=by_index[place])
            for other in np.flatnonzero(row[place + 1 :]) + place + 1:
                element += np.multiply(by_index[other], row[other], out=term)
            element *= element
            energies += element
    return whole[(slice(None), *[slice(1, -1)] * (len(shape) - 1))]


def _derivatives_in_mm(linear: np.ndarray) -> np.ndarray:
    """The matrix from second differences by index (axes a <= b) to the elements of C^T H C, mixed ones times sqrt 2.

    Upper triangular; float32. Second differences of mixed pairs span two voxels along both axes.
    """
    inverse = np.linalg.inv(linear)
    factor = np.linalg.cholesky(inverse @ inverse.T)
    factor[np.abs(factor) < 1e-9 * np.abs(factor).max()] = 0
    pairs = list(combinations_with_replacement(range(len(linear)), 2))
    matrix = np.zeros((len(pairs), len(pairs)))
    for row, (p, q) in enumerate(pairs):
        for column, (a, b) in enumerate(pairs):
            once = factor[a, p] * factor[b, q]
            both = once if a == b else (once + factor[b, p] * factor[a, q]) / 4
            matrix[row, column] = both if p == q else both * np.sqrt(2)
    return matrix.astype(np.float32)


def _second_differences(plane: np.ndarray, strides: list[int], scratch: Scratch) -> np.ndarray:
    """u(+a) - 2 u + u(-a) of one flattened component, and for mixed pairs u(+a+b) - u(+a-b) - u(-a+b) + u(-a-b)."""
    first = sum(strides)
    length = plane.size - 2 * first
    pairs = list(combinations_with_replacement(range(len(strides)), 2))
    found = scratch.array("second differences", (len(pairs), length))
    double = np.multiply(plane[first:][:length], 2, out=scratch.array("double", (length,)))
    for axis, stride in enumerate(strides):
        own = found[pairs.index((axis, axis))]
        np.add(plane[first + stride :][:length], plane[first - stride :][:length], out=own)
        own -= double
        if axis == len(strides) - 1:
            break
        # First differences serve all axes that follow, the nearest of which has the longest stride.
        margin = strides[axis + 1]
        slope = scratch.array("slope", (length + 2 * margin,))
        start = first - margin
        np.subtract(plane[start + stride :][: slope.size], plane[start - stride :][: slope.size], out=slope)
        for other in range(axis + 1, len(strides)):
            ahead, behind = margin + strides[other], margin - strides[other]
            np.subtract(slope[ahead:][:length], slope[behind:][:length], out=found[pairs.index((axis, other))])
    return found
