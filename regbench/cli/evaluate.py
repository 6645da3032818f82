"""`regbench evaluate`: a run's kept displacement fields, scored again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click


@click.command(
    short_help="Score kept displacement fields again.",
    epilog="Example:  regbench evaluate runs/my-benchmark",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--metrics", metavar="NAME,...", help="standard, full, or names. [default: as the run was asked for]")
def command(run: Path, metrics: str | None) -> int:
    """Compute the metrics of RUN (a run folder) again from its displacement fields.

    Works where the config said `keep: {fields: true}`. Times and memory stay as they were measured; the old
    rows are kept beside the new ones.
    """
    from regbench.cli.console import messages
    from regbench.cli.progress import listener_for
    from regbench.cli.run_results import exit_code, show_run
    from regbench.rescore import evaluate_run
    from regbench.store import read_run

    with listener_for(messages()) as listener:
        evaluate_run(run, listener, _chosen(metrics))
    record = read_run(run)
    show_run(record)
    statuses = Counter(row["status"] for row in record.rows)
    return exit_code(statuses["ok"], statuses.total() - statuses["ok"] - statuses["skipped"])


def _chosen(metrics: str | None) -> str | list[str] | None:
    """The value of --metrics as a config would have it."""
    return (
        metrics if metrics is None or metrics in ("standard", "full") else [name.strip() for name in metrics.split(",")]
    )
