"""`regbench rank`: the methods of a run in order, with what is known of that order."""

from __future__ import annotations

import json
from pathlib import Path

import click

from regbench.cli.exit_codes import ExitCode


@click.command(
    short_help="Rank the methods of a run, with significance.",
    epilog="Example:  regbench rank runs/mine --metric dice --metric ndv_percent",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--scheme",
    type=click.Choice(["paired", "l2r"]),
    default="paired",
    show_default=True,
    help="How methods are ranked.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="METRIC",
    help="What to rank by; several are combined. [accuracy, HD95]",
)
@click.option("--only", metavar="METHOD,...", default="", help="Rank these methods only, as if no other had run.")
@click.option(
    "--format", "form", type=click.Choice(["table", "md", "json", "csv"]), default="table", help="How it is printed."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the draws of subjects.")
def command(  # noqa: PLR0917
    run: Path, scheme: str, metrics: tuple[str, ...], only: str, form: str, seed: int
) -> int:
    """Rank the methods of RUN (a run folder), every dataset and condition apart.

    Scheme `paired`: methods in the order of their means over the pairs that all of them finished; every two are told
    apart by a paired test that knows which pairs share subjects, corrected for the number of comparisons. Scheme
    `l2r`: the scheme of the Learn2Reg challenges. Both say how far ranks move with other subjects.

    Regularity takes part only where it is asked for. Exits with 3 if there is too little data to tell any two methods
    apart, 5 if nothing could be ranked.
    """
    from regbench.analysis.rank import rank_rows
    from regbench.cli.console import messages, output, say
    from regbench.reports.derived import method_order
    from regbench.reports.ranking_text import as_csv, as_json, markdown, print_ranking
    from regbench.store import read_run

    record = read_run(run)
    names = [name.strip() for name in only.split(",") if name.strip()]
    ranking = rank_rows(record.rows, scheme, metrics, only=names, seed=seed, order=method_order(record.run))
    if not ranking.groups:
        for note in ranking.notes or ("it has no results yet",):
            say(messages(), f"regbench: {run}: nothing to rank: {note}")
        return ExitCode.NOTHING_DONE
    if form == "table":
        print_ranking(output(), ranking)
    else:
        text = {"md": markdown, "csv": as_csv}[form](ranking) if form != "json" else _json(as_json(ranking))
        click.echo(text, nl=False)
    return ExitCode.OK if ranking.is_decidable else ExitCode.INCONCLUSIVE


def _json(data: object) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
