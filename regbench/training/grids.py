"""The grid on which a network sees pairs while it is trained; inference takes the same one (`methods.trained`).

`placement` 'world': one grid for all pairs. 'fixed': a grid of one shape around the middle of each fixed image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm
from typing import Literal

import numpy as np

from regbench.errors import ConfigError
from regbench.training.recipe import TrainingRecipe
from regbench.volume import Grid

Placement = Literal["world", "fixed"]
_BLOCK = 8


@dataclass(frozen=True)
class Frame:
    """A grid and where it lies."""

    grid: Grid
    placement: Placement

    def grid_for(self, fixed: Grid) -> Grid:
        """The grid for a pair whose fixed image has this grid."""
        if self.placement == "world":
            return self.grid
        affine = self.grid.affine.copy()
        middle = fixed.to_world((np.array(fixed.shape) - 1) / 2)
        affine[:-1, -1] = middle - self.grid.linear @ ((np.array(self.grid.shape) - 1) / 2)
        return Grid(self.grid.shape, affine)


def frame_of(recipe: TrainingRecipe, images: Sequence[Grid], multiple: int, default: Placement) -> Frame:
    """The frame of a recipe; where it gives a voxel size, the grid covers what these grids of images cover.

    In the world that is the first image, else the largest along each axis. Raises ConfigError for a given grid that
    the network cannot take: each axis must be a multiple of `multiple`.
    """
    placement = recipe.placement or ("world" if recipe.grid is not None else default)
    if recipe.grid is not None:
        if placement == "fixed":
            raise ConfigError("placement: 'fixed' goes with `spacing_mm`; a `grid` has its place in the world")
        return Frame(_given_grid(recipe, images[0].ndim, multiple), placement)
    assert recipe.spacing_mm is not None
    if placement == "world":
        return Frame(training_grid(images[0], recipe.spacing_mm, multiple), placement)
    found = [training_grid(grid, recipe.spacing_mm, multiple) for grid in images]
    shape = tuple(int(n) for n in np.max([grid.shape for grid in found], axis=0))
    return Frame(Grid(shape, found[0].affine), placement)


def _given_grid(recipe: TrainingRecipe, ndim: int, multiple: int) -> Grid:
    given = recipe.grid
    assert given is not None
    if given.image is not None:
        from regbench.files.images import read_image

        grid = read_image(given.image).grid
    else:
        assert given.shape is not None and given.affine is not None
        grid = Grid(given.shape, np.array(given.affine))
    if grid.ndim != ndim:
        raise ConfigError(f"grid: is {grid.ndim}-D, the training images are {ndim}-D")
    if any(n % multiple for n in grid.shape):
        fitting = "x".join(str(int(np.ceil(n / multiple)) * multiple) for n in grid.shape)
        shape = "x".join(map(str, grid.shape))
        raise ConfigError(f"grid: the network needs multiples of {multiple} voxels, not {shape}; take {fitting}")
    return grid


def training_grid(image_grid: Grid, spacing_mm: float, multiple: int = 1) -> Grid:
    """A grid of `spacing_mm` along the world axes over the same box, each axis a multiple of 8 and of `multiple`."""
    block = lcm(_BLOCK, multiple)
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in image_grid.shape], indexing="ij"))
    box = image_grid.to_world(corners.reshape(image_grid.ndim, -1).T)
    low, high = box.min(0), box.max(0)
    shape = tuple(int(block * np.ceil((h - lo) / spacing_mm / block - 1e-6)) for lo, h in zip(low, high, strict=True))
    affine = np.diag([spacing_mm] * image_grid.ndim + [1.0])
    affine[:-1, -1] = (low + high) / 2 - spacing_mm * (np.array(shape) - 1) / 2
    return Grid(shape, affine)
