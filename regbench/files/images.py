"""Images, label maps and landmarks from files, and back.

Read by suffix: NIfTI and Analyze (`.nii`, `.hdr` + `.img`, each also `.gz`), FreeSurfer (`.mgz`), numpy
(`.npz`, `.npy`), and through SimpleITK what else it knows (`.mha`, `.mhd`, `.nrrd`, ...).

- A trailing axis of one value (4-D files) is dropped; then one axis of one voxel makes the image 2-D, on the
  grid that `planes` defines.
- An npz file holds an image under `vol`, `vol_data` or `image`, labels under `seg`, `seg_data` or `labels`, or
  one array under any name. An optional `affine` places it; without it voxels are 1 mm and start at 0.
- Colours and vectors are refused; so are pictures (`.png`, `.jpg`, `.tif`), which have no spacing.
- Landmarks are CSV files of one point per row, see `read_landmarks`.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np

from regbench.errors import DatasetError, StoreError
from regbench.files.atomic import first_line, full_suffix, replaced
from regbench.files.nifti import ANALYZE_SUFFIXES, NIFTI_SUFFIXES, Volume, header_and_data, read_nifti, write_nifti
from regbench.files.planes import plane_grid, space_affine
from regbench.volume import Grid, Image, Labels, Landmarks

_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
_IMAGE_KEYS = ("vol", "vol_data", "image")
_LABEL_KEYS = ("seg", "seg_data", "labels")
_POINT_NAMES = ("", "id", "index", "label", "landmark", "name", "point")


def read_image(path: Path | str) -> Image:
    """The intensity image in a file; DatasetError if it is missing, corrupt, not finite, or has colours."""
    path = Path(path)
    array, grid = _read(path, _IMAGE_KEYS)
    try:
        return Image(array, grid)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None


def read_labels(path: Path | str) -> Labels:
    """The label map in a file; DatasetError if it is missing, corrupt, or holds other than whole numbers >= 0."""
    path = Path(path)
    array, grid = _read(path, _LABEL_KEYS)
    try:
        return Labels(array, grid)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None


def write_image(path: Path | str, image: Image) -> None:
    """Write an image as `.nii`, `.nii.gz`, `.npz`, `.mha` or `.nrrd`; StoreError if that fails.

    A sheared grid needs NIfTI or npz. NIfTI keeps affines in single precision.
    """
    _write(Path(path), image, "vol")


def write_labels(path: Path | str, labels: Labels) -> None:
    """Write a label map, see `write_image`. Label names are not kept."""
    _write(Path(path), labels, "seg")


def read_landmarks(path: Path | str, grid: Grid, most_outside: float = 0.0) -> Landmarks:
    """The points of a CSV file in RAS mm; `grid` is that of their image.

    Without a header, columns are voxel coordinates x,y[,z] on the image's array axes, the first voxel being 0
    (Learn2Reg). A header names the columns: `x,y[,z]` are voxel coordinates, `x_mm,y_mm[,z_mm]` are RAS mm;
    a column that numbers or names the points is skipped. Raises DatasetError for anything else, and if more than
    the share `most_outside` of the points lie more than one voxel outside the image, which tells coordinates of
    another kind.
    """
    path = Path(path)
    check_exists(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [(reader.line_num, row) for reader in [csv.reader(stream)] for row in reader if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as CSV ({first_line(error)}); save it as text again") from error
    if not rows:
        raise DatasetError(f"{path}: has no landmarks; remove it from the pair or fill it")
    columns, in_mm = _landmark_columns(path, rows[0][1], grid.ndim)
    if columns is None:
        columns = list(range(grid.ndim))
    else:
        rows = rows[1:]
    points = np.array([_point(path, line, row, columns) for line, row in rows]).reshape(-1, grid.ndim)
    voxel = grid.to_voxel(points) if in_mm else points
    outside = np.flatnonzero(np.any((voxel < -1) | (voxel > np.array(grid.shape)), axis=1))
    if len(outside) > most_outside * len(points):
        raise DatasetError(
            f"{path}: landmark {outside[0] + 1} lies outside its image ({grid.describe()}); give voxel coordinates "
            "from 0, or RAS mm under the column names x_mm,y_mm,z_mm"
        )
    return Landmarks(points if in_mm else grid.to_world(points))


def files_of(path: Path | str) -> list[Path]:
    """The files that hold an image: one, or header and data of the formats that keep them apart.

    Raises DatasetError or OSError if one is missing.
    """
    path = Path(path)
    suffix = full_suffix(path)
    if suffix in ANALYZE_SUFFIXES:
        check_exists(path)
        try:
            return list(header_and_data(path))
        except DatasetError as error:
            raise DatasetError(f"{path}: {error}") from None
    if suffix in (".mhd", ".nhdr"):
        key = rb"(?im)^\s*(?:ElementDataFile\s*=|data file:)\s*(\S.*?)\s*$"
        data = re.search(key, path.read_bytes()[:65536])
        beside = path.parent / data[1].decode(errors="replace") if data else path
        return [path, beside] if beside.is_file() else [path]
    return [path]


def _landmark_columns(path: Path, header: list[str], ndim: int) -> tuple[list[int] | None, bool]:
    """The columns that hold coordinates and whether they are in mm; no columns if the first row is a point."""
    names = [name.strip().lower() for name in header]
    for suffix, in_mm in (("", False), ("_mm", True)):
        wanted = [axis + suffix for axis in "xyz"[:ndim]]
        rest = [name for name in names if name not in wanted]
        if len(rest) == len(names) - ndim and all(name in _POINT_NAMES for name in rest):
            return [names.index(name) for name in wanted], in_mm
    if len(header) == ndim and _is_number(header[0]):
        return None, False
    axes = ",".join("xyz"[:ndim])
    raise DatasetError(f"{path}: columns {','.join(header)!r} are not understood; give {axes} with or without a header")


def _point(path: Path, line: int, row: list[str], columns: list[int]) -> list[float]:
    values = [row[column] if column < len(row) else "" for column in columns]
    if not all(_is_number(value) for value in values):
        raise DatasetError(f"{path}: line {line} ({','.join(row)!r}) is not a point of {len(columns)} numbers")
    return [float(value) for value in values]


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def check_exists(path: Path) -> None:
    """Raise DatasetError unless `path` is a file that can be seen and is not empty."""
    try:
        if path.is_dir():
            raise DatasetError(f"{path}: is a folder; give a file")
        if path.stat().st_size == 0:
            raise DatasetError(f"{path}: the file is empty; copy or make it again")
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise DatasetError(f"{path}: no such file; check the path") from None
        raise DatasetError(f"{path}: cannot be opened ({first_line(error)}); check its permissions") from None


def _read(path: Path, keys: tuple[str, ...]) -> tuple[np.ndarray, Grid]:
    check_exists(path)
    suffix = full_suffix(path)
    if suffix in _PICTURES:
        raise DatasetError(f"{path}: a picture file has no spacing in mm; convert it to a grey-value NIfTI image")
    try:
        if suffix in (".npz", ".npy"):
            return _read_numpy(path, keys)
        if suffix in NIFTI_SUFFIXES:
            return flattened(read_nifti(path))
        return _read_itk(path)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
    except Exception as error:
        # Parsers of other packages raise anything on a damaged file; all of it means the same to the user.
        raise DatasetError(
            f"{path}: cannot be read ({first_line(error)}); the file is damaged or no image, copy or convert it again"
        ) from error


def flattened(volume: Volume) -> tuple[np.ndarray, Grid]:
    """The 3-D or 2-D array of a volume without its axes of one value, and its grid; DatasetError if it has more."""
    array = volume.array
    if array.dtype.names or not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise DatasetError("holds colours (RGB); convert it to one grey value per voxel")
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim > 3:
        size = "x".join(map(str, array.shape))
        raise DatasetError(f"holds {size} values (several volumes or vectors); give a file with one value per voxel")
    if array.ndim not in (2, 3):
        raise DatasetError(f"holds a {array.ndim}-D array; give a 2-D or 3-D image")
    long = [axis for axis, n in enumerate(array.shape) if n != 1]
    if array.ndim == 2 or len(long) == 2:
        axes = (long[0], long[1]) if len(long) == 2 else (0, 1)
        flat = array.reshape([array.shape[axis] for axis in axes])
        return flat, plane_grid((flat.shape[0], flat.shape[1]), volume.affine, axes)
    return array, Grid(array.shape, volume.affine)


def _read_numpy(path: Path, keys: tuple[str, ...]) -> tuple[np.ndarray, Grid]:
    with np.load(path, allow_pickle=False) if full_suffix(path) == ".npz" else _Single(path) as stored:
        names = [name for name in stored if name != "affine"]
        chosen = [key for key in keys if key in names] or (names if len(names) == 1 else [])
        if not chosen:
            found = ", ".join(names) or "nothing"
            raise DatasetError(f"holds {found}; name its array {' or '.join(keys)}, or leave one array only")
        array = stored[chosen[0]]
        affine = np.asarray(stored["affine"], dtype=float) if "affine" in stored else None
    if affine is not None and affine.shape == (3, 3):
        return array, Grid(array.shape, affine)
    if affine is not None and affine.shape != (4, 4):
        raise DatasetError(f"its affine has shape {affine.shape}; give 4x4, or 3x3 for a 2-D image")
    return flattened(Volume(array, np.eye(4) if affine is None else affine))


class _Single(dict):
    """The one array of a `.npy` file, to be used like an opened `.npz`."""

    def __init__(self, path: Path) -> None:
        super().__init__(array=np.load(path, allow_pickle=False))

    def __enter__(self) -> _Single:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _read_itk(path: Path) -> tuple[np.ndarray, Grid]:
    import SimpleITK as sitk

    from regbench.files.itk import grid_of

    image = sitk.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise DatasetError(
            f"holds {image.GetNumberOfComponentsPerPixel()} values per voxel (colours or vectors); "
            "give a file with one value per voxel"
        )
    array = sitk.GetArrayFromImage(image).T
    if image.GetDimension() == 2:
        return array, grid_of(image)
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image, array = image[:, :, :, 0], array[..., 0]
    return flattened(Volume(array, grid_of(image).affine))


def _write(path: Path, volume: Image | Labels, key: str) -> None:
    suffix = full_suffix(path)
    if suffix in (".nii", ".nii.gz"):
        write_nifti(path, volume.array, space_affine(volume.grid))
    elif suffix == ".npz":
        with replaced(path) as temporary:
            arrays: dict[str, Any] = {key: volume.array, "affine": volume.grid.affine}
            np.savez_compressed(temporary, **arrays)
    elif suffix in (".mha", ".nrrd"):
        import SimpleITK as sitk

        from regbench.files.itk import to_sitk

        image = to_sitk(volume)
        with replaced(path) as temporary:
            sitk.WriteImage(image, str(temporary), useCompression=True)
    else:
        raise StoreError(f"{path}: cannot write '{suffix}' files; use .nii.gz, .npz, .mha or .nrrd")
