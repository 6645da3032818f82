"""The official report of a submission, with notes where its numbers mislead.

The report has the keys of the official file in its order (`name`, `aggregates`, `cases`, `eval_version`), so that
both diff cleanly, and two more at its end: `notes`, a list of {where, what, official, ours}, and `missing`, the
cases without a usable field. Like the official file it may hold NaN and Infinity, which strict JSON does not know.

Where a case is missing the official evaluator writes nothing at all; here the aggregates are over the cases that
there are, and say over how many (`cases`).

LUMIR: aggregates and version are those of its evaluator of 2025, for the one config that is given; the mask of
`ndv` is fixed image > 0 as there (the evaluator of 2024 took the moving image).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from regbench.compat.config import Measure, Task, read_task
from regbench.compat.scores import FOLDS, CaseScore, Note, nan_mean, score_case
from regbench.errors import ConfigError, DatasetError, InvalidDisplacement
from regbench.files.atomic import replaced


class Listener(Protocol):
    """Who is told how the evaluation goes on."""

    def message(self, text: str) -> None: ...


def evaluate_submission(
    fields: Path, dataset_json: Path, config_json: Path, listener: Listener | None = None, threads: int = 1
) -> dict[str, Any]:
    """The official report on a folder of displacement fields, see the module.

    Raises ConfigError if the folder, the dataset JSON or the config cannot be used. A case whose files are missing or
    damaged is listed in `missing`, with the reason in `notes`.
    """
    task = read_task(Path(dataset_json), Path(config_json))
    if not Path(fields).is_dir():
        raise ConfigError(f"{fields}: is not a folder; give the folder that holds the displacement fields")
    scores: dict[str, CaseScore] = {}
    missing: list[Note] = []
    for number, pair in enumerate(task.pairs, start=1):
        try:
            scores[pair.name] = score_case(task, pair, Path(fields), threads)
            news = _summary(task, scores[pair.name])
        except (DatasetError, InvalidDisplacement) as error:
            missing.append(Note(f"cases.{pair.name}", f"not evaluated: {error}", None, None))
            news = f"not evaluated: {error}"
        if listener is not None:
            listener.message(f"[{number}/{len(task.pairs)}] {pair.name}  {news}")
    aggregates = _aggregates(task, scores)
    notes = [*missing, *(note for score in scores.values() for note in score.notes), *_task_notes(task)]
    notes += _aggregate_notes(task, scores, aggregates)
    if missing:
        for aggregate in aggregates.values():
            aggregate["cases"] = len(scores)
    return {
        "name": task.name,
        "aggregates": aggregates,
        "cases": {name: score.values for name, score in scores.items()},
        "eval_version": "3.0" if task.is_lumir else "2.0",
        "notes": [note.as_json() for note in notes],
        "missing": [note.where.removeprefix("cases.") for note in missing],
    }


def write_report(path: Path, result: Mapping[str, Any]) -> None:
    """Write a report as the official evaluator does: four spaces, NaN and Infinity as they are, no last newline."""
    with replaced(Path(path)) as temporary:
        temporary.write_text(json.dumps(result, indent=4), encoding="utf-8")


def _summary(task: Task, score: CaseScore) -> str:
    return "  ".join(f"{measure.name} {score.values[measure.name]['mean']:.4g}" for measure in task.measures)


def _aggregates(task: Task, scores: Mapping[str, CaseScore]) -> dict[str, dict[str, float]]:
    """Mean, standard deviation and the official "30" of the means of the cases, by measure in the official order."""
    names = [measure.name for measure in task.measures]
    if task.is_lumir:
        has_folds = any(measure.metric == "sdlogj" for measure in task.measures)
        names = sorted([*names, FOLDS] if has_folds else names)
    found = {}
    for name in names:
        means = _means(scores, name)
        found[name] = {"mean": _mean(means), "std": _spread(means), "30": _quantile(means, _official_share(task, name))}
    return found


def _means(scores: Mapping[str, CaseScore], name: str) -> np.ndarray:
    return np.array([score.values[name]["mean"] for score in scores.values()], dtype=np.float64)


def _mean(means: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        return float(means.mean()) if means.size else float("nan")


def _spread(means: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        return float(means.std()) if means.size else float("nan")


def _quantile(means: np.ndarray, share: float) -> float:
    with np.errstate(invalid="ignore"):
        return float(np.quantile(means, share)) if means.size else float("nan")


def _official_share(task: Task, name: str) -> float:
    """The quantile that the official evaluator calls "30"."""
    if task.is_lumir:
        return 0.7 if name == "TRE_lm" else 0.3
    metric = next(measure.metric for measure in task.measures if measure.name == name)
    return 0.7 if metric in ("sdlogj", "tre") else 0.3


def _task_notes(task: Task) -> list[Note]:
    what = "labels stand as text in the config, where the official evaluator finds none of them; read as numbers"
    return [
        Note(f"evaluation_methods.{measure.name}.labels", what, None, list(measure.labels))
        for measure in task.measures
        if measure.labels_as_text
    ]


def _aggregate_notes(
    task: Task, scores: Mapping[str, CaseScore], aggregates: Mapping[str, Mapping[str, float]]
) -> list[Note]:
    notes = []
    for measure in task.measures if scores else ():
        means, official = _means(scores, measure.name), aggregates[measure.name]
        where = f"aggregates.{measure.name}"
        if measure.metric != "dice" and _official_share(task, measure.name) == 0.3:
            what = "the quantile of the best 30 % of the cases; the worst 30 % begin at the other one"
            notes.append(Note(f"{where}.30", what, official["30"], _quantile(means, 0.7)))
        if not np.isfinite(official["mean"]) and np.isfinite(means).any():
            count = int(np.isfinite(means).sum())
            what = f"{len(means) - count} of {len(means)} cases are NaN or infinite; the rest has a mean"
            notes.append(Note(f"{where}.mean", what, official["mean"], float(means[np.isfinite(means)].mean())))
        what = _flaw(measure)
        if what:
            right = nan_mean([score.right_means[measure.name] for score in scores.values()])
            notes.append(Note(f"{where}.mean", what, official["mean"], right))
    return notes


def _flaw(measure: Measure) -> str:
    """What makes the mean of a measure another number than its name says, empty if nothing does."""
    if measure.metric == "sdlogj":
        return (
            "3 is added to the Jacobian determinant before the logarithm, which hides folds and gives about a quarter "
            "of the standard deviation of J; ours is that of log J where J > 0"
        )
    if measure.metric in ("dice", "hd95") and 0 in measure.labels:
        return "the background is listed as a label and counts; ours leaves it out"
    return ""
