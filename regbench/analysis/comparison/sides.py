"""What one side of a comparison holds: the values, failures and facts of its cases.

A case is a dataset, a condition, a method and a pair; labels were averaged within the pair by the metric, repeats are
averaged here. Facts say what a case was made from (content hash of its files, parameters of the condition, kind of the
shared pre-alignment) and how it was run (seeds, threads, device, machine); what was not recorded is None.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from regbench.analysis.comparison.tolerances import COST_TOLERANCES, is_quality
from regbench.analysis.groups import UNSHIFTED, Row, group_rows, pair_of, row_values, shown_dataset
from regbench.analysis.statistics import SubjectPair
from regbench.errors import ConfigError
from regbench.leaks import is_left_out
from regbench.methods.table import card
from regbench.parameters import nearest

CaseId = tuple[str, str, str, str]
# What a busy machine leaves nearly as it is, where it makes seconds longer.
CPU_SECONDS = "cpu_s"


@dataclass(frozen=True)
class Hardware:
    """The machine of a case, as far as seconds depend on it."""

    cpu: str | None
    cores: int | None
    gpu: str | None

    def __str__(self) -> str:
        cores = f", {self.cores} core{'' if self.cores == 1 else 's'}" if self.cores else ""
        return f"{self.cpu or 'unknown CPU'}{cores}{f', {self.gpu}' if self.gpu else ''}"


@dataclass(frozen=True)
class CaseFacts:
    """What a case was made from and how it was run; None for what was not recorded."""

    subjects: tuple[str, str] | None = None
    fingerprint: str | None = None
    prealign: str | None = None
    seeds: tuple[int, ...] | None = None
    threads: int | None = None
    device: str | None = None
    hardware: Hardware | None = None
    timing_mode: str | None = None
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MethodFacts:
    """What determines the results of a method: its version, parameters, and what its card says of determinism."""

    version: str | None = None
    parameters: Mapping[str, Any] | None = None
    deterministic: str | None = None


@dataclass(frozen=True)
class Side:
    """The base or the new results of a comparison.

    `values` has the quality metrics of each case that has any result, `failures` the reasons of each case that has
    cases without one, `conditions` and `manifests` the parameters of conditions and the manifests of datasets.
    """

    name: str
    values: dict[CaseId, dict[str, float]]
    versions: dict[str, int]
    failures: dict[CaseId, tuple[str, ...]] = field(default_factory=dict)
    facts: dict[CaseId, CaseFacts] = field(default_factory=dict)
    methods: dict[str, MethodFacts] = field(default_factory=dict)
    conditions: dict[str, Any] = field(default_factory=dict)
    manifests: dict[str, Any] = field(default_factory=dict)
    left_out: frozenset[CaseId] = frozenset()
    is_file: bool = False

    @property
    def cases(self) -> list[CaseId]:
        """Returns all cases, with or without a result, in the order of the rows."""
        return list(dict.fromkeys((*self.facts, *self.values, *self.failures)))

    def facts_of(self, case: CaseId) -> CaseFacts:
        return self.facts.get(case, CaseFacts())


@dataclass(frozen=True)
class Sides:
    """The two sides of a comparison."""

    base: Side
    new: Side

    def values(self, case: CaseId, metric: str) -> tuple[float, float] | None:
        """Returns the value of a metric in base and new, or None unless both have one."""
        before, after = (side.values.get(case, {}).get(metric) for side in (self.base, self.new))
        return None if before is None or after is None else (before, after)

    def subjects(self, case: CaseId) -> SubjectPair:
        """Returns the (fixed, moving) subjects of a case; a pair whose subjects are not known shares none."""
        known = self.new.facts_of(case).subjects or self.base.facts_of(case).subjects
        return known or (f"{case[3]} fixed", f"{case[3]} moving")


def side_of_rows(
    rows: Iterable[Row],
    run: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    method: str | None = None,
    shown: str | None = None,
) -> Side:
    """Returns the side that result rows make, with the record `run` (run.json) that they belong to.

    With `method` only its rows are taken, under the name `shown`, without pairs that it was trained on: between two
    methods these would say who has seen them, and not who registers better.
    """
    rows, run = list(rows), run or {}
    left_out: frozenset[CaseId] = frozenset()
    methods = _methods(rows, run)
    if method is not None:
        known = list(dict.fromkeys(str(row.get("method", "?")) for row in rows))
        if method not in known:
            have = ", ".join(known) or "no rows"
            raise ConfigError(f"{name or 'the run'} has no method '{method}'{nearest(method, known)}; it has: {have}")
        shown = shown or method
        rows = [{**row, "method": shown} for row in rows if str(row.get("method", "?")) == method]
        left_out = frozenset(case_of(row) for row in rows if is_left_out(row))
        methods = {shown: methods[method]}
    return Side(
        name=name or str(run.get("run") or "run"),
        values=_values(rows),
        versions={m: int(v) for row in rows for m, v in (row.get("metric_versions") or {}).items() if is_quality(m)},
        failures=_failures(rows),
        facts=_facts(rows, run.get("hosts") or {}),
        methods=methods,
        conditions={label: _parameters(what) for label, what in (run.get("conditions") or {}).items()},
        manifests={label: _parameters(what, "manifest") for label, what in (run.get("datasets") or {}).items()},
        left_out=left_out,
    )


def case_of(row: Row) -> CaseId:
    """Returns the case that a row is about."""
    condition, method = str(row.get("condition", UNSHIFTED)), str(row.get("method", "?"))
    return shown_dataset(row), condition, method, pair_of(row)[0]


def _values(rows: Iterable[Row]) -> dict[CaseId, dict[str, float]]:
    values: dict[CaseId, dict[str, float]] = {}
    # Whether a network saw a pair in its training does not change what it gives for it.
    for group in group_rows(rows, with_leaked=True):
        for method in group.methods:
            measured = {
                name: per[method.name] for name, per in group.values.items() if method.name in per and is_quality(name)
            }
            for pair in sorted(group.finished[method.name]):
                found = {name: per_pair[pair] for name, per_pair in measured.items() if pair in per_pair}
                values[group.dataset, group.condition, method.name, pair] = found
    return values


def _failures(rows: Iterable[Row]) -> dict[CaseId, tuple[str, ...]]:
    found: dict[CaseId, list[str]] = {}
    for row in rows:
        if row.get("status") != "ok":
            reason = f"{row.get('status')}: {row.get('reason') or 'no reason given'}"
            found.setdefault(case_of(row), []).append(reason)
    return {case: tuple(reasons) for case, reasons in found.items()}


def _facts(rows: Iterable[Row], hosts: Mapping[str, Any]) -> dict[CaseId, CaseFacts]:
    grouped: dict[CaseId, list[Row]] = {}
    for row in rows:
        grouped.setdefault(case_of(row), []).append(row)
    return {case: _case_facts(repeats, hosts) for case, repeats in grouped.items()}


def _case_facts(repeats: list[Row], hosts: Mapping[str, Any]) -> CaseFacts:
    first = repeats[0]
    seeds = [int(row["seed"]) for row in repeats if isinstance(row.get("seed"), int)]
    prealign = first.get("prealign")
    costs: dict[str, list[float]] = {}
    for row in repeats:
        for metric, value in row_values(row).items() if row.get("status") == "ok" else ():
            if metric in COST_TOLERANCES or metric == CPU_SECONDS:
                costs.setdefault(metric, []).append(value)
    hardware = {_hardware(hosts.get(str(row.get("host")))) for row in repeats}
    return CaseFacts(
        subjects=pair_of(first)[1],
        fingerprint=first.get("fingerprint"),
        prealign=str(prealign.get("kind")) if isinstance(prealign, Mapping) else None,
        seeds=tuple(sorted(seeds)) if len(seeds) == len(repeats) else None,
        threads=_same(row.get("threads") for row in repeats),
        device=_same(row.get("device") for row in repeats),
        hardware=hardware.pop() if len(hardware) == 1 else None,
        timing_mode=_same(row.get("timing_mode") for row in repeats),
        costs={metric: sum(values) / len(values) for metric, values in costs.items()},
    )


def _hardware(host: Any) -> Hardware | None:
    if not isinstance(host, Mapping) or not host.get("cpu"):
        return None
    return Hardware(host.get("cpu"), host.get("cores_usable") or host.get("cores"), host.get("gpu"))


def _same(values: Iterable[Any]) -> Any:
    """Returns the one value that all have, else None."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _methods(rows: Iterable[Row], run: Mapping[str, Any]) -> dict[str, MethodFacts]:
    entries = {str(e.get("label")): str(e.get("name")) for e in (run.get("config") or {}).get("methods") or ()}
    recorded = run.get("deterministic") or {}
    found: dict[str, MethodFacts] = {}
    for row in rows:
        label = str(row.get("method", "?"))
        if label not in found:
            told = recorded.get(label) or determinism_of(entries.get(label, label))
            found[label] = MethodFacts(row.get("method_version"), row.get("params"), told)
    return found


def determinism_of(name: str) -> str | None:
    """Returns what the card of a method of the table says; a class of the user's is not imported for it."""
    if ":" in name:
        return None
    try:
        return card(name).deterministic
    except ConfigError:
        return None


def _parameters(what: Any, key: str | None = None) -> Any:
    """Returns a part of run.json in a form that can be compared; None where it is not there."""
    found = what.get(key) if key and isinstance(what, Mapping) else what
    return None if found is None else json.loads(json.dumps(found, sort_keys=True))
