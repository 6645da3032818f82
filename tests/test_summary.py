"""Rows to summaries, and the sentence that says what they mean."""

from __future__ import annotations

import math
import random
import time

import pytest
from support_rows import METHODS, failure, row, table

from regbench.analysis.groups import group_rows
from regbench.analysis.statistics import Interval
from regbench.analysis.summary import SummaryRow, best_rows, notes, summarise, takeaway
from regbench.analysis.verdicts import verdict
from regbench.reports.tables import results_csv


def by_method(rows: list[dict], condition: str = "none") -> dict[str, SummaryRow]:
    return {line.method.name: line for line in summarise(rows) if line.condition == condition}


def test_a_summary_holds_means_over_pairs() -> None:
    rows = [row("demons", i, dice=0.6 + 0.02 * i) for i in range(8)]
    (line,) = summarise(rows)
    assert line.accuracy is not None
    assert line.accuracy.mean == pytest.approx(0.67)
    assert line.metrics["dice"].sd == pytest.approx(0.02 * math.sqrt(6.0))
    assert line.metrics["dice"].median == pytest.approx(0.67)
    assert (line.n_pairs, line.coverage, line.n_cases, line.n_failed) == (8, 1.0, 8, 0)
    assert line.seconds_per_pair == 6.2
    assert line.peak_mib == 307
    assert line.mean("hd95_mm") == pytest.approx(8 * 0.33)
    assert line.mean("epe_mm") is None


def test_the_change_against_identity_is_paired() -> None:
    """Pairs differ much and the difference hardly: a paired interval is narrow, an unpaired one is not."""
    lines = by_method(table(noise=0.001))
    change, accuracy = lines["demons"].change, lines["demons"].accuracy
    assert change is not None and accuracy is not None
    assert change.mean == pytest.approx(0.30, abs=0.002)
    assert change.half_width is not None and accuracy.half_width is not None
    assert change.half_width < accuracy.half_width / 10
    assert lines["identity"].change is None


def test_means_are_over_the_pairs_that_all_finished() -> None:
    """A method that fails on the hardest pair must not look better for it."""
    rows = [row(method, i, dice=0.2 if i == 0 else 0.7) for method in ("demons", "affine") for i in range(8)]
    rows[0] = failure("demons", 0)
    lines = by_method(rows)
    for line in lines.values():
        assert line.accuracy is not None
        assert line.accuracy.mean == pytest.approx(0.7)
        assert line.n_pairs == 7
    assert lines["demons"].coverage == pytest.approx(7 / 8)
    assert (lines["demons"].n_failed, lines["affine"].n_failed) == (1, 0)
    assert any("7 of 8 pairs" in note and "demons" in note for note in notes(rows))


@pytest.mark.parametrize("status", ["skipped", "failed"])
def test_a_method_without_any_result_does_not_empty_the_table(status: str) -> None:
    rows = [row("demons", i) for i in range(6)] + [failure("vxm", i, status=status) for i in range(6)]
    lines = by_method(rows)
    assert lines["demons"].n_pairs == 6
    assert lines["vxm"].metrics == {}
    assert lines["vxm"].n_failed == (0 if status == "skipped" else 6)
    assert lines["vxm"].n_skipped == (6 if status == "skipped" else 0)
    assert any("vxm finished no pair" in note for note in notes(rows))


def test_repeats_are_averaged_within_the_pair() -> None:
    rows = [row("demons", i, dice=0.6 + 0.1 * r, repeat=r) for i in range(6) for r in range(3)]
    (line,) = summarise(rows)
    assert line.accuracy is not None
    assert (line.accuracy.n, line.n_cases) == (6, 18)
    assert line.accuracy.mean == pytest.approx(0.7)
    assert line.accuracy.low == pytest.approx(0.7)


def test_missing_values_are_neither_zero_nor_counted() -> None:
    rows = [row("demons", i) for i in range(8)]
    rows[3]["metrics"]["hd95_mm"] = {"mean": None, "per_label": {"1": None}}
    rows[4]["metrics"]["fold_percent"] = math.nan
    (line,) = summarise(rows)
    assert line.metrics["hd95_mm"].interval.n == 7
    assert line.mean("hd95_mm") == pytest.approx(2.4)
    assert line.metrics["fold_percent"].interval.n == 7
    assert line.metrics["dice"].interval.n == 8


def test_methods_stand_in_the_given_order_or_by_paradigm() -> None:
    rows = table()
    random.Random(1).shuffle(rows)
    names = [line.method.name for line in summarise(rows) if line.condition == "none"]
    assert names[0] == "identity"
    assert set(names[1:3]) == {"affine", "demons"}
    given = [line.method.name for line in summarise(rows, ["vxm", "demons"])][:2]
    assert given == ["vxm", "demons"]


