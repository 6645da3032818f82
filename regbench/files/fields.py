"""Displacement fields from files, and back, in the formats of registration programs.

    format                  file                                              content
    regbench                .npz with `vectors_mm`, `affine`, `format`        mm, RAS; float16 unless exact
    itk                     .nii[.gz] 5-D (*shape, 1, n), intent 1007         mm, LPS (ITK, ANTs); intent 1006: RAS
                            .mha, .nrrd, ... vector image                     mm, LPS
    itk-transform           .mat, .h5, .tfm, .xfm                             any ITK transform
    learn2reg               .nii[.gz] 4-D or .npz, (*shape, n)                voxels; (n, *half shape) also
    voxelmorph              .nii[.gz] or .npz, (n, *shape)                    voxels
    grid-sample-aligned     .npz, (1, *shape, n)                              [-1, 1], align_corners=True
    grid-sample-unaligned   .npz, (1, *shape, n)                              [-1, 1], align_corners=False
    fsl-relative            .nii[.gz] 4-D (*shape, 3)                         FSL mm
    fsl-absolute            .nii[.gz] 4-D (*shape, 3)                         FSL mm
    niftyreg-deformation    .nii[.gz] 5-D (*shape, 1, n), name NREG_TRANS     mm, RAS, absolute moving positions
    niftyreg-displacement   the same, with intent_p1 1 instead of 0           mm, RAS
    deeds                   _displacements.dat of deedsBCV                    voxels on a coarse grid

The arrays are explained in `conventions`. Without a format, `load_field` decides by dimension, shape and
NIfTI intent, and refuses what could be two formats: voxels read as mm look like a bad registration.
float16 rounds a component by at most 1/2048 of its size (0.004 mm at 10 mm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regbench.displacement import Displacement
from regbench.errors import DatasetError, InvalidDisplacement, MethodError, StoreError
from regbench.files import conventions
from regbench.files.atomic import first_line, full_suffix, replaced
from regbench.files.images import check_exists
from regbench.files.itk import (
    affine_from_sitk,
    displacement_from_sitk,
    displacement_of_transform,
    displacement_to_sitk,
    grid_of,
    on_fixed_grid,
    ras_signs,
    sample_like_itk,
)
from regbench.files.nifti import INTENT_VECTOR, read_nifti, write_nifti
from regbench.files.planes import plane_grid, space_affine
from regbench.volume import Grid

FORMATS = (
    "regbench",
    "itk",
    "itk-transform",
    "learn2reg",
    "voxelmorph",
    "grid-sample-aligned",
    "grid-sample-unaligned",
    "fsl-relative",
    "fsl-absolute",
    "niftyreg-deformation",
    "niftyreg-displacement",
    "deeds",
)
_READ_ONLY = ("itk-transform", "niftyreg-deformation", "niftyreg-displacement", "deeds")
_MARKER = "regbench displacement 1: mm, RAS, pull-back, on the fixed grid"
_NIFTI = (".nii", ".nii.gz")
_TRANSFORMS = (".mat", ".h5", ".hdf5", ".tfm", ".txt", ".xfm")
_INTENT_RAS_VECTOR = 1006
_INTENTS_FSL = (2006,)
_INTENTS_FSL_COEFFICIENTS = (2007, 2008, 2009, 2016)
_NIFTYREG = "NREG_TRANS"
# What NiftyReg keeps in intent_p1 of its fields; other numbers are control points and velocities.
_NIFTYREG_FORMATS = {0.0: "niftyreg-deformation", 1.0: "niftyreg-displacement"}
_DEEDS_SUFFIX = "_displacements.dat"
# Above this size in mm float16 has steps of 1 mm and more; such fields are stored exactly.
_FLOAT16_MAX_MM = 1000.0


@dataclass(frozen=True)
class _Raw:
    """An array as it stands in a file, with what the file says about it."""

    path: Path
    array: np.ndarray
    affine: np.ndarray | None = None
    intent: int = 0
    intent_name: str = ""
    intent_parameter: float = 0.0


# -- reading ------------------------------------------------------------------------------------------


def load_field(path: Path | str, fixed_grid: Grid, moving_grid: Grid, format: str | None = None) -> Displacement:
    """The displacement in a file, on the fixed grid; the format (one of FORMATS) is detected if not given.

    Raises DatasetError if the file cannot be read or its format is not certain, InvalidDisplacement if the
    field has NaN or does not fit the fixed grid. ITK fields on another grid are interpolated.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise DatasetError(f"{path}: unknown field format '{format}'; known: {', '.join(FORMATS)}")
    check_exists(path)
    try:
        if format == "itk-transform" or (format is None and full_suffix(path) in _TRANSFORMS):
            return _read_transform(path, fixed_grid)
        if format == "deeds" or (format is None and path.name.endswith(_DEEDS_SUFFIX)):
            return conventions.from_deeds(np.fromfile(path, dtype="<f4"), fixed_grid, moving_grid)
        if full_suffix(path) not in (*_NIFTI, ".npz", ".npy"):
            return _read_itk_image(path, fixed_grid, format)
        raw = _read_raw(path)
        return _converted(raw, format or _detected(raw, fixed_grid), fixed_grid, moving_grid)
    except InvalidDisplacement as error:
        raise InvalidDisplacement(f"{path}: {error}") from None
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
    except Exception as error:
        # Parsers of other packages raise anything on a damaged file; all of it means the same to the user.
        raise DatasetError(
            f"{path}: cannot be read ({first_line(error)}); the file is damaged or no displacement field"
        ) from error


