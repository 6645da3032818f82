"""The one resampler of regbench: images linearly, label maps by the nearest voxel.

Rules, chosen so that nearest-label results equal those of the Learn2Reg evaluator:

- Pull-back: the value at fixed voxel i is the moving value at world point x(i) + u(x(i)).
- Nearest is floor(c + 0.5) of the moving voxel coordinate c (halves go up).
- A coordinate outside [0, n - 1] of any moving axis reads `outside`; there is no half-voxel margin.
  A tolerance of 1e-4 voxels absorbs rounding, so that the identity on equal grids keeps its faces.
- Coordinates are float64, one array per axis; work goes through slabs of the first axis, so scratch memory
  stays small. No matrix products: their rounding may depend on place and on the number of threads.

Other ways of moving labels are in `regbench.label_votes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import numpy as np

from regbench.displacement import Displacement
from regbench.slabs import Scratch, map_slabs, map_tasks, row_slabs
from regbench.volume import Grid, Image, Labels

OnGrid = TypeVar("OnGrid", Image, Labels)
# A part of a grid: a slice with start and stop for each axis.
Box = tuple[slice, ...]

_TOLERANCE_VOXELS = 1e-4
# A Gaussian of sigma 0.42 voxels is about one voxel wide at half its height.
SIGMA_PER_VOXEL = 0.42
_SLAB_POINTS = 1 << 16


def warp(moving: OnGrid, displacement: Displacement, outside: float = 0, threads: int = 1) -> OnGrid:
    """The moving image or label map seen through a displacement, on the displacement's (fixed) grid.

    Labels stay labels and are read from the nearest voxel; images are read linearly. The number of threads
    changes no value.
    """
    return _read(moving, Places.displaced(moving.grid, displacement), outside, threads)


def warp_within(moving: Image, displacement: Displacement, boxes: Sequence[Box], threads: int = 1) -> np.ndarray:
    """What `warp` says inside of some boxes of the displacement's grid, 0 elsewhere: (*shape) float32.

    The boxes do not overlap. Nothing but what lies in them takes time or memory.
    """
    places = Places.displaced(moving.grid, displacement)
    out = np.zeros(places.grid.shape, np.float32)

    def work(box: Box, scratch: Scratch) -> None:
        _sample(moving, places.coordinates(box, scratch), 0, out[box], scratch)

    map_tasks(work, boxes, threads)
    return out


def resample(moving: OnGrid, grid: Grid, matrix: np.ndarray | None = None, outside: float = 0) -> OnGrid:
    """The moving image or label map on another grid, through a world affine (fixed mm -> moving mm) if given."""
    chain = moving.grid.inverse @ (np.eye(grid.ndim + 1) if matrix is None else matrix) @ grid.affine
    return _read(moving, Places(grid, moving.grid, chain), outside)


def band_limited(image: Image, spacing_mm: float | np.ndarray) -> Image:
    """The image smoothed so that a grid of `spacing_mm` (mm, per axis or for all) can hold it.

    The Gaussian supplies what the point spread of the larger voxel has beyond that of the smaller one, taking
    the width of a voxel for the width at half height of its point spread (sigma = 0.42 voxels).
    """
    from scipy.ndimage import gaussian_filter

    wider = np.maximum(np.square(spacing_mm) - image.grid.spacing_mm**2, 0.0)
    sigma_voxels = SIGMA_PER_VOXEL * np.sqrt(wider) / image.grid.spacing_mm
    if sigma_voxels.max() < 0.1:
        return image
    return Image(gaussian_filter(image.array, sigma_voxels, mode="nearest"), image.grid)


def sample_at(moving: Image | Labels, points_mm: np.ndarray, outside: float = 0) -> np.ndarray:
    """Values of an image or a label map at world points in mm, (..., ndim) -> (...)."""
    scratch = Scratch()
    coordinates = _planar(moving.grid.to_voxel(points_mm), scratch)
    out = np.empty(coordinates[0].shape, moving.array.dtype if isinstance(moving, Labels) else np.float64)
    _sample(moving, coordinates, outside, out, scratch)
    return out


def sample_displacement(displacement: Displacement, points_mm: np.ndarray) -> np.ndarray:
    """Displacements in mm at world points, (..., ndim) -> (..., ndim) float64, read linearly.

    Points outside the grid read the nearest point of its border, so a field goes on as a constant.
    """
    grid = displacement.grid
    coordinates = np.clip(grid.to_voxel(points_mm), 0, np.array(grid.shape) - 1.0)
    return linear_samples(displacement.vectors_mm, coordinates)


def linear_samples(array: np.ndarray, coordinates: np.ndarray, scratch: Scratch | None = None) -> np.ndarray:
    """Linear interpolation of `array` (*shape, ...) at voxel coordinates (..., ndim) inside [0, n - 1], float64.

    Trailing axes of the array (the components of a field) are kept. The result is in memory of its own.
    """
    ndim = coordinates.shape[-1]
    trailing = array.shape[ndim:]
    points = coordinates.reshape(-1, ndim)
    out = np.empty((len(points), *trailing))
    scratch = Scratch() if scratch is None else scratch
    for rows in row_slabs(out.shape, _SLAB_POINTS):
        _linear(array, _planar(points[rows], scratch), out[rows], scratch)
    return out.reshape(*coordinates.shape[:-1], *trailing)


@dataclass(frozen=True, eq=False)
class Places:
    """Where the voxels of a fixed grid lie in a moving one: voxel i at coordinate chain @ i + A^-1 u(i).

    `chain` is an affine (ndim+1, ndim+1) from index to index, A the linear part of the moving affine, and u the
    displacement in mm, if there is one.
    """

    grid: Grid
    moving_grid: Grid
    chain: np.ndarray
    displacement: Displacement | None = None

    @classmethod
    def displaced(cls, moving_grid: Grid, displacement: Displacement) -> Places:
        """Where a displacement leads the voxels of its grid."""
        grid = displacement.grid
        chain = moving_grid.inverse @ grid.affine
        if moving_grid.matches(grid, tolerance_mm=1e-9):
            chain = np.eye(len(chain))
        return cls(grid, moving_grid, chain, displacement)

    def slabs(self) -> Iterator[slice]:
        """Rows of the fixed grid whose coordinates stay in the cache."""
        return row_slabs(self.grid.shape, _SLAB_POINTS)

    def coordinates(self, part: slice | Box, scratch: Scratch) -> list[np.ndarray]:
        """Moving coordinates of voxels in some rows of the first axis or in a box, float64 of its shape per axis."""
        box = (part, *(slice(0, n) for n in self.grid.shape[1:])) if isinstance(part, slice) else part
        shape = [side.stop - side.start for side in box]
        found = [scratch.array(f"coordinate {axis}", shape, np.float64) for axis in range(len(shape))]
        # Index and vector parts are mapped apart, so that whole-voxel shifts stay exact.
        for axis, coordinate in enumerate(found):
            term = self._index_part(axis, box, coordinate)
            term = self._vector_part(axis, box, term, coordinate, scratch)
            if term is not coordinate:
                np.copyto(coordinate, term)
        return found

    def _index_part(self, axis: int, box: Box, out: np.ndarray) -> np.ndarray:
        """chain @ index along one moving axis: an array that can be broadcast, or `out` where none smaller will do."""
        part = np.asarray(self.chain[axis, -1])
        for along, factor in enumerate(self.chain[axis, :-1]):
            if factor:
                index = np.arange(box[along].start, box[along].stop)
                term = (factor * index).reshape([-1 if a == along else 1 for a in range(self.grid.ndim)])
                whole = np.broadcast_shapes(part.shape, term.shape) == out.shape
                part = np.add(part, term, out=out if whole else None)
        return part

    def _vector_part(self, axis: int, box: Box, part: np.ndarray, out: np.ndarray, scratch: Scratch) -> np.ndarray:
        """`part` with the displacement along one moving axis added, in `out`."""
        if self.displacement is None:
            return part
        vectors = self.displacement.vectors_mm[box]
        term = scratch.array("term", out.shape, np.float64)
        for component, factor in enumerate(self.moving_grid.inverse[axis, :-1]):
            if factor:
                np.copyto(term, vectors[..., component])
                if factor != 1:
                    term *= factor
                part = np.add(part, term, out=out)
        return part


def _read(moving: OnGrid, places: Places, outside: float, threads: int = 1) -> OnGrid:
    out = np.empty(places.grid.shape, moving.array.dtype)

    def work(rows: slice, scratch: Scratch) -> None:
        _sample(moving, places.coordinates(rows, scratch), outside, out[rows], scratch)

    map_slabs(work, places.slabs(), threads)
    if isinstance(moving, Labels):
        return Labels(out, places.grid, moving.names)  # type: ignore[return-value]
    return Image(out, places.grid)


def _planar(points: np.ndarray, scratch: Scratch) -> list[np.ndarray]:
    """One array per coordinate, from (..., ndim)."""
    found = []
    for axis in range(points.shape[-1]):
        coordinate = scratch.array(f"coordinate {axis}", points.shape[:-1], np.float64)
        np.copyto(coordinate, points[..., axis])
        found.append(coordinate)
    return found


def _sample(
    moving: Image | Labels, coordinates: list[np.ndarray], outside: float, out: np.ndarray, scratch: Scratch
) -> None:
    """Write the values at voxel coordinates, which are overwritten, into `out`."""
    inside = clip_to_grid(coordinates, moving.grid.shape, scratch)
    if isinstance(moving, Labels):
        _nearest(moving.array, coordinates, out, scratch)
    else:
        _linear(moving.array, coordinates, out, scratch)
    if not inside.all():
        np.copyto(out, outside, where=np.logical_not(inside, out=inside), casting="unsafe")


def clip_to_grid(coordinates: list[np.ndarray], shape: tuple[int, ...], scratch: Scratch) -> np.ndarray:
    """Whether voxel coordinates lie inside a grid, bool; those that do not are moved to its border in place."""
    inside = scratch.array("inside", coordinates[0].shape, bool)
    within = scratch.array("within", inside.shape, bool)
    inside[...] = True
    for coordinate, n in zip(coordinates, shape, strict=True):
        inside &= np.greater_equal(coordinate, -_TOLERANCE_VOXELS, out=within)
        inside &= np.less_equal(coordinate, n - 1 + _TOLERANCE_VOXELS, out=within)
        np.clip(coordinate, 0, n - 1, out=coordinate)
    return inside


def _nearest(array: np.ndarray, coordinates: list[np.ndarray], out: np.ndarray, scratch: Scratch) -> None:
    place = _Place(coordinates[0].shape, array.shape, scratch)
    for axis, coordinate in enumerate(coordinates):
        np.add(coordinate, 0.5, out=coordinate)
        np.copyto(place.index, coordinate, casting="unsafe")
        place.add(axis)
    array.ravel().take(place.flat(), out=out, mode="wrap")


def _linear(array: np.ndarray, coordinates: list[np.ndarray], out: np.ndarray, scratch: Scratch) -> None:
    """Write linear interpolations of `array` (*shape, ...) at coordinates inside the grid, overwritten, into `out`."""
    trailing, points = array.shape[len(coordinates) :], coordinates[0].shape
    in_place = out.dtype == np.float64 and not trailing
    values = out[np.newaxis] if in_place else scratch.array("values", (prod(trailing), *points), np.float64)
    write_linear(array, coordinates, values, scratch)
    if not in_place:
        np.copyto(out, _components_last(values.reshape(*trailing, *points), len(points)), casting="same_kind")


def write_linear(array: np.ndarray, coordinates: list[np.ndarray], out: np.ndarray, scratch: Scratch) -> None:
    """Write linear interpolations of `array` (*shape, ...) into `out`, (components, *points).

    Coordinates must lie inside the grid; they are overwritten. The arithmetic has the precision of `out`, float64 or
    float32.
    """
    ndim, (n_components, *points) = len(coordinates), out.shape
    base, steps = lower_corner(coordinates, array.shape[:ndim], scratch)
    fractions, rests = coordinates, None
    if out.dtype == np.float64:
        rests = [scratch.array(f"rest {axis}", points, np.float64) for axis in range(ndim)]
        for fraction, rest in zip(coordinates, rests, strict=True):
            np.subtract(1.0, fraction, out=rest)
    else:
        fractions = [scratch.array(f"fraction {axis}", points) for axis in range(ndim)]
        for fraction, single in zip(coordinates, fractions, strict=True):
            np.copyto(single, fraction, casting="same_kind")
    if n_components > 1:
        base *= n_components
        steps = [n_components * step for step in steps]
    corner = scratch.array("corner", points, array.dtype)
    uppers = [scratch.array(f"upper {axis}", out.shape, out.dtype) for axis in range(ndim)]
    _Blend(array.reshape(-1), base, steps, fractions, rests, corner, uppers).write(0, 0, out)


@dataclass(frozen=True, eq=False)
class _Blend:
    """Linear interpolation at points of a flattened array, from `base` with one of `steps` along each axis.

    Values of several components lie side by side in the array, and apart in what is written. `fractions` and `rests`
    (1 - fraction) are the weights of the upper and the lower corner, `corner` and `uppers` memory for the values at a
    corner and for blends.

    Without `rests` values are lower + f (upper - lower), which takes less memory. With them they are exact at f = 1,
    which stands for the last voxel of an axis, whatever its neighbour is.
    """

    flat: np.ndarray
    base: np.ndarray
    steps: list[int]
    fractions: list[np.ndarray]
    rests: list[np.ndarray] | None
    corner: np.ndarray
    uppers: list[np.ndarray]

    def write(self, axis: int, offset: int, lower: np.ndarray) -> None:
        """Write values at `base + offset`, interpolated over the axes from `axis` on, into `lower`."""
        if axis == len(self.steps):
            for component, values in enumerate(lower):
                # All places exist; other modes than "wrap" cost more here, or write into a copy first.
                corner = self.corner if values.dtype != self.corner.dtype else values
                self.flat[offset + component :].take(self.base, out=corner, mode="wrap")
                if corner is not values:
                    np.copyto(values, corner)
            return
        upper = self.uppers[axis]
        self.write(axis + 1, offset, lower)
        self.write(axis + 1, offset + self.steps[axis], upper)
        if self.rests is None:
            np.subtract(upper, lower, out=upper)
        else:
            np.multiply(lower, self.rests[axis], out=lower)
        np.multiply(upper, self.fractions[axis], out=upper)
        np.add(lower, upper, out=lower)


def _components_last(values: np.ndarray, n_axes: int) -> np.ndarray:
    """A view of values (..., *points) with `n_axes` axes of points that has the components behind the points."""
    n_components = values.ndim - n_axes
    return values.transpose(*range(n_components, values.ndim), *range(n_components))


def lower_corner(
    coordinates: list[np.ndarray], shape: tuple[int, ...], scratch: Scratch
) -> tuple[np.ndarray, list[int]]:
    """The flat index of the lowest corner of the cell around each coordinate, and the step to the upper one per axis.

    Coordinates must lie inside the grid; they are replaced by the fractions of the way from corner to corner.
    """
    place = _Place(coordinates[0].shape, shape, scratch)
    whole = scratch.array("term", place.index.shape, np.float64)
    for axis, (coordinate, n) in enumerate(zip(coordinates, shape, strict=True)):
        np.copyto(place.index, coordinate, casting="unsafe")
        np.minimum(place.index, max(n - 2, 0), out=place.index)
        np.copyto(whole, place.index)
        np.subtract(coordinate, whole, out=coordinate)
        place.add(axis)
    # An axis of one voxel has no upper neighbour; its step is 0 and its fraction is 0.
    return place.flat(), [stride if n > 1 else 0 for stride, n in zip(place.strides, shape, strict=True)]


class _Place:
    """The flat index of voxels, put together axis by axis: set `index`, then `add` it.

    Sums are of 32 bits where those will do: half the width is twice the speed.
    """

    def __init__(self, points: tuple[int, ...], shape: tuple[int, ...], scratch: Scratch) -> None:
        kind = np.int32 if prod(shape) < 2**31 else np.int64
        self.strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
        self.index = scratch.array("index", points, kind)
        self._sum = scratch.array("index sum", points, kind)
        self._flat = scratch.array("flat index", points, np.intp)

    def add(self, axis: int) -> None:
        """Add `index` along one axis, the axes in order from the first."""
        self.index *= self.strides[axis]
        np.add(self._sum if axis else 0, self.index, out=self._sum)

    def flat(self) -> np.ndarray:
        """The sum as the integers that `take` wants, which would convert them in memory of its own."""
        np.copyto(self._flat, self._sum)
        return self._flat
