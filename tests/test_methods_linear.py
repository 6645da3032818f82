"""World affines: moments, rigid and affine estimates against motions that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regbench.contract import phantom
from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodError
from regbench.methods.linear import Affine, Moments, Rigid, centre_mm, foreground
from regbench.pair import BlindPair
from regbench.volume import Grid, Image, Labels


def box(grid: Grid, low: tuple[int, ...], high: tuple[int, ...], level: float = 1.0) -> Image:
    array = np.zeros(grid.shape)
    array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = level
    return Image(array, grid)


@pytest.mark.parametrize("ndim", [2, 3])
def test_moments_match_the_centres_of_boxes_exactly(ndim: int) -> None:
    fixed_grid, moving_grid = phantom.grids(ndim)
    fixed = box(fixed_grid, (3,) * ndim, (8,) * ndim)
    moving = box(moving_grid, (10,) * ndim, (17,) * ndim, level=300.0)
    matrix = Moments().estimate(BlindPair("boxes", fixed, moving))
    np.testing.assert_array_equal(matrix[:-1, :-1], np.eye(ndim))
    moved = fixed_grid.to_world(np.full(ndim, 5.0)) + matrix[:-1, -1]
    np.testing.assert_allclose(moved, moving_grid.to_world(np.full(ndim, 13.0)), atol=1e-9)


@pytest.mark.parametrize("flat", ["fixed", "moving"])
def test_moments_fall_back_to_the_middles_of_the_grids_where_an_image_is_flat(flat: str) -> None:
    fixed_grid, moving_grid = phantom.grids(3)
    pair = BlindPair("flat", box(fixed_grid, (0, 0, 0), (4, 4, 4)), box(moving_grid, (0, 0, 0), (4, 4, 4)))
    image = getattr(pair, flat)
    pair = replace(pair, **{flat: Image(np.full(image.grid.shape, 7.0), image.grid)})
    middles = [g.to_world((np.array(g.shape) - 1) / 2) for g in (moving_grid, fixed_grid)]
    np.testing.assert_allclose(Moments().estimate(pair)[:-1, -1], middles[0] - middles[1], atol=1e-9)


def test_a_mask_decides_what_the_foreground_is() -> None:
    grid = Grid.from_spacing((10, 10), 2.0)
    image = box(grid, (0, 0), (10, 5))
    mask = Labels(np.pad(np.ones((2, 2), np.uint8), ((8, 0), (8, 0))), grid)
    np.testing.assert_allclose(centre_mm(foreground(image, mask), image), [17.0, 17.0])
    np.testing.assert_allclose(centre_mm(foreground(image), image), [9.0, 4.0])


def test_foreground_does_not_depend_on_the_unit_or_offset_of_intensities() -> None:
    image = phantom.shifted(2).fixed
    air = Image(image.array * 1500 - 1000, image.grid)
    share = (foreground(air) == foreground(image)).mean()
    assert share > 0.999
    assert 0.1 < foreground(image).mean() < 0.9


@pytest.mark.parametrize("ndim", [2, 3])
def test_rigid_finds_a_rotation_and_nothing_but_one(ndim: int) -> None:
    pair = phantom.turned(ndim)
    matrix = Rigid(samples=5000, shrink=(2, 1)).estimate(pair.blind())
    np.testing.assert_allclose(matrix[:-1, :-1] @ matrix[:-1, :-1].T, np.eye(ndim), atol=1e-9)
    assert np.linalg.det(matrix[:-1, :-1]) == pytest.approx(1.0)
    assert phantom.error_mm(Displacement.from_affine(matrix, pair.fixed.grid), pair) < 0.3


@pytest.mark.parametrize("ndim", [2, 3])
def test_affine_finds_the_stretch_that_rigid_cannot(ndim: int) -> None:
    pair = phantom.stretched(ndim)
    affine, rigid = (
        phantom.error_mm(m.register(pair.blind()), pair) for m in (Affine(shrink=(2, 1)), Rigid(shrink=(2,)))
    )
    assert affine < 0.5 * rigid


def test_information_does_not_need_the_same_contrast() -> None:
    pair = phantom.turned(2)
    inverted = replace(pair.blind(), moving=Image(pair.moving.array.max() - pair.moving.array, pair.moving.grid))
    # Inverted, the surroundings are bright; moments would be misled without masks.
    body = Labels(pair.moving.array > 0.3, pair.moving.grid)
    inverted = replace(inverted, fixed_mask=pair.fixed_labels, moving_mask=body)
    matrix = Rigid().estimate(inverted)
    assert phantom.error_mm(Displacement.from_affine(matrix, pair.fixed.grid), pair) < 1.0


def test_a_seed_changes_the_samples_and_not_the_result_by_much() -> None:
    pair = phantom.turned(3)
    few = {"samples": 4000, "shrink": (2, 1)}
    first, other = (Rigid(seed=seed, **few).estimate(pair.blind()) for seed in (0, 1))  # type: ignore[arg-type]
    assert not np.array_equal(first, other)
    assert np.abs(first - other).max() < 0.5


@pytest.mark.parametrize("threads", [1, 3])
def test_the_matrix_does_not_depend_on_the_number_of_threads(threads: int) -> None:
    import SimpleITK as sitk

    pair = phantom.stretched(2).blind()
    expected = Affine().estimate(pair)
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
        np.testing.assert_array_equal(Affine().estimate(pair), expected)
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def test_images_that_cannot_be_matched_are_one_sentence() -> None:
    grid = Grid.from_spacing((24, 24), 2.0)
    pair = BlindPair("flat", box(grid, (4, 4), (9, 9)), Image(np.zeros(grid.shape), grid))
    with pytest.raises(MethodError, match="flat: SimpleITK could not match the images") as caught:
        Affine().estimate(pair)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cls", [Rigid, Affine])
@pytest.mark.parametrize("wrong", [{"shrink": ()}, {"shrink": (0,)}, {"iterations": 0}, {"bins": 2}, {"samples": 0}])
def test_settings_that_make_no_sense_are_refused(cls: type, wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"methods.{cls.__name__.lower()}"):
        cls(**wrong)
