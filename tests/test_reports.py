"""What people see of a run: the terminal table, CSV files, figures and the HTML report."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support_rows import failure, row, table, write_run

from regbench.analysis.groups import group_rows
from regbench.reports import words
from regbench.reports.derived import method_order, write_derived
from regbench.reports.figures import draw_plots
from regbench.reports.slices import outlines, upright
from regbench.reports.tables import RESULT_COLUMNS, SUMMARY_COLUMNS
from regbench.reports.terminal import print_summary


def printed(
    rows: list[dict[str, Any]], width: int = 120, *, terminal: bool = False, order: tuple[str, ...] = ()
) -> str:
    stream = io.StringIO()
    print_summary(Console(file=stream, width=width, force_terminal=terminal), rows, order)
    return stream.getvalue()


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


# -- terminal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 90, 100, 110, 120, 130, 140, 200])
def test_the_table_fits_its_terminal_and_keeps_the_essentials(width: int) -> None:
    text = printed(table(), width)
    lines = text.split("\n\n")[0].splitlines()
    assert max(map(len, lines)) <= width
    for essential in (
        "method",
        "Dice",
        "s/pair",
        "failed",
        "vxm-sup",
        "cohort · no shift · 12 pairs",
        "cohort · gamma",
    ):
        assert essential in text


def test_a_wide_table_has_all_columns() -> None:
    heading = printed(table(), 140).splitlines()[0]
    for column in ("paradigm", "Dice", "Δ identity", "HD95 mm", "fold %", "NDV %", "s/pair", "MiB", "failed"):
        assert column in heading
    assert re.search(r"demons +classical +0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] +\+0\.\d{3}", printed(table(), 140))


def test_without_a_terminal_there_are_no_escape_codes() -> None:
    assert "\x1b" not in printed(table())
    assert "\x1b" in printed(table(), terminal=True)


def test_markup_in_names_stays_text() -> None:
    rows = [row("demons", i, dataset="[red]d") | {"method": "[bold]x[/]"} for i in range(6)]
    assert "[bold]x[/]" in printed(rows) and "[red]d" in printed(rows)


def test_failures_and_missing_pairs_are_shown() -> None:
    rows = [*[row("affine", i) for i in range(6)], *[row("demons", i) for i in range(5)], failure("demons", 5)]
    text = printed(rows)
    assert "1/6" in text
    assert "5 of 6 pairs" in text
    skipped = printed([row("affine", 0), failure("vxm", 0, status="skipped")])
    assert "skipped" in skipped and "no intervals: too few pairs" in skipped


def test_other_accuracy_than_dice_is_named() -> None:
    rows = [row("demons", i, dice=None) for i in range(6)]
    for line in rows:
        line["metrics"]["epe_mm"] = 1.5
    assert "EPE mm" in printed(rows).splitlines()[0]
    both = printed([*rows, *table(6, dataset="other")])
    assert "accuracy is EPE mm" in both and "accuracy is Dice" in both


def test_odd_tables_are_printed() -> None:
    assert "No results" in printed([])
    assert "failed" in printed([failure("demons", i) for i in range(3)])
    assert printed([{}])
    assert "demons" in printed([row("demons", 0, dice=None)])


def test_numbers_never_hide_what_they_are() -> None:
    assert words.percent(0.0) == "0"
    assert words.percent(1e-6) == "<0.001"
    assert words.percent(None) == "-"
    assert words.number(float("nan"), 2) == "-"
    assert words.number(-0.0001, 2, signed=True) == "+0.00"
    assert words.seconds(123.4) == "123"


# -- derived files ------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """The tags, texts and attributes of an HTML page; complains about tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = table(8)
    rows[3] = failure("identity", 3)
    folder = write_run(tmp_path_factory.mktemp("runs") / "run", rows, config={"methods": [{"label": "vxm"}]})
    (folder / "pictures").mkdir()
    _write_picture(folder / "pictures" / "cohort__none__p00__demons.npz")
    (folder / "figures").mkdir()
    for name in ("pictures__cohort__none__gone.png", "my-own.png"):
        (folder / "figures" / name).write_bytes(b"\x89PNG")
    outcome = write_derived(folder)
    assert outcome.problems == ()
    return folder


