"""`regbench train`: trains a learned method from a config."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    short_help="Train a learned method.",
    epilog="Example:  regbench train configs/train/voxelmorph-cohort-2d.yaml -o my-weights",
)
@click.argument("config", type=click.Path(path_type=Path))
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), help="Where the weights go.")
def command(config: Path, folder: Path | None) -> int:
    """Train the network that CONFIG (a YAML file) describes; goes on where an earlier training stopped."""
    from regbench.cli.console import messages, say
    from regbench.training.loop import train_from_config

    console = messages()
    train_from_config(config, folder, lambda text: say(console, text))
    return 0
