"""A baseline file: the values of a run, small enough to be committed.

It is JSON, sorted and rounded, so that a change of one number is a change of one line:

    {"schema": 1, "run": "...", "metric_versions": {"dice": 1},
     "values": {dataset: {condition: {method: {pair: {metric: value}}}}},
     "conditions": {condition: {"name": ..., "parameters": {...}}},
     "inputs": {dataset: {pair: {"fixed": subject, "moving": subject, "hash": first digits of the content hash}}},
     "methods": {method: {"version": ..., "seeds": [0], "threads": 2, "device": "cpu", "prealign": ...}}}

The last three are what tells whether new results are comparable; files without them can be read. Labels are averaged
within the pair, and repeats too. Costs (time, memory) belong to a machine and are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regbench.analysis.comparison.sides import CaseFacts, CaseId, MethodFacts, Side, determinism_of, side_of_rows
from regbench.errors import StoreError
from regbench.store import read_run, write_whole

SCHEMA = 1
SIGNIFICANT_DIGITS = 6
_HASH_DIGITS = 16


def read_side(path: Path | str, *, method: str | None = None, shown: str | None = None) -> Side:
    """Returns the results of a run folder or of a baseline file. Raises StoreError for anything else."""
    path = Path(path)
    if path.is_dir():
        record = read_run(path)
        return side_of_rows(record.rows, record.run, name=str(path), method=method, shown=shown)
    try:
        content = json.loads(path.read_bytes())
        if content["schema"] != SCHEMA:
            raise StoreError(f"{path} has baseline schema {content['schema']}, this regbench reads {SCHEMA}")
        side = _side(str(path), content)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreError(f"{path} is neither a run folder nor a baseline file of regbench") from None
    if method is not None:
        raise StoreError(f"{path} is a baseline file; two methods are compared in run folders")
    return side


def write_baseline(run_folder: Path | str, path: Path | str) -> list[str]:
    """Writes the values of a run as a baseline file, and returns what its reader should know, one sentence each.

    StoreError for a run with failures, with cases that were never run, or without values: a gap in a baseline is
    something that nobody guards.
    """
    record = read_run(run_folder)
    run = side_of_rows(record.rows, record.run, name=str(record.run.get("run") or Path(run_folder).name))
    if run.failures:
        case, reasons = next(iter(run.failures.items()))
        raise StoreError(
            f"{run_folder}: {len(run.failures)} cases have no result, so it is no baseline "
            f"(first: {told(case)}: {reasons[0]})"
        )
    planned = record.run.get("plan_keys")
    if planned is not None and len(record.rows) < len(planned):
        raise StoreError(
            f"{run_folder}: {len(planned) - len(record.rows)} of {len(planned)} cases have not been run, so it is no "
            "baseline; give the same `regbench run` command again"
        )
    if not run.values:
        raise StoreError(f"{run_folder}: the run has no results to make a baseline of")
    notes = _notes(run, record.rows, Path(path))
    text = json.dumps(_content(run), indent=1, sort_keys=True, allow_nan=False)
    write_whole(Path(path), (text + "\n").encode())
    return notes


def told(case: CaseId) -> str:
    """Returns a case in words."""
    dataset, condition, method, pair = case
    return f"{dataset}/{condition}, pair {pair}, {method}"


def rounded(value: float) -> float:
    """Returns a value as baselines hold it."""
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


def rounding_slack(base: float) -> float:
    """Returns what rounding may make a difference of: a value exactly on the tolerance is within it."""
    return 10.0 ** (1 - SIGNIFICANT_DIGITS) * abs(base)


def _notes(run: Side, rows: list[dict[str, Any]], path: Path) -> list[str]:
    notes = []
    leaked = {str(row.get("method")) for row in rows if row.get("leaked")}
    if leaked:
        notes.append(
            f"{', '.join(sorted(leaked))}: trained on subjects of some of these pairs, whose values therefore tell "
            "changes and not quality"
        )
    try:
        before = read_side(path) if path.exists() else None
    except StoreError:
        before = None
    lost = [] if before is None else [case for case in before.values if case not in run.values]
    if before is not None and lost:
        notes.append(f"{len(lost)} of {len(before.values)} cases of the old file are no longer in it ({told(lost[0])})")
    return notes


def _content(run: Side) -> dict[str, Any]:
    values: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    methods: dict[str, Any] = {}
    for case, measured in run.values.items():
        dataset, condition, method, pair = case
        kept = {name: rounded(value) for name, value in measured.items()}
        values.setdefault(dataset, {}).setdefault(condition, {}).setdefault(method, {})[pair] = kept
        facts = run.facts_of(case)
        if facts.fingerprint and facts.subjects:
            fixed, moving = facts.subjects
            one = {"fixed": fixed, "moving": moving, "hash": facts.fingerprint[:_HASH_DIGITS]}
            inputs.setdefault(dataset, {})[pair] = one
        methods[method] = {
            "version": run.methods[method].version,
            "seeds": None if facts.seeds is None else list(facts.seeds),
            "threads": facts.threads,
            "device": facts.device,
            "prealign": facts.prealign,
        }
    optional = {"conditions": run.conditions, "inputs": inputs, "methods": methods}
    return {
        "schema": SCHEMA,
        "run": run.name,
        "metric_versions": run.versions,
        "values": values,
        **{key: value for key, value in optional.items() if value},
    }


def _side(name: str, content: Mapping[str, Any]) -> Side:
    values = {
        (dataset, condition, method, pair): dict(metrics)
        for dataset, conditions in content["values"].items()
        for condition, methods in conditions.items()
        for method, pairs in methods.items()
        for pair, metrics in pairs.items()
    }
    methods = content.get("methods") or {}
    return Side(
        name=name,
        values=values,
        versions=dict(content["metric_versions"]),
        facts={case: _facts(case, content, methods.get(case[2]) or {}) for case in values},
        methods={
            label: MethodFacts((methods.get(label) or {}).get("version"), None, determinism_of(label))
            for label in dict.fromkeys(case[2] for case in values)
        },
        conditions=dict(content.get("conditions") or {}),
        is_file=True,
    )


def _facts(case: CaseId, content: Mapping[str, Any], method: Mapping[str, Any]) -> CaseFacts:
    inputs = ((content.get("inputs") or {}).get(case[0]) or {}).get(case[3]) or {}
    seeds = method.get("seeds")
    return CaseFacts(
        subjects=(str(inputs["fixed"]), str(inputs["moving"])) if inputs else None,
        fingerprint=inputs.get("hash"),
        prealign=method.get("prealign"),
        seeds=None if seeds is None else tuple(seeds),
        threads=method.get("threads"),
        device=method.get("device"),
    )
