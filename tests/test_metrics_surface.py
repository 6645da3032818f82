"""Surface distances: element areas against plain facts, HD95 against a plain restatement, rules for lost labels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oblique_grids import rotation
from scipy.spatial import cKDTree

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.metrics import surface_distance
from regbench.metrics.surface_distance import hd95_mm, surface_percentiles
from regbench.metrics.surface_elements import element_sizes
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels

seeds = st.integers(0, 2**32 - 1)


def _distances(fixed: np.ndarray, moving: np.ndarray, grid: Grid, shift: np.ndarray | None = None) -> dict:
    image = Image(np.zeros(fixed.shape), grid)
    pair = Pair("p", image, image, fixed_labels=Labels(fixed, grid), moving_labels=Labels(moving, grid))
    vectors = np.zeros((*fixed.shape, fixed.ndim)) if shift is None else np.broadcast_to(shift, (*fixed.shape, 3))
    return hd95_mm(Alignment(pair, Displacement(vectors, grid)))


def _elements(region: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points in mm and sizes of all surface elements of a region, from the codes of all corners of the grid."""
    padded = np.pad(region.astype(int), 1)
    sizes = element_sizes(steps)
    codes = np.zeros([n + 1 for n in region.shape], int)
    for corner in product((0, 1), repeat=region.ndim):
        codes = 2 * codes + padded[tuple(slice(c, n + 1 + c) for c, n in zip(corner, region.shape, strict=True))]
    border = np.argwhere((codes > 0) & (codes < len(sizes) - 1))
    return border @ steps.T, sizes[codes[tuple(border.T)]]


def _plain_hd95(first: np.ndarray, second: np.ndarray, steps: np.ndarray) -> float:
    one, two = _elements(first, steps), _elements(second, steps)
    percentiles = []
    for (points, areas), (targets, _) in ((one, two), (two, one)):
        distances = cKDTree(targets).query(points)[0]
        order = np.argsort(distances)
        within = np.cumsum(areas[order])
        percentiles.append(distances[order][np.argmax(within >= 0.95 * areas.sum() * (1 - 1e-12))])
    return max(percentiles)


