"""SimpleITK images and transforms to and from regbench's own types.

ITK measures world coordinates in LPS, regbench in RAS: the first two world axes change sign, in 2-D as
well (a 2-D grid is thought of as lying in the x-y plane). ITK images have a spacing and a direction with
axes at right angles, of either handedness; a sheared grid has no ITK image. An ITK transform maps fixed
points to moving points, which is the pull-back that regbench uses, so nothing is ever inverted here.
SimpleITK is imported inside the functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import DatasetError, InvalidDisplacement
from regbench.volume import Grid, Image, Labels
from regbench.warp import linear_samples

if TYPE_CHECKING:
    import SimpleITK as sitk


def ras_signs(ndim: int) -> np.ndarray:
    """The factors that turn LPS components into RAS and back: (-1, -1) or (-1, -1, 1)."""
    return np.array([-1.0, -1.0, 1.0][:ndim])


def to_sitk(volume: Image | Labels) -> sitk.Image:
    """The SimpleITK image of an image (float32) or a label map (its integer type), with the same geometry.

    Raises DatasetError for a sheared grid.
    """
    import SimpleITK as sitk

    array = volume.array
    # Transposed, because SimpleITK's arrays have their axes in the opposite order.
    return _placed(sitk.GetImageFromArray(np.ascontiguousarray(array.T)), volume.grid)


def grid_of(image: sitk.Image) -> Grid:
    """The grid of a SimpleITK image, in RAS."""
    n = image.GetDimension()
    linear = np.array(image.GetDirection()).reshape(n, n) * np.array(image.GetSpacing())
    signs = ras_signs(n)
    affine = np.eye(n + 1)
    affine[:n, :n] = linear * signs[:, None]
    affine[:n, n] = np.array(image.GetOrigin()) * signs
    return Grid(tuple(image.GetSize()), affine)


def image_from_sitk(image: sitk.Image) -> Image:
    """The image held in a scalar SimpleITK image; DatasetError if it has colours or values not finite."""
    return Image(_scalars(image), grid_of(image))


def labels_from_sitk(image: sitk.Image) -> Labels:
    """The label map held in a scalar SimpleITK image; DatasetError if its values are no labels."""
    return Labels(_scalars(image), grid_of(image))


def displacement_to_sitk(displacement: Displacement) -> sitk.Image:
    """The vector image (float64, LPS mm) that `SimpleITK.DisplacementFieldTransform` expects.

    That transform empties the image it is given: hand it `SimpleITK.Image(field)` to keep the field.
    """
    import SimpleITK as sitk

    ndim = displacement.grid.ndim
    vectors = displacement.vectors_mm * ras_signs(ndim)
    axes = (*range(ndim - 1, -1, -1), ndim)
    array = np.ascontiguousarray(vectors.transpose(axes), dtype=np.float64)
    return _placed(sitk.GetImageFromArray(array, isVector=True), displacement.grid)


def displacement_from_sitk(field_image: sitk.Image, fixed_grid: Grid) -> Displacement:
    """The displacement held in an ITK vector image (LPS mm), on the fixed grid.

    A field on another grid is read linearly at the fixed voxel centres. As in ITK, its last half voxel is
    flat and there is no displacement beyond it. Raises InvalidDisplacement if it is no vector per voxel.
    """
    import SimpleITK as sitk

    ndim = field_image.GetDimension()
    if ndim != fixed_grid.ndim or field_image.GetNumberOfComponentsPerPixel() != ndim:
        raise InvalidDisplacement(
            f"displacement: a {ndim}-D ITK image with {field_image.GetNumberOfComponentsPerPixel()} components "
            f"per voxel cannot move a {fixed_grid.ndim}-D fixed image"
        )
    array = sitk.GetArrayViewFromImage(field_image)
    axes = (*range(ndim - 1, -1, -1), ndim)
    return on_fixed_grid(array.transpose(axes) * ras_signs(ndim), grid_of(field_image), fixed_grid)


def on_fixed_grid(vectors_mm: np.ndarray, grid: Grid, fixed_grid: Grid) -> Displacement:
    """Vectors (*grid.shape, ndim) in RAS mm as a displacement on the fixed grid, read by ITK's rules."""
    if grid.matches(fixed_grid):
        return Displacement(vectors_mm, fixed_grid)
    return Displacement(sample_like_itk(vectors_mm, grid, fixed_grid.world_points()), fixed_grid)


