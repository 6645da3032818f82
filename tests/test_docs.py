"""What the README says is what the program does."""

import re
from pathlib import Path

import pytest

from regbench.cli.docs import PARTS, refreshed

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_generated_parts_of_the_readme_are_up_to_date():
    assert refreshed(README) == README


def test_a_missing_part_is_noticed():
    with pytest.raises(ValueError, match="commands"):
        refreshed(README.replace("<!-- commands:begin -->", ""))


@pytest.mark.parametrize("name", PARTS)
def test_every_part_is_a_table_with_rows(name):
    lines = PARTS[name]().splitlines()
    assert len(lines) > 2
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_every_file_that_the_readme_names_exists():
    named = set(re.findall(r"(?:configs|results)/[\w./-]+\.\w+", README))
    assert len(named) > 3
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("script", ["quickstart", "runtests", "check", ".ci/run"])
def test_scripts_stop_at_the_first_error(script):
    path = ROOT / script
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o111
