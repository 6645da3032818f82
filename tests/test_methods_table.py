"""The table of methods: complete cards, cheap imports, clear messages."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys

import pytest

from regbench.errors import ConfigError
from regbench.methods.card import Card
from regbench.methods.table import (
    CARDS,
    build,
    card,
    method_class,
    method_version,
    missing_needs,
    resolve_parameters,
)
from regbench.methods.trained import weight_file
from regbench.parameters import as_plain

HEAVY = ["torch", "ants", "SimpleITK", "scipy", "pandas", "matplotlib", "nibabel", "safetensors", "pydantic"]
# What a method cannot do without.
NEEDED = {
    "command": {"command": ["register", "{fixed}", "{moving}", "{warp}"]},
    "trained": {"weights": str(weight_file("voxelmorph-cohort", 2))},
}
EVERY = pytest.mark.parametrize("item", CARDS.values(), ids=list(CARDS))


@EVERY
def test_cards_are_complete(item: Card) -> None:
    assert CARDS[item.name] is item
    assert all([item.summary, item.citation, item.licence, item.deterministic, item.grids, item.versioned_by])
    assert item.dimensions and set(item.dimensions) <= {2, 3}
    assert not item.summary.endswith(".")
    assert bool(item.trained_on) == (item.paradigm in ("learned", "hybrid"))
    assert (item.transformation == "none") == (item.paradigm == "none")
    if item.packages:
        known = {package.distribution for package in item.packages} | {"regbench"}
        assert item.versioned_by in known
    if item.paradigm == "learned":
        assert (item.weights or item.name == "trained") and item.supervision != "none"


@EVERY
def test_classes_are_frozen_dataclasses_that_take_their_own_defaults(item: Card) -> None:
    cls = method_class(item.name)
    assert dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    values = resolve_parameters(item.name, NEEDED.get(item.name, {}), f"methods.{item.name}")
    assert isinstance(build(item.name, values), cls)
    assert json.loads(json.dumps(as_plain(values))) == as_plain(values)
    assert (cls.__doc__ or "").strip(), "the class tells a user what its parameters are"


@EVERY
def test_an_unknown_parameter_names_itself_and_what_is_known(item: Card) -> None:
    fields = [f.name for f in dataclasses.fields(method_class(item.name)) if f.init]
    wrong = fields[0] + "_" if fields else "anything"
    with pytest.raises(ConfigError, match=f"methods.{item.name}: unknown parameter '{wrong}'") as caught:
        resolve_parameters(item.name, {wrong: 1}, f"methods.{item.name}")
    assert (fields[0] if fields else "none") in str(caught.value)


@EVERY
def test_what_is_missing_is_found_without_importing(item: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    missing = missing_needs(item)
    assert missing == [*item.packages, *item.programs]
    assert all(package.install_hint.startswith("pip install ") for package in item.packages)
    assert all(program.install_hint for program in item.programs)


@EVERY
def test_presets_resolve_and_give_way_to_what_is_given(item: Card) -> None:
    for preset, values in item.presets.items():
        resolved = resolve_parameters(item.name, {"preset": preset}, "methods.x")
        assert {name: resolved[name] for name in values} == dict(values)
    with pytest.raises(ConfigError, match=r"methods.x: unknown preset 'no-such'.*; known: "):
        resolve_parameters(item.name, {"preset": "no-such"}, "methods.x")


def test_given_values_win_over_the_preset() -> None:
    resolved = resolve_parameters("ants-syn", {"preset": "full", "step": 0.15}, "methods.ants-syn")
    assert resolved["step"] == 0.15 and resolved["iterations"] == (100, 70, 50, 20)


def test_values_of_the_wrong_type_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"methods.ants-syn.metric: 'ncc' is not valid"):
        resolve_parameters("ants-syn", {"metric": "ncc"}, "methods.ants-syn")
    with pytest.raises(ConfigError, match=r"methods.demons.iterations: 'many' is not valid"):
        resolve_parameters("demons", {"iterations": "many"}, "methods.demons")


def test_an_unknown_method_names_the_nearest_and_all() -> None:
    with pytest.raises(ConfigError, match=r"unknown method 'demon'; did you mean 'demons'\?; known: identity, "):
        card("demon")


def test_versions_name_the_package_that_decides() -> None:
    assert method_version(CARDS["identity"]).startswith("regbench")
    assert method_version(CARDS["demons"]).startswith("SimpleITK 2")
    assert method_version(dataclasses.replace(CARDS["demons"], versioned_by="no-such-thing")) == (
        "no-such-thing (not installed)"
    )


def test_the_table_and_all_method_modules_import_nothing_heavy() -> None:
    code = (
        "import sys, regbench.methods.table as t\n"
        "[t.method_class(n) for n in t.CARDS]\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
