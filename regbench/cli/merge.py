"""`regbench merge`: several runs put into one folder, with one table over all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from regbench.cli.exit_codes import ExitCode


@click.command(
    short_help="Put several runs into one folder.",
    epilog="Example:  regbench merge runs/classical runs/learned -o runs/all",
)
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="RUN...")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The folder of the merged run.")
def command(runs: tuple[Path, ...], out: Path) -> int:
    """Merge run folders RUN... into one, and show the table over all of their results.

    Of a result that several runs have, the newest counts. Runs in which one label stands for different things (other
    images, another version of a method, other parameters) are refused with the reason, and nothing is written: exit
    code 4. An earlier merge in the folder is made again.
    """
    from regbench.cli.console import messages, output, say
    from regbench.cli.run_results import show_run
    from regbench.merging import RunsConflict, merge_runs
    from regbench.store import read_run

    try:
        merged = merge_runs(runs, out, sys.argv)
    except RunsConflict as conflict:
        say(messages(), f"regbench: {conflict}")
        return ExitCode.NOT_COMPARABLE
    say(output(), f"{merged.n_rows} results of {merged.n_runs} runs")
    for note in merged.notes:
        say(messages(), f"note: {note}")
    show_run(read_run(out))
    return ExitCode.OK
