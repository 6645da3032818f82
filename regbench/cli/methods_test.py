"""`regbench methods test NAME`: runs the contract suite on a method, and says in plain words what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from regbench.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from regbench.contract.judging import Finding

_STYLES = {"ok": "green", "note": "yellow", "declined": "cyan", "wrong": "bold red"}


@click.command(
    short_help="Check that a method, yours included, keeps the contract.",
    epilog="Examples:  regbench methods test my_method.py:MyMethod\n\n"
    "           regbench methods test --config configs/recipes/elastix-cli.yaml elastix-cli",
)
@click.argument("name")
@click.option(
    "--config",
    metavar="CONFIG.yaml",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="NAME is the label of a method in this config, with the parameters it has there.",
)
@click.option("--dimension", type=click.Choice(["2", "3"]), help="Try 2-D or 3-D images only. [default: as its card]")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads that it may use.")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=600.0, show_default=True, help="Seconds per check.")
@click.option("--verbose", is_flag=True, help="Show the promises that were kept, too.")
def command(
    name: str, config: Path | None, dimension: str | None, threads: int, timeout: float, *, verbose: bool
) -> int:
    """Try method NAME on small images with a known answer: a name of the table, of a plug-in, or path/to/file.py:Class.

    It must follow known displacements between oblique grids of opposite handedness, repeat itself, leave its input
    alone and no trace, and decline what it cannot do. A field that is wrong is read in other conventions (LPS, voxels,
    axes reversed, push for pull and others) to tell what was mixed up. Exit code 1 if a promise is broken.
    """
    from regbench.cli.console import messages, output, say
    from regbench.contract.judging import Finding
    from regbench.contract.trial import candidate, try_candidate

    tried = candidate(name, config)
    findings: list[Finding] = []
    console = output()
    with messages().status("starting") as status:
        for told in try_candidate(tried, (int(dimension),) if dimension else (), timeout, threads):
            if isinstance(told, Finding):
                findings.append(told)
                if verbose or told.verdict != "ok":
                    _show(console, told)
            else:
                status.update(f"{told.ndim or ''}{'-D: ' if told.ndim else ''}{told.name}")
    wrong = sum(finding.verdict == "wrong" for finding in findings)
    kept = sum(finding.verdict == "ok" for finding in findings)
    followed = any(finding.ndim and finding.verdict == "ok" for finding in findings)
    say(console, f"{name}: {kept} promises kept, {wrong} broken" if wrong else f"{name}: all {kept} promises kept")
    if wrong:
        return ExitCode.FAILED
    return ExitCode.OK if followed else ExitCode.NOTHING_DONE


def _show(console: Console, finding: Finding) -> None:
    from rich.markup import escape

    where = f"{finding.ndim}-D" if finding.ndim else "   "
    words = f": {escape(finding.words)}" if finding.words else ""
    console.print(
        f"[{_STYLES[finding.verdict]}]{finding.verdict:8}[/] {where}  {finding.promise}{words}", soft_wrap=True
    )
