"""Commands over a run folder, as a user gives them: run, interrupt, go on, evaluate, report, compare."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from regbench.cli import invoke

SLOW_METHOD = '''
import time
from dataclasses import dataclass

import numpy as np

from regbench.displacement import Displacement


@dataclass(frozen=True)
class Slow:
    """A method that takes its time."""

    seconds: float = 30.0

    def register(self, pair):
        time.sleep(self.seconds)
        return Displacement(np.zeros((*pair.fixed.grid.shape, pair.ndim), np.float32), pair.fixed.grid)
'''


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a config of two pairs and two quick methods; fields are kept."""
    monkeypatch.chdir(tmp_path)
    for name, radius in (("a", 6.0), ("b", 8.0), ("c", 7.0)):
        disk = (np.hypot(*(np.indices((24, 20)) - np.array([12, 10]).reshape(2, 1, 1))) < radius).astype(np.uint8)
        for end in ("", "_labels"):
            nib.save(nib.Nifti1Image(disk[..., None], np.diag([2.0, 2.0, 1.0, 1.0])), tmp_path / f"{name}{end}.nii.gz")
    rows = [f"{f}.nii.gz,{m}.nii.gz,{f}_labels.nii.gz,{m}_labels.nii.gz" for f, m in ("ab", "bc")]
    (tmp_path / "pairs.csv").write_text("\n".join(["fixed,moving,fixed_labels,moving_labels", *rows]) + "\n")
    path = tmp_path / "bench.yaml"
    path.write_text(
        "datasets: [pairs.csv]\nmethods: [identity, moments]\nmetrics: [dice, ncc]\nkeep: {fields: true, pictures: 0}\n"
    )
    return path


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_run_shows_a_table_and_where_the_files_are(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "bench.yaml"]) == 0
    shown = capfd.readouterr()
    for words in ("identity", "moments", "Dice", "runs/bench/report.html", "runs/bench/results.csv"):
        assert words in shown.out
    assert "[4/4]" in shown.err
    assert len(_rows(Path("runs/bench"))) == 4


def test_only_and_limit_run_a_part_and_the_rest_follows(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "bench.yaml", "--only", "moments", "--limit", "1"]) == 0
    assert [(row["method"], row["pair"]["id"]) for row in _rows(Path("runs/bench"))] == [("moments", "a_b")]
    assert invoke(["run", "bench.yaml"]) == 0
    assert "3 cases to do (1 of 4 were done before)" in capfd.readouterr().err
    assert invoke(["run", "bench.yaml", "--only", "moment"]) == 2
    assert "--only: the config has no method 'moment'; did you mean 'moments'?" in capfd.readouterr().err


def test_evaluate_scores_kept_fields_again(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = Path("runs/bench")
    assert invoke(["run", "bench.yaml", "--only", "identity"]) == 0
    before = _rows(folder)
    assert invoke(["evaluate", str(folder), "--metrics", "dice,fold_percent"]) == 0
    after = _rows(folder)
    assert [set(row["metrics"]) for row in after] == [{"dice", "fold_percent"}] * 2
    assert [row["metrics"]["dice"] for row in after] == [row["metrics"]["dice"] for row in before]
    assert [row["timing"]["register_s"] for row in after] == [row["timing"]["register_s"] for row in before]


def test_report_writes_the_derived_files_again(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "bench.yaml"]) == 0
    first = capfd.readouterr().out
    derived = [Path("runs/bench") / name for name in ("report.html", "results.csv", "summary.csv")]
    for path in derived:
        path.unlink()
    assert invoke(["report", "runs/bench"]) == 0
    assert capfd.readouterr().out == first
    assert all(path.exists() for path in derived)


def test_compare_with_a_baseline(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "bench.yaml"]) == 0
    assert invoke(["compare", "base.json", "runs/bench", "--update-baseline"]) == 0
    assert invoke(["compare", "base.json", "runs/bench"]) == 0
    base = json.loads(Path("base.json").read_text())
    (methods,) = (conditions["none"] for conditions in base["values"].values())
    methods["identity"]["a_b"]["dice"] += 0.01
    Path("base.json").write_text(json.dumps(base))
    capfd.readouterr()
    assert invoke(["compare", "base.json", "runs/bench"]) == 1
    assert "regression" in capfd.readouterr().out
    assert invoke(["compare", "base.json", "runs/bench", "--tol", "dice=0.02"]) == 0
    capfd.readouterr()
    assert invoke(["compare", "base.json", "runs/bench", "--format", "json"]) == 1
    assert json.loads(capfd.readouterr().out)["counts"]["regression"] == 1
    assert invoke(["compare", "base.json", "runs/bench", "--tol", "dize=0.02"]) == 2
    assert invoke(["compare", "runs/bench", "runs/bench", "--update-baseline"]) == 2


def test_a_run_in_which_everything_is_skipped_is_no_success(
    bench: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from regbench.methods import table
    from regbench.methods.card import Package

    monkeypatch.setattr(table, "missing_needs", lambda card: [Package("no_such_module", "no-such-package")])
    assert invoke(["run", "bench.yaml"]) == 5
    shown = capfd.readouterr().err
    assert "pip install no-such-package" in shown
    assert "nothing was run: every case was skipped" in shown


def test_an_interrupted_run_is_summarised_and_goes_on(bench: Path) -> None:
    (bench.parent / "slow.py").write_text(SLOW_METHOD)
    bench.write_text(bench.read_text().replace("moments", "{'slow.py:Slow': {as: slow}}"))
    command = [sys.executable, "-m", "regbench", "run", "bench.yaml"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    results = Path("runs/bench/results.jsonl")
    deadline = time.monotonic() + 60
    while not (results.exists() and results.read_bytes().count(b"\n") == 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted with 2 of 4 cases done; the same command goes on from there." in err
    assert "Traceback" not in err
    assert "identity" in out
    assert "runs/bench/report.html" in out
    assert [row["status"] for row in _rows(Path("runs/bench"))] == ["ok", "ok"]
    # The same command goes on; its time limit ends what would take too long, and the exit code says so.
    assert invoke(["run", "bench.yaml", "--timeout", "0.5"]) == 1
    assert [row["status"] for row in _rows(Path("runs/bench"))] == ["ok", "ok", "timeout", "timeout"]
