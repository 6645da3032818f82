"""Exact order statistics of float32 values that are seen block by block and never held together.

The bits of a float32, read as an integer, grow with its size. A first look at all values counts the upper halves of
these integers; so it is known which upper half a rank lies in, and how many values lie before that. A second look
counts the lower halves behind the few upper ones that are asked for. Both tables are small whatever the values are.
Each value may also belong to a part of all values, which is counted beside them.

Where upper halves can be guessed, the values behind them are kept in the first look, and the second one is at these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from regbench.slabs import Scratch

_HALF = 16
N_HALVES = 1 << _HALF
_NEGATIVE = 1 << (_HALF - 1)
# All upper halves from minus infinity upwards: those with the bit of the sign, which come the larger the lower.
_UPWARDS = np.concatenate([np.arange(N_HALVES - 1, _NEGATIVE - 1, -1), np.arange(_NEGATIVE)])


@dataclass(frozen=True)
class Rank:
    """Where the value of a rank (0 is the smallest) is found: its upper half, and its rank among those who share it."""

    upper: int
    within: int


class UpperHalves:
    """How often each upper half occurs, and how often in the part: what the first look finds."""

    def __init__(self) -> None:
        self._counts = np.zeros((N_HALVES, 2), np.int64)
        self._lock = Lock()

    def add(self, values: np.ndarray, part: np.ndarray, scratch: Scratch) -> None:
        """Counts contiguous float32 values, of which those where `part` (bool) is true belong to the part."""
        halves = _upper_halves(values, scratch)
        halves <<= 1
        halves |= part.reshape(-1)
        codes = scratch.array("codes", halves.shape, np.intp)
        np.copyto(codes, halves)
        counts = np.bincount(codes)
        # Threads may come in any order: whole numbers add up to the same.
        with self._lock:
            self._counts.reshape(-1)[: counts.size] += counts

    def find(self, ranks: Sequence[int], in_part: bool) -> list[Rank]:
        """Where the values of these ranks are, among all values or among those of the part."""
        ends = np.cumsum(_of_part(self._counts, in_part)[_UPWARDS])
        places = np.searchsorted(ends, ranks, side="right")
        starts = np.concatenate([[0], ends])[places]
        return [Rank(int(_UPWARDS[k]), rank - int(n)) for k, rank, n in zip(places, ranks, starts, strict=True)]

    def between(self, low: int, high: int, in_part: bool) -> np.ndarray:
        """The upper halves from that of a rank to that of a higher one; all below rank 0, and all above the last."""
        counts = _of_part(self._counts, in_part)[_UPWARDS]
        ends = np.cumsum(counts)
        first, last = np.searchsorted(ends, [low, high], side="right")
        return _UPWARDS[first if low > 0 else 0 : last + 1 if high < ends[-1] - 1 else N_HALVES]


class Kept:
    """The values that have some of the upper halves (bool), from a first look; nothing if they are more than `most`."""

    def __init__(self, uppers: np.ndarray, most: int) -> None:
        self._guessed = uppers
        self._room = most
        self._blocks: list[tuple[np.ndarray, np.ndarray]] = []
        self._lock = Lock()

    def add(self, values: np.ndarray, part: np.ndarray, scratch: Scratch) -> None:
        """Keeps the values that were guessed to matter; arguments as in the first look."""
        if self._room < 0:
            return
        halves = _upper_halves(values, scratch)
        hit = np.take(self._guessed, halves, out=scratch.array("hit", halves.shape, bool), mode="wrap")
        places = np.flatnonzero(hit)
        block = values.reshape(-1).take(places), part.reshape(-1).take(places)
        with self._lock:
            self._room -= places.size
            self._blocks.append(block)
            if self._room < 0:
                self._blocks.clear()

    def lowers(self, uppers: Sequence[int]) -> LowerHalves | None:
        """The second look at all values with these upper halves, or None if not all of them were kept."""
        if self._room < 0 or not self._guessed[list(uppers)].all():
            return None
        found, scratch = LowerHalves(uppers), Scratch()
        for values, part in self._blocks:
            found.add(values, part, scratch)
        return found


class LowerHalves:
    """How often each lower half occurs behind chosen upper ones: what the second look finds."""

    def __init__(self, uppers: Sequence[int]) -> None:
        self._uppers = sorted(set(uppers))
        self._slots = np.full(N_HALVES, len(self._uppers), np.uint8)
        self._slots[self._uppers] = np.arange(len(self._uppers))
        self._counts = np.zeros((len(self._uppers), N_HALVES, 2), np.int32)
        self._lock = Lock()

    def add(self, values: np.ndarray, part: np.ndarray, scratch: Scratch) -> None:
        """Counts the values whose upper half is among the chosen ones; arguments as in the first look."""
        halves = _upper_halves(values, scratch)
        slots = np.take(self._slots, halves, out=scratch.array("slots", halves.shape, np.uint8), mode="wrap")
        chosen = np.flatnonzero(slots < len(self._uppers))
        codes = slots[chosen].astype(np.intp)
        codes <<= _HALF
        codes |= values.reshape(-1)[chosen].view(np.uint32) & np.uint32(N_HALVES - 1)
        codes <<= 1
        codes |= part.reshape(-1)[chosen]
        with self._lock:
            np.add.at(self._counts.reshape(-1), codes, np.int32(1))

    def value(self, rank: Rank, in_part: bool) -> float:
        """The value of a rank, exactly."""
        counts = _of_part(self._counts[self._uppers.index(rank.upper)], in_part)
        if rank.upper >= _NEGATIVE:
            lower = N_HALVES - 1 - np.searchsorted(np.cumsum(counts[::-1]), rank.within, side="right")
        else:
            lower = np.searchsorted(np.cumsum(counts), rank.within, side="right")
        return float(np.array((rank.upper << _HALF) | int(lower), np.uint32).view(np.float32))


def _upper_halves(values: np.ndarray, scratch: Scratch) -> np.ndarray:
    """The upper halves of the bits of float32 values, flattened, uint32 in scratch."""
    bits = values.reshape(-1).view(np.uint32)
    return np.right_shift(bits, _HALF, out=scratch.array("upper halves", bits.shape, np.uint32))


def _of_part(counts: np.ndarray, in_part: bool) -> np.ndarray:
    """The counts of the part, or of all values, out of counts of others and of the part (n, 2)."""
    return counts[:, 1] if in_part else counts.sum(axis=1)
