"""How regular the map x -> x + u(x) is, from its Jacobian determinants by central differences."""

from __future__ import annotations

from typing import Any

import numpy as np

from regbench.alignment import Alignment, row_slabs


def fold_percent(alignment: Alignment) -> float:
    """Share of interior voxels whose Jacobian determinant is not positive, in percent [0, 100].

    NaN if an axis has fewer than 3 voxels. Central differences overlook folds of single voxels
    (a checkerboard has none), which `ndv_percent` sees.
    """
    jacobian = alignment.jacobian
    if jacobian.size == 0:
        return float("nan")
    return 100.0 * int(np.count_nonzero(jacobian <= 0)) / jacobian.size


def sdlogj(alignment: Alignment) -> dict[str, Any]:
    """Standard deviation of log J over interior voxels with J > 0, and `clipped`, the voxels left out.

    NaN if there is no such voxel.
    """
    jacobian = alignment.jacobian
    count, mean, squares = 0, 0.0, 0.0
    # Slab by slab with the pairwise update of mean and squares (Chan, Golub, LeVeque 1979): no copy of the volume.
    for rows in row_slabs(jacobian.shape):
        slab = jacobian[rows]
        logs = np.log(slab[slab > 0], dtype=np.float64)
        if logs.size == 0:
            continue
        step = float(logs.mean()) - mean
        total = count + logs.size
        squares += float(np.square(logs - logs.mean()).sum()) + step * step * count * logs.size / total
        mean += step * logs.size / total
        count = total
    spread = float(np.sqrt(squares / count)) if count else float("nan")
    return {"mean": spread, "clipped": jacobian.size - count}
