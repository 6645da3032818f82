"""A pair seen through a displacement: what all metrics share, computed once and only where it is asked for.

Conventions:

- The moved image and the moved labels are the moving ones pulled back onto the fixed grid (`regbench.warp`).
- The field is differentiated over voxel indices i of the FIXED grid: with A the linear part of the fixed affine,
  det(d(x + u)/dx) = det(A + du/di) / det(A). So the determinant is the physical one on oblique, anisotropic and
  left-handed grids, whatever the moving grid is like.
- The foreground is a region of the FIXED image, so it is the same for all methods.
- What a pair excludes takes no part in scores. Of what is measured in the fixed image alone (the foreground, the
  information of an image) its own excluded voxels are left out. Where two label maps are compared, those are left out
  too that the displacement leads into excluded voxels of the moving image, in both maps: for them nobody knows what
  would be right. Landmarks in an excluded voxel of their image do not count. Which labels are scored depends on the
  pair alone: those with a voxel that is not excluded in either image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import ConfigError, InvalidDisplacement
from regbench.label_votes import warp_labels_linear
from regbench.pair import Pair
from regbench.slabs import Scratch, boxes_around, map_slabs, row_slabs
from regbench.volume import Image, Labels
from regbench.warp import Box, warp, warp_within

# Labels are read from the nearest voxel; by the votes of the corners of the cell around a point; or, where a metric
# can use shares of labels, as one-hot maps read linearly.
LabelWarp = Literal["nearest", "linear", "soft"]
T = TypeVar("T")

# How far around a voxel of the foreground metrics look at intensities, in voxels along each axis.
NEAR_VOXELS = 4

Matrix = Sequence[Sequence[np.ndarray]] | np.ndarray


@dataclass(frozen=True, eq=False)
class Alignment:
    """A pair and the displacement that a method returned for it.

    `label_warp` says how label maps are moved, `threads` how many threads metrics may use; the latter changes no
    number. Raises InvalidDisplacement if the displacement is not on the fixed grid, ConfigError for another label warp.
    """

    pair: Pair
    displacement: Displacement
    label_warp: LabelWarp = "nearest"
    threads: int = 1
    _known: dict[Callable[[Alignment], Any], Any] = field(default_factory=dict, repr=False)
    _announced: set[str] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        given, fixed = self.displacement.grid, self.pair.fixed.grid
        if not given.matches(fixed):
            raise InvalidDisplacement(
                f"pair {self.pair.name}: the displacement is on {given.describe()}, "
                f"not on the fixed grid of {fixed.describe()}; return it on the fixed grid"
            )

        if self.label_warp not in get_args(LabelWarp):
            known = ", ".join(get_args(LabelWarp))
            raise ConfigError(f"label_warp: unknown mode '{self.label_warp}'; known: {known}")

    def once(self, compute: Callable[[Alignment], T]) -> T:
        """What `compute(self)` returns, computed once: for results that several metrics share."""
        if compute not in self._known:
            self._known[compute] = compute(self)
        found: T = self._known[compute]
        return found

    def announce(self, names: Sequence[str]) -> None:
        """Says which metrics will be asked for, so that shared computations leave out what none of them needs."""
        self._announced.update(names)

    def wants(self, name: str) -> bool:
        """Whether a metric may be asked for: if it was announced, or nothing was."""
        return not self._announced or name in self._announced

    @cached_property
    def moved_image(self) -> Image:
        """The moving image on the fixed grid, read linearly; 0 where the field points outside the moving image."""
        return warp(self.pair.moving, self.displacement, threads=self.threads)

    @cached_property
    def near_boxes(self) -> list[Box]:
        """Boxes on the fixed grid that hold every voxel at most NEAR_VOXELS along each axis from the foreground."""
        return boxes_around(self.foreground, NEAR_VOXELS, 1 << 16)

    @cached_property
    def moved_near(self) -> np.ndarray:
        """The intensities of `moved_image` in `near_boxes`, float32 of the fixed shape; of no meaning elsewhere.

        It takes a part of the time of the whole image.
        """
        if "moved_image" in vars(self):
            return self.moved_image.array
        return warp_within(self.pair.moving, self.displacement, self.near_boxes, self.threads)

    @cached_property
    def moved_labels(self) -> Labels | None:
        """The moving labels on the fixed grid, moved as `label_warp` says; None if the pair has none.

        With `soft` they are those of `linear`, for metrics that need one label per voxel.
        """
        if self.pair.moving_labels is None:
            return None
        move = warp if self.label_warp == "nearest" else warp_labels_linear
        return move(self.pair.moving_labels, self.displacement, threads=self.threads)

    @cached_property
    def excluded(self) -> np.ndarray | None:
        """The voxels in which label maps are not compared, bool of the fixed shape; None where nothing is excluded."""
        there = self.pair.moving_excluded
        moved = None if there is None else warp(there, self.displacement, threads=self.threads).array > 0
        if self.pair.fixed_excluded is None:
            return moved
        here = self.pair.fixed_excluded.array > 0
        return here if moved is None else here | moved

    @cached_property
    def own_labels(self) -> tuple[Labels | None, Labels | None]:
        """The label maps of the fixed and of the moving image, background where their own image is excluded."""
        pair = self.pair
        return (
            _without(pair.fixed_labels, pair.fixed_excluded),
            _without(pair.moving_labels, pair.moving_excluded),
        )

    @cached_property
    def compared_labels(self) -> tuple[Labels | None, Labels | None]:
        """The fixed and the moved label map, background in `excluded`; the maps themselves where that is None."""
        maps = self.pair.fixed_labels, self.moved_labels
        if self.excluded is None:
            return maps
        left_out = Labels(self.excluded, self.pair.fixed.grid)
        return _without(maps[0], left_out), _without(maps[1], left_out)

    @cached_property
    def scored_labels(self) -> np.ndarray:
        """The labels that occur in the fixed and in the (unwarped) moving label map, ascending."""
        fixed, moving = self.own_labels
        if fixed is None or moving is None:
            return np.zeros(0, dtype=np.intp)
        return np.intersect1d(fixed.values, moving.values)

    @cached_property
    def absent_labels(self) -> np.ndarray:
        """The labels that occur on one side only, fixed or (unwarped) moving, ascending; they have no score."""
        fixed, moving = self.own_labels
        if fixed is None or moving is None:
            return np.zeros(0, dtype=np.intp)
        return np.setxor1d(fixed.values, moving.values)

    @cached_property
    def jacobian(self) -> np.ndarray:
        """Determinants of d(x + u)/dx at interior voxels, float32 of shape (n - 2 for n in grid.shape).

        Central differences; negative or zero where the map folds. Empty if an axis has fewer than 3 voxels.
        """
        return jacobian_determinants(self.displacement, self.threads)

    @cached_property
    def foreground(self) -> np.ndarray:
        """The region of the fixed image that is looked at, bool of the fixed shape, never empty.

        The first of these that holds any voxel: fixed labels > 0, fixed mask > 0, fixed image > 0, everything; each
        without what is excluded.
        """
        excluded = self.pair.fixed_excluded
        for part in (self.pair.fixed_labels, self.pair.fixed_mask, self.pair.fixed):
            if part is not None:
                region = part.array > 0
                if excluded is not None:
                    region &= excluded.array == 0
                if region.any():
                    return region
        return np.ones(self.pair.fixed.grid.shape, bool) if excluded is None else excluded.array == 0


def _without(labels: Labels | None, excluded: Labels | None) -> Labels | None:
    """The labels, background where a voxel is excluded."""
    if labels is None or excluded is None:
        return labels
    return Labels(np.where(excluded.array > 0, 0, labels.array), labels.grid, labels.names)


def component_planes(displacement: Displacement, rows: slice, scratch: Scratch) -> np.ndarray:
    """The components in mm of some rows of the first axis, each contiguous: (ndim, rows, ...) float32 in scratch."""
    vectors = displacement.vectors_mm[rows]
    planes = scratch.array("component planes", (vectors.shape[-1], *vectors.shape[:-1]))
    for component, plane in enumerate(planes):
        np.copyto(plane, vectors[..., component])
    return planes


def line_strides(shape: Sequence[int]) -> list[int]:
    """How far neighbours along each axis are apart in a flattened C-ordered array."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def jacobian_slab(displacement: Displacement, rows: slice, scratch: Scratch) -> np.ndarray:
    """Determinants of d(x + u)/dx for some rows of the interior, float32 (rows, n - 2, ...) in scratch.

    Differences run over the flattened rows, whose ends of lines wrap around; those places are no interior.
    """
    grid = displacement.grid
    strides = line_strides(grid.shape)
    planes = component_planes(displacement, slice(rows.start, rows.stop + 2), scratch).reshape(grid.ndim, -1)
    first = sum(strides)
    length = planes.shape[1] - 2 * first
    # Differences span two voxels, and so do the steps of the grid that they are added to.
    steps = (2 * grid.linear).astype(np.float32)
    gradient = scratch.array("gradient", (grid.ndim, grid.ndim, length))
    for component, axis in np.ndindex(steps.shape):
        ahead, behind = first + strides[axis], first - strides[axis]
        element = gradient[component, axis]
        np.subtract(planes[component, ahead:][:length], planes[component, behind:][:length], out=element)
        if steps[component, axis] != 0:
            element += steps[component, axis]
    whole = scratch.array("determinants", (rows.stop - rows.start, *grid.shape[1:]))
    # What is too large for float32 becomes infinite or NaN.
    with np.errstate(over="ignore", invalid="ignore"):
        determinant(gradient, whole.reshape(-1)[first - strides[0] :][:length], scratch)
    inner = whole[(slice(None), *[slice(1, -1)] * (grid.ndim - 1))]
    # The same arithmetic for the grid alone makes the quotient exactly 1 where nothing changes.
    unit = determinant(steps[..., np.newaxis])
    return np.divide(inner, unit, out=scratch.array("jacobian", inner.shape))


