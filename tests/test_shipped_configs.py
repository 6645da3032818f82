"""Every config that regbench ships is valid, but for data and weights that its user has to bring."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from regbench.cli import invoke

_CONFIGS = Path(__file__).parents[1] / "configs"
_BROUGHT_BY_THE_USER = re.compile(r"no such (file|folder)|there is no file|is not set")


def _runs() -> list[Path]:
    """The configs of `regbench run`: those with methods; training and tuning have other keys."""
    found = []
    for path in sorted(_CONFIGS.rglob("*.yaml")):
        content = yaml.safe_load(path.read_text())
        if isinstance(content, dict) and {"datasets", "methods"} <= content.keys() and "tune" not in content:
            found.append(path)
    return found


@pytest.mark.parametrize("path", _runs(), ids=lambda path: str(path.relative_to(_CONFIGS)))
def test_a_shipped_config_lacks_nothing_but_what_its_user_brings(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REGBENCH_DATA", raising=False)
    code = invoke(["validate", str(path)])
    told = capsys.readouterr()
    if code != 0:
        problems = [line for line in told.err.splitlines() if line.startswith("regbench: ")]
        assert problems
        assert [line for line in problems if not _BROUGHT_BY_THE_USER.search(line)] == []
