"""Folds, spread and percentiles of the Jacobian determinant, against fields whose answer is known."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from analytic_fields import about_centre, alignment_of, general_grid, gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from oblique_grids import random_field, rotation

import regbench.slabs
from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.metrics.evaluate import evaluate
from regbench.metrics.nondiffeomorphic import ndv_percent
from regbench.metrics.order_statistics import LowerHalves, UpperHalves
from regbench.metrics.regularity import fold_percent, jacobian, regularity, sdlogj, sdlogj_l2r
from regbench.slabs import Scratch
from regbench.volume import Grid

seeds = st.integers(0, 2**32 - 1)
dimensions = st.sampled_from((2, 3))
GOLDEN = Path(__file__).parent / "data" / "golden_l2r"
PERCENTS = {"min": 0, "p1": 1, "p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "p99": 99, "max": 100}


def _all(alignment: Alignment) -> dict[str, dict[str, Any]]:
    return {metric.__name__: metric(alignment) for metric in (fold_percent, sdlogj, sdlogj_l2r, jacobian)}


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_an_affine_map_has_its_determinant_everywhere(seed: int, ndim: int) -> None:
    """Rotation, scaling and shear, on oblique, anisotropic, left-handed and sheared grids; with many digits."""
    rng, grid = general_grid(seed, ndim, low=5)
    turn = rotation(rng, ndim)
    turn[0] *= np.sign(np.linalg.det(turn))
    shear = np.eye(ndim)
    shear[0, 1] = rng.uniform(-2, 2)
    scale = rng.uniform(0.5, 2)
    found = _all(alignment_of(about_centre(turn @ shear * scale, grid)))
    assert (found["fold_percent"]["mean"], found["fold_percent"]["count"]) == (0, 0)
    assert (found["sdlogj"]["mean"], found["sdlogj_l2r"]["mean"]) == pytest.approx((0, 0), abs=2e-4)
    for name in ("mean", *PERCENTS):
        assert found["jacobian"][name] == pytest.approx(scale**ndim, rel=1e-3)


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_translations_change_nothing_at_all(seed: int, ndim: int) -> None:
    """Exactly, on left-handed and sheared grids too."""
    rng, grid = general_grid(seed, ndim, low=5)
    shift = Displacement(np.broadcast_to(rng.uniform(-9, 9, ndim), (*grid.shape, ndim)), grid)
    found = _all(alignment_of(shift))
    assert set(found["jacobian"].values()) == {1.0}
    assert found["sdlogj"] == {"mean": 0.0, "clipped": 0, "foreground": 0.0, "foreground_clipped": 0}
    assert found["sdlogj_l2r"] == {"mean": 0.0, "foreground": 0.0}
    assert found["fold_percent"]["mean"] == found["fold_percent"]["foreground"] == 0


@settings(max_examples=20, deadline=None)
@given(seeds, dimensions)
def test_a_mirror_folds_everything(seed: int, ndim: int) -> None:
    rng, grid = general_grid(seed, ndim, low=5)
    axis = rotation(rng, ndim)[0]
    alignment = alignment_of(about_centre(np.eye(ndim) - 2 * np.outer(axis, axis), grid))
    interior = np.prod([n - 2 for n in grid.shape])
    folds = fold_percent(alignment)
    assert (folds["mean"], folds["foreground"]) == (100, 100)
    assert {folds[name] for name in ("count", "voxels", "foreground_count", "foreground_voxels")} == {interior}
    assert np.isnan([sdlogj(alignment)["mean"], sdlogj(alignment)["foreground"]]).all()
    assert sdlogj(alignment)["clipped"] == interior
    # log(3 - 1) everywhere.
    assert sdlogj_l2r(alignment)["mean"] == pytest.approx(0, abs=1e-3)
    assert jacobian(alignment)["p50"] == pytest.approx(-1, abs=1e-3)


@pytest.mark.parametrize("ndim", [2, 3])
def test_central_differences_do_not_see_a_checkerboard(ndim: int) -> None:
    grid = Grid.from_spacing((8,) * ndim)
    sign = (-1.0) ** grid.indices().sum(axis=-1)
    alignment = alignment_of(Displacement(np.repeat(0.8 * sign[..., None], ndim, axis=-1), grid))
    assert fold_percent(alignment)["count"] == 0
    assert sdlogj(alignment)["mean"] == 0


@settings(max_examples=30, deadline=None)
@given(seeds, dimensions, st.floats(0.2, 2.0))
def test_all_numbers_equal_a_plain_restatement(seed: int, ndim: int, size_mm: float) -> None:
    """Of the definitions in float64, with numpy's gradient, over the interior and a random foreground."""
    rng, grid = general_grid(seed, ndim, low=6, high=10)
    displacement = random_field(rng, grid, size_mm)
    inside = rng.random(grid.shape) < 0.6
    inner, core = (slice(1, -1),) * ndim, (slice(2, -2),) * ndim
    whole = np.linalg.det(gradients(displacement))
    found = _all(alignment_of(displacement, inside))
    for prefix, region in (("", np.ones(grid.shape, bool)), ("foreground", inside)):
        name, under = prefix or "mean", f"{prefix}_" if prefix else ""
        values, core_values = whole[inner][region[inner]], whole[core][region[core]]
        doubtful = int(np.count_nonzero(np.abs(values) < 1e-4))
        folds = found["fold_percent"]
        assert folds[under + "count"] == pytest.approx(np.count_nonzero(values <= 0), abs=doubtful)
        assert folds[under + "voxels"] == values.size
        assert folds[name] == 100 * folds[under + "count"] / values.size
        assert found["sdlogj"][under + "clipped"] == folds[under + "count"]
        if not doubtful:
            assert found["sdlogj"][name] == pytest.approx(np.log(values[values > 0]).std(), rel=1e-3, abs=1e-4)
        learn2reg = np.log(np.clip(core_values + 3, 1e-9, 1e9)).std() if core_values.size else np.nan
        if not (np.abs(core_values + 3) < 1e-3).any():
            assert found["sdlogj_l2r"][name] == pytest.approx(learn2reg, rel=1e-3, abs=1e-4, nan_ok=True)
        scale = np.abs(values).max()
        assert found["jacobian"][under + "mean"] == pytest.approx(values.mean(), abs=1e-5 * scale)
        for percentile, percent in PERCENTS.items():
            expected = np.percentile(values, percent)
            assert found["jacobian"][under + percentile] == pytest.approx(expected, abs=1e-5 * scale)


