"""`regbench weights` and `regbench weights fetch NAME`: weights of released networks, and how they get here.

Nothing is downloaded but by `fetch`, and each file once, into the user's cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from regbench.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.table import Table


@click.group(
    invoke_without_command=True,
    subcommand_metavar="[fetch NAME]",
    short_help="List the weights of released networks, or fetch them.",
    epilog="Example:  regbench weights fetch symnet-oasis",
)
@click.pass_context
def command(context: click.Context) -> int:
    """List the weights that others released, with size, licence and whether they are here; or fetch some."""
    from regbench.cli.console import output, say

    if context.invoked_subcommand is None:
        console = output()
        console.print(weights_table(), "")
        say(console, f"They lie in {_folder()}; any other file can be given as `weights` of the method.")
        console.print("Get one:  regbench weights fetch NAME", style="dim")
    return ExitCode.OK


@command.command(short_help="Download weights, and check them.", epilog="Example:  regbench weights fetch symnet-oasis")
@click.argument("name")
def fetch(name: str) -> int:
    """Download the weights NAME from where their authors keep them, and check that they are the ones on record.

    The licence and the citation are shown: whoever uses the weights agrees to them.
    """
    from regbench.cli.console import messages, output, say
    from regbench.methods.weights_table import weights
    from regbench.weights import fetch as fetch_weights

    row = weights(name)
    say(messages(), f"{name}: licence {row.licence}, from {row.source}; cite {row.citation}")
    say(output(), fetch_weights(row, tell=lambda address: say(messages(), f"fetching {address}")))
    return ExitCode.OK


def weights_table() -> Table:
    """All weights with size, licence and whether they are here."""
    from regbench.cli.console import table
    from regbench.methods.weights_table import WEIGHTS
    from regbench.weights import fetched_path

    result = table("weights", "MB", "licence", "here", numbers=("MB",))
    for row in WEIGHTS.values():
        here = "no" if row.addresses else "no, and no address known"
        result.add_row(
            row.name, f"{row.n_bytes / 1e6:.1f}", row.licence, "yes" if fetched_path(row) is not None else here
        )
    return result


def _folder() -> str:
    from regbench.files.cache import cache_folder

    return str(cache_folder("weights"))
