"""Subjects that a method was trained on: how ids are read, what is marked, and what tables make of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support_rows import row, table
from support_runs import Recorder, own, tiny_config, write_pairs

from regbench.analysis.comparison import read_side
from regbench.analysis.groups import group_rows
from regbench.analysis.headline import headline
from regbench.analysis.summary import notes, summarise, takeaway
from regbench.config import load_config
from regbench.errors import ConfigError
from regbench.families import FAMILIES, family_of, listed_ids
from regbench.leaks import leak_of, read_trainings, scans_of, trainings_of
from regbench.methods.table import CARDS
from regbench.plan import Plan, make_plan
from regbench.reports.tables import summary_csv
from regbench.runner import run
from regbench.store import read_run

OASIS = FAMILIES["neurite-oasis"]


# -- ids ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identity", "meant"),
    [
        ("OASIS_OAS1_0001_MR1", ("0001",)),
        ("OAS1_0457", ("0457",)),
        ("OASIS-0002", ("0002",)),
        # Learn2Reg counts the 414 subjects: its last one is 0457 of OASIS-1, its 0412 is 0455.
        ("OASIS_0414_0000", ("0457",)),
        ("OASIS_0412_0000", ("0455",)),
        ("OASIS_0100", ("0100", "0107")),
        ("OASIS-TRT-20-3", ()),
    ],
)
def test_ids_of_oasis_are_brought_to_the_number_of_the_subject(identity: str, meant: tuple[str, ...]) -> None:
    assert family_of([], identity) is OASIS
    assert OASIS.identify(identity, False) == meant


def test_families_are_known_by_names_before_ids() -> None:
    assert OASIS.identify("0395", True) == ("0438",)
    assert family_of(["oasis-1"], "anything") is OASIS
    assert family_of(["csv", "LungCT"], "0003") is FAMILIES["lungct"]
    assert family_of(["csv", "mine"], "0003") is None
    assert family_of([], "train-000") is None


def test_ranges_are_written_out() -> None:
    assert listed_ids("train-000 ... train-003") == ["train-000", "train-001", "train-002", "train-003"]
    assert listed_ids("0002, 0003 0008 ... 0010") == ["0002", "0003", "0008", "0009", "0010"]
    found = listed_ids("OASIS_OAS1_0001_MR1 ... OASIS_OAS1_0283_MR1")
    assert len(found) == 283 and found[-2:] == ["OASIS_OAS1_0282_MR1", "OASIS_OAS1_0283_MR1"]
    assert listed_ids(["a", "b"]) == ["a", "b"]


# -- marks -------------------------------------------------------------------------------------------------


def mark(trained_on: dict[str, Any], fixed: str, moving: str, plug_in: str = "csv", **tags: Any) -> Any:
    pair = {"id": "p", "fixed": fixed, "moving": moving, "tags": tags}
    return leak_of(read_trainings(trained_on), scans_of(pair, plug_in, {}, {}))


def test_released_networks_are_found_on_the_subjects_of_their_training() -> None:
    symnet, some, listed = (CARDS[name].trained_on for name in ("symnet-oasis", "lapirn-disp-oasis", "lku-net-2d"))
    both = mark(dict(symnet), "OASIS_OAS1_0001_MR1", "OAS1_0283")
    assert both == {
        "sides": ["fixed", "moving"],
        "certain": True,
        "reason": "trained on OASIS_OAS1_0001_MR1 and OAS1_0283 of neurite-oasis",
    }
    assert mark(dict(symnet), "OASIS_OAS1_0284_MR1", "OASIS-0003")["sides"] == ["moving"]
    assert mark(dict(symnet), "OASIS_OAS1_0284_MR1", "OASIS_OAS1_0457_MR1") is None
    # The first 255 of Learn2Reg are the first 283 numbers.
    assert mark(dict(symnet), "0255", "0256", "learn2reg", dataset="OASIS")["sides"] == ["fixed"]
    assert mark(dict(listed), "OAS1_0220", "OAS1_0221")["sides"] == ["fixed"]
    possible = mark(dict(some), "OASIS_OAS1_0284_MR1", "OASIS_OAS1_0457_MR1")
    assert not possible["certain"] and "not known whether" in possible["reason"]
    assert mark(dict(some), "test-scan", "subject-1") is None
    assert mark(dict(symnet), "OASIS-TRT-20-1", "OASIS-TRT-20-2")["certain"] is False


def test_an_id_with_two_readings_is_leaked_for_certain_only_if_both_are() -> None:
    # OASIS_0100 is the subject 0100 of OASIS-1, or the hundredth of neurite-OASIS, 0107.
    for last, certain in (("0099", None), ("0100", False), ("0107", True)):
        leak = mark({"dataset": "oasis", "subjects": f"0001 ... {last}"}, "OASIS_0100", "OAS1_0300")
        assert (leak and leak["certain"]) is certain


def test_equal_ids_in_two_files_of_the_user_may_be_two_subjects() -> None:
    trained = {"dataset": "csv", "parameters": {"path": "/a/train.csv"}, "subjects": ["s1", "s2"]}
    pair = {"id": "p", "fixed": "s2", "moving": "s3"}
    found = [
        leak_of(read_trainings(trained), scans_of(pair, "csv", {"path": f"/a/{n}.csv"}, {})) for n in ("train", "b")
    ]
    assert [leak and leak["certain"] for leak in found] == [True, False]


def test_a_split_may_be_all_that_is_known() -> None:
    ixi = dict(CARDS["lku-net"].trained_on)
    assert mark(ixi, "subject_1", "subject_2", family="ixi", split="Train")["certain"]
    assert mark(ixi, "subject_1", "subject_2", family="ixi", split="test") is None
    assert mark(ixi, "subject_1", "subject_2", family="ixi")["certain"] is False


def test_what_started_a_training_counts_and_other_seeds_are_others() -> None:
    trained = {
        "dataset": "mni-cohort",
        "parameters": {"seed": 3},
        "subjects": ["train-000"],
        "before": [{"dataset": "neurite-oasis", "subjects": "0001 ... 0010"}],
    }
    assert mark(trained, "OAS1_0010", "OAS1_0011")["sides"] == ["fixed"]
    pair = {"id": "p", "fixed": "train-000", "moving": "train-001"}
    found = [leak_of(read_trainings(trained), scans_of(pair, "mni-cohort", {"seed": s}, {})) for s in (0, 3)]
    assert [leak and leak["sides"] for leak in found] == [None, ["fixed"]]


def test_every_card_can_be_read_and_held_out_subjects_of_the_cohort_are_never_leaked() -> None:
    pair = {"id": "p", "fixed": "test-000", "moving": "test-023", "tags": {"split": "test"}}
    scans = scans_of(pair, "mni-cohort", {"split": "test"}, {})
    for name, card in CARDS.items():
        assert leak_of(read_trainings(card.trained_on), scans) is None, name
    seen = scans_of({"id": "p", "fixed": "train-001", "moving": "test-000"}, "mni-cohort", {}, {})
    leak = leak_of(read_trainings(CARDS["voxelmorph-cohort"].trained_on), seen)
    assert leak is not None and leak["sides"] == ["fixed"] and leak["certain"]


def test_a_file_of_the_users_is_not_what_the_card_is_about(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(b"other")
    assert trainings_of("symnet-oasis", {"weights": str(tmp_path / "mine.pth")}) == []
    assert trainings_of("symnet-oasis", {"weights": None})
    (training,) = trainings_of("symnet-oasis", {}, {"dataset": "mine", "subjects": "a b"})
    assert training.members == {"a", "b"}
    # A number in YAML, and no subjects at all.
    assert read_trainings({"dataset": "oasis", "subjects": 1})[0].members == {"0001"}
    assert read_trainings({"dataset": "oasis"})[0].members is None
    with pytest.raises(ConfigError, match=r"families\.ixi is 3"):
        read_trainings({"families": {"ixi": 3}})


# -- plans and runs ------------------------------------------------------------------------------------------


def settings(leaks: str = "exclude") -> dict[str, Any]:
    """Two methods, the second trained on one of three subjects; what tells the family is the key of the dataset."""
    trained = {"dataset": "neurite-oasis", "subjects": "0001 ... 0002"}
    return {"leaks": leaks, "methods": [own("Steady"), {**own("Steady", "net"), "trained_on": trained}]}


def config(folder: Path, leaks: str = "exclude") -> Any:
    folder.mkdir(exist_ok=True)
    csv = write_pairs(folder, ["a", "b", "c"])
    lines = csv.read_text().splitlines()
    ids = ["fixed_id,moving_id", "0001,0005", "0006,0007", "0008,0009"]
    csv.write_text("\n".join(f"{line},{extra}" for line, extra in zip(lines, ids, strict=True)) + "\n")
    made = tiny_config(csv, **settings(leaks))
    dataset = made.datasets[0].model_copy(update={"family": "neurite-oasis"})
    return made.model_copy(update={"datasets": [dataset]})


def leaks_of(plan: Plan) -> dict[str, list[str]]:
    return {f"{case.method} {case.pair['id']}": list(case.leak["sides"]) for case in plan.cases if case.leak}


def test_a_plan_marks_leaked_cases_and_their_keys_stay_what_they_were(tmp_path: Path) -> None:
    plan = make_plan(config(tmp_path))
    assert leaks_of(plan) == {"net a": ["fixed"]}
    unmarked = config(tmp_path).model_copy(update={"methods": make_unmarked(tmp_path)})
    assert [case.key for case in make_plan(unmarked).cases] == [case.key for case in plan.cases]
    refused = make_plan(config(tmp_path, "refuse"))
    verdicts = {(case.method, case.pair["id"]): case.verdict for case in refused.cases if case.verdict}
    assert list(verdicts) == [("net", "a")]
    status, reason = verdicts["net", "a"] or ("", "")
    assert status == "skipped" and reason.startswith("leak refused: trained on 0001 of neurite-oasis")
    # What was refused is to be run where it no longer is.
    differing = [
        case.pair["id"] for case, other in zip(refused.cases, plan.cases, strict=True) if case.key != other.key
    ]
    assert differing == ["a"]


def make_unmarked(folder: Path) -> list[Any]:
    return [entry.model_copy(update={"trained_on": None}) for entry in config(folder).methods]


def test_a_run_keeps_leaked_rows_out_of_its_table_until_the_config_includes_them(tmp_path: Path) -> None:
    listener = Recorder()
    outcome = run(config(tmp_path / "data"), tmp_path / "run", listener=listener)
    assert outcome.n_ok == 6
    told = [text for text in listener.messages if "trained on" in text]
    assert len(told) == 1 and "net was trained on 0001 of neurite-oasis (1 of 3 pairs" in told[0]
    rows = read_run(tmp_path / "run").rows
    marked = {(r["method"], r["pair"]["id"]): r["leaked"] for r in rows}
    assert [case for case, leak in marked.items() if leak] == [("net", "a")]
    assert marked["net", "a"] == {
        "sides": ["fixed"], "certain": True, "reason": "trained on 0001 of neurite-oasis", "included": False
    }  # fmt: skip
    (group,) = group_rows(rows)
    assert group.common_pairs() == ["b", "c"]
    assert [line.n_leaked for line in summarise(rows)] == [0, 1]
    assert notes(rows)[0].endswith("1 of 3 pairs left out for all methods: net was trained on 0001 of neurite-oasis "
                                   "(1 of 3 pairs).")  # fmt: skip
    # The same run with another policy runs nothing again.
    again = run(config(tmp_path / "data", "include"), tmp_path / "run")
    assert again.n_done_before == 6
    (group,) = group_rows(read_run(tmp_path / "run").rows)
    assert group.common_pairs() == ["a", "b", "c"] and not group.leaked
    refused = run(config(tmp_path / "data", "refuse"), tmp_path / "run")
    assert refused.n_skipped == 1 and refused.n_done_before == 5


def test_rows_of_older_runs_get_the_marks_of_the_newest_plan(tmp_path: Path) -> None:
    run(config(tmp_path / "data"), tmp_path / "run")
    path = tmp_path / "run" / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for one in rows:
        del one["leaked"]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [mark["sides"] for mark in record["leaked"].values()] == [["fixed"]]
    assert group_rows(read_run(tmp_path / "run").rows)[0].common_pairs() == ["b", "c"]
    del record["leaked"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert group_rows(read_run(tmp_path / "run").rows)[0].common_pairs() == ["a", "b", "c"]


def test_a_config_says_the_family_the_training_and_the_policy(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a"])
    text = """
