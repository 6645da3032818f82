"""Similarity of intensities of the fixed and the moved image over the fixed foreground.

The foreground is `Alignment.foreground`; where the field points outside the moving image the moved intensity is 0
and counts, so losing tissue costs.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from regbench.alignment import Alignment
from regbench.slabs import Scratch, map_slabs, row_slabs

BINS = 64


def ncc(alignment: Alignment) -> float:
    """Correlation coefficient of fixed and moved intensities over the fixed foreground, in [-1, 1].

    NaN if either image is constant there.
    """
    fixed, moved = alignment.once(foreground_intensities)
    count = fixed.size
    mean_fixed, mean_moved = (float(values.sum(dtype=np.float64)) / count for values in (fixed, moved))
    # A second pass about the means: sums of raw squares would cancel for images with a large offset.
    work = partial(_products, fixed, moved, (mean_fixed, mean_moved))
    parts = map_slabs(work, row_slabs(fixed.shape), alignment.threads)
    within_fixed, within_moved, between = np.sum(parts, axis=0).tolist()
    if _is_constant(within_fixed, count, mean_fixed) or _is_constant(within_moved, count, mean_moved):
        return float("nan")
    return float(np.clip(between / np.sqrt(within_fixed * within_moved), -1.0, 1.0))


def nmi(alignment: Alignment) -> float:
    """(H(F) + H(M)) / H(F, M) of fixed and moved intensities over the fixed foreground, in [1, 2].

    64 bins of equal width each, over the range of that image in the foreground; no correction for the number of
    voxels. NaN if either image is constant there.
    """
    fixed, moved = alignment.once(foreground_intensities)
    ranges = [(float(values.min()), float(values.max())) for values in (fixed, moved)]
    if any(low == high for low, high in ranges):
        return float("nan")
    work = partial(_joint_counts, fixed, moved, ranges)
    joint = np.sum(map_slabs(work, row_slabs(fixed.shape), alignment.threads), axis=0).reshape(BINS, BINS)
    return (_entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=0))) / _entropy(joint)


def foreground_intensities(alignment: Alignment) -> tuple[np.ndarray, np.ndarray]:
    """The fixed and the moved intensities in the foreground, in the order of the voxels, float32 (voxels,) each."""
    region = alignment.foreground
    return alignment.pair.fixed.array[region], alignment.moved_near[region]


def _products(
    fixed: np.ndarray, moved: np.ndarray, means: tuple[float, float], part: slice, scratch: Scratch
) -> tuple[float, float, float]:
    """Sums of squares of both about their means, and of the products."""
    n = part.stop - part.start
    x, y, product = (scratch.array(name, (n,), np.float64) for name in ("fixed", "moved", "product"))
    np.subtract(fixed[part], means[0], out=x, dtype=np.float64)
    np.subtract(moved[part], means[1], out=y, dtype=np.float64)
    # Not a BLAS product, whose rounding depends on the number of threads.
    return tuple(float(np.multiply(a, b, out=product).sum()) for a, b in ((x, x), (y, y), (x, y)))  # type: ignore[return-value]


def _is_constant(squares: float, count: int, mean: float) -> bool:
    """Whether the sum of squares about the mean is no more than the rounding of the mean."""
    return squares <= 1e-20 * count * mean * mean


def _joint_counts(
    fixed: np.ndarray, moved: np.ndarray, ranges: list[tuple[float, float]], part: slice, scratch: Scratch
) -> np.ndarray:
    """Voxels by the bin of the fixed and of the moved intensity, laid out flat (BINS * BINS,)."""
    n = part.stop - part.start
    codes, bins = (scratch.array(name, (n,), np.float64) for name in ("codes", "bins"))
    _bins_of_equal_width(fixed[part], ranges[0], codes)
    codes *= BINS
    codes += _bins_of_equal_width(moved[part], ranges[1], bins)
    indices = scratch.array("indices", (n,), np.intp)
    indices[...] = codes
    return np.bincount(indices, minlength=BINS * BINS)


def _bins_of_equal_width(values: np.ndarray, limits: tuple[float, float], out: np.ndarray) -> np.ndarray:
    """Write bins floor(BINS (x - low) / (high - low)) of 0 to BINS - 1 into `out`, as whole float64 numbers."""
    low, high = limits
    np.subtract(values, low, out=out, dtype=np.float64)
    # Divided last: multiplied by a rounded factor, values on a limit between bins would fall below it.
    out *= BINS
    out /= high - low
    np.floor(out, out=out)
    return np.minimum(out, BINS - 1, out=out)


def _entropy(counts: np.ndarray) -> float:
    """Entropy in nats of the distribution with these counts."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())
