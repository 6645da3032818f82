"""What `recommend` says before any run and by the rule of the paper, its published figures, and the command itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support_rows import table, write_run

from regbench.analysis.recommend import Situation, recommend
from regbench.analysis.recommend.experiments import config_of, datasets_for
from regbench.analysis.recommend.published import FIGURES, REMARKS, expected
from regbench.analysis.recommend.rule import LARGE, QUOTE
from regbench.cli import invoke
from regbench.config import check_config

SAME = Situation(deploy="same")


# -- published figures --------------------------------------------------------------------------------


def test_every_published_figure_has_its_source_and_is_a_dice() -> None:
    assert len(FIGURES) >= 20
    for figure in FIGURES:
        assert figure.citation and any(year in figure.citation for year in ("2024", "2025", "DIO", "TransMorph"))
        assert 0.3 < figure.dice < 1 and 0.3 < figure.reference_dice < 1
        assert figure.dataset and figure.reference and figure.method
    assert all(remark.citation and remark.text.endswith(".") for remark in REMARKS)
    assert len({(figure.dataset, figure.method) for figure in FIGURES}) == len(FIGURES)


def test_figures_are_those_of_the_sources() -> None:
    effects = {(figure.dataset.split(",")[0], figure.method): figure.effect for figure in FIGURES}
    assert effects["OASIS", "LKU-Net"] == 10.2
    assert effects["OASIS", "DP-Conv-C"] == 2.15
    assert effects["LUMIR validation", "VFA"] == 7.38
    assert effects["IXI", "VoxelMorph-1"] == -0.4


def test_published_results_of_three_data_sets_give_a_wide_interval_and_fewer_none() -> None:
    found = expected("learned (unsupervised)")
    assert found is not None and found.n_datasets == 3
    assert found.low is not None and found.high is not None and found.low < -5 and found.high > 5
    few = expected("learned (supervised)")
    assert few is not None and few.low is None
    assert expected("classical") is None


# -- before any run -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("situation", "leaning"),
    [
        (Situation(deploy="same", training_labels=400), "learned (supervised)"),
        (Situation(deploy="same", training_labels=20), None),
        (Situation(deploy="shifted", training_labels=400), "classical"),
        (Situation(deploy="unknown"), "classical"),
        (Situation(modality="multi"), None),
    ],
)
def test_before_any_run_there_is_a_leaning_and_an_experiment_but_no_verdict(
    situation: Situation, leaning: str | None
) -> None:
    made = recommend([], situation)
    assert (made.policy, made.verdict, made.leaning, made.exit_code) == ("prior", "undecided", leaning, 3)
    assert made.experiments and made.provisional


def test_information_of_the_images_is_told_with_what_it_is_worth() -> None:
    subjects = [{"mi_ratio": ratio, "shape": (100, 100, 100)} for ratio in (0.2, 0.3, 0.4)]
    made = recommend([], SAME, subjects)
    assert any("30 % of the label entropy" in note and "not known" in note for note in made.notes)
    assert made.experiments[0].minutes is not None
    assert recommend([], SAME).experiments[0].minutes is None


@pytest.mark.parametrize("deploy", ["same", "unknown"])
def test_what_to_run_next_is_a_config_that_holds(tmp_path: Path, deploy: str) -> None:
    experiment = recommend([], Situation(deploy=deploy)).experiments[0]  # type: ignore[arg-type]
    entries, _ = datasets_for(experiment, [], None)
    path = tmp_path / "next.yaml"
    path.write_text(config_of(experiment, entries, name="next"))
    config, problems = check_config(path)
    assert problems == []
    assert config is not None and len(config.methods) == len(experiment.methods) + 1


# -- the rule of the paper ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deploy", "labels", "verdict"),
    [
        ("same", LARGE, "learned (supervised)"),
        ("same", LARGE - 1, "classical"),
        ("same", None, "classical"),
        ("shifted", 5000, "classical"),
        ("unknown", 5000, "classical"),
    ],
)
def test_the_rule_asks_for_labels_and_the_same_distribution_only(deploy: str, labels: int | None, verdict: str) -> None:
    situation = Situation(deploy=deploy, training_labels=labels)  # type: ignore[arg-type]
    made = recommend(table(12), situation, policy="jena2024")
    assert (made.policy, made.verdict, made.exit_code) == ("jena2024", verdict, 0)
    assert made.rule is not None and made.rule.quote == QUOTE
    assert "never says what 'large' is" in made.rule.text
    assert recommend([], situation, policy="jena2024").verdict == verdict


def test_the_rule_says_where_the_evidence_disagrees() -> None:
    rows = table(12, {"identity": 0.4, "demons": 0.70, "vxm": 0.60, "vxm-sup": 0.65})
    labelled = Situation(deploy="same", training_labels=400)
    by_rule = recommend(rows, labelled, policy="jena2024")
    assert (by_rule.verdict, by_rule.method) == ("learned (supervised)", "vxm-sup")
    assert "The evidence disagrees: classical (demons)" in by_rule.summary
    by_evidence = recommend(rows, labelled)
    assert by_evidence.verdict == "classical"
    assert by_evidence.rule is not None and by_evidence.rule.agrees is False


# -- the command --------------------------------------------------------------------------------------


def _asked(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = invoke(["recommend", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_command_prints_a_page_and_says_by_its_code_whether_it_is_decided(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", table(12))
    code, page, _ = _asked(capsys, run, "--deploy", "same")
    assert code == 0
    assert page.startswith("Use vxm-sup (learned (supervised))")
    for heading in ("Evidence", "Methods", "Costs", "Risks", "The rule of Jena et al. 2024"):
        assert f"\n{heading}" in page
    code, page, _ = _asked(capsys, run, "--deploy", "same", "--training-labels", "0")
    assert (code, "learned (supervised)" in page.splitlines()[0]) == (0, False)
    few = write_run(tmp_path / "few", table(3))
    assert _asked(capsys, few, "--deploy", "same")[0] == 3
    assert _asked(capsys, write_run(tmp_path / "empty", []))[0] == 5
    code, _, error = _asked(capsys, run, "--dataset", "elsewhere")
    assert code == 2 and "they have cohort" in error
    assert _asked(capsys, run, "--margin", "0")[0] == 2


def test_formats_say_the_same_and_are_the_same_bytes_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", table(12))
    first, second = (_asked(capsys, run, "--deploy", "same", "--format", "json")[1] for _ in range(2))
    assert first == second
    content = json.loads(first)
    assert (content["verdict"], content["method"], content["exit_code"]) == ("learned (supervised)", "vxm-sup", 0)
    assert content["evidence"][0]["n_pairs"] == 12
    _, text, _ = _asked(capsys, run, "--deploy", "same", "--format", "md")
    assert text.startswith("# Use vxm-sup (learned (supervised))\n")
    _, page, error = _asked(capsys, run, "--deploy", "same", "-o", tmp_path / "page.txt")
    assert page == "" and "page.txt" in error
    assert (tmp_path / "page.txt").read_text().startswith("Use vxm-sup")


def test_what_to_run_next_is_written_where_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "next.yaml"
    code, _, error = _asked(capsys, "--deploy", "same", "--write-config", path)
    assert code == 3 and "regbench run" in error
    assert check_config(path)[1] == []
    run = write_run(tmp_path / "run", table(12))
    code, _, error = _asked(capsys, run, "--deploy", "same", "--write-config", tmp_path / "none.yaml")
    assert code == 0 and "nothing needs to be run" in error
    assert not (tmp_path / "none.yaml").exists()
