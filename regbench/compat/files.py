"""The files of a case: field, labels, masks, landmarks.

Volumes are held as NIfTI stores them, with the last axis of the file first: an image (Z, Y, X), a field
(3, Z, Y, X) whose component k belongs to axis k of what is held, and points as (z, y, x). That spares a copy of the
field, and no score depends on the order of the axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regbench.compat.config import CasePair, Task
from regbench.errors import DatasetError, InvalidDisplacement
from regbench.files.atomic import first_line
from regbench.files.conventions import from_learn2reg
from regbench.files.images import check_exists
from regbench.files.nifti import read_nifti
from regbench.slabs import row_slabs
from regbench.volume import Grid, Labels

_SUFFIXES = (".npz", ".nii.gz")


@dataclass(frozen=True, eq=False)
class Field:
    """A displacement in voxels, (3, *shape) of finite float32 or float64, and where it came from.

    `single` says that the official evaluator holds it in float32, which rounds what it reads from it; `refusal`
    says why its current version would not take this file, empty where it does.
    """

    array: np.ndarray
    path: Path
    single: bool = False
    refusal: str = ""


def load_field(folder: Path, pair: CasePair, task: Task) -> Field:
    """The field of a case; DatasetError if there is none to be read, InvalidDisplacement if it is no field."""
    path, refusal = _find_field(folder, pair, task)
    check_exists(path)
    try:
        array = _read_npz(path) if path.suffix == ".npz" else read_nifti(path).array
    except DatasetError:
        raise
    except Exception as error:
        # Parsers of other packages raise anything on a damaged file; all of it means the same to the user.
        raise DatasetError(f"{path}: cannot be read ({first_line(error)}); write the field again") from error
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise InvalidDisplacement(f"{path}: values of type {array.dtype} are no displacements; write real numbers")
    single = path.suffix == ".npz" and not task.is_lumir
    held, layout = _held(path, array, task)
    # float64 is kept where the official evaluator keeps it; float16 and whole numbers gain nothing by it.
    kind = np.float64 if held.dtype.itemsize > 4 and not single else np.float32
    if held.dtype != kind or not held[0].flags.c_contiguous:
        held = np.ascontiguousarray(held, dtype=kind)
    bad = sum(int(part.size - np.count_nonzero(np.isfinite(part))) for part in _slabs_of(held))
    if bad:
        raise InvalidDisplacement(f"{path}: {bad} of {held.size} components are NaN or infinite; score another field")
    return Field(held, path, single, refusal or layout)


def _slabs_of(array: np.ndarray) -> Iterator[np.ndarray]:
    return (component[rows] for component in array for rows in row_slabs(component.shape))


def _find_field(folder: Path, pair: CasePair, task: Task) -> tuple[Path, str]:
    """The file of a field and why the official evaluator would not look for it (empty where it does).

    The classical evaluator takes the short name for modalities 0000 <- 0001 only, LUMIR's for equal ones, too, and
    then no other.
    """
    same = pair.modalities[0] == pair.modalities[1]
    paired = pair.modalities == ("0000", "0001")
    short_first = paired or (same and task.is_lumir)
    names = [pair.short_name, pair.long_name] if short_first else [pair.long_name, pair.short_name]
    if task.ambiguous(pair.short_name):
        names.remove(pair.short_name)
    for name in names:
        for suffix in _SUFFIXES:
            path = folder / (name + suffix)
            if path.is_file():
                taken = name == names[0] or (paired and not task.is_lumir)
                return path, "" if taken else f"it looks for {names[0]} and not for {name}"
    wanted = " or ".join(names)
    raise DatasetError(f"{folder}: holds no {wanted} ({' or '.join(_SUFFIXES)}); add the field of this pair")


def _read_npz(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as stored:
        if len(stored.files) != 1:
            names = ", ".join(stored.files) or "nothing"
            raise DatasetError(f"{path}: holds {names}; a field file holds one array")
        array: np.ndarray = stored[stored.files[0]]
        return array


def _held(path: Path, array: np.ndarray, task: Task) -> tuple[np.ndarray, str]:
    """The field with components and axes as held, and why the official evaluator would refuse its layout."""
    shape = task.shape or (array.shape[:3] if array.shape[-1:] == (3,) else array.shape[1:])
    if array.shape == (*shape, 3):
        return array.T[::-1], ""
    if task.is_lumir and array.shape == (3, *shape):
        return array.transpose(0, 3, 2, 1)[::-1], ""
    if path.suffix == ".npz" and array.shape == (3, *(n // 2 for n in shape)) and not any(n % 2 for n in shape):
        grid = Grid.from_spacing(shape)
        return from_learn2reg(array, grid, grid).vectors_mm.T[::-1], "it takes no fields of half resolution any more"
    raise InvalidDisplacement(
        f"{path}: array of shape {array.shape}, expected {(*shape, 3)}; write voxels on the fixed grid, components last"
    )


def read_volume(path: Path) -> np.ndarray:
    """The array of a NIfTI file as held, (Z, Y, X); DatasetError if there is none."""
    check_exists(path)
    try:
        array = read_nifti(path).array.T
    except Exception as error:
        raise DatasetError(f"{path}: cannot be read ({first_line(error)}); copy the file again") from error
    if array.ndim != 3:
        raise DatasetError(f"{path}: holds a {array.ndim}-D array; Learn2Reg tasks are 3-D")
    return array


def read_labels(task: Task, image: str) -> Labels:
    """The label map that belongs to an image, on a grid of 1 mm: official distances are in voxels."""
    return _as_labels(task.folder / image.replace("images", "labels"))


def read_mask(task: Task, image: str) -> np.ndarray | None:
    """The mask that belongs to an image, bool; None if there is no such file. Only the value 1 is inside."""
    path = task.folder / image.replace("images", "masks")
    return read_volume(path) == 1 if path.exists() else None


def read_spacing(task: Task, image: str) -> np.ndarray:
    """The voxel size of an image in mm as its header states it, in the order of held axes; nothing else is read."""
    import nibabel as nib

    path = task.folder / image
    check_exists(path)
    try:
        header: Any = nib.load(path).header
        zooms = header.get_zooms()[:3]
    except Exception as error:
        raise DatasetError(f"{path}: cannot be read ({first_line(error)}); copy the file again") from error
    return np.array(zooms, dtype=np.float64)[::-1]


def read_points(task: Task, pair: CasePair, destination: str) -> tuple[np.ndarray, np.ndarray]:
    """Corresponding points (N, 3) of fixed and moving image in voxels from CSV files, as held."""
    fixed, moving = (_read_csv(path) for path in _landmark_files(task, pair, destination, ".csv"))
    if fixed.shape != moving.shape:
        raise DatasetError(
            f"{pair.name}: {len(fixed)} fixed and {len(moving)} moving {destination}; they must be pairs"
        )
    return fixed, moving


def read_landmark_images(task: Task, pair: CasePair, destination: str) -> tuple[Labels, Labels]:
    """Landmarks of fixed and moving image as label maps."""
    fixed, moving = _landmark_files(task, pair, destination, ".nii.gz")
    return _as_labels(fixed), _as_labels(moving)


def _landmark_files(task: Task, pair: CasePair, destination: str, suffix: str) -> tuple[Path, Path]:
    """The landmark files of both images, in the first folder that has them."""
    folders = [destination]
    if pair.modalities[0] != pair.modalities[1] and pair.modalities != ("0000", "0001"):
        low, high = sorted(pair.modalities)
        # The evaluator asks for the first (keypoints00000002Tr); data were released as the second (keypoints02Tr).
        short = "".join(modality.lstrip("0") or "0" for modality in (low, high))
        folders = [destination + low + high, destination + short, destination]
    found = [
        [
            task.folder / image.replace("images", folder).replace(".nii.gz", suffix)
            for image in (pair.fixed, pair.moving)
        ]
        for folder in folders
    ]
    one, two = next((paths for paths in found if all(path.is_file() for path in paths)), found[-1])
    return one, two


def _read_csv(path: Path) -> np.ndarray:
    check_exists(path)
    try:
        points = np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as numbers ({first_line(error)}); copy the file again") from error
    if points.shape[1] != 3 or not np.isfinite(points).all():
        raise DatasetError(f"{path}: is not a list of points x,y,z in voxels; copy the file again")
    return points[:, ::-1]


def _as_labels(path: Path) -> Labels:
    array: Any = read_volume(path)
    try:
        return Labels(array, Grid.from_spacing(array.shape))
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
