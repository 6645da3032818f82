"""LNCC and SSIM against windows cut out one by one, and against scipy's uniform filter on larger images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.metrics.local_similarity import LocalSimilarity, lncc, local_similarity, ssim
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels

SHAPES = [(6, 7, 8), (11, 3, 10), (1, 12, 5), (13, 1, 1), (12, 14), (1, 20), (20, 2), (4, 4, 21)]


def aligned(fixed: np.ndarray, moving: np.ndarray, region: np.ndarray | None = None, threads: int = 1) -> Alignment:
    grid = Grid.from_spacing(fixed.shape)
    region = np.ones(grid.shape, bool) if region is None else region
    pair = Pair("p", Image(fixed, grid), Image(moving, grid), fixed_labels=Labels(region.astype(int), grid))
    return Alignment(pair, Displacement.identity(grid), threads=threads)


def windows(alignment: Alignment) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    fixed, moved = (image.array.astype(np.float64) for image in (alignment.pair.fixed, alignment.moved_image))
    for voxel in np.argwhere(alignment.foreground):
        window = tuple(slice(max(i - 4, 0), i + 5) for i in voxel)
        yield fixed[window].ravel(), moved[window].ravel()


def plain_lncc(alignment: Alignment) -> float:
    """The definition, one window after the other."""
    found = []
    for f, m in windows(alignment):
        varies = f.std() > 0 and m.std() > 0
        found.append(np.corrcoef(f, m)[0, 1] ** 2 if varies else 0.0)
    return float(np.mean(found))


def plain_ssim(alignment: Alignment) -> float:
    dynamic = np.ptp(alignment.pair.fixed.array.astype(np.float64))
    c1, c2 = (0.01 * dynamic) ** 2, (0.03 * dynamic) ** 2
    found = []
    for f, m in windows(alignment):
        luminance = (2 * f.mean() * m.mean() + c1) / (f.mean() ** 2 + m.mean() ** 2 + c1)
        covariance = np.mean((f - f.mean()) * (m - m.mean()))
        found.append(luminance * (2 * covariance + c2) / (f.var() + m.var() + c2))
    return float(np.mean(found))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SHAPES), st.sampled_from([0.0, -40.0, 1e4]), st.booleans())
def test_both_equal_windows_cut_out_one_by_one(seed: int, shape: tuple[int, ...], offset: float, some: bool) -> None:
    rng = np.random.default_rng(seed)
    fixed, noise = 100 * rng.random((2, *shape))
    region = rng.random(shape) > 0.6 if some else np.ones(shape, bool)
    region[tuple(rng.integers(shape))] = True
    alignment = aligned(fixed + offset, fixed * rng.normal() + noise, region)
    assert lncc(alignment) == pytest.approx(plain_lncc(alignment), abs=1e-9)
    assert ssim(alignment) == pytest.approx(plain_ssim(alignment), abs=1e-9)


def filtered(alignment: Alignment) -> LocalSimilarity:
    """The same from scipy's uniform filter, for images too large for windows one by one."""
    f, m = (image.array.astype(np.float64) for image in (alignment.pair.fixed, alignment.moved_image))
    dynamic, centres = np.ptp(f), (f.mean(), m.mean())
    f, m = f - centres[0], m - centres[1]

    def total(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, 9, mode="constant")

    share = total(np.ones_like(f))
    mean_f, mean_m, ff, mm, fm = (total(values) / share for values in (f, m, f * f, m * m, f * m))
    ff, mm, fm = ff - mean_f**2, mm - mean_m**2, fm - mean_f * mean_m
    mean_f, mean_m = mean_f + centres[0], mean_m + centres[1]
    c1, c2 = (0.01 * dynamic) ** 2, (0.03 * dynamic) ** 2
    structure = (2 * mean_f * mean_m + c1) / (mean_f**2 + mean_m**2 + c1) * (2 * fm + c2) / (ff + mm + c2)
    inside = alignment.foreground
    return LocalSimilarity(float((fm**2 / (ff * mm))[inside].mean()), float(structure[inside].mean()))


