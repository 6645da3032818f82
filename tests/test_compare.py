"""A run against a baseline: what counts as the same, better, worse, missing or not comparable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support_rows import failure, row, write_run

from regbench.analysis.comparison import Comparison, compare, compare_golden, write_baseline
from regbench.errors import ConfigError, StoreError


def told(comparison: Comparison) -> str:
    """All that a comparison says of what is worse."""
    return "\n".join(check.text for check in comparison.of("regression", "not comparable"))


def rows(dice: float = 0.7, fold: float = 0.5) -> list[dict[str, Any]]:
    made = [row(method, i, dice=dice) for method in ("demons", "affine") for i in range(3)]
    for line in made:
        line["metrics"]["fold_percent"] = fold
    return made


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    path = tmp_path / "baseline.json"
    write_baseline(write_run(tmp_path / "base", rows()), path)
    return path


def test_a_run_agrees_with_its_own_baseline(tmp_path: Path, baseline: Path) -> None:
    comparison = compare_golden(baseline, tmp_path / "base")
    assert comparison.exit_code == 0
    assert comparison.counts["same"] == 8
    assert comparison.headline.startswith("8 checks of 24 values against")


def test_a_baseline_is_small_sorted_and_free_of_costs(tmp_path: Path, baseline: Path) -> None:
    content = json.loads(baseline.read_text())
    assert list(content["values"]["cohort"]["none"]) == ["affine", "demons"]
    assert set(content["values"]["cohort"]["none"]["demons"]["p00"]) == {
        "dice",
        "hd95_mm",
        "fold_percent",
        "ndv_percent",
    }
    again = tmp_path / "again.json"
    write_baseline(write_run(tmp_path / "shuffled", rows()[::-1]), again)
    assert again.read_bytes() == baseline.read_bytes()


@pytest.mark.parametrize(
    ("change", "exit_code", "outcome"),
    [
        ({"dice": 0.69}, 1, "regression"),
        ({"dice": 0.71}, 0, "improvement"),
        ({"dice": 0.699}, 0, None),
        ({"fold": 0.6}, 1, "regression"),
        ({"fold": 0.4}, 0, "improvement"),
    ],
)
def test_changes_beyond_the_tolerance_are_told_by_direction(
    tmp_path: Path, baseline: Path, change: dict[str, float], exit_code: int, outcome: str | None
) -> None:
    comparison = compare_golden(baseline, write_run(tmp_path / "new", rows(**change)))
    assert comparison.exit_code == exit_code
    assert {check.outcome for check in comparison.checks} - {"same"} == ({outcome} if outcome else set())


def test_tolerances_can_be_given(tmp_path: Path, baseline: Path) -> None:
    new = write_run(tmp_path / "new", rows(dice=0.69))
    assert compare_golden(baseline, new, {"dice": 0.02, "hd95_mm": 0.2}).exit_code == 0
    with pytest.raises(ConfigError, match=r"'dise'.*dice"):
        compare_golden(baseline, new, {"dise": 0.02})
    with pytest.raises(ConfigError, match="zero or a positive"):
        compare_golden(baseline, new, {"dice": -1})


def test_times_and_memory_are_not_compared(tmp_path: Path, baseline: Path) -> None:
    slow = rows()
    for line in slow:
        line["timing"]["register_s"] = 1e4
        line["memory"]["rss_peak_mib"] = 1e6
    assert compare_golden(baseline, write_run(tmp_path / "new", slow)).exit_code == 0


def test_a_new_failure_is_a_regression_with_its_reason(tmp_path: Path, baseline: Path) -> None:
    comparison = compare_golden(baseline, write_run(tmp_path / "new", [failure("demons", 0), *rows()[1:]]))
    assert comparison.exit_code == 1
    assert "p00: timeout: stopped after 900 s" in told(comparison)
    assert comparison.counts["regression"] == 1


def test_a_missing_case_and_a_missing_value_are_regressions(tmp_path: Path, baseline: Path) -> None:
    fewer = rows()[1:]
    fewer[0]["metrics"]["dice"] = {"mean": None}
    comparison = compare_golden(baseline, write_run(tmp_path / "new", fewer))
    assert comparison.exit_code == 1
    assert "the case is missing" in told(comparison)
    assert "no value now" in told(comparison)


def test_a_case_that_failed_before_may_fail_again(tmp_path: Path) -> None:
    broken = [failure("demons", 0), *rows()[1:]]
    first, second = write_run(tmp_path / "first", broken), write_run(tmp_path / "second", broken)
    assert compare_golden(first, second).exit_code == 0
    assert not compare_golden(first, second).of("regression", "improvement")


def test_a_case_that_the_baseline_lacks_is_named_only(tmp_path: Path, baseline: Path) -> None:
    comparison = compare_golden(baseline, write_run(tmp_path / "new", [*rows(), row("demons", 9)]))
    assert comparison.exit_code == 0
    assert comparison.counts["new"] == 1


def test_nothing_in_common_is_not_success(tmp_path: Path, baseline: Path) -> None:
    empty = write_run(tmp_path / "empty", [])
    assert compare_golden(empty, tmp_path / "base").exit_code == 5
    assert compare_golden(empty, empty).exit_code == 5
    assert compare_golden(baseline, empty).exit_code == 1


def test_another_definition_of_a_metric_cannot_be_compared(tmp_path: Path, baseline: Path) -> None:
    newer = rows(dice=0.1)
    for line in newer:
        line["metric_versions"]["dice"] = 2
        line["metrics"]["hd95_mm"]["mean"] = 2.4
    comparison = compare_golden(baseline, write_run(tmp_path / "new", newer))
    assert comparison.exit_code == 4
    assert "from version 1 to 2" in told(comparison)


def test_a_baseline_is_refused_for_failures_and_for_nothing(tmp_path: Path) -> None:
    target = tmp_path / "baseline.json"
    with pytest.raises(StoreError, match=r"1 cases have no result.*demons"):
        write_baseline(write_run(tmp_path / "bad", [failure("demons", 0), *rows()[1:]]), target)
    with pytest.raises(StoreError, match="no results"):
        write_baseline(write_run(tmp_path / "empty", []), target)
    assert not target.exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema": 9}', '{"schema": 1, "values": 3}'])
def test_a_file_that_is_no_baseline_is_one_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(content)
    with pytest.raises(StoreError, match=r"odd\.json"):
        compare_golden(path, write_run(tmp_path / "new", rows()))
    with pytest.raises(StoreError, match="cannot be read"):
        compare_golden(tmp_path / "absent.json", tmp_path / "new")


def test_labels_warped_in_another_way_are_not_the_same_case(tmp_path: Path, baseline: Path) -> None:
    other = write_run(tmp_path / "other", [{**line, "label_warp": "linear"} for line in rows()])
    comparison = compare_golden(baseline, other)
    assert comparison.counts["same"] == 0
    assert comparison.exit_code != 0


def test_a_fixed_failure_is_an_improvement(tmp_path: Path) -> None:
    first = write_run(tmp_path / "first", [failure("demons", 0), *rows()[1:]])
    comparison = compare(first, write_run(tmp_path / "second", rows()))
    assert comparison.exit_code == 0
    (check,) = comparison.of("improvement")
    assert (check.method, check.what) == ("demons", "status")


def test_a_value_that_was_missing_is_an_improvement(tmp_path: Path) -> None:
    fewer = rows()
    fewer[0]["metrics"]["dice"] = {"mean": None}
    comparison = compare(write_run(tmp_path / "first", fewer), write_run(tmp_path / "second", rows()))
    (check,) = comparison.of("improvement")
    assert check.what == "dice"
    assert comparison.exit_code == 0


def test_one_more_failed_repeat_is_a_regression(tmp_path: Path) -> None:
    first = [row("demons", 0, repeat=i, seed=i) for i in range(3)]
    second = [*first[:2], failure("demons", 0, repeat=2, seed=2)]
    comparison = compare(write_run(tmp_path / "first", first), write_run(tmp_path / "second", second))
    assert comparison.exit_code == 1
    back = compare(tmp_path / "second", tmp_path / "first")
    assert back.exit_code == 0
    assert back.counts["improvement"] == 1


def test_an_old_baseline_file_can_be_read(tmp_path: Path, baseline: Path) -> None:
    content = json.loads(baseline.read_text())
    old = {key: content[key] for key in ("schema", "run", "metric_versions", "values")}
    baseline.write_text(json.dumps(old))
    comparison = compare(baseline, tmp_path / "base")
    assert comparison.exit_code == 0
    assert {choice.mode for choice in comparison.modes} == {"golden"}


def test_a_baseline_knows_the_inputs_that_it_was_made_from(tmp_path: Path) -> None:
    made = [{**line, "fingerprint": "ab" * 32} for line in rows()]
    path = tmp_path / "baseline.json"
    write_baseline(write_run(tmp_path / "base", made), path)
    assert compare(path, tmp_path / "base").exit_code == 0
    other = write_run(tmp_path / "other", [{**line, "fingerprint": "cd" * 32} for line in made])
    comparison = compare(path, other)
    assert comparison.exit_code == 4
    assert "images or labels are not the same in 3 pairs" in told(comparison)


def test_a_baseline_is_refused_for_a_run_that_was_stopped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "part", rows(), plan_keys=[line["key"] for line in [*rows(), row("demons", 9)]])
    with pytest.raises(StoreError, match="1 of 7 cases have not been run"):
        write_baseline(run, tmp_path / "baseline.json")


def test_a_baseline_that_gets_smaller_says_so(tmp_path: Path, baseline: Path) -> None:
    (note,) = write_baseline(write_run(tmp_path / "part", rows()[:3]), baseline)
    assert "3 of 6 cases" in note


def test_leaked_pairs_are_in_a_baseline_and_told_of(tmp_path: Path) -> None:
    leaked = [{**line, "leaked": {"certainty": "yes", "reason": "trained on both"}} for line in rows()]
    path = tmp_path / "baseline.json"
    notes = write_baseline(write_run(tmp_path / "base", leaked), path)
    assert "tell changes and not quality" in notes[0]
    assert compare(path, tmp_path / "base").n_values == 24
