"""Several run folders made one: a benchmark that was run in parts, on several machines or at several times.

Rows are told apart by their key, a hash of everything that decides a result; of a key that several runs have, the
newest row counts. What would not be one table is refused in words: a label that means two things (other images, other
parameters, another version of a method or of a condition), labels moved in two ways, metrics of two versions.

Rows keep the id of the run that they come from. Kept fields and pictures come along (linked where the file system can,
so that they take no space twice), logs under the name of their run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regbench.errors import ConfigError, StoreError
from regbench.store import LOGS, PICTURES, RunRecord, RunStore, file_name, newest_per_key, read_lines, read_run

Row = dict[str, Any]

# Parameters of datasets that say which pairs there are, not what they are.
_SELECTION = {"path", "pairs", "split", "seed", "limit", "held_out"}
_NAMED = 3
_ADVICE = "run one of them again, or under another label, or compare them with `regbench compare`"


class RunsConflict(StoreError):
    """Runs that cannot be one table."""


@dataclass(frozen=True)
class Merged:
    """What was merged: the number of rows, of runs, and sentences on what a reader of the table should know."""

    n_rows: int
    n_runs: int
    notes: tuple[str, ...]


def merge_runs(folders: Sequence[Path], out: Path, argv: Sequence[str] = ()) -> Merged:
    """Merges run folders into `out`, which is new or an earlier merge.

    Raises StoreError for a folder that is no run or cannot be written, RunsConflict, naming both runs, for runs that
    cannot be one table; nothing is written then.
    """
    records = _records(folders, out)
    rows, n_replaced = _newest(records)
    _check_labels(records)
    _check_rows(records)
    notes = _notes(records, n_replaced)
    earlier = RunStore(out, None).run_json()
    if earlier is not None and "merged" not in earlier:
        raise StoreError(f"{out} holds a run that is no merge; choose another folder with -o")
    with RunStore.open(out, fresh=earlier is not None) as store:
        for row in rows:
            store.append(row)
        for record in _prealignments(records):
            store.append_prealignment(record)
        _bring_files(records, rows, store)
        store.write_run_json(_run_json(records, rows, out, argv, notes))
    return Merged(len(rows), len(records), tuple(notes))


def _records(folders: Sequence[Path], out: Path) -> list[RunRecord]:
    places = list(dict.fromkeys(folder.resolve() for folder in folders))
    if len(places) < len(folders):
        raise StoreError("the same run folder is given twice; give each once")
    if len(places) < 2:
        raise StoreError("one run folder is no merge; give two or more")
    if out.resolve() in places:
        raise StoreError(f"{out} is one of the runs to merge; choose another folder with -o")
    records = [read_run(folder) for folder in folders]
    if not any(record.rows for record in records):
        raise StoreError("none of the runs has results yet; run them first")
    return records


def _newest(records: Sequence[RunRecord]) -> tuple[list[Row], int]:
    """The newest row of each key, in the order in which keys first appear, and how many rows gave way."""
    found: dict[str, Row] = {}
    n_replaced = 0
    for record in records:
        for row in record.rows:
            key = str(row["key"])
            if key in found:
                n_replaced += 1
            if key not in found or str(row["started"]) >= str(found[key]["started"]):
                found[key] = row
    return list(found.values()), n_replaced


# -- what cannot be merged --------------------------------------------------------------------------------


def _check_labels(records: Sequence[RunRecord]) -> None:
    """RunsConflict if a label of datasets or conditions, or a setting of all rows, differs between runs."""

    def datasets(run: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
        for label, entry in run.get("datasets", {}).items():
            yield f"dataset '{label}'", {"name": entry["name"], **_what_it_is(entry)}

    def conditions(run: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
        for label, entry in run.get("conditions", {}).items():
            if entry["name"] != "none":
                yield f"condition '{label}'", {**entry, "drawn with seed": run.get("seed")}

    def settings(run: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
        for name, version in run.get("metric_versions", {}).items():
            yield f"metric {name}", {"version": version}
        yield "the policy on leaks", {"leaks": (run.get("config") or {}).get("leaks")}

    for parts in (datasets, conditions, settings):
        _refuse_differences([(record, label, what) for record in records for label, what in parts(record.run)])


def _what_it_is(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of a dataset but those that choose pairs; those that were not given have their defaults."""
    from regbench.datasets.folder_dataset import FolderDataset
    from regbench.datasets.table import dataset_class
    from regbench.parameters import as_plain, check_parameters

    selection = _SELECTION
    try:
        kind = dataset_class(dataset["name"])
        parameters = as_plain(check_parameters(kind, dataset["parameters"], ""))
        if not issubclass(kind, FolderDataset):
            # Where images are made and not read, the seed makes them.
            selection = _SELECTION - {"seed"}
    except ConfigError:
        # Of another version of regbench, or of a package that is not installed here.
        parameters = dict(dataset["parameters"])
    return {name: value for name, value in parameters.items() if name not in selection}


