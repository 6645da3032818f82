"""Grids and what lies on them: images, label maps, landmarks.

Conventions, valid everywhere in regbench:

- World coordinates are millimetres in RAS+ (x to the right, y to the front, z upwards), as in NIfTI.
- Array axis i of `Image.array` is voxel axis i of the grid; `affine @ (i, j, k, 1)` is the world point
  of the CENTRE of voxel (i, j, k). Grids may be oblique, anisotropic, and of either handedness.
- Two-dimensional data have `ndim == 2` and a 3x3 affine. Files with a singleton axis become 2-D
  when they are read (`regbench.files`), never here.
- The type decides how data are interpolated: `Image` linearly, `Labels` by the nearest voxel.

Validation lives in the constructors; afterwards nothing is checked again, and arrays are read-only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from regbench.errors import DatasetError

_COUNTED_AT_ONCE = 1 << 17
# With more runs of equal labels than this share of the voxels, voxels are counted one by one.
_MOST_RUNS = 0.2
_AXIS_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.setflags(write=False)
    return view


@dataclass(frozen=True, eq=False)
class Grid:
    """A sampling grid: `shape` of 2 or 3 axes, and `affine` (ndim+1, ndim+1), voxel index -> mm in RAS+.

    Raises DatasetError if the shape is not 2-D or 3-D, has an empty axis, or the affine is not
    finite or not invertible.
    """

    shape: tuple[int, ...]
    affine: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise DatasetError(f"grid: shape {shape} is not a non-empty 2-D or 3-D shape")
        affine = np.array(self.affine, dtype=np.float64)
        n = len(shape)
        if affine.shape != (n + 1, n + 1):
            raise DatasetError(f"grid: affine has shape {affine.shape}, expected {(n + 1, n + 1)} for a {n}-D grid")
        if not np.isfinite(affine).all():
            raise DatasetError("grid: affine has values that are not finite")
        lengths = np.linalg.norm(affine[:n, :n], axis=0)
        if lengths.min() <= 0 or abs(np.linalg.det(affine[:n, :n] / lengths)) < 1e-6:
            raise DatasetError("grid: affine is not invertible (an axis has no length, or axes are parallel)")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", _read_only(affine))

    @classmethod
    def from_spacing(cls, shape: tuple[int, ...], spacing_mm: float | tuple[float, ...] = 1.0) -> Grid:
        """A grid along the world axes with its first voxel at the world origin."""
        spacing = np.broadcast_to(np.asarray(spacing_mm, dtype=float), (len(shape),))
        return cls(tuple(shape), np.diag([*spacing, 1.0]))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def n_voxels(self) -> int:
        return int(np.prod(self.shape))

    @property
    def linear(self) -> np.ndarray:
        """The linear part of the affine, (ndim, ndim): columns are the steps in mm along each voxel axis."""
        return self.affine[:-1, :-1]

    @property
    def origin_mm(self) -> np.ndarray:
        """The world point of voxel 0, (ndim,)."""
        return self.affine[:-1, -1]

    @cached_property
    def inverse(self) -> np.ndarray:
        """The affine world -> voxel, (ndim+1, ndim+1)."""
        return _read_only(np.linalg.inv(self.affine))

    @cached_property
    def spacing_mm(self) -> np.ndarray:
        """The distance of neighbouring voxel centres along each axis in mm, (ndim,)."""
        return _read_only(np.linalg.norm(self.linear, axis=0))

    @cached_property
    def determinant(self) -> float:
        """The determinant of the linear part in mm^ndim per voxel; negative for a left-handed grid."""
        return float(np.linalg.det(self.linear))

    @property
    def is_sheared(self) -> bool:
        """Whether the axes are not at right angles (to 1e-3), which ITK images cannot express."""
        unit = self.linear / self.spacing_mm
        return bool(np.abs(unit.T @ unit - np.eye(self.ndim)).max() > 1e-3)

    @cached_property
    def orientation(self) -> str:
        """The world directions that the axes point to, such as 'RAS' or 'LIA' (2-D: two letters)."""
        unit = self.linear / self.spacing_mm
        letters, taken = [], set()
        for axis in range(self.ndim):
            order = np.argsort(-np.abs(unit[:, axis]))
            world = next(int(w) for w in order if int(w) not in taken)
            taken.add(world)
            letters.append(_AXIS_LETTERS[world][int(unit[world, axis] > 0)])
        return "".join(letters)

    def to_world(self, points_voxel: np.ndarray) -> np.ndarray:
        """World points in mm of voxel coordinates, (..., ndim) -> (..., ndim)."""
        return np.asarray(points_voxel) @ self.linear.T + self.origin_mm

    def to_voxel(self, points_mm: np.ndarray) -> np.ndarray:
        """Voxel coordinates of world points in mm, (..., ndim) -> (..., ndim)."""
        return np.asarray(points_mm) @ self.inverse[:-1, :-1].T + self.inverse[:-1, -1]

    def indices(self) -> np.ndarray:
        """Voxel coordinates of all voxels, (*shape, ndim) float64."""
        axes = np.meshgrid(*[np.arange(n, dtype=np.float64) for n in self.shape], indexing="ij")
        return np.stack(axes, axis=-1)

    def world_points(self) -> np.ndarray:
        """World points in mm of all voxel centres, (*shape, ndim) float64."""
        return self.to_world(self.indices())

    def matches(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have the same shape and place every corner within `tolerance_mm`."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij")).reshape(self.ndim, -1).T
        return bool(np.abs(self.to_world(corners) - other.to_world(corners)).max() <= tolerance_mm)

    def describe(self) -> str:
        """One phrase for messages, such as '160x192x224 voxels of 1x1x1 mm, LIA'."""
        size = "x".join(str(n) for n in self.shape)
        spacing = "x".join(f"{s:.3g}" for s in self.spacing_mm)
        return f"{size} voxels of {spacing} mm, {self.orientation}"


def _on_grid(array: np.ndarray, grid: Grid, what: str) -> np.ndarray:
    array = np.asarray(array)
    if array.shape != grid.shape:
        raise DatasetError(f"{what}: array of shape {array.shape} does not fit a grid of shape {grid.shape}")
    return array


@dataclass(frozen=True, eq=False)
class Image:
    """An intensity image, float32 on a grid, interpolated linearly.

    Raises DatasetError if the array does not fit the grid or has values that are not finite.
    """

    array: np.ndarray
    grid: Grid

    def __post_init__(self) -> None:
        array = _on_grid(self.array, self.grid, "image")
        if array.dtype == bool or not (np.issubdtype(array.dtype, np.number) and np.isrealobj(array)):
            raise DatasetError(f"image: values of type {array.dtype} are not real numbers")
        array = np.ascontiguousarray(array, dtype=np.float32)
        # The extremes are finite only if all is, and need no memory.
        if not np.isfinite([array.min(), array.max()]).all():
            n_bad = array.size - int(np.count_nonzero(np.isfinite(array)))
            raise DatasetError(f"image: {n_bad} of {array.size} voxels are NaN or infinite; replace them first")
        object.__setattr__(self, "array", _read_only(array))


@dataclass(frozen=True, eq=False)
class Labels:
    """A label map, integers >= 0 on a grid (0 is background), interpolated by the nearest voxel.

    Floating-point arrays are accepted if all values are whole numbers. Raises DatasetError otherwise,
    for negative labels, or if the array does not fit the grid.
    """

    array: np.ndarray
    grid: Grid
    names: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        array = _on_grid(self.array, self.grid, "labels")
        if np.issubdtype(array.dtype, np.floating):
            # Tested before the cast: NaN and infinity turn into ordinary integers silently.
            if not np.isfinite(array).all() or not (array == np.rint(array)).all():
                raise DatasetError("labels: values are not whole numbers; is this an intensity or a probability image?")
        elif not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool):
            raise DatasetError(f"labels: values of type {array.dtype} are not label numbers")
        low, high = (array.min(), array.max()) if array.size else (0, 0)
        if low < 0 or high > 2**31 - 1:
            raise DatasetError(f"labels: values from {low} to {high}; labels must lie between 0 and {2**31 - 1}")
        small = np.uint8 if high < 256 else np.uint16 if high < 65536 else np.int32
        object.__setattr__(self, "array", _read_only(np.ascontiguousarray(array, dtype=small)))

    @property
    def values(self) -> np.ndarray:
        """The labels that occur, without background, ascending."""
        return self._occurrences[0]

    @property
    def counts(self) -> np.ndarray:
        """The voxels of each of `values`."""
        return self._occurrences[1]

    @cached_property
    def _occurrences(self) -> tuple[np.ndarray, np.ndarray]:
        if self.array.itemsize > 2:
            found, counts = np.unique(self.array, return_counts=True)
        else:
            counts = np.zeros(int(self.array.max()) + 1, np.int64)
            # Pieces keep the wide integers that bincount makes of the labels inside the cache.
            for piece in np.array_split(self.array.ravel(), self.array.size // _COUNTED_AT_ONCE + 1):
                counts += label_counts(piece, len(counts))
            found = np.flatnonzero(counts)
            counts = counts[found]
        return found[found > 0], counts[found > 0]


def label_counts(labels: np.ndarray, n: int) -> np.ndarray:
    """How often each number from 0 to n - 1 occurs among labels (m,), int64 (n,).

    Labels come in runs of equal ones, which are counted in a third of the time of their voxels.
    """
    new = np.ones(labels.size, bool)
    np.not_equal(labels[1:], labels[:-1], out=new[1:])
    starts = np.flatnonzero(new)
    if starts.size > _MOST_RUNS * labels.size:
        return np.bincount(labels, minlength=n)
    lengths = np.diff(starts, append=labels.size)
    # Sums of whole numbers, exact in float64.
    return np.bincount(labels.take(starts), lengths, n).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Points in mm, RAS, (N, ndim) float64; row i of the fixed set corresponds to row i of the moving set.

    Raises DatasetError if the array is not (N, 2) or (N, 3) or has values that are not finite.
    """

    points_mm: np.ndarray

    def __post_init__(self) -> None:
        points = np.array(self.points_mm, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] not in (2, 3):
            raise DatasetError(f"landmarks: array of shape {points.shape}, expected (N, 2) or (N, 3)")
        if not np.isfinite(points).all():
            raise DatasetError("landmarks: coordinates are not finite")
        object.__setattr__(self, "points_mm", _read_only(points))

    def __len__(self) -> int:
        return len(self.points_mm)
