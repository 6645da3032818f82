"""How far every element of one surface is from the nearest element of another: exact, and no distance transform.

Conventions:

- The surface elements of a region (`surface_elements`) sit on the corners of a box of voxels. Corners lie in a flat
  array (`Layout`) with gaps between the lines of the box, so that a neighbour is one sum away, and a step that leads
  out of the box ends in a gap. The array is a ring: in front of its first place is the gap at its end.
- The columns of a surface say, for each corner, how many steps along the first axis its nearest element is away.
  So only steps across columns are tried, shortest first, and an element is done when no longer one can do better.
- The result is the area at each distance, so nothing is sorted. What lies beyond the reach of the steps, in badly
  aligned pairs, is asked of a k-d tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, product
from operator import mul

import numpy as np

from regbench.metrics.surface_reach import NOWHERE, Reach
from regbench.slabs import Scratch

# Steps are tried in groups of about this many look-ups, so that small surfaces are not all overhead.
_GROUP = 1 << 14
# Elements that are done are dropped when they are at least this share of all.
_DROPPED = 0.15


@dataclass(frozen=True)
class DistanceAreas:
    """How much of a surface is how far from another one: `areas` in mm^2 (2-D: mm) at ascending `distances_mm`."""

    distances_mm: np.ndarray
    areas: np.ndarray

    @property
    def total(self) -> float:
        """The area of the surface, summed in the order of `within`, so that all of it is exactly all of it."""
        return float(np.cumsum(self.areas)[-1])

    @property
    def moment(self) -> float:
        """The sum of area times distance."""
        return float((self.areas * self.distances_mm).sum())

    def percentile(self, share: float) -> float:
        """The smallest distance in mm within which that share of the area lies."""
        within = np.cumsum(self.areas)
        # Areas are sums of rounded numbers; a share this near to the wanted one has reached it.
        return float(self.distances_mm[np.searchsorted(within, share * within[-1] * (1 - 1e-12))])

    def within(self, distance_mm: float) -> float:
        """The area that lies within a distance."""
        n = int(np.searchsorted(self.distances_mm, distance_mm, side="right"))
        return float(np.cumsum(self.areas)[n - 1]) if n else 0.0


@dataclass(frozen=True)
class Layout:
    """Where the corners of a box of voxels lie in a flat array of `size` bytes, a multiple of eight.

    `lines` are the lengths of the axes with their gaps, `strides` the ways to the next corner.
    """

    lines: tuple[int, ...]
    strides: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, voxels: Sequence[int], margin: Sequence[int]) -> Layout:
        """The layout of a box with gaps for steps up to `margin` across its columns."""
        lines = tuple(n + 1 + gap for n, gap in zip(voxels, (0, *margin), strict=True))
        strides = (*reversed(list(accumulate(lines[:0:-1], mul))), 1)
        size = lines[0] * strides[0]
        return cls(lines, strides, size + -size % 8)

    def box(self, flat: np.ndarray) -> np.ndarray:
        """The corners with the gaps behind them, of shape `lines`, as a view."""
        return flat[: self.lines[0] * self.strides[0]].reshape(self.lines)

    def points_mm(self, places: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
        """Points (n, ndim) of flat places, from the first corner of the box."""
        return np.stack(np.unravel_index(places, self.lines), axis=-1) * np.array(spacing_mm)


@dataclass(frozen=True)
class Surface:
    """The surface of a region: flat places of its elements, their areas in mm^2, and its columns (flat, uint8)."""

    places: np.ndarray
    areas: np.ndarray
    columns: np.ndarray


def surface_of(region: np.ndarray, layout: Layout, sizes: np.ndarray, scratch: Scratch, name: str) -> Surface:
    """The surface of a region (bool) in a box; `sizes` are areas by code.

    Its columns lie in the scratch under `name`; so they are valid until the next surface of that name.
    """
    codes, border = scratch.array("codes", (layout.size,), np.uint8), scratch.array(name, (layout.size,), np.uint8)
    codes.fill(0)
    layout.box(codes)[tuple(slice(n) for n in region.shape)] = region
    for doublings, stride in enumerate(reversed(layout.strides)):
        # Bits are gathered axis by axis. None leaves its byte, so eight bytes are shifted at once.
        np.left_shift(codes.view(np.uint64), 1 << doublings, out=border.view(np.uint64))
        np.bitwise_or(codes[stride:], border[:-stride], out=codes[stride:])
    # Neither empty (0, which becomes 255) nor full.
    np.subtract(codes, 1, out=border)
    np.less(border, len(sizes) - 2, out=border.view(bool))
    places = _places_of(border)
    _fill_columns(border, layout, scratch)
    return Surface(places, sizes.take(codes.take(places)), border)


def counted_elements(surface: Surface, excluded: np.ndarray, layout: Layout) -> Surface:
    """The surface without its elements at excluded voxels (bool) of its box; its columns stay those of all."""
    touched = np.zeros(layout.lines, bool)
    for corner in product((0, 1), repeat=excluded.ndim):
        touched[tuple(slice(start, start + n) for start, n in zip(corner, excluded.shape, strict=True))] |= excluded
    kept = ~touched.reshape(-1).take(surface.places)
    return Surface(surface.places[kept], surface.areas[kept], surface.columns)


def _places_of(flags: np.ndarray) -> np.ndarray:
    """The places of the few bytes that are 1 in a flat array of zeros, which is skipped in words of eight."""
    words = np.flatnonzero(flags.view(np.uint64))
    inner = np.flatnonzero(flags.reshape(-1, 8)[words].view(bool))
    places = words.take(inner >> 3)
    places <<= 3
    inner &= 7
    places += inner
    return places


def _fill_columns(border: np.ndarray, layout: Layout, scratch: Scratch) -> None:
    """Turn flags of where elements are into steps along the first axis to the nearest element, in place."""
    border -= 1
    border &= NOWHERE
    planes = layout.box(border).reshape(layout.lines[0], -1)
    farther, one = scratch.array("farther", planes.shape[1:], np.uint8), np.uint8(1)
    for order in (planes, planes[::-1]):
        for before, here in pairwise(order):
            np.add(before, one, out=farther)
            np.minimum(here, farther, out=here)


def distance_areas(source: Surface, target: Surface, layout: Layout, reach: Reach) -> DistanceAreas:
    """The area of the source at each distance from the target. Both are in one box; neither is empty."""
    n = len(reach.distances_mm)
    ranks = _ranks(source.places, target.columns, layout, reach)
    areas = np.bincount(ranks, source.areas, n + 1)[:n]
    occurring = np.flatnonzero(areas)
    distances, areas = reach.distances_mm[occurring], areas[occurring]
    far = np.flatnonzero(ranks == n)
    if len(far):
        beyond = _far_mm(source.places[far], target.places, layout, reach.spacing_mm)
        order = np.argsort(beyond, kind="stable")
        distances = np.concatenate((distances, beyond[order]))
        areas = np.concatenate((areas, source.areas[far[order]]))
    return DistanceAreas(distances, areas)


def _ranks(places: np.ndarray, columns: np.ndarray, layout: Layout, reach: Reach) -> np.ndarray:
    """Per place the rank of its distance to the surface of the columns, beyond all ranks where that is too far."""
    steps = reach.steps @ np.array(layout.strides[1:])
    found = best = reach.ranks[0].take(columns.take(places))
    rest = np.arange(len(places))
    shell = 1
    while shell < reach.n_shells:
        open_ = np.flatnonzero(best > reach.ranks[shell, 0])
        if len(open_) <= (1 - _DROPPED) * len(rest):
            found[rest] = best
            rest, places, best = rest.take(open_), places.take(open_), best.take(open_)
        if len(open_) == 0:
            break
        room = reach.starts[shell] + _GROUP // len(places)
        stop = max(int(np.searchsorted(reach.starts, room, side="right")) - 1, shell + 1)
        best = np.minimum(best, _best_rank(places, columns, steps, reach, slice(shell, stop)))
        shell = stop
    found[rest] = best
    return found


def _best_rank(places: np.ndarray, columns: np.ndarray, steps: np.ndarray, reach: Reach, shells: slice) -> np.ndarray:
    """Per place the lowest rank that a step of these shells leads to."""
    starts = reach.starts[shells]
    # Places before the first one are negative, which numpy counts from the end.
    along = columns.take(steps[starts[0] : reach.starts[shells.stop], None] + places)
    if len(starts) == 1:
        return reach.ranks[shells.start].take(along.min(axis=0))
    shortest = np.minimum.reduceat(along, starts - starts[0], axis=0)
    rows = 256 * np.arange(len(starts))[:, None]
    return np.asarray(reach.ranks[shells].ravel().take(rows + shortest).min(axis=0))


def _far_mm(places: np.ndarray, targets: np.ndarray, layout: Layout, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Per place the distance to the nearest target in mm."""
    from scipy.spatial import cKDTree

    # A tree that is not balanced is built in half the time and, for corners of a grid, asked in half the time too.
    tree = cKDTree(layout.points_mm(targets, spacing_mm), balanced_tree=False, compact_nodes=False)
    return np.asarray(tree.query(layout.points_mm(places, spacing_mm))[0])
