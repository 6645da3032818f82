"""Displacement fields and world affines: the one way in which regbench expresses a registration.

A `Displacement` holds a vector u(x) in mm (RAS) for every voxel centre x of the FIXED grid, and says
where in the moving image to look (pull-back): `moved(x) = moving(x + u(x))`. Nothing about the moving
grid is stored; fixed and moving grids may differ in every respect. A rigid or affine stage is part of
the field. World affines are (ndim+1, ndim+1) matrices that map fixed world points to moving world
points, so they pull back, too.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from regbench.errors import InvalidDisplacement
from regbench.volume import Grid, _read_only


@dataclass(frozen=True, eq=False)
class Displacement:
    """A pull-back displacement in mm, RAS: `vectors_mm` (*grid.shape, ndim) float32 on the fixed grid.

    `inverse` is the other direction, where it is known: a displacement on a grid of its own, the moving one as a
    rule, that leads moving points y to fixed points y + v(y). Raises InvalidDisplacement if the array does not fit
    the grid or has values that are not finite.
    """

    vectors_mm: np.ndarray
    grid: Grid
    inverse: Displacement | None = None

    def __post_init__(self) -> None:
        vectors = np.asarray(self.vectors_mm)
        expected = (*self.grid.shape, self.grid.ndim)
        if vectors.shape != expected:
            raise InvalidDisplacement(f"displacement of shape {vectors.shape}, expected {expected} on the fixed grid")
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        n_bad = vectors.size - int(np.count_nonzero(np.isfinite(vectors)))
        if n_bad:
            raise InvalidDisplacement(f"displacement: {n_bad} of {vectors.size} components are NaN or infinite")
        object.__setattr__(self, "vectors_mm", _read_only(vectors))

    @classmethod
    def identity(cls, grid: Grid) -> Displacement:
        """The field that moves nothing."""
        return cls(np.zeros((*grid.shape, grid.ndim), np.float32), grid)

    @classmethod
    def from_affine(cls, matrix: np.ndarray, grid: Grid) -> Displacement:
        """The field of a world affine (ndim+1, ndim+1) that maps fixed points to moving points in mm."""
        points = grid.world_points()
        return cls(points @ matrix[:-1, :-1].T + matrix[:-1, -1] - points, grid)

    @classmethod
    def from_targets(cls, targets_mm: np.ndarray, grid: Grid) -> Displacement:
        """The field that sends each voxel centre to the moving world point in `targets_mm` (*shape, ndim)."""
        return cls(targets_mm - grid.world_points(), grid)

    @classmethod
    def from_voxels(cls, vectors_voxel: np.ndarray, grid: Grid, moving_grid: Grid) -> Displacement:
        """The field of index displacements: fixed index i corresponds to moving index i + d(i), (*shape, ndim)."""
        return cls.from_targets(moving_grid.to_world(grid.indices() + vectors_voxel), grid)

    def targets(self) -> np.ndarray:
        """The moving world point of every fixed voxel centre, x + u(x), (*shape, ndim) float64 in mm."""
        return self.grid.world_points() + self.vectors_mm

    def in_voxels(self, moving_grid: Grid) -> np.ndarray:
        """Index displacements d with moving index = i + d(i), (*shape, ndim) float64."""
        return moving_grid.to_voxel(self.targets()) - self.grid.indices()

    def then(self, matrix: np.ndarray) -> Displacement:
        """The field followed by a world affine: x -> matrix @ (x + u(x)); its inverse is led by the affine, too."""
        followed = Displacement.from_targets(self.targets() @ matrix[:-1, :-1].T + matrix[:-1, -1], self.grid)
        if self.inverse is None:
            return followed
        # The inverse starts with the way back through the affine. Moving its grid along makes that way one between
        # voxel centres, so nothing is interpolated.
        grid = Grid(self.inverse.grid.shape, matrix @ self.inverse.grid.affine)
        return dataclasses.replace(followed, inverse=Displacement.from_targets(self.inverse.targets(), grid))

    @property
    def max_mm(self) -> float:
        """The length of the longest vector in mm."""
        return float(np.sqrt(np.square(self.vectors_mm, dtype=np.float64).sum(-1).max()))
