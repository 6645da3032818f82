"""Displacement conventions of other programs, as arrays, to and from `Displacement`.

All of them pull back: they say, at a fixed voxel, where in the moving image to look. They differ in unit,
axes and layout (n is 2 or 3):

    ITK, ANTs       (*shape, n)     mm, LPS
    Learn2Reg       (*shape, n)     voxels: moving index = fixed index + d; also half resolution, see below
    VoxelMorph      (n, *shape)     the same voxels, components first
    grid_sample     (*shape, n)     absolute moving position in [-1, 1], components in reverse order (torch)
    FSL             (*shape, 3)     mm in FSL's own coordinates, relative or absolute
    NiftyReg        (*shape, n)     mm, RAS: absolute moving position (deformation) or offset (displacement)
    deedsBCV        (3 * points,)   voxels on a coarse grid, one component after the other, see `from_deeds`

Fields in voxels and in [-1, 1] cannot be understood without the moving grid, because its voxel size and
direction are part of their unit. A leading axis of one (a batch) is accepted where networks write it.
Raises InvalidDisplacement for an array that does not fit the fixed grid or has values that are not finite.
"""

from __future__ import annotations

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import InvalidDisplacement
from regbench.files.itk import ras_signs
from regbench.volume import Grid


def from_itk_vectors(vectors_lps_mm: np.ndarray, fixed_grid: Grid) -> Displacement:
    """The displacement of LPS vectors in mm, (*shape, n) on the fixed grid."""
    _check(vectors_lps_mm, (*fixed_grid.shape, fixed_grid.ndim), "ITK")
    return Displacement(vectors_lps_mm * ras_signs(fixed_grid.ndim), fixed_grid)


def to_itk_vectors(displacement: Displacement) -> np.ndarray:
    """LPS vectors in mm, (*shape, n) float32."""
    return displacement.vectors_mm * ras_signs(displacement.grid.ndim).astype(np.float32)


