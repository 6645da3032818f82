"""How runs are compared: which mode for which method, tests over pairs, margins, two methods, costs."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_rows import failure, row, write_run

from regbench.analysis.comparison import (
    Comparison,
    Options,
    Tolerance,
    compare,
    compare_methods,
    compare_rows,
    parse_tolerances,
)
from regbench.analysis.significance import paired_test
from regbench.errors import ConfigError

Rows = list[dict[str, Any]]
HOST = {"test-host": {"cpu": "CPU 3000", "cores_usable": 2, "gpu": None}}
ONLY_DICE = ("dice",)


def sample(
    n: int, shift: float = 0.0, *, noise: float = 0.001, method: str = "vxm", seed: int = 0, **changes: Any
) -> Rows:
    """Rows of n pairs that differ among themselves; the noise is that of a method that gives no result twice."""
    difficulty, chance = random.Random(1), random.Random(seed)
    return [
        row(method, i, dice=0.7 + difficulty.gauss(0, 0.05) + shift + chance.gauss(0, noise), **changes)
        for i in range(n)
    ]


def only(comparison: Comparison, outcome: Any, what: str = "dice") -> Any:
    (check,) = [check for check in comparison.of(outcome) if check.what == what]
    return check


# -- modes --------------------------------------------------------------------------------------------


def modes(base: Rows, new: Rows, **run: Any) -> dict[str, tuple[str, str]]:
    return {choice.method: (choice.mode, choice.reason) for choice in compare_rows(base, new).modes}


def test_a_deterministic_method_is_compared_value_by_value() -> None:
    mode, reason = modes(sample(3, method="demons"), sample(3, method="demons"))["demons"]
    assert mode == "golden"
    assert "said to be deterministic, same seeds and threads" in reason


@pytest.mark.parametrize(
    ("changes", "reason"), [({"seed": 1}, "seeds differ (0, now 1)"), ({"threads": 4}, "threads differ (2, now 4)")]
)
def test_another_seed_or_number_of_threads_asks_for_a_test(changes: dict[str, Any], reason: str) -> None:
    changed = [{**line, **changes} for line in sample(8, method="demons")]
    mode, told = modes(sample(8, method="demons"), changed)["demons"]
    assert mode == "paired"
    assert reason in told


def test_a_method_without_a_card_is_tested_and_what_its_run_recorded_counts(tmp_path: Path) -> None:
    assert modes(sample(8), sample(8))["vxm"][0] == "paired"
    folders = [write_run(tmp_path / name, sample(8), deterministic={"vxm": "yes"}) for name in ("base", "new")]
    assert compare(*folders).modes[0].mode == "golden"


def test_a_network_on_a_gpu_is_tested_where_its_card_promises_the_cpu_only(tmp_path: Path) -> None:
    facts = {"deterministic": {"vxm": "yes on the CPU"}}
    for device, mode in (("cpu", "golden"), ("cuda H", "paired")):
        folder = write_run(tmp_path / mode, [{**line, "device": device} for line in sample(8)], **facts)
        assert compare(folder, folder).modes[0].mode == mode


# -- tests over pairs ---------------------------------------------------------------------------------


def test_a_clear_loss_is_a_regression_and_its_mirror_image_an_improvement() -> None:
    options = Options("paired", only=ONLY_DICE)
    lost = compare_rows(sample(12), sample(12, -0.02, seed=2), options)
    assert lost.exit_code == 1
    check = only(lost, "regression")
    assert check.difference.mean == pytest.approx(-0.02, abs=0.002)
    assert check.difference.high < 0
    gained = compare_rows(sample(12), sample(12, 0.02, seed=2), options)
    assert gained.exit_code == 0
    assert only(gained, "improvement").difference.low > 0


def test_the_p_value_is_that_of_the_signed_rank_test_after_holm() -> None:
    base, new = sample(12), sample(12, -0.004, noise=0.004, seed=2)
    (check, _) = compare_rows(base, new, Options("paired", only=("dice", "hd95_mm"))).checks
    differences = [b["metrics"]["dice"]["mean"] - n["metrics"]["dice"]["mean"] for b, n in zip(base, new, strict=True)]
    p = paired_test(differences, [(f"f{i}", f"m{i}") for i in range(12)]).p
    assert p is not None
    # HD95 of these rows is a decreasing function of Dice: the same ranks, so the same p twice.
    assert check.p == pytest.approx(min(1.0, 2 * p))


def test_significant_and_within_the_tolerance_is_the_same() -> None:
    comparison = compare_rows(sample(20), sample(20, -0.001, noise=0.0001, seed=2), Options("paired", only=ONLY_DICE))
    check = only(comparison, "same")
    assert check.p < 0.05
    assert comparison.exit_code == 0


def test_beyond_the_tolerance_and_not_significant_is_inconclusive_with_a_number_of_pairs() -> None:
    new = sample(8, -0.01, noise=0.03, seed=5)
    comparison = compare_rows(sample(8), new, Options("paired", only=ONLY_DICE))
    assert comparison.exit_code == 3
    assert "pairs would tell" in only(comparison, "inconclusive").text
    # The same for the better is no reason to stop anybody.
    assert compare_rows(new, sample(8), Options("paired", only=ONLY_DICE)).exit_code == 0


def test_a_few_pairs_that_fall_far_do_not_make_a_gain_of_the_others_a_significant_loss() -> None:
    base = sample(16, noise=0)
    new = sample(16, 0.004, noise=0)
    new[3]["metrics"]["dice"]["mean"] = 0.1
    check = only(compare_rows(base, new, Options("paired", only=ONLY_DICE)), "inconclusive")
    assert "most pairs are better, a few much the other way" in check.text


@pytest.mark.parametrize("n", [1, 5])
def test_too_few_pairs_are_inconclusive_unless_nothing_changed(n: int) -> None:
    comparison = compare_rows(sample(n), sample(n, -0.2))
    assert comparison.exit_code == 3
    assert "too few" in only(comparison, "inconclusive").text
    assert compare_rows(sample(n), sample(n)).exit_code == 0


def test_pairs_that_share_subjects_widen_the_interval() -> None:
    shared: Callable[[Rows], Rows] = lambda made: [  # noqa: E731
        {**line, "pair": {**line["pair"], "fixed": f"s{i}", "moving": f"s{i + 1}"}} for i, line in enumerate(made)
    ]
    base, new = sample(12), sample(12, -0.01, noise=0.004, seed=3)
    alone = only(compare_rows(base, new, Options("paired", only=ONLY_DICE)), "regression")
    chained = compare_rows(shared(base), shared(new), Options("paired", only=ONLY_DICE))
    (check,) = [c for c in chained.checks if c.what == "dice"]
    assert check.difference.method != alone.difference.method
    assert check.difference.half_width > alone.difference.half_width


def test_a_lost_value_is_a_regression_in_every_mode() -> None:
    new = sample(8)
    new[2]["metrics"]["dice"]["mean"] = None
    for mode in ("golden", "paired"):
        comparison = compare_rows(sample(8), new, Options(mode, only=ONLY_DICE))  # type: ignore[arg-type]
        assert "without a value now" in only(comparison, "regression").text
    broken = [failure("vxm", 0), *sample(8)[1:]]
    assert only(compare_rows(sample(8), broken, Options("paired")), "regression", "status").pairs[0].pair == "p00"


def test_rounding_of_a_baseline_is_no_difference(tmp_path: Path) -> None:
    from regbench.analysis.comparison import write_baseline

    run = write_run(tmp_path / "run", sample(4))
    write_baseline(run, tmp_path / "baseline.json")
    assert compare(tmp_path / "baseline.json", run, Options("paired")).exit_code == 0


# -- non-inferiority ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shift", "margin", "exit_code", "outcome"),
    [
        (-0.002, 0.005, 0, "same"),
        (-0.02, 0.005, 1, "regression"),
        (0.02, 0.005, 0, "improvement"),
        (-0.005, 0.005, 3, "inconclusive"),
    ],
)
def test_an_interval_against_a_margin(shift: float, margin: float, exit_code: int, outcome: str) -> None:
    options = Options("noninferiority", margins={"dice": margin})
    comparison = compare_rows(sample(12), sample(12, shift, seed=2), options)
    assert comparison.exit_code == exit_code
    check = only(comparison, outcome)
    assert check.difference.mean == pytest.approx(shift, abs=0.002)
    assert [c.what for c in comparison.checks if c.mode == "noninferiority"] == ["dice"]


def test_without_a_margin_the_accuracy_metric_has_half_a_point() -> None:
    comparison = compare_rows(sample(12), sample(12, -0.02, seed=2), Options("noninferiority"))
    assert only(comparison, "regression").tolerance == 0.005


def test_an_open_question_says_how_many_pairs_would_do() -> None:
    options = Options("noninferiority", margins={"dice": 0.01})
    comparison = compare_rows(sample(8), sample(8, noise=0.04, seed=3), options)
    assert comparison.exit_code == 3
    assert "pairs would tell" in only(comparison, "inconclusive").text


# -- inputs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fingerprint": "b"}, "images or labels are not the same"),
        ({"prealign": {"kind": "affine", "seconds": 1.0}}, "pre-alignment is not the same (none, now affine)"),
    ],
)
def test_changed_inputs_are_not_comparable(change: dict[str, Any], reason: str) -> None:
    base = [{**line, "fingerprint": "a"} for line in sample(6)]
    comparison = compare_rows(base, [{**line, **change} for line in base])
    assert comparison.exit_code == 4
    assert reason in only(comparison, "not comparable", "inputs").text
    assert comparison.n_values == 0


def test_a_condition_with_another_strength_and_another_dataset_are_not_comparable(tmp_path: Path) -> None:
    lines = sample(6, condition="gamma")

    def run(name: str, strength: float = 2.0, n: int = 6) -> Path:
        what = {"gamma": {"name": "gamma", "parameters": {"strength": strength}}}
        return write_run(tmp_path / name, lines, conditions=what, datasets={"cohort": {"manifest": {"n": n}}})

    assert compare(run("base"), run("same")).exit_code == 0
    assert "other parameters" in only(compare(run("base"), run("other", 3.0)), "not comparable", "inputs").text
    assert "manifest" in only(compare(run("base"), run("more", n=7)), "not comparable", "inputs").text


def test_unrecorded_inputs_are_told() -> None:
    assert "not recorded" in compare_rows(sample(6), sample(6)).notes[0]
    known = [{**line, "fingerprint": "a"} for line in sample(6)]
    assert compare_rows(known, known).notes == ()


def test_other_versions_and_parameters_are_told() -> None:
    base = [{**line, "fingerprint": "a"} for line in sample(6)]
    new = [{**line, "method_version": "ants 2", "params": {"iterations": 9}} for line in base]
    notes = " ".join(compare_rows(base, new).notes)
    assert "version regbench 0.1.0, now ants 2" in notes
    assert "iterations None, now 9" in notes


# -- two methods --------------------------------------------------------------------------------------


def test_two_methods_of_a_run(tmp_path: Path) -> None:
    lines = [*sample(12, method="demons"), *sample(12, 0.03, method="vxm", seed=2)]
    folder = write_run(tmp_path / "run", lines)
    options = Options(only=ONLY_DICE)
    better = compare_methods(folder, "demons", "vxm", options)
    assert (better.exit_code, better.verdict) == (0, "not worse")
    assert only(better, "improvement").difference.mean == pytest.approx(0.03, abs=0.002)
    worse = compare_methods(folder, "vxm", "demons", options)
    assert (worse.exit_code, worse.verdict) == (1, "worse")
    with pytest.raises(ConfigError, match=r"no method 'demon'.*demons"):
        compare_methods(folder, "demon", "vxm")


def test_a_gain_that_is_not_significant_is_open_between_methods(tmp_path: Path) -> None:
    lines = [*sample(8, method="demons"), *sample(8, 0.01, noise=0.02, method="vxm", seed=5)]
    folder = write_run(tmp_path / "run", lines)
    assert compare_methods(folder, "demons", "vxm", Options(only=ONLY_DICE)).exit_code == 3


def test_pairs_that_a_method_was_trained_on_say_nothing_between_methods(tmp_path: Path) -> None:
    lines = [*sample(12, method="demons"), *sample(12, method="vxm", seed=2)]
    for line in lines[12:14]:
        line["leaked"] = {"certainty": "yes", "reason": "trained on both", "policy": "exclude"}
        line["metrics"]["dice"]["mean"] = 1.0
    comparison = compare_methods(write_run(tmp_path / "run", lines), "demons", "vxm", Options(only=ONLY_DICE))
    assert {check.n for check in comparison.checks} == {10}
    assert "2 cases left out" in comparison.notes[0]


def test_costs_of_two_methods_are_compared_only_where_asked(tmp_path: Path) -> None:
    lines = [*sample(8, method="demons", timing_mode="exclusive"), *sample(8, method="vxm", timing_mode="exclusive")]
    folder = write_run(tmp_path / "run", lines, hosts=HOST)
    assert not [c for c in compare_methods(folder, "vxm", "demons").checks if c.mode == "cost"]
    asked = Options(tolerances={"register_s": Tolerance(0.2, is_relative=True)})
    assert only(compare_methods(folder, "vxm", "demons", asked), "regression", "register_s").difference.mean > 10


# -- seconds and memory -------------------------------------------------------------------------------


def timed(tmp_path: Path, name: str, factor: float = 1.0, cpu: float | None = None, **facts: Any) -> Path:
    chance = random.Random(name)
    lines = sample(8, method="demons", timing_mode=facts.pop("timing_mode", "exclusive"))
    for line in lines:
        line["timing"]["register_s"] *= factor * (1 + chance.gauss(0, 0.02))
        if cpu is not None:
            line["timing"]["cpu_s"] = cpu
        line["threads"] = facts.get("threads", 2)
    return write_run(tmp_path / name, lines, **{"hosts": HOST, **facts})


def test_a_slower_method_on_equal_hardware_is_a_regression(tmp_path: Path) -> None:
    base = timed(tmp_path, "base")
    comparison = compare(base, timed(tmp_path, "slow", 2.0))
    assert comparison.exit_code == 1
    check = only(comparison, "regression", "register_s")
    assert check.difference.mean == pytest.approx(2.0, rel=0.05)
    assert check.difference.low > 1.9
    assert compare(base, timed(tmp_path, "same")).exit_code == 0
    assert only(compare(base, timed(tmp_path, "fast", 0.5)), "improvement", "register_s").difference.mean < 0.6


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"hosts": {"test-host": {"cpu": "CPU 4000", "cores_usable": 2}}}, "other hardware"),
        ({"hosts": {"test-host": {"cpu": "CPU 3000", "cores_usable": 8}}}, "other hardware"),
        ({"hosts": {}}, "the hardware is not recorded"),
        ({"threads": 4}, "another number of threads (2, now 4)"),
        ({"timing_mode": "shared"}, "did not run one at a time"),
    ],
)
def test_seconds_under_other_circumstances_are_skipped_with_the_reason(
    tmp_path: Path, facts: dict[str, Any], reason: str
) -> None:
    comparison = compare(timed(tmp_path, "base"), timed(tmp_path, "slow", 2.0, **facts), Options("golden"))
    assert comparison.exit_code == 0
    assert reason in only(comparison, "skipped", "register_s").text


def test_seconds_that_cpu_seconds_do_not_follow_are_no_finding(tmp_path: Path) -> None:
    base, busy = timed(tmp_path, "base", cpu=6.0), timed(tmp_path, "busy", 2.0, cpu=6.1)
    comparison = compare(base, busy)
    assert comparison.exit_code == 0
    assert "of CPU seconds 1.02: the machine was busier" in only(comparison, "skipped", "register_s").text
    assert compare(base, timed(tmp_path, "slow", 2.0, cpu=12.0)).exit_code == 1


def test_a_tolerance_of_seconds_is_a_percentage(tmp_path: Path) -> None:
    base, slow = timed(tmp_path, "base"), timed(tmp_path, "slow", 1.2)
    assert compare(base, slow).exit_code == 0
    assert compare(base, slow, Options(tolerances=parse_tolerances(["register_s=10%"]))).exit_code == 1
    for text in ("register_s=0.1", "dice", "dice=x", "dice=-1", "dice=inf", "dize=1"):
        with pytest.raises(ConfigError, match="--tol"):
            compare(base, slow, Options(tolerances=parse_tolerances([text])))


def test_memory_has_a_tolerance_as_well(tmp_path: Path) -> None:
    lines = sample(8, method="demons", timing_mode="shared")
    more = [{**line, "memory": {"rss_peak_mib": 2 * line["memory"]["rss_peak_mib"]}} for line in lines]
    folders = [write_run(tmp_path / name, made, hosts=HOST) for name, made in (("base", lines), ("new", more))]
    assert only(compare(*folders), "regression", "rss_peak_mib").difference.mean == pytest.approx(2)


def test_few_pairs_leave_slower_open(tmp_path: Path) -> None:
    fast, slow = timed(tmp_path, "base"), timed(tmp_path, "slow", 2.0)
    for folder in (fast, slow):
        lines = (folder / "results.jsonl").read_text().splitlines()[:3]
        (folder / "results.jsonl").write_text("\n".join(lines) + "\n")
    comparison = compare(fast, slow)
    assert comparison.exit_code == 3
    assert "3 pairs are too few" in only(comparison, "inconclusive", "register_s").text


def test_calls_of_a_few_milliseconds_are_not_compared(tmp_path: Path) -> None:
    comparison = compare(timed(tmp_path, "base", 1e-4), timed(tmp_path, "slow", 1e-3))
    assert "less than 10 ms" in only(comparison, "skipped", "register_s").text
