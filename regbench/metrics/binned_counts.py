"""Voxels counted by intensity bin and label: several ways of binning from one pass over an image, and exactly.

Kinds of bins:

- "width": bin k begins at low + k (high - low) / bins, over the range of the voxels looked at; the highest intensity
  belongs to the last bin.
- "clipped": the same between two percentiles of the voxels looked at, 0.5 and 99.5, found to within a cell (below);
  what lies outside belongs to the first and the last bin.
- "frequency": bin k holds the intensities with floor(bins r / n) = k, where n is the number of voxels looked at and
  r is the middle rank of the intensity: the voxels below it and half of those equal to it. So equal intensities
  stay together, and no strictly rising map of the intensities changes any bin.

Bins are nested: those of 64 are those of 256, four and four together.

To sort an image for its ranks would take most of the time. Instead voxels are counted once by label and by one of
some thousand cells of intensity, which are in order. All voxels of a cell are in one bin, unless a limit between
bins lies in that cell; the intensities of these few mixed cells are listed. A cell usually holds one intensity many
times (background, images of 8 bits) or many intensities a few times, so that those equal to the typical one of
their cell, known from a sample, need not be listed either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from regbench.slabs import Scratch, map_tasks, row_slabs

Kind = Literal["frequency", "width", "clipped"]

_MOST_CELLS, _FEWEST_CELLS = 8192, 256
# Counts by cell and label; so many labels that they would not fit into the cache get fewer cells.
_MOST_COUNTS = 1 << 19
_SAMPLE = 1 << 16
# What "clipped" leaves to the first and the last bin on either side.
_CLIPPED_SHARE = 0.005
# Voxels to count at once: every time the table is gone through as a whole.
_COUNTED_AT_ONCE = 1 << 19
# Label maps whose numbers end below this use them as columns as they are.
_FEW = 64
# Label numbers up to this are turned into columns by a table.
_TABLE = 1 << 20


@dataclass(frozen=True)
class Binning:
    """A way of binning: its kind, the number of bins, and whether voxels of label 0 are left out.

    Where `among` is given, only voxels with one of these labels are looked at. `exact=False` takes the intensities of
    a cell as one where no exact binning divides it: bins are off by less than a cell, and cost next to nothing.
    """

    kind: Kind = "frequency"
    bins: int = 64
    labelled_only: bool = False
    among: tuple[int, ...] | None = None
    exact: bool = True


@dataclass(frozen=True, eq=False)
class JointCounts:
    """Voxels by intensity bin and label: int64 (bins, labels), and the `labels` that the columns stand for,
    ascending; some of them may not occur."""

    counts: np.ndarray
    labels: np.ndarray


def binned_counts(
    intensities: np.ndarray, labels: np.ndarray, binnings: Sequence[Binning], threads: int = 1
) -> list[np.ndarray]:
    """Per binning the voxels by intensity bin and label, int64 (bins, labels); columns of absent labels are 0.

    `intensities` are finite float32 and `labels` integers, of the same size and not empty; labels are columns in
    ascending order.
    """
    return [found.counts for found in joint_counts(intensities, labels, binnings, threads)]


def joint_counts(
    intensities: np.ndarray, labels: np.ndarray, binnings: Sequence[Binning], threads: int = 1
) -> list[JointCounts]:
    """The counts of `binned_counts` with the labels of their columns, per binning."""
    intensities, labels = intensities.ravel(), labels.ravel()
    columns = _Columns(labels)
    cells = _Cells.of(intensities, max(min(_MOST_COUNTS // len(columns), _MOST_CELLS), _FEWEST_CELLS))
    voxels = _Voxels(intensities, labels, cells, columns)
    counts = _cell_counts(voxels, threads)
    regions = [_Region.of(voxels, counts, binning) for binning in binnings]
    listed = _Listed.of(voxels, np.any([region.mixed for region in regions], axis=0), threads)
    # The rest of a cell has one intensity or lies in one bin: with running sums a bin is one difference.
    counts -= np.bincount(listed.cells[listed.which] * len(columns) + listed.columns, minlength=counts.size).reshape(
        counts.shape
    )
    rest = np.zeros((cells.count + 1, len(columns)), np.int64)
    np.cumsum(counts, axis=0, out=rest[1:])
    return [JointCounts(_table(region, rest, listed, cells), columns.values[region.chosen]) for region in regions]


@dataclass(frozen=True, eq=False)
class _Cells:
    """So many cells of intensity, and `typical`, an intensity of each, float32, NaN where the sample has none."""

    count: int
    low: np.float32
    scale: np.float32
    typical: np.ndarray

    @classmethod
    def of(cls, intensities: np.ndarray, count: int) -> _Cells:
        sample = np.sort(intensities[:: max(intensities.size // _SAMPLE, 1) | 1])
        # Cells span what is common, so that an outlier does not put everything else into one cell.
        low, high = sample[sample.size // 1000], sample[-1 - sample.size // 1000]
        if low == high:
            low, high = intensities.min(), intensities.max()
        width = float(high) - float(low)
        scale = np.float32(min(count / width, 1e38) if width > 0 else 0)
        typical = np.full(count, np.nan, np.float32)
        values, times = np.unique(sample, return_counts=True)
        # The last one that is written stays: the one most often seen.
        values = values[np.argsort(times, kind="stable")]
        typical[cls(count, low, scale, typical).number(values)] = values
        return cls(count, low, scale, typical)

    def number(self, values: np.ndarray) -> np.ndarray:
        """The cells of intensities, intp, 0 to count - 1."""
        return self.scaled(values, np.empty(values.shape, np.float32)).astype(np.intp)

    def scaled(self, values: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write float32 numbers that never fall where intensities rise, the cells but for their fractions."""
        with np.errstate(over="ignore"):
            np.subtract(values, self.low, out=out)
            out *= self.scale
        return np.clip(out, 0, self.count - 1, out=out)


