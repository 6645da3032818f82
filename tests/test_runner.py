"""Whole runs on tiny pairs: rows, resuming, killing, interrupting, pre-alignment, several workers, scoring again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_runs import PYTHON_PATH, Recorder, own, tiny_config, write_pairs

from regbench.errors import DatasetError, StoreError
from regbench.rescore import evaluate_run
from regbench.runner import run
from regbench.store import STATUSES, read_run

ROW_KEYS = {
    *("schema", "key", "run", "dataset", "condition", "pair", "method", "paradigm", "supervision", "method_version"),
    *("params", "repeat", "seed", "status", "reason", "metrics", "timing", "memory", "threads", "device", "host"),
    *("started", "metric_versions", "timing_mode", "prealign"),
}


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_pairs(tmp_path, ["a", "b", "c"])


def _calls(trace: Path) -> Counter[str]:
    """How often each pair was registered, from the trace of a `Steady` method."""
    return Counter(line.split()[0] for line in trace.read_text().splitlines()) if trace.exists() else Counter()


# -- rows -------------------------------------------------------------------------------------------


def test_a_run_yields_rows_a_record_and_calls(tmp_path: Path, csv: Path) -> None:
    recorder = Recorder()
    methods = [own("SlowToPrepare"), own("Translation", by_mm=2.0)]
    outcome = run(tiny_config(csv, methods, keep={"fields": True, "pictures": 1}), tmp_path / "run", listener=recorder)
    assert (outcome.n_cases, outcome.n_ok, outcome.n_not_ok, outcome.interrupted) == (6, 6, 0, False)
    record = read_run(tmp_path / "run")
    assert recorder.n_planned == len(recorder.started) == len(record.rows) == 6
    assert recorder.rows == record.rows
    for row in record.rows:
        assert set(row) >= ROW_KEYS and row["status"] in STATUSES
        assert row["timing_mode"] == "exclusive" and row["threads"] == 1
        assert (tmp_path / "run" / row["field"]).is_file()
    steady, moved = record.rows[0], record.rows[3]
    assert steady["timing"]["setup_s"] >= 0.2 > steady["timing"]["register_s"]
    # The moving blob lies one voxel of 2 mm further: the translation undoes that exactly.
    assert moved["metrics"]["dice"]["mean"] == 1.0 > steady["metrics"]["dice"]["mean"]
    assert moved["metric_versions"] == {"dice": 1, "fold_percent": 1}
    pictures = sorted(path.name for path in (tmp_path / "run" / "pictures").iterdir())
    assert pictures == ["tiny__none__a__slowtoprepare.npz", "tiny__none__a__translation.npz"]
    with np.load(tmp_path / "run" / "pictures" / pictures[1]) as planes:
        assert {"fixed_0", "moved_0", "fixed_labels_0", "moved_labels_0", "jacobian_0"} <= set(planes.files)
        np.testing.assert_array_equal(planes["fixed_labels_0"], planes["moved_labels_0"])
        np.testing.assert_allclose(planes["jacobian_0"][1:-1, 1:-1], 1.0)


def test_run_json_records_what_when_where(tmp_path: Path, csv: Path) -> None:
    run(tiny_config(csv, [own("Steady")]), tmp_path / "run", argv=["regbench", "run", "x.yaml"])
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["schema"] == 1 and record["run"].startswith("tiny-") and record["argv"][1] == "run"
    assert record["versions"]["numpy"] == np.__version__ and record["versions"]["python"]
    (host,) = record["hosts"].values()
    assert host["cores"] >= 1 and host["cpu"]
    assert record["config"]["methods"][0]["label"] == "steady"
    assert record["datasets"]["tiny"]["manifest"]["n_pairs"] == 3
    assert record["sessions"][0]["interrupted"] is False
    assert len(record["plan_keys"]) == 3


def test_peak_memory_is_that_of_the_call(tmp_path: Path, csv: Path) -> None:
    run(tiny_config(csv, [own("UsesMemory", mib=100, on="b")]), tmp_path / "run")
    memory = {row["pair"]["id"]: row["memory"] for row in read_run(tmp_path / "run").rows}
    grown = {name: m["rss_peak_mib"] - m["rss_before_mib"] for name, m in memory.items()}
    assert 95 <= grown["b"] <= 130
    # The peak is reset before each call, so that a big case does not mark those after it.
    assert grown["a"] < 30 and grown["c"] < 30


def test_a_bad_pair_fails_alone(tmp_path: Path, csv: Path) -> None:
    (tmp_path / "b_moving.nii.gz").write_bytes(b"not an image")
    (tmp_path / "c_fixed.nii.gz").unlink()
    outcome = run(tiny_config(csv, [own("Steady")]), tmp_path / "run")
    rows = {row["pair"]["id"]: row for row in read_run(tmp_path / "run").rows}
    assert {name: row["status"] for name, row in rows.items()} == {"a": "ok", "b": "failed", "c": "failed"}
    assert "b_moving.nii.gz" in rows["b"]["reason"] and "c_fixed.nii.gz" in rows["c"]["reason"]
    assert (outcome.n_ok, outcome.n_not_ok) == (1, 2)


def test_a_config_that_cannot_run_writes_nothing(tmp_path: Path, csv: Path) -> None:
    csv.write_text("fixed,moving\n")
    with pytest.raises(DatasetError):
        run(tiny_config(csv, [own("Steady")]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# -- both directions, label warps, size of the model -----------------------------------------------------


@pytest.mark.parametrize("prealign", ["none", "moments"])
def test_inverse_consistency_where_a_method_gives_both_directions(tmp_path: Path, csv: Path, prealign: str) -> None:
    config = tiny_config(csv, [own("BothWays", slip_mm=0.5)], metrics=["ice_mm"], prealign=prealign)
    run(config, tmp_path / "run")
    for row in read_run(tmp_path / "run").rows:
        assert row["metrics"]["ice_mm"]["mean"] == pytest.approx(0.5, abs=1e-4)
        assert "register_back_s" not in row["timing"]


def test_a_config_can_ask_for_both_directions(tmp_path: Path, csv: Path) -> None:
    """A method that moves 2 mm to one side in either direction ends 4 mm away."""
    methods = [own("Translation", by_mm=2.0), own("Misbehaving")]
    both = tiny_config(csv, methods, metrics=["ice_mm"], both_directions=True, keep={"fields": True, "pictures": 0})
    run(both, tmp_path / "run")
    one_way = run(tiny_config(csv, methods, metrics=["ice_mm"]), tmp_path / "one-way")
    assert one_way.n_ok == 6 and all(not row["metrics"] for row in read_run(tmp_path / "one-way").rows)
    moved, still = (read_run(tmp_path / "run").rows[i] for i in (0, 3))
    assert moved["metrics"]["ice_mm"]["mean"] == pytest.approx(4.0)
    assert moved["timing"]["register_back_s"] > 0
    assert still["metrics"]["ice_mm"]["mean"] == 0
    # The other direction is kept too, so that it can be scored again.
    assert (tmp_path / "run" / moved["inverse_field"]).is_file()
    assert evaluate_run(tmp_path / "run") == 6
    assert read_run(tmp_path / "run").rows[0]["metrics"]["ice_mm"]["mean"] == pytest.approx(4.0)
    keys = [{row["key"] for row in read_run(tmp_path / name).rows} for name in ("run", "one-way")]
    assert not keys[0] & keys[1]


def test_labels_are_warped_as_the_config_says(tmp_path: Path, csv: Path) -> None:
    values = {}
    for mode in ("nearest", "linear", "soft"):
        config = tiny_config(csv, [own("Translation", by_mm=0.9)], metrics=["dice"], label_warp=mode)
        run(config, tmp_path / mode)
        row = read_run(tmp_path / mode).rows[0]
        assert row["label_warp"] == mode
        values[mode] = row["metrics"]["dice"]["mean"]
    # Half a voxel less 10 %: the nearest label stays; votes of fractions change the soft overlap.
    assert values["soft"] not in (values["nearest"], values["linear"])


def test_kept_fields_can_be_scored_with_another_label_warp(tmp_path: Path, csv: Path) -> None:
    config = tiny_config(csv, [own("Translation", by_mm=0.9)], metrics=["dice"], keep={"fields": True, "pictures": 0})
    run(config, tmp_path / "run")
    before = read_run(tmp_path / "run").rows[0]["metrics"]["dice"]["mean"]
    evaluate_run(tmp_path / "run", label_warp="soft")
    after = read_run(tmp_path / "run").rows[0]
    assert after["label_warp"] == "soft" and after["metrics"]["dice"]["mean"] != before


def test_the_size_of_a_network_stands_in_its_rows(tmp_path: Path, csv: Path) -> None:
    run(tiny_config(csv, [own("Sized"), own("Steady")]), tmp_path / "run")
    rows = read_run(tmp_path / "run").rows
    assert rows[0]["model"] == {"model_parameters": 1234, "model_mib": 0.5}
    assert rows[3]["model"] == {}


# -- resuming -----------------------------------------------------------------------------------------


def test_running_again_runs_what_is_missing_only(tmp_path: Path, csv: Path) -> None:
    trace = tmp_path / "trace"
    config = tiny_config(csv, [own("Steady", trace=str(trace)), own("FailsOn", pair="b")])
    first = run(config, tmp_path / "run", limit=2)
    second = run(config, tmp_path / "run")
    assert (first.n_cases, second.n_cases, second.n_done_before) == (4, 6, 4)
    assert _calls(trace) == {"a": 1, "b": 1, "c": 1}
    third = run(config, tmp_path / "run", retry_failed=True)
    assert (third.n_done_before, third.n_ok, third.n_not_ok) == (5, 5, 1)
    assert _calls(trace) == {"a": 1, "b": 1, "c": 1}
    lines = (tmp_path / "run" / "results.jsonl").read_text().splitlines()
    assert len(lines) == 7 and len(read_run(tmp_path / "run").rows) == 6
    run(config, tmp_path / "run", fresh=True, only=["steady"])
    assert _calls(trace) == {"a": 2, "b": 2, "c": 2}
    assert len(read_run(tmp_path / "run").rows) == 3


def test_a_part_of_a_config_does_not_hide_its_other_rows_but_another_config_does(tmp_path: Path, csv: Path) -> None:
    config = tiny_config(csv, [own("Steady"), own("Translation")])
    run(config, tmp_path / "run")
    run(config, tmp_path / "run", only=["translation"], limit=1)
    assert len(read_run(tmp_path / "run").rows) == 6
    run(tiny_config(csv, [own("Translation")]), tmp_path / "run")
    assert [row["method"] for row in read_run(tmp_path / "run").rows] == ["translation"] * 3


def test_a_change_of_metrics_is_said(tmp_path: Path, csv: Path) -> None:
    run(tiny_config(csv, [own("Steady")]), tmp_path / "run")
    recorder = Recorder()
    run(tiny_config(csv, [own("Steady")], metrics=["dice", "ncc"]), tmp_path / "run", listener=recorder)
    assert recorder.n_done == 3 and "regbench evaluate" in recorder.messages[0]


_SCRIPT = """
import sys
from pathlib import Path
from support_runs import own, tiny_config
from regbench.runner import run
csv, folder, trace = (Path(a) for a in sys.argv[1:4])
methods = [own("Steady", label=f"m{i}", trace=f"{trace}{i}", seconds=0.1) for i in range(2)]
workers = int(sys.argv[4])
# With one worker the shared pre-alignment is killed and resumed, too.
config = tiny_config(csv, methods, prealign="moments" if workers == 1 else "none")
outcome = run(config, folder, workers=workers)
print(outcome.n_cases, outcome.n_ok, outcome.interrupted)
"""


def _start(csv: Path, folder: Path, trace: Path, workers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _SCRIPT, str(csv), str(folder), str(trace), str(workers)]
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _workers_of(folder: Path) -> list[int]:
    """Processes that have the run folder in their command line and are still alive: its workers and their guards."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            parts = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"regbench.worker" in parts and str(folder).encode() in parts:
            found.append(int(path.parent.name))
    return found


