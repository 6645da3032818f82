"""Methods of other packages: found by entry point, loaded when asked for, refused where a name is taken twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from regbench import targets
from regbench.cli import invoke
from regbench.config import check_config
from regbench.errors import ConfigError
from regbench.methods.table import all_cards, card, method_names, method_version

CODE = '''
from dataclasses import dataclass
from regbench.displacement import Displacement
from regbench.methods.card import Card


@dataclass(frozen=True)
class Nothing:
    """Moves nothing."""

    seed: int = 0

    def register(self, pair):
        return Displacement.identity(pair.fixed.grid)


class NoDataclass:
    def register(self, pair):
        return None


def card(name):
    return Card(name, f"{__name__}:Nothing", "moves nothing", "classical", "none", "deformable", "nobody", "MIT")


ONE = card("whatever")
FAMILY = [card("family-a"), card("family-b")]
TAKEN = [card("family-c"), card("demons")]
'''


class Site:
    """A folder of installed packages that are not regbench's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, package: str, entry_points: dict[str, str], code: str = CODE) -> None:
        (self.folder / f"{package}_code.py").write_text(code)
        info = self.folder / f"{package}-2.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.5\n")
        lines = [f"{name} = {package}_code:{attribute}" for name, attribute in entry_points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[regbench.methods]", *lines, ""]))

    def loaded(self, package: str) -> bool:
        return f"{package}_code" in sys.modules


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    # Every test has a folder of its own, so nothing of another's is remembered for its search path.
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "site").mkdir()
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return Site(tmp_path / "site")


def test_a_class_and_a_card_are_known_by_the_name_of_their_entry_point(site: Site) -> None:
    site.install("aaa", {"a-class": "Nothing", "a-card": "ONE"})
    assert {"a-class", "a-card"} <= set(method_names()) and not site.loaded("aaa")
    for name in ("a-class", "a-card"):
        found = targets.method_card(name)
        assert found.name == name and found.target == "aaa_code:Nothing"
        assert method_version(found) == "aaa 2.5"
        assert targets.method_class(name).__name__ == "Nothing"
        assert targets.method_parameters(name, {"seed": 3}, "methods.x") == {"seed": 3}
    assert card("a-class").summary == "Moves nothing"


def test_a_list_is_known_by_its_own_names_and_loaded_only_if_need_be(site: Site) -> None:
    site.install("bbb", {"bbb-family": "FAMILY"})
    assert card("demons").name == "demons" and not site.loaded("bbb")
    assert method_names(["demons"]) and not site.loaded("bbb")
    assert "family-b" in method_names(["family-b"])
    assert card("family-b").name == "family-b"
    assert {"family-a", "family-b", "demons"} <= set(all_cards())


def test_a_name_that_is_taken_is_refused(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.install("ccc", {"rigid": "Nothing", "twice": "Nothing"})
    site.install("ddd", {"twice": "ONE"})
    with pytest.raises(ConfigError, match="two methods are called 'rigid', of regbench and ccc; uninstall one"):
        card("rigid")
    with pytest.raises(ConfigError, match="two methods are called 'twice', of ccc and ddd"):
        card("twice")
    assert card("demons").name == "demons"


def test_a_name_in_a_list_that_is_taken_is_refused(site: Site) -> None:
    site.install("eee", {"eee": "TAKEN"})
    with pytest.raises(ConfigError, match="two methods are called 'demons', of regbench and eee"):
        card("family-c")


def test_what_cannot_be_loaded_spoils_nothing_else(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.install("fff", {"broken": "Nothing"}, "import no_such_module\n")
    site.install("ggg", {"not-a-method": "card", "no-dataclass": "NoDataclass", "good": "Nothing"})
    with pytest.raises(ConfigError, match=r"method 'broken' of the package fff cannot be loaded: ModuleNotFoundError"):
        card("broken")
    for name in ("not-a-method", "no-dataclass"):
        with pytest.raises(ConfigError, match=f"method '{name}' of the package ggg: .* is neither a Card, nor"):
            card(name)
    assert "good" in all_cards() and "broken" not in all_cards()
    assert "broken" in caplog.text
    with pytest.raises(ConfigError, match=r"unknown method 'goof'; did you mean 'good'\?"):
        card("goof")


def test_a_config_may_name_it(site: Site, tmp_path: Path) -> None:
    site.install("hhh", {"mine": "Nothing", "hhh-family": "FAMILY"})
    config = tmp_path / "c.yaml"
    config.write_text("datasets: [mni-cohort]\nmethods: [{mine: {seed: 4}}, demons]\n")
    assert check_config(config)[1] == [] and site.loaded("hhh")
    config.write_text("datasets: [mni-cohort]\nmethods: [family-a, {mine: {seeds: 4}}, family-x]\n")
    problems = check_config(config)[1]
    assert len(problems) == 2 and "unknown parameter 'seeds'" in problems[0]
    assert "unknown method 'family-x'; did you mean 'family-" in problems[1]


def test_commands_show_it_and_help_does_not_load_it(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.install("iii", {"mine": "Nothing"})
    assert invoke(["methods", "--help"]) == 0 and not site.loaded("iii")
    assert invoke(["methods", "mine"]) == 0 and "Moves nothing" in capsys.readouterr().out
    assert invoke(["methods"]) == 0 and "mine" in capsys.readouterr().out


def test_a_fresh_process_finds_it_and_the_suite_tries_it(site: Site) -> None:
    site.install("jjj", {"mine": "Nothing"})
    done = subprocess.run(
        [sys.executable, "-m", "regbench", "methods", "test", "mine", "--dimension", "2"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{site.folder}:{Path(__file__).parent.parent}", "PATH": "/usr/bin"},
    )
    assert done.returncode == 1 and "it hardly moves anything" in done.stdout, done.stdout + done.stderr
