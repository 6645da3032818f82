"""`regbench methods install NAME`: makes the environment of its own that a method needs."""

from __future__ import annotations

import shlex

import click

from regbench.cli.exit_codes import ExitCode


@click.command(
    short_help="Make the environment of its own that a method needs.",
    epilog="Example:  regbench methods install fireants-syn --dry-run",
)
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Print the commands, run none.")
@click.option("--fresh", is_flag=True, help="Make it again if it is there.")
@click.option("--python", metavar="PATH", help="The Python that it is made with. [default: the one that runs regbench]")
def command(name: str, python: str | None, *, dry_run: bool, fresh: bool) -> int:
    """Make the virtual environment of method NAME below the cache folder, with the packages its card lists.

    Runs find it there by themselves. For a method that runs where regbench runs, says how to install what it needs.
    """
    from regbench.cli.console import messages, output, say
    from regbench.environments import install, installation
    from regbench.errors import MethodError
    from regbench.targets import method_card

    item = method_card(name)
    if dry_run:
        for line in installation(item, python):
            say(output(), shlex.join(line))
        return ExitCode.OK
    try:
        made = install(item, python, fresh=fresh, tell=lambda line: say(messages(), f"$ {line}"))
    except MethodError as error:
        say(messages(), f"regbench: {error}")
        return ExitCode.FAILED
    say(output(), f"{name} runs in {made}")
    return ExitCode.OK