@settings(max_examples=30, deadline=None)
@given(seeds, dimensions)
def test_spread_and_percentiles_are_those_of_the_determinants(seed: int, ndim: int) -> None:
    """Percentiles exactly, and the spread up to logarithms in single precision."""
    rng, grid = general_grid(seed, ndim)
    alignment = alignment_of(random_field(rng, grid, size_mm=1.5))
    values = alignment.jacobian.astype(float)
    found = _all(alignment)
    assert found["fold_percent"]["count"] == np.count_nonzero(values <= 0)
    spread = np.log(values[values > 0]).std() if (values > 0).any() else np.nan
    assert found["sdlogj"]["mean"] == pytest.approx(spread, rel=1e-7, abs=1e-7, nan_ok=True)
    for name, percent in PERCENTS.items():
        assert found["jacobian"][name] == pytest.approx(np.percentile(values, percent), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=60), seeds)
def test_order_statistics_are_exact_for_any_values(values: list[float], seed: int) -> None:
    """With zeros of both signs, ties, tiny and infinite values, in two blocks, and among a part of them."""
    array = np.array(values, np.float32)
    part = np.random.default_rng(seed).random(array.size) < 0.5
    blocks = [slice(0, array.size // 2), slice(array.size // 2, None)]
    uppers = UpperHalves()
    for block in blocks:
        uppers.add(array[block], part[block], Scratch())
    for in_part, chosen in ((False, array), (True, array[part])):
        places = uppers.find(range(chosen.size), in_part)
        lowers = LowerHalves([place.upper for place in places])
        for block in blocks:
            lowers.add(array[block], part[block], Scratch())
        np.testing.assert_array_equal([lowers.value(place, in_part) for place in places], np.sort(chosen))


def test_only_the_foreground_counts_for_the_foreground() -> None:
    """A field that folds beyond the middle of the grid, and a foreground on either side."""
    grid = Grid.from_spacing((20, 9, 8))
    along = np.arange(20.0)
    vectors = np.zeros((*grid.shape, 3))
    vectors[..., 0] = np.where(along < 10, 0, -2 * (along - 10))[:, None, None]
    near = np.zeros(grid.shape, bool)
    near[:9] = True
    left, right = (_all(alignment_of(Displacement(vectors, grid), inside)) for inside in (near, ~near))
    assert left["fold_percent"]["foreground"] == 0
    assert left["fold_percent"]["foreground_voxels"] == 8 * 7 * 6
    assert left["jacobian"]["foreground_min"] == left["jacobian"]["foreground_max"] == 1
    # From voxel 10 on the difference of the neighbours is 0 and then -2, that is J = 0 and then -1.
    assert right["fold_percent"]["foreground_count"] == right["fold_percent"]["count"] == 9 * 7 * 6
    assert right["sdlogj"]["foreground_clipped"] == 9 * 7 * 6
    assert right["jacobian"]["foreground_min"] == -1


def test_a_foreground_at_the_faces_only_has_no_number() -> None:
    grid = Grid.from_spacing((5, 5, 5))
    face = np.zeros(grid.shape, bool)
    face[0] = True
    found = _all(alignment_of(Displacement.identity(grid), face))
    assert np.isnan([found["fold_percent"]["foreground"], found["jacobian"]["foreground_p50"]]).all()
    assert np.isnan([found["sdlogj"]["foreground"], found["sdlogj_l2r"]["foreground"]]).all()
    assert found["jacobian"]["mean"] == 1


@pytest.mark.parametrize("shape", [(1, 5, 5), (5, 1), (2, 5, 5), (5, 2, 5), (5, 5, 2), (1, 1)])
def test_grids_without_an_interior_have_no_number(shape: tuple[int, ...]) -> None:
    found = _all(alignment_of(Displacement.identity(Grid.from_spacing(shape))))
    assert np.isnan([value for name in ("sdlogj_l2r", "jacobian") for value in found[name].values()]).all()
    assert np.isnan([found[name][part] for name in ("fold_percent", "sdlogj") for part in ("mean", "foreground")]).all()
    assert found["fold_percent"]["voxels"] == found["sdlogj"]["clipped"] == 0


@pytest.mark.parametrize("shape", [(3, 9, 9), (4, 4, 4), (9, 3)])
def test_the_learn2reg_spread_needs_five_voxels_along_each_axis(shape: tuple[int, ...]) -> None:
    found = _all(alignment_of(random_field(np.random.default_rng(0), Grid.from_spacing(shape), 0.2)))
    assert np.isnan(found["sdlogj_l2r"]["mean"])
    assert np.isfinite(found["sdlogj"]["mean"])


@pytest.mark.filterwarnings("error")
def test_a_field_beyond_all_bounds_folds() -> None:
    """Determinants that float32 cannot hold are no regular map, and no reason to stop."""
    rng = np.random.default_rng(0)
    alignment = alignment_of(Displacement(rng.normal(0, 1e15, (8, 9, 10, 3)), Grid.from_spacing((8, 9, 10))))
    found = _all(alignment)
    assert found["fold_percent"]["mean"] > 40
    assert not np.isfinite(found["sdlogj"]["mean"])
    assert ndv_percent(alignment)["nondiffeomorphic_voxels"] > 0.9 * 8 * 9 * 10


@pytest.mark.parametrize("shape", [(11, 8, 9), (23, 17)])
def test_slabs_and_threads_change_no_bit(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    displacement, inside = random_field(rng, Grid.from_spacing(shape), 0.8), rng.random(shape) < 0.5
    whole = _all(alignment_of(displacement, inside))
    for n_points in (1, 200, 500):
        monkeypatch.setattr(regbench.slabs.row_slabs, "__defaults__", (n_points,))
        for threads in (1, 2):
            assert _all(alignment_of(displacement, inside, threads)) == whole


def test_the_pass_holds_no_array_of_the_size_of_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid.from_spacing((320, 64, 64))
    alignment = alignment_of(Displacement(np.zeros((*grid.shape, 3), np.float32), grid))
    assert alignment.foreground.all()
    monkeypatch.setattr(regbench.slabs.row_slabs, "__defaults__", (1,))
    tracemalloc.start()
    alignment.once(regularity)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < grid.n_voxels * 4 * 0.8


def test_all_metrics_share_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    alignment = alignment_of(random_field(np.random.default_rng(0), Grid.from_spacing((7, 7, 7)), 0.2))
    passes = []
    monkeypatch.setattr("regbench.metrics.regularity.regularity", lambda a: passes.append(1) or regularity(a))
    _all(alignment)
    assert len(passes) == 1


@pytest.mark.parametrize("case", ["0001", "0002", "0003", "0004"])
def test_the_learn2reg_spread_is_the_official_one(case: str) -> None:
    """On a grid of 1 mm, as the official fields are in voxels; logarithms are in single precision."""
    official = json.loads((GOLDEN / "official_unmasked.json").read_text())["cases"][f"{case}_0000<--{case}_0001"]
    vectors = np.asarray(nibabel.load(GOLDEN / "disp" / f"disp_{case}_{case}.nii.gz").dataobj)
    grid = Grid.from_spacing(vectors.shape[:-1])
    found = sdlogj_l2r(alignment_of(Displacement.from_voxels(vectors, grid, grid)))
    assert found["mean"] == pytest.approx(official["LogJacDetStd"]["mean"], rel=1e-7, abs=1e-12)


def test_the_learn2reg_spread_depends_on_voxels_only() -> None:
    """The same index displacements on a stretched, oblique, left-handed grid: 1e-6 is left to rounding."""
    vectors = np.asarray(nibabel.load(GOLDEN / "disp" / "disp_0003_0003.nii.gz").dataobj)
    _, grid = general_grid(4, 3)
    grid = Grid(vectors.shape[:-1], grid.affine)
    plain = Grid.from_spacing(vectors.shape[:-1])
    found, expected = (sdlogj_l2r(alignment_of(Displacement.from_voxels(vectors, g, g)))["mean"] for g in (grid, plain))
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("wide", [False, True])
def test_percentiles_that_were_guessed_wrong_are_found_by_a_second_look(wide: bool) -> None:
    """A field whose rows differ: none of those that the guess rests on tells of the others; or all have one value."""
    rng = np.random.default_rng(0)
    grid = Grid.from_spacing((90, 12, 12))
    size = np.where(np.arange(90) % 5 == 0, 0.0, 0.6) if wide else np.zeros(90)
    vectors = rng.normal(0, 1, (*grid.shape, 3)) * size[:, None, None, None]
    alignment = alignment_of(Displacement(vectors, grid), rng.random(grid.shape) < 0.4)
    values = alignment.jacobian.astype(float)
    inside = alignment.foreground[1:-1, 1:-1, 1:-1]
    found = jacobian(alignment)
    for name, percent in PERCENTS.items():
        assert found[name] == pytest.approx(np.percentile(values, percent), rel=1e-12)
        assert found[f"foreground_{name}"] == pytest.approx(np.percentile(values[inside], percent), rel=1e-12)


def test_what_was_not_announced_is_found_too() -> None:
    """Shared passes leave out what nobody said that they want; asked for later it is the same."""
    displacement = random_field(np.random.default_rng(0), Grid.from_spacing((9, 8, 7)), 0.8)
    one, whole = alignment_of(displacement), alignment_of(displacement)
    evaluate(one, ["fold_percent"])
    assert _all(one) == _all(whole)
