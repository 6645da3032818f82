"""Methods in another interpreter, which has numpy and nothing else: exactness, errors, measurements, whole runs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_interpreters import bare_python
from support_runs import METHODS_FILE, PYTHON_PATH, own, tiny_config, write_pairs

from regbench.contract import phantom
from regbench.displacement import Displacement
from regbench.errors import ConfigError, InvalidDisplacement, MethodCrashed, MethodDeclined, MethodError
from regbench.execution import is_out_of_memory, verdict
from regbench.lodging.host import LodgedMethod, error_of
from regbench.lodging.luggage import (
    pack_displacement,
    pack_pair,
    pack_parameters,
    unpack_displacement,
    unpack_pair,
    unpack_parameters,
)
from regbench.methods.linear import Moments
from regbench.pair import BlindPair
from regbench.runner import run
from regbench.store import read_run
from regbench.volume import Grid, Image, Labels, Landmarks


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(bare_python(tmp_path_factory.mktemp("bare")))


def _pair(name: str = "p") -> BlindPair:
    seen = phantom.shifted(2).blind()
    mask = Labels((seen.fixed.array > 0.3).astype(np.uint8) * 3, seen.fixed.grid)
    points = Landmarks(np.array([[1.0, 1 / 3], [np.pi, -5e-17]]))
    return BlindPair(name, seen.fixed, seen.moving, fixed_mask=mask, fixed_keypoints=points, moving_keypoints=points)


# -- what travels -----------------------------------------------------------------------------------------


def test_a_pair_arrives_as_it_left(tmp_path: Path) -> None:
    pair = _pair("a name, with \u00fcml\u00e4ut")
    there = unpack_pair(pack_pair(pair, tmp_path))
    assert there.name == pair.name and there.moving_mask is None
    for side in ("fixed", "moving"):
        sent, arrived = getattr(pair, side), getattr(there, side)
        np.testing.assert_array_equal(sent.array, arrived.array)
        np.testing.assert_array_equal(sent.grid.affine, arrived.grid.affine)
        np.testing.assert_array_equal(
            getattr(pair, f"{side}_keypoints").points_mm, getattr(there, f"{side}_keypoints").points_mm
        )
    assert pair.fixed_mask is not None and there.fixed_mask is not None
    np.testing.assert_array_equal(pair.fixed_mask.array, there.fixed_mask.array)
    assert there.fixed_mask.array.dtype == pair.fixed_mask.array.dtype


def test_a_displacement_arrives_with_its_inverse(tmp_path: Path) -> None:
    fixed, moving = phantom.grids(3)
    rng = np.random.default_rng(0)
    back = Displacement(rng.normal(size=(*moving.shape, 3)), moving)
    there = Displacement(rng.normal(size=(*fixed.shape, 3)), fixed, back)
    arrived = unpack_displacement(pack_displacement(there, tmp_path))
    np.testing.assert_array_equal(arrived.vectors_mm, there.vectors_mm)
    assert arrived.inverse is not None and arrived.inverse.grid.matches(moving, 0.0)
    np.testing.assert_array_equal(arrived.inverse.vectors_mm, back.vectors_mm)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(Path("a/b")),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text("abc"), inner),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(_VALUES)
def test_parameters_keep_their_types(values: Any) -> None:
    there = unpack_parameters(json.loads(json.dumps(pack_parameters(values))))
    assert there == values and repr(there) == repr(values)


def test_what_cannot_travel_is_named() -> None:
    with pytest.raises(ConfigError, match=r"methods.x.y: a Grid cannot be handed to another interpreter"):
        pack_parameters({"y": Grid.from_spacing((3, 3))}, "methods.x")


# -- the other interpreter --------------------------------------------------------------------------------


def test_all_of_regbench_that_methods_need_imports_numpy_only(python: str) -> None:
    code = (
        "import sys, regbench.lodging.guest, regbench.methods.table as t\n"
        "classes = [t.method_class(name) for name in t.CARDS]\n"
        "print(len(classes), 'numpy' in sys.modules)\n"
        "import scipy\n"
    )
    told = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": PYTHON_PATH}
    )
    assert told.stdout.split()[1:] == ["True"], told.stderr
    assert "No module named 'scipy'" in told.stderr, "the interpreter of this test is not as bare as it should be"


def test_the_result_is_that_of_this_interpreter(python: str) -> None:
    pair = _pair()
    with LodgedMethod(python, "moments") as method:
        assert method.load() >= 0 and method.set_up({}) >= 0
        there = method.register(pair)
        assert not hasattr(method, "model_size")
    np.testing.assert_array_equal(there.vectors_mm, Moments().register(pair).vectors_mm)
    assert there.grid.matches(pair.fixed.grid, 0.0)


def test_it_stays_alive_between_calls_and_ends_with_its_host(python: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with LodgedMethod(python, f"{METHODS_FILE}:Steady") as method:
        method.load()
        for seed in (1, 2):
            method.set_up({"trace": str(trace), "seed": seed})
            method.register(_pair("a"))
            method.register(_pair("b"))
        folder = Path(method._folder.name)
        assert [path.name for path in folder.iterdir()] == ["regbench"], "files of a pair stayed behind"
    lines = [line.split() for line in trace.read_text().splitlines()]
    assert [name for name, _ in lines] == ["a", "b", "a", "b"]
    (pid,) = {int(pid) for _, pid in lines}
    assert pid != os.getpid() and not Path(f"/proc/{pid}").exists()
    assert not folder.exists()


def test_the_size_of_a_model_is_told(python: str) -> None:
    with LodgedMethod(python, f"{METHODS_FILE}:Sized") as method:
        method.load()
        method.set_up({})
        assert method.model_size() == (1234, 0.5)


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("fails", MethodError, "the optimiser did not converge; use more iterations"),
        ("declines", MethodDeclined, "wants cubic voxels"),
        ("gives_nan", InvalidDisplacement, "NaN or infinite"),
        ("gives_an_array", InvalidDisplacement, "register returned ndarray, not a Displacement"),
        ("raises", RuntimeError, "no such\nluck"),
        ("exits_python", RuntimeError, "7"),
        ("wants_too_much", MemoryError, "Unable to allocate"),
        ("segfaults", MethodCrashed, "ended with SIGSEGV"),
        ("aborts", MethodCrashed, "ended with SIGABRT"),
        ("exits_at_once", MethodCrashed, "ended with exit code 7"),
        ("is_killed", MemoryError, "most likely by the out-of-memory killer"),
    ],
)
def test_errors_keep_their_class_and_words_and_the_next_call_works(
    python: str, how: str, error: type[BaseException], words: str
) -> None:
    with LodgedMethod(python, f"{METHODS_FILE}:Misbehaving") as method:
        method.load()
        method.set_up({})
        with pytest.raises(error) as caught:
            method.register(_pair(how))
        assert words in str(caught.value)
        if not method.is_alive:
            method.load()
            method.set_up({})
        assert method.register(_pair("good")).max_mm == 0


def test_errors_of_packages_that_are_not_here_keep_their_name() -> None:
    error = error_of({"class": "OutOfMemoryError", "message": "CUDA out of memory", "is_ours": False})
    assert is_out_of_memory(error)
    assert verdict(error_of({"class": "KeyError", "message": "'x'", "is_ours": False}), "registering") == (
        "failed",
        "while registering: KeyError: 'x'",
    )
    # A class of the method's own that is called like one of regbench's is not one of regbench's.
    assert not isinstance(error_of({"class": "MethodDeclined", "message": "", "is_ours": False}), MethodDeclined)


def test_an_interpreter_that_cannot_host_says_why(tmp_path: Path) -> None:
    bare = bare_python(tmp_path)
    (tmp_path / "packages" / "numpy").unlink()
    with pytest.raises(MethodError, match=r"ended with exit code 1 before it could load moments; it needs .* numpy"):
        LodgedMethod(str(bare), "moments").load()
    with pytest.raises(MethodError, match=r"no-such cannot be started: No such file"):
        LodgedMethod(str(tmp_path / "no-such"), "moments").load()


def test_what_counts_is_measured_there(python: str) -> None:
    grid = Grid.from_spacing((128, 128, 64))
    image = Image(np.random.default_rng(0).normal(size=grid.shape), grid)
    timing: dict[str, float | None] = {"register_s": None, "read_s": 1.0}
    memory: dict[str, int | None] = {}
    with LodgedMethod(python, f"{METHODS_FILE}:UsesMemory") as method:
        method.load()
        method.set_up({"mib": 120})
        with method.measurement(timing, memory) as measured:
            method.register(BlindPair("p", image, image))
    assert measured.device == "cpu" and timing["read_s"] == 1.0
    assert memory["rss_peak_mib"] is not None and memory["rss_before_mib"] is not None
    assert 115 <= memory["rss_peak_mib"] - memory["rss_before_mib"] <= 160
    assert timing["register_s"] is not None and timing["cpu_s"] is not None and timing["register_s"] > 0


# -- whole runs -------------------------------------------------------------------------------------------


def _elsewhere(python: str, name: str, **parameters: Any) -> dict[str, Any]:
    return {**own(name, **parameters), "python": python}


def test_a_run_with_another_interpreter(python: str, tmp_path: Path) -> None:
    csv = write_pairs(tmp_path, ["a", "talks", "b"])
    trace = tmp_path / "trace"
    methods = [_elsewhere(python, "Steady", trace=str(trace)), _elsewhere(python, "Misbehaving"), own("Steady", "here")]
    outcome = run(tiny_config(csv, methods, both_directions=True), tmp_path / "run")
    assert (outcome.n_cases, outcome.n_ok) == (9, 9)
    record = read_run(tmp_path / "run")
    pids = {line.split()[1] for line in trace.read_text().splitlines()}
    assert len(pids) == 1, "the interpreter was started once, for all pairs and both directions"
    for row in record.rows:
        timing = row["timing"]
        assert min(timing["load_s"], timing["setup_s"], timing["register_s"], timing["register_back_s"]) >= 0
        assert row["memory"]["rss_peak_mib"] >= row["memory"]["rss_before_mib"] > 10
    there, here = record.rows[0], record.rows[6]
    # The worker has read images with nibabel and scored them; the other interpreter has numpy.
    assert there["memory"]["rss_before_mib"] < here["memory"]["rss_before_mib"]
    assert there["metrics"] == here["metrics"] and there["method_version"] == here["method_version"]
    log = (tmp_path / "run" / "logs" / "misbehaving.log").read_text()
    for words in ("said in Python", "said by a program", "said to descriptor 1"):
        assert words in log
    assert record.run["interpreters"]["steady"]["path"] == python
    assert record.run["interpreters"]["steady"]["versions"]["numpy"] == np.__version__


def test_what_dies_there_is_a_row_and_harms_no_other(python: str, tmp_path: Path) -> None:
    names = ["segfaults", "after", "is_killed", "later", "declines", "sleeps", "last"]
    config = tiny_config(
        write_pairs(tmp_path, names), [_elsewhere(python, "Misbehaving")], engine={"timeout_s": 3.0, "threads": 1}
    )
    run(config, tmp_path / "run")
    rows = {row["pair"]["id"]: row for row in read_run(tmp_path / "run").rows}
    assert {name: row["status"] for name, row in rows.items()} == {
        **{"segfaults": "crashed", "after": "ok", "is_killed": "oom", "later": "ok"},
        **{"declines": "skipped", "sleeps": "timeout", "last": "ok"},
    }
    assert "ended with SIGSEGV" in rows["segfaults"]["reason"]
    assert rows["after"]["timing"]["load_s"] >= 0


def test_a_limit_of_memory_holds_there_too(python: str, tmp_path: Path) -> None:
    config = tiny_config(
        write_pairs(tmp_path, ["grows"]), [_elsewhere(python, "Misbehaving")], engine={"memory_mib": 200, "threads": 1}
    )
    run(config, tmp_path / "run")
    (row,) = read_run(tmp_path / "run").rows
    assert row["status"] == "oom" and "more than the limit of 200 MiB" in row["reason"]


def test_a_worker_that_is_killed_takes_the_other_interpreter_along(python: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    method = _elsewhere(python, "Steady", trace=str(trace), seconds=60.0)
    run(tiny_config(write_pairs(tmp_path, ["a"]), [method], engine={"timeout_s": 3.0}), tmp_path / "run")
    (row,) = read_run(tmp_path / "run").rows
    assert row["status"] == "timeout" and "still registering" in row["reason"]
    pid = int(trace.read_text().split()[1])
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
