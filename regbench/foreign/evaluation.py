"""A folder of displacement fields that another program made, scored into an ordinary run folder.

Nothing is registered, so rows have no times but that of their evaluation, no memory and no device. What the fields
came from is unknown unless it is told: paradigm and supervision are then "unknown", which no comparison of paradigms
takes part in. A pair whose field is missing or broken is a row with the reason.
"""

from __future__ import annotations

import dataclasses
import hashlib
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regbench.alignment import Alignment, LabelWarp
from regbench.errors import ConfigError, DatasetError, StoreError
from regbench.execution import Result, score, verdict
from regbench.foreign.finding import FieldFiles, FieldFolder
from regbench.isolation import Outcome
from regbench.metrics.table import METRICS, select_metrics
from regbench.parameters import as_plain, check_parameters, nearest
from regbench.phases import EVALUATING, READING
from regbench.plan import Case, Plan, content_key
from regbench.provenance import provenance
from regbench.runner import RunListener, SilentListener, make_row
from regbench.store import RunStore, new_run_id

if TYPE_CHECKING:
    from regbench.config import RunConfig
    from regbench.config_entries import Entry
    from regbench.datasets.protocol import Dataset, PairRef

PARADIGMS = ("none", "classical", "learned", "hybrid")
SUPERVISIONS = ("none", "image", "labels", "synthetic")
UNKNOWN = "unknown"
VERSION = "foreign"
_CONDITION = "none"


class NothingFound(DatasetError):
    """A folder that has no field for any pair of the dataset."""


@dataclass(frozen=True)
class ForeignFields:
    """What is said of a folder of fields: the pairs they belong to, the method that made them, how to score them.

    `dataset` is the name of a dataset or the path of its file, as in a config, with `parameters`; `method` is the
    label of the rows; `format` is one of `files.fields.FORMATS` where the files do not tell theirs.
    """

    folder: Path
    dataset: str
    method: str
    paradigm: str = UNKNOWN
    supervision: str = UNKNOWN
    format: str | None = None
    metrics: str | list[str] = "standard"
    label_warp: LabelWarp = "nearest"
    parameters: Mapping[str, Any] = field(default_factory=dict)


def evaluate_fields(
    fields: ForeignFields,
    out: Path | str,
    *,
    fresh: bool = False,
    argv: Sequence[str] = (),
    listener: RunListener | None = None,
) -> int:
    """Scores the fields of a folder into the run folder `out`; the number of pairs, each of which has its row.

    Raises NothingFound if no pair has a field, ConfigError and DatasetError for a dataset, metrics or a label that
    cannot be used, before anything is written; StoreError if `out` cannot be written or holds another run, unless
    that is to be put aside (`fresh`). An earlier evaluation of the same folder is done again.
    """
    listener = listener or SilentListener()
    config = _config_of(fields)
    entry = config.datasets[0]
    dataset = _dataset_of(entry)
    refs = list(dataset.pair_refs())
    found = _all_found(fields.folder, refs, entry.label)
    cases = [_case_of(item, fields, config, dataset) for item in found]
    manifest = as_plain(dict(dataset.manifest()))
    fresh = fresh or _is_done_again(out, _source(fields, config))
    with RunStore.open(out, fresh=fresh) as store:
        record = _record(fields, config, cases, manifest, argv)
        store.write_run_json(record)
        listener.plan_ready(Plan(tuple(cases), {entry.label: manifest}), 0)
        for item, case in zip(found, cases, strict=True):
            listener.case_started(case)
            outcome = _scored(item, case, fields.format, dataset)
            row = make_row(case, outcome, run=record["run"], timing_mode="none", host=socket.gethostname())
            row["files"] = [str(path.relative_to(fields.folder)) for path in item.paths]
            store.append(row)
            listener.case_finished(case, row)
        record["sessions"][-1]["finished"] = _now()
        store.write_run_json(record)
    return len(cases)


# -- what is evaluated --------------------------------------------------------------------------------


def _config_of(fields: ForeignFields) -> RunConfig:
    """The config that a run of these fields as a method would have had; ConfigError for what it refuses."""
    from pydantic import ValidationError

    from regbench.config import RunConfig

    select_metrics(fields.metrics)
    # The parts of a config that options of the command stand for.
    options = {"datasets": "--dataset", "methods": "--method", "name": "--method", "label_warp": "--label-warp"}
    values = {
        "name": fields.method,
        "datasets": [{fields.dataset: dict(fields.parameters)}],
        "methods": [{"name": fields.method, "label": fields.method, "parameters": {}}],
        "metrics": fields.metrics,
        "label_warp": fields.label_warp,
    }
    try:
        return RunConfig.model_validate(values, context={"folder": Path.cwd()})
    except ValidationError as error:
        problem = error.errors()[0]
        option = options.get(str(problem["loc"][0]), str(problem["loc"][0]))
        raise ConfigError(f"{option}: {problem.get('ctx', {}).get('error') or problem['msg']}") from None


def _dataset_of(entry: Entry) -> Dataset:
    from regbench.datasets.table import DATASETS, build_dataset, dataset_class

    if entry.name not in DATASETS:
        known = list(DATASETS)
        raise ConfigError(
            f"--dataset: unknown dataset '{entry.name}'{nearest(entry.name, known)}; known: {', '.join(known)}; "
            "or give the path of a CSV of pairs or of a Learn2Reg TASK_dataset.json"
        )
    check_parameters(dataset_class(entry.name), entry.parameters, f"--dataset {entry.name}")
    return build_dataset(entry.name, entry.parameters)


