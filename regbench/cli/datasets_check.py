"""`regbench datasets check DATASET`: what it holds, what is wrong with it, and whether a benchmark may start on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regbench.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from regbench.dataset_check.check import Checked

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


@click.command(
    short_help="Look through a dataset or a folder: may a benchmark start on it?",
    epilog="Example:  regbench datasets check data/OASIS --preview oasis.html",
)
@click.argument("dataset", metavar="NAME|PATH")
@click.option("--set", "parameters", metavar="NAME=VALUE", multiple=True, help="A parameter of the dataset.")
@click.option("--scans", type=click.IntRange(min=1), help="Look at the first N scans only.")
@click.option("--index", type=click.Path(path_type=Path), help="Compare files with this checksum index.")
@click.option("--write-index", type=click.Path(path_type=Path), help="Write a checksum index (as sha256sum does).")
@click.option("--preview", type=click.Path(path_type=Path), help="Write an HTML page with a slice of every scan.")
def command(dataset: str, parameters: tuple[str, ...], preview: Path | None, **options: Any) -> int:
    """Read every scan of a dataset once: a name of the table, or a folder, a CSV, a JSON or a YAML file.

    Reports counts, shapes, spacings, orientations, labels, missing and surplus files, labels on another grid than
    their image, subjects in several parts, files that differ from an index, and label maps that fit the image of
    another scan better than their own, which tells swapped files. Exit code 0: a benchmark may start; 1: it should not.
    """
    from regbench.cli.console import messages, output, say
    from regbench.dataset_check.check import check_dataset
    from regbench.dataset_check.preview import write_preview
    from regbench.datasets.recognition import dataset_at
    from regbench.datasets.table import build_dataset

    name, given, label = dataset_at(dataset, _parsed(parameters), Path.cwd())
    built = build_dataset(name, given)
    console = output()
    say(console, f"{label or name}: read as {name}{_said(given)}")
    with messages().status("listing") as status:
        checked = check_dataset(built, options["scans"], options["index"], options["write_index"], told=status.update)
    _show(console, checked)
    if preview is not None:
        write_preview(preview, label or name, checked)
        say(console, f"preview: {preview}")
    if not checked.scans and checked.may_start:
        return ExitCode.NOTHING_DONE
    return ExitCode.OK if checked.may_start else ExitCode.FAILED


def _parsed(texts: tuple[str, ...]) -> dict[str, Any]:
    """Parameters as they would be read from a config."""
    import yaml

    from regbench.errors import ConfigError

    found = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise ConfigError(f"--set: '{text}' is not NAME=VALUE, such as split=test")
        found[name] = yaml.safe_load(value)
    return found


def _said(given: dict[str, Any]) -> str:
    others = [f"{key}={value}" for key, value in given.items() if key != "path"]
    return f" ({', '.join(others)})" if others else ""


def _show(console: Console, checked: Checked) -> None:
    from rich.text import Text

    from regbench.cli.console import facts

    console.print(facts(checked.facts.items()))
    for finding in checked.findings:
        line = Text()
        line.append(finding.severity, style=_STYLES[finding.severity])
        line.append(f"  {finding.check}: {finding.sentence}")
        console.print(line, soft_wrap=True)
    verdict = "a benchmark may start" if checked.may_start else "a benchmark should not start before this is settled"
    console.print(verdict, style="green" if checked.may_start else "bold red")
