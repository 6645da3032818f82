"""`regbench report`: tables, figures and the HTML report of a run, written again from its rows."""

from __future__ import annotations

from pathlib import Path

import click

from regbench.cli.exit_codes import ExitCode


@click.command(
    short_help="Write tables, figures and the HTML report of a run again.",
    epilog="Example:  regbench report runs/smoke",
)
@click.argument("run", type=click.Path(path_type=Path))
def command(run: Path) -> int:
    """Write results.csv, summary.csv, the figures and report.html of RUN (a run folder) again; show the table.

    Of a run with networks beside classical methods it also says which claims of arXiv 2408.05839 hold there.
    """
    from regbench.cli.console import messages, output, say
    from regbench.cli.run_results import show_run
    from regbench.reports.claims import claim_lines
    from regbench.store import read_run

    record = read_run(run)
    if not record.rows:
        say(messages(), f"regbench: {run} has no results yet")
        return ExitCode.NOTHING_DONE
    show_run(record)
    for line in claim_lines(record.run, record.rows):
        say(output(), line)
    return ExitCode.OK