class _Columns:
    """The columns of labels: their places among `values`, ascending label numbers of which all that occur are some."""

    def __init__(self, labels: np.ndarray) -> None:
        low, high = int(labels.min()), int(labels.max())
        self._table: np.ndarray | None = None
        self._plain = low >= 0 and high < _FEW
        if self._plain:
            self.values = np.arange(high + 1)
        elif low >= 0 and high < _TABLE:
            present = np.zeros(high + 1, bool)
            for part in row_slabs(labels.shape):
                present[labels[part]] = True
            self.values = np.flatnonzero(present)
            self._table = np.cumsum(present, dtype=np.float32) - 1
        else:
            self.values = np.unique(labels)

    def __len__(self) -> int:
        return len(self.values)

    def of(self, labels: np.ndarray) -> np.ndarray:
        """The columns of labels as whole numbers of any type."""
        if self._plain:
            return labels
        return np.searchsorted(self.values, labels) if self._table is None else self._table[labels]

    def chosen(self, binning: Binning) -> np.ndarray:
        """Which columns a binning looks at, bool (columns,)."""
        chosen = (self.values != 0) | (not binning.labelled_only)
        return chosen if binning.among is None else chosen & np.isin(self.values, binning.among)


@dataclass(frozen=True, eq=False)
class _Voxels:
    """All voxels, (n,) intensities and labels, with the cells and columns that they are counted by."""

    intensities: np.ndarray
    labels: np.ndarray
    cells: _Cells
    columns: _Columns

    def parts(self, threads: int) -> list[slice]:
        """One stretch of voxels per thread."""
        step = max(-(-self.intensities.size // max(threads, 1)), 1)
        n = self.intensities.size
        return [slice(start, min(start + step, n)) for start in range(0, n, step)]

    def slabs(self, part: slice, *others: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        """Intensities and labels of a stretch, and other arrays of its length, bit by bit."""
        arrays = (self.intensities[part], self.labels[part], *others)
        for rows in row_slabs(arrays[0].shape):
            yield tuple(array[rows] for array in arrays)


def _cell_counts(voxels: _Voxels, threads: int) -> np.ndarray:
    """Voxels by cell and column, int64 (cells, columns)."""
    shape = voxels.cells.count, len(voxels.columns)

    def work(part: slice, scratch: Scratch) -> np.ndarray:
        total = np.zeros(shape[0] * shape[1], np.int64)
        for rows in row_slabs((part.stop - part.start,), _COUNTED_AT_ONCE):
            whole = slice(part.start + rows.start, part.start + rows.stop)
            indices = scratch.array("indices", (rows.stop - rows.start,), np.intp)
            for intensities, labels, at in voxels.slabs(whole, indices):
                # Whole numbers in float32 are quicker than integers; in float64 where float32 would not hold them.
                kind = np.float32 if total.size < 1 << 24 else np.float64
                cells = voxels.cells.scaled(intensities, scratch.array("cells", intensities.shape))
                np.trunc(cells, out=cells)
                codes = np.multiply(cells, shape[1], out=scratch.array("codes", intensities.shape, kind), dtype=kind)
                codes += voxels.columns.of(labels)
                at[...] = codes
            total += np.bincount(indices, minlength=total.size)
        return total

    return np.sum(map_tasks(work, voxels.parts(threads), threads), axis=0).reshape(shape)


@dataclass(frozen=True, eq=False)
class _Region:
    """The voxels that one binning looks at: their columns, how many lie in each cell, and which cells are mixed.

    `limits` are the lowest intensities of the second and later bins of equal width, None for bins of equal frequency.
    """

    binning: Binning
    chosen: np.ndarray
    voxels: np.ndarray
    limits: np.ndarray | None
    mixed: np.ndarray

    @classmethod
    def of(cls, voxels: _Voxels, counts: np.ndarray, binning: Binning) -> _Region:
        chosen = voxels.columns.chosen(binning)
        inside = counts.sum(axis=1) - counts[:, ~chosen].sum(axis=1)
        if binning.kind != "frequency":
            ends = _range(voxels, binning) if binning.kind == "width" else _common_range(voxels.cells, inside)
            limits = _width_limits(*ends, binning.bins)
            mixed = np.zeros(voxels.cells.count, bool)
            mixed[voxels.cells.number(limits)] = binning.exact
            return cls(binning, chosen, inside, limits, mixed)
        below, n = np.cumsum(inside) - inside, int(inside.sum())
        first, last = (_frequency_bins(at, 1, n, binning.bins) for at in (below, below + inside - 1))
        return cls(binning, chosen, inside, None, (inside > 0) & (first != last) & binning.exact)


def _range(voxels: _Voxels, binning: Binning) -> tuple[float, float]:
    """The lowest and the highest intensity that a binning looks at; (inf, -inf) if there is none."""
    low, high = np.inf, -np.inf
    inside = voxels.columns.chosen(binning)
    for intensities, labels in voxels.slabs(slice(None)):
        if inside.all():
            chosen = intensities
        elif binning.among is None:
            chosen = intensities[labels != 0]
        else:
            chosen = intensities[inside[voxels.columns.of(labels).astype(np.intp)]]
        if chosen.size:
            low, high = min(low, float(chosen.min())), max(high, float(chosen.max()))
    return low, high


def _common_range(cells: _Cells, voxels: np.ndarray) -> tuple[float, float]:
    """The percentiles that "clipped" lies between: limits of cells, which hold so many voxels; (inf, -inf) if none."""
    n = int(voxels.sum())
    if n == 0 or cells.scale == 0:
        return np.inf, -np.inf
    up_to = np.cumsum(voxels)
    first = int(np.searchsorted(up_to, _CLIPPED_SHARE * n, side="right"))
    last = int(np.searchsorted(up_to, (1 - _CLIPPED_SHARE) * n, side="left"))
    low, step = float(cells.low), 1 / float(cells.scale)
    return low + first * step, low + (last + 1) * step


def _width_limits(low: float, high: float, bins: int) -> np.ndarray:
    """The lowest intensities of bins 1 to bins - 1 among float32 numbers, ascending; none if there is no range."""
    if not low < high:
        return np.zeros(0, np.float32)
    # Multiplied first: limits that are whole numbers come out as such.
    limits = low + np.arange(1, bins) * (high - low) / bins
    rounded = limits.astype(np.float32)
    return np.where(rounded < limits, np.nextafter(rounded, np.float32(np.inf)), rounded)


def _frequency_bins(below: np.ndarray, equal: np.ndarray | int, voxels: int, bins: int) -> np.ndarray:
    """Bins of intensities with so many voxels below and equal to them, in whole numbers."""
    return np.minimum(bins * (2 * below + equal) // max(2 * voxels, 1), bins - 1)


@dataclass(frozen=True, eq=False)
class _Listed:
    """The voxels of mixed cells whose intensity is not the typical one of the cell.

    `values` are the different intensities, ascending, and `cells` their cells; for each listed voxel, by rising
    intensity, `which` is the place of its intensity among them, and `columns` the column of its label. `mixed` are
    the cells looked at.
    """

    mixed: np.ndarray
    values: np.ndarray
    cells: np.ndarray
    which: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, voxels: _Voxels, mixed: np.ndarray, threads: int) -> _Listed:
        def work(part: slice, scratch: Scratch) -> list[tuple[np.ndarray, np.ndarray]]:
            return [_untypical(voxels, mixed, (values, labels), scratch) for values, labels in voxels.slabs(part)]

        found = [slab for part in map_tasks(work, voxels.parts(threads), threads) for slab in part]
        intensities, columns = (np.concatenate(side) for side in zip(*found, strict=True))
        order = np.argsort(intensities)
        intensities = intensities[order]
        new = np.ones(intensities.size, bool)
        np.not_equal(intensities[1:], intensities[:-1], out=new[1:])
        values = intensities[new]
        return cls(mixed, values, voxels.cells.number(values), np.cumsum(new) - 1, columns[order])


def _untypical(
    voxels: _Voxels, mixed: np.ndarray, slab: tuple[np.ndarray, np.ndarray], scratch: Scratch
) -> tuple[np.ndarray, np.ndarray]:
    """Intensities and columns of the voxels to list among those of a slab, given by intensities and labels."""
    intensities, labels = slab
    cells = scratch.array("indices", intensities.shape, np.intp)
    cells[...] = voxels.cells.scaled(intensities, scratch.array("cells", intensities.shape))
    hit = np.take(mixed, cells, out=scratch.array("hit", cells.shape, bool), mode="wrap")
    places = np.flatnonzero(hit)
    places = places[intensities[places] != voxels.cells.typical[cells[places]]]
    return intensities[places], voxels.columns.of(labels[places]).astype(np.intp)


def _table(region: _Region, rest: np.ndarray, listed: _Listed, cells: _Cells) -> np.ndarray:
    """Voxels by bin and chosen column: the listed ones, and the rest by differences of its running sums."""
    which, columns = listed.which, listed.columns
    if not region.chosen.all():
        inside = region.chosen[columns]
        which, columns = which[inside], columns[inside]
    if region.limits is None:
        listed_bins, rest_bins = _bins_by_rank(region, np.bincount(which, minlength=len(listed.values)), listed, cells)
    else:
        listed_bins, rest_bins = _bins_by_value(region.limits, listed, cells)
    bins, width = region.binning.bins, len(region.chosen)
    table = np.bincount(listed_bins[which] * width + columns, minlength=bins * width).reshape(bins, width)
    # Bins never fall from cell to cell.
    table += np.diff(rest[np.searchsorted(rest_bins, np.arange(bins + 1))], axis=0)
    return table[:, region.chosen]


def _bins_by_rank(region: _Region, equal: np.ndarray, listed: _Listed, cells: _Cells) -> tuple[np.ndarray, np.ndarray]:
    """Bins of equal frequency of the listed intensities, of which there are `equal`, and of the rest of each cell."""
    below_cell = np.cumsum(region.voxels) - region.voxels
    ends = np.searchsorted(listed.cells, np.arange(cells.count + 1))
    first, last, home, typical = ends[:-1], ends[1:], listed.cells, cells.typical
    so_far = np.concatenate([[0], np.cumsum(equal)])
    rest = region.voxels - (so_far[last] - so_far[first])
    below = (
        below_cell[home] + so_far[:-1] - so_far[first[home]] + np.where(typical[home] < listed.values, rest[home], 0)
    )
    # A cell of no typical intensity has no rest, and its NaN would be sorted behind everything.
    place = np.clip(np.searchsorted(listed.values, typical), first, last)
    below_rest = below_cell + so_far[place] - so_far[first]
    n, bins = int(region.voxels.sum()), region.binning.bins
    return _frequency_bins(below, equal, n, bins), _frequency_bins(below_rest, rest, n, bins)


def _bins_by_value(limits: np.ndarray, listed: _Listed, cells: _Cells) -> tuple[np.ndarray, np.ndarray]:
    """Bins of equal width of the listed intensities, and of the rest of each cell."""
    by_cell = np.searchsorted(cells.number(limits), np.arange(cells.count), side="right")
    by_value = np.searchsorted(limits, cells.typical, side="right")
    rest = np.where(listed.mixed & ~np.isnan(cells.typical), by_value, by_cell)
    return np.searchsorted(limits, listed.values, side="right"), rest
