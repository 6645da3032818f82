"""HD95, ASSD and NSD: against a plain restatement, analytic cases, invariance, and the rules for lost labels."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oblique_grids import rotation
from plain_surfaces import plain_distances, plain_mean, plain_percentile, plain_share_within

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.errors import MetricDeclined
from regbench.metrics import surface_distance
from regbench.metrics.evaluate import evaluate
from regbench.metrics.surface_distance import assd_mm, hd95_mm, nsd, surface_percentiles, surfaces_of
from regbench.metrics.surface_reach import reach_of
from regbench.metrics.surface_search import DistanceAreas
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels

seeds = st.integers(0, 2**32 - 1)
SPACINGS = (0.5, 0.7, 1.0, 1.5, 3.0)
TOLERANCES = {"mean": 1.0, "at_0_5_mm": 0.5, "at_2_mm": 2.0, "at_3_mm": 3.0, "at_5_mm": 5.0}


def _alignment(fixed: np.ndarray, moving: np.ndarray, grid: Grid, threads: int = 1) -> Alignment:
    """The pair of two label maps, whose moving side is left where it is."""
    image = Image(np.zeros(fixed.shape), grid)
    pair = Pair("p", image, image, fixed_labels=Labels(fixed, grid), moving_labels=Labels(moving, grid))
    return Alignment(pair, Displacement.identity(grid), threads=threads)


def _lost(alignment: Alignment, label: int) -> Alignment:
    """The same alignment with a label that the warp has lost."""
    moved = alignment.moved_labels
    assert moved is not None
    vars(alignment)["moved_labels"] = Labels(np.where(moved.array == label, 0, moved.array), moved.grid)
    return alignment


def _scores(fixed: np.ndarray, moving: np.ndarray, grid: Grid) -> tuple[float, ...]:
    """The means of HD95 and ASSD, and of NSD for all tolerances."""
    alignment = _alignment(fixed, moving, grid)
    shares = nsd(alignment)
    return hd95_mm(alignment)["mean"], assd_mm(alignment)["mean"], *(shares[name] for name in TOLERANCES)


def _plain_scores(first: np.ndarray, second: np.ndarray, spacing: np.ndarray) -> tuple[float, ...]:
    directions = plain_distances(first, second, spacing)
    shares = [plain_share_within(directions, mm) for mm in TOLERANCES.values()]
    return plain_percentile(directions, 0.95), plain_mean(directions), *shares


def _random_regions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Two unions of random boxes, which may touch the border."""
    regions = np.zeros((2, *shape), int)
    for region in regions:
        for _ in range(rng.integers(0, 4)):
            low = [rng.integers(0, n) for n in shape]
            region[tuple(slice(a, a + rng.integers(1, 6)) for a in low)] = 1
        region[tuple(rng.integers(0, shape))] = 1
    return regions


@settings(max_examples=80, deadline=None)
@given(seeds, st.sampled_from((2, 3)), st.booleans())
def test_scores_equal_a_plain_restatement(seed: int, ndim: int, oblique: bool) -> None:
    rng = np.random.default_rng(seed)
    spacing = rng.choice(SPACINGS, ndim)
    affine = np.eye(ndim + 1)
    affine[:-1, :-1] = rotation(rng, ndim) * spacing if oblique else np.diag(spacing)
    first, second = _random_regions(rng, tuple(rng.integers(3, 11, ndim)))
    expected = _plain_scores(first, second, spacing)
    assert _scores(first, second, Grid(first.shape, affine)) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(seeds, st.sampled_from([(60, 50), (12, 15, 17), (40, 4, 5), (4, 5, 40)]))
