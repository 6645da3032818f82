"""The run folder: strict JSON, nothing half-written, one row per key, one writer, nobody else's files."""

from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_runs import PYTHON_PATH

from regbench.errors import StoreError
from regbench.store import RunStore, file_name, one_line, plain_json, read_lines, read_run


def _row(key: str, status: str = "ok", **others: Any) -> dict[str, Any]:
    return {"key": key, "status": status, **others}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with two rows."""
    with RunStore.open(tmp_path / "run") as store:
        store.write_run_json({"run": "r", "plan_keys": ["a", "b"]})
        store.append(_row("a"))
        store.append(_row("b", "failed"))
    return tmp_path / "run"


# -- JSON ---------------------------------------------------------------------------------------------

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(), _values, max_size=4))
def test_any_data_become_one_strict_line(value: dict[str, Any]) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    line = one_line(value)
    assert line.count(b"\n") == 1 and line.endswith(b"\n") and line.isascii()
    assert json.loads(line, parse_constant=refuse) == plain_json(value)


def test_numbers_that_are_none_become_null_and_numpy_becomes_plain() -> None:
    value = {"a": float("nan"), "b": [np.inf, np.float32(0.5)], "c": np.array([1, 2]), "d": (np.nan,), 5: Path("x")}
    assert plain_json(value) == {"a": None, "b": [None, 0.5], "c": [1, 2], "d": [None], "5": "x"}


# -- rows ---------------------------------------------------------------------------------------------


def test_rows_come_back_in_order_and_the_newest_of_a_key_counts(folder: Path) -> None:
    with RunStore.open(folder) as store:
        store.append(_row("a", "failed", reason="again"))
        assert [(row["key"], row["status"]) for row in store.rows()] == [("a", "failed"), ("b", "failed")]
    assert read_run(folder).rows[0]["reason"] == "again"


def test_finished_keys_leave_out_failures_only_when_they_are_retried(folder: Path) -> None:
    with RunStore.open(folder) as store:
        assert store.finished_keys() == {"a", "b"}
        assert store.finished_keys(retry_failed=True) == {"a"}


def test_reading_leaves_out_rows_that_the_plan_no_longer_has(folder: Path) -> None:
    with RunStore.open(folder) as store:
        store.write_run_json({"run": "r", "plan_keys": ["b", "c"]})
    assert [row["key"] for row in read_run(folder).rows] == ["b"]


@pytest.mark.parametrize("n_bytes", [1, 7, 20])
def test_a_torn_last_line_is_cut_off_with_a_warning(
    folder: Path, n_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + one_line(_row("c"))[:n_bytes])
    assert [row["key"] for row in read_run(folder).rows] == ["a", "b"]
    with caplog.at_level(logging.WARNING), RunStore.open(folder) as store:
        assert store.finished_keys() == {"a", "b"}
        store.append(_row("c"))
    assert "torn by a crash" in caplog.text
    assert path.read_bytes() == whole + one_line(_row("c"))


def test_a_last_line_of_zeros_is_cut_off(folder: Path) -> None:
    path = folder / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 40 + b"\n")
    RunStore.open(folder).close()
    assert path.read_bytes() == whole


@settings(max_examples=40)
@given(cut=st.integers(min_value=0, max_value=10_000))
def test_wherever_a_crash_cuts_the_file_whole_rows_survive(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cut")
    rows = [_row(str(n), text="x" * n) for n in range(5)]
    content = b"".join(one_line(row) for row in rows)
    (folder / "results.jsonl").write_bytes(content[: cut % (len(content) + 1)])
    n_whole = content[: cut % (len(content) + 1)].count(b"\n")
    with RunStore.open(folder) as store:
        assert store.rows() == rows[:n_whole]
        store.append(_row("new"))
        assert store.rows() == [*rows[:n_whole], _row("new")]


def test_a_broken_line_in_the_middle_costs_only_itself(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder / "results.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"{broken\n" + second)
    assert [row["key"] for row in read_lines(path)] == ["a", "b"]
    assert "line 2 is not JSON" in caplog.text


def test_a_full_disk_leaves_no_part_of_a_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "results.jsonl").read_bytes()
    write = os.write

    def half_then_full(descriptor: int, data: bytes) -> int:
        if len(data) > 20:
            return write(descriptor, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with RunStore.open(folder) as store:
        monkeypatch.setattr("regbench.store.os.write", half_then_full)
        with pytest.raises(StoreError, match=r"results.jsonl: .* no space left on device; free some space"):
            store.append(_row("c" * 15))
        monkeypatch.undo()
        assert (folder / "results.jsonl").read_bytes() == before
        store.append(_row("d"))
    assert (folder / "results.jsonl").read_bytes() == before + one_line(_row("d"))


# -- the folder ---------------------------------------------------------------------------------------


def test_run_json_is_replaced_as_a_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "run.json").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with RunStore.open(folder) as store:
        monkeypatch.setattr("regbench.store.os.fsync", full)
        with pytest.raises(StoreError, match=r"run\.json cannot be written"):
            store.write_run_json({"run": "other"})
    assert (folder / "run.json").read_bytes() == before
    assert not list(folder.glob("*.tmp"))


def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    for fresh in (False, True):
        with pytest.raises(StoreError, match="has files in it but no run"):
            RunStore.open(tmp_path, fresh=fresh)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(StoreError, match="is a file, not a folder"):
        RunStore.open(tmp_path / "run")
    with pytest.raises(StoreError, match="cannot be made or written"):
        RunStore.open(tmp_path / "run" / "deeper")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_folder_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(StoreError, match="permission denied"):
        RunStore.open(tmp_path / "run")


def test_a_foreign_or_newer_run_json_is_refused(folder: Path) -> None:
    for content, words in (("{", "not valid JSON"), ("[]", "not written by regbench"), ('{"schema": 99}', "schema 99")):
        (folder / "run.json").write_text(content)
        with pytest.raises(StoreError, match=words):
            RunStore.open(folder)


def test_reading_what_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is not a run folder: it has no run\.json"):
        read_run(tmp_path / "nothing")


def test_fresh_puts_results_aside_and_removes_only_what_regbench_wrote(folder: Path) -> None:
    for name in ("fields/a.npz", "fields/mine.txt", "logs/x.log", "report.html", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    old = (folder / "results.jsonl").read_bytes()
    with RunStore.open(folder, fresh=True) as store:
        assert store.rows() == []
    assert (folder / "results.old.jsonl").read_bytes() == old
    assert (folder / "fields" / "mine.txt").exists() and (folder / "notes.txt").exists()
    assert not any((folder / name).exists() for name in ("fields/a.npz", "logs/x.log", "report.html"))


def test_two_writers_at_once_are_refused_and_a_dead_one_is_not_in_the_way(tmp_path: Path) -> None:
    code = (
        "import sys; from regbench.store import RunStore as S; S.open(sys.argv[1]); print('open', flush=True); input()"
    )
    command, environment = (
        [sys.executable, "-c", code, str(tmp_path / "run")],
        {**os.environ, "PYTHONPATH": PYTHON_PATH},
    )
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        with pytest.raises(StoreError, match=rf"another run \(process {other.pid}\) is writing there"):
            RunStore.open(tmp_path / "run")
    finally:
        other.kill()
        other.communicate()
    RunStore.open(tmp_path / "run").close()


def test_rows_can_be_replaced_as_a_whole_with_a_copy_of_the_old_ones(folder: Path) -> None:
    old = (folder / "results.jsonl").read_bytes()
    with RunStore.open(folder) as store:
        backup = store.replace_rows([_row("a", "ok", better=True)])
        store.append(_row("z"))
        assert [row["key"] for row in store.rows()] == ["a", "z"]
    assert backup.read_bytes() == old


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_file_names_are_safe(parts: list[str]) -> None:
    name = file_name(*parts)
    assert name not in ("", ".", "..") and not set(name) & set('/\\:*?"<>|\0\n ')
