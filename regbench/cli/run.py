"""`regbench run`: what is missing of a config's cases is run, then the results are shown."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regbench.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from regbench.config import RunConfig


@click.command(
    short_help="Run what is missing of a config, show the results.",
    epilog="Example:  regbench run configs/smoke.yaml --only affine,demons --limit 2",
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), help="Run folder. [default: runs/NAME]")
@click.option("--only", metavar="METHOD,...", help="Run only these methods (their labels).")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N pairs of each dataset.")
@click.option("-j", "--workers", type=click.IntRange(min=1), metavar="N", help="Run N cases at once; times get noisy.")
@click.option("--engine", type=click.Choice(["local"]), help="Where cases run. [default: as the config says]")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Seconds a case may take."
)
@click.option("--dry-run", is_flag=True, help="Show what would run; write nothing.")
@click.option("--fresh", is_flag=True, help="Start again: earlier results in the run folder are set aside.")
@click.option("--retry-failed", is_flag=True, help="Run cases again that failed before.")
def command(
    config: Path,
    *,
    folder: Path | None,
    only: str | None,
    limit: int | None,
    workers: int | None,
    engine: str | None,
    timeout_s: float | None,
    dry_run: bool,
    fresh: bool,
    retry_failed: bool,
) -> int:
    """Run the cases of CONFIG (a YAML file) that are not done yet, then show the results.

    A case is one method on one pair under one condition. Every finished case is saved at once, so a run that
    was stopped goes on where it was: give the same command again.
    """
    from regbench.config import load_config
    from regbench.errors import ConfigError

    checked = load_config(config)
    if engine:
        checked = checked.model_copy(update={"engine": checked.engine.model_copy(update={"kind": engine})})
    if checked.tune is not None:
        raise ConfigError(f"{config}: has `tune`; choose settings with `regbench tune {config}`, or take it out")
    folder = folder or Path("runs") / checked.name
    names = _method_names(only, checked)
    if dry_run:
        from regbench.cli.dry_run import show_plan

        return show_plan(checked, folder, names, limit, fresh=fresh, retry_failed=retry_failed)
    options = {
        "only": names,
        "limit": limit,
        "workers": workers,
        # Several cases at once disturb each other's seconds, which the rows then say.
        "timing": "shared" if workers and workers > 1 else None,
        "timeout_s": timeout_s,
        "fresh": fresh,
        "retry_failed": retry_failed,
    }
    return _run(checked, folder, options)


def _method_names(only: str | None, config: RunConfig) -> list[str] | None:
    """The labels given by --only, each known to the config."""
    from regbench.errors import ConfigError
    from regbench.parameters import nearest

    if only is None:
        return None
    names = [name.strip() for name in only.split(",") if name.strip()]
    known = [entry.label for entry in config.methods]
    for name in names:
        if name not in known:
            hint = nearest(name, known)
            raise ConfigError(f"--only: the config has no method '{name}'{hint}; it has: {', '.join(known)}")
    if not names:
        raise ConfigError(f"--only: names no method; the config has: {', '.join(known)}")
    return names


def _run(config: RunConfig, folder: Path, options: Mapping[str, Any]) -> int:
    from regbench.cli.console import messages, say
    from regbench.cli.progress import listener_for
    from regbench.cli.run_results import exit_code, show_run
    from regbench.runner import run
    from regbench.store import RunStore, read_run

    notes = messages()
    with listener_for(notes, lambda: RunStore(folder, None).finished_keys(options["retry_failed"])) as listener:
        outcome = run(config, folder, argv=sys.argv, listener=listener, **options)
    record = read_run(outcome.folder)
    if record.rows:
        show_run(record)
    n_finished = outcome.n_ok + outcome.n_not_ok + outcome.n_skipped
    if outcome.interrupted:
        say(
            notes,
            f"Interrupted with {n_finished} of {outcome.n_cases} cases done; the same command goes on from there.",
        )
        return ExitCode.INTERRUPTED
    code = exit_code(outcome.n_ok, outcome.n_not_ok)
    if code == ExitCode.NOTHING_DONE:
        say(notes, "regbench: nothing was run" + (": every case was skipped" if n_finished else ""))
    return code
