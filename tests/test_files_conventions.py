"""Fields of other programs as arrays: round trips, hand-made values, and agreement with torch and SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from oblique_grids import oblique_grid, random_field, random_image, registrations

from regbench.displacement import Displacement
from regbench.errors import InvalidDisplacement
from regbench.files import conventions as c
from regbench.volume import Grid
from regbench.warp import warp


def assert_same(found: Displacement, expected: Displacement, tolerance_mm: float = 1e-4) -> None:
    assert found.grid is expected.grid
    assert np.abs(found.vectors_mm - expected.vectors_mm).max() < tolerance_mm


@settings(max_examples=25, deadline=None)
@given(registrations())
def test_every_convention_round_trips_between_different_oblique_grids(case: tuple[Displacement, Grid]) -> None:
    field, moving = case
    fixed = field.grid
    assert_same(c.from_itk_vectors(c.to_itk_vectors(field), fixed), field, 1e-6)
    assert_same(c.from_learn2reg(c.to_learn2reg(field, moving), fixed, moving), field)
    assert_same(c.from_voxelmorph(c.to_voxelmorph(field, moving)[None], fixed, moving), field)
    for aligned in (True, False):
        back = c.from_grid_sample(c.to_grid_sample(field, moving, aligned), fixed, moving, aligned)
        assert_same(back, field)
    if fixed.ndim == 3:
        for absolute in (True, False):
            assert_same(c.from_fsl(c.to_fsl(field, moving, absolute), fixed, moving, absolute), field)


def test_itk_vectors_flip_the_first_two_components_in_2d_and_3d() -> None:
    for ndim, expected in ((2, [-1, -2]), (3, [-1, -2, 3])):
        grid = Grid.from_spacing((3,) * ndim)
        field = Displacement(np.broadcast_to(np.arange(1.0, ndim + 1), (*grid.shape, ndim)), grid)
        assert (c.to_itk_vectors(field) == expected).all()


def test_voxel_fields_count_moving_voxels_along_moving_axes() -> None:
    fixed = Grid.from_spacing((4, 5, 6), 1.0)
    # Moving voxels of 2 mm whose first axis runs along the world's y.
    moving = Grid((6, 5, 4), np.array([[0, 2.0, 0, 0], [2, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]))
    field = Displacement(np.broadcast_to([4.0, 0, 0], (4, 5, 6, 3)), fixed)
    voxels = c.to_learn2reg(field, moving)
    # Fixed voxel (1, 2, 3) is at (1, 2, 3) mm, its target (5, 2, 3) mm is moving voxel (1, 2.5, 1.5).
    assert np.allclose(voxels[1, 2, 3], np.array([1, 2.5, 1.5]) - [1, 2, 3])
    assert np.allclose(c.to_voxelmorph(field, moving)[:, 1, 2, 3], voxels[1, 2, 3])


def test_half_resolution_learn2reg_fields_are_enlarged_in_full_voxels() -> None:
    grid = Grid.from_spacing((8, 12, 10), (1.0, 2.0, 1.5))
    constant = np.broadcast_to(np.array([1, -2, 3], np.float16)[:, None, None, None], (3, 4, 6, 5))
    field = c.from_learn2reg(constant, grid, grid)
    assert np.allclose(field.vectors_mm, [1, -4, 4.5], atol=1e-3)
    # A linear field stays linear, corners on corners.
    ramp = np.zeros((3, 4, 6, 5), np.float16)
    ramp[0] = np.arange(4)[:, None, None]
    wide = c.from_learn2reg(ramp, grid, grid).vectors_mm[..., 0]
    assert np.allclose(wide[2:-2, 0, 0], np.linspace(0, 3, 8)[2:-2], atol=0.05)
    assert np.allclose(wide[[0, -1]], np.array([0, 3])[:, None, None], atol=1e-3)
    odd = Grid.from_spacing((9, 12, 10))
    with pytest.raises(InvalidDisplacement, match="expected"):
        c.from_learn2reg(constant, odd, odd)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("aligned", [True, False])
def test_torch_grid_sample_agrees_with_our_warp(ndim: int, aligned: bool) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(ndim)
    fixed, moving = (oblique_grid(rng, ndim, np.zeros(ndim), 8, 13) for _ in range(2))
    field, image = random_field(rng, fixed, 2.0), random_image(rng, moving)
    ours = warp(image, field).array
    grid = torch.from_numpy(c.to_grid_sample(field, moving, aligned))
    source = torch.from_numpy(np.array(image.array))[None, None]
    theirs = torch.nn.functional.grid_sample(source, grid, align_corners=aligned)[0, 0].numpy()
    inside = ours > 0
    assert inside.mean() > 0.1
    assert np.abs(ours - theirs)[inside].max() < 1e-5
    wrong = torch.nn.functional.grid_sample(source, grid, align_corners=not aligned)[0, 0].numpy()
    assert np.abs(ours - wrong)[inside].max() > 0.05


def test_fsl_reverses_the_first_axis_of_right_handed_grids_only() -> None:
    for sign, expected in ((1.0, -2.0), (-1.0, 2.0)):
        affine = np.diag([sign * 2.0, 2, 2, 1])
        grid = Grid((4, 4, 4), affine)
        # Two mm along the first voxel axis of each grid.
        field = Displacement(np.broadcast_to([sign * 2.0, 0, 0], (4, 4, 4, 3)), grid)
        assert np.allclose(c.to_fsl(field, grid), [expected, 0, 0])
        position = c.to_fsl(field, grid, absolute=True)[0, 0, 0]
        # Right-handed: voxel 0 lies at the far end, 6 mm; its target voxel 1 at 4 mm.
        assert np.allclose(position, [4.0 if sign > 0 else 2.0, 0, 0])


def test_fsl_warps_are_three_dimensional() -> None:
    grid = Grid.from_spacing((4, 4))
    with pytest.raises(InvalidDisplacement, match="3-D only"):
        c.to_fsl(Displacement.identity(grid), grid)


def test_arrays_that_do_not_fit_the_fixed_grid_are_refused() -> None:
    grid = Grid.from_spacing((4, 5, 6))
    wrong = np.zeros((5, 4, 6, 3))
    for read in (
        lambda: c.from_itk_vectors(wrong, grid),
        lambda: c.from_learn2reg(wrong, grid, grid),
        lambda: c.from_voxelmorph(wrong, grid, grid),
        lambda: c.from_grid_sample(wrong, grid, grid, True),
        lambda: c.from_fsl(wrong, grid, grid, False),
    ):
        with pytest.raises(InvalidDisplacement, match=r"\(5, 4, 6, 3\)"):
            read()


def test_nan_in_a_foreign_field_is_refused() -> None:
    grid = Grid.from_spacing((4, 5, 6))
    field = np.zeros((4, 5, 6, 3))
    field[0, 0, 0, 0] = np.nan
    with pytest.raises(InvalidDisplacement, match="NaN"):
        c.from_learn2reg(field, grid, grid)
