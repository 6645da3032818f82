"""`regbench recommend`: which paradigm to use in a situation, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regbench.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from regbench.analysis.recommend import Recommendation
    from regbench.store import RunRecord


@click.command(
    short_help="Say which paradigm to use, and why.",
    epilog="Example:  regbench recommend runs/quickstart --deploy same --training-labels 0 --max-seconds 5",
)
@click.argument("runs", nargs=-1, metavar="[RUN]...", type=click.Path(path_type=Path))
@click.option("--dataset", metavar="DATASET", help="Count only this dataset of the runs; without runs, measure it.")
@click.option("--policy", type=click.Choice(["evidence", "jena2024"]), default="evidence", show_default=True)
@click.option(
    "--deploy",
    type=click.Choice(["same", "shifted", "unknown"]),
    default="unknown",
    show_default=True,
    help="Whether images to come are like those of the runs.",
)
@click.option("--training-labels", type=click.IntRange(0), metavar="N", help="Labelled subjects to train on.")
@click.option("--training-pairs", type=click.IntRange(0), metavar="N", help="Pairs without labels to train on.")
@click.option("--modality", type=click.Choice(["mono", "multi"]), default="mono", show_default=True)
@click.option("--invertible", is_flag=True, help="Only methods with invertible deformations.")
@click.option("--max-fold-percent", type=click.FloatRange(0), metavar="X", help="Folded voxels allowed, mean in %.")
@click.option("--max-seconds", type=click.FloatRange(0), metavar="X", help="Time allowed per pair.")
@click.option("--device", type=click.Choice(["cpu", "gpu"]), help="What methods may run on.")
@click.option(
    "--margin", type=float, default=0.5, show_default=True, metavar="X", help="Dice points that make no difference."
)
@click.option("--write-config", type=click.Path(path_type=Path), metavar="FILE", help="Write what to run next.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "md", "json"]),
    default="text",
    show_default=True,
    help="How to print.",
)
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), metavar="FILE", help="Print to this file.")
def command(
    runs: tuple[Path, ...],
    dataset: str | None,
    policy: str,
    form: str,
    *,
    write_config: Path | None,
    target: Path | None,
    **situation: Any,
) -> int:
    """Say which paradigm to use: classical, learned (with or without labels) or hybrid, or that it is undecided.

    With run folders, the verdict follows from their results: intervals over pairs, a margin that makes no difference,
    and the limits given here. Without any, published results and DATASET only lean, and an experiment is named that
    would decide. Exits with 0 for a verdict, 3 if undecided, 5 if there is nothing to go by.
    """
    from regbench.analysis.ceiling import predict
    from regbench.analysis.recommend import Situation, recommend
    from regbench.analysis.recommend.together import together
    from regbench.errors import ConfigError
    from regbench.store import read_run

    asked = Situation(**situation)
    records = [read_run(run) for run in runs]
    rows = together([(record.folder.name, record.rows) for record in records])
    if dataset is not None and records:
        known = list(dict.fromkeys(str(row.get("dataset")) for row in rows))
        rows = [row for row in rows if row.get("dataset") == dataset]
        if not rows:
            raise ConfigError(f"--dataset {dataset}: the runs have no such dataset; they have {', '.join(known)}")
    measured = [] if records or dataset is None else _measured(dataset)
    ceiling = predict(measured).words if measured else None
    made = recommend(rows, asked, measured, ceiling, policy=policy, runs=[r.run for r in records])
    if records and not rows:
        _say(f"{', '.join(map(str, runs))}: no results yet")
        return ExitCode.NOTHING_DONE
    _show(made, form, target)
    if write_config is not None:
        _write_config(made, write_config, records, dataset)
    return ExitCode(made.exit_code)


def _say(sentence: str) -> None:
    from regbench.cli.console import messages, say

    say(messages(), f"regbench: {sentence}")


def _show(made: Recommendation, form: str, target: Path | None) -> None:
    from regbench.cli.console import output
    from regbench.reports.recommendation import as_json, markdown, print_recommendation

    if target is None and form == "text":
        print_recommendation(output(), made)
        return
    text = {"md": markdown, "json": as_json}[form](made) if form != "text" else _plain(made)
    if target is None:
        click.echo(text, nl=False)
        return
    target.write_text(text, encoding="utf-8")
    _say(f"written to {target}")


def _plain(made: Recommendation) -> str:
    """The terminal page as plain text."""
    import io

    from rich.console import Console

    from regbench.reports.recommendation import print_recommendation

    stream = io.StringIO()
    print_recommendation(Console(file=stream, width=120, highlight=False), made)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


_MOST_SUBJECTS = 10


def _measured(dataset: str) -> Sequence[Mapping[str, Any]]:
    """What the first subjects of a dataset tell of their labels, without those that cannot be measured."""
    from dataclasses import asdict

    from regbench.datasets.recognition import dataset_at
    from regbench.datasets.table import build_dataset
    from regbench.information.survey import survey

    name, given, _ = dataset_at(dataset, {}, Path.cwd())
    found = survey(build_dataset(name, given), limit=_MOST_SUBJECTS)
    return [asdict(subject) for subject in found if not subject.problem]


def _write_config(made: Recommendation, path: Path, records: Sequence[RunRecord], dataset: str | None) -> None:
    from regbench.analysis.recommend.experiments import config_of, datasets_for

    if not made.experiments:
        _say(f"{path} was not written: nothing needs to be run for this verdict")
        return
    experiment = made.experiments[0]
    runs = [record.run for record in records]
    entries, note = datasets_for(experiment, runs, dataset)
    path.write_text(config_of(experiment, entries, tuple(runs), name=path.stem), encoding="utf-8")
    _say(f"written to {path}{note}; run it with `regbench run {path}`")
