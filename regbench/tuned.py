"""Settings that `regbench tune` has chosen, as a benchmark uses them: `methods: [{demons: {tuned: tuning.json}}]`.

The record holds the pairs that the settings were chosen on, so that a benchmark can refuse to test on them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regbench.errors import ConfigError

SCHEMA = 1


@dataclass(frozen=True)
class Tuning:
    """What a record says of one method: the values to use, and on what and how they were found."""

    values: Mapping[str, Any]
    n_trials: int
    objective: str
    pairs: Sequence[Mapping[str, Any]]
    source: str

    def as_json(self) -> dict[str, Any]:
        """The facts that a run records and a report tells."""
        datasets = sorted({str(pair["dataset"]) for pair in self.pairs})
        return {
            "values": dict(self.values),
            "n_trials": self.n_trials,
            "objective": self.objective,
            "n_pairs": len(self.pairs),
            "datasets": datasets,
        }


def read_tuning(path: Path, *names: str) -> Tuning:
    """What the record at `path` says of the first of these methods (labels or names) that it knows.

    Raises ConfigError if it cannot be read, or knows none.
    """
    try:
        record = json.loads(path.read_text())
        found = record["methods"]
        if record["schema"] != SCHEMA:
            raise ConfigError(f"{path}: was written by another version of regbench; tune again")
        method = next((name for name in names if name in found), None)
        if method is None:
            raise ConfigError(f"{path}: has no method '{names[0]}'; it has: {', '.join(found)}")
        if found[method]["best"] is None:
            raise ConfigError(f"{path}: no trial of '{method}' finished all pairs; there is nothing to use")
        known = found[method]
        return Tuning(known["best"]["values"], known["n_trials"], known["objective"], record["pairs"], str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); make it with `regbench tune`") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: is no record of `regbench tune`") from None


def refuse_shared_subjects(tuning: Tuning, label: str, dataset: str, pairs: Sequence[Mapping[str, Any]]) -> None:
    """ConfigError if a method would be tested on subjects that its settings were chosen on."""
    seen = {(pair["dataset"], subject) for pair in tuning.pairs for subject in pair["subjects"]}
    prints = {pair["fingerprint"] for pair in tuning.pairs}
    for pair in pairs:
        shared = [subject for subject in (pair["fixed"], pair["moving"]) if (dataset, subject) in seen]
        if shared or pair.get("fingerprint") in prints:
            raise ConfigError(
                f"methods.{label}: its settings ({tuning.source}) were chosen on subjects of this benchmark, "
                f"such as {shared[0] if shared else pair['id']}; tune on other subjects, or test on others"
            )