def head(shape: tuple[int, ...], offset: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two related smooth images and an ellipsoid off the centre."""
    rng = np.random.default_rng(0)
    texture = [ndimage.gaussian_filter(rng.standard_normal(shape), 1.5) for _ in range(2)]
    points = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    region = np.square(points + 0.1).sum(axis=0) < 0.6
    return 500 * texture[0] + offset, 400 * texture[0] + 300 * texture[1] + offset / 2, region


@pytest.mark.parametrize("shape", [(40, 45, 50), (25, 130, 60), (200, 170)])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_both_equal_uniform_filters_also_with_a_large_offset(shape: tuple[int, ...], offset: float) -> None:
    alignment = aligned(*head(shape, offset))
    found, expected = local_similarity(alignment), filtered(alignment)
    assert 0.3 < found.lncc < 0.9
    assert found.lncc == pytest.approx(expected.lncc, abs=1e-12)
    assert found.ssim == pytest.approx(expected.ssim, abs=1e-12)


@pytest.mark.parametrize("shape", [(70, 33, 21), (90, 80)])
def test_threads_and_blocks_change_no_bit(shape: tuple[int, ...]) -> None:
    images = head(shape)
    one = local_similarity(aligned(*images))
    for threads, block_points in ((1, 10**7), (1, 1), (2, 48_000), (3, 700), (8, 1500)):
        assert local_similarity(aligned(*images, threads=threads), block_points) == one


def test_they_do_not_depend_on_the_order_and_direction_of_axes() -> None:
    fixed, moving, region = head((20, 26, 23))
    one = local_similarity(aligned(fixed, moving, region))
    for turn in (lambda a: a.transpose(2, 0, 1), lambda a: a[::-1, :, ::-1], lambda a: a.transpose(1, 0, 2)[:, ::-1]):
        other = local_similarity(aligned(turn(fixed), turn(moving), turn(region)))
        assert other.lncc == pytest.approx(one.lncc, abs=1e-12)
        assert other.ssim == pytest.approx(one.ssim, abs=1e-12)


def test_a_linear_change_of_intensity_leaves_the_correlation_at_one() -> None:
    fixed, _, region = head((20, 22, 24))
    for factor in (2.0, -0.1):
        assert lncc(aligned(fixed, factor * fixed + 30, region)) == pytest.approx(1, abs=1e-6)
    assert ssim(aligned(fixed, fixed, region)) == pytest.approx(1, abs=1e-12)
    assert ssim(aligned(fixed + 1000, 1000 - fixed, region)) < -0.3


def test_a_constant_offset_costs_luminance_only() -> None:
    rng = np.random.default_rng(0)
    fixed = rng.random((9, 9, 9)).astype(np.float32)
    region = np.zeros(fixed.shape, bool)
    region[4, 4, 4] = True
    alignment = aligned(fixed, fixed + np.float32(0.5), region)
    mean, other = fixed.mean(dtype=float), alignment.moved_image.array.mean(dtype=float)
    c1 = (0.01 * np.ptp(fixed)) ** 2
    assert ssim(alignment) == pytest.approx((2 * mean * other + c1) / (mean**2 + other**2 + c1), abs=1e-6)


def test_voxels_farther_than_the_window_from_the_foreground_do_not_count() -> None:
    rng = np.random.default_rng(1)
    fixed, moving = rng.random((2, 30, 30))
    fixed[0, 0], fixed[0, 1] = 5, -5
    region = np.zeros(fixed.shape, bool)
    region[12:16, 14:17] = True
    one = local_similarity(aligned(fixed, moving, region))
    near = ndimage.binary_dilation(region, np.ones((9, 9)))
    far = np.where(near, 0, rng.random(near.shape))
    assert local_similarity(aligned(fixed + far * (np.abs(fixed) < 2), moving + 100 * far, region)) == one
    touched = moving.copy()
    touched[8, 10] += 3
    assert local_similarity(aligned(fixed, touched, region)).lncc != one.lncc


@pytest.mark.parametrize("level", [0.0, 0.1, 247.0, 1e6 + 0.1])
def test_constant_windows_count_zero_and_a_constant_image_has_no_correlation(level: float) -> None:
    rng = np.random.default_rng(2)
    varied = level + rng.integers(1, 200, (40, 20))
    half = varied.astype(float)
    half[:20] = level
    region = np.ones(varied.shape, bool)
    alone = region.copy()
    alone[:16] = False
    # Windows about rows 0 to 15 see the constant half only.
    assert lncc(aligned(half, half)) == pytest.approx(24 / 40, abs=1e-9)
    assert lncc(aligned(half, half, alone)) == pytest.approx(1, abs=1e-9)
    assert lncc(aligned(half, half, ~alone)) != lncc(aligned(half, half, ~alone))
    constant = np.full(varied.shape, level)
    for alignment in (aligned(constant, varied), aligned(varied, constant), aligned(constant, constant)):
        assert np.isnan(lncc(alignment))
    assert np.isnan(ssim(aligned(constant, varied)))
    assert ssim(aligned(varied, constant)) == pytest.approx(plain_ssim(aligned(varied, constant)), abs=1e-6)


def test_a_faint_structure_beside_a_bright_one_is_not_taken_for_constant() -> None:
    fixed = np.zeros((12, 40))
    fixed[:, 30:] = 4095
    fixed[6, 6] = 1
    region = np.zeros(fixed.shape, bool)
    region[:, 4:9] = True
    assert lncc(aligned(fixed, 3 * fixed, region)) == pytest.approx(plain_lncc(aligned(fixed, fixed, region)), abs=1e-6)
    assert lncc(aligned(fixed, 3 * fixed, region)) > 0.5


def test_structure_below_the_steps_of_the_brightest_intensity_is_taken_for_constant() -> None:
    rng = np.random.default_rng(4)
    fixed, moving = np.zeros((12, 40)), rng.random((12, 40))
    fixed[:, :20] = 0.3 * moving[:, :20]
    fixed[:, 30:] = 1e6 + 1e5 * moving[:, 30:]
    faint, bright = np.zeros(fixed.shape, bool), np.zeros(fixed.shape, bool)
    faint[:, 4:9], bright[6, 36] = True, True
    assert lncc(aligned(fixed, moving, faint)) == pytest.approx(1, abs=1e-6)
    assert lncc(aligned(fixed, moving, bright)) == pytest.approx(1, abs=1e-6)
    assert lncc(aligned(fixed, moving, faint | bright)) == pytest.approx(1 / 61, abs=1e-6)


def test_tissue_lost_outside_of_the_moving_image_counts_as_zero_intensity() -> None:
    rng = np.random.default_rng(3)
    image = Image(rng.random((9, 10, 8)) + 1, Grid.from_spacing((9, 10, 8)))
    away = Displacement(np.broadcast_to([2.0, 0, 0], (9, 10, 8, 3)), image.grid)
    alignment = Alignment(Pair("p", image, image), away)
    assert (alignment.moved_image.array[-2:] == 0).all()
    assert lncc(alignment) == pytest.approx(plain_lncc(alignment), abs=1e-9)
    assert ssim(alignment) == pytest.approx(plain_ssim(alignment), abs=1e-9)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_very_small_and_very_large_intensities_neither_vanish_nor_overflow(scale: float) -> None:
    fixed, moving, region = head((12, 13, 14))
    expected = local_similarity(aligned(fixed, moving, region))
    found = local_similarity(aligned(fixed * scale, moving * scale, region))
    assert found.lncc == pytest.approx(expected.lncc, abs=1e-5)
    assert found.ssim == pytest.approx(expected.ssim, abs=1e-5)
