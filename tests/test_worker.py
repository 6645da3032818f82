"""The worker process: its environment, its end with its parent, and what it reports."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support_runs import own, tiny_config, write_pairs

from regbench.errors import DatasetError, InvalidDisplacement, MethodDeclined
from regbench.execution import Session, is_out_of_memory, verdict
from regbench.plan import Case, make_plan
from regbench.prealign import Prealignment, checked_matrix, prealigned
from regbench.resources import (
    Measurement,
    empty_memory,
    empty_timing,
    memory_mib,
    peak_mib,
    reset_peak,
    worker_environment,
)


def _case(folder: Path, method: Any = None, **others: Any) -> Case:
    return make_plan(tiny_config(write_pairs(folder, ["a"]), [method or own("Steady")], **others)).cases[0]


# -- a session, in this process -------------------------------------------------------------------------


def test_a_session_tells_its_phases_and_builds_a_method_once(tmp_path: Path) -> None:
    phases: list[str] = []
    session = Session(tmp_path, phases.append)
    case = _case(tmp_path, own("SlowToPrepare"))
    first = session.run(case)
    assert phases == ["loading", "setting up", "reading", "registering", "evaluating"]
    assert first.status == "ok" and first.started.endswith("Z")
    phases.clear()
    second = session.run(case)
    assert phases == ["reading", "registering", "evaluating"]
    assert second.timing["setup_s"] == first.timing["setup_s"]
    assert second.timing["setup_s"] is not None and second.timing["setup_s"] >= 0.2


def test_other_parameters_are_another_method(tmp_path: Path) -> None:
    session = Session(tmp_path, lambda phase: None)
    still, moved = (_case(tmp_path, own("Translation", by_mm=by)) for by in (0.0, 2.0))
    dice = [session.run(case).metrics["dice"]["mean"] for case in (still, moved, still)]
    assert dice[0] == dice[2] < dice[1] == 1.0


def test_a_pair_of_the_wrong_dimension_is_declined(tmp_path: Path) -> None:
    method = tmp_path / "volumes.py"
    method.write_text(
        "from dataclasses import dataclass\nfrom regbench.methods.card import Card\n"
        "@dataclass\nclass Volumes:\n"
        "    card = Card('volumes', 'x:y', 's', 'classical', 'none', 'rigid', '', '', dimensions=(3,))\n"
        "    def register(self, pair): ...\n"
    )
    case = _case(tmp_path, {"name": f"{method}:Volumes", "label": "v", "parameters": {}})
    result = Session(tmp_path, lambda phase: None).run(case)
    assert (result.status, result.reason) == ("skipped", "volumes handles 3-D images; this pair is 2-D")


class _OutOfMemoryError(RuntimeError):
    pass


_OutOfMemoryError.__name__ = "OutOfMemoryError"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MethodDeclined("no"), "skipped"),
        (InvalidDisplacement("nan"), "invalid"),
        (MemoryError(), "oom"),
        (_OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "oom"),
        (RuntimeError("std::bad_alloc"), "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "oom"),
        (RuntimeError("shapes do not match"), "failed"),
        (DatasetError("no file"), "failed"),
        (KeyError("x"), "failed"),
    ],
)
def test_errors_become_statuses(error: BaseException, status: str) -> None:
    assert verdict(error, "registering")[0] == status
    assert is_out_of_memory(error) == (status == "oom")


def test_reasons_are_one_line_of_readable_length() -> None:
    reason = verdict(ValueError("a\n\n  b" + "c" * 5000), "registering")[1]
    assert reason.startswith("while registering: ValueError: a bc") and len(reason) == 400


# -- pre-alignment --------------------------------------------------------------------------------------


def test_the_composed_field_equals_resampling_once_through_matrix_and_field(tmp_path: Path) -> None:
    """The identity on a pair that was pre-aligned by T scores as T itself does."""
    case = _case(tmp_path, own("Translation", by_mm=0.0))
    shift = np.eye(3)
    shift[0, 2] = 2.0
    session = Session(tmp_path, lambda phase: None)
    result = session.run(case, Prealignment("moments", 0.1, shift))
    assert result.metrics["dice"]["mean"] == 1.0
    assert result.prealign == {"kind": "moments", "seconds": 0.1, "matrix": shift.tolist()}
    beside = session.run(_case(tmp_path, own("Translation", by_mm=2.0)), Prealignment("moments", 0.1, shift))
    assert beside.metrics["dice"]["mean"] < 1.0


def test_a_method_sees_the_moving_side_brought_onto_the_fixed_grid() -> None:
    from regbench.pair import Pair
    from regbench.volume import Grid, Image, Labels, Landmarks

    fixed, moving = Grid.from_spacing((6, 5), 1.0), Grid.from_spacing((12, 10), 1.0)
    array = np.random.default_rng(0).normal(size=moving.shape) - 5
    matrix = np.array([[1.0, 0.0, 3.0], [0.0, 1.0, 2.0], [0.0, 0.0, 1.0]])
    pair = Pair(
        "p",
        Image(np.zeros(fixed.shape), fixed),
        Image(array, moving),
        moving_mask=Labels(np.ones(moving.shape, int), moving),
        moving_keypoints=Landmarks(np.array([[4.0, 4.0]])),
        fixed_keypoints=Landmarks(np.array([[1.0, 2.0]])),
    )
    seen = prealigned(pair, Prealignment("affine", 1.0, matrix))
    assert seen.moving.grid is fixed
    np.testing.assert_allclose(seen.moving.array, array[3:9, 2:7], rtol=1e-5)
    assert seen.moving_keypoints is not None and seen.fixed_keypoints is not None
    np.testing.assert_allclose(seen.moving_keypoints.points_mm, seen.fixed_keypoints.points_mm)
    assert seen.moving_mask is not None and seen.moving_mask.grid is fixed
    assert prealigned(pair, None).moving is pair.moving
    far = np.array([[1.0, 0.0, 9.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    beyond = prealigned(pair, Prealignment("affine", 1.0, far)).moving.array[4:]
    np.testing.assert_array_equal(beyond, np.float32(array.min()))


@pytest.mark.parametrize("matrix", [np.eye(4), np.full((3, 3), np.nan), np.zeros((3, 3)), None])
def test_an_estimate_that_is_no_affine_is_refused(matrix: Any) -> None:
    from regbench.errors import MethodError

    with pytest.raises((MethodError, TypeError)):
        checked_matrix(matrix, 2)


# -- resources --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_peak_of_memory_is_reset() -> None:
    np.ones(100 << 17).sum()
    high, low = peak_mib(), memory_mib("VmRSS")
    reset_peak()
    after = peak_mib()
    assert high is not None and low is not None and after is not None
    assert high >= low + 90 and after < high - 80


def test_a_gpu_that_is_in_use_is_named_and_its_peak_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        reset_peak_memory_stats=lambda: calls.append("reset"),
        max_memory_allocated=lambda: 300 << 20,
        get_device_name=lambda: "Some GPU",
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    timing, memory = empty_timing(), empty_memory()
    with Measurement(timing, memory) as measurement:
        calls.append("work")
    assert calls == ["reset", "work"] and measurement.device == "cuda Some GPU" and memory["gpu_peak_mib"] == 300
    cuda.is_initialized = lambda: False
    with Measurement(timing, memory) as measurement:
        pass
    assert measurement.device == "cpu"


def test_processor_time_counts_children_and_is_measured_where_the_call_fails() -> None:
    timing = empty_timing()
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    with pytest.raises(ValueError, match="late"), Measurement(timing, empty_memory()):
        subprocess.run([sys.executable, "-c", burn], check=True)
        raise ValueError("late")
    assert timing["cpu_s"] is not None and timing["cpu_s"] >= 0.29
    assert timing["register_s"] is not None and timing["register_s"] >= 0.29


def test_the_environment_of_a_worker(tmp_path: Path) -> None:
    environment = worker_environment({"PYTHONPATH": "mine", "HOME": "h"}, 3, 0, tmp_path)
    assert environment["OMP_NUM_THREADS"] == environment["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "3"
    assert environment["ANTS_RANDOM_SEED"] == "1", "ANTs takes 0 for a seed by the clock"
    assert environment["PYTHONPATH"].endswith(os.pathsep + "mine") and environment["HOME"] == "h"
    assert environment["TMPDIR"] == str(tmp_path)


# -- the process --------------------------------------------------------------------------------------------


class _Worker:
    """A worker process that the test starts and talks to itself."""

    def __init__(self, folder: Path) -> None:
        theirs, self.requests = os.pipe()
        self.answers, to_us = os.pipe()
        command = [sys.executable, "-m", "regbench.worker", str(theirs), str(to_us), str(os.getpid()), str(folder)]
        environment = worker_environment(os.environ, 1, 0, folder)
        with (folder / "worker.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, pass_fds=(theirs, to_us), stdout=log, stderr=log, env=environment, start_new_session=True
            )
        os.close(theirs)
        os.close(to_us)

    def ask(self, case: Case, do: str = "run") -> None:
        request = {"do": do, "case": case.as_json(), "prealign": None}
        os.write(self.requests, json.dumps(request).encode() + b"\n")

    def hear(self, until: str, seconds: float = 20.0) -> list[dict[str, Any]]:
        """Messages up to the first that has the key or the phase `until`."""
        heard, buffer, deadline = [], b"", time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not select.select([self.answers], [], [], 0.1)[0]:
                continue
            part = os.read(self.answers, 1 << 16)
            assert part, (until, heard)
            buffer += part
            *lines, buffer = buffer.split(b"\n")
            heard += [json.loads(line) for line in lines]
            if any(until in message or message.get("phase") == until for message in heard):
                return heard
        raise AssertionError(f"never heard {until}: {heard}")


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    started = _Worker(tmp_path)
    yield started
    if started.process.poll() is None:
        os.killpg(started.process.pid, signal.SIGKILL)
    started.process.wait()


def test_a_worker_answers_in_strict_json_and_ends_with_its_pipe(tmp_path: Path, worker: _Worker) -> None:
    worker.ask(_case(tmp_path))
    *phases, last = worker.hear("result")
    assert [message["phase"] for message in phases][-2:] == ["registering", "evaluating"]
    assert last["result"]["status"] == "ok" and last["result"]["memory"]["rss_peak_mib"] > 10
    os.close(worker.requests)
    assert worker.process.wait(timeout=10) == 0


def test_an_estimate_is_a_matrix(tmp_path: Path, worker: _Worker) -> None:
    worker.ask(_case(tmp_path, "moments"), do="estimate")
    result = worker.hear("result")[-1]["result"]
    assert result["status"] == "ok", result["reason"]
    # The moving blob lies one voxel of 2 mm further along the first axis.
    np.testing.assert_allclose(result["matrix"], [[1, 0, 2], [0, 1, 0], [0, 0, 1]], atol=0.6)


def test_everything_that_a_worker_started_ends_when_its_supervisor_is_gone(tmp_path: Path, worker: _Worker) -> None:
    """The parent lives on here: it is the guard that notices the closed pipe while the method hangs."""
    csv = write_pairs(tmp_path, ["leaves_a_child"])
    worker.ask(make_plan(tiny_config(csv, [own("Misbehaving")])).cases[0])
    worker.hear("registering")
    time.sleep(0.2)
    assert _group(worker.process.pid) >= 3, "worker, guard and the child of the method"
    os.close(worker.requests)
    assert worker.process.wait(timeout=10) == -signal.SIGKILL
    deadline = time.monotonic() + 5
    while _group(worker.process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _group(worker.process.pid) == 0


def _group(leader: int) -> int:
    """The number of living processes in a process group."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        found += group == str(leader) and state != "Z"
    return found
