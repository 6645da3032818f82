"""What `recommend` says of made rows with a known truth: every verdict, its limits, and what never counts."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from regbench.analysis.recommend import Recommendation, Situation, recommend
from regbench.analysis.recommend.decide import decide, strict_level
from regbench.analysis.recommend.scores import Block, Stratum
from regbench.analysis.recommend.together import together
from regbench.errors import ConfigError
from regbench.reports.recommendation import as_json, markdown, recommendation_html

KINDS = {
    "optimiser": ("classical", "none", 5.0),
    "second": ("classical", "none", 9.0),
    "network": ("learned", "image", 0.5),
    "taught": ("learned", "labels", 0.5),
    "both": ("hybrid", "image", 2.0),
}
SAME = Situation(deploy="same")


def rows_of(
    dice: dict[str, float], n: int = 16, *, condition: str = "none", noise: float = 0.002, **changes: Any
) -> list[dict[str, Any]]:
    """Rows of methods with these mean Dice values, over pairs that share no subject; identity is at .45."""
    numbers = random.Random(f"{condition} {changes.get('dataset')}")
    difficulty = [numbers.gauss(0, 0.03) for _ in range(n)]
    made = []
    for method, mean in {"identity": 0.45, **dice}.items():
        paradigm, supervision, seconds = KINDS.get(method, ("none", "none", 0.001))
        for i in range(n):
            value = mean + difficulty[i] + numbers.gauss(0, noise)
            made.append(
                {
                    "key": f"{sorted(changes.items())} {condition} {method} {i}",
                    "run": "made",
                    "dataset": "cohort",
                    "condition": condition,
                    "pair": {"id": f"p{i}", "fixed": f"f{i}", "moving": f"m{i}", "tags": {}},
                    "method": method,
                    "paradigm": paradigm,
                    "supervision": supervision,
                    "params": {},
                    "status": "ok",
                    "metrics": {"dice": {"mean": value}, "fold_percent": 0.0},
                    "timing": {"register_s": seconds},
                    "device": "cpu",
                }
                | changes
            )
    return made


def changed(
    rows: list[dict[str, Any]], method: str, where: Any = lambda row: True, **changes: Any
) -> list[dict[str, Any]]:
    return [{**row, **changes} if row["method"] == method and where(row) else row for row in rows]


def said(made: Recommendation) -> str:
    return markdown(made)


@pytest.mark.parametrize(
    ("best", "verdict"),
    [
        ("optimiser", "classical"),
        ("network", "learned (unsupervised)"),
        ("taught", "learned (supervised)"),
        ("both", "hybrid"),
    ],
)
def test_the_clearly_best_method_is_named_with_its_paradigm(best: str, verdict: str) -> None:
    made = recommend(rows_of(dict.fromkeys(KINDS, 0.70) | {best: 0.74}), SAME)
    assert (made.verdict, made.method, made.exit_code) == (verdict, best, 0)
    assert all(
        item.effect == pytest.approx(4, abs=0.3) and item.low is not None and item.low > 0.5 for item in made.evidence
    )
    assert {item.n_pairs for item in made.evidence} == {16}
    assert {item.n_subjects for item in made.evidence} == {32}


def test_equal_methods_give_the_one_that_asks_least() -> None:
    made = recommend(rows_of({"optimiser": 0.700, "network": 0.702, "taught": 0.701}), SAME)
    assert (made.verdict, made.method) == ("classical", "optimiser")
    assert "asks least" in made.summary


def test_a_paradigm_can_be_clear_where_its_best_method_is_not() -> None:
    made = recommend(rows_of({"optimiser": 0.75, "second": 0.751, "network": 0.6}, noise=0.02), SAME)
    assert (made.verdict, made.method) == ("classical", None)
    assert set(made.shortlist) == {"optimiser", "second"}
    assert made.exit_code == 0


def test_noise_and_few_pairs_leave_it_undecided_with_what_would_decide() -> None:
    made = recommend(rows_of({"optimiser": 0.70, "network": 0.705}, noise=0.03), SAME)
    assert (made.verdict, made.exit_code) == ("undecided", 3)
    assert made.provisional in ("optimiser", "network")
    assert made.changes
    few = recommend(rows_of({"optimiser": 0.70, "network": 0.90}, n=5), SAME)
    assert few.verdict == "undecided"
    assert all(item.low is None for item in few.evidence)
    assert "At least 6 pairs" in said(few)


def test_one_paradigm_alone_is_no_contest_unless_the_situation_excludes_the_others() -> None:
    rows = rows_of({"optimiser": 0.70, "second": 0.75})
    assert recommend(rows, SAME).verdict == "undecided"
    assert "Only classical methods were run" in recommend(rows, SAME).summary
    excluding = Situation(deploy="same", training_labels=0)
    made = recommend(rows + rows_of({"taught": 0.90}), excluding)
    assert (made.verdict, made.method) == ("classical", "second")


# -- situations ---------------------------------------------------------------------------------------


def shifted_rows() -> list[dict[str, Any]]:
    """The taught network wins without the shift and loses a lot under it."""
    return rows_of({"optimiser": 0.70, "taught": 0.75}) + rows_of(
        {"optimiser": 0.69, "taught": 0.55}, condition="gamma 2"
    )


def test_what_images_will_be_like_decides_which_conditions_count() -> None:
    rows = shifted_rows()
    assert recommend(rows, SAME).verdict == "learned (supervised)"
    assert recommend(rows, Situation(deploy="shifted")).verdict == "classical"
    unknown = recommend(rows, Situation(deploy="unknown"))
    assert unknown.verdict == "classical", "it loses 5 points at most, the other one 14"
    assert any("--deploy same" in line or "Deploy same" in line for line in unknown.changes)


def test_without_a_shifted_run_nothing_is_said_of_unknown_images() -> None:
    made = recommend(rows_of({"optimiser": 0.8, "network": 0.7}), Situation(deploy="unknown"))
    assert made.verdict == "undecided"
    assert "under a shift" in made.summary
    assert made.experiments and "gamma 2" in made.experiments[0].conditions


def test_shifts_of_one_image_alone_are_another_modality() -> None:
    rows = rows_of({"optimiser": 0.75, "network": 0.70})
    crossing = rows_of({"optimiser": 0.30, "network": 0.60}, condition="t2_like 1 moving")
    assert recommend(rows + crossing, SAME).verdict == "classical"
    assert recommend(rows + crossing, Situation(modality="multi")).verdict == "learned (unsupervised)"
    none = recommend(rows, Situation(modality="multi"))
    assert (none.exit_code, none.verdict) == (5, "undecided")


@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        (Situation(deploy="same", max_seconds=3), "3 s are allowed"),
        (Situation(deploy="same", max_fold_percent=0.5), "0.5 % are allowed"),
        (Situation(deploy="same", invertible=True), "not invertible"),
        (Situation(deploy="same", device="cpu"), "cuda only"),
    ],
)
def test_what_breaks_a_limit_is_out_whatever_its_accuracy(situation: Situation, reason: str) -> None:
    rows = rows_of({"optimiser": 0.80, "network": 0.70, "both": 0.60})
    worse = {"metrics": {"dice": {"mean": 0.8}, "fold_percent": 2.0}, "device": "cuda", "timing": {"register_s": 20.0}}
    made = recommend(changed(rows, "optimiser", **worse), situation)
    assert (made.verdict, made.method) == ("learned (unsupervised)", "network")
    out = {option.method: option.excluded for option in made.options if option.excluded}
    assert list(out) == ["optimiser"] and reason in str(out["optimiser"])


def test_the_slowest_data_set_counts_for_the_time() -> None:
    rows = rows_of({"optimiser": 0.8, "network": 0.7}) + rows_of(
        {"optimiser": 0.8, "network": 0.7}, dataset="large", timing={"register_s": 100.0}
    )
    made = recommend(changed(rows, "network", timing={"register_s": 0.5}), Situation(deploy="same", max_seconds=50))
    assert made.method == "network"


def test_a_network_needs_the_labels_that_it_was_trained_with() -> None:
    rows = rows_of({"optimiser": 0.70, "network": 0.72, "taught": 0.80})
    assert recommend(rows, Situation(deploy="same", training_labels=0)).verdict == "learned (unsupervised)"
    assert recommend(rows, Situation(deploy="same", training_labels=100)).verdict == "learned (supervised)"
    nothing = Situation(deploy="same", training_labels=0, training_pairs=0)
    assert recommend(rows, nothing).verdict == "classical"


def test_what_a_shipped_network_was_trained_on_is_known() -> None:
    rows = [
        {
            **row,
            "dataset": "mni-cohort",
            "method": {"taught": "voxelmorph-cohort-sup"}.get(row["method"], row["method"]),
        }
        for row in rows_of({"optimiser": 0.70, "taught": 0.80})
    ]
    some = recommend(rows, Situation(deploy="same", training_labels=20))
    assert some.verdict == "classical"
    assert "256 labelled subjects" in said(some)
    assert recommend(rows, Situation(deploy="same", training_labels=200)).verdict == "learned (supervised)"


# -- what never counts --------------------------------------------------------------------------------


@pytest.mark.parametrize("included", [False, True])
def test_leaked_pairs_never_count(included: bool) -> None:
    rows = rows_of({"optimiser": 0.72, "network": 0.70}, n=24)
    leak = {"reason": "trained on it", "certain": True, "included": included}
    better = {"metrics": {"dice": {"mean": 0.95}}, "leaked": leak}
    some = changed(rows, "network", lambda row: int(row["pair"]["id"][1:]) < 10, **better)
    made = recommend(some, SAME)
    assert made.verdict == "classical"
    assert {item.n_pairs for item in made.evidence} == {14}
    assert any("trained on subjects of 10 cases" in risk for risk in made.risks)
    every = recommend(changed(rows, "network", **better), SAME)
    assert every.verdict == "undecided"
    assert "trained on subjects of these pairs" in said(every)


def test_failing_on_hard_pairs_is_no_advantage() -> None:
    rows = rows_of({"optimiser": 0.70, "network": 0.72})
    failed = changed(
        rows, "network", lambda row: int(row["pair"]["id"][1:]) % 4 == 0, status="timeout", metrics={}, timing={}
    )
    assert recommend(rows, SAME).method == "network"
    made = recommend(failed, SAME)
    assert made.method != "network"
    assert "failed on 4 of 16 cases" in said(made)
    without_identity = [row for row in failed if row["method"] != "identity"]
    assert any("not known" in str(o.excluded) for o in recommend(without_identity, SAME).options)


def test_metrics_of_correspondence_that_disagree_are_not_added_up() -> None:
    rows = rows_of({"optimiser": 0.70, "network": 0.74})
    errors = {"optimiser": 1.0, "network": 3.0, "identity": 9.0}
    made = recommend([{**row, "metrics": {**row["metrics"], "tre_mm": errors[row["method"]]}} for row in rows], SAME)
    assert made.verdict == "undecided"
    assert "Metrics disagree" in made.summary and "landmark error" in made.summary


def test_dominated_methods_are_told() -> None:
    rows = rows_of({"optimiser": 0.74, "second": 0.70, "network": 0.71})
    by = {option.method: option.dominated_by for option in recommend(rows, SAME).options}
    assert by == {"optimiser": None, "second": "optimiser", "network": None}


# -- the decision -------------------------------------------------------------------------------------


def _block(gains: dict[str, list[float]], name: str = "same") -> Block:
    n = len(next(iter(gains.values())))
    subjects = tuple((f"f{i}", f"m{i}") for i in range(n))
    return Block(name, (Stratum("d", ("none",), subjects, {m: np.array(v) for m, v in gains.items()}),))  # type: ignore[arg-type]


def test_many_equal_methods_do_not_make_a_false_winner() -> None:
    """Twelve methods that are equally good: the luckiest may not be sold as ahead of the others."""
    numbers, wrong = np.random.default_rng(3), 0
    for _ in range(60):
        gains = {f"m{k}": numbers.standard_normal(12).tolist() for k in range(12)}
        decision = decide([_block(gains)], list(gains), lambda m: "classical", margin=0.01)
        wrong += bool(decision.namable)
    assert wrong <= 5


def test_the_luckiest_of_many_that_are_worse_by_the_margin_is_not_named() -> None:
    """One best method and eleven that lose a little more than the margin: with usual intervals alone 12 % are wrong."""
    numbers, wrong = np.random.default_rng(5), 0
    for _ in range(100):
        gains = {f"m{k}": (numbers.standard_normal(24) * 1.96 - 1.001 * (k > 0)).tolist() for k in range(12)}
        decision = decide([_block(gains)], list(gains), lambda m: "classical", margin=1.0)
        wrong += any(name != "m0" for name in decision.namable)
    assert wrong <= 6


def test_a_regret_bound_needs_every_block() -> None:
    flat, good, bad = [0.0] * 8, [3.0 + 0.01 * i for i in range(8)], [-6.0 + 0.01 * i for i in range(8)]
    blocks = [_block({"a": flat, "b": good}), _block({"a": flat, "b": bad}, "shifted")]
    decision = decide(blocks, ["a", "b"], lambda m: "classical", margin=0.5)
    assert decision.namable == ["a"]
    assert decision.regrets == {"a": pytest.approx(3.035), "b": pytest.approx(5.965)}


def test_levels_get_stricter_with_methods_and_blocks() -> None:
    assert strict_level(2, 1) == pytest.approx(0.95)
    assert strict_level(11, 2) == pytest.approx(1 - 0.05 / 20)


# -- runs together, the same bytes, the report ----------------------------------------------------------


def test_names_that_mean_two_things_in_two_runs_are_told_apart() -> None:
    one, two = (
        rows_of({"optimiser": 0.7}, fingerprint="x"),
        rows_of({"optimiser": 0.8}, fingerprint="x", params={"n": 2}),
    )
    names = {row["method"] for row in together([("a", one), ("b", two)])}
    assert {"optimiser (a)", "optimiser (b)"} <= names
    other = rows_of({"network": 0.8}, fingerprint="y")
    assert {row["dataset"] for row in together([("a", one), ("b", other)])} == {"cohort (a)", "cohort (b)"}
    alike = together([("a", one), ("b", [dict(row) for row in one])])
    assert len(alike) == len(one)


def test_the_same_evidence_gives_the_same_bytes() -> None:
    rows = shifted_rows()
    pages = {as_json(recommend(rows, Situation())) for _ in range(2)}
    assert len(pages) == 1
    backwards = recommend(rows[::-1], Situation())
    assert backwards.verdict == recommend(rows, Situation()).verdict
    assert backwards.method == recommend(rows, Situation()).method


def test_the_section_of_the_report_escapes_and_says_the_same() -> None:
    rows = [{**row, "dataset": "<b>set</b>"} for row in shifted_rows()]
    html = recommendation_html({}, rows)
    assert html.lstrip().startswith("<h3>")
    assert "<b>set" not in html and "&lt;b&gt;set" in html
    assert "Use taught" in html and "Use optimiser" in html
    assert recommendation_html({}, []) == ""


def test_situations_that_make_no_sense_are_refused() -> None:
    for wrong in ({"margin": 0.0}, {"max_seconds": -1.0}, {"deploy": "elsewhere"}, {"device": "tpu"}):
        with pytest.raises(ConfigError):
            Situation(**wrong)  # type: ignore[arg-type]
