"""Volume in which a field is no diffeomorphism, after Liu et al., IJCV 2024, doi 10.1007/s11263-024-02047-1.

Between grid points the map is taken as piecewise linear. Every cell of 2x2x2 grid points (2-D: 2x2) is split into
simplices in two mirrored ways, so that no direction is preferred: four corner tetrahedra and a central one each,
ten in all (2-D: two triangles each, four in all). Each simplex has the sign and the volume of one determinant, and
the non-diffeomorphic volume of the cell is the sum of the inverted volumes, each way counted half.

A simplex belongs to the voxel at its apex: a corner tetrahedron to that corner of the cell, the central ones to the
first and the last corner. So a voxel inside the grid has a corner tetrahedron in each of the eight cells around it and
two central ones, with the volume of one voxel where nothing moves. The field is diffeomorphic at a voxel if none of
its simplices is inverted or flat.

Only simplices with all corners on the grid count, so nothing is assumed outside of it, and a rotated grid has none.
Numbers of the foreground leave out the outermost voxels, which have fewer simplices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from threading import Lock
from typing import Any

import numpy as np

from regbench.alignment import Alignment, Matrix, component_planes, determinant, line_strides
from regbench.displacement import Displacement
from regbench.slabs import Scratch, map_slabs, row_slabs

# Per axis the images of all grid edges along it, (ndim, n): the edge from the voxel at place i of a flattened slab to
# the next one is at place i. Edges from the end of a line wrap around and belong to no cell.
Edges = list[np.ndarray]

# A corner of a cell: 0 or 1 along each axis.
Corner = tuple[int, ...]
# The central tetrahedra: from an apex lead three ways of two edges each, the first along axes 0 and 1, the second along
# 1 and 2, the third along 2 and 0. These are the corners where the first edge of each begins; it is the apex itself for
# one tetrahedron, and for the other one, which has its apex at the last corner, they are the far ends.
_CENTRAL: tuple[tuple[Corner, ...], ...] = (((0, 0, 0),) * 3, ((0, 0, 1), (1, 0, 0), (0, 1, 0)))


def ndv_percent(alignment: Alignment) -> dict[str, Any]:
    """Inverted volume in percent of the volume of the grid, and of the voxels of the fixed foreground.

    `volume_voxels` is the inverted volume itself, which is what other programs state where the field is at rest
    near the faces; `cells` counts the cells with an inverted or flat simplex, `nondiffeomorphic_voxels` the voxels
    that have one. NaN if an axis has fewer than 2 voxels (for the foreground: 3), or the foreground has none.
    """
    shape = alignment.displacement.grid.shape
    inner = (slice(1, -1),) * len(shape)
    n_cells, n_inside = prod(n - 1 for n in shape), int(np.count_nonzero(alignment.foreground[inner]))
    voxels = _Voxels(alignment.foreground)

    def look(rows: slice, scratch: Scratch) -> _Found:
        with np.errstate(over="ignore", invalid="ignore"):
            return _look(alignment.displacement, rows, voxels, scratch)

    found = map_slabs(look, row_slabs([n - 1 for n in shape]), alignment.threads) if n_cells else []
    volume, volume_inside = np.concatenate([np.zeros((0, 2)), *[slab.volumes for slab in found]]).sum(axis=0)
    n_bad, n_bad_inside = voxels.count()
    return {
        "mean": 100.0 * float(volume) / n_cells if n_cells else float("nan"),
        "volume_voxels": float(volume),
        "cells": sum(slab.n_cells for slab in found),
        "nondiffeomorphic_voxels": n_bad,
        "foreground": 100.0 * float(volume_inside) / n_inside if n_inside else float("nan"),
        "foreground_nondiffeomorphic_voxels": n_bad_inside,
    }


@dataclass(frozen=True)
class _Found:
    """Inverted volume in voxels by row, everywhere and of foreground voxels (rows, 2), and number of such cells."""

    volumes: np.ndarray
    n_cells: int


class _Voxels:
    """The voxels that are not diffeomorphic, a bit each: slabs of cells share the rows of voxels between them."""

    def __init__(self, foreground: np.ndarray) -> None:
        self._foreground = foreground
        self._line = prod(foreground.shape[1:])
        self._bits = np.zeros((len(foreground), (self._line + 7) // 8), np.uint8)
        self._lock = Lock()

    def inside(self, rows: slice) -> np.ndarray:
        """Which voxels of some rows are in the foreground and not at a face of the grid, flattened."""
        region = np.zeros((rows.stop - rows.start, *self._foreground.shape[1:]), bool)
        inner = (slice(1, -1),) * (region.ndim - 1)
        for row in range(max(rows.start, 1), min(rows.stop, len(self._foreground) - 1)):
            region[row - rows.start][inner] = self._foreground[row][inner]
        return region.reshape(-1)

    def mark(self, rows: slice, marked: np.ndarray) -> None:
        """Adds marked voxels, bool and flattened, of some rows."""
        bits = np.packbits(marked.reshape(-1, self._line), axis=1)
        with self._lock:
            self._bits[rows] |= bits

    def count(self) -> tuple[int, int]:
        """The number of marked voxels, everywhere and in the foreground."""
        n_marked, n_inside = 0, 0
        for row in np.flatnonzero(self._bits.any(axis=1)):
            marked = np.unpackbits(self._bits[row], count=self._line).view(bool)
            n_marked += int(np.count_nonzero(marked))
            n_inside += int(np.count_nonzero(marked & self.inside(slice(row, row + 1))))
        return n_marked, n_inside


def _look(displacement: Displacement, rows: slice, voxels: _Voxels, scratch: Scratch) -> _Found:
    """What is inverted in some rows of cells, whose voxels are marked."""
    shape = displacement.grid.shape
    n_rows, per_row = rows.stop - rows.start, prod(shape[1:])
    corners = slice(rows.start, rows.stop + 1)
    edges = _edges(displacement, corners, scratch)
    cells = _bad_cells(edges, shape, scratch)
    volumes = np.zeros((n_rows, 2))
    if cells.size == 0:
        return _Found(volumes, 0)
    # Few cells are bad, so that it costs little to find out here which of their simplices are.
    found = []
    for determinants, apex in _simplices_of(cells, edges, shape, scratch):
        bad = np.flatnonzero(~(determinants > 0))
        places = cells.take(bad)
        found.append((places // per_row, places + apex, -determinants.take(bad).astype(np.float64)))
    places_in_row, apices, depths = (np.concatenate(part) for part in zip(*found, strict=True))
    volumes[:, 0] = np.bincount(places_in_row, depths, n_rows)
    volumes[:, 1] = np.bincount(places_in_row, depths * voxels.inside(corners)[apices], n_rows)
    marked = np.zeros((n_rows + 1) * per_row, bool)
    marked[apices] = True
    voxels.mark(corners, marked)
    # n! simplices of unit determinant fill a cell, and each of the two ways of splitting counts half.
    volumes /= 12 if len(shape) == 3 else 4
    return _Found(volumes, cells.size)


def _edges(displacement: Displacement, rows: slice, scratch: Scratch) -> Edges:
    """The images of all grid edges of some rows of voxels, by voxels of the grid: unit vectors where nothing moves."""
    planes = _planes_in_voxels(displacement, rows, scratch)
    edges = []
    for axis, stride in enumerate(line_strides(displacement.grid.shape)):
        ends, starts = planes[:, stride:], planes[:, :-stride]
        along = scratch.array(f"edges {axis}", ends.shape)
        for end, start, component in zip(ends, starts, along, strict=True):
            np.subtract(end, start, out=component)
        along[axis] += 1
        edges.append(along)
    return edges


def _planes_in_voxels(displacement: Displacement, rows: slice, scratch: Scratch) -> np.ndarray:
    """The displacement of some rows of voxels by index, each component flattened: (ndim, n) float32 in scratch."""
    ndim = displacement.grid.ndim
    planes = component_planes(displacement, rows, scratch).reshape(ndim, -1)
    factors = displacement.grid.inverse[:-1, :-1].astype(np.float32)
    if (factors == np.eye(ndim)).all():
        return planes
    found, term = scratch.array("planes in voxels", planes.shape), scratch.array("term", planes.shape[1:])
    for row, component in zip(factors, found, strict=True):
        first, *others = np.flatnonzero(row)
        np.multiply(planes[first], row[first], out=component)
        for other in others:
            np.add(component, np.multiply(planes[other], row[other], out=term), out=component)
    return found


def _bad_cells(edges: Edges, shape: tuple[int, ...], scratch: Scratch) -> np.ndarray:
    """The cells with an inverted or flat simplex, by the place of their first corner, ascending."""
    good = scratch.array("good", (edges[0].shape[1],), bool)
    good[:] = True
    for determinants in _simplices(edges, shape, scratch):
        positive = scratch.array("positive", determinants.shape, bool)
        # Not the opposite of `<= 0`, where determinants are too large for float32 and have become NaN.
        good[: determinants.size] &= np.greater(determinants, 0, out=positive)
    # No cells: the end of each line, and the last line.
    by_row = good.reshape(-1, *shape[1:])
    for axis in range(1, len(shape)):
        np.moveaxis(by_row, axis, 0)[-1] = True
    return np.flatnonzero(np.logical_not(good, out=good))


def _simplices(edges: Edges, shape: tuple[int, ...], scratch: Scratch) -> Iterator[np.ndarray]:
    """For each kind of simplex its determinants, 1 (central ones: 2) where nothing moves, in scratch until the next.

    By the place of the first corner of a cell.
    """
    strides = line_strides(shape)
    length = edges[0].shape[1] - sum(strides[1:])
    out = scratch.array("determinants", (length,))
    if len(shape) == 2:
        (x, y), (dx, dy) = edges, strides
        for i, j in product((0, 1), repeat=2):
            yield determinant(_shifted([x, y], [j * dy, i * dx], length), out, scratch)
        return
    x, y, z = edges
    dx, dy, dz = strides
    for i, j in product((0, 1), repeat=2):
        # The same cross products serve both ends of the edges along the last axis.
        cross = _cross(_shifted([x, y], [j * dy, i * dx], length + dz), scratch)
        (last,) = zip(*_shifted([z], [i * dx + j * dy], length), strict=True)
        for k in (0, 1):
            yield _dot([part[k * dz :][:length] for part in cross], last, out, scratch)
    sums = scratch.array("sums", (3, 3, length + dx))
    for diagonal, first, second, stride in zip(sums, (x, y, z), (y, z, x), (dx, dy, dz), strict=True):
        n = min(first.shape[1], second.shape[1] - stride, diagonal.shape[1])
        for total, one, other in zip(diagonal, first, second, strict=True):
            np.add(one[:n], other[stride:][:n], out=total[:n])
    for starts in _CENTRAL:
        shifts = [i * dx + j * dy + k * dz for i, j, k in starts]
        yield determinant(_shifted(list(sums), shifts, length), out, scratch)


def _simplices_of(
    cells: np.ndarray, edges: Edges, shape: tuple[int, ...], scratch: Scratch
) -> Iterator[tuple[np.ndarray, int]]:
    """For each kind of simplex its determinants in some cells, to the last bit as above, and the way to its apex."""
    ndim, strides = len(shape), line_strides(shape)

    def way(corner: Corner) -> int:
        return sum(step * stride for step, stride in zip(corner, strides, strict=True))

    images = {
        (axis, corner): [component.take(cells + way(corner)) for component in edge]
        for axis, edge in enumerate(edges)
        for corner in product((0, 1), repeat=ndim)
        if corner[axis] == 0
    }
    for apex in product((0, 1), repeat=ndim):
        columns = [images[axis, (*apex[:axis], 0, *apex[axis + 1 :])] for axis in range(ndim)]
        if ndim == 2:
            yield determinant(list(zip(*columns, strict=True))), way(apex)
        else:
            cross = _cross(list(zip(*columns[:2], strict=True)), scratch)
            yield _dot(cross, columns[2], np.empty_like(columns[2][0])), way(apex)
    for starts, apex in zip(_CENTRAL, ((0, 0, 0), (1, 1, 1)), strict=True) if ndim == 3 else ():
        columns = []
        for axis, corner in enumerate(starts):
            middle = (*corner[:axis], 1, *corner[axis + 1 :])
            pair = images[axis, corner], images[(axis + 1) % 3, middle]
            columns.append([one + other for one, other in zip(*pair, strict=True)])
        yield determinant(list(zip(*columns, strict=True))), way(apex)


def _shifted(vectors: list[np.ndarray], shifts: list[int], length: int) -> list[list[np.ndarray]]:
    """The elements of the matrices with these columns, each from its own place on: rows of columns of arrays."""
    return [
        [vector[component, shift:][:length] for vector, shift in zip(vectors, shifts, strict=True)]
        for component in range(len(vectors[0]))
    ]


def _cross(matrix: Matrix, scratch: Scratch) -> np.ndarray:
    """The cross products of the two columns of 3x2 matrices, (3, n) in scratch."""
    length = matrix[0][0].size
    cross, term = scratch.array("cross", (3, length)), scratch.array("product", (length,))
    for component in range(3):
        (a, b), (c, d) = matrix[(component + 1) % 3], matrix[(component + 2) % 3]
        np.multiply(a, d, out=cross[component])
        cross[component] -= np.multiply(b, c, out=term)
    return cross


def _dot(
    a: Sequence[np.ndarray] | np.ndarray, b: Sequence[np.ndarray], out: np.ndarray, scratch: Scratch | None = None
) -> np.ndarray:
    """`out`, with the products of vectors given by their components."""
    np.multiply(a[0], b[0], out=out)
    term = np.empty_like(out) if scratch is None else scratch.array("product", out.shape)
    for one, other in zip(a[1:], b[1:], strict=True):
        out += np.multiply(one, other, out=term)
    return out
