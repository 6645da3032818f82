"""Measures the released networks against what their authors' code was measured to need: CPU seconds and peak memory.

    REGBENCH_WEIGHTS=... python benchmarks/released_networks.py [METHOD ...]

Each network registers the same made pair of 160x192x224 voxels twice, in a worker process of its own with one thread;
the second call counts, weights and imports are not in it. The figures of the released code
were measured with one thread on a machine of the same kind, but not in the same run: trust their seconds to a third,
their memory to a few percent. Memory is the largest resident memory of the process, libraries included.
$REGBENCH_WEIGHTS is a folder of the released files; which file a method wants is found by its sha256.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regbench.cli import invoke
from regbench.files.images import write_image, write_labels
from regbench.methods.weights_table import WEIGHTS
from regbench.volume import Grid, Image, Labels

SHAPE = (160, 192, 224)
# Left, inferior, anterior, as neurite-OASIS: what the networks were trained on, so that nothing is resampled.
GRID = Grid(SHAPE, np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]]))
# CPU seconds and MiB of the released code for one pair; none where they were not measured.
RELEASED: dict[str, tuple[str, float, float | None]] = {
    "symnet-oasis": ("symnet-oasis", 19.0, 2800.0),
    "voxelmorph-2018": ("voxelmorph-2018-vm2-cc", 11.0, 3400.0),
    "lku-net": ("lku-net-3d-ixi", 7.0, None),
    "lessnet": ("lessnet-3d-ixi-16", 8.5, None),
    "lapirn-disp-oasis": ("lapirn-disp-oasis", 16.0, 4300.0),
    "clapirn-oasis": ("clapirn-oasis", 9.0, None),
}


def main(names: list[str]) -> None:
    """Prints one line per network: CPU seconds and MiB, those of the released code, and the ratios."""
    if "REGBENCH_WEIGHTS" not in os.environ:
        raise SystemExit("REGBENCH_WEIGHTS is not set: give the folder of the released files")
    files = _by_hash(Path(os.environ["REGBENCH_WEIGHTS"]))
    wanted = names or list(RELEASED)
    with tempfile.TemporaryDirectory() as folder:
        rows = _run(Path(folder), {name: files[WEIGHTS[RELEASED[name][0]].sha256] for name in wanted})
    print(f"{'method':20} {'CPU s':>7} {'released':>9} {'ratio':>6} {'MiB':>6} {'released':>9} {'ratio':>6}")
    for name in wanted:
        _, released_s, released_mib = RELEASED[name]
        cpu_s, mib = rows[name]["timing"]["cpu_s"], rows[name]["memory"]["rss_peak_mib"]
        memory = f"{released_mib:9.0f} {mib / released_mib:6.2f}" if released_mib else f"{'-':>9} {'-':>6}"
        print(f"{name:20} {cpu_s:7.1f} {released_s:9.1f} {cpu_s / released_s:6.2f} {mib:6.0f} {memory}")


def _by_hash(folder: Path) -> dict[str, Path]:
    return {hashlib.sha256(p.read_bytes()).hexdigest(): p for p in sorted(folder.rglob("*")) if p.is_file()}


def _run(folder: Path, weights: Mapping[str, Path]) -> dict[str, Mapping[str, Any]]:
    """The row of the second call of each method."""
    from brain_case import make_case

    pair, _ = make_case(SHAPE, 35)
    assert pair.fixed_labels
    assert pair.moving_labels
    for name, image in (("fixed", pair.fixed), ("moving", pair.moving)):
        write_image(folder / f"{name}.nii.gz", Image(image.array, GRID))
    for name, labels in (("fixed_labels", pair.fixed_labels), ("moving_labels", pair.moving_labels)):
        write_labels(folder / f"{name}.nii.gz", Labels(labels.array, GRID))
    with (folder / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "fixed", "moving", "fixed_labels", "moving_labels"])
        table.writerow(["made", *(f"{n}.nii.gz" for n in ("fixed", "moving", "fixed_labels", "moving_labels"))])
    config = {
        "name": "released",
        "datasets": ["pairs.csv"],
        "methods": [{name: {"weights": str(path)}} for name, path in weights.items()],
        "metrics": ["dice"],
        "repeats": 2,
        "engine": {"threads": 1},
    }
    (folder / "config.yaml").write_text(json.dumps(config))
    if invoke(["run", str(folder / "config.yaml"), "-o", str(folder / "run")]) != 0:
        raise SystemExit("a network failed; see above")
    rows = [json.loads(line) for line in (folder / "run" / "results.jsonl").read_text().splitlines()]
    return {row["method"]: row for row in sorted(rows, key=lambda row: row["repeat"])}


if __name__ == "__main__":
    main(sys.argv[1:])
