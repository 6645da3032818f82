"""The generated parts of the README: tables of commands, methods, datasets, conditions and metrics.

    python -m regbench.cli.docs README.md            writes them again
    python -m regbench.cli.docs --check README.md    exits 1 if they are out of date

Each part stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`, so that text and tables cannot drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import click


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(header), line(tuple("---" for _ in header)), *map(line, rows)])


def _commands() -> str:
    from regbench.cli import SECTIONS

    return _table(
        ("command", "does"), ((f"`regbench {name}`", text) for part in SECTIONS.values() for name, text in part.items())
    )


def _methods() -> str:
    from regbench.methods.table import CARDS

    rows = (
        (f"`{card.name}`", card.paradigm, card.supervision, card.transformation, card.summary)
        for card in CARDS.values()
    )
    return _table(("method", "paradigm", "supervision", "transformation", "what it is"), rows)


def _datasets() -> str:
    from regbench.datasets.table import DATASETS

    return _table(("dataset", "what it is"), ((f"`{card.name}`", card.summary) for card in DATASETS.values()))


def _shifts() -> str:
    from regbench.shifts.table import SHIFTS

    return _table(("condition", "what it does"), ((f"`{card.name}`", card.summary) for card in SHIFTS.values()))


def _metrics() -> str:
    from regbench.metrics.table import METRICS

    rows = ((f"`{m.name}`", m.unit, m.direction, m.definition) for m in METRICS.values())
    return _table(("metric", "unit", "better", "definition"), rows)


PARTS: dict[str, Callable[[], str]] = {
    "commands": _commands,
    "methods": _methods,
    "datasets": _datasets,
    "shifts": _shifts,
    "metrics": _metrics,
}


def refreshed(text: str) -> str:
    """The text with every generated part made again; ValueError for a part that is not marked in it."""
    for name, make in PARTS.items():
        pattern = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"no part '{name}' between its markers")
        part = make() + "\n"
        text = pattern.sub(lambda found, part=part: found[1] + part + found[2], text)  # type: ignore[misc]
    return text


@click.command()
@click.argument("readme", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if the file is out of date.")
def main(readme: Path, *, check: bool) -> None:
    """Write the generated parts of README again."""
    old = readme.read_text(encoding="utf-8")
    new = refreshed(old)
    if check and new != old:
        raise click.ClickException(f"{readme} is out of date; run: python -m regbench.cli.docs {readme}")
    if not check:
        readme.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
