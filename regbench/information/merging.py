"""Coarser label sets made of a given one, to see what of its information is a matter of how finely it is drawn.

- "sides merged": labels whose names differ only in left and right.
- "tissues": cortex, deep grey matter, white matter, CSF, and the rest, where the labels have FreeSurfer's names.
- "random to K": labels put into K classes of nearly equal numbers of labels at random; classes of fewer are
  unions of classes of more. What a merging loses beyond a random one to as many classes, its labels had in intensity.

To merge labels never raises the plain information; the corrected one may rise by a share of its correction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from regbench.datasets.label_sets import without_sides
from regbench.datasets.label_tables import FREESURFER_NAMES, TABLES

CLASSES = (2, 4, 8, 16, 32)
DRAWS = 5
SIDES_MERGED, TISSUES = "sides merged", "tissues"
_MOST_UNKNOWN = 0.2
_Numbered = dict[int, tuple[int, ...]]


def sides_merged(names: Mapping[int, str], present: Sequence[int]) -> _Numbered:
    """Labels by structure whatever their side, under the lowest number of each; {} if names tell no sides."""
    known = {value: names[value] for value in present if value in names}
    groups = without_sides(known)
    if not groups:
        return {}
    others = {value: (value,) for value in present if value not in known}
    return {min(members): tuple(members) for members in groups.values()} | others


def tissues(names: Mapping[int, str], present: Sequence[int]) -> _Numbered:
    """Labels by tissue, what belongs to none of them as one more; {} if too few names are those of FreeSurfer."""
    number_of = {name: number for number, name in FREESURFER_NAMES.items()}
    tissue_of = {n: k for k, group in enumerate(TABLES["freesurfer"].merges["seg4"].values(), 1) for n in group}
    known = {value: number_of[names[value]] for value in present if names.get(value) in number_of}
    if not present or len(present) - len(known) > _MOST_UNKNOWN * len(present):
        return {}
    groups: dict[int, list[int]] = {}
    for value in present:
        groups.setdefault(tissue_of.get(known.get(value, -1), 5), []).append(value)
    return {tissue: tuple(members) for tissue, members in groups.items()} if len(groups) < len(present) else {}


def random_classes(present: Sequence[int], classes: int, seed: int, draw: int) -> _Numbered:
    """Labels in so many random classes of nearly equal numbers of labels; the same labels give the same classes."""
    order = sorted(present, key=lambda value: (_lot(seed, draw, value), value))
    groups: dict[int, list[int]] = {}
    for place, value in enumerate(order):
        groups.setdefault(1 + place * classes // len(order), []).append(value)
    return {number: tuple(members) for number, members in groups.items()}


@lru_cache(maxsize=65536)
def _lot(seed: int, draw: int, value: int) -> float:
    return float(np.random.default_rng([seed, draw, value]).random())
