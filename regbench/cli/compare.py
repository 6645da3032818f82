"""`regbench compare`: a run against a baseline, value by value, within the tolerance of each metric."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import click

from regbench.cli.exit_codes import ExitCode


@click.command(
    short_help="Check a run against a baseline.",
    epilog="Example:  regbench compare results/smoke.json runs/smoke --tol dice=0.005",
)
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--tol", "tolerances", multiple=True, metavar="METRIC=X", help="Tolerance of one metric, in its unit.")
@click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", help="How findings are printed."
)
@click.option("--update-baseline", is_flag=True, help="Write the values of NEW to the file BASE instead of comparing.")
def command(base: Path, new: Path, tolerances: tuple[str, ...], form: str, *, update_baseline: bool) -> int:
    """Compare the run folder NEW with BASE, a baseline file or another run folder.

    Every value of every pair must agree within the tolerance of its metric (see `regbench metrics`). Exits
    with 0 if all do or are better, 1 for a regression, 4 if values cannot be compared, 5 if none was.
    """
    from regbench.analysis.compare import compare_golden, write_baseline
    from regbench.cli.console import output, say

    console = output()
    if update_baseline:
        _refuse_folder(base)
        write_baseline(new, base)
        say(console, f"{base}: now holds the values of {new}")
        return ExitCode.OK
    comparison = compare_golden(base, new, dict(_parsed(tolerances)))
    if form == "json":
        say(console, json.dumps(comparison.json, indent=1, allow_nan=False))
    else:
        for line in comparison.lines:
            say(console, line)
    return ExitCode(comparison.exit_code)


def _refuse_folder(base: Path) -> None:
    if base.is_dir():
        raise click.UsageError(f"{base} is a folder; --update-baseline writes a file, such as results/smoke.json")


def _parsed(tolerances: Iterable[str]) -> Iterable[tuple[str, float]]:
    """Metric and tolerance of each METRIC=X."""
    for text in tolerances:
        name, separator, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            separator = ""
        if not separator:
            raise click.UsageError(f"--tol {text}: expected METRIC=NUMBER, such as dice=0.005")
        yield name, number
