"""Environments of methods: where they are, what they hold, what is missing, and how they are made."""

from __future__ import annotations

import dataclasses
import fcntl
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support_interpreters import bare_python
from support_runs import own, tiny_config, write_pairs

from regbench import environments
from regbench.cli import invoke
from regbench.config import check_config
from regbench.environments import (
    MADE,
    environment_folder,
    environment_python,
    home_of,
    install,
    installation,
    missing_needs,
)
from regbench.errors import ConfigError, MethodError
from regbench.methods import table
from regbench.methods.card import Card, Environment, Package, Program
from regbench.plan import make_plan
from regbench.store import read_run

TOY = Card(
    name="toy",
    target="regbench.methods.linear:Moments",
    summary="a method that needs a package of its own",
    paradigm="classical",
    supervision="none",
    transformation="rigid",
    citation="none",
    licence="none",
    packages=(Package("toy_engine", "toy-engine>=1"),),
    environment=Environment("toys", ("toy-engine==1.2",), same_as_here=("numpy",), alone=("stubborn==3",)),
    versioned_by="toy_engine",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(table.CARDS, "toy", TOY)
    return tmp_path / "cache"


def _make(card: Card = TOY, **distributions: str) -> Path:
    """The environment of a card as an installation leaves it, around an interpreter with these distributions."""
    assert card.environment is not None
    folder = environment_folder(card.environment)
    python = bare_python(folder, **distributions)
    (folder / MADE).write_text("{}")
    return python


# -- where a method runs ----------------------------------------------------------------------------------


def test_a_method_that_needs_nothing_runs_here() -> None:
    home = home_of("moments")
    assert (home.python, home.missing) == (None, ()) and home.version.startswith("regbench ")


def test_without_its_environment_a_method_names_the_command_that_makes_it() -> None:
    (lack,) = home_of("toy").missing
    assert lack.name == "an environment of its own" and lack.install_hint == "regbench methods install toy"
    assert home_of("toy").python is None and home_of("toy").version == "toy_engine (not installed)"


def test_packages_that_are_here_are_used_where_there_is_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    card = dataclasses.replace(TOY, packages=(Package("numpy", "numpy"),), versioned_by="numpy")
    monkeypatch.setitem(table.CARDS, "toy", card)
    home = home_of("toy")
    assert (home.python, home.missing) == (None, ())
    assert home.version == f"numpy {importlib.metadata.version('numpy')}"


def test_the_environment_is_used_once_it_is_complete() -> None:
    python = _make(toy_engine="1.2.7")
    home = home_of("toy")
    assert (home.python, home.missing, home.version) == (str(python), (), "toy_engine 1.2.7")
    python.unlink()
    assert home_of("toy").python is None, "the interpreter that it was made with is gone"


def test_the_rest_of_an_interrupted_installation_does_not_count() -> None:
    python = _make(toy_engine="1.2.7")
    (python.parent.parent / MADE).unlink()
    assert home_of("toy").python is None and home_of("toy").missing


def test_other_pins_are_another_environment() -> None:
    assert TOY.environment is not None
    other = dataclasses.replace(TOY.environment, requirements=("toy-engine==1.3",))
    assert environment_folder(other) != environment_folder(TOY.environment)
    assert environment_folder(other).parent == environment_folder(TOY.environment).parent


def test_an_interpreter_of_the_config_goes_before_the_environment(tmp_path: Path) -> None:
    _make(toy_engine="1.2.7")
    other = bare_python(tmp_path / "other", toy_engine="2.0")
    home = home_of("toy", str(other))
    assert (home.python, home.missing, home.version) == (str(other), (), "toy_engine 2.0")


def test_what_another_interpreter_lacks_is_told_with_the_line_that_installs_it_there(tmp_path: Path) -> None:
    other = bare_python(tmp_path / "other")
    (tmp_path / "other" / "packages" / "numpy").unlink()
    card = dataclasses.replace(TOY, programs=(Program("no-such-program", "make it"),))
    numpy, engine, program = missing_needs(card, str(other))
    assert numpy.install_hint == f"{other} -m pip install numpy"
    assert engine.install_hint == f"{other} -m pip install toy-engine>=1"
    assert program.install_hint == "make it"


def test_an_interpreter_that_is_not_there_is_a_lack_and_one_that_is_none_an_error(tmp_path: Path) -> None:
    (lack,) = missing_needs(TOY, str(tmp_path / "no-such"))
    assert str(tmp_path / "no-such") in lack.name
    assert home_of("toy", str(tmp_path / "no-such")).version == "toy_engine (not installed)"
    fake = tmp_path / "fake"
    fake.write_text("#!/bin/sh\necho no luck >&2\nexit 3\n")
    fake.chmod(0o755)
    with pytest.raises(ConfigError, match=f"{fake} does not answer as a Python interpreter: no luck"):
        home_of("toy", str(fake))


def test_an_interpreter_of_another_age_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = bare_python(tmp_path, toy_engine="1.2")
    monkeypatch.setattr(environments, "_survey", lambda *_: {"python": "3.9.2", "modules": {}, "versions": {}})
    monkeypatch.setattr(environments, "_modules_of", lambda card: {})
    (lack,) = missing_needs(TOY, str(python))
    assert lack.name == f"Python 3.11 or later; {python} is 3.9.2"


# -- in a config and in a plan ----------------------------------------------------------------------------


def test_the_interpreter_in_a_config_is_relative_to_it_and_not_resolved(tmp_path: Path) -> None:
    real = bare_python(tmp_path / "real")
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "python").symlink_to(real)
    path = tmp_path / "c.yaml"
    path.write_text("datasets: [mni-cohort]\nmethods: [identity, {identity: {python: envs/python, as: there}}]\n")
    config, problems = check_config(path)
    assert not problems and config is not None
    assert [entry.python for entry in config.methods] == [None, str(tmp_path / "envs" / "python")]
    assert [entry.parameters for entry in config.methods] == [{}, {}]
    assert type(config).model_validate(config.model_dump(mode="json")).methods == config.methods


