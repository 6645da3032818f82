"""The pictures of one case of a finished run: kept ones, or made again from its kept field or by registering it again.

Nothing is written into the run folder. A case that is registered again has the parameters, the seed and the
pre-alignment of its row, on data that are still the same; with other versions of its packages it may come out
otherwise, which is told.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regbench import targets
from regbench.alignment import Alignment
from regbench.environments import home_of
from regbench.errors import ConfigError, DatasetError, MethodError, StoreError
from regbench.execution import Session, shifted_pair
from regbench.parameters import nearest
from regbench.pictures import save_pictures
from regbench.plan import Case
from regbench.prealign import Prealignment
from regbench.rescore import case_of_row, check_condition
from regbench.store import PICTURES, RunRecord, file_name

if TYPE_CHECKING:
    from regbench.datasets.protocol import Dataset

Row = Mapping[str, Any]


def find_case(
    record: RunRecord, *, pair: str, method: str, dataset: str | None = None, condition: str | None = None
) -> Row:
    """The row of a case; a dataset or condition that is not given must follow from the others, `none` goes first.

    Raises ConfigError where there is no such case, where several are meant, or where it did not finish.
    """
    rows: Sequence[Row] = record.rows
    for what, wanted, value in (
        ("dataset", dataset, lambda row: str(row.get("dataset"))),
        ("method", method, lambda row: str(row.get("method"))),
        ("pair", pair, lambda row: str(row["pair"]["id"])),
        ("condition", condition, lambda row: str(row.get("condition"))),
    ):
        if wanted is not None:
            rows = _matching(rows, what, wanted, value)
    datasets = list(dict.fromkeys(str(row.get("dataset")) for row in rows))
    if len(datasets) > 1:
        raise ConfigError(f"--dataset: pair {pair} is in several datasets ({', '.join(datasets)}); name one")
    conditions = list(dict.fromkeys(str(row.get("condition")) for row in rows))
    if len(conditions) > 1:
        if "none" not in conditions:
            raise ConfigError(f"--condition: this case was run under {', '.join(conditions)}; name one")
        rows = [row for row in rows if row.get("condition") == "none"]
    row = min(rows, key=lambda one: int(one.get("repeat") or 0))
    if row.get("status") != "ok":
        raise ConfigError(
            f"{method} on {pair}: {row.get('status')} in this run, so there is nothing to draw: {row.get('reason')}"
        )
    return row


def _matching(rows: Sequence[Row], what: str, wanted: str, value: Callable[[Row], str]) -> list[Row]:
    found = [row for row in rows if value(row) == wanted]
    if not found:
        known = list(dict.fromkeys(value(row) for row in rows))
        shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        raise ConfigError(f"--{what}: this run has no {what} '{wanted}'{nearest(wanted, known)}; it has: {shown}")
    return found


def with_pictures(record: RunRecord, row: Row, use: Callable[[Path], None], told: Callable[[str], None]) -> str:
    """Calls `use` with a file of pictures of a case and says where they are from; `told` hears what takes its time.

    Raises StoreError, DatasetError or MethodError, in one sentence, where there is no way to them.
    """
    name = file_name(str(row["dataset"]), str(row["condition"]), str(row["pair"]["id"]), str(row["method"]))
    kept = record.folder / PICTURES / f"{name}.npz"
    if not row.get("repeat") and _is_complete(kept):
        use(kept)
        return "as kept by the run"
    with tempfile.TemporaryDirectory(prefix="regbench-show-") as folder:
        made = Path(folder) / PICTURES / kept.name
        made.parent.mkdir()
        if row.get("field"):
            _from_field(record, row, made)
            origin = "from the displacement field that the run kept"
        else:
            told(f"the run kept neither a field nor all pictures of this case, so {row['method']} registers it again")
            _register(record, row, Path(folder))
            origin = f"registered again{_other_version(record, row)}"
        use(made)
    return origin


def _is_complete(path: Path) -> bool:
    """Whether a file has all kinds of pictures; those of earlier versions lack the deformation."""
    try:
        with np.load(path, allow_pickle=False) as content:
            return "shift_0" in content.files and "before_0" in content.files
    except (OSError, ValueError, EOFError):
        return False


def _dataset(record: RunRecord, case: Case) -> Dataset:
    """The dataset of a case; DatasetError where its data are gone, or would be others than those of the run."""
    from regbench.datasets.protocol import PairRef
    from regbench.datasets.table import build_dataset

    dataset: Dataset = build_dataset(case.dataset_name, dict(case.dataset_parameters))
    ref = PairRef(str(case.pair["id"]), str(case.pair["fixed"]), str(case.pair["moving"]), dict(case.pair["tags"]))
    if case.fingerprint and dataset.fingerprint(ref) != case.fingerprint:
        raise DatasetError(
            f"{case.dataset}, pair {ref.id}: the data have changed since this run, which its pictures need; "
            "run it again"
        )
    check_condition(case, record.run["conditions"])
    return dataset


def _from_field(record: RunRecord, row: Row, path: Path) -> None:
    from regbench.files.fields import load_field

    case = case_of(record, row)
    shift = (case.condition_name, case.condition_parameters, case.condition_seed)
    pair = shifted_pair(_dataset(record, case), case.pair, shift)
    try:
        displacement = load_field(record.folder / row["field"], pair.fixed.grid, pair.moving.grid)
    except DatasetError as error:
        raise StoreError(f"{error}; run the case again with `keep: {{fields: true}}`") from None
    save_pictures(path, Alignment(pair, displacement, case.label_warp, case.threads))


def _register(record: RunRecord, row: Row, folder: Path) -> None:
    case = case_of(record, row)
    if record.run.get("fields"):
        raise StoreError(
            f"{record.folder}: these fields were made elsewhere and no pictures were kept; give them to "
            "`regbench evaluate` again"
        )
    lacking = home_of(case.method_name, case.python, case.params).missing
    if lacking:
        names, hints = (
            ", ".join(dict.fromkeys(part)) for part in zip(*((n.name, n.install_hint) for n in lacking), strict=True)
        )
        raise MethodError(f"{case.method}: no pictures were kept, and to register again it needs {names}: {hints}")
    _dataset(record, case)
    result = Session(folder, lambda phase: None).run(case, Prealignment.from_json(row.get("prealign")))
    if result.status != "ok":
        raise MethodError(
            f"{case.method} on {case.pair['id']}: registering it again ended as {result.status}: {result.reason}"
        )


def _other_version(record: RunRecord, row: Row) -> str:
    case = case_of(record, row)
    now = home_of(case.method_name, case.python, case.params).version
    then = str(row.get("method_version"))
    return "" if now == then else f", with {now} where the run had {then}: it may differ"


def case_of(record: RunRecord, row: Row) -> Case:
    """The case that a row came from, so that it can be registered again and its pictures are kept.

    Raises StoreError where the record does not tell what is needed.
    """
    run = record.run
    try:
        case = case_of_row(row, run, [])
        entries = {entry["label"]: entry for entry in run["config"]["methods"]}
        entry = entries.get(row["method"], {"name": row["method"]})
        return dataclasses.replace(
            case,
            method_name=targets.absolute_target(entry["name"], Path(str(run["config"].get("source_folder", ".")))),
            prealign=str(run["config"].get("prealign", "none")),
            keep_picture=True,
            python=home_of(entry["name"], entry.get("python"), row["params"]).python,
        )
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"{record.folder}: its record does not tell how this case was run ({error}), which its pictures need"
        ) from None
