"""`regbench show`: the pictures of one case of a run."""

from __future__ import annotations

from pathlib import Path

import click

from regbench.cli.exit_codes import ExitCode


@click.command(
    short_help="Draw the pictures of one case.",
    epilog="Example:  regbench show runs/smoke --pair test-009_test-020 --method demons",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--pair", required=True, metavar="ID", help="The pair, by its id in results.csv.")
@click.option("--method", required=True, metavar="LABEL", help="The method, by its label in the run.")
@click.option("--dataset", metavar="LABEL", help="Needed where several datasets have such a pair.")
@click.option("--condition", metavar="LABEL", help="[default: none]")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of the pictures. [default: RUN/show/CASE]",
)
def command(*, run: Path, pair: str, method: str, dataset: str | None, condition: str | None, out: Path | None) -> int:
    """Draw the pictures of one case of RUN (a run folder) as PNG.

    Shown are three planes through the middle (2-D: one): the images before and after, a checkerboard of both, outlines
    of labels, the deformation as a grid, the Jacobian, and the difference of the images before and after. What the run
    did not keep is made from its kept field, or by registering the case again with the same settings.
    """
    from regbench.case_again import find_case, with_pictures
    from regbench.cli.console import messages, output, say
    from regbench.reports.case_pictures import write_case
    from regbench.store import file_name, read_run

    record = read_run(run)
    row = find_case(record, pair=pair, method=method, dataset=dataset, condition=condition)
    place = [str(row["dataset"]), str(row["condition"]), str(row["pair"]["id"]), str(row["method"])]
    folder = out or run / "show" / file_name(*place)
    written: list[Path] = []
    origin = with_pictures(
        record,
        row,
        lambda file: written.extend(write_case(file, folder)),
        lambda text: say(messages(), f"regbench: {text}"),
    )
    console = output()
    say(console, f"{method} on {pair}, {place[0]}, condition {place[1]}: {origin}")
    say(console, "\n".join(str(path) for path in written))
    return ExitCode.OK
