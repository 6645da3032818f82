"""The claims of a paper held against runs: for, against, undecided, and never by the choice of the best."""

from __future__ import annotations

import random
from typing import Any

import pytest
from support_rows import row, table

from regbench.analysis.claims import Claim, claims
from regbench.analysis.contests import contest, of_kind
from regbench.analysis.groups import group_rows
from regbench.reports.claims import claim_lines, claims_html

_HOME = {"dataset": "mni-cohort", "subjects": "train-000 ... train-255"}
_RUN: dict[str, Any] = {
    "config": {
        "datasets": [{"name": "mni-cohort", "label": "cohort", "parameters": {}, "family": None}],
        "methods": [
            {"name": name, "label": name, "parameters": {}, "trained_on": _HOME if name.startswith("vxm") else None}
            for name in ("identity", "affine", "demons", "vxm", "vxm-sup")
        ],
    }
}


def _claims(rows: list[dict[str, Any]], run: dict[str, Any] = _RUN) -> dict[str, Claim]:
    return {claim.name: claim for claim in claims(run, rows)}


def test_the_paper_is_confirmed_where_the_numbers_say_so() -> None:
    found = _claims(
        table(
            12,
            {"identity": 0.4, "demons": 0.7, "vxm": 0.69, "vxm-sup": 0.75},
            {"identity": 0.4, "demons": 0.7, "vxm": 0.6, "vxm-sup": 0.62},
        )
    )
    assert {name: claim.holds for name, claim in found.items()} == {
        "unsupervised networks": "holds",
        "label supervision": "holds",
        "domain shift": "holds",
    }
    assert not found["domain shift"].note


def test_the_paper_is_contradicted_where_the_numbers_say_so() -> None:
    found = _claims(
        table(
            12,
            {"identity": 0.4, "demons": 0.7, "vxm": 0.75, "vxm-sup": 0.69},
            {"identity": 0.4, "demons": 0.7, "vxm": 0.6, "vxm-sup": 0.76},
        )
    )
    assert {claim.holds for claim in found.values()} == {"does not hold"}
    assert "no sure gain" in found["domain shift"].note


def test_the_choice_of_the_best_does_not_make_a_winner() -> None:
    # Ten networks that are as good as demons, with noise: the best of them leads by chance, and is not ahead for it.
    draw = random.Random(1)
    ahead = 0
    for _ in range(40):
        rows = []
        for pair in range(8):
            rows.append(row("demons", pair, dice=0.7 + draw.gauss(0, 0.02)))
            rows += [{**row("vxm", pair, dice=0.705 + draw.gauss(0, 0.02)), "method": f"vxm-{i}"} for i in range(10)]
        result = contest(group_rows(rows)[0], [f"vxm-{i}" for i in range(10)], ["demons"])
        assert result is not None
        ahead += result.outcome == "ahead"
    assert ahead <= 5


def test_few_pairs_decide_nothing() -> None:
    found = _claims(table(4))
    assert {claim.holds for claim in found.values()} == {"undecided"}
    assert "4 pairs are too few" in found["label supervision"].findings[0].words


def test_another_family_is_a_shift_without_a_condition() -> None:
    run = {"config": {**_RUN["config"], "datasets": [{**_RUN["config"]["datasets"][0], "family": "elsewhere"}]}}
    found = _claims(table(12, conditions=("none",)), run)
    assert set(found) == {"domain shift"}


def test_a_lower_metric_is_better_says_which_sign_is_better() -> None:
    rows = [
        row(method, pair, dice=None, metrics={"tre_mm": {"mean": mean + 0.01 * pair}})
        for method, mean in (("demons", 2.0), ("vxm-sup", 1.0))
        for pair in range(8)
    ]
    found = _claims(rows)
    assert found["label supervision"].holds == "holds"
    assert "positive is better" in found["label supervision"].findings[0].words


@pytest.mark.parametrize(("slope", "verdict"), [(0.5, "holds"), (-0.5, "does not hold")])
def test_whether_dice_follows_information_can_come_out_either_way(slope: float, verdict: str) -> None:
    draw = random.Random(3)
    rows = []
    for pair in range(30):
        information = draw.uniform(0.2, 0.8)
        for method, base in (("demons", 0.5), ("vxm", 0.3)):
            dice = base + slope * (information - 0.5) + draw.gauss(0, 0.01)
            made = row(method, pair, dice=dice)
            made["metrics"]["mi_nats"] = {"mean": information, "fixed": information, "moving": information}
            rows.append(made)
    claim = _claims(rows)["information"]
    assert claim.holds == verdict
    assert [finding.where for finding in claim.findings] == ["within data sets (30 pairs)"]


def test_runs_of_one_kind_have_no_claims() -> None:
    assert claims(_RUN, table(12, {"identity": 0.4, "demons": 0.7})) == []
    assert claims_html(_RUN, table(12, {"identity": 0.4, "demons": 0.7})) == ""


def test_the_section_escapes_names_and_names_its_source() -> None:
    rows = [{**r, "dataset": "<b>cohort"} for r in table(8)]
    run = {"config": {**_RUN["config"], "datasets": [{**_RUN["config"]["datasets"][0], "label": "<b>cohort"}]}}
    page = claims_html(run, rows)
    assert "arXiv 2408.05839" in page
    assert "<b>" not in page
    assert "&lt;b&gt;cohort" in page
    assert any("label" in line and "here" in line for line in claim_lines(run, rows))


def test_kinds_are_told_by_paradigm_and_supervision() -> None:
    group = group_rows(table(6))[0]
    assert of_kind(group, "learned", ("labels",)) == ["vxm-sup"]
    assert of_kind(group, "classical") == ["affine", "demons"]


@pytest.mark.parametrize("supervision", ["image", "labels"])
def test_a_missing_side_makes_no_contest(supervision: str) -> None:
    group = group_rows(table(6, {"identity": 0.4, "demons": 0.7}))[0]
    assert contest(group, of_kind(group, "learned", (supervision,)), ["demons"]) is None
