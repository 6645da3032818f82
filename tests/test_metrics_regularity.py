"""Folds, log-Jacobian spread and non-diffeomorphic volume, against fields whose answer is known."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oblique_grids import oblique_grid, random_field, rotation

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.metrics import nondiffeomorphic
from regbench.metrics.nondiffeomorphic import ndv_percent
from regbench.metrics.regularity import fold_percent, sdlogj
from regbench.pair import Pair
from regbench.volume import Grid, Image

seeds = st.integers(0, 2**32 - 1)
dimensions = st.sampled_from((2, 3))


def _alignment(displacement: Displacement) -> Alignment:
    image = Image(np.zeros(displacement.grid.shape), displacement.grid)
    return Alignment(Pair("p", image, image), displacement)


def _grid(seed: int, ndim: int) -> tuple[np.random.Generator, Grid]:
    rng = np.random.default_rng(seed)
    return rng, oblique_grid(rng, ndim, rng.uniform(-80, 80, ndim))


def _about_centre(linear: np.ndarray, grid: Grid) -> Displacement:
    centre = grid.to_world((np.array(grid.shape) - 1) / 2)
    return Displacement((grid.world_points() - centre) @ (linear - np.eye(grid.ndim)).T, grid)


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_rigid_and_affine_maps_are_regular_everywhere(seed: int, ndim: int) -> None:
    """Also turned upside down, where a constant continuation beyond the grid would look inverted."""
    rng, grid = _grid(seed, ndim)
    turn = rotation(rng, ndim)
    turn[0] *= np.sign(np.linalg.det(turn))
    alignment = _alignment(_about_centre(turn * rng.uniform(0.5, 2), grid))
    assert fold_percent(alignment) == 0
    assert ndv_percent(alignment) == {"mean": 0.0, "volume_voxels": 0.0, "cells": 0}
    assert sdlogj(alignment)["mean"] == pytest.approx(0, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_a_mirror_folds_everything(seed: int, ndim: int) -> None:
    rng, grid = _grid(seed, ndim)
    axis = rotation(rng, ndim)[0]
    alignment = _alignment(_about_centre(np.eye(ndim) - 2 * np.outer(axis, axis), grid))
    assert fold_percent(alignment) == 100
    inverted = ndv_percent(alignment)
    assert inverted["mean"] == pytest.approx(100, abs=1e-2)
    assert inverted["cells"] == np.prod([n - 1 for n in grid.shape])
    assert np.isnan(sdlogj(alignment)["mean"])
    assert sdlogj(alignment)["clipped"] == alignment.jacobian.size


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_checkerboard_is_invisible_to_central_differences_only(ndim: int) -> None:
    grid = Grid.from_spacing((8,) * ndim)
    sign = (-1.0) ** grid.indices().sum(axis=-1)
    alignment = _alignment(Displacement(np.repeat(0.8 * sign[..., None], ndim, axis=-1), grid))
    assert fold_percent(alignment) == 0
    assert sdlogj(alignment) == {"mean": 0.0, "clipped": 0}
    assert ndv_percent(alignment)["mean"] > 10


def test_one_voxel_pushed_through_its_neighbour() -> None:
    """In 2-D: the point (3, 3) moves by 2 along the first axis; the triangles around it are known by hand."""
    grid = Grid.from_spacing((7, 7))
    vectors = np.zeros((7, 7, 2))
    vectors[3, 3, 0] = 2.0
    # Each of the two cells ahead has its corners at (3, 3) -> (5, 3) and (4, 3): the two triangles that have the
    # edge between them as a side are inverted with determinant 1 - 2, each of area 1/2 and counted half.
    found = ndv_percent(_alignment(Displacement(vectors, grid)))
    assert found["cells"] == 2
    assert found["mean"] == pytest.approx(100 * _plain_ndv(Displacement(vectors, grid)) / 36)
    assert found["volume_voxels"] == pytest.approx(2 * 2 * 0.25)


def _plain_ndv(displacement: Displacement) -> float:
    """Inverted volume in voxels, simplex by simplex from world points before and after."""
    ndim = displacement.grid.ndim
    before, after = displacement.grid.world_points(), displacement.targets()
    total = 0.0
    for cell in product(*[range(n - 1) for n in displacement.grid.shape]):
        corners = [tuple(c) for c in product((0, 1), repeat=ndim)]
        simplices = [[c, *[tuple(np.array(c) ^ np.eye(ndim, dtype=int)[a]) for a in range(ndim)]] for c in corners]
        if ndim == 3:
            simplices += [[c for c in corners if sum(c) % 2 == parity] for parity in (0, 1)]
        for simplex in simplices:
            places = [tuple(np.add(cell, c)) for c in simplex]
            old, new = (np.array([x[p] for p in places]) for x in (before, after))
            change = np.linalg.det(new[1:] - new[0]) / np.linalg.det(old[1:] - old[0])
            unit = abs(np.linalg.det(np.subtract(simplex[1:], simplex[0]))) / (6 if ndim == 3 else 2)
            total += max(-change, 0.0) * unit / 2
    return total


@settings(max_examples=10, deadline=None)
@given(seeds, dimensions, st.floats(0.2, 2.0))
def test_ndv_equals_a_plain_restatement_in_mm(seed: int, ndim: int, size_mm: float) -> None:
    rng = np.random.default_rng(seed)
    grid = oblique_grid(rng, ndim, rng.uniform(-80, 80, ndim), low=3, high=5)
    displacement = random_field(rng, grid, size_mm).then(np.diag([1.3] * ndim + [1.0]))
    expected = 100 * _plain_ndv(displacement) / np.prod([n - 1 for n in grid.shape])
    assert ndv_percent(_alignment(displacement))["mean"] == pytest.approx(expected, rel=1e-3, abs=1e-3)


@settings(max_examples=10, deadline=None)
@given(seeds, dimensions, st.floats(0.1, 0.6))
def test_the_quick_test_overlooks_no_cell(seed: int, ndim: int, size: float) -> None:
    """All cells, a selection of them, and none passed over as safe: one and the same answer."""
    rng = np.random.default_rng(seed)
    grid = Grid.from_spacing((9, 8, 7)[:ndim])
    displacement = random_field(rng, grid, size)
    results = []
    for safe, dense in ((nondiffeomorphic._SAFE, 2.0), (nondiffeomorphic._SAFE, 0.0), ({2: 0.0, 3: 0.0}, 0.0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nondiffeomorphic, "_SAFE", safe)
            patch.setattr(nondiffeomorphic, "_DENSE", dense)
            results.append(ndv_percent(_alignment(displacement)))
    assert results[0]["cells"] == results[1]["cells"] == results[2]["cells"]
    for result in results[1:]:
        assert result["mean"] == pytest.approx(results[0]["mean"], rel=1e-6, abs=1e-12)


def test_simplices_fill_each_cell_twice() -> None:
    """A mirrored unit grid has all simplices inverted, so their volumes add up to the whole."""
    for ndim in (2, 3):
        grid = Grid.from_spacing((4,) * ndim)
        mirror = np.diag([-1.0] + [1.0] * (ndim - 1))
        assert ndv_percent(_alignment(_about_centre(mirror, grid)))["mean"] == 100


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_spread_and_folds_equal_their_definitions(seed: int, ndim: int) -> None:
    rng, grid = _grid(seed, ndim)
    alignment = _alignment(random_field(rng, grid, size_mm=1.5))
    jacobian = alignment.jacobian.astype(float)
    assert fold_percent(alignment) == pytest.approx(100 * np.mean(jacobian <= 0))
    positive = jacobian[jacobian > 0]
    found = sdlogj(alignment)
    assert found["clipped"] == jacobian.size - positive.size
    assert found["mean"] == pytest.approx(np.std(np.log(positive)), rel=1e-9, nan_ok=True)


def test_the_spread_does_not_depend_on_the_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    alignment = _alignment(random_field(np.random.default_rng(0), Grid.from_spacing((9, 8, 7)), 0.3))
    whole = sdlogj(alignment)["mean"]
    monkeypatch.setattr("regbench.alignment.row_slabs.__defaults__", (1,))
    assert sdlogj(alignment)["mean"] == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("shape", [(1, 5, 5), (5, 1)])
def test_grids_without_an_interior_have_no_number(shape: tuple[int, ...]) -> None:
    alignment = _alignment(Displacement.identity(Grid.from_spacing(shape)))
    assert np.isnan(fold_percent(alignment))
    assert np.isnan(sdlogj(alignment)["mean"])
    assert np.isnan(ndv_percent(alignment)["mean"])
