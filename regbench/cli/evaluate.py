"""`regbench evaluate`: displacement fields scored, those that a run kept or those that another program made."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from regbench.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.table import Table

# Which options go with which of the three things that this command does; the others are refused by name.
_FOR_A_RUN = {"metrics", "label_warp"}
_FOR_FIELDS = {
    *("dataset", "parameters", "method", "paradigm", "supervision", "format", "metrics", "label_warp", "out", "fresh")
}
_FOR_COMPAT = {"compat", "dataset", "l2r_config", "out"}


@click.command(
    short_help="Score displacement fields, kept by a run or made elsewhere.",
    epilog="Example:  regbench evaluate my-fields --dataset OASIS/OASIS_dataset.json",
)
@click.argument("folder", type=click.Path(path_type=Path), metavar="RUN|FOLDER")
@click.option("--dataset", metavar="D", help="Their pairs: a dataset's name, a CSV, a TASK_dataset.json.")
@click.option("--set", "parameters", metavar="NAME=VALUE", multiple=True, help="A parameter of the dataset.")
@click.option("--method", metavar="LABEL", help="What made the fields. [default: name of FOLDER]")
@click.option("--paradigm", type=click.Choice(["none", "classical", "learned", "hybrid"]), help="[default: unknown]")
@click.option("--supervision", type=click.Choice(["none", "image", "labels", "synthetic"]), help="What training used.")
@click.option("--format", metavar="NAME", help="Format of files that do not tell it, such as fsl-relative.")
@click.option("--metrics", metavar="NAME,...", help="standard, full, or names. [default: standard, or as for RUN]")
@click.option("--label-warp", type=click.Choice(["nearest", "linear", "soft"]), help="How labels are moved.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Run folder. [default: runs/NAME-evaluated]")
@click.option("--fresh", is_flag=True, help="Put another run in the run folder aside.")
@click.option("--compat", type=click.Choice(["l2r"]), help="The numbers of the Learn2Reg evaluator, as JSON, into -o.")
@click.option("--l2r-config", type=click.Path(path_type=Path), help="Its evaluation config, for --compat.")
def command(folder: Path, **options: Any) -> int:
    """Score the displacement fields in a folder.

    RUN is a run folder that kept its fields (`keep: {fields: true}`); its metrics are computed again. Times and
    memory stay as they were measured, and the old rows are kept beside the new ones.

    FOLDER holds fields that were made elsewhere, for the pairs of --dataset: disp_FIXED_MOVING.npz and
    other Learn2Reg names, NAME_1Warp.nii.gz with NAME_0GenericAffine.mat (ANTs), or NAME.nii.gz, .mha, .h5, ...,
    where NAME is the id of a pair, FIXED_MOVING or FIXED-MOVING. They become a run folder like any other.
    """
    given = {name: value for name, value in options.items() if value not in (None, False, ())}
    if "compat" in given or "l2r_config" in given:
        return _compat(folder, given)
    if "dataset" in given:
        return _evaluate_fields(folder, given)
    return _evaluate_run(folder, given)


# -- the fields of a run --------------------------------------------------------------------------------


def _evaluate_run(folder: Path, given: Mapping[str, Any]) -> int:
    from regbench.cli.console import messages
    from regbench.cli.progress import listener_for
    from regbench.errors import ConfigError
    from regbench.rescore import evaluate_run
    from regbench.store import read_run

    if not (folder / "run.json").exists():
        raise ConfigError(
            f"{folder} is not a run folder; for fields that were made elsewhere, say of which pairs, with --dataset"
        )
    _refuse_others(given, _FOR_A_RUN, "goes with fields made elsewhere; leave it out for a run folder")
    source = read_run(folder).run.get("fields")
    if source:
        raise ConfigError(f"{folder} was made of the fields in {source['folder']}; give that folder and its --dataset")
    with listener_for(messages()) as listener:
        evaluate_run(folder, listener, _metrics(given), given.get("label_warp"))
    return _show(read_run(folder))


# -- fields made elsewhere ------------------------------------------------------------------------------


def _evaluate_fields(folder: Path, given: Mapping[str, Any]) -> int:
    from regbench.cli.console import messages, say
    from regbench.cli.progress import listener_for
    from regbench.foreign.evaluation import ForeignFields, NothingFound, evaluate_fields
    from regbench.store import read_run

    _refuse_others(given, _FOR_FIELDS, "goes with --compat l2r")
    _check_folder(folder)
    fields = ForeignFields(
        folder=folder,
        dataset=given["dataset"],
        method=given.get("method") or folder.absolute().name,
        metrics=_metrics(given) or "standard",
        label_warp=given.get("label_warp", "nearest"),
        format=_format(given),
        parameters=_parameters(given.get("parameters", ())),
        **_origin(given),
    )
    out = given.get("out") or Path("runs") / f"{folder.absolute().name}-evaluated"
    notes = messages()
    try:
        with listener_for(notes) as listener:
            evaluate_fields(fields, out, fresh="fresh" in given, argv=sys.argv, listener=listener)
    except NothingFound as error:
        say(notes, f"regbench: {error}")
        return ExitCode.NOTHING_DONE
    return _show(read_run(out))


def _check_folder(folder: Path) -> None:
    from regbench.errors import ConfigError

    if not folder.is_dir():
        problem = "is a file; give the folder that it is in" if folder.exists() else "does not exist"
        raise ConfigError(f"{folder} {problem}")
    if (folder / "run.json").exists():
        raise ConfigError(f"{folder} is a run folder, which knows its own dataset; leave --dataset out")


def _origin(given: Mapping[str, Any]) -> dict[str, str]:
    """Paradigm and supervision as far as they are told; the ones that follow from others are filled in."""
    from regbench.errors import ConfigError

    paradigm, supervision = given.get("paradigm"), given.get("supervision")
    is_trained = paradigm in ("learned", "hybrid")
    if supervision and not is_trained:
        raise ConfigError("--supervision: goes with --paradigm learned or hybrid")
    if is_trained and not supervision:
        raise ConfigError(
            f"--paradigm {paradigm}: say also what training used, --supervision none, image, labels or synthetic"
        )
    if paradigm is None:
        return {}
    return {"paradigm": paradigm, "supervision": supervision or "none"}


def _format(given: Mapping[str, Any]) -> str | None:
    from regbench.errors import ConfigError
    from regbench.files.fields import FORMATS
    from regbench.parameters import nearest

    name = given.get("format")
    if name is not None and name not in FORMATS:
        raise ConfigError(
            f"--format: unknown format '{name}'{nearest(name, list(FORMATS))}; known: {', '.join(FORMATS)}"
        )
    return name


def _parameters(texts: tuple[str, ...]) -> dict[str, Any]:
    """The parameters of --set, with values as YAML would have them."""
    import yaml

    from regbench.errors import ConfigError

    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            sign = ""
        if not sign or not name.strip():
            raise ConfigError(f"--set: '{text}' is not NAME=VALUE, such as split=test")
    return found


# -- the numbers of the Learn2Reg evaluator -------------------------------------------------------------


def _compat(folder: Path, given: Mapping[str, Any]) -> int:
    from regbench.errors import ConfigError

    for name, what in (
        ("compat", "--compat l2r"),
        ("dataset", "--dataset TASK_dataset.json"),
        ("l2r_config", "--l2r-config CONFIG.json"),
        ("out", "-o OUT.json"),
    ):
        if name not in given:
            raise ConfigError(f"the numbers of the Learn2Reg evaluator need {what}")
    _refuse_others(given, _FOR_COMPAT, "does not go with --compat l2r, which computes what the config lists")
    _check_folder(folder)
    return _write_compat(folder, Path(given["dataset"]), Path(given["l2r_config"]), Path(given["out"]))


def _write_compat(folder: Path, dataset: Path, config: Path, out: Path) -> int:
    """Writes and shows the Learn2Reg report on a folder of fields."""
    from regbench.cli.console import messages, output, say
    from regbench.cli.progress import LineListener
    from regbench.compat import evaluate_submission, write_report

    result = evaluate_submission(folder, dataset, config, LineListener(messages()))
    write_report(out, result)
    console = output()
    console.print(_compat_table(result))
    console.print()
    for sentence in _compat_notes(result):
        say(console, sentence)
    say(console, f"report      {out}")
    if not result["cases"]:
        say(messages(), f"regbench: {folder} has no usable field of any case of {config}")
        return ExitCode.NOTHING_DONE
    if result["missing"]:
        n, n_all = len(result["missing"]), len(result["missing"]) + len(result["cases"])
        say(
            messages(),
            f"{n} of {n_all} cases have no usable field; the Learn2Reg evaluator would give no number at all",
        )
        return ExitCode.FAILED
    return ExitCode.OK


def _compat_table(result: Mapping[str, Any]) -> Table:
    """The aggregates of a Learn2Reg report; a star marks numbers that a note speaks of."""
    from regbench.cli.console import table

    noted = {note["where"] for note in result["notes"]}
    columns = ("mean", "std", "30")
    made = table("measure", *columns, numbers=columns)
    for name, values in result["aggregates"].items():
        cells = [f"{values[c]:.6g}{'*' if f'aggregates.{name}.{c}' in noted else ' '}" for c in columns]
        made.add_row(name, *cells)
    return made


def _compat_notes(result: Mapping[str, Any]) -> list[str]:
    """A sentence per note; notes that several cases share are told for the first, with their number."""
    sentences: list[str] = []
    shared: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    # These were told one by one while the cases were evaluated.
    told = [f"cases.{case}" for case in result["missing"]]
    for note in result["notes"]:
        if note["where"].startswith("cases.") and note["where"] not in told:
            shared.setdefault((note["where"].rpartition(".")[2], note["what"]), []).append(note)
        elif note["where"] not in told:
            sentences.append(_note_sentence(note))
    for notes in shared.values():
        more = f" (and so in {len(notes) - 1} more)" if len(notes) > 1 else ""
        sentences.append(_note_sentence(notes[0]) + more)
    return sentences


def _note_sentence(note: Mapping[str, Any]) -> str:
    right = "" if note["ours"] is None else f" (ours: {_plain_number(note['ours'])})"
    return f"* {note['where'].removeprefix('aggregates.').removeprefix('cases.')}: {note['what']}{right}"


def _plain_number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# -- all --------------------------------------------------------------------------------------------------


def _metrics(given: Mapping[str, Any]) -> str | list[str] | None:
    """The value of --metrics as a config would have it."""
    text: str | None = given.get("metrics")
    return text if text in (None, "standard", "full") else [name.strip() for name in str(text).split(",")]


def _refuse_others(given: Mapping[str, Any], known: set[str], why: str) -> None:
    from regbench.errors import ConfigError

    for name in given:
        if name not in known:
            option = {"parameters": "set"}.get(name, name.replace("_", "-"))
            raise ConfigError(f"--{option}: {why}")


def _show(record: Any) -> int:
    from regbench.cli.run_results import exit_code, show_run

    show_run(record)
    statuses = Counter(row["status"] for row in record.rows)
    return exit_code(statuses["ok"], statuses.total() - statuses["ok"] - statuses["skipped"])
