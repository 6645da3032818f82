"""A pair that has everything any metric asks for, with a rough registration of it."""

from __future__ import annotations

import dataclasses

import numpy as np
from oblique_grids import rotation

from regbench.displacement import Displacement
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels, Landmarks

Registration = tuple[Pair, Displacement]


def registration(ndim: int, seed: int = 0) -> Registration:
    """A pair with labels, landmarks, truth and both directions, and a rough field with folds, roughly right."""
    rng = np.random.default_rng(seed)
    grids = [_grid(rng, ndim) for _ in range(2)]
    images = [Image(texture(g.world_points()) + rng.normal(0, 0.1, g.shape), g) for g in grids]
    labels = [Labels(parcels(g.world_points()), g) for g in grids]
    points = rng.uniform(-9, 9, (12, ndim))
    points[0] += 500
    fixed_landmarks, moving_landmarks = Landmarks(points), Landmarks(points[:10] + rng.normal(0, 1, (10, ndim)))
    pair = Pair(
        "p",
        *images,
        fixed_labels=labels[0],
        moving_labels=labels[1],
        fixed_landmarks=fixed_landmarks,
        moving_landmarks=moving_landmarks,
        truth=Displacement(wave(grids[0].world_points()), grids[0]),
    )
    there, back = (
        Displacement(sign * wave(g.world_points()) + rng.normal(0, 0.8, (*g.shape, ndim)), g)
        for g, sign in zip(grids, (1, -1), strict=True)
    )
    return pair, dataclasses.replace(there, inverse=back)


def _grid(rng: np.random.Generator, ndim: int) -> Grid:
    shape = tuple(int(n) for n in rng.permutation([15, 18, 21])[:ndim])
    affine = np.eye(ndim + 1)
    affine[:-1, :-1] = rotation(rng, ndim) * rng.permutation([1.1, 1.5, 2.3])[:ndim]
    affine[:-1, -1] = rng.uniform(-1, 1, ndim) - affine[:-1, :-1] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def texture(points_mm: np.ndarray) -> np.ndarray:
    return 2.0 + np.sin(points_mm / np.arange(3, 3 + points_mm.shape[-1])).sum(axis=-1)


def parcels(points_mm: np.ndarray) -> np.ndarray:
    """Sectors of a ball in numbers of different size, one of which is small enough to be lost or cut."""
    angle = np.arctan2(points_mm[..., 1], points_mm[..., 0])
    labels = np.array([3, 17, 251, 2035])[((angle / np.pi + 1) * 1.999).astype(int)]
    labels[np.linalg.norm(points_mm - 5, axis=-1) < 2] = 40
    labels[np.linalg.norm(points_mm, axis=-1) > 11] = 0
    return labels


def wave(points_mm: np.ndarray) -> np.ndarray:
    return 1.5 * np.sin(np.roll(points_mm, 1, axis=-1) / 7)
