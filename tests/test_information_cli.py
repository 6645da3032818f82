"""`regbench mi-analysis` on tiny data on disk: what it writes, says and refuses, and that it goes on where it was."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts_on_disk import write_nifti

from regbench.cli import invoke
from regbench.cli.exit_codes import ExitCode
from regbench.datasets.recognition import dataset_at
from regbench.datasets.table import build_dataset
from regbench.files.images import read_image, read_labels
from regbench.information import survey as survey_module
from regbench.information.keeping import Asked, keep_survey
from regbench.information.record import read_document
from regbench.information.subject import Settings, SubjectInformation
from regbench.information.survey import survey
from regbench.metrics.information import image_summary

SHAPE = (14, 12, 16)


def folder(root: Path, subjects: int = 3, change: Callable[[int, np.ndarray, np.ndarray], Any] | None = None) -> Path:
    """Scans of blocks with labels 1 to 4 in plain folders; `change` may return another image and other labels."""
    for n in range(subjects):
        rng = np.random.default_rng(n)
        labels = np.zeros(SHAPE, np.int16)
        labels[2:12, 2:10, 2:14] = 1 + (np.indices((10, 8, 12)) // [[[[5]]], [[[8]]], [[[6]]]]).T.dot([1, 0, 2]).T
        image = (100 * (labels % 3) - 40 + rng.normal(0, 20, SHAPE)).astype(np.int16)
        if change is not None:
            image, labels = change(n, image, labels)
        write_nifti(root / "images" / f"s{n}.nii.gz", image)
        if labels is not None:
            write_nifti(root / "labels" / f"s{n}.nii.gz", labels)
    return root


def run(*arguments: object) -> int:
    return invoke(["mi-analysis", *map(str, arguments)])


def test_files_and_table_have_the_numbers_of_the_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = folder(tmp_path / "data"), tmp_path / "out"
    assert run(data, "-o", out) == ExitCode.OK
    document = json.loads((out / "information.json").read_text())
    assert document == read_document(out)
    assert (document["dataset"], document["label_set"], document["complete"]) == ("data", "as in the files", True)
    assert [one["subject"] for one in document["subjects"]] == ["s0", "s1", "s2"]
    for one in document["subjects"]:
        image = read_image(data / "images" / f"{one['subject']}.nii.gz")
        metrics = image_summary(image, read_labels(data / "labels" / f"{one['subject']}.nii.gz"))
        assert one["mi_nats"] == metrics.labelled.nats
        assert one["mi_jena_nats"] == metrics.plain.nats
        assert one["voxels"] == 960
    lines = list(csv.DictReader((out / "information.csv").open()))
    assert len(lines) == 3 * (1 + 4)
    assert float(lines[0]["mi_nats"]) == pytest.approx(document["subjects"][0]["mi_nats"])
    assert len(list((out / "figures").glob("*.png"))) == 2
    printed = capsys.readouterr().out
    mean = np.mean([one["mi_ratio"] for one in document["subjects"]])
    assert f"{100 * mean:.1f} %" in printed
    assert "sd over subjects" in printed
    assert "never published" in printed
    assert "3 subjects: the standard deviation between subjects is a rough guess." in printed


def test_label_sets_share_one_reading_and_have_a_file_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = folder(tmp_path / "data", 2), tmp_path / "out"
    assert run(data, "--labels", "{low: [1, 2], high: [3, 4]}", "--labels", "[1, 4]", "-o", out) == ExitCode.OK
    first, second = (read_document(out / name) for name in ("information.json", "information--1--4-.json"))
    assert [sorted(one["subjects"][0]["per_label"]) for one in (first, second)] == [["1", "2"], ["1", "4"]]
    assert first["label_names"] == {"1": "low", "2": "high"}
    assert second["subjects"][0]["voxels"] < first["subjects"][0]["voxels"] == 960
    assert "label set" in capsys.readouterr().out


def test_json_is_what_the_file_has_and_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = folder(tmp_path / "data", 2), tmp_path / "out"
    assert run(data, "-o", out, "--format", "json", "--bins", 32, "--bins", 48, "--mask", "all") == ExitCode.OK
    printed = json.loads(capsys.readouterr().out)
    written = read_document(out)
    assert {key: printed[key] for key in written} == written
    assert printed["summary"]["mi_nats"]["n"] == 2
    assert (written["settings"]["bins"], written["settings"]["mask"]) == (32, "all")
    assert set(written["subjects"][0]["sensitivity"]["bins"]) == {"16", "32", "48", "64", "128", "256"}


def test_processes_change_no_byte(tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    for workers in (1, 2):
        assert run(data, "-o", tmp_path / str(workers), "-j", workers, "--format", "json") == ExitCode.OK
    for name in ("information.json", "information.csv"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_an_interrupted_survey_keeps_what_it_has_and_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = folder(tmp_path / "data", 4), tmp_path / "out"
    measured: list[str] = []
    measure_task = survey_module.measure_task

    def interrupted(asked: Any, task: Any, settings: Settings) -> list[SubjectInformation]:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.extend(task.subjects)
        return measure_task(asked, task, settings)

    monkeypatch.setattr(survey_module, "measure_task", interrupted)
    assert run(data, "-o", out, "--format", "json") == ExitCode.INTERRUPTED
    assert "2 subjects measured; the same command goes on from there" in capsys.readouterr().err
    assert not read_document(out)["complete"]
    measured.clear()
    # Other settings begin anew.
    assert run(data, "-o", tmp_path / "other", "--format", "json", "--limit", 1) == ExitCode.OK
    measured.clear()
    assert run(data, "-o", out, "--format", "json") == ExitCode.OK
    assert measured == ["s2", "s3"]
    assert "2 subjects were measured before" in capsys.readouterr().err
    measured.clear()
    monkeypatch.setattr(survey_module, "measure_task", measure_task)
    assert run(data, "-o", tmp_path / "whole", "--format", "json") == ExitCode.OK
    for name in ("information.json", "information.csv"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_other_settings_and_finished_surveys_are_measured_again(tmp_path: Path) -> None:
    name, given, _ = dataset_at(str(folder(tmp_path / "data", 2)), {}, tmp_path)
    asked = Asked(build_dataset(name, given), "data", folder=tmp_path / "out")
    assert keep_survey(asked, Settings()).n_before == 0
    assert keep_survey(asked, Settings()).n_before == 0
    document = (tmp_path / "out/information.json").read_text().replace('"complete": true', '"complete": false')
    (tmp_path / "out/information.json").write_text(document)
    assert keep_survey(asked, Settings(bins=32)).n_before == 0


def test_files_are_there_while_it_runs(tmp_path: Path) -> None:
    name, given, _ = dataset_at(str(folder(tmp_path / "data")), {}, tmp_path)
    asked = Asked(build_dataset(name, given), "data", folder=tmp_path / "out")
    known = []

    def told(done: int, of: int, subject: str) -> None:
        if done > 1:
            document = read_document(tmp_path / "out")
            known.append((len(document["subjects"]), document["complete"]))

    assert keep_survey(asked, Settings(), told, every_s=0).complete
    assert known == [(1, False), (2, False)]


def test_images_without_labels_are_said_to_have_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = folder(tmp_path / "bare", 2, lambda n, image, labels: (image, None))
    assert run(bare, "-o", tmp_path / "out") == ExitCode.NOTHING_DONE
    said = capsys.readouterr().err
    assert "bare: none of its 2 subjects has labels" in said
    some = folder(tmp_path / "some", 3, lambda n, image, labels: (image, labels if n else None))
    assert run(some) == ExitCode.FAILED
    assert "1 subject has no labels and was left out: s0" in capsys.readouterr().err


def test_what_is_wrong_with_a_subject_is_one_sentence_and_others_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(n: int, image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if n == 0:
            image = image.astype(np.float32)
            image[3, 3, 3] = np.nan
        return image, labels[:-1] if n == 1 else 0 * labels if n == 2 else labels

    out = tmp_path / "out"
    assert run(folder(tmp_path / "data", 4, change), "-o", out) == ExitCode.FAILED
    said = capsys.readouterr().err.splitlines()
    assert sum("1 of 2688 voxels are NaN or infinite" in line for line in said) == 1
    assert sum("resample them onto the image" in line for line in said) == 1
    assert sum("has a label map without any label" in line for line in said) == 1
    document = read_document(out)
    assert [one["subject"] for one in document["subjects"]] == ["s3"]
    assert [one["subject"] for one in document["problems"]] == ["s0", "s1", "s2"]


def test_slices_constant_images_and_missing_labels_are_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(n: int, image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image, labels = image[:, :, 3:4], np.where(labels == 2, 0, labels)[:, :, 3:4] if n else labels[:, :, 3:4]
        return (np.full_like(image, 7), labels) if n == 1 else (image, labels)

    assert run(folder(tmp_path / "data", 2, change)) == ExitCode.OK
    printed = " ".join(capsys.readouterr().out.split())
    assert "The image of s1 is constant" in printed
    assert "Images are slices" in printed
    assert "1 label is missing in some subjects (2)" in printed


def test_a_label_set_that_is_not_known_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder(tmp_path / "data", 2), "--labels", "seg35") == ExitCode.USAGE
    assert "unknown label set 'seg35'" in capsys.readouterr().err
    assert run(tmp_path / "nowhere") == ExitCode.USAGE


def test_subjects_of_pairs_are_measured_once_each(tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    rows = ["fixed,moving,fixed_labels,moving_labels"]
    for a, b in ((0, 1), (1, 2), (2, 0)):
        rows.append(f"images/s{a}.nii.gz,images/s{b}.nii.gz,labels/s{a}.nii.gz,labels/s{b}.nii.gz")
    (data / "pairs.csv").write_text("\n".join(rows) + "\n")
    name, given, _ = dataset_at(str(data / "pairs.csv"), {}, tmp_path)
    pairs, (plain_name, plain, _) = build_dataset(name, given), dataset_at(str(data), {}, tmp_path)
    found = list(survey(pairs))
    assert [one.subject for one in found] == ["s0", "s1", "s2"]
    assert [one.mi_nats for one in found] == [one.mi_nats for one in survey(build_dataset(plain_name, plain))]
    assert [one.subject for one in survey(pairs, limit=1)] == ["s0"]
