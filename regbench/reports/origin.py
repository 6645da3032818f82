"""Where the numbers of a run come from: methods, data, machines, seeds, leaks, and all else that was recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regbench.analysis.groups import Row, pair_of
from regbench.reports import words
from regbench.reports.page import Cell, Table

# Parts of run.json that would only fill pages; they stand in the file itself.
_LEFT_OUT = ("plan_keys", "manifest", "leaked")
_LONGEST_FACT = 300
_SHOWN_HASH = 16


@dataclass(frozen=True)
class Origin:
    """Tables of what was run on what, sentences on seeds and leaks, and everything else as (path, text)."""

    methods: Table
    datasets: Table
    machines: Table
    sentences: list[str]
    facts: Table


def origin(run: Mapping[str, Any], rows: Sequence[Row]) -> Origin:
    """Returns what a run recorded about itself; tables have no rows where nothing was recorded."""
    facts = [[Cell(path), Cell(text, "wide")] for path, text in _facts(run)]
    return Origin(
        methods=_methods(rows),
        datasets=_datasets(run, rows),
        machines=_machines(run),
        sentences=[sentence for sentence in (_made_by(run), _measured_on(rows), _seeds(run), _leaks(rows)) if sentence],
        facts=Table("record", "Run record", _text("what", "value"), facts),
    )


def _text(*headings: str) -> list[tuple[str, str]]:
    return [(heading, "text") for heading in headings]


def _methods(rows: Sequence[Row]) -> Table:
    """Returns each method with its version, parameters and threads, as they were recorded with its rows."""
    made, seen = [], set()
    for row in rows:
        method = str(row.get("method"))
        if method in seen:
            continue
        seen.add(method)
        params = row.get("params")
        settings = ", ".join(f"{k} = {v}" for k, v in params.items()) if isinstance(params, Mapping) else ""
        kind = " ".join(str(row.get(name) or "") for name in ("paradigm", "supervision")).replace("none", "").strip()
        version = str(row.get("method_version") or "version unknown")
        cells = [Cell(method), Cell(kind or "-"), Cell(version), Cell(settings or "-", "wide")]
        made.append([*cells, Cell(str(row.get("threads") or "-")), Cell(str(row.get("device") or "-"))])
    headings = _text("method", "kind", "version", "parameters", "threads", "device")
    return Table("methods", "Methods as they ran", headings, made)


def _datasets(run: Mapping[str, Any], rows: Sequence[Row]) -> Table:
    made = []
    recorded = run.get("datasets") if isinstance(run.get("datasets"), Mapping) else {}
    assert isinstance(recorded, Mapping)
    for dataset in dict.fromkeys(str(row.get("dataset")) for row in rows):
        members = [row for row in rows if str(row.get("dataset")) == dataset]
        pairs = {pair_of(row) for row in members}
        subjects = {subject for _, sides in pairs for subject in sides}
        facts = recorded.get(dataset)
        parameters = facts.get("parameters") if isinstance(facts, Mapping) else None
        settings = ", ".join(f"{k} = {v}" for k, v in parameters.items()) if isinstance(parameters, Mapping) else ""
        name = str(facts.get("name") or dataset) if isinstance(facts, Mapping) else dataset
        counts = [Cell.of(str(n), n) for n in (len(pairs), len(subjects))]
        hashes = "; ".join(_hashes(facts, members)) or "-"
        made.append([Cell(dataset), Cell(name), Cell(settings or "-"), *counts, Cell(hashes, "wide")])
    headings = _text("dataset", "kind", "parameters", "pairs", "subjects", "SHA-256 (first digits)")
    return Table("datasets", "Data", headings, made)


def _hashes(facts: Any, rows: Sequence[Row]) -> Iterator[str]:
    """Yields hashes of what a dataset was made of, and one over the content of all of its pairs."""
    manifest = facts.get("manifest") if isinstance(facts, Mapping) else None
    if isinstance(manifest, Mapping):
        for key, value in manifest.items():
            if str(key).endswith("sha256") and isinstance(value, str):
                yield f"{str(key).removesuffix('sha256').strip('_') or 'data'} {value[:_SHOWN_HASH]}"
    prints = sorted({str(row["fingerprint"]) for row in rows if row.get("fingerprint")})
    if prints:
        yield f"all pairs {hashlib.sha256(' '.join(prints).encode()).hexdigest()[:_SHOWN_HASH]}"


def _machines(run: Mapping[str, Any]) -> Table:
    made = []
    hosts = run.get("hosts") if isinstance(run.get("hosts"), Mapping) else {}
    assert isinstance(hosts, Mapping)
    for name, host in hosts.items():
        if isinstance(host, Mapping):
            values = [host.get(key) for key in ("cpu", "cores_usable", "memory_mib", "gpu", "system")]
            made.append([Cell(str(name)), *(Cell(words.MISSING if v is None else str(v)) for v in values)])
    headings = _text("machine", "CPU", "usable cores", "memory MiB", "GPU", "system")
    return Table("machines", "Machines", headings, made)


def _made_by(run: Mapping[str, Any]) -> str:
    versions, git = run.get("versions"), run.get("git")
    if not isinstance(versions, Mapping):
        return ""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    commit = str(git["commit"])[:12] if isinstance(git, Mapping) and git.get("commit") else ""
    if commit:
        assert isinstance(git, Mapping)
        commit = f"; commit {commit}{' with local changes' if git.get('dirty') else ''}"
    return f"Versions: {packages}{commit}."


def _measured_on(rows: Sequence[Row]) -> str:
    hosts = list(dict.fromkeys(str(row["host"]) for row in rows if row.get("host")))
    return f"Measured on {', '.join(hosts)}." if hosts else ""


def _seeds(run: Mapping[str, Any]) -> str:
    seeds = run.get("seeds")
    if isinstance(seeds, list) and seeds:
        return f"Seed{'' if len(seeds) == 1 else 's'}: {', '.join(map(str, seeds))}."
    return f"Seed: {run['seed']}." if run.get("seed") is not None else ""


def _leaks(rows: Sequence[Row]) -> str:
    """Returns which methods were trained on subjects of which pairs, in one sentence."""
    pairs: dict[str, set[str]] = {}
    for row in rows:
        if isinstance(row.get("leaked"), Mapping):
            pairs.setdefault(str(row.get("method")), set()).add(pair_of(row)[0])
    if not rows:
        return ""
    if not pairs:
        return "Leaks: no method was trained on subjects of these pairs, as far as the record of its training tells."
    told = ", ".join(f"{method} ({len(found)} pair{'' if len(found) == 1 else 's'})" for method, found in pairs.items())
    return (
        f"Leaks: trained on subjects of the pairs they were run on: {told}; the notes above say what that leaves out."
    )


def _facts(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields the entries of nested data as (path, text), long texts cut."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _LEFT_OUT:
                yield from _facts(item, f"{path}.{key}" if path else str(key))
        return
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for i, item in enumerate(value, 1):
            yield from _facts(item, f"{path} {i}")
        return
    text = " ".join(map(str, value)) if isinstance(value, list) else words.MISSING if value is None else str(value)
    yield path, text if len(text) <= _LONGEST_FACT else text[:_LONGEST_FACT] + " \N{HORIZONTAL ELLIPSIS}"
