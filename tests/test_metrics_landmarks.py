"""Target registration error: known maps between oblique grids, points that do not count, and points without partner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oblique_grids import oblique_grid, random_field, rotation
from scipy.ndimage import map_coordinates

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.metrics.landmarks import tre_mm
from regbench.pair import Pair
from regbench.volume import Grid, Image, Landmarks

seeds = st.integers(0, 2**32 - 1)
dimensions = st.sampled_from((2, 3))
GRID = Grid.from_spacing((6, 7, 8), (1.0, 2.0, 5.0))


def _tre(displacement: Displacement, moving_grid: Grid, fixed_mm: np.ndarray, moving_mm: np.ndarray) -> dict:
    images = [Image(np.zeros(grid.shape), grid) for grid in (displacement.grid, moving_grid)]
    pair = Pair("p", *images, fixed_landmarks=Landmarks(fixed_mm), moving_landmarks=Landmarks(moving_mm))
    return tre_mm(Alignment(pair, displacement))


def _between_centres(rng: np.random.Generator, grid: Grid, n: int) -> np.ndarray:
    return grid.to_world(rng.uniform(0, np.array(grid.shape) - 1.0, (n, grid.ndim)))


@settings(max_examples=30, deadline=None)
@given(seeds, dimensions)
def test_an_affine_field_leads_landmarks_exactly(seed: int, ndim: int) -> None:
    """Whatever the grids, with rows in any order: a sorted list would not match."""
    rng = np.random.default_rng(seed)
    fixed = oblique_grid(rng, ndim, rng.uniform(-50, 50, ndim))
    matrix = np.eye(ndim + 1)
    matrix[:-1, :-1] = rotation(rng, ndim) * rng.uniform(0.7, 1.4, ndim)
    matrix[:-1, -1] = rng.uniform(-20, 20, ndim)
    moving = Grid(fixed.shape, matrix @ fixed.affine)
    points = _between_centres(rng, fixed, 12)
    targets = points @ matrix[:-1, :-1].T + matrix[:-1, -1]
    displacement = Displacement.from_affine(matrix, fixed)
    assert _tre(displacement, moving, points, targets)["max"] == pytest.approx(0, abs=1e-4)
    # One row off by a known vector.
    offset = rng.uniform(-0.05, 0.05, ndim)
    targets[3] += offset
    found = _tre(displacement, moving, points, targets)
    assert found["n"] == 12
    assert found["max"] == pytest.approx(np.linalg.norm(offset), abs=1e-4)
    assert found["mean"] == pytest.approx(np.linalg.norm(offset) / 12, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(seeds, dimensions)
def test_the_displacement_is_read_linearly_at_the_fixed_point(seed: int, ndim: int) -> None:
    rng = np.random.default_rng(seed)
    displacement = random_field(rng, oblique_grid(rng, ndim, rng.uniform(-50, 50, ndim)))
    grid = displacement.grid
    points = _between_centres(rng, grid, 20)
    voxel = grid.to_voxel(points).T
    vectors = [map_coordinates(displacement.vectors_mm[..., c], voxel, order=1, mode="nearest") for c in range(ndim)]
    expected = np.linalg.norm(np.stack(vectors, axis=-1), axis=-1)
    found = _tre(displacement, grid, points, points)
    assert found["n"] == 20
    for name, value in (
        ("mean", expected.mean()),
        ("median", np.median(expected)),
        ("p75", np.percentile(expected, 75)),
        ("p95", np.percentile(expected, 95)),
        ("max", expected.max()),
    ):
        assert found[name] == pytest.approx(value, abs=1e-4)


def test_distances_are_in_mm_of_the_world() -> None:
    """One voxel off along each axis of 1 x 2 x 5 mm."""
    points = GRID.to_world(np.array([[2, 2, 2], [2, 3, 2], [3, 2, 4]]))
    moving = GRID.to_world(np.array([[3, 2, 2], [2, 2, 2], [3, 2, 3]]))
    found = _tre(Displacement.identity(GRID), GRID, points, moving)
    assert found == {
        "mean": pytest.approx(8 / 3),
        "median": 2.0,
        "p75": pytest.approx(3.5),
        "p95": pytest.approx(4.7),
        "max": 5.0,
        "n": 3,
        "n_outside": 0,
        "n_unmatched": 0,
    }


@pytest.mark.parametrize(("beyond", "counts"), [(0.0, True), (0.49, True), (0.5, True), (0.51, False), (9.0, False)])
@pytest.mark.parametrize("side", ["fixed", "moving"])
@pytest.mark.parametrize("end", [0, 1])
def test_points_outside_of_their_image_are_left_out(beyond: float, counts: bool, side: str, end: int) -> None:
    """An image ends on the outer faces of its voxels, half a voxel beyond their centres."""
    inside = np.array([[2.0, 3.0, 4.0], [3.0, 3.0, 3.0]])
    outside = inside.copy()
    outside[0, 1] = GRID.shape[1] - 1 + beyond if end else -beyond
    moved = [GRID.to_world(outside if side == name else inside) for name in ("fixed", "moving")]
    found = _tre(Displacement.identity(GRID), GRID, *moved)
    assert (found["n"], found["n_outside"]) == ((2, 0) if counts else (1, 1))
    if not counts:
        assert found["max"] == 0


def test_a_field_that_leads_a_point_out_of_the_moving_image_does_not_get_rid_of_it() -> None:
    far = Displacement(np.full((*GRID.shape, 3), 100.0), GRID)
    points = _between_centres(np.random.default_rng(0), GRID, 5)
    found = _tre(far, GRID, points, points)
    assert (found["n"], found["n_outside"]) == (5, 0)
    assert found["mean"] == pytest.approx(100 * np.sqrt(3))


def test_beyond_the_outer_centres_the_nearest_displacement_holds() -> None:
    vectors = np.zeros((*GRID.shape, 3))
    vectors[0] = 0, 0, 3
    vectors[-1] = 0, 4, 0
    points = GRID.to_world(np.array([[-0.4, 3, 3], [5.4, 3, 3]]))
    found = _tre(Displacement(vectors, GRID), GRID, points, points)
    assert (found["mean"], found["max"], found["n"]) == (3.5, 4.0, 2)


@pytest.mark.parametrize("longer", ["fixed", "moving"])
def test_rows_without_a_partner_are_counted(longer: str) -> None:
    points = _between_centres(np.random.default_rng(1), GRID, 7)
    lists = (points, points[:4]) if longer == "fixed" else (points[:4], points)
    found = _tre(Displacement.identity(GRID), GRID, *lists)
    assert (found["mean"], found["n"], found["n_outside"], found["n_unmatched"]) == (0.0, 4, 0, 3)


@pytest.mark.parametrize(("n_fixed", "n_moving"), [(0, 0), (0, 3), (3, 0)])
def test_no_landmarks_have_no_error(n_fixed: int, n_moving: int) -> None:
    points = _between_centres(np.random.default_rng(1), GRID, 3)
    found = _tre(Displacement.identity(GRID), GRID, points[:n_fixed], points[:n_moving])
    assert all(np.isnan(found[name]) for name in ("mean", "median", "p75", "p95", "max"))
    assert (found["n"], found["n_outside"], found["n_unmatched"]) == (0, 0, abs(n_fixed - n_moving))


def test_landmarks_that_all_lie_outside_have_no_error() -> None:
    points = np.full((2, 3), 1e4)
    found = _tre(Displacement.identity(GRID), GRID, points, points)
    assert np.isnan(found["mean"])
    assert (found["n"], found["n_outside"]) == (0, 2)
