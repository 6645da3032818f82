"""The steps between the corners of a grid and the distances they make, up to some length.

Distances on a grid come in few values, so one is told by its rank among them. A step is split in two: across columns,
over all axes but the first, and along a column, over the first axis. Steps across of equal length form a shell.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# Steps along a column are counted in bytes; this many stands for "no element in this column".
NOWHERE = 254
# Beyond this many voxels of mean size a tree is faster than trying all steps.
_REACH_VOXELS = 16.0
# Lengths that differ by less (as a share of the longest one) differ by rounding.
_SAME = 1e-9


@dataclass(frozen=True)
class Reach:
    """All steps on a grid up to some length.

    `steps` (k, ndim - 1) are index steps across columns, shortest first; shell i of `n_shells` is the part from
    `starts[i]` to `starts[i + 1]`. No step exceeds `margin`. `ranks` (n_shells, 256) is the place in `distances_mm`
    (n, ascending) of what a shell and a number of steps along the column make together, n where that is too long.
    """

    spacing_mm: tuple[float, ...]
    steps: np.ndarray
    starts: np.ndarray
    margin: tuple[int, ...]
    ranks: np.ndarray
    distances_mm: np.ndarray

    @property
    def n_shells(self) -> int:
        return len(self.ranks)


@lru_cache(maxsize=4)
def reach_of(spacing_mm: tuple[float, ...], voxels: float = _REACH_VOXELS) -> Reach:
    """The steps on a grid with this spacing up to that many voxels of mean size."""
    mean = float(np.prod(spacing_mm) ** (1 / len(spacing_mm)))
    # So that no axis counts further than a byte, and no rank than two.
    longest = min(voxels * mean, (NOWHERE - 1) * min(spacing_mm))
    across = np.array(spacing_mm[1:])
    margin = tuple(int(m) for m in longest / across + _SAME)
    axes = np.meshgrid(*[np.arange(-m, m + 1) for m in margin], indexing="ij")
    steps = np.stack(axes, axis=-1).reshape(-1, len(margin))
    order, shell, lengths = _ascending(np.linalg.norm(steps * across, axis=1), longest)
    along = np.arange(NOWHERE) * spacing_mm[0]
    pairs, rank, distances = _ascending(np.hypot(lengths[:, None], along).ravel(), longest)
    ranks = np.full((len(lengths), 256), len(distances), np.uint16)
    ranks[pairs // NOWHERE, pairs % NOWHERE] = rank
    starts = np.searchsorted(shell, np.arange(len(lengths) + 1))
    return Reach(spacing_mm, steps[order], starts, margin, ranks, distances)


def _ascending(lengths: np.ndarray, longest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The order of the lengths up to the longest, the rank of each in that order, and the length of each rank."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= longest * (1 + _SAME)]
    new = np.diff(lengths[order], prepend=-1.0) > _SAME * longest
    return order, np.cumsum(new) - 1, lengths[order[new]]
