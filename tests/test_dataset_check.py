"""`regbench datasets check`: each check finds what was done to a dataset, and nothing in one that is sound."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from layouts_on_disk import EXAMPLES, write_nifti

from regbench.cli import invoke
from regbench.dataset_check.check import Checked, check_dataset
from regbench.dataset_check.preview import borders
from regbench.datasets.recognition import dataset_at
from regbench.datasets.table import build_dataset
from regbench.errors import DatasetError

SHAPE = (24, 26, 28)


def _labels(n: int) -> np.ndarray:
    """Three nested shapes whose place depends on n."""
    centre = np.array([10 + n % 3 * 3, 10 + n // 3 * 3, 14])
    distance = np.linalg.norm(np.indices(SHAPE).transpose(1, 2, 3, 0) - centre, axis=-1)
    return (np.digitize(-distance, [-9, -6, -3])).astype(np.uint8)


def _sound(root: Path, n_scans: int = 6) -> Path:
    rng = np.random.default_rng(0)
    for n in range(n_scans):
        image = 40.0 * _labels(n) + rng.normal(0, 8, SHAPE)
        write_nifti(root / f"images/s{n}.nii.gz", image.astype(np.float32))
        write_nifti(root / f"labels/s{n}.nii.gz", _labels(n))
    return root


def _check(root: Path, **options: Any) -> Checked:
    name, given, _ = dataset_at(str(root), options.pop("parameters", {}), Path.cwd())
    return check_dataset(build_dataset(name, given), **options)


def _swap(root: Path) -> None:
    for source, target in (("s1", "x"), ("s4", "s1"), ("x", "s4")):
        (root / f"labels/{source}.nii.gz").rename(root / f"labels/{target}.nii.gz")


def _rotate_three(root: Path) -> None:
    for source, target in (("s1", "x"), ("s2", "s1"), ("s3", "s2"), ("x", "s3")):
        (root / f"labels/{source}.nii.gz").rename(root / f"labels/{target}.nii.gz")


def _shift_labels(root: Path) -> None:
    write_nifti(root / "labels/s2.nii.gz", _labels(2), np.diag([1.0, 1.5, 2.5, 1.0]))


def _copy_scan(root: Path) -> None:
    (root / "images/s3.nii.gz").write_bytes((root / "images/s2.nii.gz").read_bytes())


def _empty_labels(root: Path) -> None:
    write_nifti(root / "labels/s2.nii.gz", np.zeros(SHAPE, np.uint8))


def _damage(root: Path) -> None:
    path = root / "images/s2.nii.gz"
    path.write_bytes(path.read_bytes()[:500])


def _remove_labels(root: Path) -> None:
    (root / "labels/s2.nii.gz").unlink()


def _lack_a_label(root: Path) -> None:
    write_nifti(root / "labels/s2.nii.gz", np.minimum(_labels(2), 2))


def _move_away(root: Path) -> None:
    far = np.diag([1.0, 1.5, 2.0, 1.0])
    far[0, 3] = 1000
    for part in ("images", "labels"):
        image = nib.load(root / f"{part}/s2.nii.gz")
        write_nifti(root / f"{part}/s2.nii.gz", np.asarray(image.dataobj), far)


def _turn(root: Path) -> None:
    turned = np.diag([-1.0, 1.5, 2.0, 1.0])
    turned[0, 3] = 23
    for part in ("images", "labels"):
        image = nib.load(root / f"{part}/s2.nii.gz")
        write_nifti(root / f"{part}/s2.nii.gz", np.asarray(image.dataobj), turned)


def _lose_a_landmark(root: Path) -> None:
    (root / "landmarks").mkdir()
    for n in range(6):
        (root / f"landmarks/s{n}.csv").write_text("1,1,1\n2,2,2\n3,3,99\n" if n == 2 else "1,1,1\n2,2,2\n3,3,3\n")


def test_nothing_is_wrong_with_a_sound_folder(tmp_path: Path) -> None:
    checked = _check(_sound(tmp_path))
    assert checked.may_start
    assert [f.severity for f in checked.findings] == ["note"]
    assert checked.findings[0].sentence.startswith("every label map fits its own image best (6 scans")
    assert checked.facts["shapes"] == "24x26x28"
    assert checked.facts["spacings (mm)"] == "1x1.5x2"
    assert (checked.facts["scans"], checked.facts["pairs"], checked.facts["labels"]) == ("6", "5", "3: 1, 2, 3")


@pytest.mark.parametrize(
    ("change", "severity", "told"),
    [
        (_swap, "error", "the labels of 's1' fit the image of 's4' better than their own"),
        (_rotate_three, "error", "the labels of 's1' fit the image of 's2' better than their own"),
        (_shift_labels, "error", "'s2': the labels are on another grid than the image"),
        (_copy_scan, "error", "different subjects with one and the same image: s2, s3"),
        (_empty_labels, "error", "maps without any: s2"),
        (_damage, "error", "s2.nii.gz: cannot be read"),
        (_remove_labels, "warning", "scans without labels (1 of 6): s2"),
        (_lack_a_label, "warning", "1 of 3 are not in all scans (in brackets how many lack them): 3 (1)"),
        (_move_away, "warning", "scans that do not meet 's0' in world coordinates: s2; set prealign"),
        (_turn, "warning", "scans are stored in 2 orientations (LAS, RAS)"),
        (_lose_a_landmark, "warning", "landmarks outside of their image are left out: s2 (1 of 3)"),
    ],
)
def test_what_was_done_to_a_folder_is_found(
    change: Callable[[Path], None], severity: str, told: str, tmp_path: Path
) -> None:
    change(_sound(tmp_path))
    checked = _check(tmp_path)
    found = [f for f in checked.findings if told in f.sentence]
    assert [f.severity for f in found] == [severity], [f.sentence for f in checked.findings]
    assert checked.may_start == (severity != "error")


def test_both_of_two_swapped_files_are_named_and_no_other(tmp_path: Path) -> None:
    _swap(_sound(tmp_path))
    named = [f.sentence.split("'")[1] for f in _check(tmp_path).findings if f.check == "pairing"]
    assert named == ["s1", "s4"]


def test_an_image_of_more_contrast_is_no_swap(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for n in range(4):
        noise = 1 if n == 3 else 120
        image = 40.0 * _labels(0) + rng.normal(0, noise, SHAPE)
        write_nifti(tmp_path / f"images/s{n}.nii.gz", image.astype(np.float32))
        write_nifti(tmp_path / f"labels/s{n}.nii.gz", _labels(0))
    checked = _check(tmp_path)
    assert checked.may_start
    assert any("may only have more contrast" in f.sentence for f in checked.findings)


def test_images_that_tell_nothing_are_not_judged(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for n in range(3):
        write_nifti(tmp_path / f"images/s{n}.nii.gz", rng.normal(0, 1, SHAPE).astype(np.float32))
        write_nifti(tmp_path / f"labels/s{n}.nii.gz", _labels(n))
    checked = _check(tmp_path)
    assert any("images tell too little of their labels" in f.sentence for f in checked.findings)


def test_a_subject_in_two_parts_is_a_leak(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text('image: "{split}/{subject}_{visit}.nii.gz"\npairs: all-ordered\n')
    for part, visit in (("train", 1), ("test", 2)):
        for subject in ("a", "b") if part == "train" else ("b", "c"):
            array = np.full(SHAPE, ord(subject) + visit, np.float32)
            array[0] = visit
            write_nifti(tmp_path / f"{part}/{subject}_{visit}.nii.gz", array)
    checked = _check(tmp_path / "d.yaml")
    (found,) = (f for f in checked.findings if f.check == "leakage")
    assert (found.severity, found.sentence) == ("error", "subjects in several parts: b (test, train)")


def test_an_index_tells_changed_missing_and_new_files(tmp_path: Path) -> None:
    root = _sound(tmp_path / "data")
    _check(root, new_index=tmp_path / "sums.txt")
    assert "data/images/s0.nii.gz" in (tmp_path / "sums.txt").read_text()
    assert any("all 12 files are as in" in f.sentence for f in _check(root, index=tmp_path / "sums.txt").findings)
    write_nifti(root / "images/s0.nii.gz", _labels(0) + np.float32(1))
    (root / "images/s5.nii.gz").unlink()
    write_nifti(root / "images/s9.nii.gz", _labels(1) + np.float32(1))
    findings = _check(root, index=tmp_path / "sums.txt").findings
    sentences = " | ".join(f"{f.severity} {f.sentence}" for f in findings if f.check == "integrity")
    assert "error files that differ from" in sentences
    assert "sums.txt that are gone: s5.nii.gz" in sentences
    assert "warning files that are not in" in sentences


@pytest.mark.parametrize("key", ["neurite", "learn2reg", "lpba40", "klein", "ixi", "voxelmorph", "bids", "described"])
def test_any_layout_can_be_checked(key: str, tmp_path: Path) -> None:
    EXAMPLES[key].write(tmp_path)
    checked = _check(tmp_path)
    assert int(checked.facts["scans"]) >= 2
    assert not any(f.severity == "error" and f.check in ("reading", "grids") for f in checked.findings)


def test_borders_lie_between_labels() -> None:
    labels = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 2]])
    np.testing.assert_array_equal(borders(labels), [[0, 0, 1], [0, 0, 1], [1, 1, 1]])


def test_the_command_says_whether_a_benchmark_may_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _sound(Path("study"))
    assert invoke(["datasets", "check", "study", "--preview", "p.html", "--set", "pairs=all-ordered"]) == 0
    out = capsys.readouterr().out
    assert "study: read as folders (pairs=all-ordered)" in out
    assert "a benchmark may start" in out
    page = Path("p.html").read_text()
    assert page.count("<img") == 6
    assert "http" not in page
    _swap(Path("study"))
    assert invoke(["datasets", "check", "study"]) == 1
    assert "a benchmark should not start" in capsys.readouterr().out
    assert invoke(["datasets", "check", "study", "--scans", "2"]) == 0
    capsys.readouterr()
    for arguments, told in (
        (["nowhere/at-all"], "there is no such file or folder"),
        (["oasis"], "unknown dataset 'oasis'"),
        (["study", "--set", "pairs"], "'pairs' is not NAME=VALUE"),
        (["study", "--index", "none.txt"], "none.txt: no such file"),
    ):
        assert invoke(["datasets", "check", *arguments]) == 2
        assert told in capsys.readouterr().err


def test_the_command_still_lists_and_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["datasets"]) == 0
    assert "dirlab-copd" in capsys.readouterr().out
    assert invoke(["datasets", "neurite-oasis"]) == 0
    out = capsys.readouterr().out
    assert "held_out" in out
    assert "data use agreement" in out


def test_a_task_whose_files_are_missing_may_not_start(tmp_path: Path) -> None:
    pair = {"fixed": "./imagesTr/A_0001_0000.nii.gz", "moving": "./imagesTr/A_0002_0000.nii.gz"}
    (tmp_path / "A_dataset.json").write_text(json.dumps({"registration_val": [pair]}))
    checked = _check(tmp_path)
    assert not checked.may_start
    assert "A_0001_0000.nii.gz: no such file" in checked.findings[0].sentence


@pytest.mark.real
def test_real_folders_may_start(tmp_path: Path) -> None:
    root = os.environ.get("REGBENCH_DATA")
    folder = Path(root or "") / "layouts/LPBA40_loni_quarter"
    if not root or not folder.is_dir():
        pytest.skip("$REGBENCH_DATA is not set or has no layouts")
    # Labels drawn on stripped brains that are not aligned: those of one tell where the other has background.
    assert [f.severity for f in _check(folder).findings if f.check == "pairing"] == ["note"]
    space = "LPBA40/delineation_space"
    for one, other in (("S05", "S20"), ("S20", "S05")):
        for path in (folder / space / one).iterdir():
            is_label = "label" in path.name
            copy = (
                tmp_path
                / space
                / (one if is_label else other)
                / (path.name if is_label else path.name.replace(one, other))
            )
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    swapped = [f.sentence.split("'")[1] for f in _check(tmp_path).findings if f.severity == "error"]
    assert swapped == ["S05", "S20"]
    assert _check(Path(root) / "neurite_oasis").may_start
    assert _check(Path(root) / "slices_2d").may_start


def test_brains_that_are_not_aligned_are_no_swap(tmp_path: Path) -> None:
    """The background of another brain tells where labels are, which is no reason to think that files were swapped."""
    rng = np.random.default_rng(0)
    for n in range(2):
        labels = np.zeros(SHAPE, np.int16)
        labels[6 * n : 6 * n + 16, 4:22, 4:24] = 1
        labels[6 * n + 8 : 6 * n + 16, 4:22, 4:24] = 2
        image = np.where(labels > 0, 100 + 20 * (labels == 2) + rng.normal(0, 30, SHAPE).clip(-90), 0)
        write_nifti(tmp_path / f"images/s{n}.nii.gz", image.astype(np.float32))
        write_nifti(tmp_path / f"labels/s{n}.nii.gz", labels)
    assert _check(tmp_path).may_start


def test_folders_below_an_unknown_one_are_told(tmp_path: Path) -> None:
    _sound(tmp_path / "more" / "study")
    (tmp_path / "notes").mkdir()
    with pytest.raises(DatasetError, match=r"but folders below it do: .*more.study \(folders\)$"):
        dataset_at(str(tmp_path), {}, tmp_path)
