"""`regbench methods [NAME]`: the table of registration methods, or everything about one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from regbench.methods.card import Card


@click.command(
    short_help="List the registration methods, or show one.",
    epilog="Example:  regbench methods demons",
)
@click.argument("name", required=False)
def command(name: str | None) -> int:
    """List the registration methods, or show the whole card of method NAME."""
    from regbench.cli.console import output
    from regbench.methods.table import card

    if name:
        show_card(output(), card(name))
    else:
        show_methods(output())
    return 0


def show_methods(console: Console) -> None:
    """Prints the table of all methods, and below it what to install for those that lack a package."""
    from regbench.methods.table import CARDS, missing_packages

    console.print(methods_table(), "")
    for item in CARDS.values():
        for package in missing_packages(item):
            console.print(f"{item.name} needs {package.module}:  {package.install_hint}", markup=False, soft_wrap=True)
    console.print("More about one:  regbench methods NAME", style="dim")


def methods_table() -> Table:
    from regbench.cli.console import table
    from regbench.methods.table import CARDS, missing_packages

    result = table("method", "paradigm", "learns from", "transformation", "dims", "installed")
    for item in CARDS.values():
        result.add_row(
            item.name,
            item.paradigm,
            "-" if item.supervision == "none" else item.supervision,
            item.transformation,
            _dimensions(item),
            "[red]no[/red]" if missing_packages(item) else "yes",
        )
    return result


def _dimensions(item: Card) -> str:
    return ", ".join(str(n) for n in item.dimensions)


def show_card(console: Console, item: Card) -> None:
    """Prints all facts of a method, its parameters with defaults, and its presets."""
    from regbench.cli.console import facts, prose, table
    from regbench.cli.parameter_table import own_words, parameter_table, value_words
    from regbench.methods.table import method_class, method_version, missing_packages

    missing = missing_packages(item)
    console.print(f"[bold]{item.name}[/bold]: {item.summary}\n")
    console.print(
        facts(
            [
                ("paradigm", item.paradigm),
                ("supervision", item.supervision),
                ("transformation", item.transformation),
                ("dimensions", _dimensions(item)),
                ("grids", item.grids),
                ("installed", ", ".join(f"no: {p.install_hint}" for p in missing) or f"yes, {method_version(item)}"),
                ("weights", item.weights or ""),
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


def _words(values: object) -> str:
    from collections.abc import Mapping

    from regbench.cli.parameter_table import value_words

    if not isinstance(values, Mapping):
        return str(values)
    return "; ".join(f"{key}: {value_words(value)}" for key, value in values.items())


def _example(item: Card) -> str:
    """An entry of this method as it stands in a config, with its first preset or parameter."""
    import dataclasses

    from regbench.cli.parameter_table import value_words
    from regbench.methods.table import method_class

    if item.presets:
        return f"{{{item.name}: {{preset: {next(iter(item.presets))}}}}}"
    for spec in dataclasses.fields(method_class(item.name)):
        if spec.init and spec.default is not dataclasses.MISSING:
            return f"{{{item.name}: {{{spec.name}: {value_words(spec.default)}}}}}"
    return item.name
