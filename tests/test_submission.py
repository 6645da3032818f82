"""`regbench export l2r`: fields of a run as a submission, which scores as the run did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from support_tasks import GRID, pair, unpaired_task, write_json, write_scan

from regbench import runner
from regbench.cli import invoke
from regbench.config import load_config
from regbench.files.conventions import from_learn2reg
from regbench.files.fields import load_own_field
from regbench.foreign.evaluation import ForeignFields, evaluate_fields
from regbench.store import RunStore, read_run

CONFIG = """
datasets: [{learn2reg: {path: %s, as: toy%s}}]
methods: [%s]
metrics: [dice]
keep: {fields: true, pictures: 0}
"""


def run(task: Path, out: Path, methods: str = "demons", limit: str = "") -> Path:
    config = out.with_suffix(".yaml")
    config.write_text(CONFIG % (task, limit, methods))
    assert runner.run(load_config(config), out).n_not_ok == 0
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A task of three pairs, and a run of two methods that kept its fields."""
    folder = tmp_path_factory.mktemp("task")
    task = unpaired_task(folder / "Toy", n=3)
    return task, run(task, folder / "run", "identity, demons")


def test_a_submission_scores_as_the_run_did(made: tuple[Path, Path], tmp_path: Path) -> None:
    task, source = made
    scores = {r["pair"]["id"]: r["metrics"]["dice"]["mean"] for r in read_run(source).rows if r["method"] == "demons"}
    assert any(dice > 0 for dice in scores.values())
    for form, names in (("nii.gz", "both"), ("nii.gz", "short"), ("npz", "long")):
        out = tmp_path / f"{form}-{names}"
        options = ["--method", "demons", "--format", form, "--names", names, "-o", str(out)]
        assert invoke(["export", "l2r", str(source), *options]) == 0
        evaluate_fields(ForeignFields(out, str(task), "again", metrics=["dice"]), Path(f"{out}-run"))
        found = {row["pair"]["id"]: row["metrics"]["dice"]["mean"] for row in read_run(f"{out}-run").rows}
        assert found == pytest.approx(scores, abs=1e-12), form


def test_the_official_numbers_of_a_submission_are_to_be_had(made: tuple[Path, Path], tmp_path: Path) -> None:
    task, source = made
    assert invoke(["export", "l2r", str(source), "--method", "identity", "-o", str(tmp_path / "out")]) == 0
    config: dict[str, Any] = {
        "task_name": "Toy",
        "evaluation_methods": [{"name": "DSC", "metric": "dice", "labels": [1]}],
        "expected_shape": [*GRID.shape, 3],
        "eval_pairs": json.loads(task.read_text())["registration_val"],
        "eval_config_version": 0.2,
        "masked_evaluation": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    options = ["--compat", "l2r", "--dataset", str(task), "--l2r-config", str(tmp_path / "config.json")]
    assert invoke(["evaluate", str(tmp_path / "out"), *options, "-o", str(tmp_path / "scores.json")]) == 0
    cases = json.loads((tmp_path / "scores.json").read_text())["cases"]
    scores = {r["pair"]["id"]: r["metrics"]["dice"]["mean"] for r in read_run(source).rows if r["method"] == "identity"}
    assert len(cases) == len(scores) == 2
    official = [case["DSC"]["mean"] for case in cases.values()]
    assert official == pytest.approx(list(scores.values()))


def test_files_are_as_the_challenge_wants_them(made: tuple[Path, Path], tmp_path: Path) -> None:
    _, source = made
    assert invoke(["export", "l2r", str(source), "-o", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demons", "identity"]
    names = sorted(path.name for path in (tmp_path / "demons").iterdir())
    assert names == [f"disp_{name}.nii.gz" for name in
                     ("0001_0000_0002_0000", "0001_0002", "0002_0000_0003_0000", "0002_0003")]  # fmt: skip
    image: Any = nib.load(tmp_path / "demons" / names[0])
    np.testing.assert_array_equal(image.affine, np.eye(4))
    assert image.shape == (*GRID.shape, 3) and image.get_data_dtype() == np.float32
    (row,) = (r for r in read_run(source).rows if (r["method"], r["pair"]["fixed"]) == ("demons", "0001"))
    kept = load_own_field(source / row["field"])
    np.testing.assert_allclose(
        from_learn2reg(np.asarray(image.dataobj), GRID, GRID).vectors_mm, kept.vectors_mm, atol=1e-5
    )
    assert np.abs(kept.vectors_mm).max() > 0.1


def test_what_is_missing_is_told(made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task, _ = made
    part = run(task, tmp_path / "part", "identity", limit=", limit: 1")
    assert invoke(["export", "l2r", str(part), "-o", str(tmp_path / "out")]) == 1
    told = capsys.readouterr()
    assert "identity: 1 of 2 pairs in" in told.out
    assert "identity: missing 0002_0000-0003_0000: not in this run" in told.err
    bare = tmp_path / "bare"
    shutil.copytree(part, bare)
    with RunStore.open(bare) as store:
        store.replace_rows([{**row, "field": None} for row in store.rows()])
    for source, options, words in (
        (bare, [], "keeps no displacement fields of toy; run again with `keep: {fields: true}`"),
        (part, ["--method", "demons"], "has no method 'demons'"),
        (part, ["--dataset", "toi"], "has no dataset 'toi'; did you mean 'toy'?"),
        (part, ["--repeat", "3"], "has no results on unchanged data"),
        (task.parent, [], "is not a run folder"),
    ):
        assert invoke(["export", "l2r", str(source), "-o", str(tmp_path / "no"), *options]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_short_name_of_several_pairs_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"Toy_0001_000{visit}" for visit in range(3)]
    for name in names:
        write_scan(tmp_path / "Toy", name)
    task = write_json(tmp_path / "Toy", registration_val=[pair(names[0], names[1]), pair(names[0], names[2])])
    source = run(task, tmp_path / "run", "identity")
    assert invoke(["export", "l2r", str(source), "-o", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert invoke(["export", "l2r", str(source), "-o", str(tmp_path / "out"), "--names", "short"]) == 2
    assert "disp_0001_0001 could be the field of 2 pairs; use --names long" in capsys.readouterr().err
