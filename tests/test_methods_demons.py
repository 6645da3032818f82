"""Demons: direction and unit of the field on any grid, levels, and images that cannot be matched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from regbench.contract import phantom
from regbench.displacement import Displacement
from regbench.errors import ConfigError, MethodError
from regbench.methods.demons import Demons, JenaDemons, SymmetricDemons
from regbench.pair import BlindPair
from regbench.volume import Grid, Image
from regbench.warp import warp

FEW = Demons(iterations=(30, 20, 0))


def on(grid: Grid, image: Image) -> Image:
    return Image(image.array, grid)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_field_turns_with_the_grid(ndim: int) -> None:
    """The same voxels on another grid: the field is the same in voxels, whatever the direction of the axes."""
    pair = phantom.bent(ndim).blind()
    moving = warp(pair.moving, Displacement.identity(pair.fixed.grid))
    spacing = tuple(float(s) for s in pair.fixed.grid.spacing_mm)
    straight = Grid.from_spacing(pair.fixed.grid.shape, spacing)
    turned = FEW.register(BlindPair("turned", pair.fixed, moving)).in_voxels(pair.fixed.grid)
    plain = FEW.register(BlindPair("straight", on(straight, pair.fixed), on(straight, moving))).in_voxels(straight)
    np.testing.assert_allclose(turned, plain, atol=1e-4)


def test_a_sheared_grid_is_no_obstacle() -> None:
    grid = Grid((24, 24), np.array([[2.0, 0.7, 0], [0, 2.0, 0], [0, 0, 1.0]]))
    centred = Grid(grid.shape, np.vstack([np.column_stack([grid.linear, [-18.0, -43.0]]), [0, 0, 1]]))
    shift = np.array([3.0, -2.5])
    fixed, moving = (Image(phantom.scene(centred.world_points() + u), centred) for u in (shift, 0.0))
    found = FEW.register(BlindPair("sheared", fixed, moving)).vectors_mm[fixed.array > 0.5]
    assert np.abs(found.mean(axis=0) - shift).max() < 0.6


def test_the_unit_of_the_intensities_does_not_matter() -> None:
    pair = phantom.bent(2).blind()
    scaled = replace(
        pair,
        fixed=Image(pair.fixed.array * 4000 - 1000, pair.fixed.grid),
        moving=Image(pair.moving.array * 4000 - 1000, pair.moving.grid),
    )
    np.testing.assert_allclose(FEW.register(scaled).vectors_mm, FEW.register(pair).vectors_mm, atol=0.05)


def test_matching_histograms_bridges_a_change_of_contrast() -> None:
    pair = phantom.bent(2)
    brighter = replace(pair.blind(), moving=Image(3 * pair.moving.array**1.4, pair.moving.grid))
    matched, plain = (
        phantom.error_mm(replace(FEW, match_histograms=m).register(brighter), pair) for m in (True, False)
    )
    assert matched < 0.5 * plain


def test_every_level_adds_to_the_one_before() -> None:
    pair = phantom.bent(3)
    coarse, both = (
        phantom.error_mm(Demons(shrink=(4, 2), iterations=its).register(pair.blind()), pair)
        for its in ((40, 0), (40, 40))
    )
    assert both < coarse < phantom.error_mm(Displacement.identity(pair.fixed.grid), pair)


def test_without_iterations_nothing_moves() -> None:
    assert Demons(iterations=(0, 0, 0)).register(phantom.bent(2).blind()).max_mm == 0


def test_a_thin_stack_keeps_its_slices() -> None:
    grid = Grid.from_spacing((24, 24, 3), (2.0, 2.0, 5.0))
    points = grid.world_points() + phantom.CENTRE_MM - np.array([23.0, 23.0, 5.0])
    fixed, moving = Image(phantom.scene(points + np.array([3.0, 0, 0])), grid), Image(phantom.scene(points), grid)
    found = FEW.register(BlindPair("thin", fixed, moving)).vectors_mm[fixed.array > 0.5]
    assert found[:, 0].mean() == pytest.approx(3.0, abs=0.6)


@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_a_flat_image_is_one_sentence(side: str) -> None:
    pair = phantom.bent(2).blind()
    grid = getattr(pair, side).grid
    with pytest.raises(MethodError, match=f"the {side} image is flat"):
        FEW.register(replace(pair, **{side: Image(np.ones(grid.shape), grid)}))


@pytest.mark.parametrize(
    "wrong", [{"shrink": (2, 1)}, {"shrink": (), "iterations": ()}, {"step_voxels": 0}, {"smoothing_voxels": -1}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"methods\.demons"):
        Demons(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("forces", ["diffeomorphic", "fast-symmetric"])
def test_both_forces_follow_a_bend_and_differ(forces: Any) -> None:
    pair = phantom.bent(2)
    found = replace(FEW, forces=forces).register(pair.blind())
    assert phantom.error_mm(found, pair) < 0.3 * phantom.error_mm(Displacement.identity(pair.fixed.grid), pair)
    other = replace(FEW, forces="diffeomorphic" if forces == "fast-symmetric" else "fast-symmetric")
    assert np.abs(other.register(pair.blind()).vectors_mm - found.vectors_mm).max() > 0.1


def test_the_published_call_is_that_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """The filter of its script, by hand: one level, 200 iterations, sigma 1, histograms of 1024 levels and 7 points."""
    import SimpleITK as sitk

    pair = phantom.bent(3).blind()
    grid = Grid.from_spacing(pair.fixed.grid.shape, 2.0)
    fixed, moving = on(grid, pair.fixed), on(grid, warp(pair.moving, Displacement.identity(pair.fixed.grid)))
    found = JenaDemons().register(BlindPair("one grid", fixed, moving)).vectors_mm
    arrays = [sitk.GetImageFromArray(image.array.T) for image in (fixed, moving)]
    for array in arrays:
        array.SetSpacing([2.0, 2.0, 2.0])
    matching = sitk.HistogramMatchingImageFilter()
    matching.SetNumberOfHistogramLevels(1024)
    matching.SetNumberOfMatchPoints(7)
    matching.ThresholdAtMeanIntensityOn()
    demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfIterations(200)
    demons.SetStandardDeviations(1.0)
    field = demons.Execute(arrays[0], matching.Execute(arrays[1], arrays[0]))
    theirs = sitk.GetArrayFromImage(field).transpose(2, 1, 0, 3)
    # The adapter scales intensities, which moves what the filter takes for no difference.
    assert np.linalg.norm(found - theirs, axis=-1)[fixed.array > 0.3].mean() < 0.1
    assert np.linalg.norm(theirs, axis=-1)[fixed.array > 0.3].mean() > 2


def test_presets_are_what_their_names_say() -> None:
    assert (SymmetricDemons().forces, SymmetricDemons().shrink) == ("fast-symmetric", (4, 2, 1))
    assert (JenaDemons().shrink, JenaDemons().iterations, JenaDemons().smoothing_voxels) == ((1,), (200,), 1.0)
    assert (JenaDemons().histogram_levels, Demons().forces) == (1024, "diffeomorphic")
