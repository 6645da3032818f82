"""Two configs timed against each other: every case of one right after the same case of the other.

Seconds of two runs differ by what else the machine did meanwhile. Here each side has a worker of its own, which keeps
its method built; one case runs at a time, and the side that goes first changes from case to case (A B, B A, ...), so
that a machine that gets slower or warmer does so for both. A first case of each worker, which may compile and
allocate, is run and not counted. Nothing is evaluated and nothing kept; the rows have times and memory only.

Both sides run in the code that is installed here. What can differ are parameters, versions of packages in another
interpreter (`python` of a method), and the method itself: a config may name two of them.
"""

from __future__ import annotations

import dataclasses
import select
import socket
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regbench.errors import ConfigError
from regbench.isolation import Limits, Outcome, Supervisor, WorkerPlace
from regbench.plan import Case, Plan, make_plan
from regbench.prealign import prealign_cases, prealign_key
from regbench.provenance import host
from regbench.runner import RunListener, SilentListener, make_row
from regbench.store import LOGS, file_name

if TYPE_CHECKING:
    from regbench.config import RunConfig

# How often a worker that says nothing is looked after.
_TICK_S = 0.25


@dataclass(frozen=True)
class Timed:
    """The rows of both sides, and the record of the machine in the form of run.json."""

    base: list[dict[str, Any]]
    new: list[dict[str, Any]]
    run: dict[str, Any]


def time_alternately(
    base: RunConfig, new: RunConfig, *, limit: int | None = None, listener: RunListener | None = None
) -> Timed:
    """The rows of all methods that both configs have, on the first `limit` pairs of each dataset if that is given.

    Methods that would be one and the same on both sides are left out, with a message. Raises ConfigError if that
    leaves none, DatasetError as planning does.
    """
    listener = listener or SilentListener()
    methods = _common_methods(base, new, listener)
    plans = [_cases(config, methods, limit) for config in (base, new)]
    both = [key for key in plans[0] if key in plans[1]]
    if not both:
        raise ConfigError("the two configs have no case in common; their datasets or conditions are called otherwise")
    timed = Timed([], [], {"hosts": {socket.gethostname(): host()}})
    limits = Limits(max(base.engine.timeout_s, new.engine.timeout_s))
    with tempfile.TemporaryDirectory(prefix="regbench-timing-") as name:
        place = _Place(Path(name), limits)
        (place.folder / LOGS).mkdir()
        listener.plan_ready(Plan(tuple(plan[key] for key in both for plan in plans)), 0)
        place.prealign([plan[key] for key in both for plan in plans])
        for method in methods:
            pairs = [(plans[0][key], plans[1][key]) for key in both if key[3] == method]
            if pairs:
                _time_method(pairs, place, timed, listener)
    return timed


def _common_methods(base: RunConfig, new: RunConfig, listener: RunListener) -> list[str]:
    """The labels of methods that both configs have and that are not the same thing twice."""
    first, second = ({entry.label: entry for entry in config.methods} for config in (base, new))
    common = [label for label in first if label in second]
    same_engine = base.engine.threads == new.engine.threads and base.prealign == new.prealign
    twice = [label for label in common if same_engine and first[label] == second[label]]
    if twice:
        listener.message(
            f"{', '.join(twice)}: the same on both sides (code, parameters, interpreter), so not timed; --base-python "
            "runs the methods of the base in another environment"
        )
    kept = [label for label in common if label not in twice]
    if not kept:
        raise ConfigError(
            "--timing-in-one-run: both runs have the same methods with the same parameters, which this code would time "
            "twice; change a parameter, or give the environment of the base with --base-python PATH"
        )
    return kept


def _cases(config: RunConfig, methods: Sequence[str], limit: int | None) -> dict[tuple[Any, ...], Case]:
    """The cases to time by their place, without anything that is done after the registration."""
    plan = make_plan(config, methods, limit)
    return {
        case.place: dataclasses.replace(case, metrics=[], keep_field=False, keep_picture=False)
        for case in plan.cases
        if case.verdict is None
    }


@dataclass
class _Place:
    """Where workers run, their limits, and the shared pre-alignments by key."""

    folder: Path
    limits: Limits
    prealignments: dict[str, dict[str, Any]] = field(default_factory=dict)

    def worker(self, name: str, case: Case) -> Supervisor:
        """A worker with the threads and the seed of a case."""
        log = self.folder / LOGS / f"{file_name(name)}.log"
        return Supervisor(WorkerPlace(self.folder, log, case.threads, case.seed), self.limits)

    def prealign(self, cases: Sequence[Case]) -> None:
        """Computes the shared pre-alignments before anything is timed: a timed worker keeps its method built."""
        jobs = prealign_cases(cases)
        if not jobs:
            return
        worker = self.worker("prealign", next(iter(jobs.values())))
        try:
            for key, case in jobs.items():
                outcome = _answer(worker, {"do": "estimate", "case": case.as_json()})
                result = outcome.result or {}
                self.prealignments[key] = {
                    "kind": case.method_name,
                    "status": outcome.status,
                    "reason": outcome.reason,
                    "seconds": (result.get("timing") or {}).get("register_s"),
                    "matrix": result.get("matrix"),
                }
        finally:
            worker.stop()

    def run(self, worker: Supervisor, case: Case) -> Outcome:
        """How a case ended."""
        shared = None if case.prealign == "none" else self.prealignments[prealign_key(case)]
        if shared is not None and shared["status"] != "ok":
            return Outcome("failed", f"shared pre-alignment ({case.prealign}): {shared['reason']}")
        return _answer(worker, {"do": "run", "case": case.as_json(), "prealign": shared})


def _time_method(pairs: Sequence[tuple[Case, Case]], place: _Place, timed: Timed, listener: RunListener) -> None:
    """Runs the cases of one method on both sides in turn, and adds their rows."""
    with ExitStack() as stack:
        workers = [place.worker(f"{side} {pairs[0][0].method}", case) for side, case in enumerate(pairs[0])]
        for worker, case in zip(workers, pairs[0], strict=True):
            stack.callback(worker.stop)
            place.run(worker, case)
        for number, cases in enumerate(pairs):
            for side in _order(number):
                listener.case_started(cases[side])
                row = _row(cases[side], place.run(workers[side], cases[side]))
                (timed.base, timed.new)[side].append(row)
                listener.case_finished(cases[side], row)


def _order(number: int) -> tuple[int, int]:
    """Which side goes first: the other one with every case."""
    return (0, 1) if number % 2 == 0 else (1, 0)


def _answer(worker: Supervisor, request: Mapping[str, Any]) -> Outcome:
    """What a worker says to a request, or how it ended; waits for it."""
    worker.give(request)
    while (outcome := worker.check()) is None:
        waiting = [worker.fileno()] if worker.fileno() >= 0 else []
        select.select(waiting, [], [], min(_TICK_S, worker.seconds_to_limit()))
    return outcome


def _row(case: Case, outcome: Outcome) -> dict[str, Any]:
    return make_row(case, outcome, run="timing", timing_mode="exclusive", host=socket.gethostname())


def with_python(config: RunConfig, python: str) -> RunConfig:
    """The config with all of its methods run by another interpreter; ConfigError if that is none."""
    path = Path(python).expanduser()
    if not path.is_file():
        raise ConfigError(f"--base-python {python}: there is no such interpreter; give a path such as old/bin/python")
    methods = [entry.model_copy(update={"python": str(path.absolute())}) for entry in config.methods]
    return config.model_copy(update={"methods": methods})
