"""The table of planted errors fits the source, and the tool that plants them tells caught from not caught."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(_ROOT / "scripts"))

from planted_errors import PlantedError, load_table, plant_all  # noqa: E402

ERRORS = load_table()


def test_the_names_differ() -> None:
    assert len({error.name for error in ERRORS}) == len(ERRORS) >= 20


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.name)
def test_the_error_can_be_planted(error: PlantedError) -> None:
    assert error.mistake
    assert error.problem(_ROOT) is None


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tests").mkdir()
    (tmp_path / "regbench").mkdir()
    (tmp_path / "regbench" / "sums.py").write_text("def twice(x):\n    return 2 * x\n")
    test = "import sums\n\n\ndef test_zero():\n    assert sums.twice(0) == 0\n"
    (tmp_path / "tests" / "test_weak.py").write_text("import sys\n\nsys.path.insert(0, 'regbench')\n" + test)
    strong = test + "\n\ndef test_two():\n    assert sums.twice(2) == 4\n"
    (tmp_path / "tests" / "test_strong.py").write_text("import sys\n\nsys.path.insert(0, 'regbench')\n" + strong)
    return tmp_path


def _error(tests: str, old: str = "2 * x", new: str = "3 * x") -> PlantedError:
    return PlantedError("thrice", "takes it thrice", "regbench/sums.py", old, new, (f"tests/{tests}",))


def test_a_caught_error_names_its_test(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plant_all([_error("test_strong.py")], tree) == 0
    assert "caught by tests/test_strong.py::test_two" in capsys.readouterr().out
    assert "2 * x" in (tree / "regbench" / "sums.py").read_text()


def test_an_error_that_survives_fails_the_run(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plant_all([_error("test_weak.py")], tree) == 1
    assert "NOT CAUGHT (takes it thrice)" in capsys.readouterr().out


def test_a_text_that_is_not_there_fails_the_run(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plant_all([_error("test_strong.py", old="4 * x")], tree) == 1
    assert "occurs 0 times" in capsys.readouterr().out
    assert plant_all([_error("test_strong.py", old="x")], tree) == 1
