"""The command line: `regbench COMMAND`. One file per command, imported only when that command is used.

Every command returns one of the exit codes of `ExitCode`. Errors that regbench raises on purpose become one
line on stderr; a traceback means a bug.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

import click

from regbench import __version__
from regbench.cli.exit_codes import ExitCode
from regbench.errors import RegbenchError
from regbench.parameters import nearest

# Sections of the help, and per command its one line; kept here so that the help imports no command.
SECTIONS: dict[str, dict[str, str]] = {
    "Run": {
        "run": "Run what is missing of a config, show the results.",
        "validate": "Check a config and its data; list every problem.",
        "evaluate": "Score displacement fields, kept by a run or made elsewhere.",
        "report": "Write tables, figures and the HTML report of a run again.",
        "show": "Draw the pictures of one case.",
        "compare": "Compare two runs, or two methods of a run.",
        "rank": "Rank the methods of a run, with significance.",
        "merge": "Put several runs into one folder.",
        "export": "Write a run in the form of a challenge.",
        "train": "Train a learned method.",
        "tune": "Choose settings of methods on validation pairs.",
    },
    "Decide": {
        "recommend": "Say which paradigm to use, and why.",
        "mi-analysis": "Measure how much intensities say of the labels.",
    },
    "Look up": {
        "methods": "List the registration methods, or show one.",
        "datasets": "List the datasets, or show one.",
        "metrics": "List the metrics with their definitions, or show one.",
        "shifts": "List the conditions that change images on purpose, or show one.",
        "weights": "List the weights of released networks, or fetch them.",
        "doctor": "Show what is installed, what is missing, and the machine.",
    },
}


class LazyGroup(click.Group):
    """A group whose commands are the attribute `command` of the modules `regbench.cli.NAME`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"regbench.cli.{cmd_name.replace('-', '_')}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"regbench.cli.{cmd_name}.command is not a command")
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        known = self.list_commands(ctx)
        if args and args[0] not in known:
            hint = nearest(args[0], known) or f"; known: {', '.join(known)}"
            raise click.UsageError(f"unknown command '{args[0]}'{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()), col_spacing=4)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with:  regbench run configs/smoke.yaml",
)
@click.version_option(__version__, message="regbench %(version)s")
def group() -> None:
    """Benchmark medical image registration: classical optimisers and learned networks, one ruler.

    Errors are one line; a traceback means a bug. Exit codes: 0 all good, 1 some cases failed or a
    regression, 2 usage or config error, 3 inconclusive, 4 not comparable, 5 nothing was run,
    130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits with its code; the entry point of the program `regbench`."""
    sys.exit(int(invoke(arguments)))


def invoke(arguments: Sequence[str] | None = None) -> int:
    """The exit code of a command, having printed what it has to say."""
    _show_warnings()
    try:
        code = group.main(
            args=None if arguments is None else list(arguments), prog_name="regbench", standalone_mode=False
        )
        sys.stdout.flush()
        return int(code or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    except click.ClickException as error:
        return _complain(" ".join(_usage_words(error)))
    except RegbenchError as error:
        return _complain(str(error))
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`regbench methods | head`): nothing more to say, and no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT):
            return _complain(f"{error.filename or 'output'}: cannot be written: {error.strerror}")
        return _report_bug(error)
    except Exception as error:
        return _report_bug(error)


class _StderrHandler(logging.Handler):
    """Prints log records on what is stderr at that moment, which progress bars and tests replace."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"regbench: {record.getMessage()}", file=sys.stderr)


def _show_warnings() -> None:
    logger = logging.getLogger("regbench")
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler(logging.WARNING))


def _complain(sentence: str) -> int:
    click.echo(f"regbench: {sentence}", err=True)
    return ExitCode.USAGE


def _usage_words(error: click.ClickException) -> Iterator[str]:
    message = error.format_message().rstrip(".")
    yield message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    if context is not None:
        yield f"(see `{context.command_path} --help`)"


def _report_bug(error: Exception) -> int:
    traceback.print_exception(error)
    click.echo(f"regbench: internal error, please report it with the lines above: {error!r}", err=True)
    return ExitCode.FAILED
