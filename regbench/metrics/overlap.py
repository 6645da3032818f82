"""Overlap of the fixed labels with the moved labels, all labels at once from one contingency table.

A label is scored if the fixed map and the moving map (before the warp) both have it; labels of one side
only are NaN and no part of the mean. A scored label that the warp lost altogether scores 0 and is counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from regbench.alignment import Alignment
from regbench.volume import Labels

_CHUNK = 1 << 16


def dice(alignment: Alignment) -> dict[str, Any]:
    """Dice of each label in [0, 1], their mean, and `n_lost`, the scored labels that the moved map lacks.

    The mean is NaN if no label is scored.
    """
    fixed, moved = alignment.pair.fixed_labels, alignment.moved_labels
    assert fixed is not None and moved is not None
    values, both, in_fixed, in_moved = overlap_counts(fixed, moved)
    scores = 2.0 * both / np.maximum(in_fixed + in_moved, 1)
    by_label = dict(zip(values.tolist(), scores.tolist(), strict=True))
    scored = alignment.scored_labels.tolist()
    per_label = {label: by_label[label] for label in scored}
    per_label |= dict.fromkeys(alignment.absent_labels.tolist(), float("nan"))
    return {
        "mean": float(np.mean([by_label[label] for label in scored])) if scored else float("nan"),
        "per_label": {str(label): per_label[label] for label in sorted(per_label)},
        "n_lost": len(set(scored) - set(moved.values.tolist())),
    }


def overlap_counts(first: Labels, second: Labels) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels of either map, and per label the voxels in both maps, in the first, and in the second."""
    values = np.union1d(first.values, second.values)
    table = contingency(first, second, values)
    return values, np.diag(table)[1:], table.sum(axis=1)[1:], table.sum(axis=0)[1:]


def contingency(first: Labels, second: Labels, values: np.ndarray) -> np.ndarray:
    """Voxel counts (K+1, K+1) of label i of the first map with label j of the second; index 0 is background.

    `values` are the K labels of both maps, ascending; all of them must be listed.
    """
    n = len(values) + 1
    counts = np.zeros(n * n, dtype=np.int64)
    a, b = first.array.ravel(), second.array.ravel()
    position = _position_table(values)
    # Chunks keep the wide integers that bincount wants inside the cache.
    for start in range(0, a.size, _CHUNK):
        rows = _positions(a[start : start + _CHUNK], values, position)
        columns = _positions(b[start : start + _CHUNK], values, position)
        counts += np.bincount(rows * n + columns, minlength=n * n)
    return counts.reshape(n, n)


def _position_table(values: np.ndarray) -> np.ndarray | None:
    """Position of each label by its number, or None where label numbers are too large for a table."""
    top = int(values[-1]) if len(values) else 0
    if top >= 1 << 20:
        return None
    table = np.zeros(top + 1, dtype=np.intp)
    table[values] = np.arange(1, len(values) + 1)
    return table


def _positions(labels: np.ndarray, values: np.ndarray, table: np.ndarray | None) -> np.ndarray:
    if table is not None:
        return table[labels]
    found = np.searchsorted(values, labels, side="right")
    return np.asarray(found, dtype=np.intp)
