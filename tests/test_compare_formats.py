"""What a comparison looks like to people and to programs, with names that try to break the form."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console
from support_rows import failure, row, write_run

from regbench.analysis.comparison import Comparison, compare, compare_rows
from regbench.cli import invoke
from regbench.reports.comparison import comparison_markdown, escape, number, print_comparison
from regbench.reports.comparison_formats import comparison_json, comparison_junit, github_annotations

NASTY = "a|b<img src=x>\n::error title=x::gotcha %0A \x1b[31m `*_@you"


def rows(dice: float = 0.7, method: str = "demons", n: int = 3) -> list[dict[str, Any]]:
    return [{**row("demons", i, dice=dice), "method": method} for i in range(n)]


def parsed(comparison: Comparison) -> ElementTree.Element:
    """The JUnit of a comparison, read back."""
    return ElementTree.fromstring(comparison_junit(comparison))  # noqa: S314  our own


def nasty() -> Comparison:
    """A comparison with a regression, a failure and something new under names that nobody should have."""
    broken = [{**failure("demons", 9), "method": NASTY, "reason": NASTY}]
    base, new = [*rows(method=NASTY), *rows()], [*rows(0.6, NASTY), *rows(0.5)]
    return compare_rows([*base, *rows(method=NASTY, n=10)[9:]], [*new, *broken])


def test_the_json_is_strict_and_complete() -> None:
    data = json.loads(comparison_json(nasty()), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert (data["exit_code"], data["verdict"]) == (1, "regression")
    assert data["counts"]["regression"] == sum(check["outcome"] == "regression" for check in data["checks"])
    check = data["checks"][0]
    assert {"dataset", "condition", "method", "metric", "base", "new", "outcome", "text", "pairs", "mode"} <= set(check)


def test_numbers_that_are_not_finite_become_null() -> None:
    lines = rows(n=3)
    lines[0]["metrics"]["dice"]["mean"] = float("nan")
    text = comparison_json(compare_rows(rows(n=3), lines))
    assert "NaN" not in text
    json.loads(text)


def test_junit_has_a_failing_test_case_for_a_regression() -> None:
    root = parsed(nasty())
    assert root.tag == "testsuites"
    cases = root.findall(".//testcase")
    failing = [case for case in cases if case.find("failure") is not None]
    assert {case.get("name") for case in failing} >= {"dice", "status"}
    assert len(cases) == int(root.get("tests", "-1"))
    assert len(failing) == int(root.get("failures", "-1"))
    assert all(not any(ord(c) < 32 for c in case.get("classname", "").replace("\n", "")) for case in cases)


def test_junit_of_what_is_not_comparable_skipped_or_empty() -> None:
    known = [{**line, "fingerprint": "a"} for line in rows()]
    other = [{**line, "fingerprint": "b"} for line in known]
    error = parsed(compare_rows(known, other)).find(".//error")
    assert error is not None
    assert error.get("type") == "not comparable"
    skipped = parsed(compare_rows(rows(), rows())).findall(".//skipped")
    assert all(item.get("message") == "the hardware is not recorded" for item in skipped)
    assert skipped
    empty = parsed(compare_rows([], rows()))
    assert (empty.get("tests"), empty.get("errors")) == ("1", "1")


def test_markdown_is_one_table_whatever_things_are_called() -> None:
    text = comparison_markdown(nasty())
    lines = text.splitlines()
    assert lines[0] == "### regbench: regression"
    table = [
        line for line in lines[: lines.index(next(line for line in lines if "<details>" in line))] if line[:1] == "|"
    ]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "<img" not in text
    assert "\x1b" not in text
    assert "@you" not in text
    assert text.count("<details>") == text.count("</details>") > 0
    assert not any(line.startswith("::") for line in lines)


def test_escaping_shows_what_was_there() -> None:
    assert escape("a|b <c> `d`\n*e* _f_") == "a\\|b &lt;c&gt; \\`d\\` \\*e\\* \\_f\\_"


@pytest.mark.parametrize(
    ("value", "other", "shown"),
    [(0.71251, 0.69251, "0.7125"), (0.71251, 0.71254, "0.71251"), (0.7125104, 0.7125102, "0.7125"), (0.0, 0.0, "0")],
)
def test_numbers_have_the_digits_that_tell_them_apart(value: float, other: float, shown: str) -> None:
    assert number(value, other) == shown


def test_annotations_are_one_command_per_line() -> None:
    lines = github_annotations(nasty())
    assert lines
    for line in lines:
        assert line.split("::")[0] == ""
        level, _, title = line.split("::")[1].partition(" title=")
        assert level in ("error", "warning", "notice")
        assert ":" not in title and "," not in title
        assert "\n" not in line
        assert "\x1b" not in line
    # A percent sign of a name is shown, and not read as an escape.
    assert any("gotcha %250A" in line for line in lines)


def test_annotations_stay_within_what_github_shows() -> None:
    base = [line for i in range(30) for line in rows(method=f"m{i:02d}")]
    broken = [{**failure("demons", int(line["pair"]["id"][1:])), "method": line["method"]} for line in base]
    lines = github_annotations(compare_rows(base, broken))
    assert len(lines) == 10
    assert "21 more" in lines[-1]


def test_an_empty_comparison_is_an_error_of_its_own() -> None:
    (line,) = github_annotations(compare_rows([], rows()))
    assert line.startswith("::error title=nothing compared::")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_terminal_says_everything_in_words(width: int) -> None:
    stream = io.StringIO()
    print_comparison(Console(file=stream, width=width, color_system=None), nasty())
    text = stream.getvalue()
    assert "\u2717 regression" in text
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines()) <= width
    assert not any(line.startswith("::") for line in text.splitlines())


# -- the command --------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    write_run(Path("base"), rows())
    write_run(Path("new"), rows(0.68))
    write_run(Path("empty"), [])
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["base", "base"], 0),
        (["base", "new"], 1),
        (["base", "new", "--tol", "dice=0.03", "--tol", "hd95_mm=10%"], 0),
        (["base", "new", "--metrics", "fold_percent"], 0),
        (["base", "new", "--mode", "paired"], 3),
        (["empty", "new"], 5),
        (["base"], 2),
        (["base", "new", "--margin", "dice=0.1", "--mode", "golden"], 2),
        (["base", "new", "--github", "--format", "json"], 2),
        (["base", "new", "--limit", "1"], 2),
        (["base", "new", "--methods", "demons", "demon"], 2),
        (["base", "--methods", "demons", "demons"], 0),
        (["base", "nowhere"], 2),
    ],
)
def test_exit_codes(folders: Path, arguments: list[str], code: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["compare", *arguments]) == code
    if code == 2:
        assert len(capfd.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("form", ["table", "md", "json", "junit"])
def test_each_form_goes_to_stdout_or_to_a_file(folders: Path, form: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(["compare", "base", "new", "--format", form]) == 1
    shown = capfd.readouterr().out
    assert invoke(["compare", "base", "new", "--format", form, "-o", "out/put.txt"]) == 1
    assert capfd.readouterr().out == ""
    assert Path("out/put.txt").read_text() == shown


def test_github_gets_annotations_and_a_summary(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    Path("summary.md").write_text("before\n")
    assert invoke(["compare", "base", "new", "--github", "--format", "json", "-o", "out.json"]) == 1
    out = capfd.readouterr().out.splitlines()
    assert out
    assert all(line.startswith("::error title=regression") for line in out)
    summary = Path("summary.md").read_text()
    assert summary.startswith("before\n### regbench: regression")
    assert json.loads(Path("out.json").read_text())["exit_code"] == 1


def test_the_same_comparison_is_the_same_bytes(folders: Path) -> None:
    first, second = (comparison_json(compare("base", "new")) for _ in range(2))
    assert first == second
