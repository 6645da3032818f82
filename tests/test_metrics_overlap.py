"""Dice: against SimpleITK and plain counting, and the rules for labels that are absent or lost."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.metrics.overlap import contingency, dice
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels


def _alignment(fixed: np.ndarray, moving: np.ndarray, shift: tuple[float, ...] | None = None) -> Alignment:
    grid = Grid.from_spacing(fixed.shape)
    image = Image(np.zeros(fixed.shape), grid)
    pair = Pair("p", image, image, fixed_labels=Labels(fixed, grid), moving_labels=Labels(moving, grid))
    vectors = np.broadcast_to(shift or (0.0,) * fixed.ndim, (*fixed.shape, fixed.ndim))
    return Alignment(pair, Displacement(vectors, grid))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(7, 8), (5, 6, 7)]), st.sampled_from([1, 36, 2035, 1 << 21]))
def test_dice_equals_simpleitk(seed: int, shape: tuple[int, ...], factor: int) -> None:
    rng = np.random.default_rng(seed)
    fixed, moving = rng.integers(0, 5, (2, *shape)) * factor
    found = dice(_alignment(fixed, moving))
    oracle = sitk.LabelOverlapMeasuresImageFilter()
    oracle.Execute(*(sitk.GetImageFromArray(a.astype(np.int32)) for a in (fixed, moving)))
    assert found["per_label"]
    for label, score in found["per_label"].items():
        assert score == pytest.approx(oracle.GetDiceCoefficient(int(label)), abs=1e-12)
    assert found["mean"] == pytest.approx(np.mean(list(found["per_label"].values())))


def test_the_identity_gives_the_overlap_before_registration() -> None:
    rng = np.random.default_rng(0)
    fixed, moving = rng.integers(0, 3, (2, 6, 6, 6))
    found = dice(_alignment(fixed, moving))["per_label"]
    for label in (1, 2):
        a, b = fixed == label, moving == label
        assert found[str(label)] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_a_whole_voxel_shift_equals_a_shifted_map() -> None:
    rng = np.random.default_rng(0)
    fixed, moving = rng.integers(0, 4, (2, 6, 7, 8))
    shifted = np.zeros_like(moving)
    shifted[:-1, :, 2:] = moving[1:, :, :-2]
    assert dice(_alignment(fixed, moving, (1.0, 0.0, -2.0)))["mean"] == dice(_alignment(fixed, shifted))["mean"]


def test_labels_of_one_side_only_are_nan_and_no_part_of_the_mean() -> None:
    fixed, moving = np.zeros((2, 4, 4), int)
    fixed[0], fixed[1] = 1, 2
    moving[0], moving[2] = 1, 3
    found = dice(_alignment(fixed, moving))
    assert list(found["per_label"]) == ["1", "2", "3"]
    assert np.isnan([found["per_label"]["2"], found["per_label"]["3"]]).all()
    assert (found["mean"], found["n_lost"]) == (1.0, 0)


def test_a_label_that_the_warp_loses_counts_zero() -> None:
    fixed, moving = np.zeros((2, 6, 6), int)
    fixed[1:3], moving[1:3] = 1, 1
    fixed[5], moving[0] = 2, 2
    found = dice(_alignment(fixed, moving, (1.0, 0.0)))
    assert found["per_label"]["2"] == 0
    assert found["n_lost"] == 1
    assert found["mean"] == pytest.approx(found["per_label"]["1"] / 2)


def test_labels_that_miss_each_other_are_not_lost() -> None:
    fixed, moving = np.zeros((2, 6, 6), int)
    fixed[0], moving[4] = 1, 1
    assert dice(_alignment(fixed, moving)) == {"mean": 0.0, "per_label": {"1": 0.0}, "n_lost": 0}


def test_without_any_common_label_the_mean_is_not_a_number() -> None:
    found = dice(_alignment(np.zeros((4, 4), int), np.ones((4, 4), int)))
    assert np.isnan(found["mean"])
    assert found["n_lost"] == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_contingency_table_counts_every_voxel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.sort(rng.choice(np.arange(1, 2036), 4, replace=False))
    grid = Grid.from_spacing((9, 8))
    first, second = (Labels(np.array([0, *values])[rng.integers(0, 5, (9, 8))], grid) for _ in range(2))
    table = contingency(first, second, values)
    for i, a in enumerate((0, *values)):
        for j, b in enumerate((0, *values)):
            assert table[i, j] == ((first.array == a) & (second.array == b)).sum()
