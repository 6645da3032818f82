"""Learn2Reg tasks: both dialects of their JSON, files beside the images, points in mm, subjects, hashes, bad files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from support_tasks import GRID, pair, unpaired_task, write_json, write_points, write_scan

from regbench.analysis.groups import pair_of
from regbench.config import RunConfig
from regbench.datasets.learn2reg import Learn2RegTask
from regbench.datasets.protocol import PairRef
from regbench.datasets.table import build_dataset
from regbench.errors import ConfigError, DatasetError
from regbench.pair import Pair
from regbench.volume import Grid

BOTH = ("Toy_0001_0000", "Toy_0001_0001")


@pytest.fixture
def paired(tmp_path: Path) -> Path:
    """A task of two images of one case, with nothing beside them."""
    for name in BOTH:
        write_scan(tmp_path, name, sides=())
    return write_json(tmp_path, registration_val=[pair(*BOTH)])


def _only(path: Path, **parameters: object) -> tuple[PairRef, Pair]:
    data = build_dataset("learn2reg", {"path": str(path), **parameters})
    (ref,) = data.pair_refs()
    return ref, data.load(ref)


# -- pairs and subjects ---------------------------------------------------------------------------------


def test_pairs_of_cases_know_which_of_them_share_a_subject(tmp_path: Path) -> None:
    refs = Learn2RegTask(str(unpaired_task(tmp_path))).pair_refs()
    assert [ref.id for ref in refs] == ["0001_0000-0002_0000", "0002_0000-0003_0000"]
    assert [(ref.fixed, ref.moving) for ref in refs] == [("0001", "0002"), ("0002", "0003")]


def test_the_two_images_of_a_case_are_one_subject(paired: Path) -> None:
    ref, loaded = _only(paired)
    assert (ref.id, ref.fixed, ref.moving) == ("0001_0000-0001_0001", "0001", "0001")
    assert (loaded.fixed_id, loaded.moving_id) == ("0001", "0001")
    assert dict(ref.tags) == {"split": "val", "fixed_modality": "0000", "moving_modality": "0001"}
    assert pair_of({"pair": {"id": ref.id, "fixed": ref.fixed, "moving": ref.moving}})[1] == ("0001", "0001")


def test_listing_opens_no_image(tmp_path: Path) -> None:
    path = unpaired_task(tmp_path)
    shutil.rmtree(tmp_path / "imagesTr")
    data = Learn2RegTask(str(path))
    assert len(data.pair_refs()) == 2
    assert data.manifest()["subjects"] == ["0001", "0002", "0003"]
    with pytest.raises(DatasetError, match=r"Toy_0001_0000.nii.gz: no such file"):
        data.load(data.pair_refs()[0])
    with pytest.raises(DatasetError, match=r"Toy_0001_0000.nii.gz: no such file"):
        data.fingerprint(data.pair_refs()[0])


def test_the_dialect_of_lumir(tmp_path: Path) -> None:
    names = ("LUMIRMRI_3454_0000", "LUMIRMRI_3455_0000")
    for name in names:
        write_scan(tmp_path, name, "imagesVal")
    path = write_json(tmp_path, license="x", training=[{"image": "./imagesTr/LUMIRMRI_0001_0000.nii.gz"}])
    content = json.loads(path.read_text()) | {"validation": [pair(*names, folder="imagesVal")]}
    path.write_text(json.dumps(content))
    for split in (None, "val", "validation"):
        ref, loaded = _only(path, split=split)
        assert (ref.id, ref.tags["split"]) == ("3454_0000-3455_0000", "val")
        assert loaded.fixed_labels is not None
        assert loaded.moving_mask is not None


def test_splits_and_which_one_is_taken_without_asking(tmp_path: Path) -> None:
    names = [f"Toy_{n:04d}_0000" for n in range(1, 7)]
    keys = ("training_paired_images", "registration_test", "registration_val")
    listed = {key: [pair(names[2 * i], names[2 * i + 1])] for i, key in enumerate(keys)}
    found = {split: _ids(write_json(tmp_path, **listed), split) for split in (None, "val", "test", "train")}
    assert found == {
        None: ["0005_0000-0006_0000"],
        "val": ["0005_0000-0006_0000"],
        "test": ["0003_0000-0004_0000"],
        "train": ["0001_0000-0002_0000"],
    }
    del listed["registration_val"]
    assert _ids(write_json(tmp_path, registration_val=[], **listed), None) == ["0003_0000-0004_0000"]
    with pytest.raises(DatasetError, match=r"no pairs for the split 'val' \(key registration_val or validation\)"):
        _ids(write_json(tmp_path, **listed), "val")


def _ids(path: Path, split: str | None, **parameters: object) -> list[str]:
    data = build_dataset("learn2reg", {"path": str(path), "split": split, **parameters})
    return [ref.id for ref in data.pair_refs()]


def test_other_pairs_than_the_official_ones(tmp_path: Path) -> None:
    path = unpaired_task(tmp_path, 4)
    assert len(_ids(path, None, pairs="all-ordered")) == 12
    assert len(_ids(path, None, pairs="disjoint:2", seed=1)) == 2
    assert _ids(path, None, pairs="all-ordered", limit=1) == ["0001_0000-0002_0000"]
    training = [{"image": f"./imagesTr/Toy_{n:04d}_0000.nii.gz"} for n in range(3, 8)]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"training": training}))
    # Of the training images 3 and 4 belong to validation pairs as well, and are left out.
    assert _ids(path, "train", pairs="consecutive") == ["0005_0000-0006_0000", "0006_0000-0007_0000"]


def test_pairs_of_one_case_are_fixed(paired: Path) -> None:
    with pytest.raises(ConfigError, match="needs one image per case"):
        _ids(paired, None, pairs="consecutive")
    with pytest.raises(ConfigError, match="limit: is 0"):
        _ids(paired, None, limit=0)


def test_names_without_numbers_are_their_own_subjects(tmp_path: Path) -> None:
    for name in ("anna", "ben"):
        write_scan(tmp_path, name)
    ref, loaded = _only(write_json(tmp_path, registration_val=[pair("anna", "ben")]))
    assert (ref.id, ref.fixed, ref.moving) == ("anna-ben", "anna", "ben")
    assert loaded.fixed_labels is not None


# -- what lies beside the images --------------------------------------------------------------------------


def test_labels_and_masks_are_found_beside_the_images(tmp_path: Path) -> None:
    path = unpaired_task(tmp_path, 2)
    _, loaded = _only(path)
    for side in ("fixed", "moving"):
        image, labels, mask = (getattr(loaded, side + part) for part in ("", "_labels", "_mask"))
        assert (labels.array == (image.array > 0.95)).all()
        assert labels.array.any()
        assert (mask.array == 1).all()
        assert not (labels.array == 1).all()
    (tmp_path / "labelsTr" / "Toy_0002_0000.nii.gz").unlink()
    _, loaded = _only(path)
    assert loaded.fixed_labels is not None
    assert loaded.moving_labels is None


def test_landmarks_are_scored_and_keypoints_shown(paired: Path) -> None:
    voxels = {BOTH[0]: [[1.5, 2, 3], [4, 5, 6]], BOTH[1]: [[1, 2, 3.5], [4, 5, 5]]}
    for name, points in voxels.items():
        write_points(paired.parent, name, points)
        write_points(paired.parent, name, np.array(points) + 0.5, "keypointsTr")
    _, loaded = _only(paired)
    # Axis 0 runs along y in steps of 1.5 mm, axis 1 along x in steps of 2 mm, axis 2 along z in steps of 3 mm.
    expected = [[2 * j - 5, 1.5 * i + 3, 3 * k + 10] for i, j, k in voxels[BOTH[0]]]
    assert loaded.fixed_landmarks is not None
    assert np.allclose(loaded.fixed_landmarks.points_mm, expected)
    assert loaded.fixed_keypoints is not None
    assert np.allclose(loaded.fixed_keypoints.points_mm, GRID.to_world(np.array(voxels[BOTH[0]]) + 0.5))
    assert loaded.tags["points"] == "landmarks"
    assert loaded.blind().fixed_keypoints is not None


def test_points_are_read_on_the_grid_of_their_own_image(paired: Path) -> None:
    coarse = Grid.from_spacing((6, 6, 6), 4.0)
    write_scan(paired.parent, BOTH[1], sides=("labels",), grid=coarse)
    for name in BOTH:
        write_points(paired.parent, name, [[1, 2, 3]])
    _, loaded = _only(paired)
    assert loaded.fixed_landmarks is not None
    assert loaded.moving_landmarks is not None
    assert np.allclose(loaded.fixed_landmarks.points_mm, [[-1, 4.5, 19]])
    assert np.allclose(loaded.moving_landmarks.points_mm, [[4, 8, 12]])


def test_keypoints_are_scored_where_there_are_no_landmarks_and_then_hidden(paired: Path) -> None:
    for name in BOTH:
        write_points(paired.parent, name, [[1, 2, 3]], "keypointsTr")
    _, loaded = _only(paired)
    assert loaded.tags["points"] == "keypoints"
    assert loaded.moving_landmarks is not None
    assert np.allclose(loaded.moving_landmarks.points_mm, GRID.to_world(np.array([[1, 2, 3]])))
    assert loaded.blind().fixed_keypoints is loaded.blind().moving_keypoints is None


def test_no_points_at_all(paired: Path) -> None:
    write_points(paired.parent, BOTH[0], [[1, 2, 3]])
    _, loaded = _only(paired)
    assert loaded.fixed_landmarks is loaded.moving_landmarks is loaded.fixed_keypoints is None
    assert "points" not in loaded.tags


@pytest.mark.parametrize("folder", ["keypoints00000001Tr", "keypoints01Tr"])
def test_points_of_the_very_modalities_come_first(paired: Path, folder: str) -> None:
    for name in BOTH:
        write_points(paired.parent, name, [[1, 1, 1]], "keypointsTr")
        write_points(paired.parent, name, [[2, 3, 4]], folder)
    _, loaded = _only(paired)
    assert loaded.fixed_landmarks is not None
    assert np.allclose(loaded.fixed_landmarks.points_mm, GRID.to_world(np.array([[2, 3, 4]])))
    # Rows correspond within one folder only, so both sides come from the same.
    (paired.parent / folder / f"{BOTH[1]}.csv").unlink()
    _, loaded = _only(paired)
    assert loaded.fixed_landmarks is not None
    assert np.allclose(loaded.fixed_landmarks.points_mm, GRID.to_world(np.array([[1, 1, 1]])))


# -- identity of the data -------------------------------------------------------------------------------


def test_the_fingerprint_is_that_of_the_contents(tmp_path: Path) -> None:
    path = unpaired_task(tmp_path / "one", 2)
    data = Learn2RegTask(str(path))
    ref = data.pair_refs()[0]
    first = data.fingerprint(ref)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    elsewhere = Learn2RegTask(str(tmp_path / "two" / "Toy_dataset.json"))
    assert elsewhere.fingerprint(ref) == first
    for name in ("Toy_0001_0000", "Toy_0002_0000"):
        write_points(tmp_path / "two", name, [[1, 2, 3]])
    with_points = Learn2RegTask(str(tmp_path / "two" / "Toy_dataset.json")).fingerprint(ref)
    assert with_points != first
    (tmp_path / "two" / "landmarksTr").rename(tmp_path / "two" / "keypointsTr")
    assert Learn2RegTask(str(tmp_path / "two" / "Toy_dataset.json")).fingerprint(ref) not in (first, with_points)


def test_a_json_in_a_config_is_a_learn2reg_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpaired_task(tmp_path / "task")
    monkeypatch.setenv("TASKS", str(tmp_path))
    config = RunConfig.model_validate(
        {
            "datasets": [
                "task/Toy_dataset.json",
                "my_dataset.csv",
                {"$TASKS/task/Toy_dataset.json": {"limit": 1, "as": "first"}},
            ],
            "methods": ["identity"],
        },
        context={"folder": tmp_path},
    )
    whole, csv, first = config.datasets
    assert (csv.name, csv.label) == ("csv", "my_dataset")
    assert (whole.name, whole.label) == ("learn2reg", "Toy")
    assert whole.parameters == {"path": str(tmp_path / "task" / "Toy_dataset.json")}
    assert (first.label, len(build_dataset(first.name, first.parameters).pair_refs())) == ("first", 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file; give the TASK_dataset.json"),
        ("{", "is not valid JSON"),
        ("[]", "is no Learn2Reg task"),
        ('{"name": "x", "training": []}', "lists no pairs; looked for the keys registration_val, validation"),
        ('{"validation": ["a.nii.gz"]}', "lists no pairs"),
        ('{"task_name": "x", "eval_pairs": []}', "is an evaluation config; give the TASK_dataset.json"),
        (json.dumps({"registration_val": [pair("x_0001_0000", "x_0002_0000")] * 2}), "lists the pair .* twice"),
    ],
)
def test_files_that_are_no_task(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "Toy_dataset.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DatasetError, match=f"Toy_dataset.json: .*{words}"):
        Learn2RegTask(str(path)).pair_refs()


def test_an_unknown_pair_and_an_unset_variable(tmp_path: Path) -> None:
    data = Learn2RegTask(str(unpaired_task(tmp_path)))
    with pytest.raises(DatasetError, match="has no pair 'x' in the split 'val'"):
        data.load(PairRef("x", "a", "b"))
    with pytest.raises(DatasetError, match=r"\$NO_SUCH_VARIABLE is not set"):
        Learn2RegTask("$NO_SUCH_VARIABLE/Toy_dataset.json").pair_refs()


@pytest.mark.real
def test_the_toy_task_with_its_official_numbers() -> None:
    folder = os.environ.get("REGBENCH_DATA")
    if not folder:
        pytest.skip("$REGBENCH_DATA is not set")
    data = Learn2RegTask(str(Path(folder) / "golden_l2r" / "Toy_dataset.json"))
    refs = data.pair_refs()
    assert [ref.id for ref in refs] == [f"000{n}_0000-000{n}_0001" for n in (1, 2, 3, 4)]
    loaded = data.load(refs[1])
    assert loaded.fixed_labels is not None
    assert list(loaded.fixed_labels.values) == [1, 2, 3, 4]
    assert np.allclose(loaded.fixed.grid.spacing_mm, (1.5, 1.5, 2.0))
    assert loaded.fixed_landmarks is not None
    assert loaded.moving_landmarks is not None
    apart = loaded.moving_landmarks.points_mm - loaded.fixed_landmarks.points_mm
    assert np.allclose(np.linalg.norm(apart, axis=1), np.linalg.norm([1.32 * 1.5, 0.88 * 1.5, 1.76 * 2]), atol=1e-4)
