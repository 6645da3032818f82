"""CPU seconds and size of the report of a large run, made of synthetic rows.

    python benchmarks/report_size.py            # 10,000 rows: 10 methods, 10 conditions, 100 pairs
    python benchmarks/report_size.py --pairs 20 --pictures 12

Accuracy is drawn per method and pair; every tenth case of one method fails. Pictures are made for the first pairs of
each condition. Targets at 10,000 rows: under 20 s of CPU, under 8 MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from regbench.reports.derived import write_derived
from regbench.store import file_name

_LABELS = 35
_PLANE = (160, 192)


def rows(n_methods: int, n_conditions: int, n_pairs: int) -> Iterator[dict[str, Any]]:
    """Yields result rows of pairs that share subjects, one per method, condition and pair."""
    rng = np.random.default_rng(0)
    kinds = [("none", "none"), ("classical", "none"), ("learned", "image"), ("learned", "labels")]
    for m in range(n_methods):
        paradigm, supervision = kinds[0] if m == 0 else kinds[1 + m % 3]
        for c in range(n_conditions):
            for p in range(n_pairs):
                labels = np.clip(0.55 + 0.02 * m - 0.01 * c + rng.normal(0, 0.05, _LABELS), 0, 1)
                dice = {"mean": float(labels.mean()), "per_label": {str(i): float(v) for i, v in enumerate(labels, 1)}}
                is_failed = m == n_methods - 1 and p % 10 == 0
                metrics = {"dice": dice, "hd95_mm": {"mean": float(rng.gamma(4.0))}, "fold_percent": 0.01 * m}
                yield {
                    "key": f"{m}/{c}/{p}",
                    "run": "synthetic",
                    "dataset": "synthetic",
                    "condition": "none" if c == 0 else f"shift {c}",
                    "pair": {"id": f"p{p:03d}", "fixed": f"s{p}", "moving": f"s{(p + 1) % n_pairs}"},
                    "method": f"method-{m}",
                    "paradigm": paradigm,
                    "supervision": supervision,
                    "status": "timeout" if is_failed else "ok",
                    "reason": f"stopped after {p} s" if is_failed else None,
                    "metrics": {} if is_failed else metrics,
                    "timing": {"register_s": float(rng.gamma(2.0) * (m + 0.1))},
                    "memory": {"rss_peak_mib": 300 + m},
                }


def write_pictures(folder: Path, n_pictures: int, n_methods: int, n_conditions: int) -> None:
    """Writes pictures of the first pairs of each condition, noise that no picture format makes small."""
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for k in range(3):
        image = rng.random(_PLANE).astype(np.float32)
        arrays |= {f"fixed_{k}": image, f"moved_{k}": image, f"before_{k}": image[::-1], f"jacobian_{k}": image + 0.5}
        arrays |= {f"shift_{k}": rng.normal(0, 1, (*_PLANE, 2)).astype(np.float16), f"orientation_{k}": np.array("RA")}
    folder.mkdir()
    for c in range(n_conditions):
        for m in range(n_methods):
            for p in range(n_pictures):
                name = file_name("synthetic", "none" if c == 0 else f"shift {c}", f"p{p:03d}", f"method-{m}")
                np.savez(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]


def main() -> None:
    """Prints rows, CPU seconds and bytes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, default in (("methods", 10), ("conditions", 10), ("pairs", 100), ("pictures", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = list(rows(given.methods, given.conditions, given.pairs))
        (folder / "run.json").write_text(json.dumps({"schema": 1, "run": "synthetic", "name": "synthetic"}))
        (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
        if given.pictures:
            write_pictures(folder / "pictures", given.pictures, given.methods, given.conditions)
        start = resource.getrusage(resource.RUSAGE_SELF)
        outcome = write_derived(folder)
        end = resource.getrusage(resource.RUSAGE_SELF)
        seconds = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime
        size = (folder / "report.html").stat().st_size
        print(f"{len(made)} rows: {seconds:.1f} s of CPU, report {size / 1e6:.2f} MB, {len(outcome.files)} files")
        for problem in outcome.problems:
            print(problem)


if __name__ == "__main__":
    main()