def _write_picture(path: Path) -> None:
    image = np.random.default_rng(0).random((20, 24)).astype(np.float32)
    labels = (image > 0.5).astype(np.int16)
    jacobian = image * 2 - 0.2
    jacobian[0] = np.nan
    arrays = {"fixed_0": image, "moved_0": image, "fixed_labels_0": labels, "jacobian_0": jacobian}
    np.savez_compressed(path, **arrays, spacing_mm_0=np.array([1.0, 2.0]), orientation_0=np.array("RA"))


def test_the_long_table_has_the_columns_of_the_contract(derived: Path) -> None:
    lines = read_csv(derived / "results.csv")
    contract = (
        "run,dataset,condition,pair,fixed,moving,method,paradigm,supervision,repeat,status,metric,label,value,unit"
    )
    assert ",".join(lines[0]) == ",".join(RESULT_COLUMNS) == contract
    dice = [line for line in lines if line["metric"] == "dice" and line["method"] == "demons" and line["pair"] == "p00"]
    assert {line["label"] for line in dice} == {"", "1", "2"}
    assert {line["unit"] for line in lines if line["metric"] == "hd95_mm"} == {"mm"}
    lost = [line["value"] for line in lines if line["metric"] == "hd95_mm.n_lost"]
    assert lost and set(lost) == {"1.0"}
    failed = [line for line in lines if line["status"] == "timeout"]
    assert len(failed) == 1 and failed[0]["metric"] == failed[0]["value"] == ""
    missing = [line for line in lines if line["metric"] == "hd95_mm" and line["label"] == "2"]
    assert missing and all(line["value"] == "" for line in missing)


def test_the_summary_table_agrees_with_the_rows(derived: Path) -> None:
    lines = read_csv(derived / "summary.csv")
    assert tuple(lines[0]) == SUMMARY_COLUMNS
    (line,) = (x for x in lines if (x["condition"], x["method"], x["metric"]) == ("none", "identity", "dice"))
    assert (line["n"], line["n_failed"], line["coverage"]) == ("7", "1", "0.875")
    assert float(line["ci_low"]) < float(line["mean"]) < float(line["ci_high"])
    assert lines[0]["method"] == "vxm"


def test_figures_are_small_pictures_and_only_our_old_ones_go(derived: Path) -> None:
    names = {path.name for path in (derived / "figures").iterdir()}
    drawn = {"accuracy.png", "cost.png", "shift.png", "labels__cohort.png", "pictures__cohort__none__p00.png"}
    assert names == drawn | {"case__worst__cohort__none__p00__demons.png", "my-own.png"}
    for path in (derived / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < 400_000


def test_the_report_stands_alone(derived: Path) -> None:
    text = (derived / "report.html").read_text()
    page = _Page(text)
    sources = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(sources) >= 6 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert [attributes.get("href") for tag, attributes in page.tags if tag == "link"] == ["data:,"]
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}]
    assert not re.search(r"https?:", re.sub(r"data:[^\"]+", "", text).replace("https://doi.org", ""))
    for essential in ("prefers-color-scheme", "@media print", "takeaway", "test-host", "dyadic-robust", "7 of 8 pairs"):
        assert essential in text


def test_text_of_others_is_escaped_in_the_report(derived: Path) -> None:
    assert "&lt;limit&gt;" in (derived / "report.html").read_text()


def test_derived_files_are_the_same_when_made_again(derived: Path) -> None:
    before = {path: path.read_bytes() for path in derived.rglob("*") if path.is_file()}
    write_derived(derived)
    assert {path: path.read_bytes() for path in derived.rglob("*") if path.is_file()} == before