def test_the_unshifted_condition_comes_first_and_the_best_is_found() -> None:
    rows = table(conditions=("gamma", "none"))
    assert [group.condition for group in group_rows(rows)] == ["none", "gamma"]
    assert {line.method.name for line in best_rows(summarise(rows))} == {"vxm-sup"}
    distances = [row(m, i, dice=None) for m in ("affine", "demons") for i in range(6)]
    for line in distances:
        line["metrics"]["tre_mm"] = 1.0 if line["method"] == "demons" else 3.0
    assert [line.method.name for line in best_rows(summarise(distances))] == ["demons"]


def test_ten_thousand_rows_take_seconds() -> None:
    rows = table(1000)
    started = time.process_time()
    summarise(rows)
    takeaway(rows)
    assert len(rows) == 10_000
    assert time.process_time() - started < 8


# -- verdicts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.010, 0.020, "ahead"),
        (-0.020, -0.010, "behind"),
        (-0.004, 0.004, "level"),
        (0.001, 0.004, "level"),
        (0.001, 0.020, "undecided"),
        (-0.020, 0.020, "undecided"),
        (None, None, "too few"),
    ],
)
def test_a_verdict_follows_from_where_the_interval_lies(low: float | None, high: float | None, expected: str) -> None:
    difference = Interval(0.0, low, high, "t over pairs", 12)
    assert verdict(difference, "dice") == expected


def test_a_smaller_distance_is_better() -> None:
    assert verdict(Interval(-0.5, -0.6, -0.4, "t over pairs", 12), "epe_mm") == "ahead"


# -- the sentence -------------------------------------------------------------------------------------


def test_the_takeaway_tells_the_usual_story_if_the_data_do() -> None:
    shifted = {"identity": 0.40, "affine": 0.52, "demons": 0.70, "vxm": 0.60, "vxm-sup": 0.62}
    text = takeaway(table(shifted=shifted))
    assert "vxm (unsupervised) and demons (classical) are level" in text
    assert "vxm-sup (label-supervised) is ahead of" in text
    assert "it turns into a loss" in text
    assert text.count(". ") == 1 and text.endswith(".")


def test_the_takeaway_tells_the_opposite_if_the_data_do() -> None:
    dice = {"identity": 0.40, "demons": 0.80, "vxm": 0.60, "vxm-sup": 0.50}
    shifted = {"identity": 0.40, "demons": 0.50, "vxm": 0.60, "vxm-sup": 0.50}
    text = takeaway(table(dice=dice, shifted=shifted))
    assert "vxm (unsupervised) is behind demons (classical) by 20" in text
    assert "vxm-sup (label-supervised) is behind demons by 30" in text
    assert "ground gained" in text
    assert "loss" not in text


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (0.75, "it holds"),
        (0.72, "smaller, but still there"),
        (0.70, "it is gone"),
        (0.60, "turns into a loss"),
        (0.79, "larger"),
    ],
)
def test_the_takeaway_says_what_a_shift_does_to_the_gain(after: float, words: str) -> None:
    dice = {"identity": 0.4, "demons": 0.70, "vxm-sup": 0.75}
    text = takeaway(table(dice=dice, shifted=dice | {"vxm-sup": after}))
    assert words in text


def test_the_hardest_of_several_shifts_is_told() -> None:
    rows = table()
    for strength, loss in (("gamma-2", 0.02), ("gamma-4", 0.15)):
        for line in table(conditions=("gamma",)):
            harder = 0.7 - loss if line["method"].startswith("vxm") else 0.7
            line["metrics"]["dice"]["mean"] = harder + int(line["pair"]["id"][1:]) / 1000
            rows.append(line | {"condition": strength})
    assert "under gamma-4 (the hardest of 3 shifts)" in takeaway(rows).replace("Under", "under")


def test_noise_is_undecided() -> None:
    rows = []
    numbers = random.Random(3)
    for method in ("demons", "vxm"):
        rows += [row(method, i, dice=0.7 + numbers.gauss(0, 0.05)) for i in range(8)]
    assert "undecided" in takeaway(rows)


def test_few_pairs_are_too_few_to_tell() -> None:
    text = takeaway(table(3))
    assert "3 pairs are too few to tell" in text
    assert "ahead" not in text and "level" not in text


def test_the_takeaway_without_learned_methods() -> None:
    dice = {"identity": 0.40, "affine": 0.52, "demons": 0.70}
    text = takeaway(table(dice=dice, shifted=dice | {"demons": 0.65}))
    assert "demons (classical) is ahead of affine by 17.9" in text
    assert "demons loses 5" in text


