"""What a pair excludes takes no part in any score, whatever is done to the pair, and every loader can say it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts_on_disk import write_nifti
from shifted_pairs import GEOMETRY, shift, whole_pair

from regbench.alignment import Alignment
from regbench.datasets.csv_pairs import CsvPairs
from regbench.datasets.described import Described
from regbench.datasets.recognition import dataset_at
from regbench.datasets.respacing import respaced_pair
from regbench.datasets.table import build_dataset
from regbench.displacement import Displacement
from regbench.errors import DatasetError
from regbench.metrics.evaluate import evaluate
from regbench.metrics.information import information_of_counts, intensity_label_information
from regbench.metrics.table import METRICS
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels, Landmarks

GRID = Grid.from_spacing((14, 16, 18), 1.0)
RNG = np.random.default_rng(3)


def boxed(*box: slice, grid: Grid = GRID) -> Labels:
    array = np.zeros(grid.shape, np.uint8)
    array[box] = 1
    return Labels(array, grid)


def blocks(n: int, seed: int) -> Labels:
    """Labels 1 to n in blocks of 4 voxels, and background."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, n + 1, [-(-size // 4) for size in GRID.shape])
    array = np.kron(coarse, np.ones((4, 4, 4), int))[tuple(slice(size) for size in GRID.shape)]
    return Labels(array, GRID)


def pair_of(**parts: Any) -> Pair:
    images = (Image(np.random.default_rng(seed).uniform(0, 1, GRID.shape), GRID) for seed in (1, 2))
    known: dict[str, Any] = {"fixed_labels": blocks(4, 5), "moving_labels": blocks(4, 6), **parts}
    return Pair("p", *images, **known)


def bent(scale_mm: float = 1.5) -> Displacement:
    points = GRID.world_points() / 5
    return Displacement(scale_mm * np.stack([np.sin(points[..., (a + 1) % 3] + a) for a in range(3)], -1), GRID)


LESIONS = {
    "fixed": {"fixed_excluded": boxed(slice(2, 9), slice(3, 10), slice(4, 12))},
    "moving": {"moving_excluded": boxed(slice(4, 12), slice(1, 9), slice(6, 15))},
}
LESIONS["both"] = LESIONS["fixed"] | LESIONS["moving"]


@pytest.mark.parametrize("label_warp", ["nearest", "linear"])
@pytest.mark.parametrize("lesion", LESIONS)
def test_overlap_is_that_of_the_voxels_that_are_left(lesion: str, label_warp: Any) -> None:
    pair = pair_of(**LESIONS[lesion])
    alignment = Alignment(pair, bent(), label_warp)
    whole = Alignment(pair_of(), bent(), label_warp)
    assert whole.excluded is None and whole.compared_labels == (whole.pair.fixed_labels, whole.moved_labels)
    out = np.zeros(GRID.shape, bool)
    if pair.fixed_excluded is not None:
        out |= pair.fixed_excluded.array > 0
    if pair.moving_excluded is not None:
        voxels = np.floor(GRID.to_voxel(GRID.world_points() + bent().vectors_mm) + 0.5).astype(int)
        inside = ((voxels >= 0) & (voxels < GRID.shape)).all(axis=-1)
        at = tuple(np.moveaxis(np.where(inside[..., None], voxels, 0), -1, 0))
        out |= inside & (pair.moving_excluded.array[at] > 0)
    np.testing.assert_array_equal(alignment.excluded, out)
    assert pair.fixed_labels is not None and whole.moved_labels is not None
    ours, theirs = pair.fixed_labels.array[~out], whole.moved_labels.array[~out]
    per_label = evaluate(alignment, ["dice", "jaccard"])["dice"]["per_label"]  # type: ignore[index]
    for label in range(1, 5):
        both = np.count_nonzero((ours == label) & (theirs == label))
        expected = 2 * both / (np.count_nonzero(ours == label) + np.count_nonzero(theirs == label))
        assert per_label[str(label)] == pytest.approx(expected, abs=1e-12)


