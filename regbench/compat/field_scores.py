"""Scores from the field alone: SDlogJ with its folds, the non-diffeomorphic volume, and point errors by splines.

Fields are (3, *shape) in voxels as held by `compat.files`; component k belongs to axis k. Scores are computed in
float64, which the official numbers need where J + 3 is near the clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from regbench.alignment import determinant
from regbench.slabs import Scratch, map_slabs, map_tasks, row_slabs

_SLAB_POINTS = 1 << 16
# Voxels left out at each face, as the official evaluators do.
_CROP_JACOBIAN = 2
# The weights of a cubic spline fall by 0.268 per voxel; beyond this many they are below 1e-8.
_SPLINE_REACH = 14
# Determinants of float32 differences are this near to the true ones, in units of the products they are made of.
_DOUBT = 1e-5


@dataclass(frozen=True)
class Moments:
    """Number, mean, and sum of squares about the mean; they add up (Chan, Golub, LeVeque 1979)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        if values.size == 0:
            return cls()
        mean = float(values.mean())
        return cls(int(values.size), mean, float(np.square(values - mean).sum()))

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        if not self.count or not other.count:
            return other if other.count else self
        step = other.mean - self.mean
        squares = self.squares + other.squares + step * step * self.count * other.count / count
        return Moments(count, self.mean + step * other.count / count, squares)

    @property
    def deviation(self) -> float:
        """The standard deviation (divided by the number); NaN of nothing."""
        return float(np.sqrt(self.squares / self.count)) if self.count else float("nan")


@dataclass(frozen=True)
class LogJacobian:
    """What is known of the Jacobian determinants J, two voxels of each face left out.

    `shifted` is the official SDlogJ, the deviation of log clip(J + 3, 1e-9, 1e9); `positive` that of log J where
    J > 0; both inside the mask if there is one. `folds` counts J <= 0 everywhere, as the official count does.
    """

    shifted: float
    positive: float
    folds: int


def log_jacobian(field: np.ndarray, mask: np.ndarray | None = None, threads: int = 1) -> LogJacobian:
    """The spread of the logarithm of J by central differences, over the mask or everywhere."""
    crop = _CROP_JACOBIAN
    shape = tuple(max(n - 2 * crop, 0) for n in field.shape[1:])
    inner = None if mask is None else mask[crop:-crop, crop:-crop, crop:-crop]

    def work(rows: slice, scratch: Scratch) -> tuple[Moments, Moments, int]:
        jacobian = _jacobian(field, rows, shape, scratch)
        folds = int(np.count_nonzero(jacobian <= 0))
        values = jacobian.ravel() if inner is None else jacobian[inner[rows]]
        positive = np.log(values[values > 0] if folds else values)
        shifted = np.add(values, 3.0, out=scratch.array("shifted", values.shape, np.float64))
        np.log(np.clip(shifted, 1e-9, 1e9, out=shifted), out=shifted)
        return Moments.of(shifted), Moments.of(positive), folds

    parts = map_slabs(work, row_slabs(shape, _SLAB_POINTS), threads) if min(shape) else []
    shifted = sum((part[0] for part in parts), Moments())
    positive = sum((part[1] for part in parts), Moments())
    return LogJacobian(shifted.deviation, positive.deviation, sum(part[2] for part in parts))


def _jacobian(field: np.ndarray, rows: slice, shape: tuple[int, ...], scratch: Scratch) -> np.ndarray:
    """Determinants of some rows of the cropped volume, float64."""
    size = (rows.stop - rows.start, *shape[1:])
    starts = [rows.start + _CROP_JACOBIAN, _CROP_JACOBIAN, _CROP_JACOBIAN]
    gradient = scratch.array("gradient", (3, 3, *size), np.float64)
    for axis in range(3):
        ahead, behind = (
            tuple(
                slice(start + step * (a == axis), start + step * (a == axis) + n)
                for a, (start, n) in enumerate(zip(starts, size, strict=True))
            )
            for step in (1, -1)
        )
        np.subtract(field[:, *ahead], field[:, *behind], out=gradient[:, axis], dtype=np.float64)
        # The differences span two voxels; halving them all is one factor at the end.
        gradient[axis, axis] += 2.0
    jacobian = determinant(gradient, out=scratch.array("jacobian", size, np.float64))
    jacobian *= 0.125
    return jacobian


@dataclass(frozen=True)
class Inverted:
    """Flat indices of the voxels (but those of the faces) at which a simplex is inverted, and the volume of each."""

    places: np.ndarray
    volumes: np.ndarray

    def percent_of(self, mask: np.ndarray) -> float:
        """The inverted volume in percent of a mask of the whole grid, one voxel left out at each face.

        NaN if the mask is empty there.
        """
        voxels = int(np.count_nonzero(mask[1:-1, 1:-1, 1:-1]))
        inside = mask.ravel()[self.places]
        return 100.0 * float(self.volumes[inside].sum()) / voxels if voxels else float("nan")


def inverted_volumes(field: np.ndarray, threads: int = 1) -> Inverted:
    """The volume of inverted simplices, voxel by voxel (Liu et al., IJCV 2024, doi 10.1007/s11263-024-02047-1).

    Ten simplices belong to a voxel: one in each of the eight cells around it, spanned by the edges to three
    neighbours, and the central ones of the two cells along the main diagonal. Both ways of dividing count half.
    """
    shape = field.shape[1:]
    inner = tuple(max(n - 2, 0) for n in shape)

    def work(rows: slice, scratch: Scratch) -> tuple[np.ndarray, np.ndarray]:
        voxels = _suspects(field, rows)
        volumes = np.zeros(len(voxels[0]))
        for jacobian in _simplices(_neighbours(field, voxels)):
            volumes -= np.minimum(jacobian[0, 0, 0], 0) / 12
        bad = volumes > 0
        return np.ravel_multi_index(voxels, shape)[bad], volumes[bad]

    parts = map_slabs(work, row_slabs(inner, _SLAB_POINTS), threads) if min(inner) else []
    empty = (np.zeros(0, np.intp), np.zeros(0))
    places, volumes = (np.concatenate([part[k] for part in [empty, *parts]]) for k in (0, 1))
    return Inverted(places, volumes)


