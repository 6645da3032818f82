"""`regbench doctor`: what is installed, what is missing and how to get it, and the machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from regbench import __version__
from regbench.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from regbench.methods.card import Card

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "CUDA_VISIBLE_DEVICES",
)


@click.command(
    short_help="Show what is installed, what is missing, and the machine.",
    epilog="Example:  regbench doctor",
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    help="A folder to test for writing. [default: runs]",
)
def command(folder: Path) -> int:
    """Show versions, packages, methods, the machine, the cache and whether run folders can be written.

    Exits with 1 if something is wrong that a run would need.
    """
    from regbench.cli.console import facts, messages, output, say

    console = output()
    missing = [name for name, version in required_packages() if version is None]
    console.print(f"[bold]regbench {__version__}[/bold] on Python {platform.python_version()}, {platform.platform()}\n")
    console.print(facts(_package_facts()))
    console.print()
    console.print(facts(_machine_facts()))
    console.print()
    refusal = why_not_writable(folder)
    console.print(facts([*_folder_facts(), ("run folders", refusal or f"{folder.absolute()}: can be written")]))
    problems = [f"pip install {name}" for name in missing] + ([refusal] if refusal else [])
    for problem in problems:
        say(messages(), f"regbench: {problem}")
    return ExitCode.FAILED if problems else ExitCode.OK


def required_packages() -> list[tuple[str, str | None]]:
    """The packages that regbench itself requires, with their version, or None where one is not installed."""
    from regbench.provenance import versions

    try:
        requirements = importlib.metadata.requires("regbench") or []
    except importlib.metadata.PackageNotFoundError:
        # Run from its source without installation: what the record of a run names must do.
        requirements = [name for name in versions() if name not in ("python", "regbench")]
    names = [match[0] for text in requirements if "extra ==" not in text and (match := re.match(r"[\w.-]+", text))]
    return [(name, versions([name])[name]) for name in sorted(names, key=str.lower)]


def _package_facts() -> Iterable[tuple[str, str]]:
    """Installed packages in one line, and for every method that lacks one the line that installs it."""
    from regbench.environments import home_of, shared_environments
    from regbench.methods.table import all_cards
    from regbench.methods.weights_table import fetch_hint

    packages = required_packages()
    yield "packages", ", ".join(f"{name} {version}" for name, version in packages if version)
    yield "missing", ", ".join(f"pip install {name}" for name, version in packages if version is None)
    cards = all_cards()
    lacking = {name: home_of(name).missing for name in cards}
    weightless = {
        name: hint for name, card in cards.items() if not lacking[name] and (hint := fetch_hint(card.weights))
    }
    yield "methods", ", ".join(name for name, missing in lacking.items() if not missing and name not in weightless)
    hints = {name: ", ".join(need.install_hint for need in missing) for name, missing in lacking.items() if missing}
    yield "not installed", "\n".join(f"{name}: {hint}" for name, hint in hints.items())
    yield "weights missing", "\n".join(f"{name}: {hint}" for name, hint in weightless.items())
    yield "environments", "\n".join(_environment_words(name, cards) for name, cards in shared_environments().items())


def _environment_words(name: str, cards: Sequence[Card]) -> str:
    """Where an environment is, and for which methods."""
    from regbench.environments import environment_python

    methods = ", ".join(card.name for card in cards)
    return f"{name} ({methods}): {environment_python(cards[0]) or 'not made'}"


def _machine_facts() -> Iterable[tuple[str, str]]:
    from regbench.provenance import host

    machine = host()
    yield "processor", f"{machine['cpu']}, {machine['cores_usable']} of {machine['cores']} cores for this process"
    yield "memory", f"{machine['memory_mib'] / 1024:.1f} GiB" if machine["memory_mib"] else "unknown"
    yield "GPU", machine["gpu"] or "none found; learned methods run on the processor"
    settings = [f"{name}={os.environ[name]}" for name in _THREAD_VARIABLES if name in os.environ]
    yield "threads", ", ".join(settings) or "no limits set; a run sets its own, `engine: {threads: 2}` in the config"


def _folder_facts() -> Iterable[tuple[str, str]]:
    from regbench.files.cache import cache_folder

    cache = cache_folder("")
    yield "cache", f"{cache}: {_size_mib(cache):.0f} MiB" + ("" if cache.exists() else " (not made yet)")
    yield "data", f"$REGBENCH_DATA is {os.environ['REGBENCH_DATA']}" if "REGBENCH_DATA" in os.environ else ""


def _size_mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def why_not_writable(folder: Path) -> str:
    """One sentence on why no run folder can be made below a folder, or "" if it can; leaves nothing behind."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        return f"{folder}: cannot be written: {(error.strerror or str(error)).lower()}"
    return ""
