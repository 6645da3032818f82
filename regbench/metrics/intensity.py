"""Similarity of intensities of the fixed and the moved image."""

from __future__ import annotations

import numpy as np

from regbench.alignment import Alignment, row_slabs


def ncc(alignment: Alignment) -> float:
    """Correlation coefficient of fixed and moved intensities over the fixed foreground, in [-1, 1].

    The foreground is `Alignment.foreground`; where the field points outside the moving image the moved
    intensity is 0 and counts, so losing tissue costs. NaN if either image is constant there.
    """
    region = alignment.foreground
    fixed, moved = alignment.pair.fixed.array, alignment.moved_image.array
    pairs = [(fixed[rows][region[rows]], moved[rows][region[rows]]) for rows in row_slabs(region.shape)]
    count = sum(a.size for a, _ in pairs)
    mean_fixed = sum(float(a.sum(dtype=np.float64)) for a, _ in pairs) / count
    mean_moved = sum(float(b.sum(dtype=np.float64)) for _, b in pairs) / count
    within_fixed = within_moved = between = 0.0
    # A second pass about the means: sums of raw squares would cancel for images with a large offset.
    for a, b in pairs:
        x = a.astype(np.float64) - mean_fixed
        y = b.astype(np.float64) - mean_moved
        # Not a BLAS product, whose rounding depends on the number of threads.
        within_fixed += float(np.square(x).sum())
        within_moved += float(np.square(y).sum())
        between += float((x * y).sum())
    if _is_constant(within_fixed, count, mean_fixed) or _is_constant(within_moved, count, mean_moved):
        return float("nan")
    return float(np.clip(between / np.sqrt(within_fixed * within_moved), -1.0, 1.0))


def _is_constant(squares: float, count: int, mean: float) -> bool:
    """Whether the sum of squares about the mean is no more than the rounding of the mean."""
    return squares <= 1e-20 * count * mean * mean
