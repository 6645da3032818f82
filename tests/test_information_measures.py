"""What an image tells of its labels: against the metrics, tables by hand, and phantoms whose borders are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regbench.datasets.label_sets import LabelSet
from regbench.errors import DatasetError
from regbench.information.borders import Borders, border_visibility
from regbench.information.histograms import Histograms, merged
from regbench.information.merging import random_classes, sides_merged, tissues
from regbench.information.subject import Mask, NamedLabels, Scan, Settings, SubjectInformation, measure, shuffled_nats
from regbench.metrics.binned_counts import Binning, JointCounts, binned_counts
from regbench.metrics.information import image_summary, information_of_counts, intensity_label_information
from regbench.volume import Grid, Image, Labels

AS_THEY_ARE = NamedLabels("all", LabelSet({}))


def scan(intensities: np.ndarray, labels: np.ndarray, spacing: float | tuple[float, ...] = 1.0) -> tuple[Image, Labels]:
    grid = Grid.from_spacing(intensities.shape, spacing)
    return Image(intensities, grid), Labels(labels, grid)


def told(image: Image, labels: Labels, given: Settings | None = None) -> SubjectInformation:
    (found,) = measure(Scan("s", image, labels), [AS_THEY_ARE], given or Settings())
    return found


def rough(shape: tuple[int, ...] = (24, 22, 26), n_labels: int = 5, seed: int = 0) -> tuple[Image, Labels]:
    """A parcelled ball, with grey values that tell something of the labels, and noise."""
    rng = np.random.default_rng(seed)
    points = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"), axis=-1)
    seeds = rng.uniform(-0.7, 0.7, (n_labels, len(shape)))
    labels = 1 + np.linalg.norm(points[..., None, :] - seeds, axis=-1).argmin(axis=-1)
    labels[np.linalg.norm(points, axis=-1) > 0.9] = 0
    means = rng.uniform(0, 1, n_labels + 1)
    return scan((means[labels] + rng.normal(0, 0.15, shape)).astype(np.float32), labels)


# Information


def test_the_numbers_are_those_of_the_metrics() -> None:
    image, labels = rough()
    found, metrics = told(image, labels), image_summary(image, labels)
    assert found.mi_nats == metrics.labelled.nats
    assert found.mi_ratio == metrics.labelled.ratio
    assert found.label_entropy_nats == metrics.labelled.label_entropy_nats
    assert found.mi_all_nats == metrics.everything.nats
    assert found.mi_jena_nats == metrics.plain.nats
    assert found.voxels == np.count_nonzero(labels.array)
    assert found.background_share == pytest.approx(np.mean(labels.array == 0))


def test_excluded_voxels_take_no_part_as_in_the_metrics() -> None:
    image, labels = rough()
    excluded = Labels(np.arange(labels.array.size).reshape(labels.array.shape) % 7 == 0, labels.grid)
    (found,) = measure(Scan("s", image, labels, excluded), [AS_THEY_ARE], Settings())
    metrics = image_summary(image, labels, 1, excluded)
    assert (found.mi_nats, found.mi_all_nats) == (metrics.labelled.nats, metrics.everything.nats)
    kept = labels.array[excluded.array == 0]
    assert found.voxels == np.count_nonzero(kept)
    assert found.background_share == pytest.approx(np.mean(kept == 0))


def test_a_label_set_is_measured_as_if_its_map_had_been_read() -> None:
    image, labels = rough()
    chosen = LabelSet({1: "a", 7: "b"}, {1: (1, 3), 7: (4,)})
    (first, second) = measure(Scan("s", image, labels), [AS_THEY_ARE, NamedLabels("two", chosen)], Settings())
    for found, alone in ((first, told(image, labels)), (second, told(image, chosen.apply(labels)))):
        # What is for comparison only is counted to within a cell, which depends on what else is counted.
        assert replace(found, label_set="all", sensitivity={}) == replace(alone, sensitivity={})
        for kind, values in alone.sensitivity.items():
            assert found.sensitivity[kind] == pytest.approx(values, abs=1e-3)
    assert set(second.per_label) == {"1", "7"}


def test_intensities_that_tell_nothing_and_that_tell_all() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(1, 5, (30, 30, 30))
    nothing = told(*scan(rng.random(labels.shape).astype(np.float32), labels))
    assert abs(nothing.mi_nats) < 5e-4
    assert nothing.bias_nats == pytest.approx(nothing.shuffled_nats, rel=0.2)
    everything = told(*scan(np.array([0, 3, 1, 7, 5], np.float32)[labels], labels))
    assert everything.mi_nats == pytest.approx(everything.label_entropy_nats)
    assert everything.mi_ratio == pytest.approx(1)
    assert [one.mi_ratio for one in everything.per_label.values()] == pytest.approx([1] * 4)


@pytest.mark.parametrize("shift_and_scale", [(0, 2), (-3, 0.25), (8, -1)])
def test_affine_maps_of_the_intensities_change_nothing(shift_and_scale: tuple[float, float]) -> None:
    image, labels = rough()
    whole = np.rint(image.array * 64)
    shift, scale = shift_and_scale
    one, other = (told(*scan(array.astype(np.float32), labels.array)) for array in (whole, shift + scale * whole))
    assert other.border_visible_share == pytest.approx(one.border_visible_share, abs=1e-12)
    # Reversed brightness puts ranks the other way round, and with them the limits of bins.
    close = 0.01 if scale < 0 else 1e-12
    assert other.mi_nats == pytest.approx(one.mi_nats, abs=close)


def test_rising_maps_of_the_intensities_change_no_bin_of_equal_frequency() -> None:
    image, labels = rough()
    one, other = (told(*scan(a.astype(np.float32), labels.array)) for a in (image.array, np.exp(3 * image.array)))
    assert other.mi_nats == one.mi_nats
    assert {k: v.mi_nats for k, v in other.per_label.items()} == {k: v.mi_nats for k, v in one.per_label.items()}


def test_a_label_against_the_rest_is_the_information_of_two_labels() -> None:
    image, labels = rough()
    inside = labels.array > 0
    masks: dict[Mask, np.ndarray] = {"fg": inside, "all": np.ones_like(inside)}
    for mask, voxels in masks.items():
        found = told(image, labels, Settings(mask=mask)).per_label
        assert set(found) == {"1", "2", "3", "4", "5"}
        for value, one in found.items():
            alone = intensity_label_information(image.array[voxels], labels.array[voxels] == int(value))
            assert one.mi_nats == pytest.approx(alone.nats, abs=1e-12)
            assert one.entropy_nats == pytest.approx(alone.label_entropy_nats)
            assert one.voxels == np.count_nonzero(labels.array == int(value))


def test_one_label_leaves_nothing_to_tell_but_against_the_background() -> None:
    image, labels = scan(np.array([[0, 0, 5, 5]] * 4, np.float32), np.array([[0, 0, 9, 9]] * 4))
    inside, everything = told(image, labels), told(image, labels, Settings(mask="all"))
    assert (inside.mi_nats, inside.n_labels) == (0, 1)
    assert math.isnan(inside.mi_ratio)
    assert everything.per_label["9"].mi_ratio == pytest.approx(1)


def test_labels_on_another_grid_are_refused_in_one_sentence() -> None:
    image, labels = rough()
    other = Labels(labels.array[1:], Grid.from_spacing((23, 22, 26)))
    with pytest.raises(DatasetError, match=r"24x22x26 voxels .* 23x22x26 voxels .*; resample them"):
        told(image, other)


# Sensitivity and merging


def test_the_main_number_stands_among_those_that_it_is_compared_with() -> None:
    image, labels = rough()
    found = told(image, labels)
    assert found.sensitivity["bins"]["64"] == found.mi_nats
    assert found.sensitivity["binning"]["equal frequency"] == found.mi_nats
    assert found.sensitivity["merging"]["as they are"] == found.mi_nats
    assert found.sensitivity["mask"] == {"labelled voxels": found.mi_nats, "all voxels": found.mi_all_nats}


@pytest.mark.parametrize("mask", ["fg", "all"])
def test_every_choice_gives_what_it_gives_alone_to_within_a_cell(mask: Mask) -> None:
    image, labels = rough((40, 40, 40))
    inside = labels.array > 0 if mask == "fg" else np.ones(labels.array.shape, bool)
    found = told(image, labels, Settings(mask=mask, compared_bins=(16, 50, 64, 256))).sensitivity
    for bins in (16, 50, 64, 256):
        alone = intensity_label_information(image.array[inside], labels.array[inside], bins)
        assert found["bins"][str(bins)] == pytest.approx(alone.nats, abs=1e-3)
    low, high = np.percentile(image.array[inside], [0.5, 99.5])
    clipped = np.clip(image.array[inside], low, high)
    alone = intensity_label_information(clipped, labels.array[inside], binning="width")
    assert found["binning"]["equal width, clipped"] == pytest.approx(alone.nats, abs=2e-3)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(1, 300))
def test_merging_labels_never_raises_the_plain_information(seed: int, n_labels: int, voxels: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(voxels, rng.dirichlet(np.full(8 * n_labels, 0.3))).reshape(8, n_labels)
    whole = JointCounts(counts, np.arange(1, n_labels + 1))
    before = information_of_counts(counts, correction=False).nats
    for classes in (8, 4, 2):
        groups = random_classes(range(1, n_labels + 1), min(classes, n_labels), 0, seed % 5)
        after = information_of_counts(merged(whole, groups).counts, correction=False).nats
        assert after <= before + 1e-12
        # Nested: fewer classes are unions of more.
        before = after if classes <= n_labels else before


def test_merged_columns_are_the_histogram_of_the_merged_map() -> None:
    image, labels = rough()
    chosen = LabelSet({3: "a", 1: "b"}, {3: (1, 5), 1: (4,)})
    binnings = [Binning(), Binning("width", 16)]
    histograms = Histograms(image, labels, binnings)
    for binning in binnings:
        table = merged(histograms.of(binning), chosen.groups)
        (alone,) = binned_counts(image.array, chosen.apply(labels).array, [binning])
        np.testing.assert_array_equal(table.counts[:, table.counts.any(axis=0)], alone[:, alone.any(axis=0)])
        assert table.labels.tolist() == [0, 1, 3]


def test_names_say_which_labels_are_one_structure_and_one_tissue() -> None:
    names = {1: "left thalamus", 2: "right thalamus", 3: "brain stem", 4: "left cortex", 9: "right cortex"}
    assert sides_merged(names, [1, 2, 3, 4, 5, 9]) == {1: (1, 2), 3: (3,), 4: (4, 9), 5: (5,)}
    assert sides_merged({1: "liver"}, [1, 2]) == {}
    assert tissues(names, [1, 2, 3, 4, 9]) == {2: (1, 2), 3: (3,), 1: (4, 9)}
    assert tissues({1: "liver", 2: "spleen"}, [1, 2]) == {}


def test_random_classes_depend_on_seed_and_labels_alone() -> None:
    once, again = (random_classes([5, 1, 9, 4], 2, 3, 0), random_classes([9, 4, 1, 5], 2, 3, 0))
    assert once == again
    assert sorted(len(group) for group in once.values()) == [2, 2]
    assert len({str(random_classes(range(1, 20), 4, 3, draw)) for draw in range(5)}) > 1


def test_shuffled_labels_are_drawn_with_the_voxels_that_there_are() -> None:
    counts = np.random.default_rng(0).poisson(40, (64, 35))
    found, bias = shuffled_nats(counts, 0), information_of_counts(counts, correction=False).nats
    # All cells occur: the expectation is (bins - 1) (labels - 1) / (2 n).
    assert found == pytest.approx(63 * 34 / (2 * counts.sum()), rel=0.05)
    assert bias == pytest.approx(found, rel=0.1)
    assert shuffled_nats(np.array([[3, 0], [0, 0]]), 0) == 0


# Borders


def halves(shape: tuple[int, ...], axis: int = 0) -> np.ndarray:
    return 1 + (np.indices(shape)[axis] >= shape[axis] // 2).astype(int)


def visible(intensities: np.ndarray, labels: np.ndarray) -> Borders:
    image, label_map = scan(intensities.astype(np.float32), labels)
    return border_visibility(image, label_map, label_map.values)


@pytest.mark.parametrize("shape", [(12, 14, 16), (20, 24), (2, 2, 2), (1, 4, 1)])
def test_a_clean_step_is_visible_wherever_the_border_is(shape: tuple[int, ...]) -> None:
    labels = halves(shape, axis=1)
    found = visible(labels * 0.3, labels)
    assert (found.visible_share, found.between_share) == (1, 1)
    assert found.area == math.prod(shape) / shape[1]
    assert found.per_label == {1: (found.area, found.area), 2: (found.area, found.area)}


def test_nothing_is_visible_in_a_constant_image_and_next_to_nothing_in_noise() -> None:
    labels = np.random.default_rng(3).integers(0, 3, (10, 10, 10)).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    assert visible(np.full(labels.shape, 0.1), labels).visible_share == 0
    noise = np.random.default_rng(4).standard_normal(labels.shape)
    found = visible(noise, labels)
    assert found.visible_share == pytest.approx(0.0027, abs=0.0015)
    assert found.inside_share == pytest.approx(0.0027, abs=0.0015)


def test_thin_labels_have_the_noise_of_fewer_voxels() -> None:
    labels = np.ones((40, 40, 40), int)
    labels[::2] = np.arange(2, 22)[:, None, None]
    noise = np.random.default_rng(6).standard_normal(labels.shape)
    # Along the first axis every mean is of one voxel, and the noise is that of the other two.
    assert visible(noise, labels).visible_share == pytest.approx(0.0027, abs=0.0015)


def test_steps_are_seen_from_three_standard_deviations_on() -> None:
    labels = halves((64, 64, 64))
    noise = np.random.default_rng(5).standard_normal(labels.shape)
    shares = [visible(noise + step * labels, labels).visible_share for step in (1, 3, 5)]
    # The mean of two voxels on either side has the noise of one: P(|N(step, 1)| > 3).
    assert shares == pytest.approx([0.0228, 0.5, 0.9772], abs=0.02)


def test_texture_that_is_everywhere_is_no_border() -> None:
    labels = halves((40, 40, 40))
    stripes = 5.0 * (np.indices(labels.shape)[0] // 2 % 2)
    assert visible(stripes + labels, labels).visible_share == 0


def test_faces_count_by_their_area_and_to_both_of_their_labels() -> None:
    labels = np.zeros((6, 6, 6), int)
    labels[1:5, 1:5, 1:3] = 1
    labels[1:5, 1:5, 3:5] = 2
    image, label_map = scan(np.where(labels == 1, 4.0, 0.0).astype(np.float32), labels, (1.0, 2.0, 5.0))
    found = border_visibility(image, label_map, label_map.values)
    ends, sides = 4 * 4 * 2.0, 2 * (2 * 4 * 10.0 + 2 * 4 * 5.0)
    # The second label is dark like the background: only its face to the first one is visible.
    assert found.per_label[1] == (2 * ends + sides, 2 * ends + sides)
    assert found.per_label[2] == (2 * ends + sides, ends)
    assert found.area == 2 * sides + 3 * ends
    assert found.visible_share == pytest.approx((sides + 2 * ends) / found.area)
    assert found.between_share == 1


def test_faces_of_excluded_voxels_are_no_borders() -> None:
    labels = halves((8, 8, 8))
    image, label_map = scan(labels.astype(np.float32), labels)
    excluded = np.zeros(labels.shape, int)
    excluded[:, :2] = 1
    found = border_visibility(image, label_map, label_map.values, excluded=Labels(excluded, label_map.grid))
    assert (found.area, found.visible_share) == (48, 1)


def test_planes_of_a_large_image_tell_what_all_faces_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    image, labels = rough((48, 48, 48), 12)
    every = border_visibility(image, labels, labels.values, every_face=True)
    monkeypatch.setattr("regbench.information.borders.MOST_VOXELS", 48**3 // 3)
    some = border_visibility(image, labels, labels.values)
    assert some.area == pytest.approx(every.area, rel=0.02)
    assert some.visible_share == pytest.approx(every.visible_share, abs=0.02)
    assert some.visible_share != every.visible_share


def test_without_a_border_its_share_is_not_defined() -> None:
    found = visible(np.random.default_rng(0).random((5, 5, 5)), np.ones((5, 5, 5), int))
    assert math.isnan(found.visible_share)
    assert math.isnan(found.between_share)
    assert (found.area, found.per_label) == (0, {})
