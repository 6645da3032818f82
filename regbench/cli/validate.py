"""`regbench validate`: every problem of a config and its data that can be found without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from regbench.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from regbench.config import RunConfig
    from regbench.config_entries import Entry


@click.command(
    short_help="Check a config and its data; list every problem.",
    epilog="Example:  regbench validate configs/quickstart.yaml",
)
@click.argument("config", type=click.Path(path_type=Path))
def command(config: Path) -> int:
    """Check CONFIG (a YAML file), the files it names and the packages its methods need; run nothing.

    Lists every problem, one line each, and exits with 2; or says how many cases the config makes.
    """
    from regbench.cli.console import messages, output, say
    from regbench.config import check_config

    checked, problems = check_config(config)
    sizes: list[int] = []
    if checked is not None:
        for entry in checked.datasets:
            size, found = _listing(entry)
            sizes.append(size)
            problems += [f"{config}: datasets.{entry.label}: {problem}" for problem in found]
    for problem in dict.fromkeys(problems):
        say(messages(), f"regbench: {problem}")
    if checked is None or problems:
        return ExitCode.USAGE
    for hint in missing_package_hints(checked):
        say(messages(), hint)
    say(output(), case_words(checked, sizes))
    return ExitCode.OK


def _listing(entry: Entry) -> tuple[int, list[str]]:
    """How many pairs a dataset has, and what is wrong with each of them that shows without opening images."""
    from regbench.datasets.table import build_dataset
    from regbench.errors import RegbenchError

    try:
        dataset = build_dataset(entry.name, entry.parameters)
        refs = dataset.pair_refs()
    except RegbenchError as error:
        return 0, [str(error)]
    problems = []
    for ref in refs:
        try:
            dataset.fingerprint(ref)
        except RegbenchError as error:
            problems.append(str(error))
    return len(refs), problems


def missing_package_hints(config: RunConfig) -> list[str]:
    """A sentence per method whose packages or programs are not installed; its cases would be skipped."""
    from regbench.environments import home_of

    return [
        f"{entry.label}: {need.name} is not installed, its cases will be skipped: {need.install_hint}"
        for entry in config.methods
        for need in home_of(entry.name, entry.python, entry.parameters).missing
    ]


def case_words(config: RunConfig, sizes: list[int]) -> str:
    """The size of the run, such as 'ok: 3 methods x 8 pairs x 2 conditions = 48 cases'."""
    pairs = _count(sizes[0], "pair") if len(sizes) == 1 else f"({' + '.join(map(str, sizes))}) pairs"
    factors = [_count(len(config.methods), "method"), pairs]
    total = len(config.methods) * sum(sizes) * len(config.conditions) * config.repeats
    if len(config.conditions) > 1:
        factors.append(_count(len(config.conditions), "condition"))
    if config.repeats > 1:
        factors.append(_count(config.repeats, "repeat"))
    return f"ok: {' x '.join(factors)} = {_count(total, 'case')}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
