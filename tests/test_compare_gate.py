"""The gate for method authors: its workflow is pinned and has no rights, its commands exist, its script works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support_rows import row, write_run
from support_runs import PYTHON_PATH

from regbench.cli.compare import command as compare_command
from regbench.cli.run import command as run_command
from regbench.config import check_config

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples" / "github"


def steps() -> list[dict[str, Any]]:
    workflow = yaml.safe_load((EXAMPLES / "regbench.yml").read_text())
    return list(workflow["jobs"]["gate"]["steps"])


def test_the_workflow_is_pinned_and_may_read_only() -> None:
    workflow = yaml.safe_load((EXAMPLES / "regbench.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    used = [step["uses"] for step in steps() if "uses" in step]
    assert len(used) == 4
    for action in used:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) or action == "OWNER/regbench/examples/github@COMMIT"
    for path in EXAMPLES.iterdir():
        assert "secrets." not in path.read_text()
        assert "pull_request_target" not in path.read_text()


def test_no_input_is_written_into_a_script() -> None:
    action = yaml.safe_load((EXAMPLES / "action.yml").read_text())
    for step in [*action["runs"]["steps"], *steps()]:
        assert "${{" not in step.get("run", "")


def test_every_option_that_the_examples_give_is_there() -> None:
    known = {option for command in (compare_command, run_command) for p in command.params for option in p.opts}
    text = (EXAMPLES / "action.yml").read_text() + (ROOT / "configs" / "ci.yaml").read_text()
    used = {
        option
        for line in text.splitlines()
        if "regbench" in line
        for option in re.findall(r"\s(--[a-z-]+|-o)(?=\s)", line)
    }
    assert "--update-baseline" in used
    assert used <= known


def test_the_config_is_valid_and_has_the_pairs_that_a_test_takes() -> None:
    config, problems = check_config(ROOT / "configs" / "ci.yaml")
    assert problems == []
    assert config is not None
    assert config.datasets[0].parameters["pairs"] == "disjoint:12"


@pytest.mark.parametrize(("dice", "code", "verdict"), [(0.7, 0, "no regression"), (0.6, 1, "regression")])
def test_the_script_of_the_action_says_what_the_comparison_says(
    tmp_path: Path, dice: float, code: int, verdict: str
) -> None:
    action = yaml.safe_load((EXAMPLES / "action.yml").read_text())
    script = action["runs"]["steps"][1]["run"]
    write_run(tmp_path / "base", [row("demons", i) for i in range(3)])
    write_run(tmp_path / "regbench-run", [row("demons", i, dice=dice) for i in range(3)])
    # Running a benchmark takes long; its folder is there already, and `run` ends as it does when cases failed.
    script = script.replace('python -m regbench run "$CONFIG" -o regbench-run', "(exit 1)")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": PYTHON_PATH,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CONFIG": "ci.yaml",
            "BASELINE": "base",
            "TOLERANCES": "dice=0.005 ncc=1%",
            "GITHUB_OUTPUT": str(tmp_path / "output"),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert (tmp_path / "output").read_text() == f"verdict={verdict}\n"
    assert json.loads((tmp_path / "regbench-run" / "compare.json").read_text())["exit_code"] == code
    assert ("::error" in done.stdout) == (code == 1)
    assert f"### regbench: {verdict}" in (tmp_path / "summary.md").read_text()
