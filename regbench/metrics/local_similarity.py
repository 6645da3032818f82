"""Similarity of the fixed and the moved image in a window about each voxel: LNCC and SSIM.

Conventions:

- The window is 9 voxels long on each axis and cut off at the faces of the grid; means, variances and the covariance
  in it are those of a population (divided by the voxels in the window, which are fewer near a face).
- Windows stand about the voxels of the fixed foreground (`Alignment.foreground`) but hold whatever lies in them.
- Where the field points outside the moving image the moved intensity is 0 and counts.
- A window is constant in an image if its standard deviation there is at most 1e-6 of the largest magnitude of that
  image near the foreground (`Alignment.near_boxes`), some ten steps of its 32-bit numbers.

Both come from one set of window sums. A sum over 9 values is three sums over three, in double precision and about
the middle of the range of the intensities: like a running sum it costs the same for any place, but it carries no
rounding along, so that no bit of the result depends on slabs, blocks or threads. Two-dimensional images are worked
on as one plane.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from regbench.alignment import NEAR_VOXELS, Alignment
from regbench.slabs import Scratch, map_tasks

RADIUS = NEAR_VOXELS
_WINDOW = 2 * RADIUS + 1
_CONSTANT = 1e-6
_K1, _K2 = 0.01, 0.03
# One plane of a block in double precision stays inside the cache of one core.
_BLOCK_POINTS = 48_000
_MIN_PLANES = 16
# Of the sums of f, m, f f, m m and f m, the factors of the last three.
_FACTORS = ((0, 0), (1, 1), (0, 1))

Span = tuple[int, int]


def lncc(alignment: Alignment) -> float:
    """Mean over the fixed foreground of the squared correlation in the window, in [0, 1].

    0 where the window is constant in either image; NaN if it is so at every voxel.
    """
    return alignment.once(local_similarity).lncc


def ssim(alignment: Alignment) -> float:
    """Mean structural similarity over the fixed foreground, in [-1, 1]; K1 = .01, K2 = .03.

    The dynamic range is that of the whole fixed image; NaN if the fixed image is constant.
    """
    return alignment.once(local_similarity).ssim


@dataclass(frozen=True)
class LocalSimilarity:
    """Both means over the fixed foreground; NaN where they are not defined."""

    lncc: float
    ssim: float


@dataclass(frozen=True, eq=False)
class _Images:
    """Two images and the region of interest as volumes, with what the scores need to know of them.

    `rows` (planes, 2) are the first row of the region in each plane and the one behind the last, equal where there is
    none.
    """

    fixed: np.ndarray
    moved: np.ndarray
    region: np.ndarray
    rows: np.ndarray
    centres: tuple[float, float]
    smallest_variances: tuple[float, float]
    dynamic_range: float


@dataclass(frozen=True)
class _Block:
    """Voxels whose windows one task works on: first and last + 1 along each of three axes."""

    planes: Span
    rows: Span
    columns: Span


def local_similarity(alignment: Alignment, block_points: int = _BLOCK_POINTS) -> LocalSimilarity:
    """LNCC and SSIM of the fixed and the moved image, from one set of window sums."""
    region = _volume(alignment.foreground)
    box = _bounding_box(region)
    images = _images(alignment, region)
    blocks = list(_blocks(box, alignment.threads, block_points))
    parts = map_tasks(partial(_scores, images), blocks, alignment.threads)
    # One sum per row of the last axis, added up at the end: the order does not depend on how the box was cut.
    sums = np.zeros((2, *(stop - start for start, stop in (box.planes, box.rows))))
    for block, (rows, _) in zip(blocks, parts, strict=True):
        planes = slice(block.planes[0] - box.planes[0], block.planes[1] - box.planes[0])
        sums[:, planes, block.rows[0] - box.rows[0] : block.rows[1] - box.rows[0]] = rows
    count = int(np.count_nonzero(region))
    return LocalSimilarity(
        lncc=float(sums[0].sum()) / count if any(varying for _, varying in parts) else float("nan"),
        ssim=float(sums[1].sum()) / count if images.dynamic_range > 0 else float("nan"),
    )


def _volume(array: np.ndarray) -> np.ndarray:
    return array[None] if array.ndim == 2 else array


def _bounding_box(region: np.ndarray) -> _Block:
    flat = np.asarray(region.any(axis=0))
    spans = []
    for hit in (region.any(axis=(1, 2)), flat.any(axis=1), flat.any(axis=0)):
        inside = np.flatnonzero(hit)
        spans.append((int(inside[0]), int(inside[-1]) + 1))
    return _Block(*spans)


def _reach(span: Span, size: int) -> Span:
    """The voxels that the windows about `span` hold on an axis of `size` voxels."""
    return max(span[0] - RADIUS, 0), min(span[1] + RADIUS, size)


def _images(alignment: Alignment, region: np.ndarray) -> _Images:
    fixed, moved = alignment.pair.fixed.array, alignment.moved_near
    near = [(image[box].min(), image[box].max()) for box in alignment.near_boxes for image in (fixed, moved)]
    ranges = [
        (float(min(low for low, _ in found)), float(max(high for _, high in found)))
        for found in (near[::2], near[1::2])
    ]
    magnitudes = [max(abs(low), abs(high)) for low, high in ranges]
    hits = np.asarray(region.any(axis=2))
    first, last = hits.argmax(axis=1), region.shape[1] - hits[:, ::-1].argmax(axis=1)
    return _Images(
        fixed=_volume(fixed),
        moved=_volume(moved),
        region=region,
        rows=np.stack([first, last], axis=1) * np.any(hits, axis=1, keepdims=True),
        centres=(sum(ranges[0]) / 2, sum(ranges[1]) / 2),
        smallest_variances=((_CONSTANT * magnitudes[0]) ** 2, (_CONSTANT * magnitudes[1]) ** 2),
        dynamic_range=float(fixed.max()) - float(fixed.min()),
    )


def _blocks(box: _Block, threads: int, block_points: int) -> Iterator[_Block]:
    """The box cut along its rows so that a plane fits into the cache, and along its planes for the threads."""
    n_rows = max(block_points // (box.columns[1] - box.columns[0] + 2 * RADIUS) - 2 * RADIUS, RADIUS)
    n_planes = max(-(-(box.planes[1] - box.planes[0]) // max(threads, 1)), _MIN_PLANES)
    for row in range(box.rows[0], box.rows[1], n_rows):
        for plane in range(box.planes[0], box.planes[1], n_planes):
            planes = plane, min(plane + n_planes, box.planes[1])
            yield _Block(planes, (row, min(row + n_rows, box.rows[1])), box.columns)


def _scores(images: _Images, block: _Block, scratch: Scratch) -> tuple[np.ndarray, bool]:
    """Sums of both scores over the foreground along the last axis, (2, planes, rows), and whether LNCC is defined."""
    spans = (block.planes, block.rows, block.columns)
    counts = [_window_counts(span, size) for span, size in zip(spans, images.fixed.shape, strict=True)]
    # Lines are as long as those of the sums, with columns behind the last one that do not count.
    columns = np.concatenate([counts[2], np.ones(2 * RADIUS)])
    in_plane = 1.0 / np.outer(counts[1], columns)
    inside = scratch.array("inside", in_plane.shape, bool)
    inside[:] = False
    totals = np.zeros((2, len(counts[0]), len(counts[1])))
    varying = False
    for index, (rows, sums) in enumerate(_window_sums(images, block, scratch)):
        region = inside[rows]
        region[:, : len(counts[2])] = images.region[block.planes[0] + index, slice(*block.rows), slice(*block.columns)][
            rows
        ]
        share = np.divide(in_plane[rows], counts[0][index], out=scratch.array("share", region.shape, np.float64))
        _moments(sums, share, scratch)
        varying |= _squared_correlations(images, sums, region, scratch, totals[0, index, rows])
        _structural_similarities(images, sums, region, scratch, totals[1, index, rows])
    return totals, varying


def _window_counts(span: Span, size: int) -> np.ndarray:
    """Voxels of the windows about the voxels of `span` along an axis of `size` voxels, float64."""
    centre = np.arange(*span)
    return (np.minimum(centre + RADIUS + 1, size) - np.maximum(centre - RADIUS, 0)).astype(np.float64)


def _window_sums(images: _Images, block: _Block, scratch: Scratch) -> Iterator[tuple[slice, np.ndarray]]:
    """Per plane of the block its rows that hold the region, and in these the sums of f, m, f f, m m and f m.

    f and m are the fixed and the moved intensities about their centres. The sums over the windows are float64 (5, rows,
    columns + 2 RADIUS), the last columns of no meaning. The array is the caller's to overwrite, until the next one is
    asked for.
    """
    n_rows, n_columns = (stop - start for start, stop in (block.rows, block.columns))
    # Rows of a plane are padded with zeros and laid end to end, so that each step is one loop over contiguous
    # numbers. What a window reads across the end of its row belongs to columns that nobody looks at.
    step = n_columns + 2 * RADIUS
    _padded(block, scratch)[:] = 0
    flat = scratch.array("planes", (3, 5, n_rows * step), np.float64)
    threes = scratch.array("threes", (7, 5, n_rows * step), np.float64)
    flat[:], threes[:] = 0, 0
    for count, plane in enumerate(range(block.planes[0] - RADIUS, block.planes[1] + RADIUS)):
        needed = _rows_between(images, block, plane - RADIUS, plane + RADIUS)
        if not 0 <= plane < len(images.fixed):
            flat[count % 3] = 0
        elif needed.stop > needed.start:
            flat_sums = flat[count % 3, :, needed.start * step : needed.stop * step]
            _plane_sums(images, (plane, needed), block, scratch, flat_sums)
        if count < 2:
            continue
        needed = _rows_between(images, block, plane - RADIUS, plane + 2)
        lines = slice(needed.start * step, needed.stop * step)
        _add_three([flat[(count - back) % 3, :, lines] for back in (2, 1, 0)], threes[(count - 2) % 7, :, lines])
        if count >= 2 * RADIUS:
            rows = _rows_between(images, block, plane - RADIUS, plane - RADIUS)
            lines = slice(rows.start * step, rows.stop * step)
            sums = scratch.array("sums", (5, rows.stop - rows.start, step), np.float64)
            _add_three([threes[(count - back) % 7, :, lines] for back in (8, 5, 2)], sums.reshape(5, -1))
            yield rows, sums


def _rows_between(images: _Images, block: _Block, first: int, last: int) -> slice:
    """The rows of the block, counted from its first, that hold the region in some of its planes from first to last."""
    rows = images.rows[max(first, block.planes[0]) : min(last + 1, block.planes[1])].clip(*block.rows) - block.rows[0]
    rows = rows[rows[:, 0] < rows[:, 1]]
    return slice(int(rows[:, 0].min()), int(rows[:, 1].max())) if len(rows) else slice(0, 0)


def _add_three(parts: list[np.ndarray], out: np.ndarray) -> None:
    """Write the sum of three arrays (5, n) into `out`, row by row, so that the first sum is still in the cache."""
    for first, second, third, total in zip(*parts, out, strict=True):
        np.add(first, second, out=total)
        np.add(total, third, out=total)


def _padded(block: _Block, scratch: Scratch) -> np.ndarray:
    """Five planes of the block with the voxels about it, laid out flat."""
    rows, columns = (stop - start + 2 * RADIUS for start, stop in (block.rows, block.columns))
    return scratch.array("padded", (5, rows * columns), np.float64)


def _plane_sums(images: _Images, part: tuple[int, slice], block: _Block, scratch: Scratch, out: np.ndarray) -> None:
    """Write the window sums of the five products in a plane and some of its rows, laid out flat, into `out`."""
    plane, needed = part
    step = block.columns[1] - block.columns[0] + 2 * RADIUS
    # Of the padded rows, those that these windows hold.
    lines = slice(needed.start * step, (needed.stop + 2 * RADIUS) * step)
    padded = _padded(block, scratch)
    first = block.rows[0] - RADIUS
    rows = (max(needed.start + first, 0), min(needed.stop + 2 * RADIUS + first, images.fixed.shape[1]))
    columns = _reach(block.columns, images.fixed.shape[2])
    at = (
        slice(rows[0] - first, rows[1] - first),
        slice(columns[0] - block.columns[0] + RADIUS, columns[1] - block.columns[0] + RADIUS),
    )
    for product, image, centre in zip(padded, (images.fixed, images.moved), images.centres, strict=False):
        inside = product.reshape(-1, step)[at]
        np.subtract(image[plane, slice(*rows), slice(*columns)], centre, out=inside, dtype=np.float64)
    padded = padded[:, lines]
    for row, (a, b) in enumerate(_FACTORS, start=2):
        np.multiply(padded[a], padded[b], out=padded[row])
    along, work = (scratch.array(name, padded.shape[1:], np.float64) for name in ("along", "work"))
    for product, result in zip(padded, out, strict=True):
        _sums_of_nine(product, 1, work, along)
        _sums_of_nine(along[: 1 - _WINDOW], step, work, result)


def _sums_of_nine(values: np.ndarray, step: int, work: np.ndarray, out: np.ndarray) -> None:
    """Write into `out` the sums of the nine values `step` apart that begin at each value: three threes."""
    n = values.size - 2 * step
    np.add(values[:n], values[step : step + n], out=work[:n])
    work[:n] += values[2 * step :]
    m = n - 6 * step
    np.add(work[:m], work[3 * step : 3 * step + m], out=out[:m])
    out[:m] += work[6 * step : 6 * step + m]


def _moments(sums: np.ndarray, share: np.ndarray, scratch: Scratch) -> None:
    """Turn window sums (5, ...) into means of f and m, variances of f and m, and the covariance, in place.

    `share` is one over the voxels in the window.
    """
    product = scratch.array("product", share.shape, np.float64)
    for values in sums:
        np.multiply(values, share, out=values)
    for row, (a, b) in enumerate(_FACTORS, start=2):
        sums[row] -= np.multiply(sums[a], sums[b], out=product)
    np.maximum(sums[2:4], 0, out=sums[2:4])


def _squared_correlations(
    images: _Images, sums: np.ndarray, region: np.ndarray, scratch: Scratch, out: np.ndarray
) -> bool:
    """Write row sums of the squared correlations inside the region into `out`; whether any window varies."""
    squares, scale = (scratch.array(name, region.shape, np.float64) for name in ("squares", "scale"))
    varies, also = (scratch.array(name, region.shape, bool) for name in ("varies", "also"))
    smallest = images.smallest_variances
    np.greater(sums[2], smallest[0], out=varies)
    varies &= np.greater(sums[3], smallest[1], out=also)
    varies &= region
    np.multiply(sums[2], sums[3], out=scale)
    # Keeps 0 / 0 out of windows that do not count; all others lie above it.
    np.maximum(scale, max(smallest[0] * smallest[1], np.finfo(float).tiny), out=scale)
    np.square(sums[4], out=squares)
    squares /= scale
    np.minimum(squares, 1, out=squares)
    squares *= varies
    squares.sum(axis=-1, out=out)
    return bool(varies.any())


def _structural_similarities(
    images: _Images, moment: np.ndarray, region: np.ndarray, scratch: Scratch, out: np.ndarray
) -> None:
    """Write row sums of the structural similarities inside the region into `out`; overwrites the moments."""
    first, second = (k * images.dynamic_range for k in (_K1, _K2))
    c1, c2 = max(first * first, np.finfo(float).tiny), max(second * second, np.finfo(float).tiny)
    square = scratch.array("square", region.shape, np.float64)
    fixed, moved, spread, moved_variance, structure = moment
    # Luminance as 1 - (f - m)^2 / (f^2 + m^2 + c1): the usual product of means cancels for a large offset.
    difference = np.subtract(fixed, moved, out=scratch.array("difference", region.shape, np.float64))
    difference += images.centres[0] - images.centres[1]
    np.square(difference, out=difference)
    fixed += images.centres[0]
    moved += images.centres[1]
    scale = np.square(fixed, out=fixed)
    scale += np.square(moved, out=square)
    scale += c1
    difference /= scale
    luminance = np.subtract(1, difference, out=difference)
    structure *= 2
    structure += c2
    spread += moved_variance
    spread += c2
    structure /= spread
    structure *= luminance
    structure *= region
    structure.sum(axis=-1, out=out)
