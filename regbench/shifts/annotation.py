"""Conditions that change labels and nothing else: the images, the truth and so every registration stay as they were.

What changes under them is what a score asks, not what a method does. So they tell apart what the information of the
intensities about labels does to Dice and what the registration does. Labels are drawn anew for a subject, not for a
pair: a subject has the same labels in all of its pairs, but where a class says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError
from regbench.pair import Pair
from regbench.shifts.sides import StrengthShift, draws, sides_of
from regbench.volume import Grid, Labels
from regbench.warp import sample_displacement

# Waves of which a random field is the sum: enough that it looks like a Gaussian one.
_WAVES = 32
_VOXELS_AT_ONCE = 1 << 17


@dataclass(frozen=True)
class MergedLabels(StrengthShift):
    """Labels merged at random into classes of about `strength` labels each, alike in all subjects; 1 keeps them all.

    Which labels become one depends on their numbers and on the seed alone, and classes of few labels are parts of
    those of twice as many. Where a dataset names its labels the classes are made of all of them, else of those that
    the pair has. There are at least two classes. Labels of one image cannot be merged without those of the other.
    """

    strength: float = 4.0

    name: ClassVar[str] = "merge_labels"
    neutral: ClassVar[float] = 1.0
    least: ClassVar[float] = 1.0
    most: ClassVar[float] = 1000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.on != "both":
            raise ConfigError(
                f"conditions.{self.name}: on is {self.on}; labels are merged in both images, so leave it out"
            )

    def changed_pair(self, pair: Pair, seed: int) -> Pair:
        """The pair with coarser labels; the pair itself if one side has none."""
        if pair.fixed_labels is None or pair.moving_labels is None:
            return pair
        maps = (pair.fixed_labels, pair.moving_labels)
        present = sorted({int(v) for one in maps for v in np.unique(one.array) if v > 0})
        known = sorted({int(v) for one in maps for v in one.names if v > 0} | set(present))
        classes = max(2, round(len(known) / self.strength))
        class_of = _classes(known, classes, seed) if classes < len(known) else {v: v for v in known}
        table = np.zeros(max(known, default=0) + 1, np.int32)
        table[list(class_of)] = list(class_of.values())
        names = {number: f"class {number}" for number in sorted(set(class_of.values()))}
        fixed, moving = (Labels(table[one.array], one.grid, names) for one in maps)
        return replace(pair, fixed_labels=fixed, moving_labels=moving)


def _classes(known: Sequence[int], classes: int, seed: int) -> dict[int, int]:
    """The class of each label, classes being of nearly equal numbers of labels."""
    lots = {value: draws(seed, MergedLabels.name, "", str(value)).random() for value in known}
    order = sorted(known, key=lambda value: (lots[value], value))
    return {value: 1 + place * classes // len(order) for place, value in enumerate(order)}


@dataclass(frozen=True)
class ParcelBorders(StrengthShift):
    """Borders between labels moved by a smooth random field of `strength` mm (root mean square), seen by no method.

    `field` is `own` (each subject's labels are drawn wrongly in their own way, so that no correspondence fits them) or
    `shared` (one field of the world for all: labels lie elsewhere than what is seen, and correspond all the same). A
    shared field is carried to the moving side by the truth where the pair has one, so that the truth stays as right as
    it was; labels of the moving side then belong to the pair. Without a truth both sides have the same field of the
    world, which does the same as far as images lie on each other. `length_mm` is how far the field stays alike.

    What has no label keeps none and what has one keeps one: the outline of everything that is
    labelled stays where it is.
    """

    strength: float = 4.0
    field: Literal["own", "shared"] = "own"
    length_mm: float = 25.0

    name: ClassVar[str] = "parcel_borders"
    most: ClassVar[float] = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1.0 <= self.length_mm <= 1000.0:
            raise ConfigError(
                f"conditions.{self.name}: length_mm is {self.length_mm:g}; it must lie between 1 and 1000"
            )

    def changed_pair(self, pair: Pair, seed: int) -> Pair:
        """The pair with labels drawn elsewhere on the chosen sides that have any."""
        changes = {}
        for side in sides_of(self.on):
            labels: Labels | None = getattr(pair, f"{side}_labels")
            if labels is not None:
                subject = getattr(pair, f"{side}_id") or f"{pair.name} {side}"
                rng = draws(seed, self.name, "", subject if self.field == "own" else "everyone")
                waves = _Waves.drawn(labels.grid.ndim, self.length_mm, rng)
                field = _Carried.of(pair, waves) if self.field == "shared" and side == "moving" else None
                changes[f"{side}_labels"] = self._moved(labels, field or waves)
        return replace(pair, **changes)  # type: ignore[arg-type]

    def _moved(self, labels: Labels, waves: _Waves | _Carried) -> Labels:
        """The labels that are found where the field points to, without a change of what is labelled at all."""
        inside = np.flatnonzero(labels.array > 0)
        array = labels.array.copy()
        for first in range(0, len(inside), _VOXELS_AT_ONCE):
            chosen = inside[first : first + _VOXELS_AT_ONCE]
            found = labels.array.ravel()[_moved_voxels(labels.grid, chosen, waves, self.strength)]
            array.flat[chosen] = np.where(found > 0, found, labels.array.flat[chosen])
        return Labels(array, labels.grid, labels.names)


@dataclass(frozen=True)
class _Waves:
    """A random vector field over the world: directions (waves, ndim) in 1/mm, phases, and amplitudes (waves, ndim).

    It is known everywhere, so that images on different grids can share one. Its root mean square is 1 on average.
    """

    directions: np.ndarray
    phases: np.ndarray
    amplitudes: np.ndarray

    @classmethod
    def drawn(cls, ndim: int, length_mm: float, rng: np.random.Generator) -> _Waves:
        amplitudes = rng.standard_normal((_WAVES, ndim))
        # Exactly the told size: a cosine has a mean square of a half.
        amplitudes *= np.sqrt(2 / np.square(amplitudes).sum())
        return cls(
            rng.standard_normal((_WAVES, ndim)) / length_mm,
            rng.uniform(0, 2 * np.pi, _WAVES),
            amplitudes,
        )

    def moves(self, points_mm: np.ndarray, strength_mm: float) -> np.ndarray:
        """The field at world points (n, ndim) in mm, wave after wave, whatever the number of threads."""
        found = np.zeros_like(points_mm)
        for direction, phase, amplitude in zip(self.directions, self.phases, self.amplitudes, strict=True):
            angle = sum(points_mm[:, axis] * float(d) for axis, d in enumerate(direction)) + phase
            found += np.cos(angle)[:, np.newaxis] * amplitude
        return strength_mm * found


@dataclass(frozen=True)
class _Carried:
    """A field of the fixed side as the moving side has it: where the truth T takes x + v(x), seen from T x.

    A moving point is taken for the nearest T x of the labelled fixed voxels x, whose way it goes.
    """

    waves: _Waves
    truth: Displacement
    fixed_mm: np.ndarray
    tree: Any

    @classmethod
    def of(cls, pair: Pair, waves: _Waves) -> _Carried | None:
        """The carried field; None for a pair without a truth or without fixed labels."""
        from scipy.spatial import cKDTree

        if pair.truth is None or pair.fixed_labels is None or not pair.fixed_labels.array.any():
            return None
        chosen = pair.fixed_labels.array > 0
        fixed = pair.fixed_labels.grid.world_points()[chosen]
        return cls(waves, pair.truth, fixed, cKDTree(fixed + sample_displacement(pair.truth, fixed)))

    def moves(self, points_mm: np.ndarray, strength_mm: float) -> np.ndarray:
        """The field at world points (n, ndim) in mm."""
        here = self.fixed_mm[self.tree.query(points_mm)[1]]
        there = here + self.waves.moves(here, strength_mm)
        found: np.ndarray = there + sample_displacement(self.truth, there)
        return found - (here + sample_displacement(self.truth, here))


def _moved_voxels(grid: Grid, chosen: np.ndarray, waves: _Waves | _Carried, strength_mm: float) -> np.ndarray:
    """The flat indices of the voxels that the field points to from the chosen ones, within the grid."""
    voxels = np.stack(np.unravel_index(chosen, grid.shape), axis=-1).astype(np.float64)
    points = voxels @ grid.affine[:-1, :-1].T + grid.affine[:-1, -1]
    there = grid.to_voxel(points + waves.moves(points, strength_mm))
    nearest = np.floor(there + 0.5).astype(np.intp).clip(0, np.array(grid.shape) - 1)
    return np.ravel_multi_index(tuple(nearest.T), grid.shape)
