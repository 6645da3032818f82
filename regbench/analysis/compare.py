"""A run against a committed baseline: every value of every pair within the tolerance of its metric.

A baseline is a small JSON file, sorted and rounded so that a change of one number is a change of one line:

    {"schema": 1, "run": "...", "metric_versions": {"dice": 1},
     "values": {dataset: {condition: {method: {pair: {metric: value}}}}}}

Labels are averaged within the pair and repeats too. Costs (time, memory) belong to a machine and are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from regbench.analysis.groups import UNSHIFTED, Row, group_rows, pair_of, shown_dataset
from regbench.errors import ConfigError, StoreError
from regbench.metrics.table import METRICS
from regbench.parameters import nearest
from regbench.store import read_run, write_whole

SCHEMA = 1
SIGNIFICANT_DIGITS = 6
# Exit codes of the command line, as in its contract.
ALL_GOOD, REGRESSION, NOT_COMPARABLE, NOTHING_COMPARED = 0, 1, 4, 5

Outcome = Literal["regression", "improvement", "same", "not comparable", "new"]
CaseId = tuple[str, str, str, str]


@dataclass(frozen=True)
class Baseline:
    """Values to compare with: per case (dataset, condition, method, pair) per metric, and why cases have none."""

    name: str
    values: dict[CaseId, dict[str, float]]
    versions: dict[str, int]
    failures: dict[CaseId, str]


@dataclass(frozen=True)
class Finding:
    """One compared value, or one case that could not be compared; `text` is for people."""

    outcome: Outcome
    case: CaseId
    metric: str | None
    base: float | None
    new: float | None
    text: str


@dataclass(frozen=True)
class Comparison:
    """All findings of a comparison, with the exit code that they amount to."""

    base: str
    new: str
    findings: tuple[Finding, ...]
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        if self.counts["regression"]:
            return REGRESSION
        if self.counts["not comparable"]:
            return NOT_COMPARABLE
        return ALL_GOOD if self.counts["same"] + self.counts["improvement"] else NOTHING_COMPARED

    @property
    def lines(self) -> list[str]:
        """Returns what differs, regressions first, and a closing line with the counts."""
        order: tuple[Outcome, ...] = ("regression", "not comparable", "improvement", "new")
        told = [f"{f.outcome}: {f.text}" for outcome in order for f in self.findings if f.outcome == outcome]
        if self.exit_code == NOTHING_COMPARED:
            return [*told, f"nothing was compared: {self.base} and {self.new} have no case with a value in common"]
        n_values = sum(self.counts[outcome] for outcome in ("regression", "improvement", "same"))
        return [
            *told,
            f"{n_values} values compared with {self.base}: {self.counts['same']} within tolerance, "
            f"{self.counts['improvement']} better, {self.counts['regression']} worse or missing",
        ]

    @property
    def json(self) -> dict[str, Any]:
        """Returns the comparison as strict JSON data."""
        told = [f for f in self.findings if f.outcome != "same"]
        return {
            "schema": SCHEMA,
            "base": self.base,
            "new": self.new,
            "exit_code": self.exit_code,
            "counts": dict(self.counts),
            "findings": [
                {**dict(zip(("dataset", "condition", "method", "pair"), f.case, strict=True)), "outcome": f.outcome}
                | {"metric": f.metric, "base": f.base, "new": f.new, "text": f.text}
                for f in told
            ],
        }


def write_baseline(run_folder: Path | str, path: Path | str) -> None:
    """Writes the values of a run as a baseline file. StoreError for a run with failures or without values."""
    run = read_baseline(run_folder)
    if run.failures:
        case, reason = next(iter(run.failures.items()))
        raise StoreError(
            f"{run_folder}: {len(run.failures)} cases have no result, so it is no baseline "
            f"(first: {_told(case)}: {reason})"
        )
    if not run.values:
        raise StoreError(f"{run_folder}: the run has no results to make a baseline of")
    tree: dict[str, Any] = {}
    for (dataset, condition, method, pair), values in run.values.items():
        kept = {name: _rounded(value) for name, value in values.items()}
        tree.setdefault(dataset, {}).setdefault(condition, {}).setdefault(method, {})[pair] = kept
    content = {"schema": SCHEMA, "run": run.name, "metric_versions": run.versions, "values": tree}
    write_whole(Path(path), (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def compare_golden(base: Path | str, new: Path | str, tolerances: Mapping[str, float] | None = None) -> Comparison:
    """Returns how a new run differs from a baseline file or run, beyond the tolerances of the metric table.

    `tolerances` replaces those of single metrics, in their units. A case that has no result any more is a
    regression; a change for the better is an improvement; a metric whose definition changed cannot be compared.
    """
    tolerances = dict(tolerances or {})
    for name, tolerance in tolerances.items():
        if name not in METRICS:
            raise ConfigError(
                f"tolerance of '{name}': no such metric{nearest(name, list(METRICS))}; known: {', '.join(METRICS)}"
            )
        if not tolerance >= 0:
            raise ConfigError(f"tolerance of '{name}' is {tolerance}; give zero or a positive number")
    before, after = read_baseline(base), read_baseline(new)
    findings = [*_compare_cases(before, after, tolerances)]
    counts = dict.fromkeys(("regression", "improvement", "same", "not comparable", "new"), 0)
    for finding in findings:
        counts[finding.outcome] += 1
    return Comparison(str(base), str(new), tuple(findings), counts)


def read_baseline(path: Path | str) -> Baseline:
    """Returns the values of a baseline file or of a run folder. Raises StoreError for anything else."""
    path = Path(path)
    if path.is_dir():
        record = read_run(path)
        return _from_rows(str(record.run.get("run") or path.name), record.rows)
    try:
        content = json.loads(path.read_bytes())
        if content["schema"] != SCHEMA:
            raise StoreError(f"{path} has baseline schema {content['schema']}, this regbench reads {SCHEMA}")
        values = {
            (dataset, condition, method, pair): dict(metrics)
            for dataset, conditions in content["values"].items()
            for condition, methods in conditions.items()
            for method, pairs in methods.items()
            for pair, metrics in pairs.items()
        }
        return Baseline(str(content["run"]), values, dict(content["metric_versions"]), {})
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreError(f"{path} is neither a run folder nor a baseline file of regbench") from None


def _from_rows(name: str, rows: Iterable[Row]) -> Baseline:
    rows = list(rows)
    values: dict[CaseId, dict[str, float]] = {}
    # Whether a network saw a pair in its training does not change what it gives for it.
    for group in group_rows(rows, with_leaked=True):
        for method in group.methods:
            measured = {
                name: per[method.name] for name, per in group.values.items() if method.name in per and _kept(name)
            }
            for pair in sorted(group.finished[method.name]):
                found = {name: per_pair[pair] for name, per_pair in measured.items() if pair in per_pair}
                values[group.dataset, group.condition, method.name, pair] = found
    failures = {
        _case(row): f"{row.get('status')}: {row.get('reason') or 'no reason given'}"
        for row in rows
        if row.get("status") != "ok"
    }
    versions = {m: int(v) for row in rows for m, v in (row.get("metric_versions") or {}).items() if _kept(m)}
    return Baseline(name, values, versions, failures)


def _compare_cases(before: Baseline, after: Baseline, tolerances: Mapping[str, float]) -> Iterator[Finding]:
    for case, values in before.values.items():
        reason = after.failures.get(case)
        if reason and case not in before.failures:
            yield Finding("regression", case, None, None, None, f"{_told(case)}: {reason}")
        elif case not in after.values:
            yield Finding("regression", case, None, None, None, f"{_told(case)}: the case is missing")
        for metric, value in values.items() if case in after.values else ():
            if before.versions.get(metric, 1) != after.versions.get(metric, 1):
                continue
            yield _compare_value(case, metric, value, after.values[case].get(metric), tolerances)
    for case in after.values.keys() - before.values.keys():
        yield Finding("new", case, None, None, None, f"{_told(case)}: not in the baseline")
    for metric in sorted({metric for values in before.values.values() for metric in values}):
        was, now = before.versions.get(metric, 1), after.versions.get(metric, 1)
        if was != now:
            text = f"{metric}: its definition changed from version {was} to {now}; write a new baseline"
            yield Finding("not comparable", ("", "", "", ""), metric, None, None, text)


def _compare_value(
    case: CaseId, metric: str, base: float, new: float | None, tolerances: Mapping[str, float]
) -> Finding:
    if new is None:
        text = f"{_told(case)}: {metric} was {base:g} and has no value now"
        return Finding("regression", case, metric, base, None, text)
    facts = METRICS[metric]
    tolerance = tolerances.get(metric, facts.tolerance)
    worse = {
        "higher": base - new,
        "lower": new - base,
        "target": abs(new - (facts.target or 0.0)) - abs(base - (facts.target or 0.0)),
    }[facts.direction]
    # Baselines are rounded; a value exactly on the tolerance is within it.
    slack = tolerance + 10.0 ** (1 - SIGNIFICANT_DIGITS) * abs(base)
    outcome: Outcome = "regression" if worse > slack else "improvement" if worse < -slack else "same"
    unit = "" if facts.unit == "1" else f" {facts.unit}"
    text = f"{_told(case)}: {metric} {base:.6g} -> {new:.6g}{unit} (tolerance {tolerance:g})"
    return Finding(outcome, case, metric, base, new, text)


def _kept(metric: str) -> bool:
    return metric in METRICS and METRICS[metric].function is not None


def _case(row: Row) -> CaseId:
    return (
        shown_dataset(row),
        str(row.get("condition", UNSHIFTED)),
        str(row.get("method", "?")),
        pair_of(row)[0],
    )


def _told(case: CaseId) -> str:
    dataset, condition, method, pair = case
    return f"{dataset}/{condition}, pair {pair}, {method}"


def _rounded(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")
