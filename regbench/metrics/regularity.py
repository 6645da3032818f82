"""How regular the map x -> x + u(x) is, from its Jacobian determinants J by central differences.

Conventions: J is the physical determinant (`regbench.alignment`), known at the voxels of the interior, that is
without the outermost layer. Every number exists for the whole interior and for the part of it that lies in the fixed
foreground; the latter has `foreground` in its name. A number over no voxel is NaN.

J and its logarithms are float32, with rounding errors near 1e-7, which cancel in means over many voxels; sums and
squares are float64. All metrics share one pass through the field, which holds a few rows of J at a time and leaves out
what only metrics need that are not asked for; `jacobian` adds a second one where its percentiles were guessed wrong.
Sums are taken row by row and then over the rows, so that neither slabs nor threads change a bit of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np

from regbench.alignment import Alignment, jacobian_slab
from regbench.metrics.order_statistics import N_HALVES, Kept, LowerHalves, UpperHalves
from regbench.slabs import Scratch, map_slabs, row_slabs

_PERCENTS = {"min": 0, "p1": 1, "p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "p99": 99, "max": 100}
# The metrics that want something of their own.
_PARTS = ("sdlogj", "sdlogj_l2r", "jacobian")
# From so many rows percentiles are guessed, with room for errors of the median by so many percent of the voxels.
_SAMPLED_ROWS = 16
_ROOM_PERCENT = 1.0
# No more than this share of the values of J is kept.
_MOST_KEPT = 0.25


@dataclass(frozen=True)
class Region:
    """Number of voxels, of those with J <= 0, mean of J, and the standard deviations of both logarithms.

    None for what was not asked for.
    """

    n_voxels: int
    n_folded: int
    mean: float | None
    spread: float | None
    spread_learn2reg: float | None


@dataclass(frozen=True)
class Regularity:
    """What one pass through the field finds; `uppers` is the first look at the values of J, `kept` some of them."""

    interior: Region
    foreground: Region
    uppers: UpperHalves
    kept: Kept


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
    found = _shared(alignment, "spread")
    return {
        "mean": found.interior.spread,
        "clipped": found.interior.n_folded,
        "foreground": found.foreground.spread,
        "foreground_clipped": found.foreground.n_folded,
    }


def sdlogj_l2r(alignment: Alignment) -> dict[str, Any]:
    """Standard deviation of log clip(J + 3, 1e-9, 1e9), two voxels from each face left out, as Learn2Reg has it.

    The official evaluator has J of the displacements in voxels, which is the same where fixed and moving voxels have
    the same size, and in float64, which makes a relative difference below 1e-7, even where a quarter of the map folds.
    """
    found = _shared(alignment, "spread_learn2reg")
    return {"mean": found.interior.spread_learn2reg, "foreground": found.foreground.spread_learn2reg}


def jacobian(alignment: Alignment) -> dict[str, Any]:
    """Mean, extremes and percentiles of J; the latter linear between ranks, and exactly those of the float32 values."""
    found = _shared(alignment, "mean")
    regions = (found.interior, found.foreground)
    ranks = [_neighbouring_ranks(region.n_voxels) for region in regions]
    places = [found.uppers.find(of_region, in_part=part == 1) for part, of_region in enumerate(ranks)]
    uppers = [place.upper for of_region in places for place in of_region]
    lowers = found.kept.lowers(uppers) or _second_look(alignment, uppers)
    values: dict[str, Any] = {}
    for part, region in enumerate(regions):
        at_ranks = [lowers.value(place, in_part=part == 1) for place in places[part]]
        prefix = "foreground_" if part else ""
        values[prefix + "mean"] = region.mean
        values |= {prefix + name: value for name, value in _percentiles(at_ranks, region.n_voxels).items()}
    return values


def _shared(alignment: Alignment, part: str) -> Regularity:
    """What one pass finds, with some part of it, even if nobody said before that it would be asked for."""
    found = alignment.once(regularity)
    return found if getattr(found.interior, part) is not None else alignment.once(whole_regularity)


def _second_look(alignment: Alignment, uppers: list[int]) -> LowerHalves:
    """The lower halves of all J behind some upper ones."""
    lowers = LowerHalves(uppers)

    def look(rows: slice, scratch: Scratch) -> None:
        determinants = jacobian_slab(alignment.displacement, rows, scratch)
        lowers.add(determinants, _inside(alignment, rows, scratch), scratch)

    map_slabs(look, row_slabs(_interior(alignment)), alignment.threads)
    return lowers


def _guess(alignment: Alignment) -> np.ndarray:
    """Which upper halves percentiles of J probably have, by some rows of the interior, bool (N_HALVES,)."""
    n_rows = _interior(alignment)[0]
    sample, scratch, sizes = UpperHalves(), Scratch(), np.zeros(2, np.intp)
    for row in range(n_rows // (2 * _SAMPLED_ROWS), n_rows, max(n_rows // _SAMPLED_ROWS, 1)):
        rows = slice(row, row + 1)
        inside = _inside(alignment, rows, scratch)
        sample.add(jacobian_slab(alignment.displacement, rows, scratch), inside, scratch)
        sizes += np.array([inside.size, np.count_nonzero(inside)])
    guessed = np.zeros(N_HALVES, bool)
    for part, size in enumerate(sizes.tolist()):
        for percent in _PERCENTS.values() if size else ():
            room = _ROOM_PERCENT * (percent * (100 - percent)) ** 0.5 / 50
            low, high = (min(max(int(size * end / 100), 0), size - 1) for end in (percent - room, percent + room))
            guessed[sample.between(low, high, in_part=part == 1)] = True
    return guessed


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
    """What one pass through the field finds of what is wanted: to be asked for by `alignment.once`."""
    return _look_through(alignment, frozenset(name for name in _PARTS if alignment.wants(name)))


def whole_regularity(alignment: Alignment) -> Regularity:
    """All that one pass through the field finds: to be asked for by `alignment.once`."""
    return _look_through(alignment, frozenset(_PARTS))


def _look_through(alignment: Alignment, wanted: frozenset[str]) -> Regularity:
    guessed = _guess(alignment) if "jacobian" in wanted else np.zeros(N_HALVES, bool)
    uppers, kept = UpperHalves(), Kept(guessed, int(_MOST_KEPT * prod(_interior(alignment))))

    def look(rows: slice, scratch: Scratch) -> np.ndarray:
        determinants = jacobian_slab(alignment.displacement, rows, scratch)
        inside = _inside(alignment, rows, scratch)
        if "jacobian" in wanted:
            uppers.add(determinants, inside, scratch)
            kept.add(determinants, inside, scratch)
        with np.errstate(over="ignore", invalid="ignore"):
            return _slab_sums(determinants, inside, _rows_of_learn2reg(alignment, rows), wanted, scratch)

    found = map_slabs(look, row_slabs(_interior(alignment)), alignment.threads)
    sums = np.concatenate([np.zeros((0, 3, 2, 3)), *found]).sum(axis=0)
    interior, foreground = (_region(sums[:, part].tolist(), wanted) for part in (0, 1))
    return Regularity(interior, foreground, uppers, kept)


def _region(sums: list[list[float]], wanted: frozenset[str]) -> Region:
    """What number, sum and sum of squares of J, of log J and of the Learn2Reg logarithm say of a region."""
    (n_voxels, total, _), of_log, of_learn2reg = sums
    mean = total / n_voxels if n_voxels else float("nan")
    return Region(
        n_voxels=int(n_voxels),
        n_folded=int(n_voxels - of_log[0]),
        mean=mean if "jacobian" in wanted else None,
        spread=_deviation(*of_log) if "sdlogj" in wanted else None,
        spread_learn2reg=_deviation(*of_learn2reg) if "sdlogj_l2r" in wanted else None,
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


def _slab_sums(
    determinants: np.ndarray, inside: np.ndarray, middle: slice, wanted: frozenset[str], scratch: Scratch
) -> np.ndarray:
    """Number, sum and sum of squares by row, everywhere and inside, of what is wanted: (rows, 3, 2, 3).

    Of J (without squares), of log J where J > 0, and of the Learn2Reg logarithm in the rows in the middle. The
    determinants are lost. Rows one after the other, so that their float64 arrays stay in the cache.
    """
    sums = np.zeros((len(determinants), 3, 2, 3))
    for row, (of_jacobian, of_log, of_learn2reg) in enumerate(sums):
        values = determinants[row]
        of_jacobian[:, 0] = values.size, np.count_nonzero(inside[row])
        if "jacobian" in wanted:
            of_jacobian[:] = _sums(values, inside[row], scratch)
        if "sdlogj_l2r" in wanted and middle.start <= row < middle.stop:
            of_learn2reg[:] = _learn2reg_sums(values, inside[row], scratch)
        of_log[:] = _log_sums(values, inside[row], "sdlogj" in wanted, scratch)
    return sums


def _learn2reg_sums(values: np.ndarray, inside: np.ndarray, scratch: Scratch) -> list[list[float]]:
    """The sums of log clip(J + 3, 1e-9, 1e9) over a row of J without its outermost voxels."""
    core = (slice(1, -1),) * values.ndim
    # A quarter of it, which moves the logarithms only, to exactly 0 where nothing changes.
    quarters = np.add(values[core], 3, out=scratch.array("quarters", values[core].shape))
    quarters *= 0.25
    np.clip(quarters, 0.25e-9, 0.25e9, out=quarters)
    return _sums(np.log(quarters, out=quarters), inside[core], scratch)


def _log_sums(values: np.ndarray, inside: np.ndarray, squares: bool, scratch: Scratch) -> list[list[float]]:
    """The sums of log J over a row of J where J > 0, or only the numbers; the row is lost."""
    regular = np.greater(values, 0, out=scratch.array("regular", values.shape, bool))
    n_regular = int(np.count_nonzero(regular))
    if n_regular < values.size:
        # The logarithm 0 adds nothing to sums; numbers leave these voxels out.
        np.copyto(values, 1, where=~regular)
        inside = inside & regular
    if not squares:
        return [[n_regular, 0.0, 0.0], [int(np.count_nonzero(inside)), 0.0, 0.0]]
    sums = _sums(np.log(values, out=values), inside, scratch)
    sums[0][0] = n_regular
    return sums


def _sums(values: np.ndarray, inside: np.ndarray, scratch: Scratch) -> list[list[float]]:
    """Number, sum and sum of squares in float64 of values, and the same of those inside."""
    wide = scratch.array("wide", values.shape, np.float64)
    np.copyto(wide, values)
    weighted = np.multiply(wide, inside, out=scratch.array("weighted", values.shape, np.float64))
    flat, part = wide.reshape(-1), weighted.reshape(-1)
    return [
        [values.size, flat.sum(), np.einsum("i,i->", flat, flat)],
        [np.count_nonzero(inside), part.sum(), np.einsum("i,i->", part, flat)],
    ]