def from_learn2reg(field: np.ndarray, fixed_grid: Grid, moving_grid: Grid) -> Displacement:
    """The displacement of a Learn2Reg field in voxels: (*shape, n), or (n, *half shape) as in its first years.

    Half-resolution fields hold displacements in voxels of the full resolution; they are enlarged as its
    evaluator does, by splines of second order with corners on corners.
    """
    ndim = fixed_grid.ndim
    if field.shape == (ndim, *(n // 2 for n in fixed_grid.shape)) and not any(n % 2 for n in fixed_grid.shape):
        from scipy.ndimage import zoom

        _check(field, field.shape, "Learn2Reg")
        field = np.stack([zoom(component.astype(np.float32), 2, order=2) for component in field], axis=-1)
    _check(field, (*fixed_grid.shape, ndim), "Learn2Reg")
    return Displacement.from_voxels(field.astype(np.float64), fixed_grid, moving_grid)


def to_learn2reg(displacement: Displacement, moving_grid: Grid) -> np.ndarray:
    """The field in voxels, (*shape, n) float32, with moving index = fixed index + d."""
    return displacement.in_voxels(moving_grid).astype(np.float32)


def from_voxelmorph(field: np.ndarray, fixed_grid: Grid, moving_grid: Grid) -> Displacement:
    """The displacement of a VoxelMorph field: (n, *shape) or (1, n, *shape) in voxels, components in array order."""
    field = _unbatched(field, fixed_grid.ndim + 1)
    _check(field, (fixed_grid.ndim, *fixed_grid.shape), "VoxelMorph")
    return Displacement.from_voxels(np.moveaxis(field, 0, -1).astype(np.float64), fixed_grid, moving_grid)


def to_voxelmorph(displacement: Displacement, moving_grid: Grid) -> np.ndarray:
    """The field in voxels with components first, (n, *shape) float32."""
    return np.ascontiguousarray(np.moveaxis(to_learn2reg(displacement, moving_grid), -1, 0))


def from_grid_sample(field: np.ndarray, fixed_grid: Grid, moving_grid: Grid, align_corners: bool) -> Displacement:
    """The displacement of a torch `grid_sample` grid, (*shape, n) or (1, *shape, n).

    With `align_corners` -1 and 1 are the centres of the first and last moving voxel, without it their outer
    borders. Using the wrong one shifts by up to half a voxel and is not visible in the numbers.
    """
    field = _unbatched(field, fixed_grid.ndim + 1)
    _check(field, (*fixed_grid.shape, fixed_grid.ndim), "grid_sample")
    position = field[..., ::-1].astype(np.float64)
    size = np.array(moving_grid.shape, dtype=float)
    if align_corners:
        index = (position + 1) / 2 * (size - 1)
    else:
        index = ((position + 1) * size - 1) / 2
    return Displacement.from_targets(moving_grid.to_world(index), fixed_grid)


def to_grid_sample(displacement: Displacement, moving_grid: Grid, align_corners: bool) -> np.ndarray:
    """The grid that torch's `grid_sample` expects for a moving image of shape (1, channels, *shape).

    (1, *shape, n) float32. The moving image keeps its array axes; the components are reversed here.
    """
    index = moving_grid.to_voxel(displacement.targets())
    size = np.array(moving_grid.shape, dtype=float)
    if align_corners:
        position = 2 * index / np.maximum(size - 1, 1) - 1
    else:
        position = (2 * index + 1) / size - 1
    return np.ascontiguousarray(position[None, ..., ::-1], dtype=np.float32)


def from_fsl(field: np.ndarray, fixed_grid: Grid, moving_grid: Grid, absolute: bool) -> Displacement:
    """The displacement of an FSL warp, (*shape, 3): offsets (relative) or positions (absolute) in FSL mm."""
    _check(field, (*fixed_grid.shape, fixed_grid.ndim), "FSL")
    position = field.astype(np.float64)
    if not absolute:
        position = position + _fsl_grid(fixed_grid).world_points()
    # The moving voxel at an FSL position, then its place in the world.
    return Displacement.from_targets(moving_grid.to_world(_fsl_grid(moving_grid).to_voxel(position)), fixed_grid)


def to_fsl(displacement: Displacement, moving_grid: Grid, absolute: bool = False) -> np.ndarray:
    """The FSL warp, (*shape, 3) float32 in FSL mm: what `applywarp` takes with `--rel` or `--abs`."""
    index = moving_grid.to_voxel(displacement.targets())
    position = _fsl_grid(moving_grid).to_world(index)
    if not absolute:
        position = position - _fsl_grid(displacement.grid).world_points()
    return position.astype(np.float32)


def from_deeds(values: np.ndarray, fixed_grid: Grid, moving_grid: Grid) -> Displacement:
    """The displacement of the numbers in deedsBCV's `_displacements.dat`, in voxels at the points of a coarse grid.

    The coarse grid has shape // step points, and its step stands nowhere: it is told by their number. Blocks of all
    points hold the components along the second, first and third image axis, the first axis running fastest. They are
    enlarged linearly, as the program does, with index i at i * points / voxels and constant beyond the last point.
    The program knows no affine: the linear start that it was given with `-A` is not in this file. Source:
    github.com/mattiaspaul/deedsBCV.
    """
    from scipy.ndimage import map_coordinates

    if fixed_grid.ndim != 3 or fixed_grid.shape != moving_grid.shape:
        raise InvalidDisplacement("displacement: deeds works on two 3-D images of one shape")
    _check(values, values.shape, "deeds")
    points = _deeds_points(values.size, fixed_grid.shape)
    coarse = values.astype(np.float64).reshape((3, *points[::-1])).transpose(0, 3, 2, 1)
    axes = [np.arange(n) * p / n for n, p in zip(fixed_grid.shape, points, strict=True)]
    places = np.meshgrid(*axes, indexing="ij")
    fine = [map_coordinates(coarse[block], places, order=1, mode="nearest") for block in (1, 0, 2)]
    return Displacement.from_voxels(np.stack(fine, axis=-1), fixed_grid, moving_grid)


def _deeds_points(n_values: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the coarse grid with three numbers at each point; the finest, should several fit."""
    for step in range(1, min(shape) + 1):
        points = tuple(n // step for n in shape)
        if 3 * np.prod(points) == n_values:
            return points
    raise InvalidDisplacement(
        f"displacement: {n_values} numbers do not fill a coarse grid of deeds for an image of shape {shape}"
    )


def _fsl_grid(grid: Grid) -> Grid:
    """The grid in FSL's coordinates: voxels times spacing, the first axis reversed on right-handed grids."""
    if grid.ndim != 3:
        raise InvalidDisplacement("displacement: FSL warps exist in 3-D only")
    affine = np.diag([*grid.spacing_mm, 1.0])
    if grid.determinant > 0:
        affine[0, 0] = -grid.spacing_mm[0]
        affine[0, 3] = (grid.shape[0] - 1) * grid.spacing_mm[0]
    return Grid(grid.shape, affine)


def _unbatched(field: np.ndarray, ndim: int) -> np.ndarray:
    return field[0] if field.ndim == ndim + 1 and field.shape[0] == 1 else field


def _check(field: np.ndarray, expected: tuple[int, ...], what: str) -> None:
    if field.shape != expected:
        raise InvalidDisplacement(f"displacement: {what} array of shape {field.shape}, expected {expected}")
    # Before any arithmetic, which would spread a NaN over all components of its voxel.
    n_bad = field.size - int(np.count_nonzero(np.isfinite(field)))
    if n_bad:
        raise InvalidDisplacement(f"displacement: {n_bad} of {field.size} components are NaN or infinite")