def test_soft_overlap_leaves_out_the_same_voxels() -> None:
    # Where no point lies between voxels, shares are 0 and 1, and all label warps agree.
    whole_voxels = Displacement(np.broadcast_to(np.array([2.0, -1.0, 3.0]), (*GRID.shape, 3)), GRID)
    pair = pair_of(**LESIONS["both"])
    dice = {w: evaluate(Alignment(pair, whole_voxels, w), ["dice"])["dice"] for w in ("nearest", "soft")}  # type: ignore[arg-type]
    assert dice["soft"] == dice["nearest"]
    # Elsewhere voxels without any share are taken away from both sums, which raises or lowers nothing else.
    field, out = bent(), Alignment(pair, bent()).excluded
    assert out is not None
    assert pair.fixed_labels is not None and pair.moving_labels is not None
    found = evaluate(Alignment(pair, field, "soft"), ["dice"])["dice"]["per_label"]  # type: ignore[index]
    for label in range(1, 5):
        one_hot = Image((pair.moving_labels.array == label).astype(np.float32), GRID)
        moved = Alignment(Pair("s", pair.fixed, one_hot), field).moved_image.array.astype(np.float64)
        ours = (pair.fixed_labels.array == label) & ~out
        expected = 2 * (moved * ours).sum() / (ours.sum() + (moved * ~out).sum())
        assert found[str(label)] == pytest.approx(expected, rel=1e-5)


def test_a_label_that_is_nowhere_else_is_not_scored() -> None:
    hidden = blocks(2, 7).array.copy()
    hidden[LESIONS["fixed"]["fixed_excluded"].array > 0] = 9
    pair = pair_of(fixed_labels=Labels(hidden, GRID), moving_labels=Labels(hidden, GRID), **LESIONS["fixed"])
    found = evaluate(Alignment(pair, Displacement.identity(GRID)), ["dice", "hd95_mm", "nsd"])
    for metric, perfect in (("dice", 1.0), ("hd95_mm", 0.0), ("nsd", 1.0)):
        scores: Any = found[metric]
        assert set(scores["per_label"]) == {"1", "2", "9"} and np.isnan(scores["per_label"]["9"])
        assert scores["mean"] == perfect and scores["n_lost"] == 0


def test_surfaces_in_a_lesion_cost_nothing_and_those_beside_it_what_they_did() -> None:
    cube = boxed(slice(3, 10), slice(3, 10), slice(3, 10))
    damaged = cube.array.copy()
    damaged[3:10, 3:10, 10:15] = 1
    lesion = boxed(slice(2, 11), slice(2, 11), slice(9, 16))
    names = ["hd95_mm", "assd_mm", "nsd"]
    pair = pair_of(fixed_labels=cube, moving_labels=Labels(damaged, GRID))
    with_lesion = dataclasses.replace(pair, moving_excluded=lesion)
    still = Displacement.identity(GRID)
    before, after = (evaluate(Alignment(p, still), names) for p in (pair, with_lesion))
    assert before["hd95_mm"]["mean"] == pytest.approx(5.0)  # type: ignore[index]
    assert [after[name]["mean"] for name in names] == [0.0, 0.0, 1.0]  # type: ignore[index]
    # A lesion far from every surface changes no distance.
    middle = dataclasses.replace(pair, fixed_excluded=boxed(slice(6, 7), slice(6, 7), slice(6, 7)))
    far = evaluate(Alignment(middle, still), names)
    assert far["hd95_mm"] == before["hd95_mm"] and far["assd_mm"]["mean"] < before["assd_mm"]["mean"] * 1.01  # type: ignore[index]


def test_a_label_that_a_method_takes_into_a_lesion_as_a_whole_is_not_defined() -> None:
    one, two = boxed(slice(1, 4), slice(1, 4), slice(1, 4)), boxed(slice(8, 12), slice(8, 12), slice(8, 12))
    fixed = Labels(one.array + 2 * two.array, GRID)
    pair = pair_of(
        fixed_labels=fixed, moving_labels=fixed, moving_excluded=boxed(slice(7, 14), slice(7, 16), slice(0, 4))
    )
    # Everything of label 1 is led into the lesion, and label 2 out of the image.
    away = np.zeros((*GRID.shape, 3))
    away[..., :2] = 7.0
    with np.errstate(invalid="ignore"):
        found = evaluate(Alignment(pair, Displacement(away, GRID)), ["dice", "hd95_mm"])
    assert np.isnan(found["dice"]["per_label"]["1"]) and found["dice"]["mean"] == 0.0  # type: ignore[index]
    assert np.isnan(found["hd95_mm"]["per_label"]["1"])  # type: ignore[index]


