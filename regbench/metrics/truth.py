"""Errors of a displacement against what is known of it: the true displacement, or its own inverse.

Both are taken over the fixed foreground (`Alignment.foreground`) and are distances in mm on any grid, because
vectors are in mm.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.slabs import Scratch, boxes_around, map_slabs, map_tasks, row_slabs
from regbench.warp import Box, Places, clip_to_grid, write_linear

# Points of a slab need several float64 arrays each.
_SLAB_POINTS = 1 << 16


def epe_mm(alignment: Alignment) -> dict[str, Any]:
    """Mean distance in mm between the displacement and the true one over the fixed foreground.

    Beside it `p95`, the 95th percentile, and `voxels`, the size of the foreground.
    """
    truth = alignment.pair.truth
    assert truth is not None
    foreground = alignment.foreground
    found, known = alignment.displacement.vectors_mm, truth.vectors_mm

    def errors(rows: slice, scratch: Scratch) -> np.ndarray:
        places = np.flatnonzero(foreground[rows])
        difference = _taken(found[rows], places, scratch)
        difference -= _taken(known[rows], places, scratch, "known")
        return _lengths(difference)

    distances = np.concatenate(map_slabs(errors, row_slabs(foreground.shape), alignment.threads))
    mean = float(distances.mean(dtype=np.float64))
    p95 = float(np.percentile(distances, 95, overwrite_input=True))
    return {"mean": mean, "p95": p95, "voxels": int(distances.size)}


def ice_mm(alignment: Alignment) -> dict[str, Any]:
    """Mean distance in mm between x and where the displacement, and then its inverse read linearly, lead it.

    Over the fixed foreground; beside it `p95`, `max`, `voxels`, those that count, and `n_outside`, those left out
    because the displacement leads them beyond the outer voxel centres of the inverse, where it says nothing. NaN if
    no voxel is left.
    """
    inverse = alignment.displacement.inverse
    assert inverse is not None
    foreground = alignment.foreground

    def errors(box: Box, scratch: Scratch) -> np.ndarray:
        return _return_distances(alignment, inverse, box, scratch)

    distances = np.concatenate(map_tasks(errors, boxes_around(foreground, 0, _SLAB_POINTS), alignment.threads))
    counts = {"voxels": int(distances.size), "n_outside": int(np.count_nonzero(foreground)) - int(distances.size)}
    if distances.size == 0:
        return dict.fromkeys(("mean", "p95", "max"), float("nan")) | counts
    mean, largest = float(distances.mean(dtype=np.float64)), float(distances.max())
    p95 = float(np.percentile(distances, 95, overwrite_input=True))
    return {"mean": mean, "p95": p95, "max": largest} | counts


def _return_distances(alignment: Alignment, back: Displacement, box: Box, scratch: Scratch) -> np.ndarray:
    """|u(x) + v(x + u(x))| in mm for voxels of the foreground in a box, those that v says nothing of left out."""
    there, foreground = alignment.displacement, alignment.foreground
    places = np.flatnonzero(foreground[box])
    reached = [scratch.array(f"reached {axis}", places.shape, np.float64) for axis in range(there.grid.ndim)]
    coordinates = Places.displaced(back.grid, there).coordinates(box, scratch)
    for coordinate, found in zip(coordinates, reached, strict=True):
        np.take(coordinate.reshape(-1), places, out=found, mode="wrap")
    inside = clip_to_grid(reached, back.grid.shape, scratch)
    in_rows = np.flatnonzero(foreground[box[0]])
    if not inside.all():
        in_rows, reached = in_rows[inside], [coordinate[inside] for coordinate in reached]
    gap = scratch.array("gap", (there.grid.ndim, in_rows.size))
    write_linear(back.vectors_mm, reached, gap, scratch)
    gap += _taken(there.vectors_mm[box[0]], in_rows, scratch)
    return _lengths(gap)


def _taken(vectors: np.ndarray, places: np.ndarray, scratch: Scratch, name: str = "taken") -> np.ndarray:
    """The vectors (ndim, n) at flat places of a field (..., ndim), in scratch."""
    ndim = vectors.shape[-1]
    out = scratch.array(name, (ndim, places.size))
    at = np.multiply(places, ndim, out=scratch.array("places", places.shape, np.intp))
    for component, values in enumerate(out):
        # All places exist; other modes than "wrap" cost more here, or write into a copy first.
        np.take(vectors.reshape(-1)[component:], at, out=values, mode="wrap")
    return out


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """The length of each vector, (ndim, n) float32 -> (n,) float32; the vectors are overwritten."""
    np.square(vectors, out=vectors)
    lengths = vectors[0] + vectors[1]
    for component in vectors[2:]:
        lengths += component
    return np.sqrt(lengths, out=lengths)
