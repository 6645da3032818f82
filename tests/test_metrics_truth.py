"""Error of a displacement against a known truth and against its own inverse, over the fixed foreground."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oblique_grids import oblique_grid, random_field, rotation
from scipy.ndimage import map_coordinates

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.metrics.truth import epe_mm, ice_mm
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels

GRID = Grid((5, 6, 7), np.diag([-1.0, 2.0, 1.5, 1.0]))
seeds = st.integers(0, 2**32 - 1)
dimensions = st.sampled_from((2, 3))


def _labels(region: np.ndarray) -> Labels:
    return Labels(region.astype(int), GRID)


def test_the_error_of_a_constant_offset_is_its_length() -> None:
    rng = np.random.default_rng(0)
    image = Image(rng.random(GRID.shape), GRID)
    truth = Displacement(rng.standard_normal((*GRID.shape, 3)), GRID)
    found = Displacement(truth.vectors_mm + np.array([2.0, -3.0, 6.0]), GRID)
    result = epe_mm(Alignment(Pair("p", image, image, truth=truth), found))
    assert result == {"mean": pytest.approx(7, rel=1e-5), "p95": pytest.approx(7, rel=1e-5), "voxels": 210}
    assert epe_mm(Alignment(Pair("p", image, image, truth=truth), truth))["mean"] == 0


def test_errors_outside_of_the_foreground_do_not_count() -> None:
    image = Image(np.ones(GRID.shape), GRID)
    region = np.zeros(GRID.shape, bool)
    region[2, 1:5, 3] = True
    vectors = np.where(region[..., None], 0, 50.0) + np.zeros(3)
    vectors[2, 1, 3] = 3, 0, 4
    pair = Pair("p", image, image, fixed_labels=_labels(region), truth=Displacement.identity(GRID))
    result = epe_mm(Alignment(pair, Displacement(vectors, GRID)))
    assert result["voxels"] == 4
    assert result["mean"] == pytest.approx(5 / 4)
    assert result["p95"] == pytest.approx(np.percentile([0, 0, 0, 5], 95))


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_the_error_is_the_distance_of_the_targets_over_the_foreground(seed: int, ndim: int) -> None:
    rng = np.random.default_rng(seed)
    grid = oblique_grid(rng, ndim, rng.uniform(-50, 50, ndim))
    image = Image(rng.standard_normal(grid.shape), grid)
    found, truth = random_field(rng, grid), random_field(rng, grid)
    alignment = Alignment(Pair("p", image, image, truth=truth), found)
    distances = np.linalg.norm(found.targets() - truth.targets(), axis=-1)[alignment.foreground]
    result = epe_mm(alignment)
    assert result["voxels"] == distances.size
    assert result["mean"] == pytest.approx(distances.mean(), rel=1e-5)
    assert result["p95"] == pytest.approx(np.percentile(distances, 95), rel=1e-5)


def _both_ways(displacement: Displacement, region: np.ndarray | None = None) -> dict:
    grid = displacement.grid
    image = Image(np.ones(grid.shape) if region is None else region.astype(float), grid)
    return ice_mm(Alignment(Pair("p", image, image), displacement))


def _world_affine(rng: np.random.Generator, ndim: int) -> np.ndarray:
    matrix = np.eye(ndim + 1)
    matrix[:-1, :-1] = rotation(rng, ndim) * rng.uniform(0.7, 1.4, ndim)
    matrix[:-1, -1] = rng.uniform(-20, 20, ndim)
    return matrix


@settings(max_examples=30, deadline=None)
@given(seeds, dimensions)
def test_an_affine_and_its_inverse_are_consistent_on_any_grids(seed: int, ndim: int) -> None:
    """The inverse on a grid that shares nothing with the fixed one, and covers where the field leads."""
    rng = np.random.default_rng(seed)
    fixed = oblique_grid(rng, ndim, rng.uniform(-50, 50, ndim))
    matrix = _world_affine(rng, ndim)
    middle = fixed.to_world((np.array(fixed.shape) - 1) / 2) @ matrix[:-1, :-1].T + matrix[:-1, -1]
    wide = np.eye(ndim + 1)
    wide[:-1, :-1] = rotation(rng, ndim) * rng.uniform(20, 40, ndim)
    wide[:-1, -1] = middle - wide[:-1, :-1] @ np.full(ndim, 2.0)
    back = Displacement.from_affine(np.linalg.inv(matrix), Grid((5,) * ndim, wide))
    field = Displacement(Displacement.from_affine(matrix, fixed).vectors_mm, fixed, back)
    found = _both_ways(field)
    assert found["max"] == pytest.approx(0, abs=2e-3)
    assert (found["voxels"], found["n_outside"]) == (fixed.n_voxels, 0)


@settings(max_examples=30, deadline=None)
@given(seeds, dimensions)
def test_the_inverse_is_read_linearly_where_the_field_leads(seed: int, ndim: int) -> None:
    """Against scipy, with the points left out that the inverse says nothing of (beyond rounding, 1e-4 voxels)."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-50, 50, ndim)
    there = random_field(rng, oblique_grid(rng, ndim, centre), size_mm=1.0)
    back = random_field(rng, oblique_grid(rng, ndim, centre), size_mm=1.0)
    region = rng.random(there.grid.shape) > 0.3
    region.flat[0] = True
    reached = there.targets()[region]
    voxel = back.grid.to_voxel(reached)
    inside = ((voxel >= -1e-4) & (voxel <= np.array(back.grid.shape) - 1 + 1e-4)).all(axis=-1)
    vectors = [map_coordinates(back.vectors_mm[..., c], voxel[inside].T, order=1, mode="nearest") for c in range(ndim)]
    ends = reached[inside] + np.stack(vectors, axis=-1)
    distances = np.linalg.norm(ends - there.grid.world_points()[region][inside], axis=-1)
    found = _both_ways(Displacement(there.vectors_mm, there.grid, back), region)
    assert (found["voxels"], found["n_outside"]) == (inside.sum(), (~inside).sum())
    if inside.any():
        assert found["mean"] == pytest.approx(distances.mean(), abs=1e-4)
        assert found["p95"] == pytest.approx(np.percentile(distances, 95), abs=1e-4)
        assert found["max"] == pytest.approx(distances.max(), abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_an_affine_after_both_directions_keeps_their_consistency(seed: int, ndim: int) -> None:
    """Whatever error a field and its inverse have, both are led through the affine and have the same one."""
    rng = np.random.default_rng(seed)
    grid = oblique_grid(rng, ndim, rng.uniform(-50, 50, ndim))
    field = random_field(rng, grid, size_mm=0.5)
    both = Displacement(field.vectors_mm, grid, random_field(rng, grid, size_mm=0.5))
    before, after = _both_ways(both), _both_ways(both.then(_world_affine(rng, ndim)))
    assert after["voxels"] == before["voxels"]
    for name in ("mean", "p95", "max"):
        assert after[name] == pytest.approx(before[name], abs=1e-3, nan_ok=True)


def test_an_inverse_in_the_same_direction_is_twice_as_wrong() -> None:
    shift = np.broadcast_to([0.0, 3.0, 0.0], (*GRID.shape, 3))
    found = _both_ways(Displacement(shift, GRID, Displacement(shift, GRID)))
    assert (found["mean"], found["p95"], found["max"]) == (6.0, 6.0, 6.0)
    # 3 mm are one and a half voxels of the second axis: two of its six planes leave the grid.
    assert (found["voxels"], found["n_outside"]) == (140, 70)


def test_a_field_that_leaves_the_inverse_altogether_has_no_consistency() -> None:
    far = Displacement(np.full((*GRID.shape, 3), 1000.0), GRID, Displacement.identity(GRID))
    found = _both_ways(far)
    assert all(np.isnan(found[name]) for name in ("mean", "p95", "max"))
    assert (found["voxels"], found["n_outside"]) == (0, 210)