def sample_like_itk(vectors_mm: np.ndarray, grid: Grid, points_mm: np.ndarray) -> np.ndarray:
    """Vectors of a field at world points, (..., ndim): linear, flat in the last half voxel, zero beyond it."""
    coordinates = grid.to_voxel(points_mm)
    top = np.array(grid.shape) - 1.0
    inside = np.all((coordinates >= -0.5) & (coordinates <= top + 0.5), axis=-1)
    values = linear_samples(vectors_mm, np.clip(coordinates, 0, top))
    return np.where(inside[..., None], values, 0.0)


def displacement_of_transform(transform: sitk.Transform, fixed_grid: Grid) -> Displacement:
    """The displacement of any SimpleITK transform (fixed points to moving points) on the fixed grid.

    A linear transform works on every grid; any other needs a fixed grid without shear (DatasetError).
    """
    import SimpleITK as sitk

    if transform.IsLinear():
        return Displacement.from_affine(affine_from_sitk(transform), fixed_grid)
    like = _placed(sitk.Image(list(fixed_grid.shape), sitk.sitkUInt8), fixed_grid)
    field = sitk.TransformToDisplacementField(
        transform, sitk.sitkVectorFloat64, like.GetSize(), like.GetOrigin(), like.GetSpacing(), like.GetDirection()
    )
    return displacement_from_sitk(field, fixed_grid)


def affine_from_sitk(transform: sitk.Transform) -> np.ndarray:
    """The world affine (ndim+1, ndim+1) in RAS of a linear transform or a chain of them: fixed mm -> moving mm.

    Raises DatasetError for a transform that is not linear.
    """
    if not transform.IsLinear():
        raise DatasetError(f"transform: {transform.GetName()} is not linear, so it has no affine matrix")
    n = transform.GetDimension()
    # Asking where points go serves every linear type, with or without a centre, and chains of them.
    start = np.array(transform.TransformPoint([0.0] * n))
    steps = [np.array(transform.TransformPoint(list(unit))) - start for unit in np.eye(n)]
    signs = ras_signs(n)
    matrix = np.eye(n + 1)
    matrix[:n, :n] = np.stack(steps, axis=1) * signs[:, None] * signs
    matrix[:n, n] = start * signs
    return matrix


def affine_to_sitk(matrix: np.ndarray) -> sitk.AffineTransform:
    """The SimpleITK transform of a world affine (ndim+1, ndim+1) in RAS, with its centre at the world origin."""
    import SimpleITK as sitk

    n = len(matrix) - 1
    signs = ras_signs(n)
    transform = sitk.AffineTransform(n)
    transform.SetMatrix((matrix[:n, :n] * signs[:, None] * signs).ravel().tolist())
    transform.SetTranslation((matrix[:n, n] * signs).tolist())
    return transform


def _placed(image: sitk.Image, grid: Grid) -> sitk.Image:
    if grid.is_sheared:
        raise DatasetError(
            f"grid: its axes are not at right angles ({grid.describe()}), which ITK cannot express; "
            "resample the image onto a grid without shear first"
        )
    signs = ras_signs(grid.ndim)
    direction = grid.linear / grid.spacing_mm * signs[:, None]
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin((grid.origin_mm * signs).tolist())
    return image


def _scalars(image: sitk.Image) -> np.ndarray:
    import SimpleITK as sitk

    n_components = image.GetNumberOfComponentsPerPixel()
    if n_components != 1:
        raise DatasetError(f"image: {n_components} values per voxel (colours or vectors); convert it to one value")
    return sitk.GetArrayFromImage(image).T