def test_an_interpreter_that_is_no_path_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("datasets: [mni-cohort]\nmethods:\n  - identity: {python: 3.11}\n")
    _, problems = check_config(path)
    what = "python: 3.11 is not the path of a Python interpreter, such as envs/mine/bin/python"
    assert problems == [f"{path}: line 3: methods[1]: {what}"]


def _case(tmp_path: Path, entry: dict[str, Any]) -> Any:
    return make_plan(tiny_config(tmp_path / "pairs.csv", [entry])).cases[0]


def test_the_version_over_there_is_in_the_key_and_the_place_is_not(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a"])
    pythons = [bare_python(tmp_path / name, toy_engine=version) for name, version in zip("abc", "112", strict=True)]
    entry = {"name": "toy", "label": "toy", "parameters": {}}
    one, same, other = (_case(tmp_path, {**entry, "python": str(python)}) for python in pythons)
    assert one.method_version == "toy_engine 1" and one.python == str(pythons[0]) and one.verdict is None
    assert one.key == same.key != other.key


def test_a_missing_environment_is_a_skip_with_its_command(tmp_path: Path) -> None:
    write_pairs(tmp_path, ["a"])
    case = _case(tmp_path, {"name": "toy", "label": "mine", "parameters": {}})
    assert case.verdict == (
        "skipped",
        "toy needs an environment of its own, which is not installed: regbench methods install toy",
    )


def test_the_shared_pre_alignment_runs_here(tmp_path: Path) -> None:
    from regbench.runner import run

    entry = {**own("Steady"), "python": str(bare_python(tmp_path / "bare"))}
    run(tiny_config(write_pairs(tmp_path, ["a"]), [entry], prealign="rigid"), tmp_path / "run")
    (row,) = read_run(tmp_path / "run").rows
    assert row["status"] == "ok", row["reason"]


# -- how they are made ------------------------------------------------------------------------------------


def test_the_commands_pin_what_is_here_and_leave_out_what_others_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.9.1+cpu", "numpy": "2.3.5"}
    monkeypatch.setattr(importlib.metadata, "version", versions.__getitem__)
    assert TOY.environment is not None
    environment = dataclasses.replace(TOY.environment, same_as_here=("torch", "numpy"))
    card = dataclasses.replace(TOY, environment=environment)
    venv, torch, packages, alone, trial = installation(card, "/usr/bin/python3.11")
    assert venv == ["/usr/bin/python3.11", "-m", "venv", str(environment_folder(environment))]
    assert torch[-4:] == ["--no-deps", "--extra-index-url", "https://download.pytorch.org/whl/cpu", "torch==2.9.1+cpu"]
    assert packages[-3:] == ["torch==2.9.1+cpu", "numpy==2.3.5", "toy-engine==1.2"] and "--no-deps" not in packages
    assert alone[-2:] == ["--no-deps", "stubborn==3"]
    assert trial[1:] == ["-c", "import numpy, toy_engine"]
    versions["torch"] = "2.9.1"
    assert len(installation(card)) == 4, "a build of the package index needs no other index"


def test_a_method_without_an_environment_says_how_to_install_it() -> None:
    with pytest.raises(ConfigError, match="demons runs where regbench runs: pip install SimpleITK"):
        installation(table.card("demons"))


def _offline(card: Card, base: str | None = None) -> list[list[str]]:
    """An installation without a package index: a venv, and a line that says where it is."""
    assert card.environment is not None
    folder = environment_folder(card.environment)
    python = str(folder / "bin" / "python")
    return [
        [base or sys.executable, "-m", "venv", "--without-pip", str(folder)],
        [python, "-c", "import sys; assert sys.prefix != sys.base_prefix; print('in', sys.prefix)"],
    ]


def test_an_environment_is_made_once(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(environments, "installation", _offline)
    told: list[str] = []
    python = install(TOY, tell=told.append)
    folder = Path(python).parent.parent
    assert python == environment_python(TOY) and len(told) == 2
    assert json.loads((folder / MADE).read_text())["commands"] == _offline(TOY)
    assert f"in {folder}" in capfd.readouterr().out
    (folder / "mark").write_text("")
    assert install(TOY, tell=told.append) == python and len(told) == 2 and (folder / "mark").exists()
    install(TOY, fresh=True, tell=told.append)
    assert len(told) == 4 and not (folder / "mark").exists()


def test_an_installation_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def failing(card: Card, base: str | None = None) -> list[list[str]]:
        return [_offline(card)[0], [sys.executable, "-c", "raise SystemExit(4)"]]

    monkeypatch.setattr(environments, "installation", failing)
    with pytest.raises(MethodError, match=r"the environment was not made, this ended with exit code 4: .*SystemExit"):
        install(TOY)
    assert [path.suffix for path in (cache / "environments").iterdir()] == [".lock"]


def test_two_processes_do_not_make_one_environment(cache: Path) -> None:
    assert TOY.environment is not None
    folder = environment_folder(TOY.environment)
    folder.parent.mkdir(parents=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="is being made by another process"):
            install(TOY)


def test_the_wrong_python_is_refused_before_anything_is_made(cache: Path) -> None:
    assert TOY.environment is not None
    environment = dataclasses.replace(TOY.environment, python_from=(3, 3), python_before=(3, 5))
    with pytest.raises(ConfigError, match=r"toy needs Python 3.3 or later, before 3.5, .* is 3\.\d+\.\d+; .* --python"):
        install(dataclasses.replace(TOY, environment=environment))
    assert not environment_folder(environment).exists()


# -- on the command line ----------------------------------------------------------------------------------


def test_a_dry_run_prints_commands_and_runs_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was run"))
    assert invoke(["methods", "install", "fireants-syn", "--dry-run", "--python", "py 3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("'py 3' -m venv ") and lines[-2].endswith("--no-deps fireants==1.5.0")
    assert not cache.exists()


def test_install_says_what_it_runs_and_where_the_method_runs(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "installation", _offline)
    assert invoke(["methods", "install", "toy"]) == 0
    shown = capfd.readouterr()
    assert shown.out.splitlines()[-1] == f"toy runs in {environment_python(TOY)}"
    assert shown.err.splitlines()[0].startswith(f"$ {sys.executable} -m venv")
    monkeypatch.setattr(environments, "installation", lambda *_: [["no-such-program"]])
    assert invoke(["methods", "install", "toy", "--fresh"]) == 1
    assert capfd.readouterr().err.splitlines()[-1].startswith("regbench: no-such-program cannot be started")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["install"], "missing argument 'NAME'"),
        (["install", "to"], "unknown method 'to'; did you mean 'toy'?"),
        (["install", "moments"], "moments runs where regbench runs and needs nothing"),
        (["demons", "rigid"], "got unexpected extra argument (rigid)"),
    ],
)
def test_usage_errors_are_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["methods", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and words in shown.err


def test_tables_tell_which_environments_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    invoke(["methods"])
    assert "toy needs an environment of its own:  regbench methods install toy" in capsys.readouterr().out
    invoke(["doctor"])
    assert "toys (toy): not made" in " ".join(capsys.readouterr().out.split())
    python = _make(toy_engine="1.2.7")
    invoke(["methods"])
    assert "toy  " in (shown := capsys.readouterr().out) and "apart" in shown and "methods install toy" not in shown
    invoke(["methods", "toy"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "yes, toy_engine 1.2.7" in shown and "its own, with numpy as here, toy-engine==1.2, stubborn==3" in shown
    invoke(["doctor"])
    assert str(python) in "".join(capsys.readouterr().out.split())