def _wait_until(condition: Any, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


@pytest.mark.parametrize("workers", [1, 2])
def test_killing_the_program_loses_at_most_the_cases_in_flight(tmp_path: Path, workers: int) -> None:
    names = [f"p{i}" for i in range(6)]
    csv, folder, trace = write_pairs(tmp_path, names), tmp_path / "run", tmp_path / "trace"
    random_wait = random.Random(workers)
    n_kills = 3
    for n_rows in (1, 4, 8):
        process = _start(csv, folder, trace, workers)
        results = folder / "results.jsonl"
        _wait_until(lambda n=n_rows, r=results: r.exists() and r.read_bytes().count(b"\n") >= n)
        time.sleep(random_wait.uniform(0, 0.1))
        assert process.poll() is None, "the run ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert _wait_until(lambda: not _workers_of(folder)), "workers outlived the program"
    done = _start(csv, folder, trace, workers).communicate(timeout=60)[0]
    assert done.split() == ["12", "12", "False"]
    keys = [json.loads(line)["key"] for line in (folder / "results.jsonl").read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 12
    calls = [_calls(Path(f"{trace}{method}")) for method in range(2)]
    assert all(count[name] >= 1 for count in calls for name in names)
    assert sum(sum(count.values()) for count in calls) <= 12 + n_kills * workers


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_in_order_and_can_be_resumed(tmp_path: Path, number: int) -> None:
    csv, folder, trace = write_pairs(tmp_path, ["a", "b", "c", "d", "e"]), tmp_path / "run", tmp_path / "trace"
    process = _start(csv, folder, trace, 1)
    results = folder / "results.jsonl"
    assert _wait_until(lambda: results.exists() and results.read_bytes().count(b"\n") >= 2)
    process.send_signal(number)
    output = process.communicate(timeout=20)[0].split()
    assert process.returncode == 0 and output[0] == "10" and output[2] == "True"
    assert 2 <= int(output[1]) < 10
    assert _wait_until(lambda: not _workers_of(folder))
    assert results.read_bytes().endswith(b"\n") and len(read_run(folder).rows) == int(output[1])
    assert _start(csv, folder, trace, 1).communicate(timeout=60)[0].split() == ["10", "10", "False"]


def test_a_full_disk_ends_the_run_with_one_sentence(tmp_path: Path, csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from regbench.store import RunStore

    append, calls = RunStore.append, []

    def full_after_one(self: RunStore, row: Any) -> None:
        if calls:
            raise StoreError("results.jsonl: a result cannot be written: no space left on device")
        calls.append(append(self, row))

    monkeypatch.setattr(RunStore, "append", full_after_one)
    with pytest.raises(StoreError, match="no space left"):
        run(tiny_config(csv, [own("Steady")]), tmp_path / "run")
    monkeypatch.undo()
    assert _wait_until(lambda: not _workers_of(tmp_path / "run"))
    assert run(tiny_config(csv, [own("Steady")]), tmp_path / "run").n_done_before == 1


def test_a_folder_for_fields_that_cannot_be_written_ends_the_run(tmp_path: Path, csv: Path) -> None:
    config = tiny_config(csv, [own("Steady")], keep={"fields": True, "pictures": 0})
    (tmp_path / "run").mkdir()
    run(tiny_config(csv, [own("Translation")]), tmp_path / "run", limit=1)
    (tmp_path / "run" / "fields").write_text("a file in the place of the folder")
    with pytest.raises(StoreError, match="fields"):
        run(config, tmp_path / "run")


# -- several workers, pre-alignment, scoring again ------------------------------------------------------


def test_several_workers_share_the_cases_and_say_so(tmp_path: Path) -> None:
    csv, trace = write_pairs(tmp_path, [f"p{i}" for i in range(4)]), tmp_path / "trace"
    config = tiny_config(csv, [own("Steady", trace=str(trace), seconds=0.3)])
    outcome = run(config, tmp_path / "run", workers=2)
    rows = read_run(tmp_path / "run").rows
    assert outcome.n_ok == 4 and {row["timing_mode"] for row in rows} == {"shared"}
    assert len({line.split()[1] for line in trace.read_text().splitlines()}) == 2
    assert max(_calls(trace).values()) == 1


def test_exclusive_timing_runs_one_worker_at_a_time(tmp_path: Path, csv: Path) -> None:
    trace = tmp_path / "trace"
    config = tiny_config(csv, [own("Steady", trace=str(trace), seconds=0.05)], engine={"workers": 2})
    listener = Recorder()
    run(config, tmp_path / "run", listener=listener)
    assert any("one worker at a time" in text and "all 2" in text for text in listener.messages)
    assert len({line.split()[1] for line in trace.read_text().splitlines()}) == 1
    assert {row["timing_mode"] for row in read_run(tmp_path / "run").rows} == {"exclusive"}


def test_prealignment_is_computed_once_and_composed(tmp_path: Path, csv: Path) -> None:
    config = tiny_config(csv, ["identity", own("Translation", by_mm=0.0)], prealign="moments")
    run(config, tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "prealign.jsonl").read_text().splitlines()]
    assert [record["pair"] for record in records] == ["a", "b", "c"]
    rows = read_run(tmp_path / "run").rows
    plain = read_run(run(tiny_config(csv, ["identity"]), tmp_path / "plain").folder).rows
    for row in rows:
        assert row["prealign"]["kind"] == "moments" and row["prealign"]["seconds"] > 0
        (record,) = (r for r in records if r["pair"] == row["pair"]["id"])
        assert row["prealign"]["matrix"] == record["matrix"]
    # The identity on top of the pre-alignment scores like the pre-alignment, for every method alike.
    assert rows[0]["metrics"]["dice"]["mean"] > plain[0]["metrics"]["dice"]["mean"]
    assert [row["metrics"] for row in rows[:3]] == [row["metrics"] for row in rows[3:]]
    before = (tmp_path / "run" / "prealign.jsonl").read_bytes()
    run(config, tmp_path / "run", retry_failed=True)
    assert (tmp_path / "run" / "prealign.jsonl").read_bytes() == before


def test_a_failed_prealignment_fails_its_pair_for_all_methods(
    tmp_path: Path, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from regbench import runner

    needed = runner.prealign_cases

    def one_bad(cases: Any) -> dict[str, Any]:
        """The pre-alignment of the pair b is asked of a method that cannot estimate."""
        found = needed(cases)
        target = own("Steady")["name"]
        return {
            key: dataclasses.replace(case, method_name=target, params={}) if case.pair["id"] == "b" else case
            for key, case in found.items()
        }

    monkeypatch.setattr(runner, "prealign_cases", one_bad)
    run(tiny_config(csv, ["identity", own("Steady")], prealign="moments"), tmp_path / "run")
    rows = read_run(tmp_path / "run").rows
    for row in rows:
        failed = row["pair"]["id"] == "b"
        assert row["status"] == ("failed" if failed else "ok")
        assert not failed or row["reason"].startswith("shared pre-alignment (moments): ")


def test_kept_fields_are_scored_again_to_the_same_values(tmp_path: Path, csv: Path) -> None:
    config = tiny_config(csv, [own("Translation", by_mm=2.0), own("FailsOn", pair="b")])
    config = config.model_copy(update={"keep": config.keep.model_copy(update={"fields": True})})
    run(config, tmp_path / "run")
    before = read_run(tmp_path / "run").rows
    recorder = Recorder()
    assert evaluate_run(tmp_path / "run", recorder, metrics=["dice", "fold_percent", "ncc"]) == 5
    after = read_run(tmp_path / "run").rows
    assert recorder.n_planned == 5 == len(recorder.rows)
    for old, new in zip(before, after, strict=True):
        assert old["key"] == new["key"] and old["status"] == new["status"]
        if old["status"] == "ok":
            assert {name: new["metrics"][name] for name in old["metrics"]} == old["metrics"]
            assert "ncc" in new["metrics"] and old["timing"]["register_s"] == new["timing"]["register_s"]
    assert (tmp_path / "run" / "results.before-evaluate.jsonl").exists()


def test_scoring_again_refuses_what_it_cannot_do(tmp_path: Path, csv: Path) -> None:
    run(tiny_config(csv, [own("Steady")]), tmp_path / "without")
    with pytest.raises(StoreError, match="keeps no displacement fields"):
        evaluate_run(tmp_path / "without")
    run(tiny_config(csv, [own("Steady")], keep={"fields": True}), tmp_path / "run")
    before = (tmp_path / "run" / "results.jsonl").read_bytes()
    (tmp_path / "a_fixed.nii.gz").write_bytes((tmp_path / "a_moving.nii.gz").read_bytes())
    with pytest.raises(DatasetError, match="the data have changed"):
        evaluate_run(tmp_path / "run")
    assert (tmp_path / "run" / "results.jsonl").read_bytes() == before


def test_a_third_party_method_can_be_a_module_on_the_path(tmp_path: Path, csv: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PYTHONPATH", PYTHON_PATH)
    entry = {"name": "support_methods:Steady", "label": "mine", "parameters": {}}
    assert run(tiny_config(csv, [entry]), tmp_path / "run").n_ok == 3
