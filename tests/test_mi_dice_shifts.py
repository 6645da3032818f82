"""Conditions that change labels: coarser ones, and borders drawn elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from shifted_pairs import shift, whole_pair

from regbench.errors import ConfigError
from regbench.metrics.information import image_information
from regbench.pair import Pair
from regbench.volume import Labels
from regbench.warp import warp


def many_labels(pair: Pair, n: int = 24) -> Pair:
    """The pair with labels in stripes that correspond by its truth."""
    inside, grid = pair.fixed_labels, pair.fixed.grid
    assert inside is not None and pair.truth is not None and pair.moving_labels is not None

    def stripes(points: np.ndarray) -> np.ndarray:
        return 1 + np.floor(points[..., 0] / 5).astype(int) % n

    there = grid.world_points() + pair.truth.vectors_mm
    fixed = np.where(inside.array > 0, stripes(there), 0)
    moving = np.where(pair.moving_labels.array > 0, stripes(pair.moving.grid.world_points()), 0)
    names = {k: f"stripe {k}" for k in range(1, n + 1)}
    return replace(pair, fixed_labels=Labels(fixed, grid, names), moving_labels=Labels(moving, pair.moving.grid, names))


def dice_of_truth(pair: Pair) -> float:
    assert pair.truth is not None and pair.fixed_labels is not None and pair.moving_labels is not None
    warped, fixed = warp(pair.moving_labels, pair.truth).array, pair.fixed_labels.array
    labels = [v for v in np.unique(fixed) if v > 0]
    return float(
        np.mean([2 * ((warped == v) & (fixed == v)).sum() / ((warped == v).sum() + (fixed == v).sum()) for v in labels])
    )


@pytest.mark.parametrize("ndim", [2, 3])
def test_merged_labels_are_unions_alike_on_both_sides_and_nested(ndim: int) -> None:
    pair = many_labels(whole_pair(ndim))
    before = [one.array for one in (pair.fixed_labels, pair.moving_labels) if one is not None]
    classes = {}
    for strength in (2.0, 4.0, 8.0):
        merged = shift("merge_labels", strength=strength).apply(pair, seed=5)
        after = [one.array for one in (merged.fixed_labels, merged.moving_labels) if one is not None]
        table: dict[int, int] = {}
        for old, new in zip(before, after, strict=True):
            for value in np.unique(old):
                (found,) = np.unique(new[old == value])
                assert table.setdefault(int(value), int(found)) == found, "a label is in one class everywhere"
            assert ((new > 0) == (old > 0)).all()
        classes[strength] = table
        assert set(table.values()) - {0} <= set(range(1, round(24 / strength) + 1))
        assert merged.fixed is pair.fixed and merged.truth is pair.truth
    for value, other in ((a, b) for a in classes[2.0] for b in classes[2.0]):
        if classes[2.0][value] == classes[2.0][other]:
            assert classes[4.0][value] == classes[4.0][other], "classes are parts of coarser ones"


def test_there_are_two_classes_at_least_and_never_one_side_alone() -> None:
    merged = shift("merge_labels", strength=1000.0).apply(many_labels(whole_pair(2)), seed=0)
    assert merged.fixed_labels is not None and set(np.unique(merged.fixed_labels.array)) == {0, 1, 2}
    for side in ("fixed", "moving"):
        with pytest.raises(ConfigError, match="labels are merged in both images"):
            shift("merge_labels", on=side)
    bare = replace(whole_pair(2), moving_labels=None)
    assert shift("merge_labels").apply(bare, seed=0) is bare


@pytest.mark.parametrize("field", ["own", "shared"])
def test_borders_move_and_the_outline_stays(field: str) -> None:
    pair = many_labels(whole_pair(3))
    assert pair.fixed_labels is not None
    changes, told = [], []
    for strength in (2.0, 4.0, 8.0):
        moved = shift("parcel_borders", strength=strength, field=field).apply(pair, seed=2)
        assert moved.fixed_labels is not None and moved.fixed is pair.fixed
        new, old = moved.fixed_labels.array, pair.fixed_labels.array
        assert ((new > 0) == (old > 0)).all() and new.dtype == old.dtype
        changes.append(float((new != old).mean()))
        told.append(image_information(pair.fixed, moved.fixed_labels).nats)
    assert 0 < changes[0] < changes[1] < changes[2]
    assert max(told) < image_information(pair.fixed, pair.fixed_labels).nats * 1.2


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_shared_field_keeps_the_truth_right_and_an_own_one_does_not(ndim: int) -> None:
    pair = many_labels(whole_pair(ndim))
    start = dice_of_truth(pair)
    own, shared = (
        dice_of_truth(shift("parcel_borders", strength=6.0, field=field).apply(pair, seed=1))
        for field in ("own", "shared")
    )
    assert shared > start - 0.15 and own < shared - 0.25


def test_a_subject_is_drawn_alike_in_all_of_its_pairs() -> None:
    first = shift("parcel_borders").apply(many_labels(whole_pair(2)), seed=0)
    other = shift("parcel_borders").apply(replace(many_labels(whole_pair(2)), name="other", moving_id="c"), seed=0)
    assert first.fixed_labels is not None and other.fixed_labels is not None
    np.testing.assert_array_equal(first.fixed_labels.array, other.fixed_labels.array)
    assert first.moving_labels is not None and other.moving_labels is not None
    assert not np.array_equal(first.moving_labels.array, other.moving_labels.array)


def test_the_field_has_the_told_size_and_length() -> None:
    from regbench.shifts.annotation import _Waves

    points = np.random.default_rng(0).uniform(-200, 200, (4000, 3))
    sizes = []
    for seed in range(5):
        waves = _Waves.drawn(3, 25.0, np.random.default_rng(seed))
        moves = waves.moves(points, 4.0)
        sizes.append(np.sqrt(np.square(moves).sum(axis=1).mean()))
        near = np.linalg.norm(waves.moves(points + np.array([2.5, 0.0, 0.0]), 4.0) - moves, axis=1)
        assert np.sqrt(np.square(near).mean()) < 0.2 * sizes[-1]
    assert np.mean(sizes) == pytest.approx(4.0, rel=0.05)
    with pytest.raises(ConfigError, match="length_mm is 0"):
        shift("parcel_borders", length_mm=0.0)


def test_without_a_truth_both_sides_have_the_same_field_of_the_world() -> None:
    pair = many_labels(whole_pair(2))
    assert pair.fixed_labels is not None
    same = Pair("same", pair.fixed, pair.fixed, fixed_labels=pair.fixed_labels, moving_labels=pair.fixed_labels)
    moved = shift("parcel_borders", field="shared").apply(same, seed=4)
    assert moved.fixed_labels is not None and moved.moving_labels is not None
    np.testing.assert_array_equal(moved.fixed_labels.array, moved.moving_labels.array)
