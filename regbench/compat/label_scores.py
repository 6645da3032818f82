"""Scores from label maps: Dice, HD95 in voxels, and the distance of landmark centroids.

A label is scored if the fixed and the (unwarped) moving map have it, else it is NaN; one that the warp lost has
Dice 0 and an infinite HD95. Label 0 is a label like any other where a config lists it. All maps are as held by
`compat.files`, on grids of 1 mm, so that mm are voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from regbench.metrics.overlap import overlap_counts
from regbench.metrics.surface_distance import surface_percentiles
from regbench.slabs import Scratch, map_slabs, row_slabs
from regbench.volume import Labels

_SLAB_POINTS = 1 << 16


@dataclass(frozen=True, eq=False)
class ListedLabels:
    """The fixed and the moved map with the labels of a list counted from 1, everything else 0."""

    labels: tuple[int, ...]
    fixed: Labels
    moved: Labels
    present: frozenset[int]
    threads: int = 1

    @classmethod
    def of(cls, fixed: Labels, moving: Labels, field: np.ndarray, labels: Sequence[int], threads: int) -> ListedLabels:
        """Each label once, ascending; `field` is (3, *fixed shape) in voxels."""
        values = np.unique(labels)
        one, two = _numbered(fixed.array, values), _numbered(moving.array, values)
        # Outside of the moving map is background, which has a number of its own where 0 is listed.
        outside = 1 if values[0] == 0 else 0
        moved = pulled_back(two, field, outside, threads)
        listed = Labels(one, fixed.grid)
        present = np.intersect1d(listed.values, Labels(two, moving.grid).values)
        return cls(tuple(values.tolist()), listed, Labels(moved, fixed.grid), frozenset(present.tolist()), threads)

    def dice(self, label: int) -> float:
        """Dice of a label, NaN if it is not scored."""
        number = self._number(label)
        return self._overlaps[number] if number in self.present else float("nan")

    def hd95(self, label: int) -> float:
        """The 95 % surface distance of a label in voxels, NaN if it is not scored, infinite if it was lost."""
        return self._distances.get(self._number(label), float("nan"))

    def _number(self, label: int) -> int:
        return self.labels.index(label) + 1

    @cached_property
    def _overlaps(self) -> dict[int, float]:
        numbers, both, in_fixed, in_moved = overlap_counts(self.fixed, self.moved, self.threads)
        return dict(zip(numbers.tolist(), (2 * both / (in_fixed + in_moved)).tolist(), strict=True))

    @cached_property
    def _distances(self) -> dict[int, float]:
        return surface_percentiles(self.fixed, self.moved, sorted(self.present), 0.95, self.threads)


def _numbered(array: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The place of every label in the ascending `values`, from 1; 0 for what is not listed."""
    kind = np.uint8 if len(values) < 256 else np.uint16
    top = int(array.max()) if array.size else 0
    if top <= len(values) and values[0] == 1 and values[-1] == len(values):
        # Numbered so already, with nothing else in the map.
        return array.astype(kind, copy=False)
    if top >= 1 << 20:
        place = np.searchsorted(values, array)
        listed = values[np.minimum(place, len(values) - 1)] == array
        return np.where(listed, place + 1, 0).astype(kind)
    numbers = np.zeros(top + 1, kind)
    inside = values <= top
    numbers[values[inside]] = np.flatnonzero(inside) + 1
    return numbers.take(array)


def pulled_back(moving: np.ndarray, field: np.ndarray, outside: int = 0, threads: int = 1) -> np.ndarray:
    """The moving map read at i + field[:, i] from the nearest voxel (halves up), on the field's grid.

    What lies outside [0, n - 1] by any amount is `outside`. `regbench.warp` grants the faces a tolerance, which
    the official evaluators do not; that and millimetres are why this is not done there.
    """
    out = np.empty(field.shape[1:], moving.dtype)
    flat = np.ascontiguousarray(moving).ravel()

    def work(rows: slice, scratch: Scratch) -> None:
        shape = (rows.stop - rows.start, *out.shape[1:])
        place, nearest = scratch.array("place", shape, np.intp), scratch.array("nearest", shape, np.intp)
        coordinate = scratch.array("coordinate", shape, np.float64)
        lost, beyond = scratch.array("lost", shape, bool), scratch.array("beyond", shape, bool)
        place.fill(0)
        lost.fill(False)
        leaves = False
        for axis, n in enumerate(moving.shape):
            np.add(field[axis, rows], _indices(axis, rows, out.shape), out=coordinate, dtype=np.float64)
            # Most slabs stay inside along most axes, which two passes tell more cheaply than the masks.
            if coordinate.min() < 0 or coordinate.max() > n - 1:
                leaves = True
                np.logical_or(lost, np.less(coordinate, 0, out=beyond), out=lost)
                np.logical_or(lost, np.greater(coordinate, n - 1, out=beyond), out=lost)
                np.clip(coordinate, 0, n - 1, out=coordinate)
            np.add(coordinate, 0.5, out=coordinate)
            np.copyto(nearest, coordinate, casting="unsafe")
            np.multiply(place, n, out=place)
            np.add(place, nearest, out=place)
        flat.take(place, out=out[rows], mode="clip")
        if leaves:
            np.copyto(out[rows], outside, where=lost)

    map_slabs(work, row_slabs(out.shape, _SLAB_POINTS), threads)
    return out


def _indices(axis: int, rows: slice, shape: tuple[int, ...]) -> np.ndarray:
    """Voxel indices along an axis for some rows of the first one, to be broadcast."""
    numbers = np.arange(rows.start, rows.stop) if axis == 0 else np.arange(shape[axis])
    return numbers.astype(np.float64).reshape([-1 if a == axis else 1 for a in range(len(shape))])


def centroid_errors(fixed: Labels, moving: Labels, field: np.ndarray, threads: int = 1) -> np.ndarray:
    """Distances in voxels between the centroids of each fixed landmark and of the same one moved, (n,).

    NaN for a landmark of the fixed map that the moved map lacks.
    """
    moved = pulled_back(moving.array, field, 0, threads)
    ends = [_centroids(array, fixed.values) for array in (fixed.array, moved)]
    distances: np.ndarray = np.linalg.norm(ends[1] - ends[0], axis=1)
    return distances


def _centroids(array: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean index (n, 3) of each label; NaN where there is none."""
    places = np.nonzero(array)
    found = array[places]
    order = np.minimum(np.searchsorted(labels, found), len(labels) - 1) if len(labels) else found[:0].astype(np.intp)
    known = labels[order] == found if len(labels) else order.astype(bool)
    counts = np.bincount(order[known], minlength=len(labels)).astype(np.float64)
    sums = [np.bincount(order[known], weights=p[known], minlength=len(labels)) for p in places]
    with np.errstate(invalid="ignore"):
        return np.stack([s / counts for s in sums], axis=-1)
