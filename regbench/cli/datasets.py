"""`regbench datasets [NAME]`: the table of datasets, or everything about one; `regbench datasets check` looks inside.

regbench datasets                   the table
regbench datasets NAME              everything about one dataset
regbench datasets check DATASET     what a dataset or a folder holds, and whether a benchmark may start on it
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from typing import TYPE_CHECKING, Any

import click

from regbench.cli.table_group import TableGroup

if TYPE_CHECKING:
    from rich.table import Table

# Subcommand by name: its one line; the command is the attribute `command` of `regbench.cli.datasets_NAME`.
SUBCOMMANDS: dict[str, str] = {"check": "Look through a dataset or a folder: may a benchmark start on it?"}


@click.command(name="NAME")
@click.argument("name")
def _show_one(name: str) -> int:
    """Show dataset NAME with its parameters."""
    from regbench.cli.console import facts, output, prose
    from regbench.cli.parameter_table import parameter_table
    from regbench.datasets.table import DATASETS, dataset_class

    console = output()
    cls = dataset_class(name)
    card = DATASETS[name]
    console.print(f"[bold]{name}[/bold]: {card.summary}\n")
    console.print(facts((key.replace("_", " "), _words(value)) for key, value in _other_facts(card)))
    console.print()
    prose(console, inspect.cleandoc(sys.modules[cls.__module__].__doc__ or ""))
    console.print()
    console.print(parameter_table(cls) or "No parameters.")
    return 0


@click.group(
    cls=TableGroup,
    lines=SUBCOMMANDS,
    show=_show_one,
    subcommand_metavar="[NAME | COMMAND DATASET]",
    short_help="List the datasets, or show one.",
    epilog="Example:  regbench datasets mni-cohort",
)
@click.pass_context
def command(context: click.Context) -> int:
    """List the datasets, or show dataset NAME with its parameters."""
    from regbench.cli.console import output

    if context.invoked_subcommand is None:
        console = output()
        console.print(datasets_table())
        console.print(
            "\nYour own scans: the path of a folder, of a CSV of pairs (regbench datasets csv) or of a description "
            "(regbench datasets described).\nregbench datasets check FOLDER  tells what a folder holds.",
            style="dim",
        )
    return 0


def datasets_table() -> Table:
    """Name, dimensions and summary of every dataset."""
    from regbench.cli.console import table
    from regbench.datasets.table import DATASETS

    result = table("dataset", "dims", "what it is")
    for card in DATASETS.values():
        dims = ", ".join(str(n) for n in card.dimensions)
        result.add_row(card.name, dims, card.summary)
    return result


def _other_facts(card: Any) -> list[tuple[str, Any]]:
    shown = ("name", "summary", "target")
    return [(f.name, getattr(card, f.name)) for f in dataclasses.fields(card) if f.name not in shown]


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(str(item) for item in value)
    return str(value or "")
