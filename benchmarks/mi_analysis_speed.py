"""What `regbench mi-analysis` costs beside reading: `python benchmarks/mi_analysis_speed.py`.

One subject of brain size, made here (or a real one: `--data real`), written uncompressed and as `.nii.gz`. CPU seconds
per subject of this process on one thread, best of some repeats taken in turn: reading the two files, the main numbers
(all histograms with every number of bins, binning, mask and merging), the borders, and everything as the command does
it, reading included. The ratio is that to reading.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from brain_case import N_LABELS, SHAPE, make_case

from regbench.datasets.label_sets import LabelSet
from regbench.files.images import read_image, read_labels, write_image, write_labels
from regbench.information import subject as module
from regbench.information.borders import Borders
from regbench.information.subject import NamedLabels, Scan, Settings, measure
from regbench.volume import Image, Labels

_SETS = (NamedLabels("as in the files", LabelSet({})),)


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time per subject of mi-analysis against reading its files.")
    parser.add_argument("--shape", type=int, nargs="+", default=list(SHAPE))
    parser.add_argument("--labels", type=int, default=N_LABELS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", choices=["made", "real"], default="made", help="real: below $REGBENCH_DATA")
    options = parser.parse_args()
    image, labels = _real() if options.data == "real" else _made(tuple(options.shape), options.labels)
    print(f"{image.grid.describe()}, {len(labels.values)} labels")
    with tempfile.TemporaryDirectory() as name:
        for suffix in (".nii", ".nii.gz"):
            paths = Path(name) / f"image{suffix}", Path(name) / f"labels{suffix}"
            write_image(paths[0], image)
            write_labels(paths[1], labels)
            report(suffix, paths, options.repeats)


def _made(shape: tuple[int, ...], n_labels: int) -> tuple[Image, Labels]:
    pair = make_case(shape, n_labels)[0]
    assert pair.fixed_labels is not None
    return pair.fixed, pair.fixed_labels


def _real() -> tuple[Image, Labels]:
    folder = Path(os.environ["REGBENCH_DATA"]) / "neurite_oasis" / "OASIS_OAS1_0001_MR1"
    return read_image(folder / "aligned_norm.nii.gz"), read_labels(folder / "aligned_seg35.nii.gz")


def report(suffix: str, paths: tuple[Path, Path], repeats: int) -> None:
    """Prints the CPU seconds of each part and their ratio to reading."""
    image, labels = _read(paths)
    parts: dict[str, Callable[[], object]] = {
        "reading both files": lambda: _read(paths),
        "main numbers alone": lambda: _without_borders(image, labels),
        "everything but reading": lambda: list(measure(Scan("made", image, labels), _SETS, Settings())),
        "reading and main numbers": lambda: _without_borders(*_read(paths)),
        "reading and everything": lambda: list(measure(Scan("made", *_read(paths)), _SETS, Settings())),
        "reading and everything, --full": lambda: list(
            measure(Scan("made", *_read(paths)), _SETS, Settings(every_face=True))
        ),
    }
    best = dict.fromkeys(parts, float("inf"))
    for _ in range(repeats):
        for name, work in parts.items():
            started = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - started)
    for name, seconds in best.items():
        ratio = seconds / best["reading both files"]
        print(f"{suffix:8s} {name:32s} {seconds:7.3f} s CPU   {ratio:5.2f} x reading", flush=True)


def _read(paths: tuple[Path, Path]) -> tuple[Image, Labels]:
    return read_image(paths[0]), read_labels(paths[1])


def _without_borders(image: Image, labels: Labels) -> None:
    nothing = Borders(0.0, 0.0, 0.0, 0.0, {})
    with patch.object(module, "border_visibility", lambda *_: nothing):
        list(measure(Scan("made", image, labels), _SETS, Settings()))


if __name__ == "__main__":
    main()
