"""Commands that list a table and show one of its rows, and have commands of their own besides.

regbench datasets                   the table
regbench datasets NAME              everything about one row
regbench datasets check DATASET     a command: the attribute `command` of `regbench.cli.datasets_check`
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class TableGroup(click.Group):
    """A group that takes a word which is none of its commands for the name of a row to show.

    `lines` are the commands with their one line each, `show` the command that shows a row.
    """

    def __init__(self, *, lines: Mapping[str, str], show: click.Command, **kwargs: Any) -> None:
        super().__init__(invoke_without_command=True, **kwargs)
        self._lines = lines
        self._show = show

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lines)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lines:
            return None
        module = f"{self.callback.__module__}_{cmd_name}"
        command: click.Command = importlib.import_module(module).command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self._lines:
            return "NAME", self._show, args
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self._lines.items()), col_spacing=4)
