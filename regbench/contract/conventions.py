"""Which mix-up of conventions explains a wrong field: it is undone on paper, and what then fits the truth is named.

A field can be wrong by what its numbers mean: their frame (RAS or LPS, mm or voxels, offsets or positions), the order
of components or axes, or the direction (from moving to fixed). Each of these is a `Mixup` that turns the field as it
came into the field as it was meant. All of them, alone and in pairs of different kinds, are tried on all fields at
once, and the simplest that fits every one wins. Where none fits, the registration itself is at fault.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from regbench.contract.phantom import vectors_error_mm
from regbench.displacement import Displacement
from regbench.files.itk import ras_signs
from regbench.pair import Pair
from regbench.volume import Grid, Image

# What a field that was read right may leave of the error of doing nothing, and a scaled one, which any weak
# registration resembles.
_FITS, _FITS_SCALED = 0.6, 0.2
# What a mix-up must improve on the field made longer, since a weak registration looks like voxels taken for mm.
_BETTER_THAN_SCALING = 0.1
# What a second mix-up must improve on one alone.
_PER_PART = 0.1
# Two explanations are told when the second leaves hardly more than the first.
_AS_GOOD = 0.03
_INVERSION_ROUNDS, _INVERTED_FROM = 12, 0.8


@dataclass(frozen=True)
class Mixup:
    """One thing that a field may mean. `undo(vectors, pair)` has the vectors (*shape, ndim) as they were meant.

    Mix-ups of one kind exclude each other; those of lower kinds are undone first.
    """

    kind: int
    words: str
    advice: str
    undo: Callable[[np.ndarray, Pair], np.ndarray]
    is_scaling: bool = False


def explain(fields: Sequence[tuple[np.ndarray, Pair]]) -> str | None:
    """What the fields look like and what to do about it, or None if no usual mix-up explains all of them.

    Each field is an array (*fixed shape, ndim) as a method returned it, with the pair whose truth it should be.
    """
    weak = max(_share_left_by_scaling(vectors, pair) for vectors, pair in fields)
    fitting = [item for item in _fitting(fields) if item[1][0].is_scaling or item[0] < weak - _BETTER_THAN_SCALING]
    found = sorted(fitting, key=lambda item: item[0] + _PER_PART * len(item[1]))
    if not found:
        return None
    best, parts = found[0]
    alike = [other for error, other in found[1:] if len(other) == len(parts) and error < best + _AS_GOOD]
    others = "".join(f" (or else {' and '.join(part.words for part in other)})" for other in alike[:1])
    words = " and ".join(part.words for part in parts)
    advice = "; then ".join(part.advice for part in parts)
    return f"read otherwise, the field fits: {words}{others}; to do: {advice}"


def explain_shape(shape: tuple[int, ...], fixed: Grid, moving: Grid) -> str | None:
    """What an array of this shape looks like, if it cannot be a field on the fixed grid."""
    ndim = fixed.ndim
    wanted = (*fixed.shape, ndim)
    looks = {
        (*fixed.shape[::-1], ndim): "its axes are reversed (z, y, x), as arrays of SimpleITK and ITK are: "
        f"transpose it, `array.transpose({', '.join(map(str, [*reversed(range(ndim)), ndim]))})`",
        (ndim, *fixed.shape): "its components come first, as in networks: `np.moveaxis(array, 0, -1)`",
        (ndim, *fixed.shape[::-1]): "its components come first and its axes are reversed (z, y, x): `array.T`",
        (*moving.shape, ndim): "it lies on the moving grid: a displacement has a vector for each FIXED voxel and says "
        "where in the moving image to look; were fixed and moving exchanged in the call of the engine?",
        (*moving.shape[::-1], ndim): "it lies on the moving grid with its axes reversed: were fixed and moving "
        "exchanged in the call of the engine?",
        (*(n // 2 for n in fixed.shape), ndim): "it has half the resolution: interpolate it onto the fixed grid",
        fixed.shape: "it has one number for each voxel: is it the moved image instead of the field?",
    }
    squeezed = tuple(n for n in shape if n != 1)
    if shape in looks:
        return looks[shape]
    if squeezed == wanted:
        return f"it has axes of one voxel: `array.reshape({wanted})`"
    return f"apart from its axes of one voxel, {looks[squeezed]}" if squeezed in looks else None


def shape_in(message: str) -> tuple[int, ...] | None:
    """The shape of the array that a message of `Displacement` complains about."""
    found = re.search(r"of shape \(([\d, ]+)\), expected", message)
    return tuple(int(n) for n in found[1].split(",") if n.strip()) if found else None


# -- mix-ups ------------------------------------------------------------------------------------------


def _mixups(ndim: int) -> Iterator[Mixup]:
    yield Mixup(
        0,
        "its voxels run in the reverse order of axes (z, y, x) in memory",
        "transpose the array of the engine instead of reshaping it",
        lambda v, pair: v.reshape(*v.shape[-2::-1], ndim).transpose(*reversed(range(ndim)), ndim),
    )
    yield Mixup(
        1,
        "its components come in reverse order (z, y, x)",
        "reverse the last axis, `vectors[..., ::-1]`",
        lambda v, pair: v[..., ::-1],
    )
    yield from _frames()
    yield from _signs(ndim)
    yield Mixup(
        4,
        "it leads from the moving to the fixed image (push) instead of from fixed to moving points (pull)",
        "take the inverse field of the engine, or exchange fixed and moving in its call",
        _inverted,
    )


def _frames() -> Iterator[Mixup]:
    voxels = "it is in voxels of the {} image instead of mm"
    yield Mixup(
        2,
        voxels.format("fixed"),
        "use `Displacement.from_voxels(vectors, pair.fixed.grid, pair.fixed.grid)`",
        lambda v, pair: v @ pair.fixed.grid.linear.T,
    )
    yield Mixup(
        2,
        "it is in voxels, from a fixed index to a moving index",
        "use `Displacement.from_voxels(vectors, pair.fixed.grid, pair.moving.grid)`",
        lambda v, pair: _from_index(pair.fixed.grid.indices() + v, pair),
    )
    for side in ("fixed", "moving"):
        yield Mixup(
            2,
            f"it is in mm along the axes of the {side} image instead of the world's",
            f"apply the direction of the {side} grid, `vectors @ (grid.linear / grid.spacing_mm).T`",
            partial(_along_axes, side=side),
        )
    yield Mixup(
        2,
        "the moving image's own grid was ignored, as if both images lay on one",
        "resample the moving image onto the fixed grid first (`regbench.warp.resample`), or read the field as voxels, "
        "`Displacement.from_voxels(vectors, pair.fixed.grid, pair.moving.grid)`",
        lambda v, pair: _from_index(pair.fixed.grid.indices() + v @ np.linalg.inv(pair.fixed.grid.linear).T, pair),
    )
    yield Mixup(
        2,
        "it holds positions in mm instead of displacements",
        "subtract the place of the voxel, `Displacement.from_targets(positions, pair.fixed.grid)`",
        lambda v, pair: v - pair.fixed.grid.world_points(),
    )
    yield Mixup(
        2,
        "it holds positions in mm, in LPS, instead of displacements",
        "negate the first two components, then use `Displacement.from_targets(positions, pair.fixed.grid)`",
        lambda v, pair: v * ras_signs(v.shape[-1]) - pair.fixed.grid.world_points(),
    )
    yield Mixup(
        2,
        "it holds positions in voxels of the moving image instead of displacements in mm",
        "use `Displacement.from_targets(pair.moving.grid.to_world(positions), pair.fixed.grid)`",
        _from_index,
    )
    yield Mixup(
        2,
        "it holds positions between -1 and 1 (grid_sample) instead of displacements in mm",
        "use `regbench.files.conventions.from_grid_sample`",
        lambda v, pair: _from_index((v + 1) / 2 * (np.array(pair.moving.grid.shape) - 1), pair),
    )
    yield Mixup(
        2,
        "it holds displacements in halves of the image (-1 to 1, as networks use) instead of mm",
        "multiply by (n - 1) / 2 of each axis, then use `Displacement.from_voxels`",
        lambda v, pair: (v * (np.array(pair.fixed.grid.shape) - 1) / 2) @ pair.fixed.grid.linear.T,
    )
    yield Mixup(
        2,
        "it is half as long as it should be",
        "was it made at half resolution in voxels? Its values must be doubled with its size",
        lambda v, pair: 2.0 * v,
        is_scaling=True,
    )
    yield Mixup(
        2,
        "it is twice as long as it should be",
        "were values of half resolution, in mm already, doubled with the size?",
        lambda v, pair: 0.5 * v,
        is_scaling=True,
    )


def _signs(ndim: int) -> Iterator[Mixup]:
    yield Mixup(
        3,
        "it looks like LPS instead of RAS",
        "negate its first two components, or read it with `regbench.files.itk.displacement_from_sitk`",
        lambda v, pair: v * ras_signs(ndim),
    )
    if ndim == 3:
        yield Mixup(3, "all of it has the opposite sign", "return the negative field", lambda v, pair: -v)
    for axis, name in enumerate("xyz"[:ndim]):
        signs = np.where(np.arange(ndim) == axis, -1.0, 1.0)
        yield Mixup(
            3,
            f"its {name} component has the opposite sign",
            "is a grid of the other handedness taken for one of this? Use the whole affine, not spacings alone",
            partial(_signed, signs=signs),
        )


def _along_axes(vectors: np.ndarray, pair: Pair, side: str) -> np.ndarray:
    grid: Grid = getattr(pair, side).grid
    return vectors @ (grid.linear / grid.spacing_mm).T


def _signed(vectors: np.ndarray, pair: Pair, signs: np.ndarray) -> np.ndarray:
    return vectors * signs


def _from_index(index: np.ndarray, pair: Pair) -> np.ndarray:
    """The displacements that lead to moving voxel coordinates, (*fixed shape, ndim) in mm."""
    return pair.moving.grid.to_world(index) - pair.fixed.grid.world_points()


def _inverted(vectors: np.ndarray, pair: Pair) -> np.ndarray:
    """The inverse u(x) = -v(x + u(x)) of a smooth field v, by fixed-point iteration."""
    grid = pair.fixed.grid
    if vectors_error_mm(-vectors, pair) > _INVERTED_FROM * vectors_error_mm(np.zeros_like(vectors), pair):
        # The inverse of a smooth field differs little from its negative, so this is no inverse, and dear to find out.
        return vectors
    parts = [Image(vectors[..., axis], grid) for axis in range(grid.ndim)]
    found = -vectors
    for _ in range(_INVERSION_ROUNDS):
        there = Displacement(found, grid)
        found = -np.stack([_read(part, there) for part in parts], axis=-1)
    return found


def _read(component: Image, there: Displacement) -> np.ndarray:
    from scipy.ndimage import map_coordinates

    index = component.grid.to_voxel(there.targets())
    return map_coordinates(component.array, np.moveaxis(index, -1, 0), order=1, mode="nearest")


# -- trying them --------------------------------------------------------------------------------------


def _fitting(fields: Sequence[tuple[np.ndarray, Pair]]) -> Iterator[tuple[float, tuple[Mixup, ...]]]:
    """The mix-ups, one or two together, that explain all fields, with the largest share of error that they leave."""
    mixups = list(_mixups(fields[0][0].shape[-1]))
    pairs = [(a, b) for a, b in itertools.product(mixups, mixups) if a.kind < b.kind]
    for parts in [*((mixup,) for mixup in mixups), *pairs]:
        limit = _FITS_SCALED if any(part.is_scaling for part in parts) else _FITS
        left = 0.0
        for vectors, pair in fields:
            left = max(left, _share_left(parts, vectors, pair))
            if left >= limit:
                break
        else:
            yield left, parts


def _share_left(parts: Sequence[Mixup], vectors: np.ndarray, pair: Pair) -> float:
    meant = vectors.astype(np.float64)
    for part in parts:
        meant = part.undo(meant, pair)
    if not np.isfinite(meant).all():
        return np.inf
    return vectors_error_mm(meant, pair) / vectors_error_mm(np.zeros_like(meant), pair)


def _share_left_by_scaling(vectors: np.ndarray, pair: Pair) -> float:
    """The share of error that the field leaves when it is multiplied by the best positive number."""
    assert pair.truth is not None and pair.fixed_labels is not None
    body = pair.fixed_labels.array > 0
    found, truth = vectors[body].astype(np.float64), pair.truth.vectors_mm[body]
    best = max(float((found * truth).sum()) / max(float(np.square(found).sum()), 1e-12), 0.0)
    return _share_left((), best * vectors, pair)
