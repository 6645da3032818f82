"""Shows that the tests catch what a careless author would get wrong: `python scripts/planted_errors.py`.

`planted_errors.toml` beside this file lists realistic errors: a name, what the author would do, the file, a text
that occurs in it exactly once, the text that would stand there instead, and the test files that should notice.
Each error is planted alone in a temporary copy of the package and its tests; the repository is not touched. The
tests run once without any error, to be sure that it is the error that they notice.

Prints per error the test that failed first. Exit code 1 if an error survives its tests, makes the package
unreadable instead of wrong, or does not fit the source any more.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).with_suffix(".toml")
COPIED = ("regbench", "tests", "pyproject.toml", "README.md")
TIMEOUT_S = 1800
# Quick, and the same on every machine.
WHICH = "not real and not slow"


@dataclass(frozen=True)
class PlantedError:
    """An error to plant: `old` in `file` becomes `new`, which one of the test files in `tests` should notice."""

    name: str
    mistake: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def problem(self, root: Path) -> str | None:
        """Why the error cannot be planted in the tree below `root`, or None."""
        missing = [path for path in (self.file, *self.tests) if not (root / path).is_file()]
        if missing:
            return f"{missing[0]} does not exist"
        source = (root / self.file).read_text(encoding="utf-8")
        if (n := source.count(self.old)) != 1:
            return f"its old text occurs {n} times in {self.file}, not once"
        try:
            compile(source.replace(self.old, self.new), self.file, "exec")
        except SyntaxError as error:
            return f"its new text is no Python: {error}"
        return "its new text is the old one" if self.old == self.new else None


def load_table(path: Path = TABLE) -> list[PlantedError]:
    """The errors of a table, in its order."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["error"]
    return [PlantedError(**{**row, "tests": tuple(row["tests"])}) for row in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Plants errors one at a time and shows which test catches each.")
    parser.add_argument("--only", action="append", metavar="NAME", help="plant this error only; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the errors and plant none")
    options = parser.parse_args(arguments)
    errors = load_table()
    unknown = set(options.only or ()) - {error.name for error in errors}
    if unknown:
        parser.error(f"no error is named {', '.join(sorted(unknown))}; --list prints the names")
    errors = [error for error in errors if not options.only or error.name in options.only]
    if options.list:
        for error in errors:
            print(f"{error.name:32s} {error.mistake}")
        return 0
    return plant_all(errors, ROOT)


def plant_all(errors: Sequence[PlantedError], root: Path) -> int:
    """Plant errors one at a time in a copy of the tree below `root`, print what caught them; 0 if all were caught."""
    unfit = [f"{error.name}: {problem}" for error in errors if (problem := error.problem(root))]
    if unfit:
        print("cannot be planted:", *unfit, sep="\n  ")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / root.name
        copy_tree(root, copy)
        print("without errors: ", end="", flush=True)
        code, output = run_tests(copy, sorted({path for error in errors for path in error.tests}))
        if code != 0:
            print(f"the tests fail already\n{output}")
            return 1
        print("the tests pass")
        return 1 if [error.name for error in errors if not plant(error, copy)] else 0


def plant(error: PlantedError, copy: Path) -> bool:
    """Whether the tests catch an error planted in the copy, which is as before afterwards."""
    print(f"{error.name:32s} ", end="", flush=True)
    path = copy / error.file
    source = path.read_text(encoding="utf-8")
    path.write_text(source.replace(error.old, error.new), encoding="utf-8")
    try:
        code, output = run_tests(copy, error.tests)
    finally:
        path.write_text(source, encoding="utf-8")
    # 1 is what pytest returns for tests that failed; other codes are tests that could not be run.
    caught = code == 1
    first = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    print(f"caught by {first[1] if first else '?'}" if caught else f"NOT CAUGHT ({error.mistake}), pytest: {code}")
    return caught


def copy_tree(root: Path, copy: Path) -> None:
    """Copy what the tests need."""
    copy.mkdir()
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif (root / name).exists():
            shutil.copy(root / name, copy / name)


def run_tests(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of pytest on test files of the copy, up to the first failure."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-m", WHICH, "-p", "no:cacheprovider", *tests]
    # Compiled files are told from stale ones by size and time in seconds, which an error may leave as they are.
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, "FAILED (by time-out)"
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
