"""`regbench shifts [NAME]`: the conditions that change images on purpose, or one with its parameters."""

from __future__ import annotations

import click


@click.command(
    short_help="List the conditions that change images on purpose, or show one.",
    epilog="Example:  regbench shifts gamma",
)
@click.argument("name", required=False)
def command(name: str | None) -> int:
    """List the conditions under which methods can be tested, or show condition NAME with its parameters."""
    from regbench.cli.console import output, prose, table
    from regbench.cli.parameter_table import own_words, parameter_table
    from regbench.shifts.table import SHIFTS, shift_class

    console = output()
    if not name:
        result = table("condition", "what it does")
        for card in SHIFTS.values():
            result.add_row(card.name, card.summary)
        console.print(result)
        return 0
    cls = shift_class(name)
    console.print(f"[bold]{name}[/bold]: {SHIFTS[name].summary}\n")
    prose(console, own_words(cls))
    console.print("", parameter_table(cls) or "No parameters.")
    return 0
