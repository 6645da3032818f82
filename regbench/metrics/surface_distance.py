"""Distances between the surfaces of a label in the fixed map and in the moved map, in mm.

The surface of a label is the set of its surface elements on the corner grid (`surface_elements`), each a point
with an area. An element's distance is that to the nearest element of the other surface. The percentile of a
direction is the smallest distance within which that share of the surface area lies; HD95 is the larger one of
both directions. A region goes on no further than the grid: its surface closes at the faces of the volume.

Distances come in few values (those between corners of a grid), so no distance transform is needed: offsets
are tried in the order of their length, and an element is done at its first hit. What lies farther than the
longest offset goes to a k-d tree, as far as the answer depends on it. All this is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from regbench.alignment import Alignment
from regbench.metrics.surface_elements import element_sizes
from regbench.volume import Grid, Labels

# Offsets up to 6 voxels of mean size: about 900 in 3-D, where a tree begins to be faster.
_REACH_VOXELS = 6.0
# Elements farther than that are taken together in blocks of this many corners along each axis.
_BLOCK = 4
# Areas are sums of rounded numbers; a share this near to the wanted one has reached it.
_ROUNDING = 1e-12

Box = tuple[slice, ...]
Shells = list[tuple[float, np.ndarray]]


def hd95_mm(alignment: Alignment) -> dict[str, Any]:
    """95 % surface distance per label in mm, the mean of the finite ones, and `n_lost`.

    A label that only one of fixed and (unwarped) moving map has is NaN; one that the warp lost is infinite,
    counted in `n_lost`, and no part of the mean. The mean is NaN if no label has a finite distance.
    """
    fixed, moved = alignment.pair.fixed_labels, alignment.moved_labels
    assert fixed is not None and moved is not None
    distances = surface_percentiles(fixed, moved, alignment.scored_labels.tolist(), 0.95)
    finite = [d for d in distances.values() if np.isfinite(d)]
    n_lost = len(distances) - len(finite)
    distances |= dict.fromkeys(alignment.absent_labels.tolist(), float("nan"))
    return {
        "mean": float(np.mean(finite)) if finite else float("nan"),
        "per_label": {str(label): distances[label] for label in sorted(distances)},
        "n_lost": n_lost,
    }


def surface_percentiles(first: Labels, second: Labels, labels: list[int], share: float) -> dict[int, float]:
    """Per label the distance in mm within which `share` of either surface lies from the other one.

    Both maps are on one grid. Infinite for a label that one of the maps lacks.
    """
    ruler = _Ruler.of(first.grid)
    boxes = [_label_boxes(part, labels) for part in (first, second)]
    result = {}
    for label in labels:
        one, two = boxes[0].get(label), boxes[1].get(label)
        if one is None or two is None:
            result[label] = float("inf")
            continue
        box = _union(one, two)
        result[label] = ruler.percentile(first.array[box] == label, second.array[box] == label, share)
    return result


@dataclass(frozen=True)
class _Ruler:
    """Distances and areas on one grid: its steps in mm (columns), element areas by code, and shells of offsets."""

    steps: np.ndarray
    sizes: np.ndarray
    shells: Shells
    margin: np.ndarray

    @classmethod
    def of(cls, grid: Grid) -> _Ruler:
        # Axes at right angles are measured by their spacing alone: equal distances are then equal numbers.
        steps = grid.linear if grid.is_sheared else np.diag(grid.spacing_mm)
        reach_mm = _REACH_VOXELS * abs(grid.determinant) ** (1 / grid.ndim)
        # The largest index step along an axis among all vectors of this length.
        margin = np.floor(reach_mm * np.linalg.norm(np.linalg.inv(steps), axis=1) + 1e-9).astype(int)
        return cls(steps, element_sizes(steps), _shells(steps, margin, reach_mm), margin)

    def percentile(self, first: np.ndarray, second: np.ndarray, share: float) -> float:
        """The larger of the two directed percentile distances between two regions in a box, bool arrays."""
        one, two = (_Surface.of(_corner_codes(region, self.margin), self.sizes) for region in (first, second))
        return max(self._directed(one, two, share), self._directed(two, one, share))

    def _directed(self, source: _Surface, target: _Surface, share: float) -> float:
        """The smallest distance within which `share` of the source's area lies from the target."""
        places, areas = source.places, source.areas
        strides = [int(np.prod(target.border.shape[axis + 1 :])) for axis in range(target.border.ndim)]
        border = target.border.ravel()
        wanted = share * float(areas.sum()) * (1 - _ROUNDING)
        reached = 0.0
        for distance, offsets in self.shells:
            hit = np.zeros(len(places), bool)
            for offset in (offsets @ strides).tolist():
                hit |= border[places + offset]
            reached += float(areas[hit].sum())
            if reached >= wanted:
                return distance
            places, areas = places[~hit], areas[~hit]
        return self._far(places, areas, target, wanted - reached)

    def _far(self, places: np.ndarray, areas: np.ndarray, target: _Surface, wanted: float) -> float:
        """The smallest distance within which the area `wanted` lies from the target, for elements at flat `places`.

        Distances to the middles of blocks bound those of the elements within; only those between which the answer
        may lie are measured.
        """
        from scipy.spatial import cKDTree

        shape = target.border.shape
        tree = cKDTree(self._points(np.unravel_index(target.places, shape)))
        indices = np.unravel_index(places, shape)
        blocks, members = np.unique(np.ravel_multi_index([i // _BLOCK for i in indices], shape), return_inverse=True)
        middle = [i * _BLOCK + (_BLOCK - 1) / 2 for i in np.unravel_index(blocks, shape)]
        to_middle = tree.query(self._points(middle))[0][members]
        radius = self.block_radius_mm
        lowest = _percentile(to_middle, areas, wanted) - radius
        highest = lowest + 2 * radius
        near = to_middle + radius < lowest
        open_ = ~near & (to_middle - radius <= highest)
        distances = tree.query(self._points([i[open_] for i in indices]))[0]
        return _percentile(distances, areas[open_], wanted - float(areas[near].sum()))

    @cached_property
    def block_radius_mm(self) -> float:
        """The longest way from the middle of a block to one of its corners, a little rounded up."""
        half = (_BLOCK - 1) / 2
        ways = [self.steps @ np.array(signs) * half for signs in product((-1, 1), repeat=len(self.steps))]
        return float(np.linalg.norm(ways, axis=1).max()) * (1 + 1e-9)

    def _points(self, indices: Sequence[np.ndarray]) -> np.ndarray:
        """Points (n, ndim) in mm of voxel indices, one array per axis."""
        return np.stack(indices, axis=-1) @ self.steps.T


def _percentile(distances: np.ndarray, areas: np.ndarray, wanted: float) -> float:
    """The smallest distance within which the area `wanted` lies, or the largest there is."""
    order = np.argsort(distances, kind="stable")
    place = int(np.searchsorted(np.cumsum(areas[order]), wanted))
    return float(distances[order[min(place, len(order) - 1)]])


@dataclass(frozen=True)
class _Surface:
    """The surface of a region in a box: where its elements are (bool, and flat indices) and their areas in mm^2."""

    border: np.ndarray
    places: np.ndarray
    areas: np.ndarray

    @classmethod
    def of(cls, codes: np.ndarray, sizes: np.ndarray) -> _Surface:
        border = (codes != 0) & (codes != len(sizes) - 1)
        places = np.flatnonzero(border)
        return cls(border, places, sizes[codes.ravel()[places]])


def _shells(steps: np.ndarray, margin: np.ndarray, reach_mm: float) -> Shells:
    """Index offsets (n, ndim) of each length up to the reach, shortest first."""
    axes = np.meshgrid(*[np.arange(-m, m + 1) for m in margin], indexing="ij")
    offsets = np.stack(axes, axis=-1).reshape(-1, len(margin))
    lengths = np.linalg.norm(offsets @ steps.T, axis=1)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= reach_mm]
    starts = np.flatnonzero(np.diff(lengths[order], prepend=-1.0) > 1e-9 * reach_mm)
    return [(float(lengths[group[0]]), offsets[group]) for group in np.split(order, starts[1:])]


def _corner_codes(region: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """Neighbour codes at the corners of a region, uint8 of shape n + 1 + 2 margin, 0 in the margin."""
    codes: np.ndarray = np.pad(region.view(np.uint8), 1)
    # Bits are gathered axis by axis: pairs along the last axis, then pairs of pairs.
    for axis in reversed(range(region.ndim)):
        lower = tuple(slice(None, -1) if a == axis else slice(None) for a in range(region.ndim))
        upper = tuple(slice(1, None) if a == axis else slice(None) for a in range(region.ndim))
        codes = (codes[lower] << (1 << (region.ndim - 1 - axis))) | codes[upper]
    return np.pad(codes, [(m, m) for m in margin])


def _label_boxes(labels: Labels, wanted: list[int]) -> dict[int, Box]:
    """The bounding box of each wanted label that occurs."""
    from scipy.ndimage import find_objects

    array = labels.array
    top = int(labels.values[-1]) if len(labels.values) else 0
    numbers = list(range(1, top + 1))
    if top > 4096:
        # find_objects makes a list up to the largest number.
        array = np.asarray(np.searchsorted(labels.values, array, side="right"), dtype=np.int32)
        numbers = labels.values.tolist()
    boxes = dict(zip(numbers, find_objects(array, max_label=len(numbers)), strict=True))
    return {label: box for label in wanted if (box := boxes.get(label)) is not None}


def _union(one: Box, two: Box) -> Box:
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, two, strict=True))
