"""Errors of a displacement against what is known of it: the true displacement, or its own inverse.

Both are taken over the fixed foreground (`Alignment.foreground`) and are distances in mm on any grid, because
vectors are in mm.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.slabs import Scratch, map_slabs, row_slabs
from regbench.warp import Places, clip_to_grid, linear_samples

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
    ndim = found.shape[-1]

    def errors(rows: slice, scratch: Scratch) -> np.ndarray:
        places = np.flatnonzero(foreground[rows])
        difference = _taken(found[rows], places, scratch.array("found", (places.size, ndim)))
        difference -= _taken(known[rows], places, scratch.array("known", (places.size, ndim)))
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

    def errors(rows: slice, scratch: Scratch) -> np.ndarray:
        return _return_distances(alignment.displacement, inverse, rows, np.flatnonzero(foreground[rows]), scratch)

    slabs = row_slabs(foreground.shape, _SLAB_POINTS)
    distances = np.concatenate(map_slabs(errors, slabs, alignment.threads))
    counts = {"voxels": int(distances.size), "n_outside": int(np.count_nonzero(foreground)) - int(distances.size)}
    if distances.size == 0:
        return dict.fromkeys(("mean", "p95", "max"), float("nan")) | counts
    mean, largest = float(distances.mean(dtype=np.float64)), float(distances.max())
    p95 = float(np.percentile(distances, 95, overwrite_input=True))
    return {"mean": mean, "p95": p95, "max": largest} | counts


def _return_distances(
    there: Displacement, back: Displacement, rows: slice, places: np.ndarray, scratch: Scratch
) -> np.ndarray:
    """|u(x) + v(x + u(x))| in mm for voxels at flat `places` of some rows, those that v says nothing of left out."""
    ndim = there.grid.ndim
    vectors = _taken(there.vectors_mm[rows], places, scratch.array("there", (places.size, ndim)))
    reached = scratch.array("reached", (ndim, places.size), np.float64)
    for axis, coordinate in enumerate(Places.displaced(back.grid, there).coordinates(rows, scratch)):
        np.take(coordinate.reshape(-1), places, out=reached[axis], mode="clip")
    inside = clip_to_grid(list(reached), back.grid.shape, scratch)
    if not inside.all():
        vectors, reached = vectors[inside], reached[:, inside]
    vectors += linear_samples(back.vectors_mm, reached.T, scratch)
    return _lengths(vectors)


def _taken(vectors: np.ndarray, places: np.ndarray, out: np.ndarray) -> np.ndarray:
    """The vectors (n, ndim) at flat places of a field (..., ndim)."""
    # With a mode other than "raise" numpy writes into `out` without a copy in between.
    return np.take(vectors.reshape(-1, vectors.shape[-1]), places, axis=0, out=out, mode="clip")


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """The length of each vector, (n, ndim) float32 -> (n,) float32; the vectors are overwritten."""
    np.square(vectors, out=vectors)
    lengths = vectors[:, 0] + vectors[:, 1]
    for axis in range(2, vectors.shape[1]):
        lengths += vectors[:, axis]
    return np.sqrt(lengths, out=lengths)