def test_the_takeaway_without_classical_methods_compares_with_identity() -> None:
    text = takeaway(table(dice={"identity": 0.4, "vxm": 0.7}, shifted={"identity": 0.4, "vxm": 0.5}))
    assert "vxm (unsupervised) is ahead of identity (no registration) by 30" in text
    assert "smaller, but still there" in text


def test_the_takeaway_of_distances_turns_signs() -> None:
    rows = []
    for condition, error in (("none", 1.0), ("gamma", 4.0)):
        for i in range(8):
            for method, value in (("demons", 2.0), ("vxm", error)):
                line = row(method, i, dice=None, condition=condition)
                line["metrics"]["epe_mm"] = value + i / 100
                rows.append(line)
    text = takeaway(rows)
    assert "vxm (unsupervised) is ahead of demons (classical) by 1.00" in text
    assert "goes from +1.00 to \N{MINUS SIGN}2.00" in text
    assert "mm EPE" in text


def test_the_takeaway_of_many_datasets_counts() -> None:
    rows = [line for k in range(5) for line in table(dataset=f"d{k}")]
    text = takeaway(rows)
    assert "Over 5 datasets" in text and "level in 5" in text and "ahead in 5" in text


def test_the_takeaway_where_there_is_nothing_to_say() -> None:
    assert "No case finished" in takeaway([])
    assert "No case finished" in takeaway([failure("demons", i) for i in range(8)])
    assert "No accuracy metric" in takeaway([row("demons", i, dice=None) for i in range(8)])
    assert "only one method" in takeaway([row("identity", i) for i in range(8)])


def test_methods_of_an_unknown_kind_are_compared_too() -> None:
    rows = [line | {"paradigm": "none" if line["method"] == "identity" else "new"} for line in table()]
    assert "vxm-sup is ahead of" in takeaway(rows)


def test_odd_rows_do_no_harm() -> None:
    odd = [
        {},
        {"dataset": "cohort", "method": "demons", "status": "ok"},
        {"pair": "p1", "method": "x", "paradigm": "new", "status": "ok", "metrics": {"dice": None}},
        {"method": "y", "status": "ok", "metrics": {"dice": {"mean": "high"}}, "timing": None, "memory": None},
    ]
    assert summarise(odd) and takeaway(odd)
    assert isinstance(notes(odd), list)


def test_every_subset_of_methods_has_a_sentence() -> None:
    rows = table(6)
    for k in range(1, 2 ** len(METHODS)):
        chosen = [name for i, name in enumerate(METHODS) if k >> i & 1]
        for conditions in (("none",), ("gamma",), ("none", "gamma")):
            kept = [line for line in rows if line["method"] in chosen and line["condition"] in conditions]
            text = takeaway(kept)
            assert text.endswith(".") and text.count(". ") <= 1


# -- label warps, quantiles, metrics that decline -----------------------------------------------------


def test_rows_of_different_label_warps_never_share_a_table() -> None:
    rows = [row("demons", i, dice=0.7) for i in range(6)]
    rows += [row("demons", i, dice=0.8, label_warp="linear") for i in range(6)]
    lines = {line.dataset: line for line in summarise(rows)}
    assert {name: line.mean("dice") for name, line in lines.items()} == {
        "cohort": pytest.approx(0.7),
        "cohort (linear label warp)": pytest.approx(0.8),
    }
    told = {line.split(",")[1] for line in results_csv(rows).splitlines()[1:]}
    assert told == {"cohort", "cohort (linear label warp)"}
    # Files of a run are found under the name of the dataset itself.
    assert {group.source for group in group_rows(rows)} == {"cohort"}


def test_quantiles_over_pairs_look_at_the_hard_side() -> None:
    rows = [row("demons", i, dice=0.5 + 0.01 * i) for i in range(11)]
    for i, one in enumerate(rows):
        one["metrics"]["tre_mm"] = {"mean": 1.0 + 0.1 * i}
    (line,) = summarise(rows)
    assert line.quantiles == {"dice30": pytest.approx(0.53), "tre30": pytest.approx(1.7)}
    assert "tre30" not in summarise([row("demons", 0)])[0].quantiles


def test_a_metric_that_declined_is_told_with_its_reason() -> None:
    rows = [row("demons", i) for i in range(6)]
    for one in rows[:2]:
        one["metrics"]["hd95_mm"] = {"mean": None, "reason": "the fixed grid is sheared"}
    assert "cohort: no hd95_mm in 2 cases: the fixed grid is sheared." in notes(rows)


def test_the_size_of_a_model_is_a_value_of_its_row() -> None:
    rows = [row("vxm", i, model={"model_parameters": 1000, "model_mib": 0.5}) for i in range(6)]
    (line,) = summarise(rows)
    assert line.mean("model_parameters") == 1000
    assert line.mean("model_mib") == 0.5
