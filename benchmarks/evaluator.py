"""Time and memory of every metric on a pair of brain size, without any data: `python benchmarks/evaluator.py`.

The pair is made here: a head of 35 labels with rough borders, and a smooth field with a rougher one on top that
folds a little. Times are CPU seconds of this process on one thread, the best of some repeats, because the wall
time of a busy machine says little. Memory is the peak of what a call allocated on top of what it was given.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from regbench.alignment import Alignment
from regbench.displacement import Displacement
from regbench.metrics.evaluate import evaluate
from regbench.metrics.table import METRICS
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels
from regbench.warp import warp

SHARED = ("moved_image", "moved_labels", "jacobian", "foreground")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of every metric on a pair of brain size.")
    parser.add_argument("--shape", type=int, nargs="+", default=[160, 192, 224])
    parser.add_argument("--labels", type=int, default=35)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rough-mm", type=float, default=0.9, help="size of the rough part of the field")
    parser.add_argument("--turn-degrees", type=float, default=0.0, help="turn the result away, to align it badly")
    options = parser.parse_args()
    pair, displacement = make_case(tuple(options.shape), options.labels, options.rough_mm, options.turn_degrees)
    print(f"{pair.fixed.grid.describe()}, {options.labels} labels")
    for name in SHARED:
        report(name, measure(partial(_shared, pair, displacement, name), options.repeats))
    ready = Alignment(pair, displacement)
    for name in (*SHARED, "scored_labels"):
        getattr(ready, name)
    for name, metric in METRICS.items():
        if metric.function is not None:
            report(name, measure(partial(evaluate, ready, [name]), options.repeats))
    seconds, mib, found = measure(lambda: evaluate(Alignment(pair, displacement), list(METRICS)), options.repeats)
    report("all, from nothing", (seconds, mib, None))
    for name, value in found.items():
        print(f"  {name} = {value['mean'] if isinstance(value, dict) else value:.6g}")


def _shared(pair: Pair, displacement: Displacement, name: str) -> object:
    return getattr(Alignment(pair, displacement), name)


def measure(call: Callable[[], Any], repeats: int) -> tuple[float, float, Any]:
    """Best CPU seconds, peak of allocated MiB (in a run of its own, since counting costs time), and the result."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        seconds.append(time.process_time() - start)
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return min(seconds), peak, result


def report(name: str, measured: tuple[float, float, Any]) -> None:
    print(f"{name:20s} {measured[0]:7.3f} s CPU {measured[1]:8.1f} MiB", flush=True)


def make_case(shape: tuple[int, ...], n_labels: int, rough_mm: float, turn_degrees: float) -> tuple[Pair, Displacement]:
    """A pair whose moving side is the fixed one warped, and a displacement between them that is not quite right."""
    rng = np.random.default_rng(0)
    grid = Grid.from_spacing(shape)
    fixed_labels = Labels(_parcels(rng, shape, n_labels), grid)
    texture = ndimage.gaussian_filter(rng.standard_normal(shape).astype(np.float32), 2)
    fixed = Image(fixed_labels.array + 20 * texture, grid)
    truth = Displacement(_smooth_vectors(rng, shape, 2.5, 24), grid)
    moving, moving_labels = warp(fixed, truth), warp(fixed_labels, truth)
    pair = Pair(
        "benchmark",
        fixed,
        moving,
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        truth=Displacement.identity(grid),
    )
    # The inverse to first order, and a rough error.
    found = Displacement(_smooth_vectors(rng, shape, rough_mm, 7) - truth.vectors_mm, grid)
    return pair, found.then(_turn(grid, np.deg2rad(turn_degrees)))


def _turn(grid: Grid, angle: float) -> np.ndarray:
    """A rotation about the centre of the grid in the plane of the first two axes."""
    matrix = np.eye(grid.ndim + 1)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    centre = grid.to_world((np.array(grid.shape) - 1) / 2)
    matrix[:-1, -1] = centre - matrix[:-1, :-1] @ centre
    return matrix


def _smooth_vectors(rng: np.random.Generator, shape: tuple[int, ...], size: float, control: int) -> np.ndarray:
    """A random field with standard deviation `size` per component and a control point every `control` voxels."""
    out = np.empty((*shape, len(shape)), np.float32)
    inner = tuple(slice(control, control + n) for n in shape)
    for component in range(len(shape)):
        coarse = rng.standard_normal([n // control + 4 for n in shape])
        fine = ndimage.zoom(coarse, control, order=3)[inner]
        out[..., component] = fine * (size / fine.std())
    return out


def _parcels(rng: np.random.Generator, shape: tuple[int, ...], n_labels: int) -> np.ndarray:
    """An ellipsoid parcelled by the nearest of some seeds, its borders roughened like those of a cortex."""
    # Made at half the resolution, which is rough enough and much quicker.
    half = tuple((n + 1) // 2 for n in shape)
    points = (Grid.from_spacing(half).indices() + _smooth_vectors(rng, half, 2.0, 6)) / np.array(half) - 0.5
    seeds = rng.uniform(-0.35, 0.35, (n_labels, len(shape)))
    labels = 1 + cKDTree(seeds).query(points)[1]
    labels[np.square(points).sum(axis=-1) > 0.42**2] = 0
    return labels[np.ix_(*[np.arange(n) // 2 for n in shape])]


if __name__ == "__main__":
    main()
