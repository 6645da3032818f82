"""`regbench train`: trains a learned method from a config."""

from __future__ import annotations

from pathlib import Path

import click

from regbench.cli.exit_codes import ExitCode


@click.command(
    short_help="Train a learned method.",
    epilog="Example:  regbench train configs/train/voxelmorph-cohort-2d.yaml -o my-weights",
)
@click.argument("configs", metavar="CONFIG...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), help="Where the weights go.")
@click.option("--dry-run", is_flag=True, help="Show the whole recipe and how long it takes; write nothing.")
def command(configs: tuple[Path, ...], folder: Path | None, dry_run: bool) -> int:
    """Train the network that CONFIG (a YAML file) describes; goes on where an earlier training stopped.

    Several are trained one after the other. Ctrl-C saves a checkpoint first. The folder then holds training.csv and
    curves.svg, and at the end the weights (model.safetensors) with their model card.
    """
    if folder is not None and len(configs) > 1:
        raise click.UsageError("-o names the folder of one training; give one CONFIG with it")
    found = [_preview(config) if dry_run else _train(config, folder) for config in configs]
    return max(found)


def _train(config: Path, folder: Path | None) -> int:
    from regbench.cli.console import messages, say
    from regbench.cli.train_progress import TrainingProgress
    from regbench.training.loop import Diverged, train_from_config

    console = messages()
    try:
        with TrainingProgress(console) as progress:
            path = train_from_config(config, folder, progress.message, progress.show)
    except Diverged as error:
        say(console, f"regbench: {error}")
        return ExitCode.FAILED
    say(console, f"use it in a config:  methods: [{{my-net: {{weights: {path}}}}}]")
    return ExitCode.OK


def _preview(config: Path) -> int:
    import yaml

    from regbench.cli.console import facts, messages, output, say
    from regbench.cli.progress import seconds
    from regbench.training.preview import preview

    console = messages()
    found = preview(config, lambda text: say(console, text))
    results = output()
    say(results, yaml.safe_dump(found.recipe, sort_keys=False, default_flow_style=None, width=110).rstrip())
    results.print()
    rows = {
        **found.data,
        "parameters": f"{found.n_parameters}",
        "seconds per step": f"{found.step_s:.3g} (2 steps of each phase measured)",
        "in all": f"about {seconds(found.total_s)} for {found.recipe['schedule']['steps']} steps with validation",
    }
    results.print(facts(rows.items()))
    return ExitCode.OK
