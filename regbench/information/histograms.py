"""Joint histograms of one image and its labels: every number of bins, mask and merging from one pass over the voxels.

Bins are nested (see `regbench.metrics.binned_counts`), so that fewer ones are sums of those of an exact histogram, and
merged labels are sums of columns: tables are added up, voxels are not looked at again. Binnings for comparison only
are counted to within a cell of intensity (there are thousands), since exact limits of all of them would cost as much
as reading the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from regbench.metrics.binned_counts import Binning, JointCounts, joint_counts
from regbench.volume import Image, Labels

Groups = Mapping[int, Sequence[int]]


class Histograms:
    """The joint histograms of an image and its labels in some binnings, counted at once, without excluded voxels."""

    def __init__(
        self, image: Image, labels: Labels, binnings: Iterable[Binning], excluded: Labels | None = None
    ) -> None:
        self._source: dict[Binning, Binning] = {}
        # The finest exact ones first, so that what can be summed up from them is.
        for one in sorted(dict.fromkeys(binnings), key=lambda one: (not one.exact, -one.bins)):
            finer = (other for other in self._source.values() if _sums_up(other, one))
            self._source[one] = next(finer, one)
        counted = list(dict.fromkeys(self._source.values()))
        arrays = image.array, labels.array
        if excluded is not None:
            arrays = arrays[0][excluded.array == 0], arrays[1][excluded.array == 0]
        self._found = dict(zip(counted, joint_counts(*arrays, counted), strict=True))

    def of(self, binning: Binning) -> JointCounts:
        """The histogram in one of the binnings asked for."""
        found = self._found[self._source[binning]]
        counts = found.counts.reshape(binning.bins, len(found.counts) // binning.bins, len(found.labels)).sum(axis=1)
        return JointCounts(counts, found.labels)


def _sums_up(finer: Binning, wanted: Binning) -> bool:
    """Whether the bins of one binning are sums of those of another, at least as exact as asked for."""
    same = replace(finer, bins=wanted.bins, exact=wanted.exact) == wanted
    return same and finer.bins % wanted.bins == 0 and (finer.exact or not wanted.exact)


def merged(found: JointCounts, groups: Groups) -> JointCounts:
    """The histogram with the labels of each group as one, all others as background; as it is without groups."""
    if not groups:
        return found
    new_of = {old: new for new, members in groups.items() for old in members}
    numbers = np.array([new_of.get(int(old), 0) for old in found.labels], dtype=np.int64)
    labels, columns = np.unique(numbers, return_inverse=True)
    counts = np.zeros((len(labels), len(found.counts)), np.int64)
    np.add.at(counts, columns, found.counts.T)
    return JointCounts(counts.T, labels)


def occurring(found: JointCounts) -> JointCounts:
    """The histogram without columns of labels that no voxel has."""
    there = found.counts.any(axis=0)
    return JointCounts(found.counts[:, there], found.labels[there])
