"""Changes of where and how one side of a pair lies, with everything that is known of the pair carried along exactly.

Nothing is interpolated: images and labels keep their values, and the truth is composed with what was done. With the
content of a side moved by a world affine T,

- a moving side turns the truth x -> x + u(x) into x -> T(x + u(x)) on the same fixed grid;
- a fixed side turns it into T x -> x + u(x) on the fixed grid moved along.

The truth on voxels that are added to a fixed grid is that of the nearest old one, as everywhere in regbench.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from regbench.displacement import Displacement
from regbench.pair import Pair
from regbench.shifts.sides import parts_of
from regbench.volume import Grid, Image, Labels, Landmarks

# Puts an array of a grid (*shape, ...) onto another one; what was not there before becomes the number, or, for None,
# what the nearest voxel has.
Mover = Callable[[np.ndarray, float | None], np.ndarray]


def moved(pair: Pair, side: str, matrix: np.ndarray) -> Pair:
    """The pair with the content of one side moved by a world affine (ndim+1, ndim+1); arrays stay as they are."""
    image: Image = getattr(pair, side)
    grid = Grid(image.grid.shape, matrix @ image.grid.affine)
    changes: dict[str, Any] = {side: Image(image.array, grid)}
    for name, labels in parts_of(pair, side, "labels", "mask", "excluded").items():
        changes[name] = Labels(labels.array, grid, labels.names)
    for name, points in parts_of(pair, side, "landmarks", "keypoints").items():
        changes[name] = Landmarks(_through(matrix, points.points_mm))
    if pair.truth is not None:
        changes["truth"] = pair.truth.then(matrix) if side == "moving" else _from_moved(pair.truth, grid, matrix)
    return dataclasses.replace(pair, **changes)


def _from_moved(truth: Displacement, grid: Grid, matrix: np.ndarray) -> Displacement:
    """A truth whose fixed points were moved by a matrix."""
    inverse = truth.inverse
    if inverse is not None:
        inverse = Displacement.from_targets(_through(matrix, inverse.targets()), inverse.grid)
    return dataclasses.replace(Displacement.from_targets(truth.targets(), grid), inverse=inverse)


def _through(matrix: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    return np.asarray(points_mm @ matrix[:-1, :-1].T + matrix[:-1, -1])


def reoriented(pair: Pair, side: str, axes: Sequence[int], reversed_axes: Sequence[int]) -> Pair:
    """The pair with one side stored differently: axes in another order, then some of them backwards; same world."""
    old: Grid = getattr(pair, side).grid
    shape = tuple(old.shape[a] for a in axes)
    into_old = np.zeros((old.ndim + 1, old.ndim + 1))
    into_old[-1, -1] = 1
    for new_axis, old_axis in enumerate(axes):
        backwards = new_axis in reversed_axes
        into_old[old_axis, new_axis] = -1 if backwards else 1
        into_old[old_axis, -1] = shape[new_axis] - 1 if backwards else 0

    def move(array: np.ndarray, fill: float | None) -> np.ndarray:
        rest = range(len(axes), array.ndim)
        return np.flip(array.transpose(*axes, *rest), tuple(reversed_axes))

    return _on_other_grid(pair, side, Grid(shape, old.affine @ into_old), move)


def windowed(pair: Pair, side: str, first: Sequence[int], shape: Sequence[int]) -> Pair:
    """The pair with one side on the grid of a window: voxel `first` (may be negative) and `shape` voxels from there."""
    old: Grid = getattr(pair, side).grid
    into_old = np.eye(old.ndim + 1)
    into_old[:-1, -1] = first
    added = [(max(-f, 0), max(f + n - m, 0)) for f, n, m in zip(first, shape, old.shape, strict=True)]
    kept = tuple(slice(max(f, 0), max(f, 0) + n) for f, n in zip(first, shape, strict=True))

    def move(array: np.ndarray, fill: float | None) -> np.ndarray:
        around = added + [(0, 0)] * (array.ndim - len(added))
        if fill is None:
            return np.pad(array, around, mode="edge")[kept]
        return np.pad(array, around, constant_values=fill)[kept]

    return _on_other_grid(pair, side, Grid(tuple(shape), old.affine @ into_old), move)


def _on_other_grid(pair: Pair, side: str, grid: Grid, move: Mover) -> Pair:
    image: Image = getattr(pair, side)
    changes: dict[str, Any] = {side: Image(move(image.array, float(image.array.min())), grid)}
    for name, labels in parts_of(pair, side, "labels", "mask", "excluded").items():
        changes[name] = Labels(move(labels.array, 0), grid, labels.names)
    if side == "fixed" and pair.truth is not None:
        changes["truth"] = Displacement(move(pair.truth.vectors_mm, None), grid, pair.truth.inverse)
    return dataclasses.replace(pair, **changes)
