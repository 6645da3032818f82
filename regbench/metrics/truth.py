"""Error against a known true displacement."""

from __future__ import annotations

from typing import Any

import numpy as np

from regbench.alignment import Alignment, row_slabs


def epe_mm(alignment: Alignment) -> dict[str, Any]:
    """Mean distance in mm between the displacement and the true one over the fixed foreground.

    Beside it `p95`, the 95th percentile, and `voxels`, the size of the foreground (see `Alignment.foreground`).
    """
    truth = alignment.pair.truth
    assert truth is not None
    foreground = alignment.foreground
    found, known = alignment.displacement.vectors_mm, truth.vectors_mm
    errors = np.concatenate(
        [
            np.sqrt(np.square(found[rows][foreground[rows]] - known[rows][foreground[rows]]).sum(axis=-1))
            for rows in row_slabs(foreground.shape)
        ]
    )
    return {
        "mean": float(errors.mean(dtype=np.float64)),
        "p95": float(np.percentile(errors, 95)),
        "voxels": int(errors.size),
    }
