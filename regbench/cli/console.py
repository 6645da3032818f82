"""What commands share in printing: results go to stdout, progress and messages to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_PIPE_WIDTH = 120


class _Console(Console):
    """A console that leaves a closed pipe to the command line, which knows what to do about it."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console(stream: IO[str]) -> Console:
    # Without a terminal there is no width to keep to; 80 columns would fold tables for nobody.
    wide = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return _Console(file=stream, width=wide, highlight=False, soft_wrap=False)


def output() -> Console:
    """The console of results (stdout)."""
    return _console(sys.stdout)


def messages() -> Console:
    """The console of progress, hints and warnings (stderr)."""
    return _console(sys.stderr)


def table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """An empty table in the house style; columns fold rather than lose text, `numbers` are set to the right."""
    result = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        right = column in numbers
        result.add_column(column, overflow="fold", justify="right" if right else "left", no_wrap=right)
    return result


def facts(pairs: Iterable[tuple[str, str]]) -> Table:
    """Names and values side by side, without lines; empty values are left out."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        if value:
            grid.add_row(name, escape(value))
    return grid


def say(console: Console, text: Any) -> None:
    """Prints plain text as it is: no markup, no reflow, so that paths and commands can be copied."""
    console.print(str(text), markup=False, soft_wrap=True)


def prose(console: Console, text: str) -> None:
    """Prints paragraphs at the width of the console; those with an indented line keep their lines."""
    for number, paragraph in enumerate(text.split("\n\n")):
        is_verbatim = any(line.startswith(" ") for line in paragraph.splitlines())
        console.print(
            ("\n" if number else "") + (paragraph if is_verbatim else " ".join(paragraph.split())),
            markup=False,
            soft_wrap=is_verbatim,
        )
