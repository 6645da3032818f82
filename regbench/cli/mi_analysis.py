"""`regbench mi-analysis DATASET`: how much intensities say of the labels, before any registration."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regbench.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from regbench.analysis.information import Relation
    from regbench.datasets.protocol import Dataset
    from regbench.information.record import Survey
    from regbench.information.subject import Settings

# Without a terminal, about so many lines tell of the progress.
_LINES = 20


@click.command(
    short_help="Measure how much intensities say of the labels.",
    epilog="Example:  regbench mi-analysis data/OASIS --labels seg35 --labels seg4 -j 4 -o information",
)
@click.argument("dataset", metavar="DATASET")
@click.option(
    "--run", "runs", type=click.Path(path_type=Path), multiple=True, help="Relate it to the Dice of this run."
)
@click.option(
    "--bins",
    type=click.IntRange(2, 4096),
    multiple=True,
    help="Intensity bins (default 64); further ones are compared beside 16 to 256.",
)
@click.option(
    "--mask",
    type=click.Choice(["fg", "all"]),
    default="fg",
    help="Tell labels apart among labelled voxels (fg, default) or among all, background included.",
)
@click.option("--labels", metavar="SET", multiple=True, help="A label set or merging (several times for several).")
@click.option("--set", "parameters", metavar="NAME=VALUE", multiple=True, help="A parameter of the dataset.")
@click.option("--limit", type=click.IntRange(min=1), help="The first N subjects only.")
@click.option("-j", "workers", type=click.IntRange(min=1), default=1, help="Processes.")
@click.option("-o", "folder", type=click.Path(path_type=Path), help="Write information.json, .csv and figures here.")
@click.option("--full", is_flag=True, help="Look at every face of borders, also in very large images.")
@click.option("--fresh", is_flag=True, help="Measure everything again instead of going on where it was interrupted.")
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", help="What to print.")
def command(dataset: str, runs: tuple[Path, ...], folder: Path | None, style: str, **options: Any) -> int:
    """Measure, per subject and before any registration, what the intensities of a dataset say of its labels.

    DATASET is a name of the table, or a folder, a CSV, a JSON or a YAML file. Mutual information in nats with
    correction for counting, the entropy of the labels and their ratio; label by label also the share of the border
    that is visible in intensity; and what bins, binning, mask and merging of labels do to it. It is not a bound on
    what a registration can reach: voxels know nothing of their neighbours here. Every subject is read once.
    """
    from regbench.cli.console import messages, output, say
    from regbench.information.keeping import Asked, keep_survey

    console, notes = output(), messages()
    built, name, choices = _dataset(dataset, options["parameters"], options["labels"])
    # Before the long part: a folder that is no run is no reason to wait for.
    rows = _rows(runs)
    asked = Asked(built, name, choices, options["limit"], options["workers"], folder, options["fresh"])
    with _Progress(notes) as progress:
        outcome = keep_survey(asked, _settings(options), progress.told)
    if outcome.n_before:
        say(notes, f"{outcome.n_before} subjects were measured before and were kept (--fresh measures all again)")
    _say_problems(notes, name, outcome.surveys)
    if not any(survey.measured for survey in outcome.surveys):
        return ExitCode.NOTHING_DONE if outcome.complete else ExitCode.INTERRUPTED
    relation = _relation(rows, outcome.surveys) if rows and outcome.complete else None
    _show(console, outcome.surveys, relation, style)
    if folder is not None:
        _say_files(notes, folder, outcome.surveys, relation)
    if not outcome.complete:
        kept = "; the same command goes on from there" if folder is not None else ""
        say(notes, f"Interrupted with {len(outcome.surveys[0].subjects)} subjects measured{kept}.")
        return ExitCode.INTERRUPTED
    return ExitCode.FAILED if any(one.problem for survey in outcome.surveys for one in survey.subjects) else ExitCode.OK


def _dataset(
    dataset: str, parameters: tuple[str, ...], labels: tuple[str, ...]
) -> tuple[Dataset, str, list[tuple[str, Any]]]:
    """The dataset, what to call it, and the label sets asked for by name and choice."""
    from regbench.datasets.recognition import dataset_at
    from regbench.datasets.table import build_dataset
    from regbench.errors import ConfigError

    given = {}
    for text in parameters:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise ConfigError(f"--set: '{text}' is not NAME=VALUE, such as split=test")
        given[key] = _read_as_yaml(value, "--set")
    name, known, label = dataset_at(dataset, given, Path.cwd())
    choices = [(text, _read_as_yaml(text, "--labels")) for text in dict.fromkeys(labels)]
    return build_dataset(name, known), label or name, choices


def _read_as_yaml(text: str, option: str) -> Any:
    import yaml

    from regbench.errors import ConfigError

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{option}: '{text}' cannot be read; put quotes around what the shell would take") from None


def _settings(options: dict[str, Any]) -> Settings:
    from regbench.information.subject import SENSITIVITY_BINS, Settings
    from regbench.metrics.information import BINS

    bins = options["bins"] or (BINS,)
    return Settings(bins[0], tuple(dict.fromkeys((*SENSITIVITY_BINS, *bins))), options["mask"], options["full"])


class _Progress:
    """How many subjects are done: a bar with the time left on a terminal, some lines elsewhere."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        self._console, self._started, self._first = console, time.monotonic(), 0
        self._done, self._of, self._subject, self._lines = 0, 0, "", 0
        self._live = Live(console=console, refresh_per_second=2, get_renderable=self._bar, transient=True)

    def __enter__(self) -> _Progress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def told(self, done: int, of: int, subject: str) -> None:
        """Hears that so many subjects of so many are done, and which was the last."""
        from regbench.cli.console import say

        if not self._of:
            self._first = done - 1
        self._done, self._of, self._subject = done, of, subject
        if not self._console.is_terminal and done * _LINES // of > self._lines:
            self._lines = done * _LINES // of
            say(self._console, f"[{done:>{len(str(of))}}/{of}]  {subject}")

    def _bar(self) -> Any:
        from rich.markup import escape
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        from regbench.cli.progress import seconds

        grid = Table.grid(padding=(0, 1))
        per_subject = (time.monotonic() - self._started) / max(self._done - self._first, 1)
        left = f"{seconds(per_subject * (self._of - self._done))} left" if self._of else "reading"
        bar = ProgressBar(total=max(self._of, 1), completed=self._done, width=24)
        grid.add_row(bar, f"{self._done}/{self._of or '?'}", f"[dim]{left}  {escape(self._subject)}[/dim]")
        return grid


