"""Label maps moved by votes: every corner of the moving cell around a point votes for its label.

The weight of a corner is that of linear interpolation, so the votes for a label are what its one-hot map, read
linearly, says at that point; no such map is ever made. Rules:

- Background is a label like any other.
- A point outside the moving grid, in the sense of `regbench.warp`, has one vote, for background.
- The label with most votes wins, the smaller number where two have the same.

Where all corners agree, and they do nearly everywhere, there is nothing to count: only the points between labels
are looked at closely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np

from regbench.displacement import Displacement
from regbench.slabs import Scratch, map_slabs
from regbench.volume import Labels
from regbench.warp import Places, clip_to_grid, lower_corner

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Votes:
    """The votes at the voxels of some rows of the fixed grid.

    `labels` (rows, *shape[1:]) is right wherever the corners agree. The flat indices of the other voxels are
    `divided` (m,), and their corners have `candidates` (2^ndim, m) with `weights` (2^ndim, m) float64 that sum to 1.
    """

    labels: np.ndarray
    divided: np.ndarray
    candidates: np.ndarray
    weights: np.ndarray


def warp_labels_linear(moving: Labels, displacement: Displacement, threads: int = 1) -> Labels:
    """The label that has most votes at each voxel of the displacement's grid."""
    out = np.empty(displacement.grid.shape, moving.array.dtype)

    def work(rows: slice, votes: Votes, scratch: Scratch) -> None:
        np.copyto(out[rows], votes.labels)
        out[rows].reshape(-1)[votes.divided] = winners(votes.candidates, votes.weights, scratch)

    map_votes(work, moving, displacement, threads)
    return Labels(out, displacement.grid, moving.names)


def map_votes(
    work: Callable[[slice, Votes, Scratch], T], moving: Labels, displacement: Displacement, threads: int = 1
) -> list[T]:
    """The results of `work(rows, votes, scratch)` for all slabs of the fixed grid, in their order.

    The arrays of the votes are used again for the next slab.
    """
    places = Places.displaced(moving.grid, displacement)

    def count(rows: slice, scratch: Scratch) -> T:
        return work(rows, _votes(moving.array, places.coordinates(rows, scratch), scratch), scratch)

    return map_slabs(count, places.slabs(), threads)


def _votes(array: np.ndarray, coordinates: list[np.ndarray], scratch: Scratch) -> Votes:
    inside = clip_to_grid(coordinates, array.shape, scratch)
    base, steps = lower_corner(coordinates, array.shape, scratch)
    flat = array.reshape(-1)
    labels, other = (scratch.array(name, base.shape, array.dtype) for name in ("labels", "other"))
    differs, differ = (scratch.array(name, base.shape, bool) for name in ("differs", "differ"))
    flat.take(base, out=labels, mode="wrap")
    differ[...] = False
    offsets = [sum(corner) for corner in product(*((0, step) for step in steps))]
    for offset in offsets[1:]:
        flat[offset:].take(base, out=other, mode="wrap")
        differ |= np.not_equal(labels, other, out=differs)
    differ &= inside
    if not inside.all():
        np.copyto(labels, 0, where=np.logical_not(inside, out=inside))
    divided = np.flatnonzero(differ)
    candidates = scratch.array("candidates", (len(offsets), len(divided)), array.dtype)
    at = base.reshape(-1).take(divided)
    for offset, votes in zip(offsets, candidates, strict=True):
        flat[offset:].take(at, out=votes, mode="wrap")
    return Votes(labels, divided, candidates, _weights(coordinates, divided, scratch))


def _weights(fractions: list[np.ndarray], points: np.ndarray, scratch: Scratch) -> np.ndarray:
    """Weights (2^ndim, m) of the corners of the cells around some points, those of the last axis running fastest."""
    weights = scratch.array("weights", (2 ** len(fractions), len(points)), np.float64)
    weights[...] = 1.0
    for axis, fraction in enumerate(fractions):
        upper = fraction.reshape(-1).take(points)
        halves = weights.reshape(2**axis, 2, 2 ** (len(fractions) - axis - 1), len(points))
        halves[:, 0] *= 1.0 - upper
        halves[:, 1] *= upper
    return weights


def winners(candidates: np.ndarray, weights: np.ndarray, scratch: Scratch) -> np.ndarray:
    """The candidate (2^ndim, m) with the largest sum of weights at each of m points; the smaller of two that tie."""
    best, most = candidates[0].copy(), np.zeros(candidates.shape[1])
    total, share = (scratch.array(name, most.shape, np.float64) for name in ("total", "share"))
    same = scratch.array("same", most.shape, bool)
    for corner in range(len(candidates)):
        # The first corner of a label gathers the whole of its votes, a later one less, which harms nothing.
        np.copyto(total, weights[corner])
        for other in range(corner + 1, len(candidates)):
            np.equal(candidates[corner], candidates[other], out=same)
            total += np.multiply(weights[other], same, out=share)
        wins = (total > most) | ((total == most) & (candidates[corner] < best))
        np.copyto(best, candidates[corner], where=wins)
        np.copyto(most, total, where=wins)
    return best
