"""How a config writes conditions: bare strengths, lists, levels, labels, and what is told where they are wrong."""

from __future__ import annotations

import dataclasses
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from regbench.cli import main
from regbench.config import RunConfig, check_config, load_config
from regbench.plan import make_plan
from regbench.shifts.entries import expanded
from regbench.shifts.table import SHIFTS, shift_version

MINIMAL = "datasets: [mni-cohort]\nmethods: [identity]\n"


def written(folder: Path, conditions: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(f"{MINIMAL}conditions: {conditions}\n")
    return path


def read(folder: Path, conditions: str) -> list[tuple[str, str, dict[str, Any]]]:
    entries = load_config(written(folder, conditions)).conditions
    return [(entry.label, entry.name, entry.parameters) for entry in entries]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ("[none, {noise: 0.05}]", [("none", "none", {}), ("noise 0.05", "noise", {"strength": 0.05})]),
        ("[{anisotropy_mm: 4}]", [("anisotropy_mm 4", "anisotropy_mm", {"strength": 4})]),
        (
            "[{noise: [0.02, 0.05]}]",
            [("noise 0.02", "noise", {"strength": 0.02}), ("noise 0.05", "noise", {"strength": 0.05})],
        ),
        (
            "[{blur_mm: [mild, strong]}]",
            [("blur_mm 2", "blur_mm", {"strength": 2}), ("blur_mm 8", "blur_mm", {"strength": 8})],
        ),
        ("[{blur_mm: strong}]", [("blur_mm 8", "blur_mm", {"strength": 8})]),
        ("[{gamma: {strength: 2, on: moving}}]", [("gamma", "gamma", {"strength": 2, "on": "moving"})]),
        ("[{gamma: {strength: strong}}]", [("gamma", "gamma", {"strength": 3})]),
        (
            "[{gamma: {strength: [2, 3], on: moving}}, {gamma: 2}]",
            [
                ("gamma 2 moving", "gamma", {"strength": 2, "on": "moving"}),
                ("gamma 3 moving", "gamma", {"strength": 3, "on": "moving"}),
                ("gamma 2", "gamma", {"strength": 2}),
            ],
        ),
        (
            "[{noise: {strength: [0.1, 0.2], as: snow}}]",
            [("snow 0.1", "noise", {"strength": 0.1}), ("snow 0.2", "noise", {"strength": 0.2})],
        ),
        ("[noise]", [("noise", "noise", {})]),
    ],
)
def test_conditions_as_people_write_them(
    tmp_path: Path, conditions: str, expected: list[tuple[str, str, dict[str, Any]]]
) -> None:
    assert read(tmp_path, conditions) == expected


def test_every_shift_can_be_written_with_its_levels(tmp_path: Path) -> None:
    pytest.importorskip("torchio", reason="torchio is not installed: pip install 'regbench[shifts]'")
    names = [name for name in SHIFTS if name != "none"]
    conditions = ", ".join(f"{{{name}: [{', '.join(SHIFTS[name].named_levels)}]}}" for name in names)
    found = read(tmp_path, f"[{conditions}]")
    assert [(name, parameters["strength"]) for _, name, parameters in found] == [
        (name, level) for name in names for level in SHIFTS[name].levels
    ]


