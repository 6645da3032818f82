"""The plan: pure, one case per key, keys that follow content and nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support_runs import METHODS_FILE, PYTHON_PATH, own, tiny_config, write_pairs

from regbench import targets
from regbench.errors import ConfigError, DatasetError
from regbench.plan import Case, make_plan


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return write_pairs(tmp_path, ["a", "b", "c"])


def _keys(csv: Path, methods: Any = None, **others: Any) -> list[str]:
    return [case.key for case in make_plan(tiny_config(csv, methods or [own("Steady")], **others)).cases]


def test_a_plan_is_every_combination_method_by_method_once(csv: Path) -> None:
    conditions = [
        {"name": "none", "label": "none", "parameters": {}},
        {"name": "none", "label": "two", "parameters": {}},
    ]
    config = tiny_config(csv, [own("Steady"), own("Translation")], repeats=2, conditions=conditions)
    plan = make_plan(config)
    assert len(plan.cases) == 2 * 2 * 2 * 3 == len({case.place for case in plan.cases}) == len(set(_keys_of(plan)))
    assert [case.method for case in plan.cases] == ["steady"] * 12 + ["translation"] * 12
    assert plan.by_method()["steady"][0].pair["id"] == "a"


def _keys_of(plan: Any) -> list[str]:
    return [case.key for case in plan.cases]


def test_a_case_survives_json(csv: Path) -> None:
    case = make_plan(tiny_config(csv, [own("Steady")])).cases[0]
    assert Case.from_json(json.loads(json.dumps(case.as_json()))) == dataclasses.replace(case)


def test_the_same_plan_has_the_same_keys_wherever_the_files_lie(tmp_path: Path, csv: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    assert _keys(csv) == _keys(write_pairs(tmp_path / "elsewhere", ["a", "b", "c"]))


def test_what_does_not_change_a_result_does_not_change_a_key(csv: Path) -> None:
    base = _keys(csv)
    assert base == _keys(csv, metrics=["ncc"])
    assert base == _keys(csv, keep={"fields": True, "pictures": 2}, name="other", engine={"timeout_s": 5.0})
    assert base == _keys(csv, repeats=2)[:3]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"prealign": "moments"},
        {"methods": [own("Steady", seconds=0.5)]},
        {"methods": [own("Translation", label="steady")]},
        {"methods": [own("Steady", label="other")]},
    ],
)
def test_what_changes_a_result_or_its_name_changes_every_key(csv: Path, change: dict[str, Any]) -> None:
    assert not set(_keys(csv)) & set(_keys(csv, **change))


def test_a_changed_image_changes_the_key_of_its_pair_only(tmp_path: Path, csv: Path) -> None:
    before = _keys(csv)
    other = tmp_path / "other"
    other.mkdir()
    write_pairs(other, ["a", "b", "c"], shift_voxels=2.0)
    (other / "b_moving.nii.gz").replace(tmp_path / "b_moving.nii.gz")
    assert [new == old for new, old in zip(_keys(csv), before, strict=True)] == [True, False, True]


def test_an_edited_method_file_is_another_version(tmp_path: Path, csv: Path) -> None:
    versions = []
    for index, extra in enumerate(("", "\n# edited\n")):
        file = tmp_path / str(index) / "method.py"
        file.parent.mkdir()
        file.write_text(METHODS_FILE.read_text() + extra)
        versions.append(targets.version_of(f"{file}:Steady"))
    assert versions[0].startswith("method.py ") and versions[0] != versions[1]


def test_a_seed_field_is_filled_unless_the_user_set_it(csv: Path) -> None:
    config = tiny_config(csv, [own("Steady"), own("Steady", label="set", seed=99)], seed=5, repeats=2)
    seeds = {(case.method, case.repeat): case.params["seed"] for case in make_plan(config).cases}
    assert seeds == {("steady", 0): 5, ("steady", 1): 6, ("set", 0): 99, ("set", 1): 99}


def test_only_and_limit_leave_cases_out_without_changing_the_others(csv: Path) -> None:
    config = tiny_config(csv, [own("Steady"), own("Translation")])
    part = make_plan(config, only=["translation"], limit=2)
    assert [(case.method, case.pair["id"]) for case in part.cases] == [("translation", "a"), ("translation", "b")]
    assert set(_keys_of(part)) < set(_keys_of(make_plan(config)))


def test_pictures_are_of_the_first_pairs_and_the_first_repeat(csv: Path) -> None:
    cases = make_plan(tiny_config(csv, [own("Steady")], keep={"pictures": 1}, repeats=2)).cases
    assert [(case.pair["id"], case.repeat) for case in cases if case.keep_picture] == [("a", 0)]


def test_a_pair_that_cannot_be_read_is_a_failed_case_of_its_own(tmp_path: Path, csv: Path) -> None:
    (tmp_path / "b_moving.nii.gz").unlink()
    cases = make_plan(tiny_config(csv, [own("Steady")])).cases
    assert [case.verdict is None for case in cases] == [True, False, True]
    assert cases[1].verdict is not None and cases[1].verdict[0] == "failed"
    assert "b_moving.nii.gz" in cases[1].verdict[1]
    assert len({case.key for case in cases}) == 3


def test_missing_needs_are_a_skip_with_the_line_that_installs_them(csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from regbench.methods.card import Package

    monkeypatch.setattr("regbench.methods.table.missing_needs", lambda card: [Package("ants", "antspyx")])
    verdicts = {case.verdict for case in make_plan(tiny_config(csv, [own("Steady")])).cases}
    ((status, reason),) = verdicts
    assert status == "skipped" and reason.endswith("needs ants, which is not installed: pip install antspyx")


def test_weights_are_part_of_the_key(tmp_path: Path, csv: Path) -> None:
    method = tmp_path / "weighted.py"
    method.write_text(
        "from dataclasses import dataclass\n@dataclass\nclass W:\n"
        "    weights: str = ''\n    def register(self, pair): ...\n"
    )
    keys = []
    for content in (b"1", b"2", b"1"):
        (tmp_path / "w.bin").write_bytes(content)
        entry = {"name": f"{method}:W", "label": "w", "parameters": {"weights": str(tmp_path / "w.bin")}}
        keys.append(_keys(csv, [entry]))
    assert keys[0] == keys[2] and keys[0] != keys[1]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere.py:Steady", "there is no file"),
        ("no.such.module:Steady", "cannot be imported"),
        (f"{METHODS_FILE}:Nothing", "has no class 'Nothing'"),
        (f"{METHODS_FILE}:NotADataclass", "must be a dataclass"),
    ],
)
def test_a_target_that_leads_nowhere_is_one_sentence(csv: Path, target: str, words: str) -> None:
    entry = {"name": target, "label": "x", "parameters": {}}
    with pytest.raises(ConfigError, match=words):
        make_plan(tiny_config(csv, [entry]))


def test_unknown_names_and_parameters_are_config_errors(csv: Path) -> None:
    with pytest.raises(ConfigError, match="unknown parameter 'secnds'; did you mean 'seconds'"):
        make_plan(tiny_config(csv, [own("Steady", secnds=1)]))
    with pytest.raises(ConfigError, match="the config has no method 'stedy'; did you mean 'steady'"):
        make_plan(tiny_config(csv, [own("Steady")]), only=["stedy"])
    with pytest.raises(DatasetError, match="no such file"):
        make_plan(tiny_config(csv.with_name("other.csv"), [own("Steady")]))


def test_planning_loads_no_registration_engine(csv: Path) -> None:
    code = (
        "import sys, support_runs as s; from pathlib import Path; from regbench.plan import make_plan\n"
        "make_plan(s.tiny_config(Path(sys.argv[1]), ['identity', s.own('Steady')], prealign='affine'))\n"
        "print([m for m in ('torch', 'ants', 'SimpleITK', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH}
    command = [sys.executable, "-c", code, str(csv)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
