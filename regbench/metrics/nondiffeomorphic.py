"""Volume in which a field is no diffeomorphism, after Liu et al., IJCV 2024, doi 10.1007/s11263-024-02047-1.

Between grid points the map is taken as piecewise linear. Every cell of 2x2x2 grid points (2-D: 2x2) is split into
simplices in two mirrored ways, so that no direction is preferred: four corner tetrahedra and a central one each,
ten in all (2-D: two triangles each, four in all). Each simplex has the sign and the volume of one determinant, and
the non-diffeomorphic volume of the cell is the sum of the inverted volumes, each way counted half.

Only simplices with all corners on the grid count, so nothing is assumed outside of it, and a rotated grid has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from regbench.alignment import Alignment, determinant, row_slabs, voxel_components
from regbench.displacement import Displacement

# A cell whose edges leave the mean linear map by less than this (squared, relative) has no inverted simplex: the
# corner matrices are I + E with |E| < 1, and the edges of the central ones are sums of two cell edges, which makes
# 4 |E|^2 < 1 sufficient. The rest of the margin covers rounding.
_SAFE = {2: 0.98, 3: 0.24}
# Above this share of cells to look at, all of a slab are cheaper than a selection.
_DENSE = 0.1
_SLAB_CELLS = 1 << 17

Corner = tuple[int, ...]
# Component c of the edges along axis a, edges[a][c], for all grid edges of a slab, in voxels.
Edges = list[list[np.ndarray]]
# The same for some cells: the components of the edge along an axis that touches a corner of the cell.
CellEdges = dict[tuple[int, Corner], list[np.ndarray]]


def ndv_percent(alignment: Alignment) -> dict[str, Any]:
    """Inverted volume in percent of the volume of the grid, and two extras.

    `volume_voxels` is the inverted volume itself, which is what other programs state where the field is at rest
    near the faces; `cells` counts the cells with an inverted simplex. NaN if an axis has fewer than 2 voxels.
    """
    displacement = alignment.displacement
    shape = [n - 1 for n in displacement.grid.shape]
    n_cells = int(np.prod(shape))
    if n_cells == 0:
        return {"mean": float("nan"), "volume_voxels": 0.0, "cells": 0}
    linear = np.eye(len(shape)) + _mean_gradient(displacement)
    volume, cells = 0.0, 0
    for rows in row_slabs(shape, _SLAB_CELLS):
        edges = _edges(voxel_components(displacement, slice(rows.start, rows.stop + 1)))
        suspects = _suspects(edges, linear)
        n_suspects = int(np.count_nonzero(suspects))
        if n_suspects == 0:
            continue
        selection = None if n_suspects > _DENSE * suspects.size else np.nonzero(suspects)
        inverted, bad = _inverted(_cell_edges(edges, selection), len(shape))
        volume += inverted
        cells += bad
    return {"mean": 100.0 * volume / n_cells, "volume_voxels": volume, "cells": cells}


def _mean_gradient(displacement: Displacement) -> np.ndarray:
    """Mean of the forward differences of each component (rows) along each axis (columns), in voxels."""
    vectors = displacement.vectors_mm
    ndim = vectors.ndim - 1
    columns = []
    for axis in range(ndim):
        # Differences along a line add up to the difference of its ends.
        ends = [vectors.take(place, axis=axis).reshape(-1, ndim).mean(axis=0, dtype=np.float64) for place in (0, -1)]
        columns.append((ends[1] - ends[0]) / (vectors.shape[axis] - 1))
    return np.linalg.inv(displacement.grid.linear) @ np.stack(columns, axis=1)


def _edges(field: np.ndarray) -> Edges:
    """The images of all grid edges of a slab, from its planar field in voxels."""
    edges = [[np.diff(component, axis=axis) for component in field] for axis in range(len(field))]
    for axis in range(len(field)):
        edges[axis][axis] += 1
    return edges


def _suspects(edges: Edges, linear: np.ndarray) -> np.ndarray:
    """Where a cell may have an inverted simplex, bool by cell; elsewhere it cannot have one.

    By the sum over axes of the largest squared departure of its edges from the linear map.
    """
    ndim = len(edges)
    if np.linalg.det(linear) <= 0:
        return np.ones([edges[0][0].shape[0], *edges[-1][0].shape[1:]], bool)
    departure: np.ndarray | None = None
    for axis, components in enumerate(edges):
        largest = np.square(components[0] - np.float32(linear[0, axis]))
        for component in range(1, ndim):
            step = components[component] - np.float32(linear[component, axis])
            largest += np.square(step, out=step)
        for other in set(range(ndim)) - {axis}:
            largest = np.maximum(largest[_along(ndim, other, 0)], largest[_along(ndim, other, 1)])
        departure = largest if departure is None else np.add(departure, largest, out=departure)
    assert departure is not None
    return ~(departure < _SAFE[ndim] / np.linalg.norm(np.linalg.inv(linear), 2) ** 2)


def _along(ndim: int, axis: int, end: int) -> tuple[slice, ...]:
    """The index of all neighbours but the last (end 0) or but the first (end 1) along an axis."""
    return tuple((slice(1, None) if end else slice(None, -1)) if a == axis else slice(None) for a in range(ndim))


def _cell_edges(edges: Edges, cells: tuple[np.ndarray, ...] | None = None) -> CellEdges:
    """Per axis and corner the edges of all cells, or of some cells given by their indices."""
    ndim = len(edges)
    found: CellEdges = {}
    for axis, components in enumerate(edges):
        places = None if cells is None else np.ravel_multi_index(cells, components[0].shape)
        strides = [int(np.prod(components[0].shape[a + 1 :])) for a in range(ndim)]
        for corner in product((0, 1), repeat=ndim):
            if corner[axis]:
                found[axis, corner] = found[axis, _flip(corner, axis)]
            elif places is None:
                view = tuple(
                    slice(None) if a == axis else (slice(None, -1), slice(1, None))[corner[a]] for a in range(ndim)
                )
                found[axis, corner] = [component[view] for component in components]
            else:
                shift = sum(c * s for c, s in zip(corner, strides, strict=True))
                found[axis, corner] = [component.ravel()[places + shift] for component in components]
    return found


def _inverted(edges: CellEdges, ndim: int) -> tuple[float, int]:
    """Inverted volume in voxels, and the number of cells with an inverted (or flat) simplex."""
    volume = 0.0
    bad: np.ndarray | None = None
    # n! simplices of unit determinant fill a unit cube, and both ways of splitting count half.
    per_determinant = 1 / 12 if ndim == 3 else 1 / 4
    for vectors in _simplices(edges, ndim):
        det = determinant([[vector[component] for vector in vectors] for component in range(ndim)])
        inverted = det <= 0
        if inverted.any():
            volume -= float(det[inverted].sum(dtype=np.float64)) * per_determinant
        bad = inverted if bad is None else np.logical_or(bad, inverted, out=bad)
    return volume, 0 if bad is None else int(np.count_nonzero(bad))


def _simplices(edges: CellEdges, ndim: int) -> Iterator[list[list[np.ndarray]]]:
    """The vectors that span each simplex, in an order that makes the determinant positive where nothing moves."""
    for corner in product((0, 1), repeat=ndim):
        yield [edges[axis, corner] for axis in range(ndim)]
    if ndim == 2:
        return
    # The central tetrahedra: from a corner to the three that are two edges away.
    for corner, pairs in (((0, 0, 0), ((0, 2), (0, 1), (1, 2))), ((1, 1, 1), ((0, 1), (0, 2), (1, 2)))):
        join = np.subtract if corner[0] else np.add
        yield [
            [
                join(-first if corner[0] else first, second)
                for first, second in zip(edges[a, corner], edges[b, _flip(corner, a)], strict=True)
            ]
            for a, b in pairs
        ]


def _flip(corner: Corner, axis: int) -> Corner:
    return tuple(1 - c if a == axis else c for a, c in enumerate(corner))
