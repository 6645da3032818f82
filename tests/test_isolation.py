"""What a method may do wrong, and that each becomes a row that says so, without harm to any other case."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support_runs import Recorder, own, tiny_config, write_pairs

from regbench.isolation import Limits, Supervisor, WorkerPlace, describe_death
from regbench.runner import RunOutcome, run
from regbench.store import read_run

# What the method does -> the status of its case and a part of the reason.
EXPECTED = {
    "raises": ("failed", "while registering: ValueError: no such luck"),
    "fails": ("failed", "the optimiser did not converge; use more iterations"),
    "declines": ("skipped", "wants cubic voxels"),
    "exits_python": ("failed", "SystemExit: 7"),
    "exits_at_once": ("crashed", "exited with code 7 while registering; see logs/misbehaving.log"),
    "segfaults": ("crashed", "killed by SIGSEGV (a memory access violation in native code) while registering"),
    "aborts": ("crashed", "killed by SIGABRT"),
    "is_killed": ("oom", "killed by SIGKILL while registering, most likely by the kernel's out-of-memory killer"),
    "sleeps": ("timeout", "still registering at the time limit of 1.5 s"),
    "holds_the_gil": ("timeout", "still registering at the time limit of 1.5 s"),
    "leaves_a_child": ("timeout", "still registering at the time limit of 1.5 s"),
    "wants_too_much": ("oom", "out of memory while registering"),
    "gives_nan": ("invalid", "NaN"),
    "gives_another_grid": ("invalid", "another grid"),
    "gives_an_array": ("invalid", "register returned ndarray, not a Displacement"),
    "writes_into_its_input": ("failed", "read-only"),
    "talks": ("ok", None),
}


@pytest.fixture(scope="module")
def bad_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunOutcome, list[dict[str, Any]]]:
    """A run of one method that misbehaves on every other pair, in the way that the pair is called."""
    folder = tmp_path_factory.mktemp("bad")
    names = [name for how in EXPECTED for name in (how, f"after-{how}")]
    config = tiny_config(write_pairs(folder, names), [own("Misbehaving")], engine={"timeout_s": 1.5})
    outcome = run(config, folder / "run", listener=Recorder())
    return folder / "run", outcome, read_run(folder / "run").rows


@pytest.mark.parametrize("how", EXPECTED)
def test_misbehaviour_is_a_row_with_a_reason_and_harms_no_other_case(how: str, bad_run: Any) -> None:
    rows = {row["pair"]["id"]: row for row in bad_run[2]}
    row, after = rows[how], rows[f"after-{how}"]
    status, reason = EXPECTED[how]
    assert row["status"] == status, row["reason"]
    assert row["reason"] is None if reason is None else reason in row["reason"]
    assert "\n" not in (row["reason"] or "")
    assert after["status"] == "ok", after["reason"]
    assert after["metrics"]["fold_percent"]["mean"] == 0


def test_the_outcome_counts_failures_and_skips_apart(bad_run: Any) -> None:
    outcome = bad_run[1]
    n_failed = sum(status not in ("ok", "skipped") for status, _ in EXPECTED.values())
    assert (outcome.n_cases, outcome.n_skipped, outcome.n_not_ok) == (2 * len(EXPECTED), 1, n_failed)
    assert outcome.n_ok == outcome.n_cases - n_failed - 1


def test_what_a_method_prints_goes_to_its_log(bad_run: Any) -> None:
    log = (bad_run[0] / "logs" / "misbehaving.log").read_text()
    for line in ("said in Python", "said by a program", "said to descriptor 1", "ValueError: no such"):
        assert line in log


def test_children_of_a_killed_method_are_killed_with_it(bad_run: Any) -> None:
    assert not _processes_with("61.25")


def test_a_worker_above_the_memory_limit_is_killed(tmp_path: Path) -> None:
    engine = {"timeout_s": 60.0, "memory_mib": 200}
    config = tiny_config(write_pairs(tmp_path, ["bad", "good"]), [own("Misbehaving", how="grows")], engine=engine)
    run(config, tmp_path / "run")
    rows = {row["pair"]["id"]: row for row in read_run(tmp_path / "run").rows}
    assert rows["bad"]["status"] == "oom" and rows["good"]["status"] == "ok"
    assert "MiB while registering, more than the limit of 200 MiB" in rows["bad"]["reason"]
    assert rows["bad"]["exit"] == "killed at the memory limit"


def test_workers_leave_no_temporary_folders_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    csv = write_pairs(tmp_path, ["bad", "good"])
    run(tiny_config(csv, [own("Misbehaving", how="exits_at_once")]), tmp_path / "run")
    assert not list(tmp_path.glob("regbench-worker-*"))


def _processes_with(text: str) -> list[str]:
    """Command lines of running processes that have a text in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found


# -- the supervisor alone -----------------------------------------------------------------------------


