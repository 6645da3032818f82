"""Where methods run: in regbench's own interpreter, in one that a config names, or in an environment of their own.

An environment is a virtual environment in the user's cache, made from what the card of its method lists. A folder
with the file `made.json`, which is written last, is complete; any other is the rest of an interrupted installation
and is made again. What another interpreter has is asked of it once per process.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from regbench import targets
from regbench.errors import ConfigError, MethodError
from regbench.files.atomic import replaced
from regbench.files.cache import cache_folder
from regbench.methods import table
from regbench.methods.card import Card, Environment, Package, Program

MADE = "made.json"
_TORCH_BUILDS = "https://download.pytorch.org/whl"
_PIP = ("-m", "pip", "install", "--no-input", "--disable-pip-version-check")
_ASK_S = 60.0
# Runs in the other interpreter, whatever its version; finds modules without importing them.
_SURVEY = """
import importlib.util, json, sys
from importlib import metadata
wanted = json.loads(sys.argv[1])
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
print(json.dumps({
    "python": "%d.%d.%d" % sys.version_info[:3],
    "modules": {name: importlib.util.find_spec(name) is not None for name in wanted["modules"]},
    "versions": {name: version(name) for name in wanted["distributions"]},
}))
"""


@dataclass(frozen=True)
class Lack:
    """Something that a method needs and that is not where it would run: what it is, and how to get it."""

    name: str
    install_hint: str


Need = Package | Program | Lack


@dataclass(frozen=True)
class Home:
    """Where a method runs: another interpreter, or None for regbench's own; what it lacks there, and its version."""

    python: str | None
    missing: tuple[Need, ...]
    version: str


def home_of(name: str, python: str | None = None, parameters: Mapping[str, Any] | None = None) -> Home:
    """Where the method `name` runs, `python` being the interpreter that a config names for it."""
    card = targets.method_card(name, parameters)
    python = python or environment_python(card)
    missing = missing_needs(card, python)
    inner = targets.inner_method(name, parameters) if parameters is not None else None
    if inner is not None:
        # Of a method that goes on from another one, both determine the results; they run in one place.
        version = f"{targets.version_of(name, parameters)} from {home_of(inner[0], python, inner[1]).version}"
        return Home(python, missing, version)
    if python is None or targets.is_target(name) or card.version is not None or card.versioned_by == "regbench":
        return Home(python, missing, targets.version_of(name, parameters))
    told = survey(python, card)["versions"][card.versioned_by] if _is_interpreter(python) else None
    return Home(python, missing, f"{card.versioned_by} {told or '(not installed)'}")


def missing_needs(card: Card, python: str | None = None) -> tuple[Need, ...]:
    """What a method lacks in the interpreter that runs it: the one named, its own environment, or regbench's."""
    own = environment_python(card)
    if python is not None and python != own:
        return _missing_at(python, card)
    if own is not None:
        return tuple(program for program in card.programs if not program.is_there)
    missing = table.missing_needs(card)
    if missing and card.environment is not None:
        return (Lack("an environment of its own", f"regbench methods install {card.name}"),)
    return tuple(missing)


def _missing_at(python: str, card: Card) -> tuple[Need, ...]:
    if not _is_interpreter(python):
        return (Lack(f"the Python interpreter {python}", "make it, or leave `python` out of the config"),)
    found = survey(python, card)
    lacks: list[Need] = []
    if tuple(map(int, found["python"].split(".")[:2])) < (3, 11):
        lacks.append(Lack(f"Python 3.11 or later; {python} is {found['python']}", "name another interpreter"))
    lacks += [
        Lack(module, f"{python} -m pip install {distribution}")
        for module, distribution in _modules_of(card).items()
        if not found["modules"][module]
    ]
    return (*lacks, *(program for program in card.programs if not program.is_there))


def _is_interpreter(python: str) -> bool:
    return Path(python).is_file() and os.access(python, os.X_OK)


def _modules_of(card: Card) -> dict[str, str]:
    """What must be importable where a method runs, and what installs it; regbench's side needs numpy."""
    return {"numpy": "numpy", **{package.module: package.distribution for package in card.packages}}


# -- other interpreters -------------------------------------------------------------------------------


def survey(python: str, card: Card) -> dict[str, Any]:
    """What an interpreter has of what a method needs: `python`, `modules` found, `versions` of distributions.

    Raises ConfigError if it does not answer as a Python interpreter does.
    """
    environment = card.environment
    listed = (*environment.same_as_here, *environment.requirements, *environment.alone) if environment else ()
    distributions = {"numpy", card.versioned_by, *map(_name_of, listed)}
    distributions |= {_name_of(package.distribution) for package in card.packages}
    found = _survey(str(python), tuple(_modules_of(card)), tuple(sorted(distributions - {"regbench"})))
    return {**found, "versions": {**found["versions"]}}


