"""Measured points for the ceiling of Dice, from run folders: `python scripts/ceiling_points.py RUN ... -o POINTS.json`.

A point is a data set with a label set: what its images tell of its labels before any registration, and the best mean
Dice that an image-driven method (classical, or a network that saw no labels) reached on the pairs that all methods of
the run finished. Conditions that change one image of a pair only, or draw borders elsewhere on purpose, are left out.
Data sets that other runs continue are one family, by their name: when a prediction is tried, a family is left out as a
whole. Only numbers go into the file, never images, and no names of subjects.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from regbench.analysis.ceiling import FEATURES, feature_values
from regbench.analysis.groups import Group, group_rows
from regbench.datasets.label_sets import LabelSet
from regbench.datasets.table import build_dataset
from regbench.execution import shifted_pair
from regbench.information.subject import NamedLabels, Scan, Settings, measure
from regbench.leaks import is_left_out
from regbench.store import read_run

_LEFT_OUT = ("parcel_borders",)
_MOST_PAIRS = 6


def points_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the points of a run."""
    run = read_run(folder)
    facts, rows = run.run, [row for row in run.rows if not is_left_out(row)]
    tags = {(row["dataset"], row["pair"]["id"]): row["pair"] for row in rows}
    for group in group_rows(rows):
        shift = facts["conditions"][group.condition]
        parameters = shift.get("parameters") or {}
        if shift["name"] in _LEFT_OUT or parameters.get("on", "both") != "both":
            continue
        best = _best(group)
        if best is None:
            continue
        method, dice, pairs = best
        entry = facts["datasets"][group.source]
        dataset = build_dataset(entry["name"], entry["parameters"])
        found: list[dict[str, Any]] = []
        for pair in pairs[:_MOST_PAIRS]:
            made = shifted_pair(dataset, tags[group.source, pair], (shift["name"], parameters, facts["seed"]))
            for scan in (Scan("", made.fixed, made.fixed_labels), Scan("", made.moving, made.moving_labels)):
                found += [asdict(one) for one in measure(scan, [NamedLabels("", LabelSet({}))], Settings())]
        identity = group.common_values("dice", group.identity) if group.identity else {}
        yield {
            "family": entry["name"] if entry["name"] != "csv" else group.source,
            "dataset": group.source,
            "condition": group.condition,
            "real": entry["name"] != "mni-cohort",
            "n_pairs": len(pairs),
            "best_method": method,
            "best_dice": round(dice, 4),
            "identity_dice": round(float(np.mean(list(identity.values()))), 4) if identity else None,
            "features": {name: round(value, 5) for name, value in feature_values(found).items()},
            "command": f"regbench run {facts['name']}.yaml",
            "version": rows[0].get("method_version") if rows[0]["method"] == "identity" else None,
        }


def _best(group: Group) -> tuple[str, float, list[str]] | None:
    """Returns the best image-driven method with its mean Dice and the pairs it is over."""
    means: dict[str, float] = {}
    pairs: list[str] = group.common_pairs("dice")
    for label in group.methods:
        values: Mapping[str, float] = group.common_values("dice", label.name)
        if values and label.paradigm != "none" and label.supervision != "labels":
            means[label.name] = float(np.mean(list(values.values())))
    if not means:
        return None
    best = max(sorted(means), key=lambda name: means[name])
    return best, means[best], pairs


def main() -> None:
    """Writes the points of the given runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    points = [point for folder in given.runs for point in points_of(folder)]
    document = {"schema": 1, "features": list(FEATURES), "points": points}
    given.output.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"{len(points)} points of {len({point['family'] for point in points})} families: {given.output}")


if __name__ == "__main__":
    main()