def test_all_distances_are_exact_however_far_steps_reach(seed: int, shape: tuple[int, ...]) -> None:
    """Scattered points against a few: distances of many sizes, some within the reach of steps and some beyond."""
    rng = np.random.default_rng(seed)
    first, second = np.zeros((2, *shape), int)
    first[rng.random(shape) < 0.02] = 1
    first[tuple(rng.integers(0, shape))] = 1
    for _ in range(3):
        second[tuple(rng.integers(0, shape))] = 1
    spacing = rng.choice(SPACINGS, len(shape))
    reach = rng.choice([0.0, 0.7, 2.3, 6.0, 16.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surface_distance, "reach_of", lambda spacing_mm: reach_of(spacing_mm, reach))
        grid = Grid.from_spacing(shape, tuple(spacing))
        pair = surfaces_of(Labels(first, grid), Labels(second, grid), [1])[1]
    assert pair is not None
    for found, (distances, areas) in zip(
        (pair.first, pair.second), plain_distances(first, second, spacing), strict=True
    ):
        assert (np.diff(found.distances_mm) >= 0).all()
        assert found.total == pytest.approx(areas.sum())
        for distance in np.unique(distances.round(6)):
            assert found.within(distance - 1e-5) == pytest.approx(areas[distances < distance - 1e-5].sum())
            assert found.within(distance + 1e-5) == pytest.approx(areas[distances < distance + 1e-5].sum())


@pytest.mark.parametrize("n_steps", [250, 255, 257])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_columns_of_many_fine_voxels(axis: int, n_steps: int) -> None:
    """The nearest element is about as many steps away as a byte counts, and little nearer than another column's."""
    spacing = np.full(3, 1.29)
    spacing[axis] = 0.01
    first, second = np.zeros((2, 300, 5, 1), int)
    first[0, 0], second[n_steps, 0], second[0, 3] = 1, 1, 1
    first, second = (np.moveaxis(region, 0, axis) for region in (first, second))
    grid = Grid.from_spacing(first.shape, tuple(spacing))
    assert _scores(first, second, grid) == pytest.approx(_plain_scores(first, second, spacing))


def test_a_share_that_is_just_reached_is_reached() -> None:
    """95 % of the area lies on the other surface, but sums of rounded areas may miss it by a last digit."""
    for size in range(1, 200):
        areas = np.array([0.19, 0.01]) * size
        assert DistanceAreas(np.array([0.0, 1.0]), areas).percentile(0.95) == 0.0
        assert DistanceAreas(np.array([0.0, 1.0]), areas - [1e-6, 0]).percentile(0.95) == 1.0


@settings(max_examples=5, deadline=None)
@given(seeds)
def test_the_steps_of_a_grid_are_all_its_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spacing = rng.choice(SPACINGS, 3)
    reach = reach_of(tuple(spacing.tolist()), 4.0)
    longest = 4.0 * np.prod(spacing) ** (1 / 3)
    index = np.stack(np.meshgrid(*[np.arange(-20, 21)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    lengths = np.linalg.norm(index * spacing, axis=-1)
    within = lengths[lengths <= longest + 1e-9]
    np.testing.assert_allclose(reach.distances_mm, np.unique(within.round(9)), atol=1e-8)
    shell = np.repeat(np.arange(reach.n_shells), np.diff(reach.starts))
    made = []
    for along in range(-20, 21):
        ranks = reach.ranks[shell, abs(along)]
        known = ranks < len(reach.distances_mm)
        true = np.linalg.norm(np.column_stack([np.full(len(shell), along), reach.steps]) * spacing, axis=1)
        np.testing.assert_allclose(reach.distances_mm[ranks[known]], true[known])
        made.extend(true[known])
    assert len(made) == len(within)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 5.0), (2.0, 0.5, 1.0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_shifted_slab_is_as_far_as_it_was_shifted(spacing: tuple[float, ...], axis: int) -> None:
    """A slab that is cut off at the faces of the grid moves by 2 voxels: both of its faces do."""
    grid = Grid.from_spacing((12, 12, 12), spacing)
    labels = np.zeros(grid.shape, int)
    np.moveaxis(labels, axis, 0)[4:8] = 1
    assert _scores(labels, np.roll(labels, 2, axis=axis), grid)[0] == pytest.approx(2 * spacing[axis])


@pytest.mark.parametrize("shift", [2, 5])
def test_two_cubes_with_a_known_offset(shift: int) -> None:
    """The corners of a cube of n voxels are n + 1 planes: a full square at either end, rings between them.

    Of the end that sticks out, the square and the rings lie opposite the other cube's square. The other end lies
    inside the other cube, within its ring, from which the inner rings of the square are 1, 2, ... away.
    """
    n, s, w = 31, np.sqrt(3) / 8, np.sqrt(2) / 2
    cube = np.zeros((42, 42, 42), int)
    cube[3 : 3 + n, 5 : 5 + n, 5 : 5 + n] = 1
    square, ring = (n - 1) ** 2 + 4 * (n - 1) * w + 4 * s, 4 * (n - 1) + 4 * w
    areas = {shift: square} | dict.fromkeys(range(1, shift), ring)
    for depth in range(1, (n + 1) // 2):
        distance = min(depth, shift)
        areas[distance] += 4 * (n - 2 * depth)
    total = 2 * square + (n - 1) * ring
    hd95, assd, at_1, at_half, at_2, *_, at_5 = _scores(
        cube, np.roll(cube, shift, axis=0), Grid.from_spacing(cube.shape)
    )
    assert hd95 == pytest.approx(shift)
    assert assd == pytest.approx(sum(distance * area for distance, area in areas.items()) / total)
    assert at_half == pytest.approx(1 - sum(areas.values()) / total)
    assert at_1 == pytest.approx(1 - (sum(areas.values()) - areas[1]) / total)
    assert at_2 == pytest.approx(1 - (sum(areas.values()) - areas[1] - areas[2]) / total)
    assert at_5 == 1.0


@pytest.mark.parametrize("shape", [(8, 9), (6, 7, 8)])
def test_identical_maps_are_nowhere_apart(shape: tuple[int, ...]) -> None:
    labels = np.random.default_rng(0).integers(0, 4, shape)
    alignment = _alignment(labels, labels, Grid.from_spacing(shape, (0.7, 1.3, 3.1)[: len(shape)]))
    assert set(hd95_mm(alignment)["per_label"].values()) == set(assd_mm(alignment)["per_label"].values()) == {0.0}
    shares = nsd(alignment)
    assert set(shares["per_label"].values()) == {shares[name] for name in TOLERANCES} == {1.0}


@pytest.mark.parametrize("step", [(3, 0, 0), (0, 2, 1), (1, 1, 2), (5, 5, 5)])
def test_single_voxels_are_eight_corners(step: tuple[int, int, int]) -> None:
    """The far corners of a voxel are a whole step away, an eighth of its surface and more than 5 %."""
    spacing = np.array([2.0, 1.5, 1.0])
    first, second = np.zeros((2, 6, 6, 6), int)
    first[0, 0, 0], second[step] = 1, 1
    grid = Grid.from_spacing((6, 6, 6), tuple(spacing))
    scores = _scores(first, second, grid)
    assert scores == pytest.approx(_plain_scores(first, second, spacing))
    assert scores[0] == pytest.approx(np.linalg.norm(step * spacing))


def test_the_worse_direction_counts() -> None:
    grid = Grid.from_spacing((20, 20))
    small, large = np.zeros((2, 20, 20), int)
    small[2:5, 2:5] = 1
    large[2:5, 2:5] = 1
    large[15:18, 15:18] = 1
    expected = _plain_scores(small, large, np.ones(2))
    assert expected[0] > 10
    assert _scores(small, large, grid) == _scores(large, small, grid) == pytest.approx(expected)


@settings(max_examples=8, deadline=None)
@given(seeds)
def test_axes_may_be_exchanged_and_turned_round(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spacing = rng.choice(SPACINGS, 3)
    first, second = _random_regions(rng, (5, 8, 11))
    expected = _scores(first, second, Grid.from_spacing((5, 8, 11), tuple(spacing)))
    for order in permutations(range(3)):
        axis = int(rng.integers(0, 3))
        flipped = [np.flip(region.transpose(order), axis) for region in (first, second)]
        grid = Grid.from_spacing(flipped[0].shape, tuple(spacing[list(order)]))
        assert _scores(flipped[0], flipped[1], grid) == pytest.approx(expected, abs=1e-9)


def test_rounded_affines_change_no_share() -> None:
    """An oblique affine in single precision: distances of 1 mm are within 1 mm though the spacing reads as more."""
    rng = np.random.default_rng(3)
    first, second = _random_regions(rng, (9, 9, 9))
    second |= np.roll(first, 1, axis=0)
    expected = _scores(first, second, Grid.from_spacing((9, 9, 9)))
    longer = 0
    for _ in range(10):
        affine = np.eye(4)
        affine[:-1, :-1] = rotation(rng, 3).astype(np.float32)
        grid = Grid((9, 9, 9), affine)
        longer += int((grid.spacing_mm > 1).any())
        assert _scores(first, second, grid) == pytest.approx(expected, abs=1e-5)
    assert longer


def test_threads_change_no_bit() -> None:
    rng = np.random.default_rng(0)
    grid = Grid.from_spacing((20, 24, 22), (1.0, 0.7, 2.0))
    first = np.kron(rng.integers(0, 9, (5, 6, 6)), np.ones((4, 4, 4), int))[:, :, :22]
    second = np.roll(first, (2, -1, 3), axis=(0, 1, 2))
    names = ["hd95_mm", "assd_mm", "nsd"]
    one, two = (evaluate(_alignment(first, second, grid, threads), names) for threads in (1, 2))
    assert one == two
    assert list(nsd(_alignment(first, second, grid, 2))["per_label"]) == [str(label) for label in range(1, 9)]


def test_the_surfaces_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    plain = surface_distance.surfaces_of

    def counted(
        first: Labels, second: Labels, labels: list[int], threads: int, excluded: np.ndarray | None
    ) -> surface_distance.Surfaces:
        calls.append(labels)
        return plain(first, second, labels, threads, excluded)

    monkeypatch.setattr(surface_distance, "surfaces_of", counted)
    labels = np.arange(3)[:, None] * np.ones(4, int)
    evaluate(_alignment(labels, labels, Grid.from_spacing((3, 4))), ["hd95_mm", "assd_mm", "nsd"])
    assert calls == [[1, 2]]


def test_lost_and_absent_labels() -> None:
    grid = Grid.from_spacing((8, 6, 6))
    fixed, moving = np.zeros((2, *grid.shape), int)
    fixed[2:4], moving[1:3] = 1, 1
    fixed[7], moving[0] = 2035, 2035
    fixed[5], moving[6] = 3, 4
    alignment = _lost(_alignment(fixed, moving, grid), 2035)
    for metric, score, lost, mean in ((hd95_mm, 1.0, np.inf, 1.0), (assd_mm, None, np.inf, None), (nsd, 1.0, 0.0, 0.5)):
        found = metric(alignment)
        assert list(found["per_label"]) == ["1", "3", "4", "2035"]
        assert found["n_lost"] == 1
        assert found["per_label"]["2035"] == lost
        assert np.isnan([found["per_label"]["3"], found["per_label"]["4"]]).all()
        assert score is None or found["per_label"]["1"] == score
        assert found["mean"] == (found["per_label"]["1"] if mean is None else mean)
    assert nsd(alignment)["at_5_mm"] == 0.5


def test_without_any_common_label_the_means_are_not_numbers() -> None:
    empty = np.zeros((4, 4), int)
    for fixed, moving, names in ((empty, empty, []), (empty, empty + 1, ["1"]), (empty + 2, empty + 1, ["1", "2"])):
        alignment = _alignment(fixed, moving, Grid.from_spacing((4, 4)))
        for metric in (hd95_mm, assd_mm, nsd):
            found = metric(alignment)
            assert list(found["per_label"]) == names
            assert found["n_lost"] == 0
            assert np.isnan([found["mean"], *found["per_label"].values()]).all()
        assert np.isnan([nsd(alignment)[name] for name in TOLERANCES]).all()


def test_when_all_labels_are_lost_distances_have_no_mean_and_shares_are_0() -> None:
    labels = np.ones((4, 4), int)
    alignment = _lost(_alignment(labels, labels, Grid.from_spacing((4, 4))), 1)
    assert np.isnan(hd95_mm(alignment)["mean"]) and np.isnan(assd_mm(alignment)["mean"])
    assert nsd(alignment)["mean"] == nsd(alignment)["at_5_mm"] == 0.0
    assert hd95_mm(alignment)["n_lost"] == assd_mm(alignment)["n_lost"] == nsd(alignment)["n_lost"] == 1


@pytest.mark.parametrize("top", [40, 2035, 12175, 70000, 2**31 - 1])
def test_large_label_numbers_are_found(top: int) -> None:
    grid = Grid.from_spacing((6, 6, 6))
    first, second = np.zeros((2, 6, 6, 6), int)
    first[1:3], first[4] = 7, top
    second[2:4], second[4] = 7, top
    found = surface_percentiles(Labels(first, grid), Labels(second, grid), [7, top, 9], 0.95)
    assert found == {7: 1.0, top: 0.0, 9: float("inf")}


def test_sheared_grids_are_declined_with_a_reason() -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.2
    labels = np.ones((4, 4, 4), int)
    alignment = _alignment(labels, labels, Grid((4, 4, 4), affine))
    for metric in (hd95_mm, assd_mm, nsd):
        with pytest.raises(MetricDeclined, match="resample"):
            metric(alignment)
    for found in evaluate(alignment, ["hd95_mm", "assd_mm", "nsd"]).values():
        assert isinstance(found, dict) and "right angles" in found["reason"] and np.isnan(found["mean"])


@settings(max_examples=30, deadline=None)
@given(
    seeds, st.sampled_from([(6, 7, 8), (5, 9), (1, 4, 4), (4, 4, 1), (3, 1)]), st.sampled_from([1, 900, 5000, 70000])
)
def test_bounding_boxes_are_those_of_the_voxels_of_each_label(seed: int, shape: tuple[int, ...], step: int) -> None:
    """By tables of runs, by scipy, and by scipy on labels numbered anew, whichever the largest label asks for."""
    array = np.random.default_rng(seed).integers(0, 5, shape) * step
    found = surface_distance._boxes(Labels(array, Grid.from_spacing(shape)))
    places = {label: np.argwhere(array == label) for label in np.unique(array).tolist() if label}
    assert found == {
        label: tuple(slice(a, b + 1) for a, b in zip(at.min(axis=0).tolist(), at.max(axis=0).tolist(), strict=True))
        for label, at in places.items()
    }
