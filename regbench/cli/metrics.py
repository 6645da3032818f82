"""`regbench metrics [NAME]`: the table of metrics, or the definition of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from regbench.metrics.table import Metric


@click.command(
    short_help="List the metrics with their definitions, or show one.",
    epilog="Example:  regbench metrics ndv_percent",
)
@click.argument("name", required=False)
def command(name: str | None) -> int:
    """List the metrics, or show the definition of metric NAME with its source."""
    from regbench.cli.console import facts, output
    from regbench.metrics.table import METRICS, select_metrics

    console = output()
    if not name:
        console.print(metrics_table())
        note = "standard: what `metrics: standard` in a config computes; costs and quantiles come with every run."
        console.print(f"\n{note}", style="dim")
        return 0
    metric = METRICS[name] if name in METRICS else METRICS[select_metrics([name])[0]]
    console.print(f"[bold]{metric.name}[/bold]\n")
    console.print(
        facts(
            [
                ("unit", metric.unit),
                ("better", _direction(metric)),
                ("tolerance", f"{metric.tolerance:g} (default of `regbench compare`)"),
                ("needs", ", ".join(metric.needs)),
                ("definition", metric.definition),
                ("source", metric.source),
                ("version", str(metric.version)),
            ]
        )
    )
    return 0


def metrics_table() -> Table:
    """Name, unit, direction, needs and first sentence of the definition of every metric."""
    from regbench.cli.console import table
    from regbench.metrics.table import METRICS

    result = table("metric", "unit", "better", "needs", "standard", "definition")
    for metric in METRICS.values():
        result.add_row(
            metric.name,
            metric.unit,
            _direction(metric),
            ", ".join(metric.needs) or "-",
            "always" if metric.function is None else "yes" if metric.standard else "no",
            metric.definition,
        )
    return result


def _direction(metric: Metric) -> str:
    return f"near {metric.target:g}" if metric.direction == "target" and metric.target is not None else metric.direction