ODD_RUNS: dict[str, list[dict[str, Any]]] = {
    "no rows": [],
    "all failed": [failure("demons", i) for i in range(3)],
    "no labels": [row("demons", i, dice=None) for i in range(3)],
    "one method": [row("demons", i) for i in range(3)],
    "null metrics": [row("demons", i, metrics={"dice": {"mean": None}, "fold_percent": None}) for i in range(3)],
    "hardly a row": [{"key": "k", "status": "ok"}],
    "equal values": [row(m, i, dice=0.5) for m in ("identity", "demons") for i in range(6)],
    "only shifted": [row("demons", i, condition="gamma") for i in range(6)],
}


@pytest.mark.parametrize("name", ODD_RUNS)
def test_odd_runs_have_reports_too(tmp_path: Path, name: str) -> None:
    outcome = write_derived(write_run(tmp_path / "run", ODD_RUNS[name]))
    assert outcome.problems == ()
    assert {"results.csv", "summary.csv", "report.html"} <= {path.name for path in outcome.files}
    _Page((tmp_path / "run" / "report.html").read_text())


def test_what_cannot_be_written_is_told_and_not_raised(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [row("demons", dice=None)])
    (folder / "results.csv").mkdir()
    outcome = write_derived(folder)
    assert any("results.csv" in problem for problem in outcome.problems)
    assert "report.html" in {path.name for path in outcome.files}
    assert not list(folder.glob("*.tmp"))
    assert "not a run folder" in write_derived(tmp_path / "absent").problems[0]


def test_broken_pictures_are_passed_over(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [row("demons", 0)])
    (folder / "pictures").mkdir()
    (folder / "pictures" / "cohort__none__p00__demons.npz").write_bytes(b"PK\x03\x04 torn")
    assert write_derived(folder).problems == ()


def test_the_order_of_the_config_is_found() -> None:
    assert method_order({"config": {"methods": ["a", {"name": "b", "label": "c"}]}}) == ["a", "c"]
    assert method_order({}) == method_order({"config": None}) == []


# -- figures ------------------------------------------------------------------------------------------


def test_plots_follow_the_data() -> None:
    assert [plot.name for plot in draw_plots(group_rows(table(6)))] == ["accuracy", "cost", "shift"]
    assert [plot.name for plot in draw_plots(group_rows(table(6, conditions=("none",))))] == ["accuracy", "cost"]
    assert list(draw_plots(group_rows([failure("demons")]))) == []


def test_kinds_of_methods_differ_in_colour_and_marker() -> None:
    from regbench.reports.figures import _STYLES

    assert (
        len({colour for colour, _, _ in _STYLES.values()}) == len({m for _, m, _ in _STYLES.values()}) == len(_STYLES)
    )


@pytest.mark.parametrize("letters", ["RA", "LA", "RP", "LP", "AR", "PL", "AS", "SA", "IP", "RS", "SL"])
def test_slices_stand_upright_whatever_their_orientation(letters: str) -> None:
    """A mark at the right (or anterior), superior (or anterior) corner is shown at the top right."""
    plane = np.zeros((5, 7))
    plane[tuple(-1 if letter in "RAS" else 0 for letter in letters)] = 1
    shown = upright(plane, letters)
    assert shown[0, -1] == 1 and shown.sum() == 1
    assert shown.shape == ((5, 7) if letters in ("AR", "PL", "SA", "IP", "SL") else (7, 5))


def test_outlines_lie_between_labels() -> None:
    labels = np.zeros((4, 4), dtype=int)
    labels[:, 2:] = 1
    assert sorted(outlines(labels).tolist()) == [[[2, y], [2, y + 1]] for y in range(4)]
    assert sorted(outlines(labels.T).tolist()) == [[[x, 2], [x + 1, 2]] for x in range(4)]
    assert len(outlines(np.ones((4, 4), dtype=int))) == 0


def test_reports_import_nothing_heavy_until_they_draw() -> None:
    code = (
        "import sys, regbench.reports.derived, regbench.reports.terminal, regbench.reports.html;"
        "print([m for m in ('matplotlib', 'pandas', 'scipy', 'torch', 'jinja2') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
