"""A run: what is missing of a plan is executed, and every outcome becomes a row on disk at once.

The runner knows no method and no dataset by name, and touches no image. It owns the run folder while it runs;
an interruption (Ctrl-C, SIGTERM) kills the work in flight and leaves no half row.
"""

from __future__ import annotations

import logging
import signal
import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from regbench import resources, targets
from regbench.engines.protocol import Engine, Job
from regbench.engines.table import build_engine
from regbench.environments import survey
from regbench.isolation import Limits, Outcome, WorkerPlace
from regbench.leaks import leak_sentences
from regbench.metrics.table import METRICS
from regbench.plan import Case, Plan, make_plan
from regbench.prealign import prealign_cases, prealign_key
from regbench.provenance import provenance
from regbench.shifts.table import shift_version
from regbench.store import LOGS, SCHEMA, RunStore, file_name, new_run_id

if TYPE_CHECKING:
    from regbench.config import RunConfig

logger = logging.getLogger(__name__)


class RunListener(Protocol):
    """Who is told how a run goes on; calls come from one thread."""

    def plan_ready(self, plan: Plan, n_done: int) -> None:
        """The plan is made; `n_done` of its cases were finished earlier."""

    def case_started(self, case: Case) -> None:
        """A case was given to a worker."""

    def case_finished(self, case: Case, row: Mapping[str, Any]) -> None:
        """A case has its row, which is on the disk."""

    def message(self, text: str) -> None:
        """Something that the user should know."""


