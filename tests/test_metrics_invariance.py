"""What holds for every metric of the table: how a pair is stored and where it lies in the world changes nothing.

The pair of these tests has everything that any metric asks for, on two oblique, anisotropic grids that share
nothing. Displacements are in single precision, so values agree to about 1e-7 of what they are made of, to which
`ROUNDING` adds a margin; no voxel of this pair lies so near to a limit (of a bin, of a fold) that it changes sides.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from full_pair import Registration, parcels, registration, texture, wave
from oblique_grids import rotation

from regbench.alignment import Alignment, LabelWarp
from regbench.displacement import Displacement
from regbench.metrics.evaluate import evaluate
from regbench.metrics.table import METRICS
from regbench.pair import Pair
from regbench.volume import Grid, Image, Labels, Landmarks

Change = Callable[[Registration], Registration]

NAMES = [name for name, metric in METRICS.items() if metric.function is not None]
OF_LABELS = [name for name in NAMES if METRICS[name].needs == ("labels",)]
# The two central simplices of a cell belong to its first and its last corner, which a flip exchanges for others: the
# inverted volume is the same then, but not quite the voxels that have it.
SIDED = {"nondiffeomorphic_voxels": 0.01, "foreground_nondiffeomorphic_voxels": 0.01, "foreground": 0.01}
ROUNDING = 2e-6


# Changes of how a registration is stored or of where it lies.


def changed(found: Registration, fixed: Callable[[Any], Any], moving: Callable[[Any], Any]) -> Registration:
    """A registration with all that lies on the fixed or the moving side changed; None stays None."""
    pair, displacement = found
    parts = {
        f"{side}_{part}": None if (old := getattr(pair, f"{side}_{part}")) is None else change(old)
        for side, change in (("fixed", fixed), ("moving", moving))
        for part in ("labels", "mask", "landmarks")
    }
    truth = None if pair.truth is None else fixed(pair.truth)
    new = dataclasses.replace(pair, fixed=fixed(pair.fixed), moving=moving(pair.moving), truth=truth, **parts)
    inverse = None if displacement.inverse is None else moving(displacement.inverse)
    return new, dataclasses.replace(fixed(displacement), inverse=inverse)


def permuted(order: tuple[int, ...], part: Any) -> Any:
    """The same thing with its voxel axes in another order; points stay where they are."""
    if isinstance(part, Landmarks):
        return part
    affine = part.grid.affine[:, [*order, len(order)]]
    grid = Grid(tuple(part.grid.shape[axis] for axis in order), affine)
    return _on(grid, part, lambda array: array.transpose(*order, *range(len(order), array.ndim)))


def flipped(axes: tuple[int, ...], part: Any) -> Any:
    """The same thing with some voxel axes counted from the other end."""
    if isinstance(part, Landmarks):
        return part
    turn = np.eye(part.grid.ndim + 1)
    for axis in axes:
        turn[axis, axis], turn[axis, -1] = -1, part.grid.shape[axis] - 1
    return _on(Grid(part.grid.shape, part.grid.affine @ turn), part, lambda array: np.flip(array, axes))


def in_world(matrix: np.ndarray, part: Any) -> Any:
    """The same thing at another place of the world; vectors turn along."""
    if isinstance(part, Landmarks):
        return Landmarks(part.points_mm @ matrix[:-1, :-1].T + matrix[:-1, -1])
    turn = matrix[:-1, :-1].T if isinstance(part, Displacement) else None
    grid = Grid(part.grid.shape, matrix @ part.grid.affine)
    return _on(grid, part, lambda array: array if turn is None else array.astype(np.float64) @ turn)


def _on(grid: Grid, part: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    name = "vectors_mm" if isinstance(part, Displacement) else "array"
    return dataclasses.replace(part, **{name: change(getattr(part, name)), "grid": grid})


def _orders(found: Registration) -> Registration:
    ndim = found[0].fixed.grid.ndim
    return changed(
        found,
        partial(permuted, (1, 2, 0)[-ndim:] if ndim == 3 else (1, 0)),
        partial(permuted, (2, 1, 0) if ndim == 3 else (0, 1)),
    )


def _flips(found: Registration) -> Registration:
    ndim = found[0].fixed.grid.ndim
    return changed(found, partial(flipped, (0,)), partial(flipped, tuple(range(ndim))[1:]))


def _turns(found: Registration) -> Registration:
    """A rotation or a mirror of the world and a shift."""
    ndim = found[0].fixed.grid.ndim
    rng = np.random.default_rng(7)
    matrix = np.eye(ndim + 1)
    matrix[:-1, :-1] = rotation(rng, ndim)
    matrix[:-1, -1] = rng.uniform(-50, 50, ndim)
    return changed(found, partial(in_world, matrix), partial(in_world, matrix))


def _scales(factor: float, found: Registration) -> Registration:
    ndim = found[0].fixed.grid.ndim
    matrix = np.diag([*[factor] * ndim, 1.0])
    return changed(found, partial(in_world, matrix), partial(in_world, matrix))


CHANGES: dict[str, Change] = {"orders": _orders, "flips": _flips, "turns": _turns}


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All numbers of a result with their places in it."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from flat(part, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


@cache
def scores(ndim: int, change: str | None = None, label_warp: LabelWarp = "nearest") -> dict[str, Any]:
    found = registration(ndim)
    pair, displacement = found if change is None else CHANGES[change](found)
    return evaluate(Alignment(pair, displacement, label_warp), NAMES)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_pair_has_all_metrics_and_is_neither_perfect_nor_lost(ndim: int) -> None:
    """Else the tests below would compare zeros, or nothing."""
    found = scores(ndim)
    assert list(found) == NAMES
    means = {name: value["mean"] if isinstance(value, dict) else value for name, value in found.items()}
    assert [name for name, mean in means.items() if not np.isfinite(mean) or mean == METRICS[name].target] == []
    assert [name for name, mean in means.items() if METRICS[name].direction == "lower" and not mean > 0] == []
    assert 0.2 < means["dice"] < 0.95


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize("ndim", [2, 3])
def test_storage_and_place_in_the_world_change_nothing(ndim: int, change: str, name: str) -> None:
    parts = SIDED if name == "ndv_percent" and change == "flips" else {}
    _assert_equal(scores(ndim, change)[name], scores(ndim)[name], ROUNDING, parts)


@pytest.mark.parametrize("name", OF_LABELS)
@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize("label_warp", ["linear", "soft"])
def test_nor_do_they_under_other_label_warps(label_warp: LabelWarp, change: str, name: str) -> None:
    _assert_equal(scores(3, change, label_warp)[name], scores(3, None, label_warp)[name], ROUNDING)


def _assert_equal(found: Any, expected: Any, tolerance: float, parts: dict[str, float] | None = None) -> None:
    """Every number of two results, to a tolerance (absolute and relative) that some parts have of their own."""
    found, expected = dict(flat(found)), dict(flat(expected))
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        own = (parts or {}).get(path, tolerance)
        if isinstance(value, str):
            assert found[path] == value
        else:
            assert found[path] == pytest.approx(value, rel=own, abs=own, nan_ok=True), path


@pytest.mark.parametrize("ndim", [2, 3])
def test_values_scale_with_their_unit(ndim: int) -> None:
    """A world twice as large has distances twice as long, and nothing else."""
    pair, displacement = _scales(2.0, registration(ndim))
    found = evaluate(Alignment(pair, displacement), NAMES)
    powers = {"mm": 1, "mm^-2": -2}
    for name, before in scores(ndim).items():
        mean, mean_before = (v["mean"] if isinstance(v, dict) else v for v in (found[name], before))
        if name == "nsd":
            # Its tolerance is a length, too.
            mean = found[name]["at_2_mm"]
        power = powers.get(METRICS[name].unit, 0)
        assert mean == pytest.approx(2.0**power * mean_before, rel=1e-4), name


@pytest.mark.parametrize("ndim", [2, 3])
def test_threads_change_no_bit(ndim: int) -> None:
    """On a pair of several slabs, whatever metric computes what they share."""
    rng = np.random.default_rng(3)
    shape = (420, 400) if ndim == 2 else (48, 64, 64)
    affine = np.eye(ndim + 1)
    affine[:-1, :-1] = rotation(rng, ndim) * (40 / max(shape))
    affine[:-1, -1] = -affine[:-1, :-1] @ ((np.array(shape) - 1) / 2)
    grid = Grid(shape, affine)
    image = Image(texture(grid.world_points()) + rng.normal(0, 0.1, shape), grid)
    labels = Labels(parcels(grid.world_points()), grid)
    vectors = wave(grid.world_points()) + rng.normal(0, 0.2, (*shape, ndim))
    small, there = registration(ndim)
    pair = dataclasses.replace(small, fixed=image, fixed_labels=labels, truth=Displacement.identity(grid))
    displacement = Displacement(vectors, grid, there.inverse)
    for label_warp in ("nearest", "linear", "soft"):
        names = NAMES if label_warp == "nearest" else OF_LABELS
        one, two = (evaluate(Alignment(pair, displacement, label_warp, threads), names) for threads in (1, 2))
        assert list(one) == names
        for name in names:
            assert repr(two[name]) == repr(one[name])


# Pairs that are hard to score: a value or NaN, never an exception.


def _constant(
    shape: tuple[int, ...], spacing_mm: tuple[float, ...], fixed: int, moving: int, move: float = 0.7
) -> Registration:
    """A pair of images of one grid with one label each (0: none)."""
    grid = Grid.from_spacing(shape, spacing_mm)
    rng = np.random.default_rng(0)
    ndim = len(shape)
    images = [Image(rng.random(shape), grid) for _ in range(2)]
    labels = [Labels(np.full(shape, label), grid) for label in (fixed, moving)]
    points = Landmarks(np.zeros((1, ndim)))
    known = {"fixed_landmarks": points, "moving_landmarks": points, "truth": Displacement.identity(grid)}
    pair = Pair("p", *images, fixed_labels=labels[0], moving_labels=labels[1], **known)
    field = Displacement(rng.normal(0, move, (*shape, ndim)), grid, Displacement.identity(grid))
    return pair, field


HARD: dict[str, Registration] = {
    "no fixed labels": _constant((7, 8, 9), (1, 1, 1), 0, 1),
    "no moving labels": _constant((7, 8, 9), (1, 1, 1), 1, 0),
    "no labels": _constant((7, 8), (1, 1), 0, 0),
    "different labels": _constant((7, 8, 9), (1, 1, 1), 2035, 17),
    "large labels": _constant((7, 8, 9), (1, 1, 1), 2**31 - 1, 2**31 - 1),
    "anisotropic": _constant((12, 11, 7), (1, 1, 5), 2035, 2035),
    "anisotropic first": _constant((7, 11, 12), (5, 1, 1), 4, 4),
    "singleton first": _constant((1, 8, 9), (1, 1, 1), 3, 3),
    "singleton last": _constant((8, 9, 1), (1, 1, 5), 3, 3),
    "singleton of two": _constant((1, 9), (1, 2), 3, 3),
    "two voxels": _constant((2, 2, 2), (1, 1, 1), 3, 3),
    "one voxel": _constant((1, 1, 1), (1, 1, 1), 3, 3),
    "all outside": _constant((7, 8, 9), (1, 1, 1), 3, 3, move=1e5),
}


@pytest.mark.parametrize("label_warp", ["nearest", "linear", "soft"])
@pytest.mark.parametrize("case", list(HARD))
@pytest.mark.filterwarnings("error")
def test_hard_pairs_have_values_or_nan(case: str, label_warp: LabelWarp) -> None:
    pair, displacement = HARD[case]
    found = evaluate(Alignment(pair, displacement, label_warp), NAMES)
    assert list(found) == NAMES
    for path, value in flat(found):
        assert isinstance(value, int | float | str), path
        assert isinstance(value, str) or not math.isinf(value) or "hd95" in path or "assd" in path, path


@pytest.mark.parametrize("case", ["no fixed labels", "no moving labels", "no labels", "different labels"])
@pytest.mark.parametrize("name", [n for n in OF_LABELS if not n.startswith("mi_")])
def test_without_common_labels_there_is_no_score(case: str, name: str) -> None:
    pair, displacement = HARD[case]
    found = evaluate(Alignment(pair, displacement), [name])[name]
    assert np.isnan(found["mean"])
    assert np.isnan(list(found["per_label"].values())).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_sheared_grid_has_a_score_or_a_reason(name: str) -> None:
    pair, displacement = registration(3)
    shear = np.eye(4)
    shear[0, 1] = 0.3
    pair, displacement = changed((pair, displacement), partial(in_world, shear), partial(in_world, shear))
    found = evaluate(Alignment(pair, displacement), [name])[name]
    declined = isinstance(found, dict) and "reason" in found
    assert declined == (METRICS[name].function or "").startswith("regbench.metrics.surface_distance:")
    if declined:
        assert np.isnan(found["mean"])
        assert "shear" in found["reason"]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("label_warp", ["nearest", "linear", "soft"])
def test_the_identity_on_one_image_is_perfect(ndim: int, label_warp: LabelWarp) -> None:
    pair, _ = registration(ndim)
    grid = pair.fixed.grid
    identity = Displacement.identity(grid)
    same = dataclasses.replace(
        pair,
        moving=pair.fixed,
        moving_labels=pair.fixed_labels,
        moving_landmarks=pair.fixed_landmarks,
        truth=identity,
    )
    found = evaluate(Alignment(same, dataclasses.replace(identity, inverse=identity), label_warp), NAMES)
    for name in NAMES:
        metric, value = METRICS[name], found[name]
        mean = value["mean"] if isinstance(value, dict) else value
        if isinstance(value, dict) and "reason" in value:
            assert label_warp == "soft"
        elif name.startswith("mi_"):
            assert isinstance(value, dict)
            assert mean == value["fixed"] == value["moving"] > 0
        else:
            best = {"lower": 0.0, "higher": 2.0 if name == "nmi" else 1.0, "target": metric.target}[metric.direction]
            assert mean == pytest.approx(best, abs=1e-6), name
