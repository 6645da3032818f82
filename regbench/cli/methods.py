"""`regbench methods [NAME]`: the table of registration methods, or everything about one; and what is done with one.

regbench methods                    the table
regbench methods NAME               everything about one method
regbench methods SUBCOMMAND NAME    one of `SUBCOMMANDS`, each in a file of its own
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from regbench.cli.table_group import TableGroup

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from regbench.methods.card import Card

# Subcommand by name: its one line; the command is the attribute `command` of `regbench.cli.methods_NAME`.
SUBCOMMANDS: dict[str, str] = {
    "install": "Make the environment of its own that a method needs.",
    "test": "Check that a method, yours included, keeps the contract.",
}


# How a network wants intensities, in words.
_INTENSITIES = {
    "min-max": "each image from 0 to 1",
    "percentile": "each image, its 99.5th percentile at 1",
    "divide-255": "divided by 255",
    "as-is": "as they are",
}


@click.command(name="NAME")
@click.argument("name")
def _show_one(name: str) -> int:
    """Show the whole card of method NAME."""
    from regbench.cli.console import output
    from regbench.methods.table import card

    show_card(output(), card(name))
    return 0


@click.group(
    cls=TableGroup,
    lines=SUBCOMMANDS,
    show=_show_one,
    subcommand_metavar="[NAME | COMMAND NAME]",
    short_help="List the registration methods, or show one.",
    epilog="Example:  regbench methods demons",
)
@click.pass_context
def command(context: click.Context) -> int:
    """List the registration methods, or show the whole card of method NAME."""
    from regbench.cli.console import output

    if context.invoked_subcommand is None:
        show_methods(output())
    return 0


def show_methods(console: Console) -> None:
    """Prints the table of all methods, and below it what to install or to fetch for those that lack something."""
    from regbench.environments import home_of
    from regbench.methods.table import all_cards
    from regbench.methods.weights_table import fetch_hint

    console.print(methods_table(), "")
    for item in all_cards().values():
        for need in home_of(item.name).missing:
            console.print(f"{item.name} needs {need.name}:  {need.install_hint}", markup=False, soft_wrap=True)
    for item in all_cards().values():
        if hint := fetch_hint(item.weights):
            console.print(f"{item.name} needs its weights, which are missing:  {hint}", markup=False, soft_wrap=True)
    console.print("More about one:  regbench methods NAME", style="dim")


def methods_table() -> Table:
    from regbench.cli.console import table
    from regbench.methods.table import all_cards

    result = table("method", "paradigm", "learns from", "transformation", "dims", "installed")
    for item in all_cards().values():
        result.add_row(
            item.name,
            item.paradigm,
            "-" if item.supervision == "none" else item.supervision,
            item.transformation,
            _dimensions(item),
            _state_words(item),
        )
    return result


def _state_words(item: Card) -> str:
    """Whether a method is installed, here or apart, and has its weights."""
    from regbench.environments import home_of
    from regbench.methods.weights_table import fetch_hint

    home = home_of(item.name)
    if home.missing:
        return "[red]no[/red]"
    if fetch_hint(item.weights):
        return "[yellow]no weights[/yellow]"
    return "yes" if home.python is None else "apart"


def _dimensions(item: Card) -> str:
    return ", ".join(str(n) for n in item.dimensions)


def show_card(console: Console, item: Card) -> None:
    """Prints all facts of a method, its parameters with defaults, and its presets."""
    from rich.markup import escape

    from regbench.cli.console import facts, prose, table
    from regbench.cli.parameter_table import own_words, parameter_table, value_words
    from regbench.environments import home_of
    from regbench.methods.table import method_class

    home = home_of(item.name)
    console.print(f"[bold]{item.name}[/bold]: {escape(item.summary)}\n")
    console.print(
        facts(
            [
                ("paradigm", item.paradigm),
                ("supervision", item.supervision),
                ("transformation", item.transformation),
                ("dimensions", _dimensions(item)),
                ("grids", item.grids),
                *_input_facts(method_class(item.name)),
                ("installed", ", ".join(f"no: {p.install_hint}" for p in home.missing) or f"yes, {home.version}"),
                ("environment", _environment_words(item, home.python)),
                ("weights", _weights_words(item)),
                ("trained on", _words(item.trained_on)),
                ("deterministic", item.deterministic),
                ("citation", item.citation),
                ("licence", item.licence),
                ("notes", item.notes),
            ]
        )
    )
    cls = method_class(item.name)
    console.print("", parameter_table(cls) or "No parameters.")
    if description := own_words(cls):
        console.print()
        prose(console, description)
    if item.presets:
        presets = table("preset", "sets")
        for preset, values in item.presets.items():
            presets.add_row(preset, ", ".join(f"{key}: {value_words(value)}" for key, value in values.items()))
        console.print("", presets)
    console.print(f"\nIn a config:  methods: [{_example(item)}]", markup=False, soft_wrap=True, style="dim")


def _weights_words(item: Card) -> str:
    """The name of the weights of a method, and whether they are there."""
    from regbench.methods.weights_table import WEIGHTS, fetch_hint

    if item.weights not in WEIGHTS:
        return item.weights or ""
    hint = fetch_hint(item.weights)
    return f"{item.weights}, missing: {hint}" if hint else f"{item.weights}, fetched"


def _input_facts(cls: type) -> list[tuple[str, str]]:
    """What a released network wants to see with its default parameters; nothing for any other method."""
    from regbench.errors import RegbenchError
    from regbench.methods.released import Convention

    try:
        convention = cls().convention if hasattr(cls, "convention") else None
    except (TypeError, RegbenchError):
        convention = None
    if not isinstance(convention, Convention):
        return []
    shape = "x".join(map(str, convention.shape))
    sizes = f"multiples of {convention.multiple}" if convention.multiple else f"fixed, {shape}"
    return [
        ("orientation", f"{convention.orientation}, at {convention.spacing_mm:g} mm"),
        ("shape", f"{sizes} (trained on {shape})" if convention.multiple else sizes),
        ("intensity", _INTENSITIES[convention.intensity]),
    ]


def _environment_words(item: Card, python: str | None) -> str:
    """What a method's own environment holds, and where it is."""
    if item.environment is None:
        return ""
    own = item.environment
    here = [f"{name} as here" for name in own.same_as_here]
    content = ", ".join([*here, *own.requirements, *own.alone])
    return f"its own, with {content}" + (f": {python}" if python else "")


def _words(values: object) -> str:
    from collections.abc import Mapping

    from regbench.cli.parameter_table import value_words

    if not isinstance(values, Mapping):
        return str(values)
    # `families` says the same for the machine.
    return "; ".join(f"{key}: {value_words(value)}" for key, value in values.items() if key != "families")


def _example(item: Card) -> str:
    """An entry of this method as it stands in a config, with its first preset or parameter."""
    import dataclasses

    from regbench.cli.parameter_table import value_words
    from regbench.methods.table import method_class

    if item.presets:
        return f"{{{item.name}: {{preset: {next(iter(item.presets))}}}}}"
    # What a method starts from says more of it than its first parameter.
    specs = sorted(dataclasses.fields(method_class(item.name)), key=lambda spec: spec.name != "start")
    for spec in specs:
        if spec.init and spec.default is not dataclasses.MISSING:
            return f"{{{item.name}: {{{spec.name}: {value_words(spec.default)}}}}}"
    return item.name
