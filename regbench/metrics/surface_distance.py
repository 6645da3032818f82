"""Distances between the surfaces of a label in the fixed map and in the moved map, in mm.

The surface of a label is the set of its surface elements on the corner grid (`surface_elements`), each a point
with an area (2-D: a length). An element's distance is that to the nearest element of the other surface. A region
goes on no further than the grid: its surface closes at the faces of the volume. All this is exact.

A label is scored if the fixed map and the moving map (before the warp) both have it; labels of one side only are
NaN and no part of a mean. A scored label that the warp lost is counted in `n_lost`: its surface is infinitely far,
and no share of it is within a tolerance. Elements at excluded voxels (`Alignment.excluded`) are none whose distance
counts, though distances go to them: there the maps end, not the structures. Where a label has no other elements in one
of the maps, it is NaN. Sheared grids are declined, since element areas there are not defined.

The metrics share one computation: how much area of each surface lies at each distance from the other one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any

import numpy as np

from regbench.alignment import Alignment
from regbench.errors import MetricDeclined
from regbench.metrics.surface_elements import element_sizes
from regbench.metrics.surface_reach import reach_of
from regbench.metrics.surface_search import DistanceAreas, Layout, counted_elements, distance_areas, surface_of
from regbench.slabs import Scratch, map_tasks, row_slabs
from regbench.volume import Labels

# The tolerances of NSD beside the 1 mm of its mean.
_MORE_TOLERANCES_MM = {"at_0_5_mm": 0.5, "at_2_mm": 2.0, "at_3_mm": 3.0, "at_5_mm": 5.0}
# Files keep affines to some 7 digits, so that a spacing of 1 mm may read as a little more.
_SPACING_ROUNDING = 1e-5
# find_objects makes a list up to the largest number; labels beyond this one are numbered anew.
_LISTED = 1 << 16

# Where no label exceeds this, boxes come from tables of places by label.
_IN_TABLES = 1 << 10

Box = tuple[slice, ...]


@dataclass(frozen=True)
class SurfacePair:
    """Two surfaces of one label: how far each is from the other."""

    first: DistanceAreas
    second: DistanceAreas

    def percentile(self, share: float) -> float:
        """The larger one of the distances in mm within which that share of either surface lies."""
        return max(self.first.percentile(share), self.second.percentile(share))

    def mean_mm(self) -> float:
        """The mean distance over both surfaces together, by area."""
        return (self.first.moment + self.second.moment) / (self.first.total + self.second.total)

    def share_within(self, distance_mm: float) -> float:
        """The share of both surfaces together that lies within a distance."""
        limit = distance_mm * (1 + _SPACING_ROUNDING)
        return (self.first.within(limit) + self.second.within(limit)) / (self.first.total + self.second.total)


# Per label its surfaces in two maps, or None if one of the maps lacks it.
Surfaces = dict[int, SurfacePair | None]


def hd95_mm(alignment: Alignment) -> dict[str, Any]:
    """95 % surface distance per label in mm, the mean of the finite ones, and `n_lost`.

    The mean is NaN if no label has a finite distance. Raises MetricDeclined on a sheared grid, as all metrics here.
    """
    return _score(alignment, lambda surfaces: surfaces.percentile(0.95), lost=float("inf"))


def assd_mm(alignment: Alignment) -> dict[str, Any]:
    """Average symmetric surface distance per label in mm, the mean of the finite ones, and `n_lost`.

    The mean is NaN if no label has a finite distance.
    """
    return _score(alignment, lambda surfaces: surfaces.mean_mm(), lost=float("inf"))


def nsd(alignment: Alignment) -> dict[str, Any]:
    """Share in [0, 1] of both surfaces of each label within 1 mm of one another, their mean, and `n_lost`.

    Beside it the means for other tolerances, such as `at_0_5_mm`. They are NaN if no label is scored.
    """

    def scores(tolerance_mm: float) -> dict[str, Any]:
        return _score(alignment, lambda surfaces: surfaces.share_within(tolerance_mm), lost=0.0)

    return scores(1.0) | {name: scores(mm)["mean"] for name, mm in _MORE_TOLERANCES_MM.items()}


def _score(alignment: Alignment, measure: Callable[[SurfacePair], float], lost: float) -> dict[str, Any]:
    """A measure of each scored label, `lost` where the warp lost it, and the mean of the finite ones."""
    surfaces = alignment.once(alignment_surfaces)
    values = {label: lost if pair is None else measure(pair) for label, pair in surfaces.items()}
    finite = [value for value in values.values() if isfinite(value)]
    unscored = np.setdiff1d(alignment.scored_labels, list(surfaces)).tolist()
    values |= dict.fromkeys([*unscored, *alignment.absent_labels.tolist()], float("nan"))
    return {
        "mean": float(np.mean(finite)) if finite else float("nan"),
        "per_label": {str(label): values[label] for label in sorted(values)},
        "n_lost": sum(pair is None for pair in surfaces.values()),
    }


def alignment_surfaces(alignment: Alignment) -> Surfaces:
    """The surfaces of the scored labels in the fixed and the moved map, but for those that exclusion leaves none of."""
    fixed, moved = alignment.compared_labels
    assert fixed is not None and moved is not None
    labels = alignment.scored_labels
    if alignment.excluded is not None:
        # What is nowhere outside of the excluded voxels is not lost: it cannot be looked for.
        labels = np.intersect1d(labels, fixed.values)
    return surfaces_of(fixed, moved, labels.tolist(), alignment.threads, alignment.excluded)


def surface_percentiles(
    first: Labels, second: Labels, labels: list[int], share: float, threads: int = 1
) -> dict[int, float]:
    """Per label the distance in mm within which `share` of either surface lies from the other one.

    Both maps are on one grid. Infinite for a label that one of the maps lacks.
    """
    surfaces = surfaces_of(first, second, labels, threads)
    return {label: float("inf") if pair is None else pair.percentile(share) for label, pair in surfaces.items()}


def surfaces_of(
    first: Labels, second: Labels, labels: list[int], threads: int = 1, excluded: np.ndarray | None = None
) -> Surfaces:
    """The surfaces of labels in two maps on one grid, in the order of the labels.

    Elements at `excluded` voxels (bool) do not count; a label that has no others in a map is left out. Raises
    MetricDeclined if the grid is sheared.
    """
    if first.grid.is_sheared:
        raise MetricDeclined(
            f"surface distances: the axes of the fixed grid ({first.grid.describe()}) are not at right angles; "
            "resample the fixed image and its labels onto a grid without shear"
        )
    # Axes at right angles are measured by their spacing alone: equal distances are then equal numbers.
    spacing_mm = tuple(first.grid.spacing_mm.tolist())
    reach, sizes = reach_of(spacing_mm), element_sizes(spacing_mm)
    boxes = _common_boxes(first, second, labels, threads)

    def compare(label: int, scratch: Scratch) -> SurfacePair | None:
        box = boxes[label]
        layout = Layout.of([side.stop - side.start for side in box], reach.margin)
        one, two = (
            surface_of(part.array[box] == label, layout, sizes, scratch, name)
            for part, name in ((first, "first"), (second, "second"))
        )
        seen = one, two
        if excluded is not None:
            seen = counted_elements(one, excluded[box], layout), counted_elements(two, excluded[box], layout)
            if not (len(seen[0].places) and len(seen[1].places)):
                return None
        return SurfacePair(distance_areas(seen[0], two, layout, reach), distance_areas(seen[1], one, layout, reach))

    # The largest first, so that no thread is left with it at the end, and the scratch grows once.
    order = sorted(boxes, key=lambda label: prod(side.stop - side.start for side in boxes[label]), reverse=True)
    found = dict(zip(order, map_tasks(compare, order, threads), strict=True))
    uncounted = [label for label, pair in found.items() if pair is None]
    return {label: found.get(label) for label in labels if label not in uncounted}


def _common_boxes(first: Labels, second: Labels, labels: list[int], threads: int) -> dict[int, Box]:
    """The smallest box that holds a label in both maps, for labels that both maps have."""
    one, two = map_tasks(lambda part, _: _boxes(part), [first, second], threads)
    return {
        label: tuple(
            slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one[label], two[label], strict=True)
        )
        for label in labels
        if label in one and label in two
    }


def _boxes(labels: Labels) -> dict[int, Box]:
    """The bounding box of each label that occurs."""
    from scipy.ndimage import find_objects

    array, values = labels.array, labels.values
    if len(values) and values[-1] < _IN_TABLES:
        return _boxes_of_runs(array, int(values[-1]) + 1)
    if len(values) and values[-1] > _LISTED:
        array = np.searchsorted(values, array, side="right").astype(np.int32)
        return dict(zip(values.tolist(), find_objects(array, len(values)), strict=True))
    return {number: box for number, box in enumerate(find_objects(array), start=1) if box is not None}


def _boxes_of_runs(array: np.ndarray, n: int) -> dict[int, Box]:
    """The bounding box of each label from 1 to n - 1 that occurs, from the runs of equal labels along the last axis."""
    seen = [np.zeros((size, n), bool) for size in array.shape]
    line = array.shape[-1]
    for rows in row_slabs(array.shape):
        part = array[rows]
        new = np.ones(part.shape, bool)
        np.not_equal(part[..., 1:], part[..., :-1], out=new[..., 1:])
        starts = np.flatnonzero(new)
        labels, lines = part.reshape(-1).take(starts), starts // line
        ends = np.append(starts[1:], part.size) - 1
        for places in (starts, ends):
            seen[-1][places - lines * line, labels] = True
        for axis in range(array.ndim - 2, 0, -1):
            lines, before = lines // array.shape[axis], lines
            seen[axis][before - lines * array.shape[axis], labels] = True
        seen[0][rows][lines, labels] = True
    firsts = [hit.argmax(axis=0).tolist() for hit in seen]
    lasts = [(len(hit) - hit[::-1].argmax(axis=0)).tolist() for hit in seen]
    occurring = np.flatnonzero(np.any(seen[0], axis=0))
    return {
        label: tuple(slice(first[label], last[label]) for first, last in zip(firsts, lasts, strict=True))
        for label in occurring.tolist()
        if label > 0
    }
