"""What is recorded of versions, source and host, without importing what is recorded."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

from support_runs import PYTHON_PATH

from regbench.provenance import git_state, host, provenance, versions
from regbench.resources import thread_environment


def test_versions_name_what_is_installed_and_what_is_not() -> None:
    found = versions(["'numpy>=1,<9'", "no-such-distribution"])
    assert found["numpy"] == importlib.metadata.version("numpy")
    assert found["no-such-distribution"] is None
    assert not any(set(name) & set("'<>=") for name in found)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["regbench"]


def test_the_host_is_described() -> None:
    facts = host()
    assert facts["cores"] >= facts["cores_usable"] >= 1
    assert facts["memory_mib"] > 100 and facts["cpu"]
    assert "gpu" in facts and "gpu_driver" in facts


def test_everything_is_plain_json_and_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, json; from regbench.provenance import provenance; json.dumps(provenance(2, ['torch']))\n"
        "print([m for m in ('torch', 'ants', 'SimpleITK', 'scipy', 'numpy') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
    assert json.loads(json.dumps(provenance(3)))["thread_settings"]["OMP_NUM_THREADS"] == "3"


def test_git_state_is_that_of_a_checkout_and_of_nothing_else(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert git_state(package) is None
    git("init")
    assert git_state(package) is None, "not tracked: somebody else's checkout"
    git("add", ".")
    git("commit", "-m", "x")
    state = git_state(package)
    assert state is not None and len(state["commit"]) == 40 and state["dirty"] is False
    (package / "__init__.py").write_text("changed = True\n")
    assert git_state(package) == {**state, "dirty": True}


def test_threads_are_set_for_every_library_that_regbench_meets() -> None:
    environment = thread_environment(3)
    assert {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"} < set(environment)
    assert environment["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "3" and set(environment.values()) == {"3"}
