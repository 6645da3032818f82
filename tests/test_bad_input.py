"""Bad input: one sentence each, the right exit code, nothing half-written, and a bad pair fails alone."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from regbench.cli import invoke

SHAPE = (24, 20)


def _save(path: Path, array: np.ndarray, spacing_mm: float = 2.0) -> Path:
    """A 2-D image as people store them: a NIfTI volume with one slice."""
    nib.save(nib.Nifti1Image(array[..., None], np.diag([spacing_mm, spacing_mm, 1.0, 1.0])), path)
    return path


def _disk(radius: float) -> np.ndarray:
    axes = np.indices(SHAPE) - np.array(SHAPE).reshape(2, 1, 1) / 2
    return (np.hypot(*axes) < radius).astype(np.float32)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder with two good images, their labels, and a CSV that pairs them."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for name, radius in (("a", 6.0), ("b", 8.0)):
        _save(folder / f"{name}.nii.gz", _disk(radius))
        _save(folder / f"{name}_labels.nii.gz", _disk(radius).astype(np.uint8))
    return folder


def _config(scans: Path, *bad_rows: str) -> Path:
    """A config over a CSV with a good pair and the given rows (fixed,moving,fixed_labels,moving_labels,id)."""
    good = "a.nii.gz,b.nii.gz,a_labels.nii.gz,b_labels.nii.gz,good"
    lines = ["fixed,moving,fixed_labels,moving_labels,id", good, *bad_rows]
    (scans / "pairs.csv").write_text("\n".join(lines) + "\n")
    path = scans / "bench.yaml"
    path.write_text("datasets: [pairs.csv]\nmethods: [identity]\nmetrics: [dice, ncc]\nkeep: {pictures: 0}\n")
    return path


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def _missing_file(scans: Path) -> str:
    return "a.nii.gz,gone.nii.gz,,"


def _corrupt_nifti(scans: Path) -> str:
    whole = (scans / "b.nii.gz").read_bytes()
    (scans / "torn.nii.gz").write_bytes(whole[: len(whole) // 2])
    return "a.nii.gz,torn.nii.gz,,"


def _not_an_image(scans: Path) -> str:
    (scans / "text.nii.gz").write_text("this is no image")
    return "a.nii.gz,text.nii.gz,,"


def _nan_image(scans: Path) -> str:
    array = _disk(6.0)
    array[3, 4] = np.nan
    _save(scans / "nan.nii.gz", array)
    return "a.nii.gz,nan.nii.gz,,"


def _float_labels(scans: Path) -> str:
    _save(scans / "soft.nii.gz", _disk(6.0) * np.float32(0.7))
    return "a.nii.gz,b.nii.gz,a_labels.nii.gz,soft.nii.gz"


def _labels_on_another_grid(scans: Path) -> str:
    _save(scans / "other_grid.nii.gz", _disk(6.0).astype(np.uint8), spacing_mm=3.0)
    return "a.nii.gz,b.nii.gz,a_labels.nii.gz,other_grid.nii.gz"


BAD_PAIRS: list[tuple[Callable[[Path], str], str]] = [
    (_missing_file, "gone.nii.gz"),
    (_corrupt_nifti, "torn.nii.gz"),
    (_not_an_image, "text.nii.gz"),
    (_nan_image, "NaN"),
    (_float_labels, "not whole numbers"),
    (_labels_on_another_grid, "different grids"),
]


def test_bad_pairs_fail_alone_with_a_sentence_each(
    scans: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = [make.__name__.strip("_") for make, _ in BAD_PAIRS]
    config = _config(scans, *(f"{make(scans)},{name}" for (make, _), name in zip(BAD_PAIRS, names, strict=True)))
    folder = tmp_path / "run"
    assert invoke(["run", str(config), "-o", str(folder)]) == 1
    rows = {row["pair"]["id"]: row for row in _rows(folder)}
    assert {name: row["status"] for name, row in rows.items()} == {"good": "ok", **dict.fromkeys(names, "failed")}
    assert rows["good"]["metrics"]["dice"]["mean"] > 0
    shown = capfd.readouterr()
    assert "Traceback" not in shown.err + shown.out
    for name, (_, word) in zip(names, BAD_PAIRS, strict=True):
        assert word in rows[name]["reason"], name
        assert "\n" not in rows[name]["reason"]
        assert any(line.startswith(f"failed: identity on {name}: ") and word in line for line in shown.err.splitlines())
    assert (folder / "report.html").exists()
    assert (folder / "results.csv").exists()


CONFIG_ERRORS = [
    ("datasets: [\n", "not valid YAML"),
    ("datasets: [pairs.csv]\nmethods: [demon]\n", "unknown method 'demon'; did you mean 'demons'?"),
    ("datasets: [no-such.csv]\nmethods: [identity]\n", "no-such.csv"),
    ("datasets: [empty.csv]\nmethods: [identity]\n", "empty.csv"),
    ("datasets: [header-only.csv]\nmethods: [identity]\n", "header-only.csv"),
    ("datasets: [wrong-columns.csv]\nmethods: [identity]\n", "wrong-columns.csv"),
]


@pytest.mark.parametrize(("text", "words"), CONFIG_ERRORS, ids=[words for _, words in CONFIG_ERRORS])
@pytest.mark.parametrize("command", ["run", "validate", "run --dry-run"])
def test_what_cannot_be_run_is_one_line_exit_2_and_nothing_written(  # noqa: PLR0917
    command: str, text: str, words: str, scans: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _config(scans)
    (scans / "empty.csv").write_text("")
    (scans / "header-only.csv").write_text("fixed,moving\n")
    (scans / "wrong-columns.csv").write_text("image,label\na,b\n")
    (scans / "bench.yaml").write_text(text)
    monkeypatch.chdir(scans)
    before = sorted(scans.iterdir())
    name, *options = command.split()
    assert invoke([name, "bench.yaml", *options]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("regbench: ")
    assert shown.err.count("\n") == 1
    assert words in shown.err
    assert sorted(scans.iterdir()) == before


def test_validate_lists_missing_files_and_counts_cases(scans: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["validate", str(_config(scans))]) == 0
    assert capfd.readouterr().out == "ok: 1 method x 1 pair = 1 case\n"
    assert invoke(["validate", str(_config(scans, "a.nii.gz,gone.nii.gz,,,x", "gone2.nii.gz,b.nii.gz,,,y"))]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "gone.nii.gz" in lines[0]
    assert "gone2.nii.gz" in lines[1]


def test_dry_run_shows_the_plan_and_touches_nothing(
    scans: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = _config(scans, "a.nii.gz,gone.nii.gz,,,x")
    monkeypatch.chdir(scans)
    before = sorted(scans.rglob("*"))
    assert invoke(["run", str(config), "--dry-run"]) == 0
    shown = capfd.readouterr().out
    assert "2 cases on 2 pairs, 2 to do; run folder: runs/bench" in shown
    assert "gone.nii.gz" in shown
    assert sorted(scans.rglob("*")) == before


def test_a_run_that_is_done_is_not_run_again(scans: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config, folder = _config(scans), tmp_path / "run"
    assert invoke(["run", str(config), "-o", str(folder)]) == 0
    first = (folder / "results.jsonl").read_bytes()
    assert "1 cases to do" in capfd.readouterr().err
    assert invoke(["run", str(config), "-o", str(folder)]) == 0
    assert "0 cases to do (1 of 1 were done before)" in capfd.readouterr().err
    assert (folder / "results.jsonl").read_bytes() == first
    assert invoke(["run", str(config), "-o", str(folder), "--dry-run"]) == 0
    assert "1 cases on 1 pairs, 0 to do" in capfd.readouterr().out


@pytest.mark.parametrize("place", ["below a file", "a file", "a folder of other things"])
def test_an_output_folder_that_cannot_be_used(
    place: str, scans: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = _config(scans)
    file = tmp_path / "file"
    file.write_text("precious")
    folder = {"below a file": file / "run", "a file": file, "a folder of other things": scans}[place]
    before = sorted(tmp_path.rglob("*"))
    assert invoke(["run", str(config), "-o", str(folder)]) == 2
    shown = capfd.readouterr()
    assert shown.err.startswith("regbench: ")
    assert shown.err.count("\n") == 1
    assert str(folder) in shown.err
    assert sorted(tmp_path.rglob("*")) == before
    assert file.read_text() == "precious"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_folder(scans: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert invoke(["run", str(_config(scans)), "-o", str(folder / "run")]) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_a_full_disk_ends_the_run_with_a_sentence_and_whole_rows(scans: Path, tmp_path: Path) -> None:
    rows = "".join(f"\na.nii.gz,b.nii.gz,a_labels.nii.gz,b_labels.nii.gz,p{i}" for i in range(30))
    config = _config(scans)
    (scans / "pairs.csv").write_text("fixed,moving,fixed_labels,moving_labels,id" + rows + "\n")
    folder = tmp_path / "run"

    def limit_files() -> None:
        # No file may grow beyond this: writing fails part of the way, as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, 16 * 1024))

    command = [sys.executable, "-m", "regbench", "run", str(config), "-o", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit_files)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert "cannot be written" in result.stderr.splitlines()[-1]
    written = (folder / "results.jsonl").read_text()
    assert written.endswith("\n")
    assert 0 < len(_rows(folder)) < 30
    # With space again the same command goes on.
    assert invoke(["run", str(config), "-o", str(folder)]) == 0
    assert len(_rows(folder)) == 30
