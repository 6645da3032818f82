"""One case, from its description to its measured result; runs inside a worker process.

    read pair -> shift -> (shared pre-alignment) -> register -> check -> compose -> evaluate

The method sees `pair.blind()`; only this module holds both the labels and the displacement. What is timed as
the method's own is its import (`load_s`), construction with `prepare()` (`setup_s`), and the one call of
`register`. Load and set-up happen once per worker; their seconds stand in every row of that worker. The first call of
a method in a worker, which may compile and allocate what later ones find ready, is told apart as `first_call_s`.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from regbench import resources, targets
from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.errors import (
    DatasetError,
    InvalidDisplacement,
    MethodCrashed,
    MethodDeclined,
    MethodError,
    RegbenchError,
    StoreError,
)
from regbench.lodging.host import LodgedMethod, MeasuredThere
from regbench.pair import BlindPair, Pair
from regbench.phases import EVALUATING, LOADING, READING, REGISTERING, SETTING_UP
from regbench.plan import Case
from regbench.prealign import Prealignment, checked_matrix, prealigned
from regbench.store import FIELDS, PICTURES, file_name

if TYPE_CHECKING:
    from regbench.datasets.protocol import Dataset
    from regbench.methods.card import Method

logger = logging.getLogger(__name__)

_LONGEST_REASON = 400


@dataclass
class Result:
    """What a worker reports of a case; plain data, merged with the case into a row."""

    status: str = "ok"
    reason: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    metric_versions: dict[str, int] = field(default_factory=dict)
    timing: dict[str, float | None] = field(default_factory=resources.empty_timing)
    memory: dict[str, int | None] = field(default_factory=resources.empty_memory)
    device: str = "cpu"
    started: str = ""
    tags: dict[str, Any] = field(default_factory=dict)
    prealign: dict[str, Any] | None = None
    field_file: str | None = None
    inverse_field_file: str | None = None
    model: dict[str, float] = field(default_factory=dict)
    matrix: list[list[float]] | None = None


class Session:
    """What a worker keeps between cases: its datasets, and the method that it built last."""

    def __init__(self, folder: Path, enter_phase: Callable[[str], None]) -> None:
        self.folder = folder
        self._enter_phase = enter_phase
        self._phase = READING
        self._datasets: dict[str, Dataset] = {}
        self._built: tuple[str, Method] | None = None
        self._loaded: tuple[str, str | None] | None = None
        self._lodged: LodgedMethod | None = None
        self._load_s: float | None = None
        self._setup_s: float | None = None
        self._is_first_call = True

    def run(self, case: Case, prealignment: Prealignment | None = None) -> Result:
        """The result of a case, whatever happens in it; StoreError only if the run folder cannot be written."""
        result = Result(started=_now(), prealign=None if prealignment is None else prealignment.as_json())
        self._guarded(result, lambda: self._register_and_score(case, prealignment, result))
        return result

    def estimate(self, case: Case) -> Result:
        """The result of a shared pre-alignment: `matrix` and `timing.register_s`, or the reason why there is none."""
        result = Result(started=_now())
        self._guarded(result, lambda: self._estimate(case, result))
        return result

    # -- phases ---------------------------------------------------------------------------------------

    def _guarded(self, result: Result, work: Callable[[], None]) -> None:
        failed = False
        try:
            work()
        except StoreError:
            raise
        except BaseException as error:  # a method may raise anything, SystemExit included
            result.status, result.reason = verdict(error, self._phase)
            if not isinstance(error, DatasetError | MethodDeclined | InvalidDisplacement):
                traceback.print_exc(file=sys.stderr)
            failed = True
        # The frames of an exception may hold images in cycles, which would count as memory of the next case.
        if failed:
            gc.collect()

    def _enter(self, phase: str) -> None:
        self._phase = phase
        self._enter_phase(phase)

    def _register_and_score(self, case: Case, prealignment: Prealignment | None, result: Result) -> None:
        method = self._method(case, result)
        self._enter(READING)
        start = time.perf_counter()
        pair = self._pair(case)
        result.tags = dict(pair.tags)
        seen = prealigned(pair, prealignment)
        result.timing["read_s"] = time.perf_counter() - start
        displacement = self._register(method, seen, case, result)
        self._enter(EVALUATING)
        if prealignment is not None:
            displacement = displacement.then(prealignment.matrix)
        alignment = Alignment(pair, displacement, case.label_warp, case.threads)
        if case.keep_field:
            result.field_file = self._save_field(case, displacement)
            if displacement.inverse is not None:
                result.inverse_field_file = self._save_field(case, displacement.inverse, "inverse")
        score(alignment, case.metrics, result)
        if case.keep_picture:
            self._save_pictures(case, alignment)

    def _estimate(self, case: Case, result: Result) -> None:
        method: Any = self._method(case, result)
        self._enter(READING)
        pair = self._pair(case)
        self._enter(REGISTERING)
        with resources.Measurement(result.timing, result.memory):
            matrix = method.estimate(pair.blind())
        result.matrix = checked_matrix(matrix, pair.fixed.grid.ndim).tolist()

    def _method(self, case: Case, result: Result) -> Method:
        """The method of a case, built if the last case had another one; times of load and set-up in the result."""
        wanted = json.dumps([case.method_name, case.params, case.python], sort_keys=True)
        place = (case.method_name, case.python)
        if self._lodged is not None and not self._lodged.is_alive:
            self._built, self._loaded, self._lodged = None, None, None
        if self._built is None or self._built[0] != wanted:
            self._built = None
            if self._load_s is None or self._loaded != place:
                self._enter(LOADING)
                self._load_s, self._loaded = self._load(case), place
            # Checking parameters is regbench's own work, and is not counted as the method's.
            parameters = targets.method_parameters(case.method_name, case.params, f"methods.{case.method}")
            self._enter(SETTING_UP)
            method, self._setup_s = self._set_up(case, parameters)
            self._built = (wanted, method)
            self._is_first_call = True
        result.model = model_facts(self._built[1])
        result.timing |= {"load_s": self._load_s, "setup_s": self._setup_s}
        return self._built[1]

    def _load(self, case: Case) -> float:
        """Imports the method and the packages that its card names, here or in its own interpreter; the seconds."""
        if self._lodged is not None:
            self._lodged.close()
            self._lodged = None
        if case.python is not None:
            self._lodged = LodgedMethod(case.python, case.method_name, case.threads)
            return self._lodged.load()
        start = time.perf_counter()
        targets.method_class(case.method_name)
        for package in targets.method_card(case.method_name).packages:
            importlib.import_module(package.module)
        return time.perf_counter() - start

    def _set_up(self, case: Case, parameters: Mapping[str, Any]) -> tuple[Method, float]:
        """The prepared method, and the seconds that it took to build and prepare it."""
        if self._lodged is not None:
            return self._lodged, self._lodged.set_up(parameters)
        start = time.perf_counter()
        resources.limit_torch_threads(case.threads)
        method = targets.build_method(case.method_name, parameters)
        prepare = getattr(method, "prepare", None)
        if prepare is not None:
            prepare()
        return method, time.perf_counter() - start

    def _pair(self, case: Case) -> Pair:
        """The pair of a case under its condition."""
        from regbench.datasets.table import build_dataset

        wanted = json.dumps([case.dataset_name, case.dataset_parameters], sort_keys=True)
        if wanted not in self._datasets:
            self._datasets[wanted] = build_dataset(case.dataset_name, dict(case.dataset_parameters))
        return shifted_pair(
            self._datasets[wanted],
            case.pair,
            (case.condition_name, case.condition_parameters, case.condition_seed),
        )

    def _register(self, method: Method, seen: BlindPair, case: Case, result: Result) -> Displacement:
        """The checked displacement of the timed call of `register`."""
        card = targets.method_card(case.method_name, case.params)
        if seen.ndim not in card.dimensions:
            known = " and ".join(f"{n}-D" for n in card.dimensions)
            raise MethodDeclined(f"{card.name} handles {known} images; this pair is {seen.ndim}-D")
        resources.limit_torch_threads(case.threads)
        self._enter(REGISTERING)
        with _measurement(method, result.timing, result.memory, bool(card.programs)) as measurement:
            displacement = method.register(seen)
        if self._is_first_call:
            result.timing["first_call_s"] = result.timing["register_s"]
            self._is_first_call = False
        result.device = measurement.device
        displacement = checked_displacement(displacement, seen)
        if case.both_directions and displacement.inverse is None:
            displacement = dataclasses.replace(displacement, inverse=self._other_direction(method, seen, result))
        return displacement

    def _other_direction(self, method: Method, seen: BlindPair, result: Result) -> Displacement:
        """The displacement of a second, separately timed registration of the pair with its sides exchanged."""
        timing = resources.empty_timing()
        with _measurement(method, timing, resources.empty_memory()):
            other = method.register(exchanged(seen))
        result.timing["register_back_s"] = timing["register_s"]
        return checked_displacement(other, exchanged(seen))

    # -- files ----------------------------------------------------------------------------------------

    def _save_field(self, case: Case, displacement: Displacement, *direction: str) -> str:
        from regbench.files.fields import save_field

        # The key tells repeats apart, and names that differ in unsafe characters only.
        name = file_name(case.dataset, case.condition, case.pair["id"], case.method, case.key[7:15], *direction)
        path = self.folder / FIELDS / f"{name}.npz"
        save_field(path, displacement)
        return f"{FIELDS}/{path.name}"

    def _save_pictures(self, case: Case, alignment: Alignment) -> None:
        from regbench.pictures import save_pictures

        path = self.folder / PICTURES / f"{file_name(case.dataset, case.condition, case.pair['id'], case.method)}.npz"
        save_pictures(path, alignment)


def _measurement(
    method: Method, timing: dict[str, float | None], memory: dict[str, int | None], programs: bool = False
) -> resources.Measurement | MeasuredThere:
    """A measured block around `register`; a method in another interpreter is measured there."""
    if isinstance(method, LodgedMethod):
        return method.measurement(timing, memory)
    return resources.Measurement(timing, memory, programs)


def shifted_pair(dataset: Dataset, pair: Mapping[str, Any], shift: tuple[str, Mapping[str, Any], int]) -> Pair:
    """The pair of a dataset with a shift (name, parameters, seed) applied."""
    from regbench.datasets.protocol import PairRef
    from regbench.parameters import check_parameters
    from regbench.shifts.table import shift_class

    ref = PairRef(str(pair["id"]), str(pair["fixed"]), str(pair["moving"]), dict(pair["tags"]))
    name, parameters, seed = shift
    cls = shift_class(name)
    shifted: Pair = cls(**check_parameters(cls, parameters, f"conditions.{name}")).apply(dataset.load(ref), seed)
    return shifted


def model_facts(method: Method) -> dict[str, float]:
    """The size of a method's network, `model_parameters` and `model_mib`, where the method tells it."""
    told = getattr(method, "model_size", None)
    if told is None:
        return {}
    parameters, mib = told()
    return {"model_parameters": parameters, "model_mib": mib}


