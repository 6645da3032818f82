"""Arrays of a training in memory: all of them, or the latest that fit, the others read again when they are needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

# The parts of a scan or a pair by name; a part that there is not is missing.
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Use:
    """What of a dataset is used, and how: `limit_mib` of memory (None: all of it), labels of `labelled` subjects alone
    if given, `labelled_share` of the pairs among these, the known displacement where `truth` is asked for."""

    limit_mib: int | None = None
    labelled: tuple[str, ...] | None = None
    labelled_share: float = 0.5
    truth: bool = False

    def facts(self) -> dict[str, Any]:
        """The labelled subjects, for the card."""
        return {} if self.labelled is None else {"labelled": list(self.labelled)}


class Kept:
    """What `load` returns for a key, kept up to `limit_mib` (None: without limit)."""

    def __init__(self, load: Callable[[str], Arrays], limit_mib: int | None) -> None:
        self._load = load
        self._limit = None if limit_mib is None else limit_mib << 20
        self._arrays: OrderedDict[str, Arrays] = OrderedDict()
        self._size = 0

    @property
    def is_lazy(self) -> bool:
        return self._limit is not None

    def __getitem__(self, key: str) -> Arrays:
        if key in self._arrays:
            self._arrays.move_to_end(key)
            return self._arrays[key]
        found = self._load(key)
        self._arrays[key] = found
        self._size += _size(found)
        while self._limit is not None and self._size > self._limit and len(self._arrays) > 1:
            self._size -= _size(self._arrays.popitem(last=False)[1])
        return found

    def fill(self, keys: Iterable[str], what: str, message: Callable[[str], None]) -> None:
        """Loads everything there is, unless it is lazy."""
        keys = list(keys)
        if self.is_lazy:
            return
        for i, key in enumerate(keys):
            self[key]
            if (i + 1) % 16 == 0 or i + 1 == len(keys):
                message(f"{what.format(i + 1, len(keys))} ready")


def _size(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())


def label_values(maps: Iterable[np.ndarray]) -> np.ndarray:
    """The labels of some maps, without the background 0."""
    found: set[int] = set()
    for labels in maps:
        found.update(int(value) for value in np.unique(labels))
    return np.array(sorted(found - {0}), dtype=np.int64)


def torch_labels(labels: np.ndarray) -> np.ndarray:
    """A label map in a type that torch knows."""
    known = (np.uint8, np.int8, np.int16, np.int32, np.int64)
    return labels if labels.dtype in known else labels.astype(np.int32)