datasets: [{{pairs.csv: {{family: {family}}}}}]
methods: [identity, {{demons: {{trained_on: {trained_on}}}}}]
leaks: {leaks}
"""
    good = {"family": "learn2reg-oasis", "trained_on": "{dataset: oasis, subjects: 0001}", "leaks": "include"}
    path = tmp_path / "run.yaml"
    path.write_text(text.format(**good))
    made = load_config(path)
    assert made.datasets[0].family == "learn2reg-oasis" and "family" not in made.datasets[0].parameters
    assert made.methods[1].trained_on == {"dataset": "oasis", "subjects": 1}
    assert made.leaks == "include"
    for wrong, words in (
        ({"family": "neurite-oasi"}, "did you mean 'neurite-oasis'"),
        ({"family": 3}, "is not a name"),
        ({"trained_on": "oasis"}, "does not name a dataset"),
        ({"leaks": "maybe"}, "known: exclude, include, refuse"),
    ):
        path.write_text(text.format(**(good | wrong)))
        with pytest.raises(ConfigError, match=words):
            load_config(path)


@pytest.mark.real
def test_real_pairs_of_oasis_are_recognised() -> None:
    if "REGBENCH_DATA" not in os.environ:
        pytest.skip("REGBENCH_DATA does not say where real scans are")
    folder = Path(__file__).parent.parent / "configs" / "real-pairs"
    from regbench.datasets.table import build_dataset

    dataset = build_dataset("csv", {"path": str(folder / "oasis.csv")})
    (ref,) = dataset.pair_refs()
    pair = {"id": ref.id, "fixed": ref.fixed, "moving": ref.moving, "tags": dict(ref.tags)}
    scans = scans_of(pair, "csv", {}, {})
    found = {
        name: leak and leak["certain"]
        for name in ("symnet-oasis", "clapirn-oasis", "lapirn-diff-oasis", "voxelmorph-2018", "lku-net")
        for leak in [leak_of(read_trainings(CARDS[name].trained_on), scans)]
    }
    assert found == {
        "symnet-oasis": True, "clapirn-oasis": True, "lapirn-diff-oasis": False, "voxelmorph-2018": False,
        "lku-net": None,
    }  # fmt: skip


# -- tables --------------------------------------------------------------------------------------------------


def leaked(rows: list[dict[str, Any]], method: str, pairs: range, reason: str = "trained on x") -> list[dict[str, Any]]:
    names = {f"p{i:02d}" for i in pairs}
    leak = {"sides": ["fixed"], "certain": True, "reason": reason}
    return [{**r, "leaked": leak} if r["method"] == method and r["pair"]["id"] in names else r for r in rows]


def test_pairs_that_a_method_was_trained_on_are_left_out_for_all() -> None:
    rows = leaked(table(10, conditions=("none",)), "vxm", range(3))
    (group,) = group_rows(rows)
    assert group.common_pairs() == [f"p{i:02d}" for i in range(3, 10)]
    lines = {line.method.name: line for line in summarise(rows)}
    assert {line.n_pairs for line in lines.values()} == {7}
    assert lines["vxm"].n_leaked == 3 and not lines["vxm"].is_apart
    assert [note for note in notes(rows) if "10" in note] == [
        "cohort, condition none: 3 of 10 pairs left out for all methods: vxm was trained on x (3 of 10 pairs)."
    ]
    assert "(7 of 10 pairs)" in takeaway(rows)


def test_a_method_with_nothing_but_leaked_pairs_is_told_apart_and_empties_no_table() -> None:
    rows = leaked(table(8, conditions=("none",)), "vxm-sup", range(8))
    (group,) = group_rows(rows)
    assert len(group.common_pairs()) == 8 and "vxm-sup" not in group.compared
    lines = {line.method.name: line for line in summarise(rows)}
    assert lines["vxm-sup"].is_apart and lines["vxm-sup"].metrics == {} and lines["demons"].n_pairs == 8
    (note,) = (note for note in notes(rows) if "vxm-sup" in note)
    assert "vxm-sup is not compared: it was trained on x (all 8 pairs); dice 0.7" in note
    assert "over 8 pairs (not comparable)" in note
    assert "vxm-sup" not in takeaway(rows) and "vxm-sup" not in str(headline(rows))
    last = summary_csv(lines.values()).splitlines()[-1].split(",")
    assert last[2:5] == ["vxm-sup", "", "0"] and last[-1] == "8"


def test_methods_that_leave_no_pair_between_them_are_set_apart_one_by_one() -> None:
    rows = leaked(leaked(table(8, conditions=("none",)), "vxm", range(4)), "vxm-sup", range(4, 8))
    (group,) = group_rows(rows)
    assert len(group.common_pairs()) == 4
    assert [name for name, found in group.leaked.items() if found.is_apart] in (["vxm"], ["vxm-sup"])
    most = leaked(table(8, conditions=("none",)), "vxm", range(5))
    assert len(group_rows(most)[0].common_pairs()) == 8


def test_a_run_of_leaked_pairs_alone_says_so() -> None:
    rows = leaked([row("vxm", i) for i in range(3)], "vxm", range(3))
    assert "were trained on the subjects of these pairs" in takeaway(rows)
    assert headline(rows) is None
    assert "vxm is not compared" in notes(rows)[0]


def test_a_comparison_with_a_baseline_is_about_all_rows(tmp_path: Path) -> None:
    run(config(tmp_path / "data"), tmp_path / "run")
    assert len(read_side(tmp_path / "run").values) == 6


def test_the_first_call_of_a_method_in_a_worker_is_told_apart(tmp_path: Path) -> None:
    run(config(tmp_path / "data"), tmp_path / "run")
    first = [(r["method"], r["pair"]["id"]) for r in read_run(tmp_path / "run").rows if "first_call_s" in r["timing"]]
    # A worker takes both labels for one method, where class and parameters are the same.
    assert first in ([("steady", "a"), ("net", "a")], [("steady", "a")])
