"""Distances of corresponding landmarks after registration.

Conventions:

- Row i of the fixed landmarks corresponds to row i of the moving ones; points are never sorted or searched for.
- Landmarks lie in the images, and the displacement leads fixed points to moving ones: nothing is inverted.
- A point lies in an image if it lies in one of its voxels, that is up to half a voxel beyond the outer voxel
  centres. Between there and the outer centres the displacement is that of the nearest point between centres.
- A point in an excluded voxel of its image does not count, nor does the one that corresponds to it.
- Which points count depends on the landmarks alone, never on the displacement: a method cannot get rid of a point
  by moving it out of the image.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from regbench.alignment import Alignment
from regbench.volume import Grid, Labels
from regbench.warp import sample_at, sample_displacement

# Half a voxel, and a little for points that were written down on the outer face of a voxel.
_MARGIN_VOXELS = 0.5 + 1e-6


def tre_mm(alignment: Alignment) -> dict[str, Any]:
    """Distances in mm between the moved fixed landmarks and the moving ones: `mean`, `median`, `p75`, `p95`, `max`.

    Beside them `n`, the points that count, `n_outside`, those left out because the fixed or the moving one lies
    outside of its image, and `n_unmatched`, the rows that only the longer list has; where voxels of the pair are
    excluded, also `n_excluded`, the points left out for that. NaN if no point counts.
    """
    pair = alignment.pair
    assert pair.fixed_landmarks is not None and pair.moving_landmarks is not None
    fixed, moving = pair.fixed_landmarks.points_mm, pair.moving_landmarks.points_mm
    matched = min(len(fixed), len(moving))
    n_unmatched = max(len(fixed), len(moving)) - matched
    fixed, moving = fixed[:matched], moving[:matched]
    counts = _inside(pair.fixed.grid, fixed) & _inside(pair.moving.grid, moving)
    n_outside = matched - int(np.count_nonzero(counts))
    counted = {"n_outside": n_outside, "n_unmatched": n_unmatched}
    if pair.fixed_excluded is not None or pair.moving_excluded is not None:
        n_inside = matched - n_outside
        counts &= ~_among(pair.fixed_excluded, fixed) & ~_among(pair.moving_excluded, moving)
        counted["n_excluded"] = n_inside - int(np.count_nonzero(counts))
    moved = fixed[counts] + sample_displacement(alignment.displacement, fixed[counts])
    distances = np.sqrt(np.square(moved - moving[counts]).sum(axis=-1))
    return _summary(distances) | {"n": len(distances)} | counted


def _among(excluded: Labels | None, points_mm: np.ndarray) -> np.ndarray:
    """Which points (n, ndim) have an excluded voxel nearest to them, bool (n,)."""
    if excluded is None:
        return np.zeros(len(points_mm), bool)
    return sample_at(excluded, points_mm) > 0


def _inside(grid: Grid, points_mm: np.ndarray) -> np.ndarray:
    """Which points (n, ndim) lie in a voxel of the grid, bool (n,)."""
    voxel = grid.to_voxel(points_mm)
    last = np.array(grid.shape) - 1
    return np.asarray(((voxel >= -_MARGIN_VOXELS) & (voxel <= last + _MARGIN_VOXELS)).all(axis=-1))


def _summary(distances: np.ndarray) -> dict[str, float]:
    """Mean, median, percentiles and maximum; NaN where there is no distance."""
    if distances.size == 0:
        return dict.fromkeys(("mean", "median", "p75", "p95", "max"), float("nan"))
    median, p75, p95 = np.percentile(distances, [50, 75, 95]).tolist()
    return {"mean": float(distances.mean()), "median": median, "p75": p75, "p95": p95, "max": float(distances.max())}
