"""`regbench export l2r RUN`: the displacement fields of a run in the form of a Learn2Reg submission."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from regbench.cli.exit_codes import ExitCode


@click.group(
    short_help="Write a run in the form of a challenge.",
    epilog="Example:  regbench export l2r runs/oasis -o submission",
)
def command() -> None:
    """Write the displacement fields that a run kept (`keep: {fields: true}`) in the form of a challenge."""


@command.command(
    name="l2r",
    short_help="The folder of a Learn2Reg submission.",
    epilog="Example:  regbench export l2r runs/oasis --method ants-syn -o submission",
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="The folder of the submission.")
@click.option("--dataset", metavar="LABEL", help="Which dataset, where the run has several.")
@click.option("--method", metavar="LABEL", help="This method only. [default: a folder for each]")
@click.option("--repeat", type=click.IntRange(min=0), default=0, help="Which repeat. [default: 0]")
@click.option("--format", type=click.Choice(["nii.gz", "npz"]), default="nii.gz", help="[default: nii.gz, float32]")
@click.option(
    "--names", type=click.Choice(["both", "long", "short"]), default="both", help="Of the files. [default: both]"
)
def learn2reg(run: Path, out: Path, **options: Any) -> int:
    """Write the fields of RUN as disp_FIXED_MOVING files in voxels, as the Learn2Reg evaluators read them.

    Each field has its long name (with modalities) and its short one, since evaluators differ in which they look for.
    They refuse a folder that lacks a pair, so pairs of the task that are missing are told: exit code 1. Check the
    folder with `regbench evaluate OUT --dataset TASK_dataset.json`.
    """
    from regbench.cli.console import messages, output, say
    from regbench.submission import Submission, missing_sentences, write_submission

    written = write_submission(Submission(run, out, **options))
    for found in written:
        n_all = len(found.pairs) + len(found.missing)
        say(output(), f"{found.method}: {len(found.pairs)} of {n_all} pairs in {found.folder}")
        for sentence in missing_sentences(found):
            say(messages(), sentence)
    if any(found.missing for found in written):
        say(messages(), "The evaluators of the challenge refuse a folder in which a pair is missing.")
        return ExitCode.FAILED
    return ExitCode.OK
