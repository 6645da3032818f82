"""Grids, images, label maps and landmarks: geometry, and what their constructors refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oblique_grids import oblique_grid

from regbench.errors import DatasetError
from regbench.volume import Grid, Image, Labels, Landmarks, label_counts

GRID = Grid.from_spacing((4, 5, 6), (1.0, 2.0, 3.0))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from((2, 3)))
def test_voxel_and_world_coordinates_are_inverse_of_each_other(seed: int, ndim: int) -> None:
    rng = np.random.default_rng(seed)
    grid = oblique_grid(rng, ndim, rng.uniform(-100, 100, ndim))
    points = rng.uniform(-20, 20, (7, ndim))
    np.testing.assert_allclose(grid.to_voxel(grid.to_world(points)), points, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from((2, 3)))
def test_spacing_and_determinant_measure_a_voxel(seed: int, ndim: int) -> None:
    grid = oblique_grid(np.random.default_rng(seed), ndim, np.zeros(ndim))
    points = grid.world_points()
    for axis in range(ndim):
        step = np.diff(points, axis=axis)
        np.testing.assert_allclose(np.linalg.norm(step, axis=-1), grid.spacing_mm[axis])
    assert abs(grid.determinant) == pytest.approx(np.prod(grid.spacing_mm))


def test_affine_places_voxel_centres() -> None:
    affine = np.array([[0.0, -2, 0, 10], [3, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]])
    grid = Grid((2, 2, 2), affine)
    np.testing.assert_array_equal(grid.to_world(np.array([1, 1, 1])), [8, 23, 31])
    np.testing.assert_array_equal(grid.world_points()[1, 0, 1], [10, 23, 31])


@pytest.mark.parametrize(
    ("signs", "letters"), [((1, 1, 1), "RAS"), ((-1, 1, 1), "LAS"), ((-1, -1, 1), "LPS"), ((1, 1, -1), "RAI")]
)
def test_orientation_names_the_directions_of_the_axes(signs: tuple[int, ...], letters: str) -> None:
    grid = Grid((2, 2, 2), np.diag([*signs, 1.0]))
    assert grid.orientation == letters
    assert np.sign(grid.determinant) == np.prod(signs)


def test_orientation_of_permuted_axes() -> None:
    affine = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    assert Grid((2, 3, 4), affine).orientation == "LIA"


def test_shear_is_seen_and_rotation_is_not() -> None:
    angle = 0.4
    rotated = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    assert not Grid((3, 3), rotated).is_sheared
    assert Grid((3, 3), np.array([[1.0, 0.2, 0], [0, 1, 0], [0, 0, 1]])).is_sheared


def test_grids_match_within_a_tolerance_at_the_far_corner() -> None:
    stretched = GRID.affine.copy()
    stretched[0, 0] += 0.01
    assert GRID.matches(Grid(GRID.shape, GRID.affine + 0.0))
    assert not GRID.matches(Grid(GRID.shape, stretched))
    assert GRID.matches(Grid(GRID.shape, stretched), tolerance_mm=0.1)
    assert not GRID.matches(Grid.from_spacing((4, 5, 7), (1.0, 2.0, 3.0)))


@pytest.mark.parametrize(
    ("shape", "affine", "words"),
    [
        ((4,), np.eye(2), "2-D or 3-D"),
        ((4, 0), np.eye(3), "non-empty"),
        ((2, 2, 2, 2), np.eye(5), "2-D or 3-D"),
        ((4, 4), np.eye(4), "expected"),
        ((4, 4), np.full((3, 3), np.nan), "finite"),
        ((4, 4), np.diag([1.0, 0, 1]), "invertible"),
        ((4, 4), np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]]), "invertible"),
    ],
)
def test_impossible_grids_are_refused(shape: tuple[int, ...], affine: np.ndarray, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        Grid(shape, affine)


def test_constructed_objects_cannot_be_written_to() -> None:
    image = Image(np.zeros(GRID.shape, np.float32), GRID)
    labels = Labels(np.zeros(GRID.shape, np.uint8), GRID)
    for array in (GRID.affine, image.array, labels.array, Landmarks(np.zeros((2, 3))).points_mm):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1


@pytest.mark.parametrize("bad", [(np.nan, np.inf), (np.nan, 0), (np.inf, 0), (-np.inf, 0), (np.inf, -np.inf)])
def test_an_image_with_values_that_are_not_finite_is_refused_with_their_number(bad: tuple[float, float]) -> None:
    array = np.zeros(GRID.shape)
    array[0, 0, :2] = bad
    with pytest.raises(DatasetError, match=f"{np.count_nonzero(bad)} of 120 voxels"):
        Image(array, GRID)


@pytest.mark.parametrize("array", [np.zeros(GRID.shape, bool), np.zeros(GRID.shape, complex)])
def test_an_image_needs_real_numbers(array: np.ndarray) -> None:
    with pytest.raises(DatasetError, match="not real numbers"):
        Image(array, GRID)


def test_arrays_must_fit_their_grid() -> None:
    with pytest.raises(DatasetError, match="does not fit"):
        Image(np.zeros((4, 5, 5)), GRID)
    with pytest.raises(DatasetError, match="does not fit"):
        Labels(np.zeros((4, 5, 5), int), GRID)


@pytest.mark.parametrize("bad", [np.nan, 0.5, np.inf])
def test_labels_that_are_not_whole_numbers_are_refused(bad: float) -> None:
    array = np.zeros(GRID.shape)
    array[1, 1, 1] = bad
    with pytest.raises(DatasetError, match="whole numbers"):
        Labels(array, GRID)


def test_negative_labels_are_refused() -> None:
    with pytest.raises(DatasetError, match="-1"):
        Labels(np.full(GRID.shape, -1), GRID)


@pytest.mark.parametrize(("top", "dtype"), [(255, np.uint8), (2035, np.uint16), (70000, np.int32), (1 << 21, np.int32)])
def test_labels_take_the_smallest_type_and_list_their_values(top: int, dtype: type) -> None:
    array = np.zeros(GRID.shape)
    array[0, 0, :3] = top, 7, top
    labels = Labels(array, GRID)
    assert labels.array.dtype == dtype
    assert labels.values.tolist() == [7, top]


@pytest.mark.parametrize("points", [np.zeros(3), np.zeros((2, 4)), np.full((1, 3), np.nan)])
def test_landmarks_are_checked(points: np.ndarray) -> None:
    with pytest.raises(DatasetError, match="landmarks"):
        Landmarks(points)


@pytest.mark.parametrize("longest", [1, 2, 50])
def test_labels_are_counted_in_long_and_in_short_runs(longest: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 9, 500), rng.integers(1, longest + 1, 500)).astype(np.uint8)
    np.testing.assert_array_equal(label_counts(labels, 12), np.bincount(labels, minlength=12))
