"""Overlap of the fixed labels with the moved labels, all labels at once from one pass over both maps.

A label is scored if the fixed map and the moving map (before the warp) both have it; labels of one side
only are NaN and no part of the mean. A scored label that the warp lost altogether has no overlap and is counted.
Excluded voxels (`Alignment.excluded`) count in neither map; a label all of whose voxels are there is NaN, too.

With the label warp `soft` the moved map is a share in [0, 1] of every label at every voxel, the one-hot map read
linearly: |M| is the sum of the shares of a label, and |F n M| their sum over the fixed label. With any other label
warp the shares are 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.label_votes import Votes, map_votes
from regbench.slabs import Scratch, map_slabs, row_slabs
from regbench.volume import Labels, label_counts

# The wide integers that bincount makes of so many labels stay inside the cache of one core.
_PIECE = 1 << 16
# Label numbers below this are cells of their own; larger ones are looked up, which is slow.
_OWN_CELL = 1 << 14


class Overlap(NamedTuple):
    """Per label (ascending, without background) the voxels in both maps, in the fixed, and in the moved one."""

    labels: np.ndarray
    both: np.ndarray
    in_fixed: np.ndarray
    in_moved: np.ndarray

    def of(self, labels: np.ndarray) -> Overlap:
        """The overlap of some labels; nothing for those that neither map has."""
        return Overlap(labels, *(_at(labels, self.labels, part) for part in self[1:]))


def dice(alignment: Alignment) -> dict[str, Any]:
    """Dice of each label in [0, 1], their mean, and `n_lost`, the scored labels that the moved map lacks.

    The mean is NaN if no label is scored.
    """
    found = alignment.once(scored_overlap)
    return _report(alignment, found, 2.0 * found.both / (found.in_fixed + found.in_moved))


def jaccard(alignment: Alignment) -> dict[str, Any]:
    """Intersection over union of each label in [0, 1], their mean, and `n_lost`; as for dice."""
    found = alignment.once(scored_overlap)
    return _report(alignment, found, found.both / (found.in_fixed + found.in_moved - found.both))


def volume_similarity(alignment: Alignment) -> dict[str, Any]:
    """Signed volume similarity of each label in [-2, 2], negative where the moved label is smaller, and their mean.

    Beside them `mean_absolute`, in which labels that grew and labels that shrank do not make up for each other, and
    `n_lost`; a lost label has -2.
    """
    found = alignment.once(scored_overlap)
    scores = 2.0 * (found.in_moved - found.in_fixed) / (found.in_fixed + found.in_moved)
    return _report(alignment, found, scores) | {"mean_absolute": _mean(np.abs(scores))}


def _report(alignment: Alignment, found: Overlap, scores: np.ndarray) -> dict[str, Any]:
    per_label = dict(zip(found.labels.tolist(), scores.tolist(), strict=True))
    per_label |= dict.fromkeys(alignment.absent_labels.tolist(), float("nan"))
    return {
        "mean": _mean(scores),
        "per_label": {str(label): per_label[label] for label in sorted(per_label)},
        "n_lost": int(np.count_nonzero((found.in_moved == 0) & (found.in_fixed > 0))),
    }


def _mean(scores: np.ndarray) -> float:
    # NaN is what is left of a label all of which is excluded.
    defined = scores[~np.isnan(scores)]
    return float(defined.mean()) if defined.size else float("nan")


def scored_overlap(alignment: Alignment) -> Overlap:
    """The overlap of an alignment's scored labels, by its label warp."""
    if alignment.label_warp == "soft":
        fixed, moving = alignment.pair.fixed_labels, alignment.pair.moving_labels
        assert fixed is not None and moving is not None
        found = soft_counts(fixed, moving, alignment.displacement, alignment.threads, alignment.excluded)
    else:
        fixed, moved = alignment.compared_labels
        assert fixed is not None and moved is not None
        found = overlap_counts(fixed, moved, alignment.threads)
    return found.of(alignment.scored_labels)