def load_own_field(path: Path | str) -> Displacement:
    """The displacement in a file of regbench's own, on the grid that the file names; errors as in `load_field`."""
    path = Path(path)
    check_exists(path)
    try:
        raw = _read_raw(path)
        if raw.intent_name != _MARKER or raw.affine is None:
            raise DatasetError("is not a displacement that this version of regbench has written")
        return Displacement(raw.array, Grid(raw.array.shape[:-1], raw.affine))
    except (DatasetError, InvalidDisplacement) as error:
        raise type(error)(f"{path}: {error}") from None
    except Exception as error:
        raise DatasetError(f"{path}: cannot be read ({first_line(error)}); the file is damaged") from error


def read_itk_warp(path: Path | str, fixed_grid: Grid) -> Displacement:
    """The displacement of one ITK or ANTs warp file on the fixed grid; errors as in `load_field`."""
    return load_field(path, fixed_grid, fixed_grid, format="itk")


def read_ants_transforms(
    paths: Sequence[Path | str], fixed_grid: Grid, invert: Sequence[bool] | None = None
) -> Displacement:
    """The displacement of a list of ANTs transforms, such as `fwdtransforms` = [warp, affine .mat].

    Points go through the list from the first to the last, which is how `ants.apply_transforms` reads it.
    `invert` is its `whichtoinvert`: only linear transforms can be inverted. Errors as in `load_field`.
    """
    flags = [False] * len(paths) if invert is None else list(invert)
    if not paths or len(flags) != len(paths):
        raise DatasetError(f"transforms: {len(paths)} files and {len(flags)} flags to invert; give one per file")
    start = fixed_grid.world_points()
    points = start
    for name, inverted in zip(paths, flags, strict=True):
        path = Path(name)
        check_exists(path)
        try:
            points = _through(path, points, inverted)
        except (DatasetError, MethodError) as error:
            raise type(error)(f"{path}: {error}") from None
        except Exception as error:
            raise DatasetError(
                f"{path}: cannot be read ({first_line(error)}); give an ITK or ANTs transform"
            ) from error
    return Displacement(points - start, fixed_grid)


def _through(path: Path, points: np.ndarray, inverted: bool) -> np.ndarray:
    ndim = points.shape[-1]
    if full_suffix(path) in _TRANSFORMS:
        matrix = affine_from_sitk(_sitk_transform(path, ndim))
        matrix = np.linalg.inv(matrix) if inverted else matrix
        return points @ matrix[:-1, :-1].T + matrix[:-1, -1]
    if inverted:
        raise DatasetError("a warp cannot be inverted; give the InverseWarp file")
    if full_suffix(path) in _NIFTI:
        vectors, grid = _itk_vectors(_read_raw(path), ndim)
    else:
        own = _read_vector_image(path)
        vectors, grid = displacement_from_sitk(own, grid_of(own)).vectors_mm, grid_of(own)
    if not np.isfinite(vectors).all():
        raise InvalidDisplacement("displacement: some components are NaN or infinite")
    return points + sample_like_itk(vectors, grid, points)