@pytest.mark.parametrize(
    ("conditions", "sentence"),
    [
        ("[none, {noise: [0.1, 3]}]", "line 3: conditions.noise: strength is 3; it must lie between 0 and 2"),
        (
            "[{noise: [0.1, 0.2]}, {nois: 0.1}]",
            "line 3: conditions[2]: unknown condition 'nois'; did you mean 'noise'?",
        ),
        ("[{nois: [0.1, 0.2]}]", "line 3: conditions[1]: unknown condition 'nois'; did you mean 'noise'?"),
        ("[{noise: [0.1, 0.2]}, 3]", "line 3: conditions[2]: 3 is neither a name"),
        ("[{noise: hot}]", "line 3: conditions[1]: parameters of 'noise' must be written as names and values"),
        ("[{noise: [0.1, 0.1]}]", "line 3: conditions: two entries are called 'noise 0.1'"),
        ("[{none: 1}]", "line 3: conditions.none 1: unknown parameter 'strength'; known: none"),
        ("[{noise: true}]", "line 3: conditions[1]: parameters of 'noise' must be written as names and values"),
        ("[{noise: {strength: [0.1], om: fixed}}]", "line 3: conditions.noise 0.1: unknown parameter 'om'"),
    ],
)
def test_what_is_wrong_is_told_at_its_place_as_written(tmp_path: Path, conditions: str, sentence: str) -> None:
    path = written(tmp_path, conditions)
    _, problems = check_config(path)
    assert [problem.removeprefix(f"{path}: ").startswith(sentence) for problem in problems] == [True], problems


def test_the_line_is_that_of_the_entry_behind_a_list(tmp_path: Path) -> None:
    path = written(tmp_path, "\n  - {noise: [0.1, 0.2, 0.3]}\n  - none\n  - {blur_mm: -3}\n  - gama")
    _, problems = check_config(path)
    assert [problem.removeprefix(f"{path}: ").split(":")[0] for problem in problems] == ["line 6", "line 7"]
    assert "conditions[4]: unknown condition 'gama'" in problems[1]


def test_expanded_conditions_survive_the_record_of_a_run(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "[none, {noise: [0.02, 0.05]}]"))
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config
    complete = config.model_dump(mode="json")["conditions"]
    assert [part for entry in complete for part in expanded(entry)] == complete


def test_keys_of_the_conditions_that_there_were_are_what_they_were(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, "[none, {gamma: {strength: 3.0}}]"))
    parts = {
        case.condition: (case.condition_name, case.condition_parameters) for case in make_plan(config, limit=1).cases
    }
    assert parts == {"none": ("none", {}), "gamma": ("gamma", {"strength": 3.0, "on": "both"})}


@pytest.mark.parametrize("arguments", [["shifts"], *(["shifts", name] for name in SHIFTS)])
def test_the_command_shows_levels_parameters_and_what_is_carried(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code in (0, None)
    shown = " ".join(capsys.readouterr().out.split())
    if len(arguments) == 1:
        assert all(name in shown for name in SHIFTS)
        assert "0.02 0.05 0.1" in shown
        return
    card = SHIFTS[arguments[1]]
    assert card.carried in shown and card.unit in shown
    assert all(f"{level} {value:g}" in shown for level, value in card.named_levels.items())


def _keys(folder: Path, conditions: str) -> dict[str, str]:
    config = load_config(written(folder, conditions))
    return {case.condition: case.key for case in make_plan(config, limit=1).cases}


def test_another_version_of_a_shift_is_another_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = "[none, {noise: 0.05}, {blur_mm: 2}]"
    before = _keys(tmp_path, asked)
    newer = dataclasses.replace(SHIFTS["noise"], version=SHIFTS["noise"].version + 1)
    monkeypatch.setitem(SHIFTS, "noise", newer)
    after = _keys(tmp_path, asked)
    assert [name for name in before if before[name] != after[name]] == ["noise 0.05"]
    assert shift_version("none") == ""
    assert shift_version("noise") == str(newer.version)


def test_another_version_of_torchio_is_another_result_of_its_shifts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchio")
    asked = "[none, {noise: 0.05}, {motion: 2}]"
    before = _keys(tmp_path, asked)
    monkeypatch.setattr(metadata, "version", lambda package: f"{package} of tomorrow")
    after = _keys(tmp_path, asked)
    assert [name for name in before if before[name] != after[name]] == ["motion 2"]


def test_a_shift_of_a_missing_package_says_so_in_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", _not_there)
    assert shift_version("motion") == f"{SHIFTS['motion'].version}, no torchio"


def _not_there(package: str) -> str:
    raise metadata.PackageNotFoundError(package)
