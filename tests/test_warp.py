"""The resampler: exact where truth is exact, equal to SimpleITK and scipy elsewhere; rules of borders and halves."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from itk_resampling import inside_moving, itk_resample
from oblique_grids import oblique_grid, random_image, registrations
from scipy.ndimage import map_coordinates

from regbench.displacement import Displacement
from regbench.volume import Grid, Image, Labels
from regbench.warp import linear_samples, resample, sample_at, sample_displacement, warp, warp_within

seeds = st.integers(0, 2**32 - 1)
dimensions = st.sampled_from((2, 3))


def _random_grid(seed: int, ndim: int) -> tuple[np.random.Generator, Grid]:
    rng = np.random.default_rng(seed)
    return rng, oblique_grid(rng, ndim, rng.uniform(-80, 80, ndim))


@settings(max_examples=30, deadline=None)
@given(seeds, dimensions)
def test_a_zero_field_changes_nothing(seed: int, ndim: int) -> None:
    rng, grid = _random_grid(seed, ndim)
    image = random_image(rng, grid)
    labels = Labels(rng.integers(0, 2036, grid.shape), grid)
    identity = Displacement.identity(grid)
    np.testing.assert_array_equal(warp(image, identity).array, image.array)
    np.testing.assert_array_equal(warp(labels, identity).array, labels.array)
    np.testing.assert_array_equal(resample(labels, grid).array, labels.array)


@settings(max_examples=40, deadline=None)
@given(seeds, dimensions)
def test_whole_voxel_shifts_read_whole_voxels(seed: int, ndim: int) -> None:
    rng, grid = _random_grid(seed, ndim)
    shift = rng.integers(-2, 3, ndim)
    labels = Labels(rng.integers(1, 300, grid.shape), grid)
    image = random_image(rng, grid)
    displacement = Displacement.from_voxels(np.broadcast_to(shift, (*grid.shape, ndim)), grid, grid)
    source = grid.indices().astype(int) + shift
    inside = np.all((source >= 0) & (source < grid.shape), axis=-1)
    place = tuple(np.moveaxis(np.clip(source, 0, np.array(grid.shape) - 1), -1, 0))
    np.testing.assert_array_equal(warp(labels, displacement).array, np.where(inside, labels.array[place], 0))
    # Displacements are float32 mm, so a whole voxel is whole to about 1e-6 of the neighbour's difference.
    np.testing.assert_allclose(warp(image, displacement).array, np.where(inside, image.array[place], 0), atol=1e-5)


def test_whole_voxel_shifts_of_representable_length_are_exact_for_images() -> None:
    grid = Grid.from_spacing((6, 5, 4), (1.5, 0.5, 2.0))
    image = Image(np.random.default_rng(0).standard_normal(grid.shape) * 1e20, grid)
    displacement = Displacement.from_voxels(np.broadcast_to([1, 0, -1], (*grid.shape, 3)), grid, grid)
    moved = warp(image, displacement).array
    np.testing.assert_array_equal(moved[:-1, :, 1:], image.array[1:, :, :-1])
    assert not moved[-1].any()
    assert not moved[..., 0].any()


@settings(max_examples=30, deadline=None)
@given(registrations())
def test_images_agree_with_simpleitk(case: tuple[Displacement, Grid]) -> None:
    displacement, moving_grid = case
    image = random_image(np.random.default_rng(1), moving_grid)
    expected = itk_resample(image, displacement, sitk.sitkLinear)
    moved = warp(image, displacement)
    inside = inside_moving(displacement, moving_grid)
    np.testing.assert_allclose(moved.array[inside], expected[inside], atol=1e-5)
    assert not moved.array[~inside_moving(displacement, moving_grid, margin=1e-3)].any()


@settings(max_examples=30, deadline=None)
@given(registrations())
def test_labels_agree_with_simpleitk(case: tuple[Displacement, Grid]) -> None:
    displacement, moving_grid = case
    labels = Labels(np.random.default_rng(2).integers(1, 2036, moving_grid.shape), moving_grid)
    expected = itk_resample(labels, displacement, sitk.sitkNearestNeighbor)
    coordinates = moving_grid.to_voxel(displacement.targets())
    clear = np.all(np.abs(coordinates - np.floor(coordinates) - 0.5) > 1e-4, axis=-1)
    compared = inside_moving(displacement, moving_grid) & clear
    np.testing.assert_array_equal(warp(labels, displacement).array[compared], expected[compared])


@settings(max_examples=30, deadline=None)
@given(registrations())
def test_both_interpolations_agree_with_scipy(case: tuple[Displacement, Grid]) -> None:
    displacement, moving_grid = case
    rng = np.random.default_rng(3)
    image, labels = random_image(rng, moving_grid), Labels(rng.integers(1, 2036, moving_grid.shape), moving_grid)
    coordinates = moving_grid.to_voxel(displacement.targets())
    inside = inside_moving(displacement, moving_grid)
    places = np.moveaxis(coordinates, -1, 0)
    expected = map_coordinates(image.array, places, output=float, order=1, mode="nearest")
    np.testing.assert_allclose(warp(image, displacement).array[inside], expected[inside], atol=1e-5)
    clear = inside & np.all(np.abs(coordinates - np.floor(coordinates) - 0.5) > 1e-4, axis=-1)
    expected = map_coordinates(labels.array, places, order=0, mode="nearest")
    np.testing.assert_array_equal(warp(labels, displacement).array[clear], expected[clear])


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_quarter_voxel_shifts_agree_with_scipy_exactly(seed: int, ndim: int) -> None:
    """Coordinates are whole numbers of quarters, so rounding excuses nothing, and halves occur."""
    rng = np.random.default_rng(seed)
    grid = Grid.from_spacing(tuple(rng.integers(2, 8, ndim)), 2.0)
    vectors = rng.integers(-6, 7, (*grid.shape, ndim)) * 0.5
    labels, image = Labels(rng.integers(0, 2036, grid.shape), grid), Image(rng.integers(0, 99, grid.shape), grid)
    places = np.moveaxis(grid.indices() + vectors / 2, -1, 0)
    displacement = Displacement(vectors, grid)
    inside = inside_moving(displacement, grid, margin=0)
    nearest = map_coordinates(labels.array, np.floor(places + 0.5), order=0, mode="nearest")
    np.testing.assert_array_equal(warp(labels, displacement, outside=3).array, np.where(inside, nearest, 3))
    linear = map_coordinates(image.array.astype(float), places, order=1, mode="nearest")
    np.testing.assert_array_equal(warp(image, displacement, outside=-2.5).array, np.where(inside, linear, -2.5))


def test_halves_go_up_and_there_is_no_margin_outside() -> None:
    grid = Grid.from_spacing((4, 4))
    labels = Labels(np.arange(1, 17).reshape(4, 4), grid)
    points = np.array([[0.5, 0], [0.49, 0], [2.5, 3], [-0.001, 0], [3.001, 0], [3.00005, 3]])
    assert sample_at(labels, points, outside=99).tolist() == [5, 1, 16, 99, 99, 16]
    assert sample_at(labels, points[0]).shape == ()


def test_rounding_beyond_a_face_reads_the_face_and_no_distance_is_too_large() -> None:
    grid = Grid.from_spacing((3, 2))
    image = Image(np.arange(6.0).reshape(3, 2), grid)
    points = np.array([[-5e-5, 0], [2.00005, 1.00005], [1e30, 0], [0, -1e30]])
    assert sample_at(image, points, outside=99).tolist() == [0, 5, 99, 99]


def test_images_are_linear_along_each_axis() -> None:
    rng, grid = _random_grid(5, 3)
    slope = rng.uniform(-1, 1, 3)
    image = Image(grid.indices() @ slope, grid)
    coordinates = rng.uniform(0, np.array(grid.shape) - 1, (50, 3))
    np.testing.assert_allclose(sample_at(image, grid.to_world(coordinates)), coordinates @ slope, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 5, 4), (5, 1, 1), (1, 1, 1), (1, 3)])
def test_axes_of_one_voxel_are_read(shape: tuple[int, ...]) -> None:
    grid = Grid.from_spacing(shape)
    image = Image(np.random.default_rng(0).random(shape), grid)
    np.testing.assert_array_equal(warp(image, Displacement.identity(grid)).array, image.array)


@pytest.mark.parametrize("kind", ["image", "labels"])
def test_the_result_depends_neither_on_the_slabs_nor_on_the_threads(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, fixed = _random_grid(3, 3)
    grid = oblique_grid(rng, 3, fixed.to_world((np.array(fixed.shape) - 1) / 2))
    moving = random_image(rng, grid) if kind == "image" else Labels(rng.integers(0, 2036, grid.shape), grid)
    displacement = Displacement(rng.uniform(-2, 2, (*fixed.shape, 3)), fixed)
    whole = warp(moving, displacement).array
    monkeypatch.setattr("regbench.warp._SLAB_POINTS", 1)
    for threads in (1, 2, 3):
        np.testing.assert_array_equal(warp(moving, displacement, threads=threads).array, whole)
    points = rng.uniform(0, 3, (11, 3))
    one_by_one = [linear_samples(displacement.vectors_mm, point) for point in points]
    np.testing.assert_array_equal(linear_samples(displacement.vectors_mm, points), one_by_one)


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_resampling_through_an_affine_equals_warping_with_its_field(seed: int, ndim: int) -> None:
    rng, fixed = _random_grid(seed, ndim)
    moving = random_image(rng, oblique_grid(rng, ndim, fixed.origin_mm))
    matrix = np.eye(ndim + 1)
    matrix[:-1] += rng.uniform(-0.1, 0.1, (ndim, ndim + 1))
    field = Displacement.from_affine(matrix, fixed)
    inside = inside_moving(field, moving.grid, margin=-1e-3)
    np.testing.assert_allclose(
        resample(moving, fixed, matrix).array[inside], warp(moving, field).array[inside], atol=1e-3
    )


def test_a_field_goes_on_as_a_constant_outside_of_its_grid() -> None:
    grid = Grid.from_spacing((3, 3))
    vectors = np.random.default_rng(0).random((3, 3, 2))
    points = np.array([[-5.0, 1.0], [9.0, 9.0]])
    np.testing.assert_allclose(
        sample_displacement(Displacement(vectors, grid), points), [vectors[0, 1], vectors[2, 2]], rtol=1e-6
    )


@pytest.mark.parametrize("kind", [Image, Labels])
def test_scratch_memory_does_not_grow_with_the_image(kind: type[Image] | type[Labels]) -> None:
    peaks = []
    for rows in (8, 64):
        grid = Grid.from_spacing((rows, 128, 128))
        image, identity = kind(np.zeros(grid.shape, np.uint8), grid), Displacement.identity(grid)
        tracemalloc.start()
        warp(image, identity)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    growth_of_result = 56 * 128 * 128 * image.array.itemsize
    assert peaks[1] - peaks[0] < 1.1 * growth_of_result


def test_trailing_axes_are_kept() -> None:
    field = np.random.default_rng(0).random((4, 5, 2, 3))
    found = linear_samples(field, np.array([[1.25, 3.0]]))
    np.testing.assert_allclose(found[0], 0.75 * field[1, 3] + 0.25 * field[2, 3])


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_within_boxes_the_image_is_the_warped_one_to_the_last_bit(seed: int, ndim: int) -> None:
    rng, grid = _random_grid(seed, ndim)
    image = random_image(rng, grid)
    displacement = Displacement(rng.normal(0, 2, (*grid.shape, ndim)), grid)
    middle = grid.shape[0] // 2
    rest = tuple(slice(1, n - 1) for n in grid.shape[1:])
    boxes = [(slice(0, middle), *rest), (slice(middle, middle + 1), *(slice(0, n) for n in grid.shape[1:]))]
    whole, expected = warp(image, displacement).array, np.zeros(grid.shape, np.float32)
    for box in boxes:
        expected[box] = whole[box]
    for threads in (1, 2):
        np.testing.assert_array_equal(warp_within(image, displacement, boxes, threads), expected)