def _say_problems(console: Console, name: str, surveys: Sequence[Survey]) -> None:
    """Says what could not be measured; in one sentence if it is the same for all."""
    from regbench.cli.console import say
    from regbench.information.subject import NO_LABELS

    said = {(one.subject, one.problem): None for survey in surveys for one in survey.subjects if one.problem}
    bare = [subject for subject, problem in said if problem.endswith(NO_LABELS)]
    if bare and len(bare) == max(len(survey.subjects) for survey in surveys):
        say(
            console,
            f"regbench: {name}: none of its {len(bare)} subjects has labels, so that there is nothing for intensities "
            "to tell; put label maps beside the images, or choose them with --set or --labels",
        )
        bare = []
    elif bare:
        several = "subjects have no labels and were" if len(bare) > 1 else "subject has no labels and was"
        say(console, f"regbench: {name}: {len(bare)} {several} left out: {', '.join(bare[:5])}")
    for subject, problem in said:
        if not problem.endswith(NO_LABELS):
            say(console, f"regbench: {problem if subject in problem else f'{subject}: {problem}'}")


def _rows(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """The results of all runs; ConfigError if there are none where some were asked for."""
    from regbench.errors import ConfigError
    from regbench.store import read_run

    rows = [row for run in runs for row in read_run(run).rows]
    if runs and not rows:
        raise ConfigError(f"--run: {', '.join(map(str, runs))}: no results there yet; run it first, or leave it out")
    return rows


def _relation(rows: Sequence[dict[str, Any]], surveys: Sequence[Survey]) -> Relation:
    from regbench.analysis.information import relate

    return relate(rows, [survey.as_json() for survey in surveys])


def _show(console: Console, surveys: Sequence[Survey], relation: Relation | None, style: str) -> None:
    from regbench.analysis.ceiling import predict
    from regbench.cli.console import say
    from regbench.information.summary import sensitivities, spreads
    from regbench.reports.information import print_relation
    from regbench.reports.survey_page import print_surveys
    from regbench.store import plain_json

    ceilings = [(survey, predict(survey)) for survey in surveys if survey.measured]
    if style == "json":
        told = [
            {
                **survey.as_json(),
                "summary": {key: vars(spread) for key, _, spread in spreads(survey)},
                "sensitivity": sensitivities(survey),
                "ceiling": {key: getattr(ceiling, key) for key in ("dice", "low", "high", "words")},
            }
            for survey, ceiling in ceilings
        ]
        whole = told[0] if len(told) == 1 else {"label_sets": told}
        related = {"relation": relation.as_json()} if relation is not None else {}
        say(console, json.dumps(plain_json({**whole, **related}), indent=1))
        return
    print_surveys(console, surveys)
    for survey, ceiling in ceilings:
        console.print()
        say(console, ceiling.words if len(ceilings) == 1 else f"{survey.label_set}: {ceiling.words}")
    if relation is not None:
        console.print()
        print_relation(console, relation)


def _say_files(console: Console, folder: Path, surveys: Sequence[Survey], relation: Relation | None) -> None:
    """Draws the figures, writes what runs tell, and says where everything is."""
    from regbench.cli.console import say
    from regbench.information.record import CSV_NAME, json_path
    from regbench.reports.information_figures import factor_plot, scatter_plot
    from regbench.reports.survey_figures import write_figures
    from regbench.store import plain_json, write_whole

    names = [json_path(folder, survey.label_set, place).name for place, survey in enumerate(surveys)]
    names.append(CSV_NAME)
    # Whoever interrupts does not want to wait for pictures of a part.
    whole = [survey for survey in surveys if survey.complete]
    figures = [path for survey in whole for path in write_figures(folder / "figures", survey)]
    if relation is not None:
        write_whole(folder / "relation.json", json.dumps(plain_json(relation.as_json()), indent=1).encode() + b"\n")
        names.append("relation.json")
        for plot in filter(None, (scatter_plot(relation), factor_plot(relation))):
            figures.append(folder / "figures" / f"{plot.name}.png")
            write_whole(figures[-1], plot.png)
    say(console, f"written to {folder}: {', '.join(names)}, {len(figures)} figures in figures/")
