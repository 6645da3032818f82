"""Measures what the engine costs per case beside reading, registering and evaluating.

    python benchmarks/engine_overhead.py [CASES]

Runs the identity on tiny 2-D pairs in one warm worker, and takes from the time between two finished cases what
the row says was spent on reading, `register` and evaluation. What is left is the engine: the request, two
pipes, phases, the peak-memory reset, the row, its fsync, and the listener. The bar is 50 ms.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regbench.config import RunConfig
from regbench.files.images import write_image, write_labels
from regbench.plan import Case, Plan
from regbench.runner import run
from regbench.volume import Grid, Image, Labels

BAR_MS = 50.0


class Stopwatch:
    """A listener that notes the time between finished cases and the seconds that their rows account for."""

    def __init__(self) -> None:
        self.overheads_s: list[float] = []
        self.cases_s: list[float] = []
        self._last: float | None = None

    def plan_ready(self, plan: Plan, n_done: int) -> None: ...

    def case_started(self, case: Case) -> None: ...

    def case_finished(self, case: Case, row: Mapping[str, Any]) -> None:
        assert row["status"] == "ok", row["reason"]
        now = time.perf_counter()
        if self._last is not None:
            spent = sum(row["timing"][part] for part in ("read_s", "register_s", "evaluate_s"))
            self.cases_s.append(now - self._last)
            self.overheads_s.append(now - self._last - spent)
        self._last = now

    def message(self, text: str) -> None: ...


def write_pairs(folder: Path, n_pairs: int) -> Path:
    """A CSV of pairs of 48x40 pixels with 9 labels."""
    grid = Grid.from_spacing((48, 40), 2.0)
    rng = np.random.default_rng(0)
    lines = ["id,fixed,moving,fixed_labels,moving_labels"]
    for side in ("fixed", "moving"):
        write_labels(folder / f"{side}_labels.nii.gz", Labels(rng.integers(0, 10, grid.shape), grid))
    for index in range(n_pairs):
        names = [f"{index:03d}_{side}.nii.gz" for side in ("fixed", "moving")]
        for name in names:
            write_image(folder / name, Image(rng.random(grid.shape, np.float32), grid))
        lines.append(f"{index:03d},{','.join(names)},fixed_labels.nii.gz,moving_labels.nii.gz")
    path = folder / "pairs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def main(n_cases: int) -> int:
    """Prints the overhead per case in ms; 1 if its median is above the bar."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        config = RunConfig.model_validate(
            {
                "datasets": [{"csv": {"path": str(write_pairs(folder, n_cases))}}],
                "methods": ["identity"],
                "metrics": ["dice", "fold_percent", "ncc"],
                "keep": {"pictures": 0},
            }
        )
        stopwatch = Stopwatch()
        run(config, folder / "run", listener=stopwatch)
    overheads_ms = sorted(1000 * seconds for seconds in stopwatch.overheads_s)
    median, worst = statistics.median(overheads_ms), overheads_ms[-1]
    high = overheads_ms[int(0.95 * (len(overheads_ms) - 1))]
    each_ms = 1000 * statistics.median(stopwatch.cases_s)
    print(f"{len(overheads_ms)} cases in a warm worker, {each_ms:.1f} ms each (median)")
    print(f"engine overhead per case: median {median:.1f} ms, 95 % below {high:.1f} ms, largest {worst:.1f} ms")
    print(f"bar: {BAR_MS:g} ms: {'met' if median <= BAR_MS else 'NOT MET'}")
    return int(median > BAR_MS)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
