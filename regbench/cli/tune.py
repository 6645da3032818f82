"""`regbench tune`: settings of methods chosen on validation pairs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from regbench.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.table import Table

    from regbench.tuning import Tuned


@click.command(
    short_help="Choose settings of methods on validation pairs.",
    epilog="Example:  regbench tune configs/tune/demons.yaml",
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), help="Run folder. [default: runs/NAME]")
@click.option("--fresh", is_flag=True, help="Start again: earlier trials in the run folder are set aside.")
def command(config: Path, *, folder: Path | None, fresh: bool) -> int:
    """Try the values that CONFIG lists under `tune` on its pairs, and record the best of each method.

    CONFIG is that of a run, with a list of values per parameter:

    \b
        tune:
          objective: dice            # default: Dice, TRE or EPE, the first that the pairs have
          trials: 20                 # default: all combinations; a number draws as many at random
          parameters:
            demons: {smoothing_voxels: [0.5, 1.0, 1.5], update_smoothing_voxels: [0.0, 1.0]}

    Take pairs that you will not test on. The record, tuning.json in the run folder, is then used in a benchmark by
    `methods: [{demons: {tuned: runs/NAME/tuning.json}}]`, which refuses pairs whose subjects were tuned on.
    """
    from regbench.cli.console import messages, output, say
    from regbench.cli.progress import listener_for
    from regbench.config import load_config
    from regbench.store import RunStore
    from regbench.tuning import RECORD, tune

    checked = load_config(config)
    folder = folder or Path("runs") / checked.name
    with listener_for(messages(), lambda: RunStore(folder, None).finished_keys(False)) as listener:
        outcome, found = tune(checked, folder, listener, fresh=fresh, argv=sys.argv)
    if outcome.interrupted:
        say(messages(), "Interrupted; the same command goes on from there.")
        return ExitCode.INTERRUPTED
    console = output()
    for tuned in found:
        console.print()
        console.print(trial_table(tuned))
    say(console, f"\nrecord      {folder / RECORD}")
    lacking = [tuned.method for tuned in found if tuned.best is None]
    if lacking:
        say(messages(), f"no trial finished all pairs: {', '.join(lacking)}")
    return ExitCode.FAILED if lacking else ExitCode.OK


def trial_table(tuned: Tuned) -> Table:
    """The trials of one method, best first, those that did not finish last."""
    from regbench.cli.console import table
    from regbench.metrics.table import METRICS

    sign = 1 if METRICS[tuned.objective].direction == "higher" else -1
    result = table(tuned.method, tuned.objective, "s/pair", "pairs", "values")
    order = sorted(tuned.scores, key=lambda s: (not s.is_complete, -sign * (s.mean or 0.0)))
    for score in order:
        values = ", ".join(f"{name}: {value}" for name, value in score.trial.values.items()) or "as in the config"
        result.add_row(
            f"[bold]{score.trial.label}[/bold]" if score is tuned.best else score.trial.label,
            "-" if score.mean is None else f"{score.mean:.4f}",
            "-" if score.seconds is None else f"{score.seconds:.2f}",
            f"{score.n_ok}/{score.n_cases}",
            values,
        )
    return result