def overlap_counts(fixed: Labels, moved: Labels, threads: int = 1) -> Overlap:
    """The overlap of two label maps on one grid, whole voxels, for the labels of either."""
    cells = _Cells.of(moved)
    ours, theirs = fixed.array.ravel(), moved.array.ravel()

    def count(piece: slice, scratch: Scratch) -> np.ndarray:
        codes = cells.codes(theirs[piece], ours[piece], scratch)
        return label_counts(codes, 2 * cells.n)

    # Each piece returns two cells per label; larger pieces keep all those together smaller than the maps.
    pieces = row_slabs(ours.shape, max(_PIECE, 16 * cells.n))
    return cells.overlap(np.sum(map_slabs(count, pieces, threads), axis=0), fixed)


def soft_counts(
    fixed: Labels, moving: Labels, displacement: Displacement, threads: int = 1, excluded: np.ndarray | None = None
) -> Overlap:
    """The overlap of a label map with the linearly warped one-hot maps of another, for the labels of either.

    Voxels that are excluded (bool of the fixed shape) count in neither.
    """
    cells = _Cells.of(moving)
    if excluded is not None:
        fixed = Labels(np.where(excluded, 0, fixed.array), fixed.grid)

    def count(rows: slice, votes: Votes, scratch: Scratch) -> np.ndarray:
        ours = fixed.array[rows].reshape(-1)
        if excluded is not None:
            votes = _kept_votes(votes, ~excluded[rows].reshape(-1))
        codes = cells.codes(votes.labels.reshape(-1), ours, scratch)
        counts = np.bincount(codes, minlength=2 * cells.n).astype(np.float64)
        counts -= np.bincount(codes[votes.divided], minlength=2 * cells.n)
        ours = ours[votes.divided]
        for candidates, weights in zip(votes.candidates, votes.weights, strict=True):
            counts += np.bincount(cells.codes(candidates, ours, scratch), weights, 2 * cells.n)
        return counts

    return cells.overlap(np.sum(map_votes(count, moving, displacement, threads), axis=0), fixed)


def _kept_votes(votes: Votes, kept: np.ndarray) -> Votes:
    """The votes at voxels that are kept (bool, flat), and for background elsewhere."""
    chosen = kept[votes.divided]
    return Votes(
        votes.labels.reshape(-1) * kept,
        votes.divided[chosen],
        votes.candidates[:, chosen],
        votes.weights[:, chosen],
    )


@dataclass(frozen=True, eq=False)
class _Cells:
    """Cells to count the voxels of a label map in: `n` for its labels, and `n` for those that another map shares.

    Small label numbers are their own cells; `labels` lists the labels where they are large.
    """

    n: int
    labels: np.ndarray | None

    @classmethod
    def of(cls, moved: Labels) -> _Cells:
        top = int(moved.array.max())
        if top < _OWN_CELL:
            return cls(top + 1, None)
        return cls(len(moved.values) + 1, moved.values)

    def codes(self, labels: np.ndarray, others: np.ndarray, scratch: Scratch) -> np.ndarray:
        """The cell of each voxel with one of `labels`, where the other map has `others`."""
        codes = scratch.array("codes", labels.shape, np.uint16 if self.n <= 1 << 15 else np.int64)
        shared = np.equal(labels, others, out=scratch.array("shared", labels.shape, bool))
        np.multiply(shared, self.n, out=codes, dtype=codes.dtype)
        own = labels if self.labels is None else np.searchsorted(self.labels, labels, side="right")
        return np.add(codes, own, out=codes, casting="unsafe")

    def overlap(self, counts: np.ndarray, fixed: Labels) -> Overlap:
        """The overlap with the fixed map that these counts stand for."""
        both = counts[self.n + 1 :]
        in_moved = counts[1 : self.n] + both
        own = np.arange(1, self.n) if self.labels is None else self.labels
        labels = np.union1d(fixed.values, own[in_moved > 0])
        return Overlap(
            labels, _at(labels, own, both), _at(labels, fixed.values, fixed.counts), _at(labels, own, in_moved)
        )


def _at(labels: np.ndarray, listed: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The counts of some labels, 0 for those that are not listed."""
    found = np.zeros(len(labels), counts.dtype)
    _, where, there = np.intersect1d(labels, listed, assume_unique=True, return_indices=True)
    found[where] = counts[there]
    return found
