"""Two-dimensional grids of files that place their voxels in three-dimensional space.

A slice in a file has a 4x4 affine. Its 2-D world coordinates are defined by the plane alone, never by
the order or direction of its voxel axes, so that slices of one scanner space stay in one 2-D space:

- The world axis nearest to the plane's normal is left out; the two others, in the order x, y, z, give
  the 2-D axes. For a plane along the world axes this picks rows of the affine.
- In an oblique plane the first 2-D axis is the first of those world axes, projected into the plane; the
  second is at right angles to it, on the side of the other world axis. Distances within the plane are kept.

The position along the normal is lost. A slice that is not axial has 2-D axes other than right and front;
`Grid.orientation` and ITK treat them as if they were.
"""

from __future__ import annotations

import numpy as np

from regbench.errors import DatasetError
from regbench.volume import Grid

_ALIGNED = 1e-3


def plane_grid(shape: tuple[int, int], affine: np.ndarray, axes: tuple[int, int]) -> Grid:
    """The 2-D grid of the voxel axes `axes` of a 4x4 affine (voxel -> RAS mm)."""
    steps, origin = affine[:3, list(axes)], affine[:3, 3]
    normal = np.cross(steps[:, 0], steps[:, 1])
    length = np.linalg.norm(normal)
    if not np.isfinite(length) or length < 1e-9:
        raise DatasetError("grid: the affine is not invertible (an axis has no length, or axes are parallel)")
    frame = _frame(normal / length)
    flat = np.eye(3)
    flat[:2, :2], flat[:2, 2] = frame @ steps, frame @ origin
    return Grid(shape, flat)


def space_affine(grid: Grid) -> np.ndarray:
    """The 4x4 affine under which a file places a grid: a 2-D grid lies in the x-y plane at z = 0."""
    if grid.ndim == 3:
        return np.array(grid.affine)
    affine = np.eye(4)
    affine[:2, :2], affine[:2, 3] = grid.linear, grid.origin_mm
    return affine


def _frame(normal: np.ndarray) -> np.ndarray:
    """The two in-plane unit axes of a plane, (2, 3)."""
    dropped = int(np.abs(normal).argmax())
    first, second = np.delete(np.eye(3), dropped, axis=0)
    if np.abs(np.delete(normal, dropped)).max() <= _ALIGNED:
        return np.stack([first, second])
    across = first - normal * (normal @ first)
    across /= np.linalg.norm(across)
    along = np.cross(normal, across)
    return np.stack([across, along if along @ second > 0 else -along])
