"""Normalised mutual information of the fixed and the moved image over the fixed foreground."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.metrics.intensity import ncc, nmi
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels

GRID = Grid((5, 6, 7), np.diag([-1.0, 2.0, 1.5, 1.0]))


def aligned(
    fixed: np.ndarray, moving: np.ndarray, region: np.ndarray | None = None, grid: Grid = GRID, threads: int = 1
) -> Alignment:
    region = np.ones(grid.shape, bool) if region is None else region
    pair = Pair("p", Image(fixed, grid), Image(moving, grid), fixed_labels=Labels(region.astype(int), grid))
    return Alignment(pair, Displacement.identity(grid), threads=threads)


def plain_nmi(fixed: np.ndarray, moving: np.ndarray) -> float:
    """The definition in float64, with one histogram of pairs of bins as a set of labels."""
    codes = []
    for values in (fixed.astype(np.float64).ravel(), moving.astype(np.float64).ravel()):
        position = (values - values.min()) * 64 / (values.max() - values.min())
        codes.append(np.clip(np.floor(position), 0, 63))

    def entropy(code: np.ndarray) -> float:
        share = np.unique(code, return_counts=True)[1] / code.size
        return -float(np.sum(share * np.log(share)))

    return (entropy(codes[0]) + entropy(codes[1])) / entropy(codes[0] * 1000 + codes[1])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, -3.0, 1e4, 1e6]), st.sampled_from([1e-6, 1.0, 2000.0]))
def test_it_equals_its_definition_over_the_foreground(seed: int, offset: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    fixed, noise = rng.random((2, *GRID.shape))
    fixed, moving = fixed * scale + offset, ((fixed + noise) * scale).astype(np.float32)
    region = rng.random(GRID.shape) > 0.4
    alignment = aligned(fixed, moving, region)
    inside = alignment.pair.fixed.array[region]
    if np.unique(inside).size == 1:
        assert np.isnan(nmi(alignment))
    else:
        assert nmi(alignment) == pytest.approx(plain_nmi(inside, moving[region]), abs=1e-12)


@pytest.mark.parametrize("step", [1, 3, 49, 107, 187])
def test_intensities_on_a_limit_between_bins_belong_to_the_upper_one(step: int) -> None:
    # 49 times the rounded 1 / 49 falls short of 1: multiples of the width of a bin show whether limits are exact.
    grid = Grid.from_spacing((6, 7, 12))
    number = np.resize(np.arange(65), grid.shape)
    values, bins = number * step, np.minimum(number, 63)
    counts = np.unique(bins, return_counts=True)[1] / bins.size
    parity = np.resize([0.0, 1.0, 1.0], grid.shape)
    joint = np.unique(bins * 2 + parity, return_counts=True)[1] / bins.size
    second = np.array([1 / 3, 2 / 3])
    h = [-np.sum(p * np.log(p)) for p in (counts, second, joint)]
    assert nmi(aligned(values, parity, grid=grid)) == pytest.approx((h[0] + h[1]) / h[2], abs=1e-12)


def test_of_an_image_with_itself_it_is_two_and_of_unrelated_ones_near_one() -> None:
    rng = np.random.default_rng(0)
    grid = Grid.from_spacing((40, 50, 60))
    fixed, other = rng.random((2, *grid.shape))
    assert nmi(aligned(fixed, fixed, grid=grid)) == pytest.approx(2, abs=1e-12)
    assert nmi(aligned(fixed, 3 - fixed, grid=grid)) == pytest.approx(2, abs=0.01)
    assert 1 <= nmi(aligned(fixed, other, grid=grid)) < 1.01


def test_it_does_not_depend_on_a_linear_change_of_intensity() -> None:
    rng = np.random.default_rng(1)
    fixed, moving = rng.integers(0, 129, (2, *GRID.shape))
    fixed[0, 0, :2], moving[0, 0, :2] = (0, 128), (0, 128)
    assert nmi(aligned(fixed, moving)) == nmi(aligned(4 * fixed - 1000, 0.5 * moving + 64))


def test_voxels_outside_of_the_foreground_do_not_count() -> None:
    rng = np.random.default_rng(2)
    fixed, moving = rng.random((2, *GRID.shape))
    region = rng.random(GRID.shape) > 0.5
    value = nmi(aligned(fixed, moving, region))
    fixed[~region], moving[~region] = 1e5, -1e5
    assert nmi(aligned(fixed, moving, region)) == value


def test_tissue_lost_outside_of_the_moving_image_counts_as_zero_intensity() -> None:
    fixed = np.random.default_rng(3).random(GRID.shape) + 1
    image = Image(fixed, GRID)
    away = Displacement(np.broadcast_to([-2.0, 0, 0], (*GRID.shape, 3)), GRID)
    moved = np.zeros(GRID.shape, np.float32)
    moved[:-2] = image.array[2:]
    assert nmi(Alignment(Pair("p", image, image), away)) == pytest.approx(plain_nmi(image.array, moved), abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_constant_image_has_none(value: float) -> None:
    varied, constant = np.random.default_rng(0).random(GRID.shape) + 1, np.full(GRID.shape, value)
    assert np.isnan(nmi(aligned(varied, constant)))
    assert np.isnan(nmi(aligned(constant, varied)))


def test_a_single_voxel_of_foreground_has_no_similarity() -> None:
    rng = np.random.default_rng(0)
    region = np.zeros(GRID.shape, bool)
    region[1, 2, 3] = True
    alignment = aligned(*rng.random((2, *GRID.shape)), region)
    assert np.isnan(nmi(alignment)) and np.isnan(ncc(alignment))


@pytest.mark.parametrize("shape", [(70, 60, 80), (500, 700), (1, 9, 9)])
def test_two_threads_change_no_bit_of_any_similarity(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    grid = Grid.from_spacing(shape)
    fixed, noise = rng.random((2, *shape), dtype=np.float32)
    region = rng.random(shape) > 0.1
    one, two = (aligned(fixed, fixed + noise, region, grid, threads) for threads in (1, 2))
    assert (ncc(one), nmi(one)) == (ncc(two), nmi(two))
    moved = two.moved_image.array[region]
    assert ncc(two) == pytest.approx(np.corrcoef(fixed[region].astype(float), moved.astype(float))[0, 1], abs=1e-9)
    assert nmi(two) == pytest.approx(plain_nmi(fixed[region], moved), abs=1e-12)