class SilentListener:
    """A listener that does nothing."""

    def plan_ready(self, plan: Plan, n_done: int) -> None: ...

    def case_started(self, case: Case) -> None: ...

    def case_finished(self, case: Case, row: Mapping[str, Any]) -> None: ...

    def message(self, text: str) -> None: ...


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: cases of its plan by outcome; `n_not_ok` counts failures, `n_skipped` is apart from it."""

    folder: Path
    n_cases: int
    n_done_before: int
    n_ok: int
    n_not_ok: int
    interrupted: bool
    n_skipped: int = 0


def run(
    config: RunConfig,
    folder: Path | str,
    *,
    only: Iterable[str] | None = None,
    limit: int | None = None,
    workers: int | None = None,
    timing: str | None = None,
    timeout_s: float | None = None,
    fresh: bool = False,
    retry_failed: bool = False,
    argv: Sequence[str] = (),
    listener: RunListener | None = None,
) -> RunOutcome:
    """Runs what is missing of the config's plan in the run folder, and tells how it ended.

    `workers`, `timing` and `timeout_s` take the place of the config's. Raises ConfigError or DatasetError
    before anything is written, StoreError if the folder cannot be used or the disk is full.
    """
    listener = listener or SilentListener()
    plan = make_plan(config, only, limit)
    limits = Limits(timeout_s or config.engine.timeout_s, memory_mib=config.engine.memory_mib)
    timing = timing or ("shared" if workers and workers > 1 else config.engine.timing)
    n_workers = 1 if timing == "exclusive" else workers or config.engine.workers
    wished = workers or config.engine.workers
    if wished > n_workers:
        listener.message(f"timing: exclusive runs one worker at a time; `timing: shared` would use all {wished}")
    engine = build_engine(config.engine.kind, n_workers, limits)
    with RunStore.open(folder, fresh=fresh) as store, _Interruption() as interruption:
        done = store.finished_keys(retry_failed)
        earlier = {} if fresh else store.run_json() or {}
        record = _run_record(config, plan, store, earlier, argv)
        store.write_run_json(record)
        n_done = sum(case.key in done for case in plan.cases)
        listener.plan_ready(plan, n_done)
        if n_done and earlier.get("metric_versions") != record["metric_versions"]:
            listener.message(
                f"the metrics are not those of the earlier {n_done} rows, which stay as they are; `regbench evaluate` "
                "computes them again where displacement fields were kept, --fresh runs everything again"
            )
        for sentence in leak_sentences(plan.cases, config.leaks):
            listener.message(sentence)
        session = _Session(store, engine, listener, interruption, str(record["run"]), timing, config.seed)
        session.run([case for case in plan.cases if case.key not in done], retry_failed)
        record["sessions"][-1] |= {"finished": _now(), "interrupted": interruption.is_requested}
        store.write_run_json(record)
        return _outcome(store, plan, n_done, interruption.is_requested)


def _outcome(store: RunStore, plan: Plan, n_done: int, interrupted: bool) -> RunOutcome:
    statuses = {row["key"]: row.get("status") for row in store.rows()}
    counts = Counter(statuses[case.key] for case in plan.cases if case.key in statuses)
    n_rows = sum(counts.values())
    return RunOutcome(
        folder=store.folder,
        n_cases=len(plan.cases),
        n_done_before=n_done,
        n_ok=counts["ok"],
        n_not_ok=n_rows - counts["ok"] - counts["skipped"],
        interrupted=interrupted,
        n_skipped=counts["skipped"],
    )


# -- the record of a run ------------------------------------------------------------------------------


def _run_record(
    config: RunConfig, plan: Plan, store: RunStore, earlier: Mapping[str, Any], argv: Sequence[str]
) -> dict[str, Any]:
    """The content of run.json; the hosts and sessions that an earlier one in the folder recorded are kept."""
    settings = config.model_dump(mode="json")
    methods = {(case.method_name, case.method): case.params for case in plan.cases}
    cards = [targets.method_card(name, params) for (name, _), params in methods.items()]
    facts = provenance(config.engine.threads, [p.distribution for card in cards for p in card.packages])
    facts["interpreters"] = _interpreters(plan)
    facts["hosts"] = {**earlier.get("hosts", {}), **facts["hosts"]}
    conditions = {
        case.condition: {
            "name": case.condition_name,
            "parameters": case.condition_parameters,
            "version": shift_version(case.condition_name),
        }
        for case in plan.cases
    }
    datasets = {case.dataset: {"name": case.dataset_name, "parameters": case.dataset_parameters} for case in plan.cases}
    return {
        "run": earlier.get("run") or new_run_id(config.name),
        "name": config.name,
        "config": settings,
        **facts,
        "threads": config.engine.threads,
        "tuning": dict(plan.tuning),
        "seed": config.seed,
        "seeds": [config.seed + repeat for repeat in range(config.repeats)],
        "datasets": {label: {**what, "manifest": plan.manifests.get(label)} for label, what in datasets.items()},
        "conditions": conditions,
        "deterministic": {label: card.deterministic for (_, label), card in zip(methods, cards, strict=True)},
        "metric_versions": {name: METRICS[name].version for case in plan.cases[:1] for name in case.metrics},
        "leaked": _leaks(plan, earlier),
        "plan_keys": _plan_keys(plan, store, settings, earlier),
        "sessions": [*earlier.get("sessions", []), {"started": _now(), "argv": list(argv)}],
        "argv": list(argv),
    }


def _interpreters(plan: Plan) -> dict[str, Any]:
    """What the other interpreters have that methods run in, by label; without those that are not there."""
    cases = {case.method: case for case in plan.cases if case.python is not None and case.verdict is None}
    return {
        label: {"path": case.python, **survey(str(case.python), targets.method_card(case.method_name, case.params))}
        for label, case in cases.items()
    }


def _plan_keys(plan: Plan, store: RunStore, settings: Mapping[str, Any], earlier: Mapping[str, Any]) -> list[str]:
    """The keys that the summary is about: those of the plan, and those of the same config that it leaves out.

    A run of a part (`--only`, `--limit`) must not make the other rows of the same config disappear.
    """
    keys = [case.key for case in plan.cases]
    if earlier.get("config") != settings:
        return keys
    places = {case.place for case in plan.cases}
    previous = set(earlier.get("plan_keys", [])) - set(keys)
    kept = [row["key"] for row in store.rows() if row["key"] in previous and _place(row) not in places]
    return kept + keys


def _leaks(plan: Plan, earlier: Mapping[str, Any]) -> dict[str, Any]:
    """The marks of leaked pairs by key, those that an earlier plan alone knows included."""
    keys = {case.key for case in plan.cases}
    kept = {key: mark for key, mark in earlier.get("leaked", {}).items() if key not in keys}
    return {**kept, **{case.key: case.leak for case in plan.cases if case.leak is not None}}


def _place(row: Mapping[str, Any]) -> tuple[str, str, str, str, int]:
    return (row["dataset"], row["condition"], row["pair"]["id"], row["method"], row["repeat"])


# -- execution ----------------------------------------------------------------------------------------


@dataclass
class _Session:
    """One stretch of execution: the pending cases, first their shared pre-alignments, go through the engine."""

    store: RunStore
    engine: Engine
    listener: RunListener
    interruption: _Interruption
    run_id: str
    timing_mode: str
    seed: int
    host: str = field(default_factory=socket.gethostname)

    def run(self, pending: Sequence[Case], retry_failed: bool) -> None:
        """Executes the pending cases; each ends as a row, unless the session is interrupted."""
        self.store.subfolder(LOGS)
        for case in pending:
            if case.verdict is not None:
                self._keep(case, Outcome(*case.verdict))
        runnable = [case for case in pending if case.verdict is None]
        matrices = self._prealignments(runnable, retry_failed)
        if not self.interruption.is_requested:
            self._cases(runnable, matrices)
        if self.interruption.is_requested:
            self.listener.message("stopping: the case at work is given up, finished ones are kept")

    def _prealignments(self, cases: Sequence[Case], retry_failed: bool) -> dict[str, dict[str, Any]]:
        """The records of the shared pre-alignments of the cases by key, computed where they are missing."""
        needed = prealign_cases(cases)
        known = self.store.prealignments() if needed else {}
        missing = {
            key: case
            for key, case in needed.items()
            if key not in known or (retry_failed and known[key]["status"] != "ok")
        }
        if missing:
            kind = next(iter(missing.values())).method_name
            self.listener.message(f"pre-alignment ({kind}) of {len(missing)} pairs, shared by all methods")
            jobs = [self._job(case, {"do": "estimate", "case": case.as_json()}) for case in missing.values()]
            self.engine.run(jobs, _PrealignProgress(self.store, missing, known), self.interruption.requested)
        return known

    def _cases(self, cases: Sequence[Case], matrices: Mapping[str, dict[str, Any]]) -> None:
        jobs, by_key = [], {}
        for case in cases:
            shared = None if case.prealign == "none" else matrices[prealign_key(case)]
            if shared is not None and shared["status"] != "ok":
                self._keep(case, Outcome("failed", f"shared pre-alignment ({case.prealign}): {shared['reason']}"))
                continue
            by_key[case.key] = case
            jobs.append(self._job(case, {"do": "run", "case": case.as_json(), "prealign": shared}))
        if jobs:
            self.engine.run(jobs, _CaseProgress(self, by_key), self.interruption.requested)

    def _job(self, case: Case, request: Mapping[str, Any]) -> Job:
        folder = self.store.folder.absolute()
        place = WorkerPlace(folder, folder / LOGS / f"{file_name(case.method)}.log", case.threads, self.seed)
        return Job(case.key, case.method, place, request)

    def _keep(self, case: Case, outcome: Outcome) -> None:
        """Writes the row of a finished case, then tells of it."""
        row = make_row(case, outcome, run=self.run_id, timing_mode=self.timing_mode, host=self.host)
        self.store.append(row)
        self.listener.case_finished(case, row)


@dataclass(frozen=True)
class _CaseProgress:
    session: _Session
    cases: Mapping[str, Case]

    def started(self, job: Job) -> None:
        self.session.listener.case_started(self.cases[job.key])

    def finished(self, job: Job, outcome: Outcome) -> None:
        self.session._keep(self.cases[job.key], outcome)


@dataclass(frozen=True)
class _PrealignProgress:
    store: RunStore
    cases: Mapping[str, Case]
    known: dict[str, dict[str, Any]]

    def started(self, job: Job) -> None: ...

    def finished(self, job: Job, outcome: Outcome) -> None:
        case, result = self.cases[job.key], outcome.result or {}
        record = {
            "key": job.key,
            "kind": case.method_name,
            "dataset": case.dataset,
            "condition": case.condition,
            "pair": case.pair["id"],
            "status": outcome.status,
            "reason": outcome.reason,
            "seconds": (result.get("timing") or {}).get("register_s"),
            "matrix": result.get("matrix"),
        }
        self.store.append_prealignment(record)
        self.known[job.key] = record


def make_row(case: Case, outcome: Outcome, *, run: str, timing_mode: str, host: str) -> dict[str, Any]:
    """The row of a finished case, in the order in which people read it."""
    result = outcome.result or {}
    return {
        "schema": SCHEMA,
        "key": case.key,
        "run": run,
        "dataset": case.dataset,
        "condition": case.condition,
        "pair": {**case.pair, "tags": {**case.pair["tags"], **result.get("tags", {})}},
        "method": case.method,
        "paradigm": case.paradigm,
        "supervision": case.supervision,
        "method_version": case.method_version,
        "params": case.params,
        "repeat": case.repeat,
        "seed": case.seed,
        "status": outcome.status,
        "reason": outcome.reason,
        "leaked": case.leak,
        "metrics": result.get("metrics", {}),
        "timing": result.get("timing") or resources.empty_timing(),
        "memory": result.get("memory") or resources.empty_memory(),
        "model": result.get("model", {}),
        "threads": case.threads,
        "device": result.get("device"),
        "host": host,
        "started": result.get("started") or _now(),
        "metric_versions": result.get("metric_versions", {}),
        "timing_mode": timing_mode,
        "label_warp": case.label_warp,
        "prealign": result.get("prealign"),
        "fingerprint": case.fingerprint,
        "field": result.get("field_file"),
        "inverse_field": result.get("inverse_field_file"),
        "exit": outcome.exit,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class _Interruption:
    """While its block lasts, Ctrl-C and SIGTERM ask for an orderly end; a second one is an ordinary interrupt."""

    def __init__(self) -> None:
        self.is_requested = False
        self._before: dict[int, Any] = {}

    def requested(self) -> bool:
        """Whether an end was asked for."""
        return self.is_requested

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True

    def __enter__(self) -> _Interruption:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._ask)
            except ValueError:
                logger.debug("signals are handled by the main thread only")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