class _Scripted(Supervisor):
    """A supervisor of a worker that exists as a pipe only: the test writes what the worker says."""

    def __init__(self, limits: Limits, tmp_path: Path) -> None:
        super().__init__(WorkerPlace(tmp_path, tmp_path / "logs" / "x.log"), limits)
        self.clock = 0.0

    def _start(self) -> None:
        reading, self._requests = os.pipe()
        self._answers, self.said = os.pipe()
        os.close(reading)
        os.set_blocking(self._answers, False)

    def _has_exited(self) -> bool:
        return False

    def say(self, line: bytes) -> None:
        os.write(self.said, line)


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Scripted:
    supervisor = _Scripted(Limits(method_s=10, side_s=100), tmp_path)
    monkeypatch.setattr("regbench.isolation.time.monotonic", lambda: supervisor.clock)
    supervisor.give({})
    return supervisor


def _result(**values: Any) -> bytes:
    return json.dumps({"result": {"status": "ok", "reason": None, **values}}).encode() + b"\n"


def test_the_time_limit_adds_up_the_methods_own_phases_only(scripted: _Scripted) -> None:
    scripted.say(b'{"phase":"loading"}\n')
    assert scripted.check() is None
    scripted.clock = 6.0
    scripted.say(b'{"phase":"reading"}\n')
    assert scripted.check() is None
    scripted.clock = 90.0
    scripted.say(b'{"phase":"registering"}\n')
    assert scripted.check() is None
    assert scripted.seconds_to_limit() == pytest.approx(4.0)
    scripted.clock = 93.9
    assert scripted.check() is None
    scripted.clock = 94.0
    outcome = scripted.check()
    assert outcome is not None and outcome.status == "timeout" and "time limit of 10 s" in str(outcome.reason)


def test_reading_has_a_limit_of_its_own(scripted: _Scripted) -> None:
    scripted.say(b'{"phase":"reading"}\n')
    scripted.check()
    scripted.clock = 99.0
    assert scripted.check() is None
    scripted.clock = 100.0
    outcome = scripted.check()
    assert outcome is not None and outcome.reason == "reading took longer than 100 s"


def test_a_result_that_arrives_in_pieces_is_put_together(scripted: _Scripted) -> None:
    line = _result(metrics={"dice": 0.5})
    scripted.say(line[:7])
    assert scripted.check() is None
    scripted.say(line[7:])
    outcome = scripted.check()
    assert outcome is not None and outcome.result == {"status": "ok", "reason": None, "metrics": {"dice": 0.5}}


def test_a_result_that_came_before_the_limit_counts(scripted: _Scripted) -> None:
    scripted.say(b'{"phase":"registering"}\n' + _result())
    scripted.clock = 1000.0
    outcome = scripted.check()
    assert outcome is not None and outcome.status == "ok"


@pytest.mark.parametrize("line", [b"noise\n", b"{}\n", b"[1]\n", b'{"result": 3}\n'])
def test_what_is_no_message_is_a_crash(scripted: _Scripted, line: bytes) -> None:
    scripted.say(line)
    outcome = scripted.check()
    assert outcome is not None and outcome.status == "crashed"


@pytest.mark.parametrize(
    ("code", "is_exit", "status", "words"),
    [
        (3, True, "crashed", "exited with code 3"),
        (11, False, "crashed", "SIGSEGV"),
        (9, False, "oom", "out-of-memory killer"),
        (64, False, "crashed", "while registering"),
    ],
)
def test_deaths_are_told_in_words(code: int, is_exit: bool, status: str, words: str) -> None:
    outcome = describe_death(code, is_exit, "registering", Path("run/logs/demons.log"))
    assert outcome.status == status
    assert words in str(outcome.reason)


def test_a_worker_is_kept_between_cases_and_replaced_after_a_crash(tmp_path: Path) -> None:
    supervisor = Supervisor(WorkerPlace(tmp_path, tmp_path / "w.log"), Limits())
    request = {"do": "run", "case": _any_case(tmp_path), "prealign": None}
    try:
        assert _finish(supervisor, request)["status"] == "ok"
        assert _finish(supervisor, request)["status"] == "ok"
        assert supervisor.n_starts == 1
        supervisor.stop(at_once=True)
        assert _finish(supervisor, request)["status"] == "ok"
        assert supervisor.n_starts == 2
    finally:
        supervisor.stop()


def test_a_worker_that_died_between_two_cases_harms_neither(tmp_path: Path) -> None:
    supervisor = Supervisor(WorkerPlace(tmp_path, tmp_path / "w.log"), Limits())
    request = {"do": "run", "case": _any_case(tmp_path), "prealign": None}
    try:
        assert _finish(supervisor, request)["status"] == "ok"
        assert supervisor._process is not None
        os.kill(supervisor._process.pid, signal.SIGSEGV)
        time.sleep(0.1)
        assert _finish(supervisor, request)["status"] == "ok"
        assert supervisor.n_starts == 2
    finally:
        supervisor.stop()


def _any_case(folder: Path) -> dict[str, Any]:
    from regbench.plan import make_plan

    return make_plan(tiny_config(write_pairs(folder, ["a"]), [own("Steady")])).cases[0].as_json()


def _finish(supervisor: Supervisor, request: Mapping[str, Any]) -> Mapping[str, Any]:
    supervisor.give(request)
    deadline = time.monotonic() + 20
    while (outcome := supervisor.check()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert outcome is not None and outcome.result is not None, outcome
    return outcome.result