def test_errors_of_a_known_truth_and_intensities_do_not_count_in_a_lesion() -> None:
    wrong = np.zeros((*GRID.shape, 3), np.float32)
    wrong[2:9, 3:10, 4:12] = 5.0
    for excluded, least in ((None, 0.1), (LESIONS["fixed"]["fixed_excluded"], 0.0)):
        pair = pair_of(truth=Displacement.identity(GRID), fixed_excluded=excluded)
        epe: Any = evaluate(Alignment(pair, Displacement(wrong, GRID)), ["epe_mm"])["epe_mm"]
        assert (epe["mean"] > least) == (excluded is None)
    noisy = pair_of().fixed.array.copy()
    noisy[2:9, 3:10, 4:12] = 7.0
    pair = dataclasses.replace(pair_of(**LESIONS["fixed"]), moving=Image(noisy, GRID))
    found = evaluate(Alignment(pair, Displacement.identity(GRID)), ["ncc", "nmi"])
    assert found["ncc"] == pytest.approx(1.0) and found["nmi"] == pytest.approx(2.0)


def test_landmarks_in_a_lesion_are_left_out_and_counted() -> None:
    fixed = np.array([[3.0, 4, 5], [1.0, 1, 1], [12.0, 14, 2], [11.0, 1, 1], [90.0, 0, 0]])
    moving = np.array([[9.0, 9, 9], [2.0, 1, 1], [5.0, 5, 8], [11.0, 4, 1], [0.0, 0, 0]])
    points = {"fixed_landmarks": Landmarks(fixed), "moving_landmarks": Landmarks(moving)}
    still = Displacement.identity(GRID)
    found: Any = evaluate(Alignment(pair_of(**points, **LESIONS["both"]), still), ["tre_mm"])["tre_mm"]
    assert found["mean"] == pytest.approx(2.0)
    assert (found["n"], found["n_outside"], found["n_excluded"]) == (2, 1, 2)
    assert "n_excluded" not in evaluate(Alignment(pair_of(**points), still), ["tre_mm"])["tre_mm"]  # type: ignore[operator]


def test_information_is_that_of_the_voxels_that_are_left() -> None:
    pair = pair_of(**LESIONS["fixed"])
    found: Any = evaluate(Alignment(pair, bent()), ["mi_nats"])["mi_nats"]
    assert pair.fixed_labels is not None and pair.fixed_excluded is not None
    kept = (pair.fixed_labels.array > 0) & (pair.fixed_excluded.array == 0)
    alone = intensity_label_information(pair.fixed.array[kept], pair.fixed_labels.array[kept])
    assert found["fixed"] == pytest.approx(alone.nats, abs=1e-12)
    assert found["moving"] == evaluate(Alignment(pair_of(), bent()), ["mi_nats"])["mi_nats"]["moving"]  # type: ignore[index]
    assert information_of_counts(np.zeros((2, 2))).voxels == 0


@pytest.mark.parametrize("name", [n for n in METRICS if METRICS[n].function is not None])
def test_no_metric_changes_where_nothing_is_excluded(name: str) -> None:
    pair = whole_pair(2)
    nothing: dict[str, Any] = {
        f"{s}_excluded": Labels(np.zeros(getattr(pair, s).grid.shape, int), getattr(pair, s).grid)
        for s in ("fixed", "moving")
    }
    assert pair.truth is not None
    plain, empty = (evaluate(Alignment(p, pair.truth), [name]) for p in (pair, dataclasses.replace(pair, **nothing)))
    if name == "tre_mm":
        assert empty[name].pop("n_excluded") == 0  # type: ignore[union-attr]
    np.testing.assert_equal(empty, plain)


# -- what is done to pairs --------------------------------------------------------------------------------


def struck(ndim: int) -> Pair:
    """The whole pair with its labels 2 excluded, which any change has to keep together with them."""
    pair = whole_pair(ndim)
    parts: dict[str, Any] = {
        f"{side}_excluded": Labels(getattr(pair, f"{side}_labels").array == 2, getattr(pair, side).grid)
        for side in ("fixed", "moving")
    }
    return dataclasses.replace(pair, **parts)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", [*GEOMETRY, "gamma", "noise"])
def test_shifts_carry_what_is_excluded_with_the_labels(name: str, ndim: int) -> None:
    shifted = shift(name).apply(struck(ndim), seed=0)
    for side in ("fixed", "moving"):
        labels, excluded = getattr(shifted, f"{side}_labels"), getattr(shifted, f"{side}_excluded")
        np.testing.assert_array_equal(excluded.array, labels.array == 2)
        assert excluded.grid.matches(getattr(shifted, side).grid)


