"""What a run shows while it goes on, and the exit code that its rows deserve."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from regbench.cli.exit_codes import ExitCode
from regbench.cli.progress import BarListener, LineListener, listener_for, seconds
from regbench.cli.run_results import exit_code, failure_sentences


@dataclass(frozen=True)
class FakeCase:
    method: str
    key: str
    dataset: str = "slices"
    condition: str = "none"
    pair: dict[str, Any] = field(default_factory=lambda: {"id": "a_b"})


@dataclass(frozen=True)
class FakePlan:
    cases: tuple[FakeCase, ...]


PLAN = FakePlan(tuple(FakeCase(method, f"{method}{i}") for method in ("affine", "demons") for i in range(3)))


def _row(status: str = "ok", reason: str | None = None, method: str = "affine") -> dict[str, Any]:
    return {
        "method": method,
        "status": status,
        "reason": reason,
        "pair": {"id": "a_b"},
        "metrics": {"dice": {"mean": 0.5}} if status == "ok" else {},
        "timing": {"register_s": 1.25 if status == "ok" else None},
    }


def test_lines_elsewhere_than_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=80)
    listener = listener_for(console)
    assert isinstance(listener, LineListener)
    with listener:
        listener.plan_ready(PLAN, 4)
        listener.case_started(PLAN.cases[4])
        listener.case_finished(PLAN.cases[4], _row())
        listener.case_finished(PLAN.cases[5], _row("timeout", "took longer than 3 s"))
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "2 cases to do (4 of 6 were done before)",
        "[1/2]  demons  slices  a_b  ok  dice 0.500    1.25 s",
        "[2/2]  demons  slices  a_b  timeout: took longer than 3 s",
    ]


def test_bars_on_a_terminal_count_cases_failures_and_time() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    listener = listener_for(console, lambda: {"affine0", "affine1", "affine2"})
    assert isinstance(listener, BarListener)
    with listener:
        listener.plan_ready(PLAN, 3)
        listener.case_started(PLAN.cases[3])
        console.print(listener._table())
        listener.case_finished(PLAN.cases[3], _row("failed", "no"))
        listener.case_started(PLAN.cases[4])
        console.print(listener._table())
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "3/3" in shown
    assert "done" in shown
    assert "running" in shown
    assert "1/3" in shown
    assert "left" in shown
    assert "1 failed" in shown
    assert "demons: slices a_b" in shown


@pytest.mark.parametrize("width", [60, 80, 140])
def test_bars_fit_the_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    listener = BarListener(console, set)
    plan = FakePlan(tuple(FakeCase("voxelmorph-cohort-sup", f"{i}") for i in range(300)))
    listener.plan_ready(plan, 0)
    listener.case_started(plan.cases[0])
    listener.case_finished(plan.cases[0], _row("failed", "no"))
    console.print(listener._table())
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(len(line) for line in lines) <= width
    assert "1/300" in lines[0]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "-"),
        (0.001, "<0.01 s"),
        (0.4213, "0.42 s"),
        (31.2, "31 s"),
        (250.0, "4:10 min"),
        (7500.0, "2:05 h"),
        (3599.9, "59:59 min"),
    ],
)
def test_durations_are_for_people(value: float | None, words: str) -> None:
    assert seconds(value) == words


@pytest.mark.parametrize(
    ("n_ok", "n_failed", "code"),
    [(2, 0, ExitCode.OK), (1, 1, ExitCode.FAILED), (0, 1, ExitCode.FAILED), (0, 0, ExitCode.NOTHING_DONE)],
)
def test_exit_codes(n_ok: int, n_failed: int, code: ExitCode) -> None:
    assert exit_code(n_ok, n_failed) == code


def test_failures_are_told_once_per_reason(tmp_path: Path) -> None:
    other_pair = {**_row("failed", "no overlap"), "pair": {"id": "b_c"}}
    rows = [_row(), _row("failed", "no overlap"), other_pair, _row("skipped", "not installed", "x")]
    rows += [_row("timeout", "too slow", method) for method in ("x", "y")]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "x.log").write_text("what it printed")
    (tmp_path / "logs" / "y.log").write_text("")
    sentences = failure_sentences(rows, tmp_path)
    assert sentences[:2] == [
        "failed: affine on a_b and 1 more pair: no overlap",
        "skipped: x on a_b: not installed",
    ]
    assert sentences[2] == f"timeout: x, y on a_b: too slow (log: {tmp_path}/logs/x.log)"
    assert "--retry-failed" in sentences[3]
    assert failure_sentences([_row()], tmp_path) == []
