"""Volumes worked through in slabs of the first axis, with memory that lives on from slab to slab, on some threads.

Arrays of a few megabytes made anew for every step of every slab cost more than the arithmetic: the system hands
out fresh pages and clears them. So each thread has one `Scratch`, and steps write into its arrays (`out=`).
Results come in the order of the slabs, each of which one thread works on alone, so that the number of threads
changes no bit of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

# A few float32 arrays of this many elements stay inside the cache of one core.
SLAB_POINTS = 1 << 17


class Scratch:
    """Arrays by name whose memory is used again; each is about as large as the largest that was asked for."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, str], np.ndarray] = {}

    def array(self, name: str, shape: Sequence[int], dtype: Any = np.float32) -> np.ndarray:
        """An array of any content, valid until the same name and type are asked for again."""
        kind, size = np.dtype(dtype), prod(shape)
        buffer = self._buffers.get((name, kind.str))
        if buffer is None or buffer.size < size:
            # With room to grow: sizes that rise slab by slab would take fresh memory every time.
            room = 0 if buffer is None else buffer.size * 3 // 2
            buffer = self._buffers[name, kind.str] = np.empty(max(size, room), kind)
        return buffer[:size].reshape(shape)


def row_slabs(shape: Sequence[int], n_points: int = SLAB_POINTS) -> Iterator[slice]:
    """Slices of the first axis of an array that hold about `n_points` elements each, and one row at least."""
    per_row = max(prod(shape[1:]), 1)
    step = max(n_points // per_row, 1)
    for start in range(0, shape[0], step):
        yield slice(start, min(start + step, shape[0]))


def boxes_around(region: np.ndarray, margin: int, n_points: int = SLAB_POINTS) -> list[tuple[slice, ...]]:
    """Boxes that hold every voxel up to `margin` voxels along each axis from a region (bool), one per slab at most.

    They do not overlap, and tell nothing but what is near in rows and columns: much is left out of round regions.
    """
    axes = range(1, region.ndim)
    hits = [np.asarray(region.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
    of_rows = np.asarray(hits[0].any(axis=1))
    boxes = []
    for rows in row_slabs(region.shape, n_points):
        near = slice(max(rows.start - margin, 0), rows.stop + margin)
        in_rows = near.start + np.flatnonzero(of_rows[near])
        if in_rows.size == 0:
            continue
        found = [in_rows, *(np.flatnonzero(hit[near].any(axis=0)) for hit in hits)]
        limits = [rows, *(slice(0, n) for n in region.shape[1:])]
        boxes.append(
            tuple(
                slice(max(int(places[0]) - margin, limit.start), min(int(places[-1]) + 1 + margin, limit.stop))
                for places, limit in zip(found, limits, strict=True)
            )
        )
    return boxes


def map_slabs(work: Callable[[slice, Scratch], T], slabs: Iterator[slice], threads: int = 1) -> list[T]:
    """The results of `work(rows, scratch)` for all slabs, in their order, whatever the number of threads."""
    return map_tasks(work, list(slabs), threads)


def map_tasks(work: Callable[[Any, Scratch], T], tasks: Sequence[Any], threads: int = 1) -> list[T]:
    """The results of `work(task, scratch)` for independent tasks, in their order."""
    if threads <= 1 or len(tasks) <= 1:
        scratch = Scratch()
        return [work(task, scratch) for task in tasks]
    own = threading.local()

    def with_scratch(task: Any) -> T:
        if not hasattr(own, "scratch"):
            own.scratch = Scratch()
        return work(task, own.scratch)

    with ThreadPoolExecutor(min(threads, len(tasks))) as pool:
        return list(pool.map(with_scratch, tasks))