def _read_raw(path: Path) -> _Raw:
    if full_suffix(path) in _NIFTI:
        volume = read_nifti(path)
        return _Raw(path, volume.array, volume.affine, volume.intent, volume.intent_name, volume.intent_parameter)
    if full_suffix(path) == ".npy":
        return _Raw(path, np.load(path, allow_pickle=False))
    with np.load(path, allow_pickle=False) as stored:
        if "vectors_mm" in stored and "format" in stored:
            return _Raw(path, stored["vectors_mm"], stored["affine"], intent_name=str(stored["format"]))
        if len(stored.files) != 1:
            raise DatasetError(f"holds {', '.join(stored.files) or 'nothing'}; a displacement file holds one array")
        return _Raw(path, stored[stored.files[0]])


def _detected(raw: _Raw, fixed_grid: Grid) -> str:
    """The format of an array; DatasetError that names the candidates if it is not certain."""
    if raw.intent_name.startswith("regbench displacement"):
        return "regbench"
    if raw.intent_name.startswith(_NIFTYREG):
        return _niftyreg_format(raw)
    if raw.intent in _INTENTS_FSL_COEFFICIENTS:
        raise DatasetError("holds FSL coefficients, not a field; convert it with fnirtfileutils first")
    shape, n = fixed_grid.shape, fixed_grid.ndim
    channels_last, channels_first = (*shape, n), (n, *shape)
    if raw.array.ndim == 5 and raw.array.shape[3] == 1 and raw.affine is not None:
        if raw.intent in (INTENT_VECTOR, _INTENT_RAS_VECTOR):
            return "itk"
        raise _uncertain(raw, "a 5-D file without the intent of a vector", ["itk"])
    if raw.array.shape == channels_last == channels_first:
        raise _uncertain(raw, "this shape", ["learn2reg", "voxelmorph"])
    if raw.array.shape == (1, *channels_last):
        raise _uncertain(raw, "a grid_sample array", ["grid-sample-aligned", "grid-sample-unaligned"])
    if raw.array.shape in (channels_first, (1, *channels_first)):
        return "voxelmorph"
    if raw.array.shape == channels_last:
        return _detected_channels_last(raw)
    if raw.array.shape == (n, *(k // 2 for k in shape)):
        return "learn2reg"
    raise InvalidDisplacement(f"array of shape {raw.array.shape} fits no format on a fixed grid of shape {shape}")


def _niftyreg_format(raw: _Raw) -> str:
    if raw.intent_parameter not in _NIFTYREG_FORMATS:
        raise DatasetError(
            f"holds control points or velocities of NiftyReg (intent_p1 {raw.intent_parameter:g}), not a field; "
            "convert it with `reg_transform -ref FIXED -def FILE FIELD.nii.gz`"
        )
    return _NIFTYREG_FORMATS[raw.intent_parameter]


def _detected_channels_last(raw: _Raw) -> str:
    """The format of an array (*shape, n): Learn2Reg in npz or by its file name, else in doubt with FSL."""
    if raw.intent in _INTENTS_FSL:
        raise _uncertain(raw, "an FSL warp", ["fsl-relative", "fsl-absolute"])
    if raw.affine is None or raw.path.name.startswith("disp_"):
        return "learn2reg"
    raise _uncertain(raw, "a 4-D file", ["learn2reg", "fsl-relative", "fsl-absolute"])


def _uncertain(raw: _Raw, what: str, formats: list[str]) -> DatasetError:
    intent = f" (intent {raw.intent})" if raw.affine is not None else ""
    choice = " or ".join(formats)
    return DatasetError(f"{what}{intent} does not tell its convention; say which format: {choice} (`--format`)")


def _converted(raw: _Raw, format: str, fixed_grid: Grid, moving_grid: Grid) -> Displacement:
    array = raw.array
    if format == "regbench":
        return _from_own(raw, fixed_grid)
    if format == "itk":
        vectors, grid = _itk_vectors(raw, fixed_grid.ndim)
        return on_fixed_grid(vectors, grid, fixed_grid)
    if format.startswith("niftyreg"):
        return _from_niftyreg(raw, format, fixed_grid)
    if format == "learn2reg":
        return conventions.from_learn2reg(array, fixed_grid, moving_grid)
    if format == "voxelmorph":
        return conventions.from_voxelmorph(array, fixed_grid, moving_grid)
    if format.startswith("grid-sample"):
        aligned = format == "grid-sample-aligned"
        return conventions.from_grid_sample(array, fixed_grid, moving_grid, align_corners=aligned)
    return conventions.from_fsl(array, fixed_grid, moving_grid, absolute=format == "fsl-absolute")


def _from_own(raw: _Raw, fixed_grid: Grid) -> Displacement:
    if raw.intent_name != _MARKER or raw.affine is None:
        raise DatasetError("is not a displacement that this version of regbench has written")
    grid = Grid(raw.array.shape[:-1], raw.affine)
    if not grid.matches(fixed_grid):
        raise InvalidDisplacement(
            f"displacement: made for a fixed image of {grid.describe()}, and this one has {fixed_grid.describe()}"
        )
    return Displacement(raw.array, fixed_grid)


def _itk_vectors(raw: _Raw, ndim: int) -> tuple[np.ndarray, Grid]:
    """RAS vectors in mm (*shape, n) of a 5-D NIfTI warp, and the grid on which the file places them."""
    if raw.intent_name.startswith(_NIFTYREG):
        raise DatasetError(f"holds a {_niftyreg_format(raw)}, not an ITK warp; leave the format out")
    vectors, grid = _vectors_5d(raw, ndim, "ITK warp")
    # Intent 1006 says that the vectors are in the world of the file, which for NIfTI is RAS; ITK does the same.
    return (vectors if raw.intent == _INTENT_RAS_VECTOR else vectors * ras_signs(ndim)), grid


def _from_niftyreg(raw: _Raw, format: str, fixed_grid: Grid) -> Displacement:
    vectors, grid = _vectors_5d(raw, fixed_grid.ndim, "NiftyReg field")
    if raw.intent_name.startswith(_NIFTYREG) and _niftyreg_format(raw) != format:
        raise DatasetError(f"holds a {_niftyreg_format(raw)}, not a {format}; leave the format out")
    if format == "niftyreg-deformation":
        vectors = vectors - grid.world_points()
    return on_fixed_grid(vectors, grid, fixed_grid)


def _vectors_5d(raw: _Raw, ndim: int, what: str) -> tuple[np.ndarray, Grid]:
    """The vectors (*shape, n) as they stand in a 5-D NIfTI file (*shape, 1, n), and the grid where it places them."""
    array = raw.array
    if raw.affine is None or array.ndim != 5 or array.shape[3] != 1 or array.shape[4] != ndim:
        raise InvalidDisplacement(f"displacement: array of shape {array.shape} is not a {ndim}-D {what} in NIfTI")
    array = array[:, :, :, 0, :].astype(np.float64)
    if ndim == 3:
        return array, Grid(array.shape[:3], raw.affine)
    if array.shape[2] != 1:
        raise InvalidDisplacement(f"displacement: array of shape {raw.array.shape} is not a 2-D {what}")
    return array[:, :, 0], plane_grid(array.shape[:2], raw.affine, (0, 1))


def _read_itk_image(path: Path, fixed_grid: Grid, format: str | None) -> Displacement:
    if format not in (None, "itk"):
        raise DatasetError(f"'{full_suffix(path)}' files hold ITK fields, not {format}; leave the format out")
    return displacement_from_sitk(_read_vector_image(path), fixed_grid)


def _read_vector_image(path: Path) -> Any:
    import SimpleITK as sitk

    return sitk.ReadImage(str(path))


def _read_transform(path: Path, fixed_grid: Grid) -> Displacement:
    return displacement_of_transform(_sitk_transform(path, fixed_grid.ndim), fixed_grid)


def _sitk_transform(path: Path, ndim: int) -> Any:
    import SimpleITK as sitk

    transform = sitk.ReadTransform(str(path))
    if transform.GetDimension() != ndim:
        raise InvalidDisplacement(f"transform: is {transform.GetDimension()}-D, the fixed image {ndim}-D")
    return transform


# -- writing ------------------------------------------------------------------------------------------


def save_field(
    path: Path | str,
    displacement: Displacement,
    format: str | None = None,
    moving_grid: Grid | None = None,
    exact: bool = False,
) -> None:
    """Write a displacement; without a format `.npz` is regbench's own and other suffixes are ITK's.

    `moving_grid` is needed by all formats but these two; `exact` keeps float32 in regbench's own. Raises
    StoreError if the file cannot be written or the format does not go with its suffix.
    """
    path = Path(path)
    format = format or ("regbench" if full_suffix(path) == ".npz" else "itk")
    if format == "regbench":
        _write_npz(path, _own_arrays(displacement, exact))
    elif format == "itk":
        write_itk_warp(path, displacement)
    elif format in _READ_ONLY or format not in FORMATS:
        known = ", ".join(name for name in FORMATS if name not in _READ_ONLY)
        raise StoreError(f"{path}: fields cannot be written as '{format}'; known: {known}")
    elif moving_grid is None:
        raise StoreError(f"{path}: the format {format} is in units of the moving image; give its grid")
    else:
        _write_array(path, _in_convention(displacement, format, moving_grid), format, displacement.grid)


def write_itk_warp(path: Path | str, displacement: Displacement) -> None:
    """Write a warp that ITK and ANTs read: NIfTI (5-D, intent 1007, LPS mm, float32), `.mha` or `.nrrd`."""
    path = Path(path)
    grid, suffix = displacement.grid, full_suffix(path)
    if suffix in _NIFTI:
        vectors = conventions.to_itk_vectors(displacement)
        array = vectors.reshape(*grid.shape, *[1] * (4 - grid.ndim), grid.ndim)
        write_nifti(path, array, space_affine(grid), INTENT_VECTOR)
    elif suffix in (".mha", ".nrrd"):
        import SimpleITK as sitk

        image = sitk.Cast(displacement_to_sitk(displacement), sitk.sitkVectorFloat32)
        with replaced(path) as temporary:
            sitk.WriteImage(image, str(temporary), useCompression=True)
    else:
        raise StoreError(f"{path}: cannot write a field as '{suffix}'; use .npz, .nii.gz, .mha or .nrrd")


def _own_arrays(displacement: Displacement, exact: bool) -> dict[str, Any]:
    small = not exact and displacement.max_mm < _FLOAT16_MAX_MM
    vectors = displacement.vectors_mm.astype(np.float16) if small else displacement.vectors_mm
    return {"vectors_mm": vectors, "affine": displacement.grid.affine, "format": np.array(_MARKER)}


def _in_convention(displacement: Displacement, format: str, moving_grid: Grid) -> np.ndarray:
    if format == "learn2reg":
        return conventions.to_learn2reg(displacement, moving_grid)
    if format == "voxelmorph":
        return conventions.to_voxelmorph(displacement, moving_grid)
    if format in ("grid-sample-aligned", "grid-sample-unaligned"):
        return conventions.to_grid_sample(displacement, moving_grid, align_corners=format == "grid-sample-aligned")
    return conventions.to_fsl(displacement, moving_grid, absolute=format == "fsl-absolute")


def _write_array(path: Path, array: np.ndarray, format: str, grid: Grid) -> None:
    suffix = full_suffix(path)
    if suffix == ".npz":
        _write_npz(path, {"arr_0": array})
    elif suffix in _NIFTI and not format.startswith("grid-sample"):
        write_nifti(path, array, space_affine(grid), _INTENTS_FSL[0] if format.startswith("fsl") else 0)
    else:
        raise StoreError(f"{path}: the format {format} cannot be written as '{suffix}'; use .npz")


def _write_npz(path: Path, arrays: dict[str, Any]) -> None:
    with replaced(path) as temporary:
        np.savez_compressed(temporary, **arrays)
