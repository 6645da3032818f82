"""How regular the map x -> x + u(x) is, from its Jacobian determinants J by central differences.

Conventions: J is the physical determinant (`regbench.alignment`), known at the voxels of the interior, that is
without the outermost layer. Every number exists for the whole interior and for the part of it that lies in the fixed
foreground; the latter has `foreground` in its name. A number over no voxel is NaN.

J is float32, with rounding errors near 1e-7; logarithms, sums and squares are float64. All metrics share one pass
through the field, which holds a few rows of J at a time; `jacobian` adds a second one. Sums are taken row by row and
then over the rows, so that neither slabs nor threads change a bit of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from regbench.alignment import Alignment, jacobian_slab
from regbench.metrics.order_statistics import LowerHalves, UpperHalves
from regbench.slabs import Scratch, map_slabs, row_slabs

_PERCENTS = {"min": 0, "p1": 1, "p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "p99": 99, "max": 100}


@dataclass(frozen=True)
class Region:
    """Number of voxels, of those with J <= 0, mean of J, and the standard deviations of both logarithms."""

    n_voxels: int
    n_folded: int
    mean: float
    spread: float
    spread_learn2reg: float


@dataclass(frozen=True)
class Regularity:
    """What one pass through the field finds; `uppers` is the first look at the values of J."""

    interior: Region
    foreground: Region
    uppers: UpperHalves


def fold_percent(alignment: Alignment) -> dict[str, Any]:
    """Share of voxels with J <= 0 in percent [0, 100], with their number and the number of voxels looked at.

    Central differences overlook folds of single voxels (a checkerboard has none), which `ndv_percent` sees.
    """
    found = alignment.once(regularity)
    return {
        "mean": _percent(found.interior),
        "count": found.interior.n_folded,
        "voxels": found.interior.n_voxels,
        "foreground": _percent(found.foreground),
        "foreground_count": found.foreground.n_folded,
        "foreground_voxels": found.foreground.n_voxels,
    }


def _percent(region: Region) -> float:
    return 100 * region.n_folded / region.n_voxels if region.n_voxels else float("nan")


def sdlogj(alignment: Alignment) -> dict[str, Any]:
    """Standard deviation of log J over voxels with J > 0, and `clipped`, the number of voxels left out."""
    found = alignment.once(regularity)
    return {
        "mean": found.interior.spread,
        "clipped": found.interior.n_folded,
        "foreground": found.foreground.spread,
        "foreground_clipped": found.foreground.n_folded,
    }


def sdlogj_l2r(alignment: Alignment) -> dict[str, Any]:
    """Standard deviation of log clip(J + 3, 1e-9, 1e9), two voxels from each face left out, as Learn2Reg has it.

    The official evaluator has J of the displacements in voxels, which is the same where fixed and moving voxels have
    the same size, and in float64, which makes a difference near 1e-9, even where a quarter of the map folds.
    """
    found = alignment.once(regularity)
    return {"mean": found.interior.spread_learn2reg, "foreground": found.foreground.spread_learn2reg}


def jacobian(alignment: Alignment) -> dict[str, Any]:
    """Mean, extremes and percentiles of J; the latter linear between ranks, and exactly those of the float32 values."""
    found = alignment.once(regularity)
    regions = (found.interior, found.foreground)
    ranks = [_neighbouring_ranks(region.n_voxels) for region in regions]
    places = [found.uppers.find(of_region, in_part=part == 1) for part, of_region in enumerate(ranks)]
    lowers = LowerHalves([place.upper for of_region in places for place in of_region])

    def look(rows: slice, scratch: Scratch) -> None:
        determinants = jacobian_slab(alignment.displacement, rows, scratch)
        lowers.add(determinants, _inside(alignment, rows, scratch), scratch)

    map_slabs(look, row_slabs(_interior(alignment)), alignment.threads)
    values: dict[str, Any] = {}
    for part, region in enumerate(regions):
        at_ranks = [lowers.value(place, in_part=part == 1) for place in places[part]]
        prefix = "foreground_" if part else ""
        values[prefix + "mean"] = region.mean
        values |= {prefix + name: value for name, value in _percentiles(at_ranks, region.n_voxels).items()}
    return values


def _neighbouring_ranks(n: int) -> list[int]:
    """For each percentile the two ranks that it lies between, among n values."""
    if n == 0:
        return []
    below = [percent * (n - 1) // 100 for percent in _PERCENTS.values()]
    return [rank for low in below for rank in (low, min(low + 1, n - 1))]


def _percentiles(at_ranks: list[float], n: int) -> dict[str, float]:
    """The percentiles, from the values at the ranks that they lie between."""
    if n == 0:
        return dict.fromkeys(_PERCENTS, float("nan"))
    found = {}
    for (name, percent), low, high in zip(_PERCENTS.items(), at_ranks[::2], at_ranks[1::2], strict=True):
        found[name] = low + (high - low) * (percent * (n - 1) % 100 / 100)
    return found


def regularity(alignment: Alignment) -> Regularity:
    """All that one pass through the field finds: to be asked for by `alignment.once`."""
    uppers = UpperHalves()

    def look(rows: slice, scratch: Scratch) -> np.ndarray:
        determinants = jacobian_slab(alignment.displacement, rows, scratch)
        inside = _inside(alignment, rows, scratch)
        uppers.add(determinants, inside, scratch)
        with np.errstate(over="ignore", invalid="ignore"):
            return _slab_sums(determinants, inside, _rows_of_learn2reg(alignment, rows), scratch)

    found = map_slabs(look, row_slabs(_interior(alignment)), alignment.threads)
    sums = np.concatenate([np.zeros((0, 3, 2, 3)), *found]).sum(axis=0)
    return Regularity(_region(sums[:, 0].tolist()), _region(sums[:, 1].tolist()), uppers)


def _region(sums: list[list[float]]) -> Region:
    """What number, sum and sum of squares of J, of log J and of the Learn2Reg logarithm say of a region."""
    of_jacobian, of_log, of_learn2reg = sums
    n_voxels, total, _ = of_jacobian
    return Region(
        n_voxels=int(n_voxels),
        n_folded=int(n_voxels - of_log[0]),
        mean=total / n_voxels if n_voxels else float("nan"),
        spread=_deviation(*of_log),
        spread_learn2reg=_deviation(*of_learn2reg),
    )


def _deviation(number: float, total: float, squares: float) -> float:
    """The standard deviation; NaN of no values."""
    if number == 0:
        return float("nan")
    mean = total / number
    return sqrt(max(squares / number - mean * mean, 0.0))


def _interior(alignment: Alignment) -> tuple[int, ...]:
    """The shape of the interior; without any row if it has no voxel."""
    shape = [max(n - 2, 0) for n in alignment.displacement.grid.shape]
    return (0, *shape[1:]) if 0 in shape else tuple(shape)


def _inside(alignment: Alignment, rows: slice, scratch: Scratch) -> np.ndarray:
    """Where rows of the interior are in the foreground, bool in scratch."""
    inner = [slice(1, -1)] * (alignment.foreground.ndim - 1)
    region = alignment.foreground[(slice(rows.start + 1, rows.stop + 1), *inner)]
    inside = scratch.array("inside", region.shape, bool)
    np.copyto(inside, region)
    return inside


def _rows_of_learn2reg(alignment: Alignment, rows: slice) -> slice:
    """Those of some rows of the interior that are two voxels from the faces, counted from the first of them."""
    last = _interior(alignment)[0] - 1
    return slice(max(1 - rows.start, 0), max(min(last, rows.stop) - rows.start, 0))


def _slab_sums(determinants: np.ndarray, inside: np.ndarray, middle: slice, scratch: Scratch) -> np.ndarray:
    """Number, sum and sum of squares by row, everywhere and inside: (rows, 3, 2, 3).

    Of J, of log J where J > 0, and of the Learn2Reg logarithm in the rows in the middle. Rows one
    after the other, so that their float64 arrays stay in the cache.
    """
    sums = np.zeros((len(determinants), 3, 2, 3))
    values = scratch.array("values", determinants.shape[1:], np.float64)
    for row, (of_jacobian, of_log, of_learn2reg) in enumerate(sums):
        np.copyto(values, determinants[row])
        of_jacobian[:] = _sums(values, inside[row], scratch)
        if middle.start <= row < middle.stop:
            of_learn2reg[:] = _learn2reg_sums(values, inside[row], scratch)
        of_log[:] = _log_sums(values, inside[row], scratch)
    return sums


def _learn2reg_sums(values: np.ndarray, inside: np.ndarray, scratch: Scratch) -> list[list[float]]:
    """The sums of log clip(J + 3, 1e-9, 1e9) over a row of J without its outermost voxels."""
    core = (slice(1, -1),) * values.ndim
    # A quarter of it, which moves the logarithms only, to exactly 0 where nothing changes.
    quarters = np.add(values[core], 3, out=scratch.array("quarters", values[core].shape, np.float64))
    quarters *= 0.25
    np.clip(quarters, 0.25e-9, 0.25e9, out=quarters)
    return _sums(np.log(quarters, out=quarters), inside[core], scratch)


def _log_sums(values: np.ndarray, inside: np.ndarray, scratch: Scratch) -> list[list[float]]:
    """The sums of log J over a row of J where J > 0; the row is lost."""
    regular = np.greater(values, 0, out=scratch.array("regular", values.shape, bool))
    n_regular = int(np.count_nonzero(regular))
    if n_regular < values.size:
        # The logarithm 0 adds nothing to sums; numbers leave these voxels out.
        np.copyto(values, 1, where=~regular)
        inside = inside & regular
    sums = _sums(np.log(values, out=values), inside, scratch)
    sums[0][0] = n_regular
    return sums


def _sums(values: np.ndarray, inside: np.ndarray, scratch: Scratch) -> list[list[float]]:
    """Number, sum and sum of squares of float64 values, and the same of those inside."""
    weights = scratch.array("weights", values.shape, np.float64)
    np.copyto(weights, inside)
    weights *= values
    return [
        [values.size, values.sum(), np.einsum("i,i->", values.reshape(-1), values.reshape(-1))],
        [np.count_nonzero(inside), weights.sum(), np.einsum("i,i->", weights.reshape(-1), weights.reshape(-1))],
    ]
