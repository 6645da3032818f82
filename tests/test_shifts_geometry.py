"""Conditions that move, cut or damage: the truth, and all that is carried along, stay exactly right."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from shifted_pairs import GEOMETRY, arrays, shift, wave, whole_pair

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.metrics.evaluate import evaluate
from regbench.pair import Pair
from regbench.shifts.table import SHIFTS
from regbench.volume import Grid, Image, Labels
from regbench.warp import warp

SIDES = ("fixed", "moving", "both")
METRICS = ["dice", "epe_mm", "tre_mm", "ice_mm"]
NDIMS = pytest.mark.parametrize("ndim", [2, 3])


def scores(pair: Pair, displacement: Displacement | None = None) -> dict[str, Any]:
    """Scores of a displacement, by default of the truth itself."""
    assert pair.truth is not None
    return evaluate(Alignment(pair, displacement or pair.truth), METRICS)


def expected_truth(pair: Pair, shifted: Pair, name: str) -> np.ndarray:
    """The truth after a shift, from the formula and the grids alone, (*fixed shape, ndim) in mm."""
    motion = {side: np.eye(pair.fixed.grid.ndim + 1) for side in ("fixed", "moving")}
    if SHIFTS[name].changes == "position":
        for side in motion:
            old, new = getattr(pair, side).grid, getattr(shifted, side).grid
            motion[side] = new.affine @ (_backwards(old) if name == "mirror" and old is not new else old.inverse)
    there = shifted.fixed.grid.world_points()
    before = _through(np.linalg.inv(motion["fixed"]), there)
    return _through(motion["moving"], before + wave(before)) - there


def _backwards(grid: Grid) -> np.ndarray:
    """World to index of a grid whose axis nearest to left-right runs the other way."""
    axis = int(np.argmax(np.abs(grid.linear / grid.spacing_mm)[0]))
    flip = np.eye(grid.ndim + 1)
    flip[axis, axis], flip[axis, -1] = -1, grid.shape[axis] - 1
    return flip @ grid.inverse


def _through(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.asarray(points @ matrix[:-1, :-1].T + matrix[:-1, -1])


@NDIMS
@pytest.mark.parametrize("on", SIDES)
@pytest.mark.parametrize("name", GEOMETRY)
def test_the_truth_is_exact_in_the_evaluator(name: str, on: str, ndim: int) -> None:
    pair = whole_pair(ndim)
    shifted = shift(name, on=on).apply(pair, seed=2)
    found = scores(shifted, Displacement(expected_truth(pair, shifted, name), shifted.fixed.grid))
    assert found["epe_mm"]["mean"] < 1e-4 and found["epe_mm"]["p95"] < 1e-4
    assert found["epe_mm"]["voxels"] > 100


@NDIMS
@pytest.mark.parametrize("on", SIDES)
@pytest.mark.parametrize("name", GEOMETRY)
def test_what_the_truth_scores_is_what_it_scored_before(name: str, on: str, ndim: int) -> None:
    pair = whole_pair(ndim)
    shifted = shift(name, on=on).apply(pair, seed=2)
    before, after = scores(pair), scores(shifted)
    assert after["tre_mm"]["mean"] == pytest.approx(before["tre_mm"]["mean"], abs=0.02 if name == "crop" else 1e-4)
    if name == "crop":
        # What is cut away on one side has no counterpart on the other.
        assert 0.5 < after["dice"]["mean"] <= 1
        return
    assert before["dice"]["mean"] > 0.9
    for label, value in before["dice"]["per_label"].items():
        assert after["dice"]["per_label"][label] == pytest.approx(value, abs=2e-3)
    assert after["ice_mm"]["mean"] == pytest.approx(before["ice_mm"]["mean"], abs=1e-4)


@NDIMS
@pytest.mark.parametrize("on", SIDES)
@pytest.mark.parametrize("name", [name for name in GEOMETRY if name != "crop"])
def test_the_moving_image_looks_the_same_through_the_truth(name: str, on: str, ndim: int) -> None:
    pair = whole_pair(ndim)
    assert pair.truth is not None
    shifted = shift(name, on=on).apply(pair, seed=2)
    assert shifted.truth is not None
    seen, seen_before = warp(shifted.moving, shifted.truth).array, warp(pair.moving, pair.truth).array
    body, body_before = shifted.fixed_labels.array > 0, pair.fixed_labels.array > 0  # type: ignore[union-attr]
    assert body.sum() == body_before.sum()
    np.testing.assert_allclose(np.sort(seen[body]), np.sort(seen_before[body_before]), atol=0.02)


@NDIMS
@pytest.mark.parametrize("name", ["rotation_degrees", "translation_mm", "mirror"])
def test_motion_keeps_every_voxel_and_moves_it_in_the_world(name: str, ndim: int) -> None:
    pair = whole_pair(ndim)
    shifted = shift(name, on="moving").apply(pair, seed=2)
    assert np.array_equal(np.sort(shifted.moving.array.ravel()), np.sort(pair.moving.array.ravel()))
    assert (shifted.moving_labels.counts == pair.moving_labels.counts).all()  # type: ignore[union-attr]
    assert shifted.moving.grid.determinant == pytest.approx(pair.moving.grid.determinant)
    assert shifted.moving_labels.names == pair.moving_labels.names  # type: ignore[union-attr]


@NDIMS
@pytest.mark.parametrize("strength", [5.0, 30.0])
def test_a_rotation_has_the_told_angle_about_the_middle(strength: float, ndim: int) -> None:
    pair = whole_pair(ndim)
    grid = shift("rotation_degrees", strength=strength).apply(pair, seed=0).moving.grid
    old = pair.moving.grid
    turn = grid.linear @ np.linalg.inv(old.linear)
    cosine = (np.trace(turn) - (1 if ndim == 3 else 0)) / 2
    assert np.rad2deg(np.arccos(cosine)) == pytest.approx(strength)
    middle = (np.array(old.shape) - 1) / 2
    np.testing.assert_allclose(grid.to_world(middle), old.to_world(middle), atol=1e-9)


@NDIMS
def test_a_translation_has_the_told_length_and_both_sides_move_alike(ndim: int) -> None:
    pair = whole_pair(ndim)
    shifted = shift("translation_mm", strength=12.0, on="both").apply(pair, seed=0)
    steps = [getattr(shifted, s).grid.origin_mm - getattr(pair, s).grid.origin_mm for s in ("fixed", "moving")]
    assert np.linalg.norm(steps[0]) == pytest.approx(12.0)
    np.testing.assert_allclose(steps[0], steps[1])
    assert shifted.truth is not None and pair.truth is not None
    np.testing.assert_allclose(shifted.truth.vectors_mm, pair.truth.vectors_mm, atol=1e-4)


@NDIMS
def test_a_mirror_reflects_the_world_about_one_plane(ndim: int) -> None:
    pair = whole_pair(ndim)
    shifted = shift("mirror").apply(pair, seed=0)
    assert shifted.fixed_landmarks is not None and pair.fixed_landmarks is not None
    old, new = pair.fixed_landmarks.points_mm, shifted.fixed_landmarks.points_mm
    sums = old[:, 0] + new[:, 0]
    np.testing.assert_allclose(sums, sums[0])
    np.testing.assert_allclose(old[:, 1:], new[:, 1:])
    assert shifted.moving_landmarks is not None and pair.moving_landmarks is not None
    np.testing.assert_allclose(
        pair.moving_landmarks.points_mm[:, 0] + shifted.moving_landmarks.points_mm[:, 0], sums[0]
    )


@NDIMS
@pytest.mark.parametrize("strength", [1.0, 2.0, 3.0])
def test_another_orientation_is_another_storage_of_the_same_world(strength: float, ndim: int) -> None:
    pair = whole_pair(ndim)
    shifted = shift("orientation", strength=strength).apply(pair, seed=0)
    for side in ("fixed", "moving"):
        old, new = getattr(pair, side), getattr(shifted, side)
        assert old.grid.orientation != new.grid.orientation
        voxels = np.rint(new.grid.to_voxel(old.grid.world_points())).astype(int)
        np.testing.assert_allclose(new.grid.to_world(voxels), old.grid.world_points(), atol=1e-9)
        np.testing.assert_array_equal(new.array[tuple(np.moveaxis(voxels, -1, 0))], old.array)
    letters = {1.0: 1, 2.0: ndim}.get(strength)
    pairs = zip(pair.fixed.grid.orientation, shifted.fixed.grid.orientation, strict=True)
    assert letters is None or sum(a != b for a, b in pairs) == letters


@NDIMS
def test_crop_and_padding_keep_voxels_where_they_are_in_the_world(ndim: int) -> None:
    pair = whole_pair(ndim)
    for name, strength, sign in (("crop", 0.3, -1), ("padding", 0.25, 1)):
        shifted = shift(name, strength=strength).apply(pair, seed=1)
        for side in ("fixed", "moving"):
            old, new = getattr(pair, side), getattr(shifted, side)
            assert new.grid.shape == tuple(n + sign * round(strength * n) for n in old.grid.shape)
            small, large = (new, old) if name == "crop" else (old, new)
            voxels = large.grid.to_voxel(small.grid.world_points())
            np.testing.assert_allclose(voxels, np.rint(voxels), atol=1e-9)
            at = tuple(np.moveaxis(np.rint(voxels).astype(int), -1, 0))
            np.testing.assert_array_equal(large.array[at], small.array)
            labels = getattr(shifted, f"{side}_labels"), getattr(pair, f"{side}_labels")
            small_labels, large_labels = labels if name == "crop" else labels[::-1]
            np.testing.assert_array_equal(large_labels.array[at], small_labels.array)
            if name == "padding":
                assert large.array.sum() == pytest.approx(small.array.sum(), rel=1e-6)


def test_a_stronger_crop_leaves_less() -> None:
    sizes = [shift("crop", strength=s).apply(whole_pair(3), 1).fixed.grid.n_voxels for s in (0.05, 0.15, 0.3)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1]


def test_pairs_with_images_alone_are_shifted_too() -> None:
    pair = whole_pair(3)
    bare = Pair("bare", pair.fixed, pair.moving)
    for name in (*GEOMETRY, "lesion_mm"):
        shifted = shift(name, on="both").apply(bare, seed=0)
        assert shifted.truth is None and shifted.fixed_labels is None


# -- lesions ----------------------------------------------------------------------------------------------


@NDIMS
@pytest.mark.parametrize("on", SIDES)
def test_a_lesion_is_no_part_of_any_score(on: str, ndim: int) -> None:
    pair = whole_pair(ndim)
    shifted = shift("lesion_mm", strength=16.0, on=on).apply(pair, seed=1)
    before, after = arrays(pair), arrays(shifted)
    for side in ("fixed", "moving"):
        lesion = np.abs(after[side] - before[side]) > 0
        assert lesion.any() == (on in ("both", side))
        excluded = getattr(shifted, f"{side}_excluded").array > 0
        assert excluded[lesion].all()
        assert excluded.any(), "the same place is left out on the other side"
        for part in ("labels", "mask"):
            assert after[f"{side} {part}"] is before[f"{side} {part}"]
        np.testing.assert_array_equal(after["truth"], before["truth"])
    assert scores(shifted)["dice"]["mean"] > scores(pair)["dice"]["mean"] - 0.03
    # What is wrong in the lesion alone costs nothing, and without the exclusion it would.
    assert pair.truth is not None and shifted.fixed_excluded is not None
    wrong = pair.truth.vectors_mm + 9.0 * (shifted.fixed_excluded.array > 0)[..., np.newaxis]
    found = Displacement(wrong, pair.fixed.grid)
    told = dataclasses.replace(shifted, fixed_excluded=None, moving_excluded=None)
    assert scores(shifted, found)["epe_mm"]["mean"] == scores(shifted)["epe_mm"]["mean"]
    assert scores(told, found)["epe_mm"]["mean"] > scores(told)["epe_mm"]["mean"]
    assert scores(shifted, found)["dice"]["mean"] > scores(told, found)["dice"]["mean"]


def test_a_lesion_is_as_large_as_told_and_grows_in_its_place() -> None:
    grid = Grid.from_spacing((60, 60, 60), 1.0)
    ball = np.linalg.norm(grid.world_points() - 29.5, axis=-1) < 28
    image = Image(ball * 100.0, grid)
    pair = Pair("ball", image, image, moving_labels=Labels(ball, grid), fixed_labels=Labels(ball, grid))
    for strength in (10.0, 20.0):
        changed = shift("lesion_mm", strength=strength, look="dark").apply(pair, seed=0).moving.array
        volume = (100.0 - changed[ball]).sum() / 88.0
        assert volume == pytest.approx(np.pi / 6 * strength**3, rel=0.5)
        assert changed.min() == 0 and changed[ball].min() == pytest.approx(12.0)
        assert (changed[~ball] == 0).all()


def test_without_a_truth_the_other_side_of_a_lesion_is_left_as_it_is() -> None:
    pair = dataclasses.replace(whole_pair(3), truth=None)
    shifted = shift("lesion_mm").apply(pair, seed=0)
    assert shifted.fixed_excluded is None
    assert shifted.moving_excluded is not None
    np.testing.assert_array_equal(shifted.moving_excluded.array > 0, shifted.moving.array != pair.moving.array)
