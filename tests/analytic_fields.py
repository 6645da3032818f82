"""Displacements whose derivatives are known, on grids in general position, and alignments with a chosen foreground."""

from __future__ import annotations

import numpy as np
from oblique_grids import oblique_grid

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels


def general_grid(seed: int, ndim: int, low: int = 4, high: int = 9) -> tuple[np.random.Generator, Grid]:
    """A random oblique, anisotropic grid of either handedness; every other one has axes not at right angles."""
    rng = np.random.default_rng(seed)
    grid = oblique_grid(rng, ndim, rng.uniform(-80, 80, ndim), low, high)
    if seed % 2:
        affine = grid.affine.copy()
        affine[:-1, 1] += 0.4 * affine[:-1, 0]
        grid = Grid(grid.shape, affine)
    return rng, grid


def alignment_of(displacement: Displacement, inside: np.ndarray | None = None, threads: int = 1) -> Alignment:
    """An alignment whose foreground is `inside` (bool), or everything."""
    grid = displacement.grid
    image = Image(np.zeros(grid.shape), grid)
    mask = None if inside is None else Labels(inside, grid)
    return Alignment(Pair("p", image, image, fixed_mask=mask), displacement, threads=threads)


def about_centre(linear: np.ndarray, grid: Grid) -> Displacement:
    """The field of x -> linear @ x about the centre of the grid, where float32 keeps the most digits."""
    return Displacement(points_about_centre(grid) @ (linear - np.eye(grid.ndim)).T, grid)


def points_about_centre(grid: Grid) -> np.ndarray:
    """The world points of all voxels about the centre of the grid, (*shape, ndim)."""
    return grid.world_points() - grid.to_world((np.array(grid.shape) - 1) / 2)


def gradients(displacement: Displacement) -> np.ndarray:
    """The matrices d(x + u)/dx at all voxels, float64, (*shape, ndim, ndim); by central differences in the interior."""
    targets = displacement.targets()
    by_index = np.stack([np.gradient(targets, axis=axis) for axis in range(targets.shape[-1])], axis=-1)
    return by_index @ np.linalg.inv(displacement.grid.linear)
