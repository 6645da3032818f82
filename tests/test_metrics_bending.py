"""The bending energy, against fields whose second derivatives are known."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from analytic_fields import about_centre, alignment_of, general_grid, points_about_centre
from hypothesis import given, settings
from hypothesis import strategies as st
from oblique_grids import random_field

import regbench.slabs
from regbench.displacement import Displacement
from regbench.metrics.bending import bending
from regbench.volume import Grid

seeds = st.integers(0, 2**32 - 1)
dimensions = st.sampled_from((2, 3))


def _quadratic(hessians: np.ndarray, grid: Grid) -> Displacement:
    """The field whose component c has the constant second derivatives `hessians[c]` in mm."""
    points = points_about_centre(grid)
    return Displacement(0.5 * np.einsum("...a,cab,...b->...c", points, hessians, points), grid)


@settings(max_examples=40, deadline=None)
@given(seeds, dimensions)
def test_a_quadratic_field_has_its_second_derivatives_on_any_grid(seed: int, ndim: int) -> None:
    """Oblique, anisotropic, left-handed and sheared; central differences are exact for it."""
    rng, grid = general_grid(seed, ndim)
    hessians = rng.uniform(-0.1, 0.1, (ndim, ndim, ndim))
    hessians += hessians.transpose(0, 2, 1)
    found = bending(alignment_of(_quadratic(hessians, grid)))
    expected = np.square(hessians).sum()
    assert (found["mean"], found["foreground"]) == pytest.approx((expected, expected), rel=2e-3)


@pytest.mark.parametrize(("a", "b", "energy"), [(0, 0, 0.01), (2, 2, 0.01), (0, 1, 0.02), (0, 2, 0.02), (1, 2, 0.02)])
def test_each_second_derivative_alone(a: int, b: int, energy: float) -> None:
    """Of 0.1 per mm on a grid of 1 x 2 x 5 mm; mixed ones count twice."""
    hessians = np.zeros((3, 3, 3))
    hessians[1, a, b] = hessians[1, b, a] = 0.1
    grid = Grid.from_spacing((5, 6, 4), (1.0, 2.0, 5.0))
    assert bending(alignment_of(_quadratic(hessians, grid)))["mean"] == pytest.approx(energy, rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_affine_maps_do_not_bend(seed: int, ndim: int) -> None:
    rng, grid = general_grid(seed, ndim)
    assert bending(alignment_of(about_centre(rng.uniform(-1, 1, (ndim, ndim)), grid)))["mean"] < 1e-8


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_any_field_equals_a_plain_restatement(seed: int, ndim: int) -> None:
    """In float64, with the whole matrices of second derivatives by index turned into those by mm."""
    rng, grid = general_grid(seed, ndim)
    displacement, inside = random_field(rng, grid), rng.random(grid.shape) < 0.5
    inner = (slice(1, -1),) * ndim
    inside[(1,) * ndim] = True
    inverse = np.linalg.inv(grid.linear)
    vectors = displacement.vectors_mm.astype(float)
    hessians = np.empty((*vectors[inner].shape, ndim, ndim))
    for a, b in product(range(ndim), repeat=2):
        if a == b:
            along = tuple(slice(None) if axis == a else slice(1, -1) for axis in range(ndim))
            hessians[..., a, a] = np.diff(vectors, 2, axis=a)[along]
        else:
            hessians[..., a, b] = np.gradient(np.gradient(vectors, axis=a), axis=b)[inner]
    energies = np.square(inverse.T @ hessians @ inverse).sum(axis=(-3, -2, -1))
    found = bending(alignment_of(displacement, inside))
    assert found["mean"] == pytest.approx(energies.mean(), rel=1e-4)
    assert found["foreground"] == pytest.approx(energies[inside[inner]].mean(), rel=1e-4)


def test_only_the_foreground_counts_for_the_foreground() -> None:
    grid = Grid.from_spacing((12, 6, 5))
    vectors = np.zeros((*grid.shape, 3))
    vectors[..., 2] = np.square(np.maximum(np.arange(12) - 6, 0))[:, None, None]
    near = np.zeros(grid.shape, bool)
    near[:6] = True
    assert bending(alignment_of(Displacement(vectors, grid), near))["foreground"] == 0
    assert bending(alignment_of(Displacement(vectors, grid), ~near))["foreground"] == pytest.approx((1 + 4 * 4) / 5)


@pytest.mark.parametrize("shape", [(11, 8, 9), (23, 17)])
def test_slabs_and_threads_change_no_bit(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    displacement, inside = random_field(rng, Grid.from_spacing(shape), 0.5), rng.random(shape) < 0.5
    whole = bending(alignment_of(displacement, inside))
    for n_points in (1, 200, 500):
        monkeypatch.setattr(regbench.slabs.row_slabs, "__defaults__", (n_points,))
        for threads in (1, 2):
            assert bending(alignment_of(displacement, inside, threads)) == whole


@pytest.mark.parametrize("shape", [(1, 5, 5), (5, 2), (5, 5, 2), (1, 1)])
def test_grids_without_an_interior_have_no_number(shape: tuple[int, ...]) -> None:
    assert np.isnan(list(bending(alignment_of(Displacement.identity(Grid.from_spacing(shape)))).values())).all()
