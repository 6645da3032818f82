"""`regbench merge`: runs put together by key, and what cannot be one table refused in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from regbench.cli import invoke
from regbench.merging import RunsConflict, merge_runs
from regbench.rescore import evaluate_run
from regbench.store import RunStore, read_run

Row = dict[str, Any]


def row(method: str, pair: str = "a_b", key: str = "", started: str = "2026-01-01T00:00:00Z", **changes: Any) -> Row:
    """A row of a run, of which only what a test is about differs."""
    fixed, moving = pair.split("_")
    known: Row = {
        "schema": 1,
        "key": f"sha256:{key or method + pair}",
        "run": "one",
        "dataset": "d",
        "condition": "none",
        "pair": {"id": pair, "fixed": fixed, "moving": moving, "tags": {}},
        "method": method,
        "paradigm": "classical",
        "supervision": "none",
        "method_version": "1",
        "params": {"seed": 0},
        "repeat": 0,
        "seed": 0,
        "status": "ok",
        "reason": None,
        "leaked": None,
        "metrics": {"dice": {"mean": 0.5, "per_label": {"1": 0.5}}},
        "timing": {"register_s": 1.0},
        "memory": {},
        "model": {},
        "threads": 2,
        "device": "cpu",
        "host": "here",
        "started": started,
        "metric_versions": {"dice": 1},
        "timing_mode": "exclusive",
        "label_warp": "nearest",
        "prealign": None,
        "fingerprint": f"content of {pair}",
        "field": None,
        "inverse_field": None,
        "exit": None,
    }
    return known | changes


def write_run(folder: Path, rows: Sequence[Row], **changes: Any) -> Path:
    """A run folder with rows."""
    methods = list(dict.fromkeys(r["method"] for r in rows))
    config = {
        "name": folder.name,
        "datasets": [{"name": "mni-cohort", "label": "d", "parameters": {}}],
        "methods": [{"name": m, "label": m, "parameters": {}} for m in methods],
        "conditions": [{"name": "none", "label": "none", "parameters": {}}],
        "metrics": "standard",
        "leaks": "exclude",
    }
    run = {
        "run": f"{folder.name}-id",
        "name": folder.name,
        "config": config,
        "versions": {"regbench": "0.1.0"},
        "hosts": {f"host of {folder.name}": {"cores": 2}},
        "seed": 0,
        "seeds": [0],
        "datasets": {"d": {"name": "mni-cohort", "parameters": {}, "manifest": {"n_pairs": 1, "subjects": ["a", "b"]}}},
        "conditions": {"none": {"name": "none", "parameters": {}, "version": ""}},
        "metric_versions": {"dice": 1},
        "plan_keys": [r["key"] for r in rows],
        "sessions": [{"started": "2026-01-01T00:00:00Z", "argv": ["regbench"]}],
    }
    with RunStore.open(folder) as store:
        for one in rows:
            store.append(one)
        store.write_run_json({**run, **changes})
    return folder


def places(folder: Path) -> list[tuple[str, str]]:
    return [(r["method"], r["pair"]["id"]) for r in read_run(folder).rows]


def test_the_rows_of_all_runs_are_one_table(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", [row("identity"), row("identity", "b_c"), row("demons"), row("demons", "b_c")])
    two = write_run(tmp_path / "two", [row("affine"), row("affine", "b_c")])
    (one / "fields").mkdir()
    (one / "fields" / "f.npz").write_bytes(b"field")
    (two / "logs").mkdir()
    (two / "logs" / "affine.log").write_text("log")
    (two / "pictures").mkdir()
    (two / "pictures" / "d__none__b_c__affine.npz").write_bytes(b"picture")
    rows = [r | ({"field": "fields/f.npz"} if r["method"] == "demons" else {}) for r in read_run(one).rows]
    with RunStore.open(one) as store:
        store.replace_rows(rows)
        store.append_prealignment({"key": "p", "matrix": [[1]]})
    merged = merge_runs([one, two], tmp_path / "all", ["regbench", "merge"])
    assert (merged.n_rows, merged.n_runs, merged.notes) == (6, 2, ())
    out = tmp_path / "all"
    assert places(out) == [*places(one), *places(two)]
    assert (out / "fields/f.npz").read_bytes() == b"field"
    assert (out / "logs/two-id__affine.log").read_text() == "log"
    assert (out / "pictures/d__none__b_c__affine.npz").read_bytes() == b"picture"
    run = read_run(out).run
    assert [told["run"] for told in run["merged"]] == ["one-id", "two-id"]
    assert [told["rows"] for told in run["merged"]] == [4, 2]
    assert [entry["label"] for entry in run["config"]["methods"]] == ["identity", "demons", "affine"]
    assert set(run["hosts"]) == {"host of one", "host of two"}
    assert run["datasets"]["d"]["manifest"] == {"n_pairs": 2, "subjects": ["a", "b", "c"]}
    with RunStore.open(out) as store:
        assert list(store.prealignments()) == ["p"]


def test_the_newest_of_a_key_counts_wherever_it_is(tmp_path: Path) -> None:
    old = row("demons", metrics={"dice": {"mean": 0.1}})
    new = row("demons", started="2026-02-01T00:00:00Z", metrics={"dice": {"mean": 0.9}})
    folders = [write_run(tmp_path / "new", [new, row("identity")]), write_run(tmp_path / "old", [old])]
    for order in (folders, folders[::-1]):
        merged = merge_runs(order, tmp_path / "all")
        assert merged.notes == ("one result is in more than one run; the newest counts",)
        rows = {r["method"]: r for r in read_run(tmp_path / "all").rows}
        assert rows["demons"]["metrics"]["dice"]["mean"] == 0.9 and len(rows) == 2


def test_a_merge_is_the_same_again_and_no_other_run_is_overwritten(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one", [row("a")]), write_run(tmp_path / "two", [row("b")])
    contents = []
    for _ in range(2):
        merge_runs([one, two], tmp_path / "all")
        contents.append([(tmp_path / "all" / name).read_bytes() for name in ("run.json", "results.jsonl")])
    assert contents[0] == contents[1]
    three = write_run(tmp_path / "three", [row("c")])
    assert merge_runs([tmp_path / "all", three], tmp_path / "more").n_rows == 3
    for folders, out, words in (
        ([one, two], three, "holds a run that is no merge"),
        ([one, two], two, "is one of the runs to merge"),
        ([one], tmp_path / "x", "give two or more"),
        ([one, one], tmp_path / "x", "given twice"),
        ([one, tmp_path], tmp_path / "x", "is not a run folder"),
    ):
        with pytest.raises(Exception, match=words):
            merge_runs(folders, out)
    assert not (tmp_path / "x").exists()


SHIFTED = {"none": {"name": "none", "parameters": {}}, "noise": {"name": "noise", "parameters": {"strength": 0.1}}}


@pytest.mark.parametrize(
    ("rows", "changes", "words"),
    [
        (
            [row("b", fingerprint="other")],
            {},
            "pair 'a_b' of dataset 'd' is not the same in both .*content of its files",
        ),
        ([row("a", "b_c", method_version="2")], {}, "method 'a' is not the same in both .*version: 1 against 2"),
        ([row("a", "b_c", params={"steps": 3})], {}, "method 'a' .*steps: none against 3"),
        ([row("b", label_warp="linear")], {}, None),
        ([row("a", key="x", seed=1)], {}, "both have a on a_b of d .*seed: 0 against 1"),
        ([row("b", prealign={"kind": "affine"})], {}, "the shared pre-alignment .*none against affine"),
        ([row("b")], {"metric_versions": {"dice": 2}}, "metric dice .*version: 1 against 2"),
        (
            [row("b")],
            {"datasets": {"d": {"name": "mni-cohort", "parameters": {"spacing_mm": 3}}}},
            "dataset 'd' .*spacing_mm: .* against 3",
        ),
        (
            [row("b", "b_c")],
            {"datasets": {"d": {"name": "mni-cohort", "parameters": {"seed": 7}}}},
            "dataset 'd' .*seed: 0 against 7",
        ),
        ([row("b")], {"datasets": {"d": {"name": "mni-cohort", "parameters": {"pairs": "random:3"}}}}, None),
        ([row("b")], {"conditions": SHIFTED | {"noise": {"name": "noise", "parameters": {"strength": 0.2}}}}, "noise"),
        ([row("b")], {"conditions": SHIFTED, "seed": 5}, "condition 'noise' .*drawn with seed: 0 against 5"),
    ],
)
def test_what_cannot_be_one_table_is_refused(
    rows: list[Row], changes: dict[str, Any], words: str | None, tmp_path: Path
) -> None:
    one = write_run(tmp_path / "one", [row("a")], conditions=SHIFTED)
    two = write_run(tmp_path / "two", rows, **changes)
    if words is None:
        assert merge_runs([one, two], tmp_path / "all").n_rows == 2
        return
    with pytest.raises(RunsConflict, match=words) as refused:
        merge_runs([one, two], tmp_path / "all")
    assert str(refused.value).startswith(f"{one} and {two}: ") and "\n" not in str(refused.value)
    assert not (tmp_path / "all").exists()


def test_what_a_reader_should_know_is_told(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", [row("a"), row("a", "b_c")])
    two = write_run(tmp_path / "two", [row("b", host="there", threads=1)], versions={"regbench": "0.2.0"})
    notes = merge_runs([one, two], tmp_path / "all").notes
    assert [note.split(" (")[0].split(":")[0] for note in notes] == [
        "results come from several machines",
        "results come from several numbers of threads",
        "d",
        "the runs were made by several versions of regbench",
    ]
    assert read_run(tmp_path / "all").run["merge_notes"] == list(notes)


def test_the_command_shows_the_table_and_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = write_run(tmp_path / "one", [row("identity")]), write_run(tmp_path / "two", [row("demons")])
    assert invoke(["merge", str(one), str(two), "-o", str(tmp_path / "all")]) == 0
    told = capsys.readouterr().out
    assert "2 results of 2 runs" in told and "identity" in told and "demons" in told
    assert (tmp_path / "all/report.html").exists() and (tmp_path / "all/summary.csv").exists()
    wrong = write_run(tmp_path / "wrong", [row("b", fingerprint="other")])
    assert invoke(["merge", str(one), str(wrong), "-o", str(tmp_path / "no")]) == 4
    assert "pair 'a_b' of dataset 'd' is not the same in both" in capsys.readouterr().err
    assert invoke(["merge", str(one), "-o", str(tmp_path / "no")]) == 2
    assert json.loads((tmp_path / "all/run.json").read_text())["name"] == "all"
    with pytest.raises(Exception, match="keeps no displacement fields"):
        evaluate_run(tmp_path / "all")
