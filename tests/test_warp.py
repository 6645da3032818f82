"""The resampler: exact where truth is exact, equal to SimpleITK elsewhere, and its rules at borders and halves."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from oblique_grids import oblique_grid, random_image, registrations

from regbench.displacement import Displacement
from regbench.volume import Grid, Image, Labels
from regbench.warp import linear_samples, resample, sample_at, sample_displacement, warp

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
    expected = _itk_resample(image, displacement, sitk.sitkLinear)
    moved = warp(image, displacement)
    inside = _inside(displacement, moving_grid)
    np.testing.assert_allclose(moved.array[inside], expected[inside], atol=1e-5)
    assert not moved.array[~_inside(displacement, moving_grid, margin=1e-3)].any()


@settings(max_examples=30, deadline=None)
@given(registrations())
def test_labels_agree_with_simpleitk(case: tuple[Displacement, Grid]) -> None:
    displacement, moving_grid = case
    labels = Labels(np.random.default_rng(2).integers(1, 2036, moving_grid.shape), moving_grid)
    expected = _itk_resample(labels, displacement, sitk.sitkNearestNeighbor)
    coordinates = moving_grid.to_voxel(displacement.targets())
    clear = np.all(np.abs(coordinates - np.floor(coordinates) - 0.5) > 1e-4, axis=-1)
    compared = _inside(displacement, moving_grid) & clear
    np.testing.assert_array_equal(warp(labels, displacement).array[compared], expected[compared])


def _inside(displacement: Displacement, moving_grid: Grid, margin: float = -1e-6) -> np.ndarray:
    coordinates = moving_grid.to_voxel(displacement.targets())
    top = np.array(moving_grid.shape) - 1
    return np.all((coordinates >= -margin) & (coordinates <= top + margin), axis=-1)


def _itk_resample(moving: Image | Labels, displacement: Displacement, interpolator: int) -> np.ndarray:
    """SimpleITK's answer by the shortest way: its own conventions are LPS mm, and arrays with axes reversed."""
    fixed = displacement.grid
    lps = np.array([-1.0, -1.0, 1.0])[: fixed.ndim]
    field = sitk.GetImageFromArray(_reversed(displacement.vectors_mm * lps, fixed.ndim).astype(float), isVector=True)
    transform = sitk.DisplacementFieldTransform(_placed(field, fixed, lps))
    reference = _placed(sitk.GetImageFromArray(np.zeros(fixed.shape[::-1], np.float32)), fixed, lps)
    array = moving.array.astype(np.float64 if isinstance(moving, Image) else np.int32)
    source = _placed(sitk.GetImageFromArray(_reversed(array, fixed.ndim)), moving.grid, lps)
    moved = sitk.GetArrayFromImage(sitk.Resample(source, reference, transform, interpolator, 0.0, source.GetPixelID()))
    return _reversed(moved, fixed.ndim)


def _reversed(array: np.ndarray, ndim: int) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(*reversed(range(ndim)), *range(ndim, array.ndim)))


def _placed(image: sitk.Image, grid: Grid, lps: np.ndarray) -> sitk.Image:
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin((lps * grid.origin_mm).tolist())
    image.SetDirection((lps[:, None] * grid.linear / grid.spacing_mm).ravel().tolist())
    return image


def test_halves_go_up_and_there_is_no_margin_outside() -> None:
    grid = Grid.from_spacing((4, 4))
    labels = Labels(np.arange(1, 17).reshape(4, 4), grid)
    points = np.array([[0.5, 0], [0.49, 0], [2.5, 3], [-0.001, 0], [3.001, 0], [3.00005, 3]])
    assert sample_at(labels, points, outside=99).tolist() == [5, 1, 16, 99, 99, 16]


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


def test_the_result_does_not_depend_on_the_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, fixed = _random_grid(3, 3)
    moving = random_image(rng, oblique_grid(rng, 3, fixed.to_world((np.array(fixed.shape) - 1) / 2)))
    displacement = Displacement(rng.uniform(-2, 2, (*fixed.shape, 3)), fixed)
    whole = warp(moving, displacement).array
    monkeypatch.setattr("regbench.warp._SLAB_POINTS", 1)
    np.testing.assert_array_equal(warp(moving, displacement).array, whole)


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_resampling_through_an_affine_equals_warping_with_its_field(seed: int, ndim: int) -> None:
    rng, fixed = _random_grid(seed, ndim)
    moving = random_image(rng, oblique_grid(rng, ndim, fixed.origin_mm))
    matrix = np.eye(ndim + 1)
    matrix[:-1] += rng.uniform(-0.1, 0.1, (ndim, ndim + 1))
    field = Displacement.from_affine(matrix, fixed)
    inside = _inside(field, moving.grid, margin=-1e-3)
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


def test_scratch_memory_does_not_grow_with_the_image() -> None:
    peaks = []
    for rows in (8, 64):
        grid = Grid.from_spacing((rows, 128, 128))
        image, identity = Image(np.zeros(grid.shape), grid), Displacement.identity(grid)
        tracemalloc.start()
        warp(image, identity)
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    growth_of_result = 56 * 128 * 128 * 4 / 2**20
    assert peaks[1] - peaks[0] < 1.6 * growth_of_result


def test_trailing_axes_are_kept() -> None:
    field = np.random.default_rng(0).random((4, 5, 2, 3))
    found = linear_samples(field, np.array([[1.25, 3.0]]))
    np.testing.assert_allclose(found[0], 0.75 * field[1, 3] + 0.25 * field[2, 3])
