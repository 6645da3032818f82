"""Overlap: against SimpleITK, scikit-learn and plain counting, and the rules for labels that are absent or lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.metrics import overlap
from regbench.metrics.overlap import dice, jaccard, overlap_counts, volume_similarity
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels


def _alignment(
    fixed: np.ndarray, moving: np.ndarray, shift: tuple[float, ...] | None = None, mode: Any = "nearest"
) -> Alignment:
    grid = Grid.from_spacing(fixed.shape)
    image = Image(np.zeros(fixed.shape), grid)
    pair = Pair("p", image, image, fixed_labels=Labels(fixed, grid), moving_labels=Labels(moving, grid))
    vectors = np.broadcast_to(shift or (0.0,) * fixed.ndim, (*fixed.shape, fixed.ndim))
    return Alignment(pair, Displacement(vectors, grid), mode)


# The largest labels are 4, 144, 8140, 2^23 and 2^31 - 1: all ways of storing and counting them.
factors = st.sampled_from([1, 36, 2035, 1 << 21, (2**31 - 1) // 4])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(7, 8), (5, 6, 7), (1, 9), (6, 1, 5)]), factors)
def test_overlap_equals_simpleitk(seed: int, shape: tuple[int, ...], factor: int) -> None:
    rng = np.random.default_rng(seed)
    fixed, moving = rng.integers(0, 5, (2, *shape)) * factor
    alignment = _alignment(fixed, moving)
    oracle = sitk.LabelOverlapMeasuresImageFilter()
    # ITK's sign is that of its first map against its second.
    oracle.Execute(*(sitk.GetImageFromArray(a.astype(np.int32)) for a in (moving, fixed)))
    for metric, expected in (
        (dice, oracle.GetDiceCoefficient),
        (jaccard, oracle.GetJaccardCoefficient),
        (volume_similarity, oracle.GetVolumeSimilarity),
    ):
        found = metric(alignment)
        scores = {label: score for label, score in found["per_label"].items() if not np.isnan(score)}
        assert list(scores) == [str(label) for label in alignment.scored_labels]
        for label, score in scores.items():
            assert score == pytest.approx(expected(int(label)), abs=1e-12)
        if scores:
            assert found["mean"] == pytest.approx(np.mean(list(scores.values())))
    assert list(map(int, found["per_label"])) == np.union1d(fixed[fixed > 0], moving[moving > 0]).tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), factors, factors)
def test_counts_are_those_of_the_confusion_matrix(seed: int, first: int, second: int) -> None:
    rng = np.random.default_rng(seed)
    grid = Grid.from_spacing((9, 8))
    fixed, moved = (Labels(rng.integers(0, 5, (9, 8)) * factor, grid) for factor in (first, second))
    labels, both, in_fixed, in_moved = overlap_counts(fixed, moved)
    assert labels.tolist() == np.union1d(fixed.values, moved.values).tolist()
    matrix = confusion_matrix(fixed.array.ravel(), moved.array.ravel(), labels=[0, *labels])
    assert both.tolist() == np.diag(matrix)[1:].tolist()
    assert in_fixed.tolist() == matrix.sum(axis=1)[1:].tolist()
    assert in_moved.tolist() == matrix.sum(axis=0)[1:].tolist()


def test_counts_depend_neither_on_pieces_nor_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    grid = Grid.from_spacing((40, 41))
    fixed, moved = (Labels(rng.integers(0, 9, grid.shape), grid) for _ in range(2))
    whole = overlap_counts(fixed, moved)
    monkeypatch.setattr("regbench.metrics.overlap._PIECE", 7)
    for threads in (1, 2):
        for found, expected in zip(overlap_counts(fixed, moved, threads), whole, strict=True):
            np.testing.assert_array_equal(found, expected)


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
    for metric, perfect in ((dice, 1.0), (jaccard, 1.0), (volume_similarity, 0.0)):
        found = metric(_alignment(fixed, moving))
        assert list(found["per_label"]) == ["1", "2", "3"]
        assert np.isnan([found["per_label"]["2"], found["per_label"]["3"]]).all()
        assert (found["mean"], found["n_lost"]) == (perfect, 0)


@pytest.mark.parametrize("mode", ["nearest", "linear", "soft"])
@pytest.mark.parametrize(("metric", "worst"), [(dice, 0.0), (jaccard, 0.0), (volume_similarity, -2.0)])
def test_a_label_that_the_warp_loses_has_the_worst_score(metric: Any, worst: float, mode: Any) -> None:
    fixed, moving = np.zeros((2, 6, 6), int)
    fixed[1:3], moving[1:3] = 1, 1
    fixed[5], moving[0] = 2, 2
    found = metric(_alignment(fixed, moving, (1.0, 0.0), mode))
    assert found["per_label"]["2"] == worst
    assert found["n_lost"] == 1
    assert found["mean"] == pytest.approx((found["per_label"]["1"] + worst) / 2)


def test_labels_that_miss_each_other_are_not_lost() -> None:
    fixed, moving = np.zeros((2, 6, 6), int)
    fixed[0], moving[4] = 1, 1
    assert dice(_alignment(fixed, moving)) == {"mean": 0.0, "per_label": {"1": 0.0}, "n_lost": 0}


@pytest.mark.parametrize("mode", ["nearest", "linear", "soft"])
@pytest.mark.parametrize(("fixed_label", "moving_label"), [(0, 1), (0, 0), (1, 2), (2**31 - 1, 0)])
def test_without_any_common_label_the_mean_is_not_a_number(fixed_label: int, moving_label: int, mode: Any) -> None:
    alignment = _alignment(np.full((4, 4), fixed_label), np.full((4, 4), moving_label), None, mode)
    for metric in (dice, jaccard, volume_similarity):
        found = metric(alignment)
        assert np.isnan(found["mean"])
        assert np.isnan(list(found["per_label"].values())).all()
        assert found["n_lost"] == 0
    assert np.isnan(found["mean_absolute"])


def test_volume_similarity_says_whether_a_label_grew_or_shrank() -> None:
    fixed, moving = np.zeros((2, 5, 4), int)
    fixed[0], moving[0:3] = 1, 1
    fixed[2:5], moving[4] = 2, 2
    found = volume_similarity(_alignment(fixed, moving))
    assert found == {"mean": 0.0, "per_label": {"1": 1.0, "2": -1.0}, "n_lost": 0, "mean_absolute": 1.0}


def test_the_maps_are_counted_once_for_all_three(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(*arguments: Any) -> overlap.Overlap:
        calls.append(1)
        return overlap_counts(*arguments)

    monkeypatch.setattr(overlap, "overlap_counts", counted)
    alignment = _alignment(np.ones((4, 4), int), np.ones((4, 4), int))
    assert [metric(alignment)["mean"] for metric in (dice, jaccard, volume_similarity)] == [1.0, 1.0, 0.0]
    assert len(calls) == 1