def exchanged(seen: BlindPair) -> BlindPair:
    """The pair with fixed and moving side exchanged."""
    return BlindPair(
        name=seen.name,
        fixed=seen.moving,
        moving=seen.fixed,
        fixed_mask=seen.moving_mask,
        moving_mask=seen.fixed_mask,
        fixed_keypoints=seen.moving_keypoints,
        moving_keypoints=seen.fixed_keypoints,
    )


def checked_displacement(displacement: object, seen: BlindPair) -> Displacement:
    """What `register` returned, if it is a displacement on the fixed grid; InvalidDisplacement otherwise."""
    if not isinstance(displacement, Displacement):
        raise InvalidDisplacement(f"register returned {type(displacement).__name__}, not a Displacement")
    if not displacement.grid.matches(seen.fixed.grid):
        raise InvalidDisplacement(
            f"the returned field is on another grid ({displacement.grid.describe()}) "
            f"than the fixed image ({seen.fixed.grid.describe()})"
        )
    return displacement


def score(alignment: Alignment, names: Any, result: Result) -> None:
    """Fills in the metrics of an alignment, their versions and the seconds that they took."""
    from regbench.metrics.evaluate import evaluate
    from regbench.metrics.table import METRICS

    start = time.perf_counter()
    # A metric may divide by an empty region; that is a NaN in its result, not a line in the log.
    with np.errstate(all="ignore"):
        result.metrics = dict(evaluate(alignment, list(names)))
    result.timing["evaluate_s"] = time.perf_counter() - start
    result.metric_versions = {name: METRICS[name].version for name in result.metrics}


def verdict(error: BaseException, phase: str) -> tuple[str, str]:
    """Status and reason of a case that ended with an exception."""
    if isinstance(error, MethodDeclined):
        return "skipped", _one_line(str(error))
    if isinstance(error, InvalidDisplacement):
        return "invalid", _one_line(str(error))
    if isinstance(error, MethodCrashed):
        return "crashed", _one_line(f"while {phase}: {error}; see the log")
    if is_out_of_memory(error):
        return "oom", _one_line(f"out of memory while {phase}: {error or type(error).__name__}")
    if isinstance(error, DatasetError) and phase == READING:
        return "failed", _one_line(str(error))
    if isinstance(error, MethodError):
        return "failed", _one_line(str(error))
    kind = "" if isinstance(error, RegbenchError) else f"{type(error).__name__}: "
    return "failed", _one_line(f"while {phase}: {kind}{error}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: of Python, numpy, torch on the CPU or on a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    # ITK and torch wrap a failed allocation in a RuntimeError.
    marks = ("out of memory", "bad_alloc", "can't allocate memory", "cannot allocate memory", "failed to allocate")
    return isinstance(error, RuntimeError | OSError) and any(mark in text for mark in marks)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 3] + "..."


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
