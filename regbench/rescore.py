"""The metrics of a run computed again from the displacement fields that it kept.

Times, memory and everything else that only a run can measure stay as they are. Fields are kept in half
precision by default, so that metrics may differ from the first ones in their last digits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regbench.alignment import Alignment, LabelWarp
from regbench.errors import DatasetError, StoreError
from regbench.execution import Result, score, shifted_pair
from regbench.pair import Pair
from regbench.plan import Case, Plan
from regbench.store import RunStore, read_run

if TYPE_CHECKING:
    from regbench.datasets.protocol import Dataset
    from regbench.runner import RunListener


def evaluate_run(
    folder: Path | str,
    listener: RunListener | None = None,
    metrics: str | list[str] | None = None,
    label_warp: LabelWarp | None = None,
) -> int:
    """Scores the kept fields of a run again and replaces its rows as a whole; the number of rows scored.

    `metrics` and `label_warp` as in a config; by default what the run was asked for. Rows without a field stay as
    they are, the old file stays beside the new one. Raises StoreError where no field was kept or a field cannot be
    read, and DatasetError where the images are gone or are others than those that were registered.
    """
    record = read_run(folder)
    rows = {row["key"]: row for row in record.rows if row.get("field")}
    if not rows:
        raise StoreError(
            f"{folder} keeps no displacement fields; run with `keep: {{fields: true}}` to score them again later"
        )
    names = _metric_names(record.run, metrics)
    cases = [case_of_row(row, record.run, names, label_warp) for row in rows.values()]
    if listener is not None:
        listener.plan_ready(Plan(tuple(cases)), 0)
    with RunStore.open(folder) as store:
        scorer = _Scorer(Path(folder), record.run["conditions"])
        for case in cases:
            if listener is not None:
                listener.case_started(case)
            rows[case.key] = scorer.rescored(case, rows[case.key])
            if listener is not None:
                listener.case_finished(case, rows[case.key])
        store.replace_rows([rows.get(row["key"], row) for row in store.rows()])
    return len(cases)


Row = Mapping[str, Any]


class _Scorer:
    """Keeps datasets, and the pair that it read last, between the cases that it scores."""

    def __init__(self, folder: Path, conditions: Mapping[str, Any]) -> None:
        self._folder = folder
        self._conditions = conditions
        self._datasets: dict[str, Dataset] = {}
        self._last: tuple[Any, Pair] | None = None

    def rescored(self, case: Case, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with its metrics computed again."""
        from regbench.files.fields import load_field, load_own_field

        pair = self._pair(case)
        try:
            displacement = load_field(self._folder / row["field"], pair.fixed.grid, pair.moving.grid)
            if row.get("inverse_field"):
                inverse = load_own_field(self._folder / row["inverse_field"])
                displacement = dataclasses.replace(displacement, inverse=inverse)
        except DatasetError as error:
            raise StoreError(str(error)) from None
        result = Result()
        score(Alignment(pair, displacement, case.label_warp, case.threads), case.metrics, result)
        return {
            **row,
            "status": "ok",
            "reason": None,
            "metrics": result.metrics,
            "metric_versions": result.metric_versions,
            "label_warp": case.label_warp,
            "timing": {**row["timing"], "evaluate_s": result.timing["evaluate_s"]},
        }

    def _pair(self, case: Case) -> Pair:
        wanted = case.place[:3]
        if self._last is None or self._last[0] != wanted:
            self._last = (wanted, self._load(case))
        return self._last[1]

    def _load(self, case: Case) -> Pair:
        from regbench.datasets.protocol import PairRef
        from regbench.datasets.table import build_dataset

        if case.dataset not in self._datasets:
            self._datasets[case.dataset] = build_dataset(case.dataset_name, case.dataset_parameters)
        dataset = self._datasets[case.dataset]
        ref = PairRef(case.pair["id"], case.pair["fixed"], case.pair["moving"], case.pair["tags"])
        if dataset.fingerprint(ref) != case.fingerprint:
            raise DatasetError(f"{case.dataset}, pair {ref.id}: the data have changed since this run; run it again")
        check_condition(case, self._conditions)
        return shifted_pair(dataset, case.pair, (case.condition_name, case.condition_parameters, case.condition_seed))


def _metric_names(run: Mapping[str, Any], metrics: str | list[str] | None) -> list[str]:
    from regbench.metrics.table import METRICS, select_metrics

    return [name for name in select_metrics(metrics or run["config"]["metrics"]) if METRICS[name].function is not None]


def check_condition(case: Case, conditions: Mapping[str, Any]) -> None:
    """DatasetError where a condition makes other images now than in the run, whose record of conditions is given."""
    from regbench.shifts.table import shift_version

    version = shift_version(case.condition_name)
    # Runs from before versions were recorded have none.
    then = conditions[case.condition].get("version", version)
    if then != version:
        raise DatasetError(
            f"condition {case.condition}: was of version {then} in this run and is of {version} now, which makes "
            "other images; run it again"
        )


def case_of_row(row: Row, run: Mapping[str, Any], metrics: list[str], label_warp: LabelWarp | None = None) -> Case:
    """The case that a row came from, as far as scoring needs it; KeyError where run or row lack what it takes."""
    dataset, condition = run["datasets"][row["dataset"]], run["conditions"][row["condition"]]
    return Case(
        dataset=row["dataset"],
        dataset_name=dataset["name"],
        dataset_parameters=dataset["parameters"],
        condition=row["condition"],
        condition_name=condition["name"],
        condition_parameters=condition["parameters"],
        condition_seed=run["seed"],
        pair=row["pair"],
        fingerprint=row.get("fingerprint"),
        method=row["method"],
        method_name=row["method"],
        params=row["params"],
        paradigm=row["paradigm"],
        supervision=row["supervision"],
        method_version=str(row.get("method_version")),
        prealign="none",
        metrics=metrics,
        label_warp=label_warp or row.get("label_warp") or "nearest",
        threads=int(row.get("threads") or 1),
        repeat=int(row.get("repeat") or 0),
        seed=int(row.get("seed") or 0),
        key=str(row["key"]),
    )
