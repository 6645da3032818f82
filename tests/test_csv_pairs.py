"""A user's own pairs from a CSV: columns, paths, subjects, content hashes, voxel sizes, and bad files."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from regbench.datasets.csv_pairs import CsvPairs
from regbench.datasets.respacing import respaced_grid, respaced_pair
from regbench.datasets.table import DATASETS, build_dataset, dataset_class
from regbench.displacement import Displacement
from regbench.errors import ConfigError, DatasetError
from regbench.files.images import write_image, write_labels
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels
from regbench.warp import warp

GRID = Grid.from_spacing((8, 9, 10), (1.0, 1.5, 2.0))


def _image(path: Path, seed: int = 0, grid: Grid = GRID) -> str:
    write_image(path, Image(np.random.default_rng(seed).uniform(0, 1, grid.shape), grid))
    return str(path)


def _labels(path: Path, value: int = 1, grid: Grid = GRID) -> str:
    array = np.zeros(grid.shape, np.uint8)
    array[2:5, 2:5] = value
    write_labels(path, Labels(array, grid))
    return str(path)


def _csv(folder: Path, *lines: str) -> CsvPairs:
    path = folder / "pairs.csv"
    path.write_text("\n".join(lines) + "\n")
    return CsvPairs(str(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        _image(tmp_path / f"{name}.nii.gz", seed)
        _labels(tmp_path / f"{name}_seg.nii.gz")
        (tmp_path / f"{name}.csv").write_text("1,2,3\n4,5,6\n")
    return tmp_path


# -- pairs ----------------------------------------------------------------------------------------------


def test_a_pair_with_everything_a_row_can_name(folder: Path) -> None:
    data = _csv(
        folder,
        "fixed, moving ,fixed_labels,moving_labels,fixed_landmarks,moving_landmarks,fixed_mask,moving_mask,id",
        "a.nii.gz,b.nii.gz,a_seg.nii.gz,b_seg.nii.gz,a.csv,b.csv,a_seg.nii.gz,b_seg.nii.gz,first",
        "a.nii.gz,c.nii.gz,,,,,,,",
    )
    refs = data.pair_refs()
    assert [(ref.id, ref.fixed, ref.moving) for ref in refs] == [("first", "a", "b"), ("a_c", "a", "c")]
    pair = data.load(refs[0])
    assert (pair.name, pair.fixed_id, pair.moving_id) == ("first", "a", "b")
    assert pair.fixed_labels is not None
    assert pair.moving_mask is not None
    assert pair.fixed_landmarks is not None
    assert np.allclose(pair.fixed_landmarks.points_mm, GRID.to_world(np.array([[1, 2, 3], [4, 5, 6]])))
    bare = data.load(refs[1])
    assert bare.fixed_labels is bare.moving_landmarks is bare.fixed_mask is None
    assert not (bare.fixed.array == bare.moving.array).all()


def test_paths_are_relative_to_the_csv_and_variables_to_the_working_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANS", str(folder))
    monkeypatch.setenv("NEAR", folder.name)
    monkeypatch.chdir(folder.parent)
    (folder / "sub").mkdir()
    data = _csv(folder / "sub", "fixed,moving", "../a.nii.gz,$SCANS/b.nii.gz", "${SCANS}/a.nii.gz,$NEAR/c.nii.gz")
    assert len([data.load(ref) for ref in data.pair_refs()]) == 2
    # The way a file is named does not make it another subject.
    assert [ref.fixed for ref in data.pair_refs()] == ["a", "a"]
    monkeypatch.delenv("SCANS")
    with pytest.raises(DatasetError, match=r"line 2: environment variable \$SCANS is not set"):
        CsvPairs(data.path).pair_refs()


def test_limit_keeps_the_first_pairs_and_the_ids(folder: Path) -> None:
    lines = ("fixed,moving", "a.nii.gz,b.nii.gz", "b.nii.gz,c.nii.gz")
    everything = _csv(folder, *lines).pair_refs()
    assert CsvPairs(str(folder / "pairs.csv"), limit=1).pair_refs() == everything[:1]


def test_spreadsheets_write_a_byte_order_mark_and_blank_lines(folder: Path) -> None:
    (folder / "pairs.csv").write_text("\ufefffixed,moving\r\na.nii.gz,b.nii.gz\r\n,\r\n\r\n", encoding="utf-8")
    assert len(CsvPairs(str(folder / "pairs.csv")).pair_refs()) == 1


# -- subjects -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (["x/a.nii.gz", "y/b.hdr"], ["a", "b"]),
        (["S01/brain.nii.gz", "S02/brain.nii.gz"], ["S01", "S02"]),
        (["p/S01/brain.nii.gz", "q/S01/brain.nii.gz"], ["p-S01", "q-S01"]),
        (["S01/t1.mha", "S02/t1.mha", "S02/t2.mha"], ["S01-t1", "S02-t1", "t2"]),
        (["a.nii.gz", "a.mha"], ["a.nii.gz", "a.mha"]),
    ],
)
def test_subjects_are_named_after_files_and_folders(tmp_path: Path, images: list[str], expected: list[str]) -> None:
    data = _csv(tmp_path, "fixed,moving", *[f"{images[0]},{image}" for image in images[1:]])
    refs = data.pair_refs()
    names = [refs[0].fixed, *[ref.moving for ref in refs]]
    assert len(set(names)) == len(images)
    assert names == expected


def test_one_file_is_one_subject_in_every_row_and_column(folder: Path) -> None:
    (folder / "link.nii.gz").symlink_to(folder / "b.nii.gz")
    data = _csv(
        folder, "fixed,moving,fixed_id", "a.nii.gz,b.nii.gz,patient-7", "./link.nii.gz,a.nii.gz,", "c.nii.gz,b.nii.gz,"
    )
    ids = [(ref.fixed, ref.moving) for ref in data.pair_refs()]
    assert ids == [("patient-7", "b"), ("b", "patient-7"), ("c", "b")]
    bad = _csv(folder, "fixed,moving,fixed_id,moving_id", "a.nii.gz,b.nii.gz,p,q", "b.nii.gz,a.nii.gz,r,p")
    with pytest.raises(DatasetError, match=r"line 3: b\.nii\.gz is the subject 'r' here and 'q'"):
        bad.pair_refs()


# -- content hashes -------------------------------------------------------------------------------------


def test_the_fingerprint_follows_contents_and_not_places(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = ("fixed,moving,fixed_labels", "a.nii.gz,b.nii.gz,a_seg.nii.gz", "b.nii.gz,a.nii.gz,a_seg.nii.gz")
    data = _csv(folder, *lines)
    first, second = (data.fingerprint(ref) for ref in data.pair_refs())
    assert first != second
    elsewhere = tmp_path_factory.mktemp("copy")
    for name in ("a.nii.gz", "b.nii.gz", "a_seg.nii.gz"):
        (elsewhere / name).write_bytes((folder / name).read_bytes())
    copy = _csv(elsewhere, *lines)
    assert copy.fingerprint(copy.pair_refs()[0]) == first
    coarse = CsvPairs(data.path, spacing_mm=2.0)
    assert coarse.fingerprint(data.pair_refs()[0]) != first
    # A file that changes is hashed again, within the same process.
    _labels(folder / "a_seg.nii.gz", value=2)
    assert data.fingerprint(data.pair_refs()[0]) != first


def test_the_fingerprint_covers_the_data_file_of_an_analyze_pair(tmp_path: Path) -> None:
    array = np.ones((4, 5, 6), np.int16)
    for name in ("a", "b"):
        nib.save(nib.AnalyzeImage(array, np.eye(4)), tmp_path / f"{name}.img")
        packed = gzip.compress((tmp_path / f"{name}.img").read_bytes())
        (tmp_path / f"{name}.img").unlink()
        (tmp_path / f"{name}.img.gz").write_bytes(packed)
    data = _csv(tmp_path, "fixed,moving", "a.hdr,b.hdr")
    ref = data.pair_refs()[0]
    before = data.fingerprint(ref)
    assert data.load(ref).fixed.array.sum() == 120
    (tmp_path / "b.img.gz").write_bytes(gzip.compress((2 * array).tobytes()))
    assert data.fingerprint(ref) != before


def test_the_manifest_is_plain_and_names_no_place(folder: Path) -> None:
    import json

    data = _csv(folder, "fixed,moving", "a.nii.gz,b.nii.gz")
    text = json.dumps(data.manifest())
    assert str(folder) not in text
    assert data.manifest()["subjects"] == ["a", "b"]


# -- what fails alone -----------------------------------------------------------------------------------


def test_a_missing_file_fails_its_own_pair_only(folder: Path) -> None:
    data = _csv(folder, "fixed,moving", "a.nii.gz,gone.nii.gz", "a.nii.gz,b.nii.gz")
    bad, good = data.pair_refs()
    for use in (data.load, data.fingerprint):
        with pytest.raises(DatasetError, match=r"gone\.nii\.gz: no such file"):
            use(bad)
        use(good)


def test_labels_on_another_grid_than_their_image_are_refused_even_if_resampled(folder: Path) -> None:
    _labels(folder / "other.nii.gz", grid=Grid.from_spacing((8, 9, 10), 1.0))
    _csv(folder, "fixed,moving,fixed_labels", "a.nii.gz,b.nii.gz,other.nii.gz")
    for spacing in (None, 2.0):
        data = CsvPairs(str(folder / "pairs.csv"), spacing_mm=spacing)
        with pytest.raises(DatasetError, match="pair a_b: fixed labels and its image are on different grids"):
            data.load(data.pair_refs()[0])


def test_landmarks_must_correspond(folder: Path) -> None:
    (folder / "b.csv").write_text("1,2,3\n")
    data = _csv(folder, "fixed,moving,fixed_landmarks,moving_landmarks", "a.nii.gz,b.nii.gz,a.csv,b.csv")
    with pytest.raises(DatasetError, match="pair a_b: 2 fixed and 1 moving landmarks"):
        data.load(data.pair_refs()[0])


# -- what no pair survives ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("fixed,moving\n", "has column names and no pair"),
        ("fixed,movign\na,b\n", "unknown column 'movign'; did you mean 'moving'"),
        ("fixed,fixed_labels\na,b\n", "column 'moving' is missing"),
        ("fixed,moving,fixed\na,b,c\n", "column 'fixed' occurs twice"),
        ("fixed;moving\na;b\n", "not separated by commas"),
        ("fixed,moving\na,b,c\n", "line 2: 3 values for 2 columns"),
        ("fixed,moving\na,b\na\n", "line 3: no path of the moving image"),
        ("fixed,moving\na,b\na,b\n", "lines 2 and 3 are both the pair 'a_b'"),
        ("fixed,moving,id\na,b,../x\n", "holds a slash"),
    ],
)
def test_bad_csv_files_give_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=words.replace(".", r"\.")) as caught:
        CsvPairs(str(path)).pair_refs()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_csv(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        CsvPairs(str(tmp_path / "no.csv")).pair_refs()
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DatasetError, match="cannot be read as CSV"):
        CsvPairs(str(tmp_path / "x.csv")).pair_refs()


# -- voxel size -----------------------------------------------------------------------------------------


def test_coarser_grids_keep_the_first_voxel_and_stay_inside() -> None:
    oblique = np.eye(4)
    oblique[:3, :3] = np.array([[0, 0, 2.0], [-1, 0, 0], [0, 1.5, 0]])
    grid = Grid((9, 10, 11), oblique)
    coarse = respaced_grid(grid, 3.0)
    assert np.allclose(coarse.spacing_mm, 3)
    assert coarse.shape == (3, 5, 7)
    assert np.allclose(coarse.origin_mm, grid.origin_mm)
    assert coarse.orientation == grid.orientation


def test_labels_are_subsampled_and_images_smoothed() -> None:
    rng = np.random.default_rng(0)
    grid = Grid.from_spacing((20, 22, 24), 1.0)
    noise = Image(rng.standard_normal(grid.shape), grid)
    ramp = Image(grid.world_points() @ np.array([1.0, 2, 3]), grid)
    labels = Labels(rng.integers(0, 5, grid.shape), grid)
    field = Displacement(np.broadcast_to([1.0, 2, 3], (*grid.shape, 3)), grid)
    found = respaced_pair(Pair("p", noise, ramp, fixed_labels=labels, moving_mask=labels, truth=field), 2.0)
    assert found.fixed.grid.shape == (10, 11, 12)
    assert found.fixed_labels is not None
    assert (found.fixed_labels.array == labels.array[::2, ::2, ::2]).all()
    assert found.moving_labels is None
    assert found.truth is not None
    assert np.allclose(found.truth.vectors_mm, [1, 2, 3])
    assert found.fixed.array.std() < 0.7 * noise.array.std()
    # Smoothing keeps a ramp where it is, away from the border.
    expected = ramp.array[::2, ::2, ::2]
    assert np.allclose(found.moving.array[2:-2, 2:-2, 2:-2], expected[2:-2, 2:-2, 2:-2], atol=1e-3)
    same = respaced_pair(Pair("p", noise, ramp), 1.0)
    assert (same.fixed.array == noise.array).all()


@pytest.mark.parametrize(
    "given", [{"limit": 0}, {"spacing_mm": 0.0}, {"spacing_mm": -1.0}, {"limt": 3}, {"limit": "x"}]
)
def test_bad_parameters_are_config_errors(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"datasets\.csv"):
        build_dataset("csv", {"path": "pairs.csv", **given})


# -- the table of datasets ------------------------------------------------------------------------------


def test_every_row_of_the_table_is_complete_and_importable() -> None:
    for name, card in DATASETS.items():
        cls = dataset_class(name)
        assert card.name == name
        assert all((card.summary, card.licence, card.citation, card.dimensions))
        assert {"pair_refs", "load", "fingerprint", "manifest"} <= set(dir(cls))


def test_an_unknown_dataset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown dataset 'mni-cohrt'; did you mean 'mni-cohort'"):
        dataset_class("mni-cohrt")


# -- real scans -----------------------------------------------------------------------------------------


@pytest.mark.real
def test_the_committed_lists_of_real_pairs_load_with_the_known_overlap() -> None:
    if not os.environ.get("REGBENCH_DATA"):
        pytest.skip("$REGBENCH_DATA is not set")
    configs = Path(__file__).parent.parent / "configs" / "real-pairs"

    def mean_dice(pair: Pair) -> float:
        assert pair.fixed_labels is not None
        assert pair.moving_labels is not None
        fixed, moved = pair.fixed_labels.array, warp(pair.moving_labels, Displacement.identity(pair.fixed.grid)).array
        values = np.intersect1d(fixed, moved)[1:]
        return float(
            np.mean(
                [2 * ((fixed == v) & (moved == v)).sum() / ((fixed == v).sum() + (moved == v).sum()) for v in values]
            )
        )

    oasis = CsvPairs(str(configs / "oasis.csv"), spacing_mm=2.0)
    (ref,) = oasis.pair_refs()
    pair = oasis.load(ref)
    assert (ref.fixed, ref.moving) == ("OASIS-0001", "OASIS-0002")
    assert pair.fixed.grid.shape == (80, 96, 112)
    assert mean_dice(pair) == pytest.approx(0.459, abs=0.005)
    crops = CsvPairs(str(configs / "hippocampus.csv"))
    assert len(crops.pair_refs()) == 10
    shapes = {crops.load(ref).fixed.grid.shape for ref in crops.pair_refs()}
    assert len(shapes) > 4