def _suspects(field: np.ndarray, rows: slice) -> tuple[np.ndarray, ...]:
    """Voxels, among some rows of the inner ones, whose simplices are not all upright beyond the doubt of float32."""
    slab = field[:, rows.start : rows.stop + 2].astype(np.float32)
    steepest = max(float(np.abs(np.diff(slab, axis=axis)).max()) for axis in (1, 2, 3))
    lowest: np.ndarray | None = None
    for jacobian in _simplices(slab):
        lowest = jacobian if lowest is None else np.minimum(lowest, jacobian, out=lowest)
    assert lowest is not None
    # A determinant has products of three edges, each of which may be two voxel steps long.
    found = np.nonzero(lowest < _DOUBT * (2 + 2 * steepest) ** 3)
    return found[0] + rows.start + 1, found[1] + 1, found[2] + 1


def _neighbours(field: np.ndarray, voxels: tuple[np.ndarray, ...]) -> np.ndarray:
    """The field around each of n voxels, (3, 3, 3, 3, n) float64."""
    steps = np.ix_(range(-1, 2), range(-1, 2), range(-1, 2))
    places = tuple(v + step[..., None] for v, step in zip(voxels, steps, strict=True))
    return np.stack([component[places] for component in field]).astype(np.float64)


def _simplices(field: np.ndarray) -> Iterator[np.ndarray]:
    """The determinants of the ten simplices of every inner voxel of a block (3, n, n, n, ...); 1 or 2 at rest."""
    edges = [np.diff(field, axis=axis + 1) for axis in range(3)]
    for axis, edge in enumerate(edges):
        edge[axis] += 1
    for signs in product((1, -1), repeat=3):
        spans = [_inner(edges[axis], axis, signs[axis]) for axis in range(3)]
        yield determinant([[span[component] for span in spans] for component in range(3)])
    for sign in (1, -1):
        # Two steps, one after the other, lead from a voxel to the corners of its central simplex.
        ways = ((0, 1), (1, 2), (0, 2))
        spans = [_inner(edges[a], a, sign) + _inner(edges[b], b, sign, moved=(a, sign)) for a, b in ways]
        yield determinant([[span[component] for span in spans] for component in range(3)])


def _inner(edge: np.ndarray, axis: int, sign: int, moved: tuple[int, int] = (-1, 0)) -> np.ndarray:
    """The edges along an axis ahead of (1) or behind (-1) the inner voxels, or of their neighbours along `moved`."""
    window = [slice(None)]
    for a in range(3):
        if a == axis:
            window.append(slice(1, None) if sign > 0 else slice(None, -1))
        else:
            start = 1 + (moved[1] if a == moved[0] else 0)
            window.append(slice(start, start + edge.shape[a + 1] - 2))
    return edge[tuple(window)]


def outside_grid(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Which points (N, 3) in voxels lie beyond the first or the last voxel centre, bool (N,)."""
    return np.asarray(((points < 0) | (points > np.array(shape) - 1)).any(axis=1))


def spline_samples(field: np.ndarray, points: np.ndarray, threads: int = 1) -> np.ndarray:
    """The field (N, 3) at points in voxels by interpolating cubic splines, mirrored at the faces; 0 outside.

    As a spline value is a weighted sum of samples with weights that fall off fast, each point looks at the samples
    around it; no coefficients are computed for the volume.
    """
    shape = field.shape[1:]
    outside = outside_grid(points, shape)
    weights = [_spline_weights(points[:, axis], n) for axis, n in enumerate(shape)]

    def work(number: int, scratch: Scratch) -> np.ndarray:
        if outside[number]:
            return np.zeros(3)
        near: Any = [int(c) for c in points[number]]
        window = [slice(max(c - _SPLINE_REACH, 0), c + _SPLINE_REACH + 2) for c in near]
        # Relative to the value nearby, so that what the window cuts off is small even where everything moves far.
        centre = field[(slice(None), *near)].astype(np.float64)
        values = field[:, *window] - centre[:, None, None, None]
        for axis in (2, 1, 0):
            values = values @ weights[axis][number, window[axis]]
        return centre + values

    found = map_tasks(work, range(len(points)), threads)
    return np.array(found).reshape(-1, 3)


def _spline_weights(coordinates: np.ndarray, n: int) -> np.ndarray:
    """The weight (N, n) that each of n samples has in the spline's value at coordinates in [0, n - 1]."""
    from scipy.ndimage import spline_filter1d

    # Column j: the coefficients of a signal that is 1 at sample j.
    coefficients = spline_filter1d(np.eye(n), order=3, axis=0, mode="mirror") if n > 1 else np.eye(1)
    low = np.floor(coordinates).astype(int)
    weights = np.zeros((len(coordinates), n))
    for step in (-1, 0, 1, 2):
        away = np.abs(coordinates - (low + step))
        basis = np.where(away < 1, 2 / 3 - away**2 + away**3 / 2, np.maximum(2 - away, 0) ** 3 / 6)
        weights += basis[:, None] * coefficients[_mirrored(low + step, n)]
    return weights


def _mirrored(index: np.ndarray, n: int) -> np.ndarray:
    """Indices beyond the faces reflected about the first and the last sample."""
    if n == 1:
        return np.zeros_like(index)
    period = 2 * (n - 1)
    folded = index % period
    return np.minimum(folded, period - folded)
