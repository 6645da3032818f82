"""`regbench evaluate` as a user gives it: fields made elsewhere, exit codes, what does not go together, Learn2Reg."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_tasks import oblique_pairs, write_json

from regbench.cli import invoke
from regbench.files.fields import load_field, save_field, write_itk_warp
from regbench.files.images import read_image, write_image

GOLDEN = Path(__file__).parent / "data" / "golden_l2r"
METRICS = ["--metrics", "dice,fold_percent"]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two pairs in pairs.csv and their true fields as ITK warps in `fields`."""
    monkeypatch.chdir(tmp_path)
    for name, phantom in oblique_pairs(tmp_path).items():
        assert phantom.truth is not None
        write_itk_warp(tmp_path / "fields" / f"{name}.nii.gz", phantom.truth)
    return tmp_path


def _rows(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "results.jsonl").read_text().splitlines()]


def test_fields_become_a_run_that_is_reported_and_compared(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = ["--dataset", "pairs.csv", "--method", "mine", "--paradigm", "classical", *METRICS]
    assert invoke(["evaluate", "fields", *said]) == 0
    shown = capfd.readouterr()
    assert "[2/2]  mine  pairs  c_d  ok  dice 0.9" in shown.err
    for words in ("pairs · no shift · 2 pairs", "mine", "classical", "runs/fields-evaluated/report.html"):
        assert words in shown.out
    assert all(
        (Path("runs/fields-evaluated") / name).exists() for name in ("results.csv", "summary.csv", "report.html")
    )
    assert invoke(["report", "runs/fields-evaluated"]) == 0
    assert "mine" in capfd.readouterr().out
    # The same fields in another format are the same method on the same pairs.
    for name in ("a_b", "c_d"):
        moving = read_image(f"{name}_moving.nii.gz").grid
        fixed = read_image(f"{name}_fixed.nii.gz").grid
        save_field(f"voxels/disp_{name}.npz", load_field(f"fields/{name}.nii.gz", fixed, moving), "learn2reg", moving)
    assert invoke(["evaluate", "voxels", *said, "-o", "again"]) == 0
    assert invoke(["compare", "runs/fields-evaluated", "again"]) == 0
    np.savez("voxels/disp_a_b.npz", np.zeros((27, 29, 25, 3), np.float32))
    assert invoke(["evaluate", "voxels", *said, "-o", "again"]) == 0
    # Nobody says whether the program that made the fields gives the same ones each time, and two pairs test nothing.
    assert invoke(["compare", "runs/fields-evaluated", "again"]) == 3
    assert invoke(["compare", "runs/fields-evaluated", "again", "--mode", "golden"]) == 1
    assert "regression" in capfd.readouterr().out


def test_what_failed_is_told_and_the_rest_is_there(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("fields/c_d.nii.gz").write_bytes(Path("fields/c_d.nii.gz").read_bytes()[:5000])
    assert invoke(["evaluate", "fields", "--dataset", "pairs.csv", *METRICS]) == 1
    shown = capfd.readouterr()
    assert re.search(r"fields +unknown +0\.9", shown.out)
    assert "failed: fields on c_d: fields/c_d.nii.gz: cannot be read" in shown.err
    assert "give the same command again" in shown.err
    assert "--retry-failed" not in shown.err
    Path("fields/c_d.nii.gz").unlink()
    assert invoke(["evaluate", "fields", "--dataset", "pairs.csv", *METRICS]) == 1
    assert "no field of this pair; looked for disp_c_d (.npz, .nii.gz, .nii), c_d, c-d" in capfd.readouterr().err
    assert [row["status"] for row in _rows("runs/fields-evaluated")] == ["ok", "failed"]


def test_parameters_of_the_dataset_and_the_label_warp(work: Path) -> None:
    arguments = ["evaluate", "fields", "--dataset", "pairs.csv", "--set", "limit=1", *METRICS]
    assert invoke([*arguments, "-o", "nearest"]) == 0
    assert invoke([*arguments, "-o", "linear", "--label-warp", "linear"]) == 0
    (nearest,), (linear,) = _rows("nearest"), _rows("linear")
    assert (nearest["label_warp"], linear["label_warp"]) == ("nearest", "linear")
    assert nearest["metrics"]["dice"]["mean"] != linear["metrics"]["dice"]["mean"]


def test_a_folder_without_fields_is_no_success(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert invoke(["evaluate", "empty", "--dataset", "pairs.csv"]) == 5
    shown = capfd.readouterr()
    assert shown.err.startswith("regbench: empty holds no field of any of the 2 pairs of pairs; for the pair a_b it")
    assert (shown.err.count("\n"), shown.out) == (1, "")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["fields"],
            "fields is not a run folder; for fields that were made elsewhere, say of which pairs, with --dataset",
        ),
        (["nothere", "--dataset", "pairs.csv"], "nothere does not exist"),
        (["pairs.csv", "--dataset", "pairs.csv"], "pairs.csv is a file; give the folder"),
        (["fields", "--dataset", "oasis"], "--dataset: unknown dataset 'oasis'; known: "),
        (["fields", "--dataset", "other.csv"], "other.csv: no such file"),
        (["fields", "--dataset", "pairs.csv", "--set", "limit"], "--set: 'limit' is not NAME=VALUE"),
        (["fields", "--dataset", "pairs.csv", "--set", "limit=x"], "limit: 'x' is not valid"),
        (["fields", "--dataset", "pairs.csv", "--format", "fls"], "--format: unknown format 'fls'"),
        (["fields", "--dataset", "pairs.csv", "--metrics", "dise"], "did you mean 'dice'?"),
        (["fields", "--dataset", "pairs.csv", "--paradigm", "learned"], "--paradigm learned: say also what training"),
        (
            ["fields", "--dataset", "pairs.csv", "--supervision", "labels"],
            "--supervision: goes with --paradigm learned",
        ),
        (["fields", "--dataset", "pairs.csv", "--label-warp", "cubic"], "'cubic' is not one of 'nearest', 'linear'"),
        (["fields", "--dataset", "pairs.csv", "--l2r-config", "c.json"], "need --compat l2r"),
        (["fields", "--dataset", "pairs.csv", "--compat", "l2r", "-o", "x.json"], "need --l2r-config"),
        (["fields", "--compat", "l2r", "--l2r-config", "c.json", "-o", "x.json"], "need --dataset"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    work: Path, arguments: list[str], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["evaluate", *arguments]) == 2
    shown = capfd.readouterr()
    assert shown.err.startswith("regbench: ")
    assert shown.err.count("\n") == 1
    assert sentence in shown.err
    assert not Path("runs").exists()


def test_a_run_keeps_its_own_dataset_and_fields(work: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("run.yaml").write_text(
        "datasets: [{pairs.csv: {limit: 1}}]\nmethods: [moments]\nmetrics: [dice]\nkeep: {fields: true, pictures: 0}\n"
    )
    assert invoke(["run", "run.yaml"]) == 0
    (before,) = _rows("runs/run")
    assert invoke(["evaluate", "runs/run", "--label-warp", "linear"]) == 0
    (after,) = _rows("runs/run")
    assert (before["label_warp"], after["label_warp"]) == ("nearest", "linear")
    assert before["metrics"]["dice"]["mean"] != after["metrics"]["dice"]["mean"]
    assert after["timing"]["register_s"] == before["timing"]["register_s"]
    # What it kept can be scored elsewhere, too.
    assert invoke(["evaluate", "runs/run/fields", "--dataset", "pairs.csv", "-o", "kept", *METRICS]) == 1
    kept, missing = _rows("kept")
    assert kept["metrics"]["dice"]["mean"] == pytest.approx(before["metrics"]["dice"]["mean"], abs=2e-3)
    assert (kept["method"], missing["status"]) == ("fields", "failed")
    capfd.readouterr()
    for arguments, sentence in (
        (["runs/run", "--dataset", "pairs.csv"], "is a run folder, which knows its own dataset; leave --dataset out"),
        (["runs/run", "--method", "x"], "--method: goes with fields made elsewhere"),
        (["runs/run", "--set", "limit=1"], "--set: goes with fields made elsewhere"),
        (["kept"], f"kept was made of the fields in {work / 'runs/run/fields'}; give that folder"),
        (["fields", "--dataset", "pairs.csv", "-o", "kept"], "kept holds another run; choose another folder with -o"),
    ):
        assert invoke(["evaluate", *arguments]) == 2
        assert sentence in capfd.readouterr().err
    assert invoke(["evaluate", "fields", "--dataset", "pairs.csv", "-o", "kept", "--fresh", *METRICS]) == 0


# -- the Learn2Reg evaluator ----------------------------------------------------------------------------


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy task with its official numbers; its label maps stand for its images."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(GOLDEN, tmp_path / "toy")
    (tmp_path / "toy" / "imagesTr").mkdir()
    for path in (GOLDEN / "labelsTr").iterdir():
        write_image(tmp_path / "toy" / "imagesTr" / path.name, read_image(path))
    pairs = [
        {side: f"./imagesTr/Toy_000{n}_000{i}.nii.gz" for i, side in enumerate(("fixed", "moving"))}
        for n in (1, 2, 3, 4)
    ]
    write_json(tmp_path / "toy", registration_val=pairs)
    config = {
        "task_name": "Toy",
        "evaluation_methods": [
            {"name": "LogJacDetStd", "metric": "sdlogj"},
            {"name": "DSC", "metric": "dice", "labels": [1, 2, 3, 4]},
            {"name": "HD95", "metric": "hd95", "labels": [1, 2, 3, 4]},
            {"name": "TRE_kp", "metric": "tre", "dest": "keypoints"},
        ],
        "expected_shape": [32, 28, 36, 3],
        "eval_pairs": pairs,
        "masked_evaluation": False,
    }
    (tmp_path / "toy" / "config.json").write_text(json.dumps(config))
    return tmp_path


def _compat(fields: str) -> list[str]:
    where = ["--dataset", "toy/Toy_dataset.json", "--compat", "l2r", "--l2r-config", "toy/config.json"]
    return ["evaluate", fields, *where, "-o", "out.json"]


def test_the_numbers_of_learn2reg(toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(_compat("toy/disp")) == 0
    shown = capfd.readouterr()
    official = json.loads((GOLDEN / "official_unmasked.json").read_text())
    written = json.loads(Path("out.json").read_text())
    for name, values in official["aggregates"].items():
        assert written["aggregates"][name] == pytest.approx(values, abs=1e-6)
        assert f"{values['mean']:.6g}" in shown.out
    assert "HD95.30: the quantile of the best 30 % of the cases" in shown.out
    assert re.search(r"num_foldings.* always 0.*ours", shown.out)
    assert "report      out.json" in shown.out
    assert "[4/4] 0004_0000<--0004_0001" in shown.err


def test_missing_fields_of_a_submission(toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("toy/disp/disp_0003_0003.nii.gz").unlink()
    assert invoke(_compat("toy/disp")) == 1
    assert "1 of 4 cases have no usable field" in capfd.readouterr().err
    assert json.loads(Path("out.json").read_text())["missing"] == ["0003_0000<--0003_0001"]
    Path("empty").mkdir()
    assert invoke(_compat("empty")) == 5
    assert "regbench: empty has no usable field" in capfd.readouterr().err
    assert invoke([*_compat("toy/disp"), "--metrics", "full"]) == 2
    assert "--metrics: does not go with --compat l2r" in capfd.readouterr().err


def test_both_rulers_agree_where_they_measure_the_same(toy: Path) -> None:
    """Dice, and the landmark error of whole-voxel and of no displacement, which no interpolation touches."""
    assert invoke(["evaluate", "toy/disp", "--dataset", "toy/Toy_dataset.json", "--metrics", "dice,tre_mm"]) == 0
    official = json.loads((GOLDEN / "official_unmasked.json").read_text())["cases"]
    for row in _rows("runs/disp-evaluated"):
        theirs = official[row["pair"]["id"].replace("-", "<--")]
        assert row["metrics"]["dice"]["mean"] == pytest.approx(theirs["DSC"]["mean"], abs=1e-9)
        if row["pair"]["fixed"] in ("0001", "0002"):
            assert row["metrics"]["tre_mm"]["mean"] == pytest.approx(theirs["TRE_kp"]["mean"], abs=1e-5)