def test_another_voxel_size_and_the_blind_pair() -> None:
    coarse = respaced_pair(struck(3), 5.0)
    assert coarse.fixed_labels is not None and coarse.fixed_excluded is not None
    np.testing.assert_array_equal(coarse.fixed_excluded.array, coarse.fixed_labels.array == 2)
    assert not any("excluded" in field.name for field in dataclasses.fields(coarse.blind()))


def test_what_is_excluded_lies_on_its_image_and_is_not_all_of_it() -> None:
    with pytest.raises(DatasetError, match="moving excluded and its image are on different grids"):
        pair_of(moving_excluded=boxed(slice(1), grid=Grid.from_spacing((14, 16, 17))))
    with pytest.raises(DatasetError, match="all of the fixed image is excluded from scores"):
        pair_of(fixed_excluded=boxed(slice(None)))


def test_lesions_add_to_what_is_excluded_already() -> None:
    pair = struck(3)
    shifted = shift("lesion_mm", on="both").apply(pair, seed=0)
    for side in ("fixed", "moving"):
        before, after = getattr(pair, f"{side}_excluded").array, getattr(shifted, f"{side}_excluded").array
        assert (after[before > 0] == 1).all() and after.sum() > before.sum()


# -- loaders ------------------------------------------------------------------------------------------------


def _scan(root: Path, place: str, hole: int | None = None) -> str:
    array = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
    if hole is not None:
        array = np.zeros_like(array)
        array[hole] = 1
    write_nifti(root / place, array)
    return place


def test_a_csv_has_columns_for_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _scan(tmp_path, f"{name}.nii.gz")
    _scan(tmp_path, "lesion.nii.gz", hole=2)
    table = tmp_path / "pairs.csv"
    table.write_text("fixed,moving,fixed_excluded,moving_excluded\na.nii.gz,b.nii.gz,,lesion.nii.gz\n")
    data = CsvPairs(str(table))
    (ref,) = data.pair_refs()
    pair, first = data.load(ref), data.fingerprint(ref)
    assert pair.fixed_excluded is None and pair.moving_excluded is not None
    np.testing.assert_array_equal(np.unique(np.nonzero(pair.moving_excluded.array)[0]), [2])
    coarse = CsvPairs(str(table), spacing_mm=2.0).load(ref)
    assert coarse.moving_excluded is not None and coarse.moving_excluded.grid.matches(coarse.moving.grid)
    _scan(tmp_path, "lesion.nii.gz", hole=3)
    assert CsvPairs(str(table)).fingerprint(ref) != first


def test_a_description_has_a_pattern_for_it(tmp_path: Path) -> None:
    for name in ("s1", "s2"):
        _scan(tmp_path, f"{name}/t1.nii.gz")
    _scan(tmp_path, "lesions/s2.nii.gz", hole=1)
    (tmp_path / "regbench.yaml").write_text('image: "{subject}/t1.nii.gz"\nexcluded: "lesions/{subject}.nii.gz"\n')
    data = Described(str(tmp_path / "regbench.yaml"))
    pair = data.load(data.pair_refs()[0])
    assert pair.fixed_excluded is None and pair.moving_excluded is not None and pair.moving_excluded.array.sum() == 42


def test_lesions_of_bids_are_excluded_and_no_brain_masks(tmp_path: Path) -> None:
    for number in ("01", "02"):
        _scan(tmp_path, f"sub-{number}/anat/sub-{number}_T1w.nii.gz")
        derived = f"derivatives/x/sub-{number}/anat/sub-{number}"
        _scan(tmp_path, f"{derived}_label-lesion_mask.nii.gz", hole=1)
        _scan(tmp_path, f"{derived}_space-orig_desc-brain_mask.nii.gz", hole=2)
    (tmp_path / "derivatives/x/sub-01/anat/sub-01_label-lesion_mask.nii.gz").rename(
        tmp_path / "sub-01/anat/sub-01_label-lesion_roi.nii.gz"
    )
    name, given, _ = dataset_at(str(tmp_path), {}, tmp_path)
    data: Any = build_dataset(name, given)
    pair = data.load(data.pair_refs()[0])
    for side in ("fixed", "moving"):
        for part, place in (("excluded", 1), ("mask", 2)):
            array = getattr(pair, f"{side}_{part}").array
            assert np.unique(np.nonzero(array)[0]).tolist() == [place], (side, part)
    assert json.dumps(data.manifest())
