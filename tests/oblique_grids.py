"""Hypothesis strategies of grids in general position and of displacements between them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from regbench.displacement import Displacement
from regbench.volume import Grid, Image


def rotation(rng: np.random.Generator, ndim: int) -> np.ndarray:
    """A random orthogonal matrix, of either handedness."""
    q, r = np.linalg.qr(rng.standard_normal((ndim, ndim)))
    return q * np.sign(np.diag(r))


def oblique_grid(rng: np.random.Generator, ndim: int, centre_mm: np.ndarray, low: int = 4, high: int = 9) -> Grid:
    """A random anisotropic oblique grid around a world point; axes have `low` to `high` voxels."""
    shape = tuple(int(n) for n in rng.integers(low, high, size=ndim))
    affine = np.eye(ndim + 1)
    affine[:-1, :-1] = rotation(rng, ndim) * rng.uniform(0.6, 3.0, size=ndim)
    affine[:-1, -1] = centre_mm - affine[:-1, :-1] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def random_field(rng: np.random.Generator, grid: Grid, size_mm: float = 4.0) -> Displacement:
    return Displacement(rng.uniform(-size_mm, size_mm, size=(*grid.shape, grid.ndim)), grid)


def random_image(rng: np.random.Generator, grid: Grid) -> Image:
    return Image(rng.uniform(0.1, 1.0, size=grid.shape), grid)


@st.composite
def registrations(draw: st.DrawFn, dimensions: tuple[int, ...] = (2, 3)) -> tuple[Displacement, Grid]:
    """A random displacement on a fixed grid, and a moving grid that overlaps it but is another in every respect."""
    ndim = draw(st.sampled_from(dimensions))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    centre = rng.uniform(-60, 60, size=ndim)
    fixed = oblique_grid(rng, ndim, centre)
    moving = oblique_grid(rng, ndim, centre + rng.uniform(-2, 2, size=ndim))
    return random_field(rng, fixed), moving
