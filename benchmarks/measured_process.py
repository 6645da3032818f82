"""A contender in a process of its own: CPU seconds, wall seconds and peak memory of each of its stages.

    python benchmarks/measured_process.py CONTENDER CASE_FOLDER OUT_FOLDER [THREADS]

runs the stages once on a tiny case, so that imports and lookup tables are not counted, then once on the case. CPU
seconds are user and system. Memory is the peak of the resident set during a stage beyond what was resident before the
first one: the inputs, in the types of the contender, and its library.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from brain_case import load_case, make_case
from contenders import CONTENDERS, WITH_FIELDS, Result, Stages

from regbench.resources import memory_mib, peak_mib, reset_peak, worker_environment

Measured = dict[str, dict[str, Any]]

_TINY = ((40, 36, 44), 5)


def measure(contender: str, case: Path, threads: int = 1, label_map: Path | None = None) -> Measured:
    """Per stage cpu_s, wall_s, peak_mib and result, in a fresh process.

    A label map among the results is written to `label_map`, if given. Raises RuntimeError if the contender fails.
    """
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        command = [sys.executable, __file__, contender, str(case), name, str(threads)]
        environment = worker_environment(os.environ, threads, 0, out)
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{contender} failed:\n{done.stderr}")
        if label_map is not None and (out / "labels.npy").is_file():
            label_map.write_bytes((out / "labels.npy").read_bytes())
        return json.loads((out / "measured.json").read_text())


def run_stages(stages: Stages) -> tuple[Measured, dict[str, Result]]:
    """What each stage cost, and its result."""
    give_back_memory()
    before = memory_mib("VmRSS") or 0
    costs: Measured = {}
    results: dict[str, Result] = {}
    for stage, work in stages.items():
        reset_peak()
        cpu, wall = time.process_time(), time.perf_counter()
        results[stage] = work()
        costs[stage] = {
            "cpu_s": time.process_time() - cpu,
            "wall_s": time.perf_counter() - wall,
            "peak_mib": (peak_mib() or 0) - before,
        }
    return costs, results


def give_back_memory() -> None:
    """Hands freed memory back to the system where the C library can; a stage that used it again would look small."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def main(contender: str, folder: str, out: str, threads: str = "1") -> None:
    stages_of = CONTENDERS[contender]
    for work in stages_of(make_case(*_TINY), int(threads)).values():
        work()
    costs, results = run_stages(stages_of(load_case(Path(folder), fields=contender in WITH_FIELDS), int(threads)))
    for stage, result in results.items():
        if isinstance(result, np.ndarray):
            np.save(Path(out) / "labels.npy", result.astype(np.int32))
        else:
            costs[stage]["result"] = result
    (Path(out) / "measured.json").write_text(json.dumps(costs))


if __name__ == "__main__":
    main(*sys.argv[1:])
