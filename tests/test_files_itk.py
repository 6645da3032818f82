"""SimpleITK in memory: geometry, transforms, and agreement of its resampling with ours."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from oblique_grids import oblique_grid, random_field, random_image, registrations

from regbench.displacement import Displacement
from regbench.errors import DatasetError, InvalidDisplacement
from regbench.files import itk
from regbench.volume import Grid, Image, Labels
from regbench.warp import warp


@settings(max_examples=25, deadline=None)
@given(registrations())
def test_images_labels_and_fields_survive_the_way_there_and_back(case: tuple[Displacement, Grid]) -> None:
    field, grid = case
    rng = np.random.default_rng(0)
    image = random_image(rng, grid)
    back = itk.image_from_sitk(itk.to_sitk(image))
    assert back.grid.matches(grid, 1e-9)
    assert (back.array == image.array).all()
    labels = Labels(rng.integers(0, 300, grid.shape), grid)
    assert (itk.labels_from_sitk(itk.to_sitk(labels)).array == labels.array).all()
    again = itk.displacement_from_sitk(itk.displacement_to_sitk(field), field.grid)
    assert np.abs(again.vectors_mm - field.vectors_mm).max() < 1e-6


@settings(max_examples=25, deadline=None)
@given(registrations(), st.integers(0, 2**32 - 1))
def test_physical_points_agree(case: tuple[Displacement, Grid], seed: int) -> None:
    grid = case[1]
    voxel = np.random.default_rng(seed).uniform(0, 4, grid.ndim)
    theirs = itk.to_sitk(Image(np.zeros(grid.shape), grid)).TransformContinuousIndexToPhysicalPoint(voxel.tolist())
    assert np.allclose(grid.to_world(voxel), theirs * itk.ras_signs(grid.ndim), atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(registrations(), st.integers(0, 2**32 - 1))
def test_simpleitk_resamples_through_our_field_as_we_do(case: tuple[Displacement, Grid], seed: int) -> None:
    field, moving_grid = case
    rng = np.random.default_rng(seed)
    moving = random_image(rng, moving_grid)
    matrix = np.eye(field.grid.ndim + 1)
    matrix[:-1] += rng.normal(0, 0.03, (field.grid.ndim, field.grid.ndim + 1))
    total = field.then(matrix)
    chain = sitk.CompositeTransform(
        [itk.affine_to_sitk(matrix), sitk.DisplacementFieldTransform(itk.displacement_to_sitk(field))]
    )
    like = itk.to_sitk(Image(np.zeros(field.grid.shape), field.grid))
    theirs = sitk.GetArrayFromImage(sitk.Resample(itk.to_sitk(moving), like, chain, sitk.sitkLinear, 0.0)).T
    ours = warp(moving, total).array
    # Between the outermost voxel centres and half a voxel further ITK has values and we have none.
    voxel = moving_grid.to_voxel(total.targets())
    inside = np.all((voxel > 1e-3) & (voxel < np.array(moving_grid.shape) - 1.001), axis=-1)
    assert np.abs(ours - theirs)[inside].max(initial=0) < 1e-5
    assert np.abs(itk.displacement_of_transform(chain, field.grid).vectors_mm - total.vectors_mm).max() < 1e-4


@pytest.mark.parametrize("ndim", [2, 3])
def test_fields_on_another_grid_are_read_as_itk_reads_them(ndim: int) -> None:
    rng = np.random.default_rng(5)
    coarse, fixed = oblique_grid(rng, ndim, np.zeros(ndim)), oblique_grid(rng, ndim, np.ones(ndim), 12, 18)
    field = random_field(rng, coarse)
    ours = itk.displacement_from_sitk(itk.displacement_to_sitk(field), fixed).vectors_mm
    transform = sitk.DisplacementFieldTransform(itk.displacement_to_sitk(field))
    theirs = itk.displacement_of_transform(transform, fixed).vectors_mm
    assert np.abs(ours - theirs).max() < 1e-5
    outside = (ours == 0).all(axis=-1)
    assert 0.05 < outside.mean() < 0.95


def test_an_affine_with_a_centre_keeps_its_offset() -> None:
    transform = sitk.Euler3DTransform((10.0, 20.0, 30.0), 0.1, -0.2, 0.3, (1.0, 2.0, 3.0))
    matrix = itk.affine_from_sitk(transform)
    point = np.array([5.0, -7.0, 11.0])
    expected = np.array(transform.TransformPoint((point * itk.ras_signs(3)).tolist())) * itk.ras_signs(3)
    assert np.allclose(matrix[:3, :3] @ point + matrix[:3, 3], expected)
    assert np.allclose(itk.affine_from_sitk(itk.affine_to_sitk(matrix)), matrix)
    chain = sitk.CompositeTransform([itk.affine_to_sitk(matrix), transform])
    assert np.allclose(itk.affine_from_sitk(chain), matrix @ matrix)


def test_a_deformable_transform_has_no_affine() -> None:
    with pytest.raises(DatasetError, match="not linear"):
        itk.affine_from_sitk(sitk.BSplineTransform(3))


def test_a_sheared_grid_is_refused_and_its_affine_transforms_still_work() -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.2
    grid = Grid((4, 4, 4), affine)
    with pytest.raises(DatasetError, match="right angles"):
        itk.to_sitk(Image(np.zeros((4, 4, 4)), grid))
    field = itk.displacement_of_transform(sitk.TranslationTransform(3, (-2.0, 0, 0)), grid)
    assert np.allclose(field.vectors_mm, [2, 0, 0])


def test_colours_and_fields_of_another_dimension_are_refused() -> None:
    colours = sitk.Image([3, 3, 3], sitk.sitkVectorUInt8, 3)
    with pytest.raises(DatasetError, match="3 values per voxel"):
        itk.image_from_sitk(colours)
    with pytest.raises(InvalidDisplacement, match="2-D fixed image"):
        itk.displacement_from_sitk(colours, Grid.from_spacing((3, 3)))