@dataclass(frozen=True)
class _Found:
    """A pair and the files of its field, or the reason why there are none."""

    ref: PairRef
    files: FieldFiles | None
    problem: str = ""

    @property
    def paths(self) -> tuple[Path, ...]:
        return () if self.files is None else self.files.paths


def _all_found(folder: Path, refs: Sequence[PairRef], dataset: str) -> list[_Found]:
    """The files of all pairs; NothingFound if there is nothing at all, not even what cannot be used."""
    fields = FieldFolder(folder, refs)
    found, is_missing = [], []
    for ref in refs:
        try:
            item = _Found(ref, fields.find(ref), f"{folder}: no field of this pair; looked for {fields.places(ref)}")
            is_missing.append(item.files is None)
        except DatasetError as error:
            item = _Found(ref, None, str(error))
        found.append(item)
    if len(is_missing) == len(refs) and all(is_missing):
        raise NothingFound(
            f"{folder} holds no field of any of the {len(refs)} pairs of {dataset}; "
            f"for the pair {refs[0].id} it would be {fields.places(refs[0])}"
        )
    return found


def _case_of(item: _Found, fields: ForeignFields, config: RunConfig, dataset: Dataset) -> Case:
    entry = config.datasets[0]
    try:
        fingerprint = dataset.fingerprint(item.ref)
    except DatasetError:
        # Reading the pair will say what is wrong with it.
        fingerprint = None
    case = Case(
        dataset=entry.label,
        dataset_name=entry.name,
        dataset_parameters=as_plain(entry.parameters),
        condition=_CONDITION,
        condition_name=_CONDITION,
        condition_parameters={},
        condition_seed=config.seed,
        pair={
            "id": item.ref.id,
            "fixed": item.ref.fixed,
            "moving": item.ref.moving,
            "tags": as_plain(item.ref.tags),
        },
        fingerprint=fingerprint,
        method=fields.method,
        method_name=fields.method,
        params={} if fields.format is None else {"format": fields.format},
        paradigm=fields.paradigm,
        supervision=fields.supervision,
        method_version=VERSION,
        prealign="none",
        metrics=[name for name in select_metrics(fields.metrics) if METRICS[name].function is not None],
        label_warp=fields.label_warp,
        threads=config.engine.threads,
        repeat=0,
        seed=config.seed,
        key="",
    )
    content = [fingerprint or ["unreadable", case.dataset_parameters], [_hash(path) for path in item.paths]]
    parts = ["foreign", case.dataset, item.ref.id, content, case.method, case.params, case.label_warp]
    return dataclasses.replace(case, key=content_key(parts))


def _hash(path: Path) -> str:
    """The sha256 of a file, or what is wrong with it."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


# -- scoring ------------------------------------------------------------------------------------------


def _scored(item: _Found, case: Case, format: str | None, dataset: Dataset) -> Outcome:
    """The outcome of one pair, whatever happens with it."""
    result, phase = Result(started=_now()), READING
    try:
        if item.files is None:
            raise DatasetError(item.problem)
        pair = dataset.load(item.ref)
        result.tags = dict(pair.tags)
        displacement = item.files.read(pair.fixed.grid, pair.moving.grid, format)
        phase = EVALUATING
        score(Alignment(pair, displacement, case.label_warp, case.threads), case.metrics, result)
    except Exception as error:  # a damaged file may make any package raise anything
        result.status, result.reason = verdict(error, phase)
    told = {**dataclasses.asdict(result), "device": None}
    return Outcome(result.status, result.reason, told)


# -- the record ---------------------------------------------------------------------------------------


def _record(
    fields: ForeignFields, config: RunConfig, cases: Sequence[Case], manifest: Any, argv: Sequence[str]
) -> dict[str, Any]:
    """The content of run.json."""
    entry = config.datasets[0]
    return {
        "run": new_run_id(fields.method),
        "name": fields.method,
        "fields": _source(fields, config),
        "config": config.model_dump(mode="json"),
        **provenance(config.engine.threads),
        "threads": config.engine.threads,
        "seed": config.seed,
        "seeds": [config.seed],
        "datasets": {entry.label: {"name": entry.name, "parameters": as_plain(entry.parameters), "manifest": manifest}},
        "conditions": {_CONDITION: {"name": _CONDITION, "parameters": {}}},
        "metric_versions": {name: METRICS[name].version for name in cases[0].metrics},
        "plan_keys": [case.key for case in cases],
        "sessions": [{"started": _now(), "argv": list(argv)}],
        "argv": list(argv),
    }


def _source(fields: ForeignFields, config: RunConfig) -> dict[str, Any]:
    """What is evaluated: by this an evaluation that is done again is told from another run."""
    entry = config.datasets[0]
    dataset = {"name": entry.name, "parameters": as_plain(entry.parameters)}
    return {"folder": str(fields.folder.absolute()), "dataset": dataset, "method": fields.method}


def _is_done_again(out: Path | str, source: Mapping[str, Any]) -> bool:
    """Whether `out` holds an earlier evaluation of the same fields; StoreError if it holds another run."""
    earlier = RunStore(Path(out), None).run_json()
    if earlier is None:
        return False
    if earlier.get("fields") != source:
        raise StoreError(f"{out} holds another run; choose another folder with -o, or put that run aside with --fresh")
    return True


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
