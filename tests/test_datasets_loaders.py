"""Every loader on tiny files in its real layout: recognised, listed without opening an image, read as they are."""

from __future__ import annotations

import inspect
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts_on_disk import EXAMPLES, SHAPE, Example, labels, scan, write_nifti

from regbench.datasets import dirlab
from regbench.datasets.protocol import Dataset, SubjectSource
from regbench.datasets.recognition import dataset_at, recognised
from regbench.datasets.table import DATASETS, build_dataset, dataset_class
from regbench.errors import ConfigError, DatasetError

_TEXT = (".json", ".yaml", ".tsv", ".csv", ".py", ".pyc", ".txt")
_opened: list[str] | None = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | bytes):
        _opened.append(str(arguments[0]))


sys.addaudithook(_hear)


@contextmanager
def _opening_no_image() -> Iterator[None]:
    global _opened  # noqa: PLW0603
    _opened = []
    try:
        yield
        images = [path for path in _opened if not path.endswith(_TEXT)]
        assert images == []
    finally:
        _opened = None


@pytest.fixture(autouse=True)
def small_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cases of DIR-Lab at the size of the tests, with a spacing that tells them apart."""
    for cls in (dirlab.DirLab4dct, dirlab.DirLabCopd):
        monkeypatch.setattr(cls, "cases", tuple((SHAPE, 0.5 + n) for n in range(1, 11)))


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest) -> Example:
    return EXAMPLES[request.param]


@pytest.fixture
def dataset(example: Example, tmp_path: Path) -> Dataset:
    return _dataset(example, tmp_path / "data")


def _dataset(example: Example, root: Path, **parameters: Any) -> Any:
    example.write(root)
    name, found = recognised(root)
    assert name == example.name
    return build_dataset(name, {**found, **parameters})


# -- all loaders ---------------------------------------------------------------------------------------


def test_a_folder_is_recognised(example: Example, tmp_path: Path) -> None:
    example.write(tmp_path)
    for folder in (tmp_path, tmp_path / example.below):
        name, parameters = recognised(folder)
        assert name == example.name
        assert {key: value for key, value in parameters.items() if key != "path"} == dict(example.parameters)


def test_listing_opens_no_image(example: Example, tmp_path: Path) -> None:
    dataset = _dataset(example, tmp_path)
    with _opening_no_image():
        refs = dataset.pair_refs()
        dataset.manifest()
    assert len(refs) == example.n_pairs
    assert (refs[0].fixed, refs[0].moving) == example.first
    assert len({ref.id for ref in refs}) == len(refs)
    assert "/" not in "".join(ref.id for ref in refs)


def test_a_pair_holds_the_scans_that_its_name_says(dataset: Any, example: Example) -> None:
    ref = dataset.pair_refs()[0]
    pair = dataset.load(ref)
    for image, number in zip((pair.fixed, pair.moving), example.numbers, strict=True):
        expected = scan(number)
        if image.grid.ndim == 2:
            expected = expected[:, :, 3]
        np.testing.assert_array_equal(image.array, expected)
    assert (pair.fixed_id, pair.moving_id) == (ref.fixed, ref.moving)
    found = () if pair.fixed_labels is None else tuple(pair.fixed_labels.values)
    assert found == tuple(sorted(example.values))
    if pair.fixed_labels is not None:
        assert pair.fixed_labels.grid.matches(pair.fixed.grid)


def test_a_fingerprint_goes_by_content_and_not_by_place(example: Example, tmp_path: Path) -> None:
    dataset = _dataset(example, tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    moved = build_dataset(example.name, recognised(tmp_path / "there")[1])
    refs = dataset.pair_refs()
    before = dataset.fingerprint(refs[0])
    assert before == moved.fingerprint(moved.pair_refs()[0])
    assert len({dataset.fingerprint(ref) for ref in refs}) == len(refs)
    for path in (tmp_path / "there").rglob("*"):
        if path.is_file() and not path.name.endswith(_TEXT):
            path.write_bytes(path.read_bytes() + b" ")
    again = build_dataset(example.name, recognised(tmp_path / "there")[1])
    assert again.fingerprint(again.pair_refs()[0]) != before


def test_a_fingerprint_goes_by_what_is_made_of_labels(tmp_path: Path) -> None:
    plain = _dataset(EXAMPLES["neurite"], tmp_path)
    (ref, _) = plain.pair_refs()
    found = {
        build_dataset("neurite-oasis", {"path": str(tmp_path), "labels": choice}).fingerprint(ref)
        for choice in (None, "none", "common", "sides-merged", [8], [27])
    }
    assert len(found) == 6


def test_the_manifest_names_subjects_and_no_place(dataset: Any, example: Example, tmp_path: Path) -> None:
    manifest = json.dumps(dataset.manifest())
    assert set(example.first) <= set(dataset.manifest()["subjects"])
    assert str(tmp_path) not in manifest


def test_a_missing_folder_is_told(example: Example, tmp_path: Path) -> None:
    dataset = build_dataset(example.name, {"path": str(tmp_path / "nowhere")})
    with pytest.raises(DatasetError, match="nowhere: no such"):
        dataset.pair_refs()


def test_an_empty_folder_is_told(example: Example, tmp_path: Path) -> None:
    if example.name in ("learn2reg", "described"):
        pytest.skip("is a file")
    dataset = build_dataset(example.name, {"path": str(tmp_path)})
    with pytest.raises(DatasetError, match="looked for"):
        dataset.pair_refs()


def test_scans_can_be_trained_on(dataset: Any, example: Example) -> None:
    if example.name == "learn2reg" or not example.values:
        pytest.skip("no scans by name, or none with labels")
    assert isinstance(dataset, SubjectSource)
    image, label_map = dataset.scan(dataset.subjects()[0])
    assert label_map.grid.matches(image.grid)


@pytest.mark.parametrize("name", [n for n, card in DATASETS.items() if card.looks_for])
def test_a_loader_opens_with_what_a_user_must_know(name: str) -> None:
    words = inspect.getdoc(sys.modules[dataset_class(name).__module__]) or ""
    assert words.startswith("`")
    own_data = name in ("described", "folders", "bids")
    for part in ["Licence" if not own_data else "icence", "itation", "airs"] + ([] if own_data else ["How to obtain"]):
        assert part in words, f"{name} says no {part}"


def test_every_loader_of_a_folder_has_an_example() -> None:
    assert {name for name, card in DATASETS.items() if card.looks_for} == {e.name for e in EXAMPLES.values()}


def test_four_hundred_subjects_are_listed_at_once(tmp_path: Path) -> None:
    for n in range(1, 401):
        folder = tmp_path / f"OASIS_OAS1_{n:04d}_MR1"
        folder.mkdir()
        for name in ("aligned_norm", "aligned_seg35"):
            (folder / f"{name}.nii.gz").touch()
    with _opening_no_image():
        name, found = recognised(tmp_path)
        assert len(build_dataset(name, found).pair_refs()) == 399
        assert len(build_dataset(name, {**found, "pairs": "random:50"}).pair_refs()) == 50


def test_a_folder_of_nothing_known_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DatasetError) as caught:
        recognised(tmp_path)
    for card in DATASETS.values():
        assert card.looks_for in str(caught.value)


# -- what is special about some --------------------------------------------------------------------------


def test_oasis_has_the_parts_of_the_paper(tmp_path: Path) -> None:
    dataset = _dataset(EXAMPLES["neurite"], tmp_path)
    assert dataset.subjects("train") == ["0001", "0002"]
    assert dataset.subjects("validation") == ["0404"]


def test_seg4_is_merged_where_its_file_is_missing_and_read_where_it_is_not(tmp_path: Path) -> None:
    volume = _dataset(EXAMPLES["neurite"], tmp_path / "a", labels="seg4")
    pair = volume.load(volume.pair_refs()[0])
    assert pair.fixed_labels.names[2] == "subcortical grey matter"
    np.testing.assert_array_equal(pair.fixed_labels.values, [2])
    flat = _dataset(EXAMPLES["slices"], tmp_path / "b", labels="seg4")
    np.testing.assert_array_equal(flat.load(flat.pair_refs()[0]).fixed_labels.values, [2, 3])


@pytest.mark.parametrize("key", ["ibsr-old", "lpba40"])
def test_an_analyze_pair_is_read_with_its_fourth_axis_and_either_suffix(key: str, tmp_path: Path) -> None:
    dataset = _dataset(EXAMPLES[key], tmp_path)
    pair = dataset.load(dataset.pair_refs()[0])
    np.testing.assert_allclose(pair.fixed.grid.spacing_mm, [0.859375, 1.5, 0.859375])
    assert pair.fixed.grid.shape == SHAPE


def test_klein_sorts_by_number_and_asks_which_set(tmp_path: Path) -> None:
    dataset = _dataset(EXAMPLES["klein"], tmp_path, pairs="consecutive")
    assert [ref.id for ref in dataset.pair_refs()] == ["m1_m2", "m2_m10"]
    heads = build_dataset("klein2009", {"path": str(tmp_path), "image": "heads"})
    assert heads.load(heads.pair_refs()[0]).fixed.array[0, 0, 0] == 1001
    write_nifti(tmp_path / "MGH10/Brains/g1.nii.gz", scan(1))
    with pytest.raises(ConfigError, match="CUMC12, MGH10; name one"):
        build_dataset("klein2009", {"path": str(tmp_path)}).pair_refs()


def test_label_files_are_chosen_by_name(tmp_path: Path) -> None:
    ibsr = _dataset(EXAMPLES["ibsr"], tmp_path / "a", labels="tri")
    np.testing.assert_array_equal(ibsr.load(ibsr.pair_refs()[0]).fixed_labels.values, [1, 3])
    some = build_dataset("ibsr18", {"path": ibsr.path, "labels": "ibsr31"})
    np.testing.assert_array_equal(some.load(some.pair_refs()[0]).fixed_labels.values, [11])
    dkt = _dataset(EXAMPLES["mindboggle"], tmp_path / "b", labels="DKT31+aseg")
    label_map = dkt.load(dkt.pair_refs()[0]).fixed_labels
    assert label_map.names[11] == "left caudate"
    np.testing.assert_array_equal(label_map.values, [11, 1002])
    none = build_dataset("ibsr18", {"path": ibsr.path, "labels": "none"})
    assert none.load(none.pair_refs()[0]).fixed_labels is None
    with pytest.raises(ConfigError, match="unknown label set 'seg53'; known here: none, seg, tri, seg4, voi30, ibsr31"):
        build_dataset("ibsr18", {"path": ibsr.path, "labels": "seg53"}).load(ibsr.pair_refs()[0])


@pytest.mark.parametrize("key", ["dirlab-4dct", "dirlab-copd"])
def test_dirlab_is_read_without_a_header_and_its_landmarks_count_from_one(key: str, tmp_path: Path) -> None:
    dataset = _dataset(EXAMPLES[key], tmp_path)
    for ref in dataset.pair_refs():
        case = int(ref.fixed.removeprefix("case").removeprefix("copd"))
        pair = dataset.load(ref)
        np.testing.assert_allclose(pair.fixed.grid.spacing_mm, [0.5 + case, 0.5 + case, 2.5])
        first, last = pair.fixed.grid.to_voxel(pair.fixed_landmarks.points_mm)
        expected = ([0, 0, 0], [4, 5, 6]) if key == "dirlab-4dct" else ([0, 1, 2], [3, 4, 5])
        np.testing.assert_allclose([first, last], expected, atol=1e-9)
        assert len(pair.moving_landmarks) == 2
        assert pair.fixed.array[0, 0, 0] == 0


def test_dirlab_finds_other_phases_and_refuses_files_of_another_size(tmp_path: Path) -> None:
    dataset = _dataset(EXAMPLES["dirlab-4dct"], tmp_path, phases=["T50", "T00"])
    assert dataset.pair_refs()[2].id == "case8-T50_case8-T00"
    image = next(tmp_path.rglob("case1_T00_s.img"))
    image.write_bytes(image.read_bytes()[:-2])
    with pytest.raises(DatasetError, match=r"case1_T00_s.img: has 418 bytes; 5x6x7 voxels of int16 are 420"):
        dataset.load(dataset.pair_refs()[0])
    with pytest.raises(ConfigError, match="'T5' is not a phase"):
        build_dataset("dirlab-4dct", {"path": str(tmp_path), "phases": ["T00", "T5"]})


def test_the_real_sizes_of_dirlab_are_those_of_its_documentation() -> None:
    assert dirlab._CASES_4DCT[4] == ((256, 256, 106), 1.10)
    assert dirlab._CASES_COPD[0] == ((512, 512, 121), 0.625)
    assert len(dirlab._CASES_4DCT) == len(dirlab._CASES_COPD) == 10


def test_landmarks_of_brats_are_lps_and_go_by_their_numbers(tmp_path: Path) -> None:
    dataset = _dataset(EXAMPLES["brats-reg"], tmp_path)
    pair = dataset.load(dataset.pair_refs()[0])
    np.testing.assert_allclose(pair.fixed_landmarks.points_mm, [[4, 5, 6], [3, 4, 0]])
    np.testing.assert_allclose(pair.moving_landmarks.points_mm, [[4, 5, 6], [3, 4, 1]])
    assert dict(pair.tags)["moving_day"] == 262
    flair = build_dataset("brats-reg", {"path": str(tmp_path), "contrast": "flair"})
    assert flair.load(flair.pair_refs()[0]).fixed.array[0, 0, 0] == 6000


def test_parts_of_ixi_and_its_atlas(tmp_path: Path) -> None:
    dataset = _dataset(EXAMPLES["ixi"], tmp_path, split="train", pairs="consecutive")
    assert [ref.id for ref in dataset.pair_refs()] == ["0_10"]
    onto = build_dataset("transmorph-ixi", {"path": str(tmp_path), "pairs": "random:2", "split": "test"})
    assert {name for ref in onto.pair_refs() for name in (ref.fixed, ref.moving)} == {"1", "3"}
    assert dataset.subjects("validation") == ["2"]


def test_the_files_of_pairs_of_oasis_move_x_onto_y(tmp_path: Path) -> None:
    dataset = _dataset(EXAMPLES["oasis-pickles"], tmp_path)
    pair = dataset.load(dataset.pair_refs()[0])
    assert pair.name == "0438_0439"
    np.testing.assert_array_equal(pair.moving_labels.values, [5, 6])
    single = build_dataset("transmorph-oasis", {"path": str(tmp_path), "pairs": "consecutive"})
    assert [ref.id for ref in single.pair_refs()] == ["0001_0002"]


def test_a_contrast_of_a_decathlon_task_is_chosen_and_labels_have_names(tmp_path: Path) -> None:
    dataset = _dataset(EXAMPLES["decathlon"], tmp_path, channel=1)
    pair = dataset.load(dataset.pair_refs()[0])
    assert pair.fixed.array[0, 0, 0] == 11000
    assert pair.fixed_labels.names == {1: "edema", 2: "tumour"}
    with pytest.raises(DatasetError, match="has 2 contrasts, there is no number 2"):
        wrong = build_dataset("decathlon", {"path": str(tmp_path), "channel": 2})
        wrong.load(wrong.pair_refs()[0])


def test_bids_reads_other_contrasts_spaces_and_label_names(tmp_path: Path) -> None:
    dataset = _dataset(EXAMPLES["bids"], tmp_path)
    pair = dataset.load(dataset.pair_refs()[0])
    assert pair.fixed_labels.names == {1: "left", 2: "right"}
    assert pair.fixed_mask is not None
    t2 = build_dataset("bids", {"path": str(tmp_path), "suffix": "T2w"})
    assert t2.load(t2.pair_refs()[0]).fixed.array[0, 0, 0] == 1001
    mni = build_dataset("bids", {"path": str(tmp_path), "space": "MNI"})
    pair = mni.load(mni.pair_refs()[0])
    assert pair.fixed.array[0, 0, 0] == 1002
    np.testing.assert_array_equal(pair.fixed_labels.values, [1])
    with pytest.raises(DatasetError, match="has no derivative 'x'; there are: fs"):
        build_dataset("bids", {"path": str(tmp_path), "derivative": "x"}).pair_refs()


def test_sessions_of_bids_are_scans_of_one_subject(tmp_path: Path) -> None:
    for session in ("pre", "post"):
        write_nifti(tmp_path / f"sub-1/ses-{session}/anat/sub-1_ses-{session}_T1w.nii.gz", scan(1))
    dataset = build_dataset("bids", {"path": str(tmp_path)})
    (ref,) = dataset.pair_refs()
    assert (ref.fixed, ref.moving, ref.id) == ("1", "1", "1-post_1-pre")
    assert ref.tags["fixed_session"] == "post"


def test_an_atlas_among_parts_is_fixed(tmp_path: Path) -> None:
    dataset = _dataset(EXAMPLES["parts"], tmp_path, split="test", pairs="atlas")
    assert [ref.id for ref in dataset.pair_refs()] == ["fixed_S3", "fixed_S10"]
    assert dataset.load(dataset.pair_refs()[0]).moving_labels is not None
    chosen = build_dataset("folders", {"path": str(tmp_path), "pairs": "atlas:S2", "split": "train"})
    assert [ref.id for ref in chosen.pair_refs()] == ["S2_S1"]


def test_labels_that_could_belong_to_several_images_are_an_error(tmp_path: Path) -> None:
    write_nifti(tmp_path / "images/a.nii.gz", scan(1))
    write_nifti(tmp_path / "images/b.nii.gz", scan(2))
    for name in ("a_one", "a_two"):
        write_nifti(tmp_path / f"labels/{name}.nii.gz", labels())
    with pytest.raises(DatasetError, match="could all belong to it"):
        build_dataset("folders", {"path": str(tmp_path)}).pair_refs()


def test_a_description_brings_parameters_and_a_config_goes_before_it(tmp_path: Path) -> None:
    dataset = _dataset(EXAMPLES["described"], tmp_path)
    pair = dataset.load(dataset.pair_refs()[0])
    assert (pair.name, pair.fixed_labels.names) == ("1-site1-a_1-site1-b", {1: "left", 2: "right"})
    assert dict(pair.tags) == {"site": "site1", "fixed_visit": "a", "moving_visit": "b"}
    given = build_dataset("described", {"path": dataset.path, "pairs": "consecutive", "held_out": 1, "split": "test"})
    assert [ref.fixed for ref in given.pair_refs()] == ["10"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image: 'x/{name}.nii'", "the group {subject} is missing"),
        ("image: '{subject}.nii'\nlabel: x", "unknown key 'label'; did you mean 'labels'"),
        ("labels: x", "it needs the key image"),
        ("image: '{subject}.nii.gz'\nlabels: 'seg/{who}.nii'", "the group {who} does not occur"),
        ("image: '{subject}.nii.gz'\nlabels: 'seg/*'", "both match; write a narrower pattern"),
        ("image: '{subject}.nii.gz'\nlabel_table: x", "unknown table of labels 'x'"),
        ("image: '{subject}.nii.gz'\nheld_out: x", "held_out: 'x' is not valid"),
        ("image: [", "cannot be read as YAML"),
    ],
)
def test_a_wrong_description_is_told(text: str, told: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_nifti(tmp_path / f"{name}.nii.gz", scan(1))
        write_nifti(tmp_path / f"seg/{name}.nii.gz", labels())
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises((DatasetError, ConfigError)) as caught:
        build_dataset("described", {"path": str(tmp_path / "d.yaml")}).pair_refs()
    assert told in str(caught.value)


# -- in a config -----------------------------------------------------------------------------------------


def test_a_folder_stands_for_its_dataset(tmp_path: Path) -> None:
    EXAMPLES["lpba40"].write(tmp_path / "my data")
    name, parameters, label = dataset_at("my data", {"labels": "common"}, tmp_path)
    assert (name, label, parameters["labels"]) == ("lpba40", "my data", "common")
    assert Path(parameters["path"]) == tmp_path / "my data/LPBA40/delineation_space"
    named, inner, label = dataset_at("lpba40", {"path": "my data"}, tmp_path)
    assert (named, inner["path"], label) == ("lpba40", parameters["path"], None)


def test_files_stand_for_their_datasets(tmp_path: Path) -> None:
    assert dataset_at("x/pairs.csv", {}, tmp_path) == ("csv", {"path": str(tmp_path / "x/pairs.csv")}, "pairs")
    assert dataset_at("O_dataset.json", {}, tmp_path)[2] == "O"
    assert dataset_at("d.yaml", {"labels": "g.json"}, tmp_path)[1]["labels"] == str(tmp_path / "g.json")
    assert dataset_at("mni-cohort", {"ndim": 2}, tmp_path) == ("mni-cohort", {"ndim": 2}, None)
    assert dataset_at("oasis", {}, tmp_path) == ("oasis", {}, None)
    with pytest.raises(DatasetError, match="there is no such file or folder"):
        dataset_at("data/OASIS", {}, tmp_path)


def test_a_config_takes_a_folder(tmp_path: Path) -> None:
    from regbench.config import check_config, load_config

    EXAMPLES["folders"].write(tmp_path / "study")
    config = tmp_path / "c.yaml"
    config.write_text("datasets: [study, {study: {pairs: all-ordered, as: all}}]\nmethods: [identity]\n")
    entries = load_config(config).datasets
    assert [(entry.name, entry.label) for entry in entries] == [("folders", "study"), ("folders", "all")]
    (tmp_path / "void").mkdir()
    config.write_text("datasets: [void]\nmethods: [identity]\n")
    (problem,) = check_config(config)[1]
    assert "void: holds no layout that is known" in problem
