"""Settings of methods chosen on validation pairs, every trial recorded.

A trial is a method with one choice of values. Trials are ordinary cases of an ordinary run folder, so they resume,
fail and are timed as everything else; the first trial of a method is its settings as they stand in the config. The
best trial is the one with the best mean of the objective over the pairs, among trials that finished all of them.
What comes out is a record (`tuning.json`) that a benchmark names with `tuned:`; it is refused there for pairs that
share subjects with those that it was made on.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regbench.errors import ConfigError, StoreError
from regbench.files.atomic import replaced
from regbench.metrics.table import METRICS
from regbench.parameters import nearest
from regbench.runner import RunListener, RunOutcome, run
from regbench.store import read_run
from regbench.tuned import SCHEMA

if TYPE_CHECKING:
    from regbench.config import RunConfig
    from regbench.config_entries import Entry

RECORD = "tuning.json"
# The first of these that the pairs have is what is optimised where the config names no objective.
_OBJECTIVES = ("dice", "tre_mm", "epe_mm")


@dataclass(frozen=True)
class Trial:
    """One choice of values of a method, under the label that its rows have."""

    label: str
    method: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Score:
    """What a trial reached: mean of the objective over pairs, median seconds per pair, and how many cases finished."""

    trial: Trial
    mean: float | None
    seconds: float | None
    n_ok: int
    n_cases: int

    @property
    def is_complete(self) -> bool:
        return self.mean is not None and self.n_ok == self.n_cases


@dataclass(frozen=True)
class Tuned:
    """The trials of one method, the first with the settings of the config, and the best one (None: none finished)."""

    method: str
    objective: str
    scores: Sequence[Score]
    best: Score | None


def trials_of(config: RunConfig) -> list[Trial]:
    """All trials of a config, method by method; ConfigError for a method that the config does not list."""
    if config.tune is None:
        raise ConfigError("tune: the config has no `tune`; name parameters and values, see `regbench tune --help`")
    known = {entry.label: entry for entry in config.methods}
    found: list[Trial] = []
    for label, space in config.tune.parameters.items():
        if label not in known:
            raise ConfigError(f"tune.parameters: the config has no method '{label}'; it has: {', '.join(known)}")
        found += [
            Trial(f"{label}@{index:03d}", label, values)
            for index, values in enumerate(_choices(space, config.tune.trials, config.seed))
        ]
    return found


def _choices(space: Mapping[str, Sequence[Any]], limit: int | None, seed: int) -> Iterator[dict[str, Any]]:
    """No change at all, then every combination of the values, or `limit` different ones drawn at random."""
    yield {}
    combinations = list(itertools.product(*space.values()))
    order: Sequence[int] = range(len(combinations))
    if limit is not None and limit < len(combinations):
        order = sorted(np.random.default_rng(seed).choice(len(combinations), limit, replace=False).tolist())
    for index in order:
        yield dict(zip(space, combinations[index], strict=True))


def trial_config(config: RunConfig, trials: Sequence[Trial]) -> RunConfig:
    """The config of a run of all trials."""
    entries = {entry.label: entry for entry in config.methods}
    methods = [_entry(entries[trial.method], trial) for trial in trials]
    keep = config.keep.model_copy(update={"pictures": 0})
    return config.model_copy(update={"methods": methods, "tune": None, "keep": keep})


def _entry(entry: Entry, trial: Trial) -> Entry:
    return entry.model_copy(update={"label": trial.label, "parameters": {**entry.parameters, **trial.values}})


def tune(config: RunConfig, folder: Path, listener: RunListener, **options: Any) -> tuple[RunOutcome, list[Tuned]]:
    """Runs what is missing of the trials, chooses, and writes the record into the run folder."""
    trials = trials_of(config)
    objective = config.tune.objective if config.tune else None
    if objective is not None and (objective not in METRICS or METRICS[objective].direction == "target"):
        known = [name for name, metric in METRICS.items() if metric.function and metric.direction != "target"]
        raise ConfigError(f"tune.objective: unknown metric '{objective}'{nearest(objective, known)}")
    outcome = run(trial_config(config, trials), folder, listener=listener, **options)
    if outcome.interrupted:
        return outcome, []
    record = read_run(folder)
    found = choose(trials, record.rows, objective)
    with replaced(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(_record(found, record.run, record.rows), indent=1) + "\n")
    return outcome, found


def choose(trials: Sequence[Trial], rows: Sequence[Mapping[str, Any]], objective: str | None = None) -> list[Tuned]:
    """The scores of all trials and the best one, method by method."""
    by_label: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_label.setdefault(str(row["method"]), []).append(row)
    objective = objective or _objective(rows)
    sign = 1 if METRICS[objective].direction == "higher" else -1
    found = []
    for method in dict.fromkeys(trial.method for trial in trials):
        scores = [_score(t, by_label.get(t.label, []), objective) for t in trials if t.method == method]
        complete = [score for score in scores if score.is_complete]
        # Of equal trials the first, so what stands in the config is only left for something better.
        best = max(complete, key=lambda s: sign * (s.mean or 0.0), default=None)
        found.append(Tuned(method, objective, scores, best))
    return found


def _objective(rows: Sequence[Mapping[str, Any]]) -> str:
    measured = {name for row in rows for name in row["metrics"]}
    for name in _OBJECTIVES:
        if name in measured:
            return name
    raise StoreError("tune: no trial has a Dice, a TRE or an EPE; name an `objective` that these pairs have")


def _score(trial: Trial, rows: Sequence[Mapping[str, Any]], objective: str) -> Score:
    ok = [row for row in rows if row["status"] == "ok"]
    values = [value for row in ok if (value := _value(row["metrics"].get(objective))) is not None]
    seconds = [row["timing"]["register_s"] for row in ok if row["timing"].get("register_s") is not None]
    return Score(
        trial,
        statistics.fmean(values) if values else None,
        statistics.median(seconds) if seconds else None,
        len(values),
        len(rows),
    )


def _value(value: Any) -> float | None:
    return value.get("mean") if isinstance(value, Mapping) else value


# -- the record ---------------------------------------------------------------------------------------


def _record(found: Sequence[Tuned], record: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    pairs = {(row["dataset"], row["pair"]["id"]): row for row in rows}
    return {
        "schema": SCHEMA,
        "run": record["run"],
        "pairs": [
            {
                "dataset": record["datasets"][row["dataset"]]["name"],
                "id": row["pair"]["id"],
                "subjects": [row["pair"]["fixed"], row["pair"]["moving"]],
                "fingerprint": row["fingerprint"],
            }
            for row in pairs.values()
        ],
        "methods": {tuned.method: _method_record(tuned, rows) for tuned in found},
    }


def _method_record(tuned: Tuned, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    best = tuned.best
    row = next((row for row in rows if best is not None and row["method"] == best.trial.label), None)
    return {
        "objective": tuned.objective,
        "n_trials": len(tuned.scores),
        "best": None
        if best is None
        else {"values": dict(best.trial.values), "mean": best.mean, "seconds": best.seconds},
        "method_version": None if row is None else row["method_version"],
        "trials": [
            {
                "label": score.trial.label,
                "values": dict(score.trial.values),
                "mean": score.mean,
                "seconds": score.seconds,
                "n_ok": score.n_ok,
                "n_cases": score.n_cases,
            }
            for score in tuned.scores
        ],
    }
