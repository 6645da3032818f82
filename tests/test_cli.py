"""The command line: help without heavy imports, exit codes, one line for every error, tables at every width."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from regbench.cli import SECTIONS, group, invoke
from regbench.methods.table import CARDS

COMMANDS = [name for section in SECTIONS.values() for name in section]
HEAVY = ("torch", "ants", "SimpleITK", "pandas", "scipy", "matplotlib", "nibabel", "nilearn", "numpy", "pydantic")


def _in_new_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import json, sys\n"
        "from regbench.cli import invoke\n"
        "exit_code = invoke(sys.argv[1:])\n"
        "print('MODULES', json.dumps(sorted(sys.modules)))\n"
        "sys.exit(exit_code)\n"
    )
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def _imported(result: subprocess.CompletedProcess[str]) -> set[str]:
    line = next(line for line in result.stdout.splitlines() if line.startswith("MODULES "))
    return {name.split(".")[0] for name in json.loads(line.removeprefix("MODULES "))}


def test_help_imports_nothing_heavy() -> None:
    result = _in_new_process("--help")
    assert result.returncode == 0
    assert _imported(result) & set(HEAVY) == set()
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", result.stdout, re.MULTILINE), name


@pytest.mark.parametrize(
    "arguments", [["methods"], ["metrics"], ["methods", "ants-syn"], ["run", "--help"]], ids=" ".join
)
def test_looking_things_up_imports_no_engine(arguments: list[str]) -> None:
    result = _in_new_process(*arguments)
    assert result.returncode == 0, result.stderr
    assert _imported(result) & {"torch", "ants", "SimpleITK", "pandas", "matplotlib", "nilearn"} == set()


def test_help_is_quick() -> None:
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "regbench", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Processor time, since the wall clock of a busy machine says nothing about this program.
    assert min(seconds) < 0.3


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_short_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Example:  regbench {name}" in shown
    assert len(shown.splitlines()) < 40
    command = group.get_command(group.make_context("regbench", ["--help"], resilient_parsing=True), name)
    assert command is not None
    listed = next(section[name] for section in SECTIONS.values() if name in section)
    assert command.short_help == listed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rnu"], "unknown command 'rnu'; did you mean 'run'?"),
        (["run"], "missing argument 'CONFIG'"),
        (["run", "--limit", "0", "x.yaml"], "invalid value for '--limit'"),
        (["run", "no-such.yaml"], "no-such.yaml: there is no such file"),
        (["validate", "no-such.yaml"], "no-such.yaml: there is no such file"),
        (["methods", "demon"], "did you mean 'demons'?"),
        (["metrics", "dicee"], "did you mean 'dice'?"),
        (["datasets", "mni"], "known: mni-cohort, csv"),
        (["shifts", "gama"], "did you mean 'gamma'?"),
        (["report", "no-such-run"], "no-such-run is not a run folder"),
        (["compare", "a.json", "b.json", "--tol", "dice"], "--tol dice: expected METRIC=NUMBER"),
        (["compare", "a.json", "b.json"], "a.json cannot be read"),
    ],
)
def test_usage_errors_are_one_line_and_exit_with_2(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("regbench: ")
    assert shown.err.count("\n") == 1
    assert sentence in shown.err
    assert list(tmp_path.iterdir()) == []


def test_a_bug_shows_its_traceback_and_asks_for_a_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regbench.cli.console.output", lambda: 1 / 0)
    assert invoke(["methods"]) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1].startswith("regbench: internal error, please report it")


def test_ctrl_c_exits_with_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("regbench.cli.console.output", stop)
    assert invoke(["methods"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error() -> None:
    line = f"{sys.executable} -m regbench methods | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize(
    "arguments",
    [
        ["methods"],
        ["datasets"],
        ["metrics"],
        ["shifts"],
        ["methods", "ants-syn"],
        ["datasets", "csv"],
        ["metrics", "dice"],
    ],
    ids=" ".join,
)
def test_tables_keep_to_the_width_and_lose_nothing(
    arguments: list[str], width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert invoke(arguments) == 0
    shown = capsys.readouterr().out
    assert "…" not in shown
    tables = [line for line in shown.splitlines() if not line.startswith(("    ", "In a config"))]
    # Lines that say what to install stay whole, to be copied.
    tables = [line for line in tables if " needs " not in line]
    assert max(len(line.rstrip()) for line in tables) <= width


@pytest.mark.parametrize("name", list(CARDS))
def test_every_method_has_a_page(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["methods", name]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    card = CARDS[name]
    for words in (card.summary, card.licence, card.paradigm, card.transformation):
        assert " ".join(words.split()) in shown


def test_the_methods_table_tells_how_to_install_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from regbench.methods import table
    from regbench.methods.card import Package

    missing = Package("antspyx_of_another_world", "antspyx")
    monkeypatch.setattr(table, "missing_needs", lambda card: [missing] if card.name == "ants-syn" else [])
    assert invoke(["methods"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"ants-syn .* no\b", shown)
    assert "pip install antspyx" in shown


def test_doctor_says_what_is_here(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(["doctor"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("regbench 0.1.0", "torch 2", "processor", "memory", "cache", "can be written"):
        assert words in shown
    assert list(tmp_path.iterdir()) == []


def test_doctor_finds_a_folder_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert invoke(["doctor", "-o", str(tmp_path / "file" / "runs")]) == 1
    assert "cannot be written" in capsys.readouterr().err
