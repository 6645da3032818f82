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
    from regbench.cli.console import facts, output, prose, say, table
    from regbench.cli.parameter_table import own_words, parameter_table
    from regbench.shifts.table import SHIFTS, shift_class, shift_version

    console = output()
    if not name:
        result = table("condition", "levels", "strength in", "what it does")
        for card in SHIFTS.values():
            result.add_row(card.name, " ".join(f"{level:g}" for level in card.levels), card.unit, card.summary)
        console.print(result, "")
        say(console, "Levels are mild, medium and strong.")
        say(
            console,
            "In a config:  conditions: [none, {noise: 0.05}, {anisotropy_mm: [4, 8]}, {gamma: {strength: strong}}]",
        )
        return 0
    cls, card = shift_class(name), SHIFTS[name]
    console.print(f"[bold]{name}[/bold]: {card.summary}\n")
    prose(console, own_words(cls))
    levels = ", ".join(f"{level} {value:g}" for level, value in card.named_levels.items())
    unchanged = f"{card.neutral:g}" if card.levels else ""
    console.print(
        "",
        facts(
            [
                ("strength", card.unit),
                ("levels", levels),
                ("changes nothing", unchanged),
                ("version", shift_version(name)),
            ]
        ),
    )
    console.print("", facts([("carried along", card.carried)]))
    console.print("", parameter_table(cls) or "No parameters.")
    return 0
