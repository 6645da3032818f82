"""The ranking as people and programs read it: terminal, Markdown, CSV, JSON, report, figure, exit codes."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support_rows import failure, table, write_run

from regbench.analysis.rank import rank_rows
from regbench.cli import invoke
from regbench.reports.page import png_size
from regbench.reports.ranking import ranking_html, ranking_plot
from regbench.reports.ranking_text import as_csv, as_json, markdown, named, print_ranking, share_words

DICE = {"identity": 0.40, "affine": 0.52, "demons": 0.70, "vxm": 0.70, "vxm-sup": 0.75}
ROWS = table(14, DICE, {**DICE, "vxm-sup": 0.42})


def printed(rows: list[dict[str, Any]], width: int, scheme: str = "paired") -> str:
    stream = io.StringIO()
    print_ranking(Console(file=stream, width=width, highlight=False), rank_rows(rows, scheme))
    return stream.getvalue()


@pytest.mark.parametrize("width", [62, 80, 120])
@pytest.mark.parametrize("scheme", ["paired", "l2r"])
def test_terminal_tables_fit_and_cut_nothing(width: int, scheme: str) -> None:
    text = printed(ROWS, width, scheme)
    assert all(len(line) <= width for line in text.splitlines())
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for name in DICE:
        assert re.search(rf"^ *[\d.]+ +{name} ", text, re.MULTILINE)
    if width == 120:
        assert re.search(r"1 +vxm-sup +learned \(labels\) +0\.7", text)


def test_the_text_says_who_is_ahead_and_how_it_is_known() -> None:
    text = " ".join(printed(ROWS, 120).split())
    assert "vxm-sup is better than all others." in text
    assert "signed-rank" in text and "Holm's correction for up to 10 comparisons" in text
    assert "2000 draws of subjects (seed 0)" in text
    tied = " ".join(printed(table(12, {"demons": 0.7, "vxm": 0.7}, conditions=["none"]), 120).split())
    assert re.search(r"No two methods are told apart; (demons|vxm) has the best mean\.", tied)
    behind = {"identity": 0.4, "demons": 0.7, "vxm": 0.7}
    three = " ".join(printed(table(12, behind, conditions=["none"]), 120).split())
    assert re.search(r"(demons|vxm) has the best mean; not told apart from it: (vxm|demons)\.", three)


def test_shifted_conditions_have_a_line_each() -> None:
    text = printed(ROWS, 120)
    line = next(line for line in text.splitlines() if "gamma" in line and "vxm" in line)
    assert line.index("demons") < line.index("vxm-sup") < line.index("identity")
    assert text.count("cohort \N{MIDDLE DOT} no shift") == 3


def test_too_little_is_said_instead_of_a_p_value() -> None:
    text = " ".join(printed(table(4, DICE, conditions=["none"]), 120).split())
    assert "4 pairs are too few to tell methods apart" in text
    assert "In the order of means only: vxm-sup stands first." in text
    assert "share a letter" not in text and " beats " not in text


def test_failures_are_marked() -> None:
    rows = [r for r in ROWS if (r["method"], r["pair"]["id"], r["condition"]) != ("vxm", "p03", "none")]
    text = printed([*rows, failure("vxm", 3)], 130)
    assert "92 % (1 failed)" in text
    assert "the 13 of 14 pairs" in text


def test_markdown_has_the_same_tables() -> None:
    text = markdown(rank_rows(ROWS))
    assert "| 1 | vxm-sup | learned (labels) | 0.7" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1
    assert markdown(rank_rows(ROWS)) == text


def test_csv_has_a_line_per_method_and_metric() -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(rank_rows(ROWS)))))
    assert len(lines) == 2 * 3 * 5 + 5
    best = next(line for line in lines if line["rank"] == "1.0")
    assert (best["dataset"], best["metric"], best["method"]) == ("cohort", "dice", "vxm-sup")
    assert float(best["ci_low"]) < float(best["mean"]) < float(best["ci_high"])
    assert best["better_than"].split() and best["worse_than"] == ""
    assert {line["condition"] for line in lines if line["dataset"] == "all"} == {"all"}


@pytest.mark.parametrize("scheme", ["paired", "l2r"])
@pytest.mark.parametrize("n", [3, 12])
def test_json_is_strict_and_whole(scheme: str, n: int) -> None:
    text = json.dumps(as_json(rank_rows(table(n, DICE), scheme)), allow_nan=False)
    found = json.loads(text)
    assert found["scheme"] == scheme
    metric = found["groups"][0]["metrics"][0]
    assert len(metric["comparisons"]) == 10 and len(metric["standings"]) == 5
    assert {"method", "other", "p", "adjusted", "winner", "difference", "test"} == set(metric["comparisons"][0])


def test_the_part_of_the_report() -> None:
    found = ranking_html({"name": "x"}, ROWS)
    assert found.lstrip().startswith("<h3>")
    assert 'class="table-wrap' in found and found.count("<figure") == 1
    assert 'alt="Methods by Dice' in found
    assert re.search(r'<th scope="row"[^>]*>vxm-sup</th>', found)
    assert re.search(r'data-value="0\.7\d+" data-low=', found)
    assert ranking_html({}, []) == ""
    assert ranking_html({}, table(8, {"demons": 0.7})) == ""


def test_names_are_text_in_the_report() -> None:
    rows = [{**r, "dataset": "<script>alert(1)</script>"} for r in table(8, DICE, conditions=["none"])]
    assert "<script>" not in ranking_html({}, rows)


def test_the_figure_is_there_only_with_intervals_and_the_same_each_time() -> None:
    group = rank_rows(ROWS).groups[0]
    plot = ranking_plot(group, group.metrics[0])
    assert plot is not None and png_size(plot.png)[0] > 900
    again = ranking_plot(group, group.metrics[0])
    assert again is not None and again.png == plot.png
    assert "vxm-sup, " in plot.description and "14 pairs" in plot.description
    few = rank_rows(table(4, DICE)).groups[0]
    assert ranking_plot(few, few.metrics[0]) is None


def test_small_shares_are_not_zero_and_large_ones_not_all() -> None:
    assert [share_words(share) for share in (0, 0.0005, 0.4, 0.999, 1)] == ["0", "<1 %", "40 %", ">99 %", "100 %"]
    assert named(["a"]) == "a"
    assert named(["a", "b", "c"]) == "a, b and c"
    assert named(list("abcdef")) == "a, b, c and 3 more"


# -- the command --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run") / "run", ROWS)


@pytest.mark.parametrize("form", ["table", "md", "json", "csv"])
@pytest.mark.parametrize("scheme", ["paired", "l2r"])
def test_the_command_prints_every_form(run: Path, form: str, scheme: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["rank", str(run), "--scheme", scheme, "--format", form]) == 0
    found = capsys.readouterr()
    assert "vxm-sup" in found.out and found.err == ""
    if form == "json":
        assert json.loads(found.out)["seed"] == 0


def test_same_seed_same_bytes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for _ in range(2):
        invoke(["rank", str(run), "--format", "json", "--seed", "5"])
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] and '"seed": 5' in told[0]


def test_exit_codes(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = write_run(tmp_path / "few", table(4, DICE))
    empty = write_run(tmp_path / "empty", [])
    failed = write_run(tmp_path / "failed", [failure(name, i) for name in DICE for i in range(6)])
    assert invoke(["rank", str(few)]) == 3
    assert "too few" in capsys.readouterr().out
    assert invoke(["rank", str(few), "--scheme", "l2r"]) == 3
    capsys.readouterr()
    assert invoke(["rank", str(empty)]) == 5
    assert "no results yet" in capsys.readouterr().err
    assert invoke(["rank", str(failed)]) == 5
    assert "no method finished a pair" in capsys.readouterr().err
    for wrong in (["--metric", "dise"], ["--only", "nobody"], ["--scheme", "best"]):
        assert invoke(["rank", str(run), *wrong]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert invoke(["rank", str(tmp_path / "nowhere")]) == 2
    assert "not a run folder" in capsys.readouterr().err


def test_only_and_metrics_reach_the_ranking(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["rank", str(run), "--only", "demons, vxm-sup", "--metric", "register_s", "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {line["method"] for line in lines} == {"demons", "vxm-sup"}
    assert {line["metric"] for line in lines} == {"register_s", "all"}
    assert lines[0]["method"] == "vxm-sup"