@cache
def _survey(python: str, modules: tuple[str, ...], distributions: tuple[str, ...]) -> dict[str, Any]:
    wanted = json.dumps({"modules": modules, "distributions": distributions})
    try:
        told = subprocess.run(  # noqa: S603  a list, no shell
            [python, "-c", _SURVEY, wanted],
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=True,
            env=interpreter_environment(os.environ),
        )
        found: dict[str, Any] = json.loads(told.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        words = getattr(error, "stderr", None) or str(error)
        last = (words.strip().splitlines() or [type(error).__name__])[-1]
        raise ConfigError(f"{python} does not answer as a Python interpreter: {last}") from None
    return found


def interpreter_environment(parent: Mapping[str, str]) -> dict[str, str]:
    """The environment variables for another interpreter, without those that tie one to its own installation."""
    return {name: value for name, value in parent.items() if name not in ("PYTHONHOME", "__PYVENV_LAUNCHER__")}


def _name_of(requirement: str) -> str:
    """The distribution in a requirement: 'torch' for "'torch>=2.6'"."""
    match = re.search(r"[\w.-]*\w", requirement)
    return match[0] if match else requirement


# -- environments in the cache ------------------------------------------------------------------------


def environment_folder(environment: Environment) -> Path:
    """The folder of an environment; other pins are another environment."""
    pins = json.dumps(dataclasses.asdict(environment), sort_keys=True)
    return cache_folder("environments") / f"{environment.name}-{hashlib.sha256(pins.encode()).hexdigest()[:8]}"


def environment_python(card: Card) -> str | None:
    """The interpreter of a method's own environment, or None if it has none or it was not made."""
    if card.environment is None:
        return None
    folder = environment_folder(card.environment)
    python = str(folder / "bin" / "python")
    return python if (folder / MADE).is_file() and _is_interpreter(python) else None


def shared_environments() -> dict[str, list[Card]]:
    """The cards of all methods that have an environment, by its name."""
    found: dict[str, list[Card]] = {}
    for card in table.all_cards().values():
        if card.environment is not None:
            found.setdefault(card.environment.name, []).append(card)
    return found


def installation(card: Card, base: str | None = None) -> list[list[str]]:
    """The commands that make the environment of a method, the last of which tries it; `base` is the interpreter.

    Raises ConfigError if the method has no environment.
    """
    environment = card.environment
    if environment is None:
        hint = "; ".join(dict.fromkeys(package.install_hint for package in card.packages))
        raise ConfigError(f"{card.name} runs where regbench runs" + (f": {hint}" if hint else " and needs nothing"))
    folder = environment_folder(environment)
    python = str(folder / "bin" / "python")
    commands = [[base or sys.executable, "-m", "venv", str(folder)]]
    here = [_same_as_here(name) for name in environment.same_as_here]
    for requirement in here:
        build = re.fullmatch(r"torch==[^+]*\+(\w+)", requirement)
        if build:
            # Builds for one kind of device are in an index of their own, which is asked for nothing else.
            index = f"{_TORCH_BUILDS}/{build[1]}"
            commands.append([python, *_PIP, "--no-deps", "--extra-index-url", index, requirement])
    commands.append([python, *_PIP, *here, *environment.requirements])
    if environment.alone:
        commands.append([python, *_PIP, "--no-deps", *environment.alone])
    return [*commands, [python, "-c", "import " + ", ".join(_modules_of(card))]]


def _same_as_here(name: str) -> str:
    """The requirement of the version that regbench runs with, or any version where it has none."""
    try:
        return f"{name}=={importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return name


def install(
    card: Card, base: str | None = None, fresh: bool = False, tell: Callable[[str], None] = lambda line: None
) -> str:
    """Makes the environment of a method, unless it is there; its interpreter. `tell` gets each command before it runs.

    What the commands print goes to stdout. Raises ConfigError if the method has no environment or `base` is the wrong
    Python, MethodError if a command fails; then nothing is left behind.
    """
    commands = installation(card, base)
    assert card.environment is not None
    folder = environment_folder(card.environment)
    with _only_one(folder):
        python = environment_python(card)
        if python is not None and not fresh:
            return python
        _check_base(card, base or sys.executable)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _run_all(commands, tell)
            with replaced(folder / MADE) as part:
                part.write_text(json.dumps({"commands": commands, "versions": _frozen(folder)}, indent=1) + "\n")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    # What was asked of this interpreter before it was made again no longer holds.
    _survey.cache_clear()
    return str(folder / "bin" / "python")


def _run_all(commands: list[list[str]], tell: Callable[[str], None]) -> None:
    for command in commands:
        tell(shlex.join(command))
        try:
            code = subprocess.run(command, check=False, env=_clean(os.environ)).returncode  # noqa: S603  a list
        except OSError as error:
            raise MethodError(f"{command[0]} cannot be started: {error.strerror or error}") from None
        if code:
            raise MethodError(f"the environment was not made, this ended with exit code {code}: {shlex.join(command)}")


def _clean(parent: Mapping[str, str]) -> dict[str, str]:
    """An environment in which pip sees the new virtual environment only."""
    hidden = ("PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "VIRTUAL_ENV")
    return {name: value for name, value in interpreter_environment(parent).items() if name not in hidden}


def _check_base(card: Card, base: str) -> None:
    environment = card.environment
    assert environment is not None
    told = str(_survey(base, (), ())["python"])
    version = tuple(map(int, told.split(".")[:2]))
    before = environment.python_before
    if version < environment.python_from or (before is not None and version >= before):
        wanted = f"Python {_dotted(environment.python_from)} or later"
        wanted += f", before {_dotted(before)}" if before else ""
        raise ConfigError(f"{card.name} needs {wanted}, {base} is {told}; name another one with --python")


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _frozen(folder: Path) -> list[str]:
    told = subprocess.run(  # noqa: S603  a list
        [str(folder / "bin" / "python"), "-m", "pip", "freeze"],
        capture_output=True,
        text=True,
        check=False,
        env=_clean(os.environ),
    )
    return told.stdout.splitlines()


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Holds the lock of an environment; ConfigError if another process is making it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{folder} is being made by another process; wait for it") from None
        yield
