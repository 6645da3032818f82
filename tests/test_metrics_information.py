"""Intensity-label information against tables done by hand, sorted ranks with sklearn, and integrals."""

from __future__ import annotations

import os
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn.feature_selection import mutual_info_classif
from sklearn.metrics import mutual_info_score

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.errors import DatasetError
from regbench.metrics import binned_counts as module
from regbench.metrics.binned_counts import Binning, binned_counts
from regbench.metrics.information import (
    image_information,
    information_of_counts,
    intensity_label_information,
    mi_jena_nats,
    mi_nats,
    mi_ratio,
)
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels

ln = np.log


def bins_by_rank(intensities: np.ndarray, bins: int) -> np.ndarray:
    """Bins of equal frequency from the definition: the middle rank, by sorting."""
    twice_rank = np.rint(2 * stats.rankdata(intensities.ravel()) - 1).astype(int)
    return np.minimum(bins * twice_rank // (2 * intensities.size), bins - 1)


def bins_by_width(intensities: np.ndarray, bins: int) -> np.ndarray:
    x = intensities.ravel().astype(np.float64)
    if x.min() == x.max():
        return np.zeros(x.size, int)
    return np.minimum(np.floor((x - x.min()) * bins / (x.max() - x.min())), bins - 1).astype(int)


DEFINITIONS = {"frequency": bins_by_rank, "width": bins_by_width}


# Tables by hand


@pytest.mark.parametrize(
    ("counts", "nats", "label_entropy", "cells"),
    [
        ([[2, 0], [0, 2]], ln(2), ln(2), 2),
        ([[1, 1], [1, 1]], 0.0, ln(2), 4),
        ([[3, 1], [1, 3]], 0.75 * ln(1.5) + 0.25 * ln(0.5), ln(2), 4),
        ([[2, 2], [0, 4]], 0.25 * ln(2) + 0.25 * ln(2 / 3) + 0.5 * ln(4 / 3), -0.25 * ln(0.25) - 0.75 * ln(0.75), 3),
        ([[5, 0], [7, 0]], 0.0, 0.0, 2),
        ([[5, 7], [0, 0]], 0.0, -5 / 12 * ln(5 / 12) - 7 / 12 * ln(7 / 12), 2),
    ],
)
def test_information_of_tables_done_by_hand(
    counts: list[list[int]], nats: float, label_entropy: float, cells: int
) -> None:
    table = np.array(counts)
    n, rows, columns = table.sum(), int(table.any(axis=1).sum()), int(table.any(axis=0).sum())
    plain, corrected = information_of_counts(table, correction=False), information_of_counts(table)
    assert plain.nats == pytest.approx(nats, abs=1e-15)
    assert plain.label_entropy_nats == pytest.approx(label_entropy, abs=1e-15)
    assert corrected.nats == pytest.approx(nats + (rows + columns - cells - 1) / (2 * n), abs=1e-15)
    assert corrected.label_entropy_nats == pytest.approx(label_entropy + (columns - 1) / (2 * n), abs=1e-15)
    for found in (plain, corrected):
        assert (found.voxels, found.bins_used, found.labels_used, found.cells_used) == (n, rows, columns, cells)
        if columns == 1:
            assert found.nats == 0 and np.isnan(found.ratio)
        else:
            assert found.ratio == pytest.approx(found.nats / found.label_entropy_nats)


def test_information_is_what_the_corrected_entropies_say() -> None:
    table = np.random.default_rng(0).poisson(3, (8, 5))
    found, n = information_of_counts(table), table.sum()
    joint = table[table > 0] / n
    joint_entropy = -np.sum(joint * ln(joint)) + (joint.size - 1) / (2 * n)
    assert found.nats == pytest.approx(found.intensity_entropy_nats + found.label_entropy_nats - joint_entropy)
    assert information_of_counts(table.T).nats == pytest.approx(found.nats, abs=1e-14)


def test_without_voxels_nothing_is_defined() -> None:
    for found in (information_of_counts(np.zeros((64, 3))), intensity_label_information(np.zeros(0), np.zeros(0, int))):
        assert np.isnan([found.nats, found.ratio, found.label_entropy_nats, found.intensity_entropy_nats]).all()
        assert found.voxels == 0


# Bins


def some_intensities(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    made = {
        "normal": lambda: rng.standard_normal(n),
        "large offset": lambda: 1e6 + 3 * rng.standard_normal(n),
        "8 bits": lambda: rng.integers(0, 247, n) / 255,
        "few": lambda: rng.integers(-2, 3, n),
        "background": lambda: np.where(rng.random(n) < 0.7, 0, rng.standard_normal(n)),
        "outlier": lambda: np.where(np.arange(n) == n // 2, 1e9, rng.random(n)),
        "skewed": lambda: np.exp(20 * rng.standard_normal(n)),
        "huge": lambda: rng.choice([-3.4e38, 3.4e38, 1.0, 2.0], n),
        "tiny": lambda: rng.integers(0, 9, n) * 1e-45,
        "constant": lambda: np.full(n, 0.1),
    }
    return made[kind]().astype(np.float32)


KINDS = ["normal", "large offset", "8 bits", "few", "background", "outlier", "skewed", "huge", "tiny", "constant"]


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(KINDS),
    st.integers(1, 400),
    st.sampled_from([(2, 1), (7, 4), (64, 4), (64, 60), (64, 4000), (64, 2**22)]),
    st.sampled_from([(1 << 16, 8192), (16, 8192), (16, 5), (1, 2)]),
)
def test_counts_equal_those_of_sorted_ranks_and_of_the_width(
    seed: int, kind: str, n: int, bins_and_top_label: tuple[int, int], sizes: tuple[int, int]
) -> None:
    bins, top = bins_and_top_label
    rng = np.random.default_rng(seed)
    x, labels = some_intensities(rng, kind, n), rng.integers(0, top, n, endpoint=True) // rng.integers(1, top + 1)
    binnings = [Binning(way, bins, only) for way in ("frequency", "width") for only in (True, False)]
    # Small samples and few cells reach what else only large images reach.
    with patch.multiple(module, _SAMPLE=sizes[0], _MOST_CELLS=sizes[1], _FEWEST_CELLS=sizes[1]):
        found = binned_counts(x, labels, binnings)
    for binning, table in zip(binnings, found, strict=True):
        inside = labels > 0 if binning.labelled_only else np.ones(n, bool)
        values = np.unique(labels[inside])
        expected = np.zeros((bins, len(values)), int)
        if inside.any():
            rows = DEFINITIONS[binning.kind](x[inside], bins)
            np.add.at(expected, (rows, np.searchsorted(values, labels[inside])), 1)
        np.testing.assert_array_equal(table[:, table.any(axis=0)], expected)


@pytest.mark.parametrize("kind", ["normal", "8 bits", "background", "outlier"])
def test_it_agrees_with_sklearn_on_the_same_bins_of_a_large_image(kind: str) -> None:
    rng = np.random.default_rng(0)
    x = some_intensities(rng, kind, 250_000)
    labels = np.clip(np.rint(3 * np.clip(x, -2, 2) + rng.standard_normal(x.size)), 0, 9).astype(np.uint8)
    for way, bins_of in DEFINITIONS.items():
        found = intensity_label_information(x, labels, binning=way, correction=False)  # type: ignore[arg-type]
        expected = mutual_info_score(bins_of(x, 64), labels)
        assert found.nats == pytest.approx(expected, abs=1e-12)
        assert found.label_entropy_nats == pytest.approx(stats.entropy(np.bincount(labels)), abs=1e-12)


def test_threads_change_no_count() -> None:
    rng = np.random.default_rng(1)
    x, labels = some_intensities(rng, "normal", 300_001), rng.integers(0, 90, 300_001)
    binnings = [Binning("frequency", labelled_only=True), Binning("width")]
    one = binned_counts(x, labels, binnings)
    for threads in (2, 5):
        for a, b in zip(one, binned_counts(x, labels, binnings, threads), strict=True):
            np.testing.assert_array_equal(a, b)


def test_bins_of_equal_frequency_are_of_equal_frequency() -> None:
    x = np.random.default_rng(2).permutation(64 * 50).astype(np.float32)
    (table,) = binned_counts(x, np.ones(x.size, int), [Binning()])
    assert (table.sum(axis=1) == 50).all()


def test_many_labels_are_counted_without_a_table_of_many_cells() -> None:
    rng = np.random.default_rng(3)
    x, labels = rng.random(20_000).astype(np.float32), rng.integers(0, 5000, 20_000)
    found = intensity_label_information(x, labels, correction=False)
    assert found.nats == pytest.approx(mutual_info_score(bins_by_rank(x, 64), labels), abs=1e-12)


# Invariance


def textured(shape: tuple[int, ...], n_labels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, n_labels, shape)
    return rng.integers(0, 300, shape) + 40 * labels, labels


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_strictly_rising_map_of_intensities_changes_anything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, labels = textured((30, 20, 10))
    rising = np.unique((rng.standard_normal(2000) ** 5).astype(np.float32))[: x.max() + 1]
    assert intensity_label_information(x, labels) == intensity_label_information(rising[x], labels)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gamma_changes_nothing_in_bins_of_equal_frequency_but_in_bins_of_equal_width(gamma: float) -> None:
    x, labels = textured((30, 20, 10))
    level = (x / x.max()).astype(np.float32)
    changed = level**gamma
    assert np.unique(changed).size == np.unique(level).size
    assert intensity_label_information(changed, labels) == intensity_label_information(level, labels)
    by_width = [intensity_label_information(values, labels, binning="width").nats for values in (level, changed)]
    assert abs(by_width[0] - by_width[1]) > 1e-3


def test_turning_intensities_round_changes_nothing_where_no_rank_is_on_a_limit() -> None:
    rng = np.random.default_rng(5)
    x = rng.permutation(6400).astype(np.float32)
    labels = (x / 1000 + rng.random(6400)).astype(int)
    one, turned = intensity_label_information(x, labels), intensity_label_information(-x, labels)
    assert turned.nats == pytest.approx(one.nats, abs=1e-13)


def test_an_outlier_moves_bins_of_equal_frequency_by_nothing_to_speak_of() -> None:
    x, labels = textured((30, 20, 10))
    spoiled = x.astype(np.float32)
    spoiled[0, 0, 0] = 1e6
    one, other = (intensity_label_information(values, labels).nats for values in (x, spoiled))
    assert other == pytest.approx(one, abs=1e-3)
    assert intensity_label_information(spoiled, labels, binning="width", correction=False).nats < 1e-3


@pytest.mark.parametrize("numbers", [[5, 0, 3, 1, 4, 2], [2035, 17, 0, 49, 1000, 251], [2**31 - 1, 0, 2**22, 7, 8, 9]])
def test_label_numbers_mean_nothing(numbers: list[int]) -> None:
    x, labels = textured((20, 20, 10))
    one, other = intensity_label_information(x, labels), intensity_label_information(x, np.array(numbers)[labels])
    assert other.nats == pytest.approx(one.nats, abs=1e-13)
    assert other.ratio == pytest.approx(one.ratio, abs=1e-13)
    words = np.array(["a", "b", "c", "d", "e", "f"])[labels]
    assert intensity_label_information(x, words).nats == pytest.approx(one.nats, abs=1e-13)
    halves = intensity_label_information(x, labels / 2 - 1)
    assert halves.nats == pytest.approx(one.nats, abs=1e-13)


def test_order_and_direction_of_axes_mean_nothing() -> None:
    x, labels = textured((20, 15, 10))
    grid = Grid.from_spacing(x.shape)
    one = image_information(Image(x, grid), Labels(labels, grid))
    assert one.voxels == (labels > 0).sum() and one.labels_used == 5
    for turn in (lambda a: a.transpose(2, 0, 1), lambda a: a[::-1, :, ::-1]):
        other = Grid.from_spacing(turn(x).shape)
        assert image_information(Image(turn(x), other), Labels(turn(labels), other)) == one


# Known information


@pytest.mark.parametrize("correction", [True, False])
def test_labels_that_the_intensity_decides_have_a_ratio_of_one(correction: bool) -> None:
    x = np.random.default_rng(6).permutation(6400)
    labels = x // 1600
    found = intensity_label_information(x, labels, correction=correction)
    assert found.ratio == pytest.approx(1, abs=1e-12)
    assert found.label_entropy_nats == pytest.approx(ln(4) + correction * 3 / 12800, abs=1e-12)
    assert intensity_label_information(x, labels, correction=False).nats == pytest.approx(ln(4), abs=1e-12)


def test_independent_labels_have_no_information_once_it_is_corrected() -> None:
    rng = np.random.default_rng(7)
    draws = [(rng.random(20_000), rng.integers(0, 20, 20_000)) for _ in range(20)]
    plain = [intensity_label_information(*draw, correction=False).nats for draw in draws]
    corrected = [intensity_label_information(*draw).nats for draw in draws]
    # The plain estimate is too large by (63 x 19) / (2 N) = .03.
    assert np.mean(plain) == pytest.approx(63 * 19 / 40_000, rel=0.1)
    assert abs(np.mean(corrected)) < 0.001
    assert min(corrected) < 0 < max(corrected)


def test_two_overlapping_normal_classes_have_the_information_of_the_integral() -> None:
    rng = np.random.default_rng(8)
    labels = rng.random(200_000) < 0.3
    x = rng.standard_normal(200_000) + 1.5 * labels

    def per_intensity(v: float) -> float:
        parts = np.array([0.7 * stats.norm.pdf(v), 0.3 * stats.norm.pdf(v - 1.5)])
        return float(np.sum(parts * ln(parts / parts.sum() / [0.7, 0.3])))

    truth = integrate.quad(per_intensity, -7, 8)[0]
    found = intensity_label_information(x, labels)
    assert found.nats == pytest.approx(truth, abs=0.003)
    assert found.ratio == pytest.approx(truth / stats.entropy([0.7, 0.3]), abs=0.01)
    nearest = mutual_info_classif(x[:5000, None], labels[:5000], random_state=0)[0]
    assert found.nats == pytest.approx(nearest, abs=0.03)


@pytest.mark.real
def test_a_real_scan_has_the_information_found_before_by_other_code() -> None:
    if "REGBENCH_DATA" not in os.environ:
        pytest.skip("REGBENCH_DATA is not set; it names the folder with voxelmorph_pair/")
    path = Path(os.environ["REGBENCH_DATA"]) / "voxelmorph_pair" / "test_scan.npz"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    scan = np.load(path)
    grid = Grid.from_spacing(scan["vol"].shape)
    image, labels = Image(scan["vol"], grid), Labels(scan["seg"], grid)
    found = image_information(image, labels)
    assert (found.labels_used, round(found.label_entropy_nats, 3)) == (45, 2.154)
    # .306 with limits at quantiles, which put intensities of 8 bits on other sides of them.
    assert found.ratio == pytest.approx(0.306, abs=0.002)
    everything = image_information(image, labels, "all", binning="width", correction=False)
    assert everything.ratio == pytest.approx(0.602, abs=0.001)


# Metrics


def labelled_pair(fixed_labels: np.ndarray, moving_labels: np.ndarray) -> Alignment:
    rng = np.random.default_rng(9)
    sides = []
    for labels in (fixed_labels, moving_labels):
        grid = Grid.from_spacing(labels.shape)
        sides.append((Image(10 * labels + rng.normal(0, 8, labels.shape), grid), Labels(labels, grid)))
    (fixed, of_fixed), (moving, of_moving) = sides
    pair = Pair("p", fixed, moving, fixed_labels=of_fixed, moving_labels=of_moving)
    away = np.full((*fixed.grid.shape, fixed.grid.ndim), 50.0)
    return Alignment(pair, Displacement(away, fixed.grid))


@pytest.mark.parametrize("shapes", [((12, 14, 10), (9, 20, 11)), ((40, 30), (25, 60))])
def test_metrics_are_those_of_either_image_with_its_own_labels(shapes: tuple[tuple[int, ...], ...]) -> None:
    rng = np.random.default_rng(10)
    alignment = labelled_pair(*(rng.integers(0, 5, shape) for shape in shapes))
    pair = alignment.pair
    nats, ratio, jena = mi_nats(alignment), mi_ratio(alignment), mi_jena_nats(alignment)
    for side in ("fixed", "moving"):
        image, labels = getattr(pair, side), getattr(pair, f"{side}_labels")
        inside, everything = (image_information(image, labels, region) for region in ("foreground", "all"))  # type: ignore[arg-type]
        assert (nats[side], nats[f"{side}_all"]) == (inside.nats, everything.nats)
        assert (ratio[side], ratio[f"{side}_all"]) == (inside.ratio, everything.ratio)
        assert nats[f"{side}_label_entropy_nats"] == inside.label_entropy_nats
        assert inside.voxels == (labels.array > 0).sum() and everything.voxels == labels.array.size
        assert jena[side] == pytest.approx(mutual_info_score(bins_by_width(image.array, 64), labels.array.ravel()))
    assert nats["voxels"] == (pair.fixed_labels.array > 0).sum() + (pair.moving_labels.array > 0).sum()
    for found in (nats, ratio, jena):
        assert found["mean"] == pytest.approx((found["fixed"] + found["moving"]) / 2)
    for found in (nats, ratio):
        assert found["all"] == pytest.approx((found["fixed_all"] + found["moving_all"]) / 2)
    assert all(isinstance(value, float | int) for found in (nats, ratio, jena) for value in found.values())
    assert set(jena) == {"mean", "fixed", "moving"}


def test_an_empty_map_has_no_information_and_one_label_no_ratio() -> None:
    rng = np.random.default_rng(11)
    labels = rng.integers(0, 5, (12, 14))
    empty = labelled_pair(labels, np.zeros_like(labels))
    assert np.isnan([mi_nats(empty)[key] for key in ("mean", "moving", "moving_label_entropy_nats")]).all()
    assert np.isnan([mi_ratio(empty)[key] for key in ("mean", "moving", "all", "moving_all")]).all()
    assert np.isfinite([mi_nats(empty)["fixed"], mi_ratio(empty)["fixed"]]).all()
    assert mi_nats(empty)["moving_all"] == 0 and mi_jena_nats(empty)["moving"] == 0
    single = labelled_pair(labels, np.minimum(labels, 1))
    assert mi_nats(single)["moving"] == 0 and mi_nats(single)["moving_label_entropy_nats"] == 0
    assert np.isnan(mi_ratio(single)["moving"]) and np.isfinite(mi_ratio(single)["moving_all"])


def test_a_constant_image_tells_nothing() -> None:
    labels = np.random.default_rng(12).integers(0, 5, 500)
    for binning in ("frequency", "width"):
        found = intensity_label_information(np.full(500, 7.0), labels, binning=binning)  # type: ignore[arg-type]
        assert found.nats == 0 and found.ratio == 0 and found.bins_used == 1


def test_arrays_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(DatasetError, match="3 intensities for 4 labels"):
        intensity_label_information(np.zeros(3), np.zeros(4, int))
    with pytest.raises(DatasetError, match="NaN or infinite"):
        intensity_label_information(np.array([0, np.nan]), np.zeros(2, int))
    image, labels = (np.zeros(shape) for shape in ((4, 5), (5, 4)))
    with pytest.raises(DatasetError, match=r"\(4, 5\) and labels of shape \(5, 4\)"):
        image_information(Image(image, Grid.from_spacing((4, 5))), Labels(labels, Grid.from_spacing((5, 4))))