def _random_regions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Two unions of random boxes, which may touch the border."""
    regions = np.zeros((2, *shape), int)
    for region in regions:
        for _ in range(rng.integers(1, 4)):
            low = [rng.integers(0, n) for n in shape]
            region[tuple(slice(a, a + rng.integers(1, 6)) for a in low)] = 1
        region[tuple(rng.integers(0, shape))] = 1
    return regions


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from((2, 3)), st.booleans())
def test_hd95_equals_a_plain_restatement(seed: int, ndim: int, oblique: bool) -> None:
    rng = np.random.default_rng(seed)
    steps = np.diag(rng.choice([0.5, 0.7, 1.0, 1.5, 3.0], ndim))
    affine = np.eye(ndim + 1)
    affine[:-1, :-1] = rotation(rng, ndim) @ steps if oblique else steps
    first, second = _random_regions(rng, tuple(rng.integers(4, 11, ndim)))
    found = _distances(first, second, Grid(first.shape, affine))
    assert found["mean"] == pytest.approx(_plain_hd95(first, second, steps), abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_what_lies_beyond_the_longest_offset_is_exact_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = _random_regions(rng, (6, 7, 8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surface_distance, "_REACH_VOXELS", float(rng.uniform(0, 2)))
        found = _distances(first, second, Grid.from_spacing((6, 7, 8), (1.0, 1.5, 0.7)))
    assert found["mean"] == pytest.approx(_plain_hd95(first, second, np.diag([1.0, 1.5, 0.7])), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([(90, 80), (24, 30, 26)]))
def test_surfaces_far_apart_are_bounded_safely(seed: int, shape: tuple[int, ...]) -> None:
    """Scattered points against a few: distances of many sizes, of which blocks of corners settle most."""
    rng = np.random.default_rng(seed)
    first, second = np.zeros((2, *shape), int)
    first[rng.random(shape) < 0.02] = 1
    for _ in range(3):
        second[tuple(rng.integers(0, shape))] = 1
    spacing = rng.choice([0.7, 1.0, 2.5], len(shape))
    first[tuple(rng.integers(0, shape))] = 1
    found = _distances(first, second, Grid.from_spacing(shape, tuple(spacing)))
    assert found["mean"] == pytest.approx(_plain_hd95(first, second, np.diag(spacing)), abs=1e-9)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_sheared_grids_are_measured_in_mm_as_well(seed: int) -> None:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:-1, :-1] = np.diag(rng.uniform(0.7, 2, 3)) + np.triu(rng.uniform(-0.5, 0.5, (3, 3)), 1)
    first, second = _random_regions(rng, (6, 5, 6))
    found = _distances(first, second, Grid(first.shape, affine))
    assert found["mean"] == pytest.approx(_plain_hd95(first, second, affine[:-1, :-1]), abs=1e-9)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 5.0), (2.0, 0.5, 1.0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shifted_box_is_as_far_as_it_was_shifted(spacing: tuple[float, ...], axis: int) -> None:
    """A slab that is cut off at the faces of the grid moves by 2 voxels: both of its faces do."""
    grid = Grid.from_spacing((12, 12, 12), spacing)
    labels = np.zeros(grid.shape, int)
    np.moveaxis(labels, axis, 0)[4:8] = 1
    moved = np.roll(labels, 2, axis=axis)
    assert _distances(labels, moved, grid)["mean"] == pytest.approx(2 * spacing[axis])


def test_the_worse_direction_counts() -> None:
    grid = Grid.from_spacing((20, 20))
    small, large = np.zeros((2, 20, 20), int)
    small[2:5, 2:5] = 1
    large[2:5, 2:5] = 1
    large[15:18, 15:18] = 1
    expected = _plain_hd95(small, large, np.eye(2))
    assert expected > 10
    assert _distances(small, large, grid)["mean"] == _distances(large, small, grid)["mean"] == pytest.approx(expected)


def test_lost_and_absent_labels() -> None:
    grid = Grid.from_spacing((8, 6, 6))
    fixed, moving = np.zeros((2, *grid.shape), int)
    fixed[2:4], moving[2:4] = 1, 1
    fixed[7], moving[0] = 2035, 2035
    fixed[5], moving[6] = 3, 4
    found = _distances(fixed, moving, grid, shift=np.array([1.0, 0, 0]))
    assert list(found["per_label"]) == ["1", "3", "4", "2035"]
    assert found["per_label"]["1"] == found["mean"] == 1.0
    assert found["per_label"]["2035"] == np.inf
    assert np.isnan([found["per_label"]["3"], found["per_label"]["4"]]).all()
    assert found["n_lost"] == 1


def test_without_any_common_label_the_mean_is_not_a_number() -> None:
    grid = Grid.from_spacing((4, 4))
    assert np.isnan(_distances(np.zeros((4, 4), int), np.ones((4, 4), int), grid)["mean"])


@pytest.mark.parametrize("top", [40, 70000])
def test_large_label_numbers_are_found(top: int) -> None:
    grid = Grid.from_spacing((6, 6, 6))
    first, second = np.zeros((2, 6, 6, 6), int)
    first[1:3], first[4] = 7, top
    second[2:4], second[4] = 7, top
    found = surface_percentiles(Labels(first, grid), Labels(second, grid), [7, top, 9], 0.95)
    assert found == {7: 1.0, top: 0.0, 9: float("inf")}


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.floats(0.2, 5)] * 3))
def test_areas_of_plain_cases(spacing: tuple[float, float, float]) -> None:
    """One corner cut off is a triangle; half a cube is a rectangle; a wedge is a slanted rectangle."""
    x, y, z = spacing
    areas = element_sizes(np.diag(spacing))
    assert areas[0] == areas[255] == 0
    triangle = 0.5 * np.linalg.norm(np.cross([x / 2, -y / 2, 0], [x / 2, 0, -z / 2]))
    for bit in range(8):
        assert areas[1 << bit] == areas[255 - (1 << bit)] == pytest.approx(triangle)
    assert areas[0b11110000] == pytest.approx(y * z)
    assert areas[0b11001100] == pytest.approx(x * z)
    assert areas[0b10101010] == pytest.approx(x * y)
    assert areas[0b11000000] == pytest.approx(z * np.hypot(x, y) / 2)


def test_areas_do_not_depend_on_which_side_is_inside_where_the_sides_differ_in_number() -> None:
    areas = element_sizes(np.diag([1.0, 2.0, 0.7]))
    for code in range(256):
        if code.bit_count() != 4:
            assert areas[code] == pytest.approx(areas[255 - code])


def test_areas_are_the_same_for_all_turned_and_mirrored_patterns() -> None:
    areas = element_sizes(np.eye(3))
    for code in range(256):
        cube = np.array([code >> bit & 1 for bit in range(7, -1, -1)]).reshape(2, 2, 2)
        for turned in (cube[::-1], cube.transpose(1, 0, 2), cube.transpose(2, 0, 1)):
            other = int("".join(map(str, turned.ravel())), 2)
            assert areas[other] == pytest.approx(areas[code])


def test_distinct_areas_on_the_unit_cube() -> None:
    """By hand from the polygons: s is the triangle at one corner, w the rectangle of a wedge."""
    s, w = np.sqrt(3) / 8, np.sqrt(2) / 2
    corners, flat = [s, 2 * s, 3 * s, 4 * s], [0, w, 1, 2 * w, 6 * s]
    with_corner = [w + s]
    # The pentagon of three corners in an L, alone and with a fourth corner; the bent hexagon of four in a chain.
    bent = [0.5 + 3 * s, 0.5 + 4 * s, w + 4 * s]
    expected = sorted({round(float(area), 9) for area in (*corners, *flat, *with_corner, *bent)})
    assert sorted({round(float(area), 9) for area in element_sizes(np.eye(3))}) == expected


def test_contour_lengths_in_the_plane() -> None:
    lengths = element_sizes(np.diag([3.0, 4.0]))
    corner, down, across = 2.5, 3.0, 4.0
    expected = [0, corner, corner, across, corner, down, 2 * corner, corner]
    np.testing.assert_allclose(lengths, expected + expected[::-1])


def test_a_ball_has_about_the_area_of_a_ball() -> None:
    """Marching cubes on a binary ball overestimates by a few percent; voxel faces would give 50 % too much."""
    centred = np.stack(np.meshgrid(*[np.arange(-22, 23)] * 3, indexing="ij"))
    region = (np.square(centred).sum(axis=0) <= 20**2).view(np.uint8)
    codes = surface_distance._corner_codes(region.view(bool), np.zeros(3, int))
    area = element_sizes(np.eye(3))[codes].sum()
    assert area == pytest.approx(4 * np.pi * 20**2, rel=0.12)
