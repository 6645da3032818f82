"""Time and memory of every metric on a pair of brain size, without any data: `python benchmarks/evaluator.py`.

First each shared step and each metric alone, on what the shared steps have left: CPU seconds of this process on one
thread, the best of some repeats, because the wall time of a busy machine says little, and the peak of what the call
allocated (numpy only). A metric that rests on work which it shares with others is charged with all of it here.

Then whole sets, each in one call in fresh processes: CPU seconds, and the peak of resident memory beyond the inputs;
and with two threads the wall time beside that with one, alternating, and whether all values are equal to the last bit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from brain_case import N_LABELS, SHAPE, Case, make_case, real_case, save_case
from measured_process import measure as measure_process

from regbench.alignment import Alignment
from regbench.metrics.evaluate import evaluate, has
from regbench.metrics.table import METRICS
from regbench.volume import Labels

SHARED = ("moved_image", "moved_labels", "foreground", "scored_labels")
SETS = ("learn2reg set", "standard set", "full set")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of every metric on a pair of brain size.")
    parser.add_argument("--shape", type=int, nargs="+", default=list(SHAPE))
    parser.add_argument("--labels", type=int, default=N_LABELS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rough-mm", type=float, default=0.9, help="size of the rough part of the field")
    parser.add_argument("--turn-degrees", type=float, default=0.0, help="turn the result away, to align it badly")
    parser.add_argument("--data", choices=["made", "real"], default="made", help="real: below $REGBENCH_DATA")
    parser.add_argument("--threads", type=int, default=2, help="threads to compare with one")
    options = parser.parse_args()
    if options.data == "real":
        case = real_case(Path(os.environ["REGBENCH_DATA"]))
    else:
        case = make_case(tuple(options.shape), options.labels, options.rough_mm, options.turn_degrees)
    print(f"{case[0].fixed.grid.describe()}, {len(Alignment(*case).scored_labels)} labels scored")
    report_metrics(case, options.repeats)
    report_sets(case, options.repeats, options.threads)


def report_metrics(case: Case, repeats: int) -> None:
    """Prints time and memory of each shared step from nothing, and of each metric after them."""
    for step in SHARED:
        seconds, mib, _ = measure(case, {}, attrgetter(step), repeats)
        print(f"{step:20s} {seconds:7.3f} s CPU {mib:8.1f} MiB", flush=True)
    known = {step: getattr(Alignment(*case), step) for step in SHARED}
    for name, metric in METRICS.items():
        if metric.function is not None and all(has(Alignment(*case), need) for need in metric.needs):
            call = partial(_value, name)
            seconds, mib, value = measure(case, known, call, repeats)
            print(f"{name:20s} {seconds:7.3f} s CPU {mib:8.1f} MiB  {value:.6g} {metric.unit}", flush=True)


def _value(name: str, alignment: Alignment) -> float:
    found = evaluate(alignment, [name])[name]
    return found["mean"] if isinstance(found, dict) else found


def report_sets(case: Case, repeats: int, threads: int) -> None:
    """Prints time and memory of whole sets, in fresh processes, with one and with more threads."""
    with tempfile.TemporaryDirectory() as name:
        save_case(case, Path(name))
        for whole in SETS:
            contender = f"regbench {whole.removesuffix(' set')}"
            runs: dict[int, list[dict[str, Any]]] = {1: [], threads: []}
            for _ in range(repeats):
                for n, costs in runs.items():
                    costs.append(measure_process(contender, Path(name), n)[whole])
            for n, costs in runs.items():
                least, typical = (f(cost["cpu_s"] for cost in costs) for f in (min, statistics.median))
                wall, peak = min(cost["wall_s"] for cost in costs), max(cost["peak_mib"] for cost in costs)
                equal = "" if costs[0]["result"] == runs[1][0]["result"] else "; VALUES DIFFER FROM ONE THREAD"
                print(
                    f"{whole}, {n} threads: {least:.3f} s CPU (median {typical:.3f}), "
                    f"{wall:.3f} s wall, {peak} MiB beyond the inputs{equal}",
                    flush=True,
                )


def measure(
    case: Case, known: Mapping[str, Any], call: Callable[[Alignment], Any], repeats: int
) -> tuple[float, float, Any]:
    """Best CPU seconds, peak of allocated MiB (in a run of its own, since counting costs time), and the result.

    Every run has an alignment of its own that starts with what is `known`, and remembers nothing else.
    """
    seconds = []
    for _ in range(repeats):
        alignment = _fresh(case, known)
        start = time.process_time()
        call(alignment)
        seconds.append(time.process_time() - start)
    alignment = _fresh(case, known)
    tracemalloc.start()
    result = call(alignment)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return min(seconds), peak, result


def _fresh(case: Case, known: Mapping[str, Any]) -> Alignment:
    pair, displacement = case
    assert pair.fixed_labels and pair.moving_labels
    # Label maps remember the values that occur in them.
    fixed, moving = (Labels(labels.array, labels.grid) for labels in (pair.fixed_labels, pair.moving_labels))
    alignment = Alignment(replace(pair, fixed_labels=fixed, moving_labels=moving), displacement)
    vars(alignment).update(known)
    return alignment


if __name__ == "__main__":
    main()