def jacobian_determinants(displacement: Displacement, threads: int = 1) -> np.ndarray:
    """Determinants of d(x + u)/dx by central differences at interior voxels, float32 (n - 2 for n in shape)."""
    out = np.empty([max(n - 2, 0) for n in displacement.grid.shape], np.float32)

    def fill(rows: slice, scratch: Scratch) -> None:
        out[rows] = jacobian_slab(displacement, rows, scratch)

    if out.size:
        map_slabs(fill, row_slabs(out.shape), threads)
    return out


def determinant(matrix: Matrix, out: np.ndarray | None = None, scratch: Scratch | None = None) -> np.ndarray:
    """Determinants of 2x2 or 3x3 matrices given by their elements: rows of columns of arrays of one shape and type."""
    scratch = Scratch() if scratch is None else scratch
    out = np.empty_like(matrix[0][0]) if out is None else out
    product = scratch.array("product", out.shape, out.dtype)
    _minor(matrix, (0, 1), product, out)
    if len(matrix) == 2:
        return out
    out *= matrix[2][2]
    minor = scratch.array("minor", out.shape, out.dtype)
    for axes, cofactor, combine in (((1, 2), matrix[2][0], np.add), ((0, 2), matrix[2][1], np.subtract)):
        _minor(matrix, axes, product, minor)
        minor *= cofactor
        combine(out, minor, out=out)
    return out


def _minor(matrix: Matrix, axes: tuple[int, int], product: np.ndarray, out: np.ndarray) -> None:
    """Write the minor of the first two rows and columns `axes` into `out`."""
    a, b = axes
    np.multiply(matrix[0][a], matrix[1][b], out=out)
    np.multiply(matrix[0][b], matrix[1][a], out=product)
    out -= product
