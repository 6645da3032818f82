"""NIfTI, Analyze and FreeSurfer volumes as arrays with their affine, through nibabel.

Analyze 7.5 pairs are read whether the data file is `.img` or `.img.gz`. Their header holds spacings but no
orientation that programs agree on; nibabel's rule is used (x runs to the left, the origin lies in the
middle), the same for images and label maps. Values are scaled as the header says and keep the type that
follows from that. nibabel is imported inside the functions.
"""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regbench.errors import DatasetError
from regbench.files.atomic import full_suffix, replaced

ANALYZE_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")
NIFTI_SUFFIXES = (".nii", ".nii.gz", *ANALYZE_SUFFIXES, ".mgz", ".mgh")
INTENT_VECTOR = 1007


@dataclass(frozen=True)
class Volume:
    """The raw content of a file: array of any dimension, 4x4 affine voxel -> RAS mm, NIfTI intent with its name and
    first parameter."""

    array: np.ndarray
    affine: np.ndarray
    intent: int = 0
    intent_name: str = ""
    intent_parameter: float = 0.0


def read_nifti(path: Path) -> Volume:
    """The content of a NIfTI, Analyze or FreeSurfer file; raises whatever nibabel raises."""
    import nibabel as nib

    if full_suffix(path) in ANALYZE_SUFFIXES:
        image = _load_pair(*header_and_data(path))
    else:
        # Without memory mapping, so that a file replaced later cannot change or crash what was read.
        image = nib.load(path, mmap=False) if full_suffix(path) in (".nii", ".nii.gz") else nib.load(path)
    intent, name, parameter = 0, "", 0.0
    if isinstance(image.header, nib.Nifti1Header):
        intent = int(image.header["intent_code"])
        name = image.header.get_intent()[2]
        parameter = float(image.header["intent_p1"])
    return Volume(np.asarray(image.dataobj), np.asarray(image.affine, dtype=float), intent, str(name), parameter)


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray, intent: int = 0) -> None:
    """Write an array as `.nii` or `.nii.gz` with both forms of the affine, complete or not at all."""
    import nibabel as nib

    image = nib.Nifti1Image(array, affine)
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    sheared = np.abs(unit.T @ unit - np.eye(3)).max() > 1e-3
    image.set_sform(affine, 1)
    # The quaternion form cannot express shear; readers then fall back on the other one.
    image.set_qform(None if sheared else affine, 0 if sheared else 1)
    if intent:
        image.header.set_intent(intent)
    image.header.set_xyzt_units("mm")
    with replaced(path) as temporary:
        nib.save(image, temporary)


def header_and_data(path: Path) -> tuple[Path, Path]:
    """The two files of an Analyze or NIfTI pair of which `path` is one; DatasetError if the other is missing."""
    name, suffix = path.name, full_suffix(path)
    base = path.with_name(name[: -len(suffix)])
    found = []
    for part in (".hdr", ".img"):
        if suffix.startswith(part):
            found.append(path)
            continue
        candidates = [base.with_name(base.name + part + extra) for extra in ("", ".gz")]
        existing = [candidate for candidate in candidates if candidate.is_file()]
        if not existing:
            raise DatasetError(f"its other half {candidates[0].name} is missing; put both files in one folder")
        found.append(existing[0])
    return found[0], found[1]


def _load_pair(header: Path, data: Path) -> Any:
    import nibabel as nib

    if _is_nifti(header):
        return nib.Nifti1Pair.from_file_map(_file_map(header, data), mmap=False)
    # An empty .mat: this class wants one, and SPM's own orientation files are not followed.
    files = {**_file_map(header, data), "mat": nib.FileHolder(fileobj=io.BytesIO())}
    return nib.Spm2AnalyzeImage.from_file_map(files, mmap=False)


def _file_map(header: Path, data: Path) -> dict[str, Any]:
    import nibabel as nib

    return {"header": nib.FileHolder(str(header)), "image": nib.FileHolder(str(data))}


def _is_nifti(header: Path) -> bool:
    with gzip.open(header) if header.suffix.lower() == ".gz" else header.open("rb") as stream:
        return stream.read(348)[344:347] == b"ni1"
