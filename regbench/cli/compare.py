"""`regbench compare`: two runs, a run and its baseline, or two methods of a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from regbench.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from regbench.analysis.comparison import Comparison, Options

_MODES = ("auto", "golden", "paired", "noninferiority")


@click.command(
    short_help="Compare two runs, or two methods of a run.",
    epilog="Example:  regbench compare baseline.json runs/mine --tol dice=0.005",
)
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path), required=False)
@click.option("--mode", type=click.Choice(_MODES), default="auto", help="How values are compared. [default: auto]")
@click.option(
    "--tol", "tolerances", multiple=True, metavar="METRIC=X", help="Tolerance, in the metric's unit or as 20%."
)
@click.option("--margin", "margins", multiple=True, metavar="METRIC=X", help="Margin of non-inferiority, likewise.")
@click.option("--metrics", metavar="NAME,...", help="Compare only these metrics.")
@click.option("--methods", nargs=2, metavar="A B", help="Compare method B with method A on the same pairs.")
@click.option("--timing-in-one-run", "timed", is_flag=True, help="Run both configs alternately here, for their times.")
@click.option("--base-python", metavar="PATH", help="In that run: the interpreter of the methods of BASE.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="In that run: only N pairs of each dataset.")
@click.option(
    "--format", "form", type=click.Choice(["table", "md", "json", "junit"]), default="table", help="What is printed."
)
@click.option("-o", "--output", "file", type=click.Path(path_type=Path), help="Write it to this file instead.")
@click.option("--github", is_flag=True, help="Annotations and step summary of GitHub Actions as well.")
@click.option("--update-baseline", is_flag=True, help="Write the values of NEW to the file BASE instead of comparing.")
def command(
    base: Path,
    new: Path | None,
    *,
    mode: str,
    tolerances: tuple[str, ...],
    margins: tuple[str, ...],
    metrics: str | None,
    methods: tuple[str, str] | None,
    timed: bool,
    base_python: str | None,
    limit: int | None,
    form: str,
    file: Path | None,
    github: bool,
    update_baseline: bool,
) -> int:
    """Compare the run folder NEW with BASE, a baseline file or another run folder.

    A case that fails now is a regression. Values of deterministic methods must agree pair by pair, within the
    tolerance of their metric (see `regbench metrics`); those of others are tested over pairs (6 or more), where
    a regression is beyond the tolerance and significant. `--mode noninferiority` asks instead whether the 95 %
    interval of the difference stays within a margin. Seconds and memory are compared between equal machines
    only, as ratios (30 % and 20 % are tolerated); `--timing-in-one-run` measures both here, alternately.

    Exits with 0 if nothing is worse, 1 for a regression, 3 if the pairs leave it open, 4 if inputs or metrics
    are not the same, 5 if nothing was compared.
    """
    from regbench.cli.console import output, say

    if update_baseline:
        return _update(base, new)
    if new is None and not methods:
        raise click.UsageError("give two runs, or one with --methods A B")
    if not timed and (base_python or limit):
        raise click.UsageError("--base-python and --limit belong to --timing-in-one-run")
    if timed and methods:
        raise click.UsageError("--timing-in-one-run compares two runs; --methods compares two methods")
    if github and form in ("json", "junit") and file is None:
        raise click.UsageError(f"--github prints annotations on stdout; put the {form} into a file with -o FILE")
    options = _options(mode, tolerances, margins, metrics)
    comparison = _compared(base, new, methods, options, (base_python, limit) if timed else None)
    if form == "table" and file is None:
        from regbench.reports.comparison import print_comparison

        print_comparison(output(), comparison)
    else:
        _put(_text(comparison, form), file)
    if github:
        from regbench.reports.comparison_formats import append_step_summary, github_annotations

        for line in github_annotations(comparison):
            say(output(), line)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            append_step_summary(comparison, Path(summary))
    return ExitCode(comparison.exit_code)


def _options(mode: str, tolerances: tuple[str, ...], margins: tuple[str, ...], metrics: str | None) -> Options:
    from regbench.analysis.comparison import Options, parse_tolerances

    names = [name.strip() for name in (metrics or "").split(",") if name.strip()]
    return Options(
        mode=None if mode == "auto" else mode,  # type: ignore[arg-type]  # click has checked it
        tolerances=parse_tolerances(tolerances),
        margins=parse_tolerances(margins, "--margin"),
        only=names,
    )


def _compared(
    base: Path,
    new: Path | None,
    methods: tuple[str, str] | None,
    options: Options,
    timing: tuple[str | None, int | None] | None,
) -> Comparison:
    from regbench.analysis import comparison

    if methods:
        return comparison.methods_of_runs(base, new or base, methods, options)
    assert new is not None
    if timing is None:
        return comparison.compare(base, new, options)
    from regbench.cli.compare_timing import timed_sides

    # First what can be said without running anything, errors of usage included.
    comparison.compare(base, new, options)
    sides = timed_sides(base, new, python=timing[0], limit=timing[1])
    return comparison.compare_sides(comparison.read_side(base), comparison.read_side(new), options, timed=sides)


def _text(comparison: Comparison, form: str) -> str:
    from regbench.reports import comparison as for_people
    from regbench.reports import comparison_formats as for_programs

    forms: dict[str, Callable[[Comparison], str]] = {
        "md": for_people.comparison_markdown,
        "json": for_programs.comparison_json,
        "junit": for_programs.comparison_junit,
        "table": for_people.comparison_text,
    }
    return forms[form](comparison)


def _put(text: str, file: Path | None) -> None:
    """Prints a text, or writes it to a file, its folder made if it is not there."""
    if file is None:
        click.echo(text, nl=False)
        return
    from regbench.errors import StoreError
    from regbench.store import write_whole

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{file.parent} cannot be made: {(error.strerror or str(error)).lower()}") from None
    write_whole(file, text.encode())


def _update(base: Path, new: Path | None) -> int:
    from regbench.analysis.comparison import write_baseline
    from regbench.cli.console import messages, output, say

    if new is None:
        raise click.UsageError("--update-baseline takes the file BASE and the run NEW")
    if base.is_dir():
        raise click.UsageError(f"{base} is a folder; --update-baseline writes a file, such as results/smoke.json")
    notes = write_baseline(new, base)
    say(output(), f"{base}: now holds the values of {new}")
    for note in notes:
        say(messages(), f"note: {note}")
    return ExitCode.OK
