"""Rows of several runs as those of one, without taking different things for the same.

One name can mean two things in two runs: a method with other settings or another version, a data set with other pairs'
images under the same ids. Such a name gets that of its run behind it. The same case in two runs counts once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from regbench.analysis.groups import pair_of

Rows = list[dict[str, Any]]


def together(records: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> Rows:
    """Returns the rows of runs, given as (short name, rows), with names told apart where they differ."""
    if len(records) == 1:
        return [dict(row) for row in records[0][1]]
    datasets = _ambiguous(records, _dataset, _what_data)
    methods = _ambiguous(records, lambda row: str(row.get("method")), _what_method)
    kept: dict[str, dict[str, Any]] = {}
    for number, (name, rows) in enumerate(records):
        for index, row in enumerate(rows):
            named = dict(row)
            if _dataset(row) in datasets:
                named["dataset"] = f"{_dataset(row)} ({name})"
                named["dataset_before"] = _dataset(row)
            if str(row.get("method")) in methods:
                named["method"] = f"{row.get('method')} ({name})"
                named["label_before"] = row.get("method")
            kept.setdefault(str(row.get("key") or f"{number}/{index}"), named)
    return list(kept.values())


def _dataset(row: Mapping[str, Any]) -> str:
    return str(row.get("dataset"))


def _what_data(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """Returns what identifies the images of a pair: the pair and its fingerprint; None where it is not known."""
    fingerprint = row.get("fingerprint")
    return (pair_of(row)[0], f"{fingerprint} {row.get('prealign')}") if fingerprint else None


def _what_method(row: Mapping[str, Any]) -> tuple[str, str]:
    settings = json.dumps(row.get("params"), sort_keys=True, default=str)
    return "", f"{settings} {row.get('method_version')}"


def _ambiguous(records: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], name_of: Any, what: Any) -> set[str]:
    """Returns the names that mean different things in different runs."""
    seen: dict[tuple[str, str], dict[str, set[int]]] = {}
    for number, (_, rows) in enumerate(records):
        for row in rows:
            found = what(row)
            if found is not None:
                seen.setdefault((name_of(row), found[0]), {}).setdefault(found[1], set()).add(number)
    return {
        name
        for (name, _), meanings in seen.items()
        if len(meanings) > 1 and len(set.union(*meanings.values())) > 1 and not _in_each(meanings)
    }


def _in_each(meanings: Mapping[str, set[int]]) -> bool:
    """Returns whether all meanings occur in the same runs, as conditions do; then nothing tells runs apart."""
    return len({frozenset(numbers) for numbers in meanings.values()}) == 1