def _refuse_differences(found: Iterable[tuple[RunRecord, str, Mapping[str, Any]]]) -> None:
    first: dict[str, tuple[RunRecord, Mapping[str, Any]]] = {}
    for record, label, what in found:
        other, before = first.setdefault(label, (record, what))
        if before != what:
            raise RunsConflict(
                f"{other.folder} and {record.folder}: {label} is not the same in both "
                f"({_difference(before, what)}); {_ADVICE}"
            )


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What differs between two mappings, in words."""
    names = [name for name in dict.fromkeys((*one, *other)) if one.get(name) != other.get(name)]
    shown = [f"{name}: {_short(one.get(name))} against {_short(other.get(name))}" for name in names[:_NAMED]]
    return "; ".join(shown + ([f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []))


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _check_rows(records: Sequence[RunRecord]) -> None:
    """RunsConflict if rows of one label were made of other images, or by a method that is not the same."""

    def pairs(row: Row) -> tuple[str, Any]:
        label = f"pair '{row['pair']['id']}' of dataset '{row['dataset']}'"
        return label, {"content of its files": row.get("fingerprint")}

    def methods(row: Row) -> tuple[str, Any]:
        parameters = {k: v for k, v in row["params"].items() if k != "seed"}
        facts = {"version": row["method_version"], "label warp": row.get("label_warp"), **parameters}
        return f"method '{row['method']}'", facts

    def prealignments(row: Row) -> tuple[str, Any]:
        return "the shared pre-alignment", {"prealign": (row.get("prealign") or {}).get("kind")}

    for told in (pairs, methods, prealignments):
        # Rows that never ran (a file missing, a package missing) tell nothing of what they would have been made of.
        ran = ((record, row) for record in records for row in record.rows if row["status"] == "ok")
        _refuse_differences((record, *told(row)) for record, row in ran)
    _refuse_places(records)


def _refuse_places(records: Sequence[RunRecord]) -> None:
    """RunsConflict for two results of one cell of the table that differ in something not named so far."""
    held: dict[tuple[Any, ...], tuple[RunRecord, Row]] = {}
    for record in records:
        for row in record.rows:
            place = (row["dataset"], row["condition"], row["pair"]["id"], row["method"], row["repeat"])
            other, before = held.setdefault(place, (record, row))
            if before["key"] == row["key"] or "ok" not in (before["status"], row["status"]):
                continue
            what = _difference(*({k: r.get(k) for k in ("status", "seed", "fingerprint")} for r in (before, row)))
            raise RunsConflict(
                f"{other.folder} and {record.folder}: both have {row['method']} on {row['pair']['id']} of "
                f"{row['dataset']} (condition {row['condition']}, repeat {row['repeat']}), and not the same "
                f"({what or 'other weights or versions'}); {_ADVICE}"
            )


# -- what is told -----------------------------------------------------------------------------------------


def _notes(records: Sequence[RunRecord], n_replaced: int) -> list[str]:
    notes = []
    if n_replaced:
        many = "one result is" if n_replaced == 1 else f"{n_replaced} results are"
        notes.append(f"{many} in more than one run; the newest counts")
    rows = [row for record in records for row in record.rows]
    for what, name in (("host", "machines"), ("threads", "numbers of threads"), ("timing_mode", "ways of timing")):
        values = sorted({str(row.get(what)) for row in rows})
        if len(values) > 1:
            notes.append(f"results come from several {name} ({', '.join(values)}): do not compare their times")
    for label in dict.fromkeys(row["dataset"] for row in rows):
        pairs = {
            method: frozenset(row["pair"]["id"] for row in rows if (row["dataset"], row["method"]) == (label, method))
            for method in dict.fromkeys(row["method"] for row in rows if row["dataset"] == label)
        }
        if len(set(pairs.values())) > 1:
            notes.append(f"{label}: not all methods have the same pairs; tables are about those that all have")
    versions = {str(record.run.get("versions", {}).get("regbench")) for record in records}
    if len(versions) > 1:
        notes.append(f"the runs were made by several versions of regbench ({', '.join(sorted(versions))})")
    return notes


# -- what is written --------------------------------------------------------------------------------------


def _prealignments(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    lines = (line for record in records for line in read_lines(record.folder / "prealign.jsonl"))
    return list(newest_per_key(lines).values())


def _bring_files(records: Sequence[RunRecord], rows: Sequence[Row], store: RunStore) -> None:
    """Links the kept fields and pictures of rows that stay, and the logs of all runs."""
    of_run = {id(row): record for record in records for row in record.rows}
    for row in rows:
        source = of_run[id(row)].folder
        pictures = f"{file_name(row['dataset'], row['condition'], row['pair']['id'], row['method'])}.npz"
        for place in (row.get("field"), row.get("inverse_field"), f"{PICTURES}/{pictures}"):
            if place and (source / place).is_file():
                _bring(source / place, store.subfolder(str(place).partition("/")[0]) / Path(place).name)
    for record in records:
        for log in sorted((record.folder / LOGS).glob("*.log")):
            _bring(log, store.subfolder(LOGS) / f"{file_name(str(record.run['run']))}__{log.name}")


def _bring(source: Path, target: Path) -> None:
    """Links a file, or copies it where that is impossible; StoreError if neither works."""
    try:
        target.unlink(missing_ok=True)
        try:
            # Of a link, the file that it means; what is written later replaces files as a whole.
            os.link(source.resolve(), target)
        except OSError:
            shutil.copyfile(source, target)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror or error}") from None


def _run_json(
    records: Sequence[RunRecord], rows: Sequence[Row], out: Path, argv: Sequence[str], notes: Sequence[str]
) -> dict[str, Any]:
    """The record of the merge: that of the first run, with the labels, hosts, marks and pairs of all of them."""
    runs = [record.run for record in records]
    ids = [str(run["run"]) for run in runs]
    digest = hashlib.sha256(" ".join(ids).encode()).hexdigest()[:8]
    config = {**(runs[0].get("config") or {}), "name": out.name}
    for part in ("datasets", "methods", "conditions"):
        entries = [entry for run in runs for entry in (run.get("config") or {}).get(part) or []]
        config[part] = list({_label(entry): entry for entry in reversed(entries)}.values())[::-1]
    first = {name: value for name, value in runs[0].items() if name not in ("schema", "fields", "merged")}
    return {
        **first,
        "run": f"{out.name}-merged-{digest}",
        "name": out.name,
        "config": config,
        "merged": [_told_of(record) for record in records],
        "merge_notes": list(notes),
        "versions": _united(runs, "versions"),
        "hosts": _united(runs, "hosts"),
        "interpreters": _united(runs, "interpreters"),
        "tuning": _united(runs, "tuning"),
        "conditions": _united(runs, "conditions"),
        "metric_versions": _united(runs, "metric_versions"),
        "leaked": _united(runs, "leaked"),
        "seeds": sorted({seed for run in runs for seed in run.get("seeds", [])}),
        "datasets": _datasets(runs, rows),
        "plan_keys": [row["key"] for row in rows],
        "sessions": [session for run in runs for session in run.get("sessions", [])],
        "argv": list(argv),
    }


def _label(entry: Any) -> str:
    return str(entry.get("label") or entry.get("name")) if isinstance(entry, Mapping) else str(entry)


def _told_of(record: RunRecord) -> dict[str, Any]:
    run = record.run
    kept = (
        "run",
        "name",
        "versions",
        "git",
        "hosts",
        "threads",
        "thread_settings",
        "argv",
        "config",
        "fields",
        "merged",
    )
    return {
        "folder": record.folder.name,
        "rows": len(record.rows),
        **{name: run[name] for name in kept if name in run},
    }


def _united(runs: Sequence[Mapping[str, Any]], part: str) -> dict[str, Any]:
    """What the runs say under a name, together; where they differ, what a run says that knows it, the first of them."""
    found: dict[str, Any] = {}
    for run in runs:
        for name, value in (run.get(part) or {}).items():
            if found.get(name) is None:
                found[name] = value
    return found


def _datasets(runs: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> dict[str, Any]:
    """The datasets of all runs, with the numbers and subjects of all pairs in their manifests."""
    found = _united(runs, "datasets")
    merged = {}
    for label, entry in found.items():
        pairs = {row["pair"]["id"]: row["pair"] for row in rows if row["dataset"] == label}
        subjects = list(dict.fromkeys(str(pair[side]) for pair in pairs.values() for side in ("fixed", "moving")))
        manifest = entry.get("manifest")
        if isinstance(manifest, Mapping):
            merged[label] = {**entry, "manifest": {**manifest, "n_pairs": len(pairs), "subjects": subjects}}
        else:
            merged[label] = entry
    return merged
