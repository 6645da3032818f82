"""Labels moved by votes: against one-hot maps read by scipy, SimpleITK's label interpolator, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from itk_resampling import inside_moving, itk_resample
from oblique_grids import registrations
from scipy.ndimage import gaussian_filter, map_coordinates

from regbench.alignment import Alignment, LabelWarp
from regbench.displacement import Displacement
from regbench.label_votes import Votes, map_votes, warp_labels_linear
from regbench.metrics.overlap import dice, jaccard, volume_similarity
from regbench.pair import Pair
from regbench.slabs import Scratch
from regbench.volume import Grid, Image, Labels
from regbench.warp import warp

MODES: tuple[LabelWarp, ...] = ("nearest", "linear", "soft")
seeds = st.integers(0, 2**32 - 1)
shapes = st.sampled_from([(7, 8), (5, 6, 7), (1, 6), (4, 1, 5), (6, 5, 1)])
# The largest labels are 4, 144, 8140, 2^23 and 2^31 - 1: all ways of storing and counting them.
factors = st.sampled_from([1, 36, 2035, 1 << 21, (2**31 - 1) // 4])


def shares(moving: Labels, displacement: Displacement) -> dict[int, np.ndarray]:
    """The one-hot map of every label, background among them, read linearly; background alone outside."""
    places = np.moveaxis(moving.grid.to_voxel(displacement.targets()), -1, 0)
    top = np.array(moving.grid.shape).reshape(-1, *(1,) * moving.grid.ndim) - 1
    inside = np.all((places >= -1e-4) & (places <= top + 1e-4), axis=0)
    found = {}
    for label in (0, *moving.values.tolist()):
        one_hot = (moving.array == label).astype(float)
        share = map_coordinates(one_hot, np.clip(places, 0, top), order=1, mode="nearest")
        found[label] = np.where(inside, share, float(label == 0))
    return found


def _quarters(seed: int, shape: tuple[int, ...], factor: int) -> tuple[Labels, Labels, Displacement]:
    """Two maps and a field of whole quarter voxels: weights are exact, and labels often have the same votes."""
    rng = np.random.default_rng(seed)
    grid = Grid.from_spacing(shape)
    fixed, moving = (Labels(rng.integers(0, 5, shape) * factor, grid) for _ in range(2))
    return fixed, moving, Displacement(rng.integers(-5, 6, (*shape, len(shape))) / 4, grid)


def _alignment(fixed: Labels, moving: Labels, field: Displacement, mode: LabelWarp, threads: int = 1) -> Alignment:
    image = Image(np.zeros(fixed.grid.shape), fixed.grid)
    pair = Pair("p", image, Image(np.zeros(moving.grid.shape), moving.grid), fixed_labels=fixed, moving_labels=moving)
    return Alignment(pair, field, mode, threads)


@settings(max_examples=60, deadline=None)
@given(seeds, shapes, factors)
def test_linear_is_the_largest_share_and_the_smaller_label_of_two(
    seed: int, shape: tuple[int, ...], factor: int
) -> None:
    _, moving, field = _quarters(seed, shape, factor)
    found = shares(moving, field)
    # argmax takes the first of equals, and labels are listed in ascending order.
    expected = np.array(list(found))[np.argmax(list(found.values()), axis=0)]
    np.testing.assert_array_equal(warp_labels_linear(moving, field).array, expected)


@settings(max_examples=30, deadline=None)
@given(registrations(), seeds)
def test_linear_is_the_largest_share_on_any_two_grids(case: tuple[Displacement, Grid], seed: int) -> None:
    field, grid = case
    moving = Labels(np.random.default_rng(seed).integers(0, 4, grid.shape), grid)
    found = shares(moving, field)
    stacked = np.array(list(found.values()))
    clear = np.ptp(np.sort(stacked, axis=0)[-2:], axis=0) > 1e-6
    expected = np.array(list(found))[np.argmax(stacked, axis=0)]
    np.testing.assert_array_equal(warp_labels_linear(moving, field).array[clear], expected[clear])


@settings(max_examples=20, deadline=None)
@given(registrations(), seeds)
def test_linear_agrees_with_simpleitk(case: tuple[Displacement, Grid], seed: int) -> None:
    field, grid = case
    moving = Labels(np.random.default_rng(seed).integers(0, 4, grid.shape), grid)
    inside = inside_moving(field, grid)
    differ = warp_labels_linear(moving, field).array != itk_resample(moving, field, sitk.sitkLabelLinear)
    assert np.count_nonzero(differ & inside) <= 1


@settings(max_examples=40, deadline=None)
@given(seeds, shapes, factors)
def test_soft_overlap_is_that_of_the_shares(seed: int, shape: tuple[int, ...], factor: int) -> None:
    fixed, moving, field = _quarters(seed, shape, factor)
    found = shares(moving, field)
    alignment = _alignment(fixed, moving, field, "soft")
    scores = [metric(alignment)["per_label"] for metric in (dice, jaccard, volume_similarity)]
    for label in alignment.scored_labels.tolist():
        ours, theirs = (fixed.array == label).sum(), found[label].sum()
        both = found[label][fixed.array == label].sum()
        expected = [2 * both / (ours + theirs), both / (ours + theirs - both), 2 * (theirs - ours) / (ours + theirs)]
        assert [score[str(label)] for score in scores] == pytest.approx(expected, abs=1e-12)
    assert dice(alignment)["n_lost"] == sum(found[label].sum() == 0 for label in alignment.scored_labels.tolist())


@settings(max_examples=20, deadline=None)
@given(registrations(), seeds)
def test_votes_sum_to_one_and_are_cast_only_where_corners_differ(case: tuple[Displacement, Grid], seed: int) -> None:
    field, grid = case
    moving = Labels(np.random.default_rng(seed).integers(0, 2, grid.shape), grid)
    nearest = warp(moving, field).array

    def check(rows: slice, votes: Votes, scratch: Scratch) -> None:
        np.testing.assert_allclose(votes.weights.sum(axis=0), 1.0, atol=1e-12)
        assert (votes.weights >= 0).all()
        assert (np.ptp(votes.candidates.astype(int), axis=0) > 0).all()
        agreed = np.delete(votes.labels.ravel(), votes.divided)
        np.testing.assert_array_equal(agreed, np.delete(nearest[rows].ravel(), votes.divided))

    map_votes(check, moving, field)


def test_half_way_between_two_labels_the_smaller_one_wins() -> None:
    grid = Grid.from_spacing((4, 3))
    moving = Labels(np.repeat([[9], [5], [7], [0]], 3, axis=1), grid)
    half = Displacement(np.broadcast_to([0.5, 0.0], (4, 3, 2)), grid)
    assert warp_labels_linear(moving, half).array.tolist() == [[5] * 3, [5] * 3, [0] * 3, [0] * 3]
    assert warp(moving, half).array[:3].tolist() == [[5] * 3, [7] * 3, [0] * 3]


def test_the_majority_wins_even_where_the_nearest_voxel_is_another() -> None:
    grid = Grid.from_spacing((2, 2))
    moving = Labels(np.array([[1, 2], [2, 2]]), grid)
    field = Displacement(np.broadcast_to([0.4, 0.4], (2, 2, 2)), grid)
    assert (warp(moving, field).array[0, 0], warp_labels_linear(moving, field).array[0, 0]) == (1, 2)


def test_outside_of_the_moving_grid_is_background_without_a_margin() -> None:
    grid = Grid.from_spacing((3, 3))
    moving = Labels(np.full((3, 3), 4), grid)
    field = Displacement(np.broadcast_to([0.01, 0.0], (3, 3, 2)), grid)
    assert warp_labels_linear(moving, field).array.tolist() == [[4] * 3, [4] * 3, [0] * 3]
    found = volume_similarity(_alignment(moving, moving, field, "soft"))
    assert found["mean"] == pytest.approx(2 * (6 - 9) / (6 + 9))


@pytest.mark.parametrize("shift", [(0, 0, 0), (1, 0, -2)])
def test_whole_voxel_shifts_are_the_same_in_all_modes(shift: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    grid = Grid.from_spacing((6, 7, 8), (1.0, 2.0, 0.5))
    fixed, moving = (Labels(rng.integers(0, 4, grid.shape), grid) for _ in range(2))
    field = Displacement(np.broadcast_to(shift * grid.spacing_mm, (*grid.shape, 3)), grid)
    np.testing.assert_array_equal(warp_labels_linear(moving, field).array, warp(moving, field).array)
    first, *others = (dice(_alignment(fixed, moving, field, mode)) for mode in MODES)
    assert others == [first, first]


def _blobs(seed: int) -> tuple[Labels, Labels, Displacement]:
    """Smooth labels, the same ones bent, and a field that undoes the bend but for a rough rest."""
    rng = np.random.default_rng(seed)
    grid = Grid.from_spacing((24, 26, 28))
    parts = np.argmax([gaussian_filter(rng.standard_normal(grid.shape), 2.5) for _ in range(4)], axis=0)
    fixed = Labels(parts, grid)
    bend = np.stack([gaussian_filter(rng.standard_normal(grid.shape), 5) * 60 for _ in range(3)], axis=-1)
    rest = np.stack([gaussian_filter(rng.standard_normal(grid.shape), 1.5) * 3 for _ in range(3)], axis=-1)
    return fixed, warp(fixed, Displacement(bend, grid)), Displacement(rest - bend, grid)


def test_modes_give_different_numbers_in_the_known_order() -> None:
    """One-hot maps are blurred and lose overlap; their majority is smoother than nearest voxels and gains some."""
    fixed, moving, field = _blobs(0)
    soft, nearest, linear = (
        dice(_alignment(fixed, moving, field, mode))["mean"] for mode in ("soft", "nearest", "linear")
    )
    assert 0.3 < soft < nearest - 0.002
    assert nearest + 0.002 < linear < 1


def test_soft_has_the_moved_labels_of_linear() -> None:
    fixed, moving, field = _blobs(1)
    linear, soft = (_alignment(fixed, moving, field, mode).moved_labels for mode in ("linear", "soft"))
    assert linear is not None
    assert soft is not None
    np.testing.assert_array_equal(soft.array, linear.array)
    assert (linear.array != warp(moving, field).array).any()


@pytest.mark.parametrize("mode", MODES)
def test_threads_change_no_bit(mode: LabelWarp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regbench.warp._SLAB_POINTS", 1)
    monkeypatch.setattr("regbench.metrics.overlap._PIECE", 1000)
    fixed, moving, field = _blobs(2)
    one, two = (_alignment(fixed, moving, field, mode, threads) for threads in (1, 2))
    assert one.moved_labels is not None
    assert two.moved_labels is not None
    np.testing.assert_array_equal(one.moved_labels.array, two.moved_labels.array)
    for metric in (dice, jaccard, volume_similarity):
        assert metric(one) == metric(two)


def test_names_of_labels_stay() -> None:
    grid = Grid.from_spacing((2, 2))
    moving = Labels(np.ones((2, 2), int), grid, {1: "hippocampus"})
    assert warp_labels_linear(moving, Displacement.identity(grid)).names == {1: "hippocampus"}
