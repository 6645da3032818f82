"""`dirlab-4dct` and `dirlab-copd`: ten cases each of lung CT with 300 landmarks, the test of respiratory motion.

    Case1Pack/Images/case1_T00_s.img       raw little-endian int16, x fastest, no header
    Case1Pack/ExtremePhases/Case1_300_T00_xyz.txt, Case1_300_T50_xyz.txt        300 rows "x y z"
    Case1Pack/Sampled4D/case1_4D-75_T00.txt                                     75 points of all phases
    Case8Deploy/extremePhases/case8_dirLab300_T00_xyz.txt                       names differ between cases
    copd1/copd1/copd1_iBHCT.img, copd1_eBHCT.img, copd1_300_iBH_xyz_r1.txt, copd1_300_eBH_xyz_r1.txt

Files are found by their names in any folder below the root, letters of either case. Sizes and spacings are those of the
documentation, because the files hold none; a file of another size is refused. Landmarks are voxel indices from ONE.
Values are shifted by -1024 to Hounsfield units, and what is below air becomes air. No orientation is in the files: x is
taken to run to the left, y to the back, z upwards.

Pairs: `official` is end of inhale (T00, iBH) fixed and end of exhale (T50, eBH) moving, for each case. `phases` of
the 4DCT, such as [T00, T30], are fixed and moving; other phases than T00 and T50 have the 75 points of Sampled4D.

How to obtain: https://med.emory.edu/departments/radiation-oncology/research-laboratories/deformable-image-registration
(registration required). Licence: for research, see there.
Citation: Castillo et al., Phys. Med. Biol. 54 (2009) 1849-1870; Castillo et al., Phys. Med. Biol. 58 (2013) 2861-2877.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from regbench.datasets.contents import content_hash
from regbench.datasets.folder_dataset import FolderDataset
from regbench.datasets.listing import Layout, ListedScan, files_in, walked
from regbench.errors import ConfigError, DatasetError
from regbench.files.images import check_exists
from regbench.volume import Grid, Image, Landmarks

_AIR = 1024
# Voxels and spacing in mm along x and y; z is 2.5 mm.
_CASES_4DCT = (
    ((256, 256, 94), 0.97),
    ((256, 256, 112), 1.16),
    ((256, 256, 104), 1.15),
    ((256, 256, 99), 1.13),
    ((256, 256, 106), 1.10),
    ((512, 512, 128), 0.97),
    ((512, 512, 136), 0.97),
    ((512, 512, 128), 0.97),
    ((512, 512, 128), 0.97),
    ((512, 512, 120), 0.97),
)
_CASES_COPD = (
    ((512, 512, 121), 0.625),
    ((512, 512, 102), 0.645),
    ((512, 512, 126), 0.652),
    ((512, 512, 126), 0.590),
    ((512, 512, 131), 0.647),
    ((512, 512, 119), 0.633),
    ((512, 512, 112), 0.625),
    ((512, 512, 115), 0.586),
    ((512, 512, 116), 0.664),
    ((512, 512, 135), 0.742),
)
_DEPTH = 4


class _DirLab(FolderDataset):
    """Reading of raw volumes and one-based landmarks of numbered cases."""

    cases: ClassVar[Sequence[tuple[tuple[int, int, int], float]]]

    def _grid_of(self, scan: ListedScan) -> Grid:
        shape, spacing = self.cases[int(scan.tags["case"]) - 1]
        affine = np.diag([-spacing, -spacing, 2.5, 1.0])
        return Grid(shape, affine)

    def _image_of(self, scan: ListedScan) -> Image:
        grid = self._grid_of(scan)
        values = raw_volume(scan.image, grid.shape)
        return Image(np.maximum(values.astype(np.float32) - _AIR, -_AIR), grid)

    def _points_of(self, scan: ListedScan, path: Path, grid: Grid) -> Landmarks:
        return one_based_points(path, grid)

    def _hash_of(self, path: Path) -> list[str]:
        # These .img files have no header beside them.
        return content_hash(path, alone=True)

    def _official(self, scans: Mapping[str, ListedScan]) -> list[tuple[str, str]]:
        fixed, moving = self._sides()
        by_case: dict[str, dict[str, str]] = {}
        for scan in scans.values():
            by_case.setdefault(scan.of, {})[scan.tags["phase"]] = scan.name
        return [(found[fixed], found[moving]) for found in by_case.values() if {fixed, moving} <= found.keys()]

    def _sides(self) -> tuple[str, str]:
        raise NotImplementedError

    def _scan(self, case: str, number: str, phase: str, image: Path, landmarks: Path | None) -> ListedScan:
        if not 1 <= int(number) <= len(self.cases):
            raise DatasetError(f"{image}: case {number} is not one of the {len(self.cases)} of {self.layout.name}")
        tags = {"case": int(number), "phase": phase, "modality": "CT"}
        return ListedScan(f"{case}{number}-{phase}", image, landmarks=landmarks, subject=f"{case}{number}", tags=tags)


@dataclass(frozen=True)
class DirLab4dct(_DirLab):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    pairs: str = "official"
    phases: tuple[str, str] = ("T00", "T50")

    layout: ClassVar = Layout(
        name="dirlab-4dct",
        looks_for="Case1Pack/Images/case1_T00_s.img",
        family="dirlab-4dct",
    )
    cases: ClassVar = _CASES_4DCT

    def __post_init__(self) -> None:
        super().__post_init__()
        for phase in self.phases:
            if not re.fullmatch(r"T\d0", phase):
                raise ConfigError(f"{self._where('phases')}: '{phase}' is not a phase; they are T00, T10, ... T90")

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The folder of the cases, or of one."""
        return {"path": str(folder)} if _found(folder, _IMAGE_4DCT) else None

    def _listed(self) -> list[ListedScan]:
        extremes = _found(self.folder, _POINTS_4DCT)
        sampled = _found(self.folder, _SAMPLED_4DCT)
        is_extreme = set(self.phases) == {"T00", "T50"}
        scans = []
        for (number, phase), path in _found(self.folder, _IMAGE_4DCT).items():
            points = extremes if is_extreme else sampled
            scans.append(self._scan("case", number, phase.upper(), path, points.get((number, phase.upper()))))
        return scans

    def _sides(self) -> tuple[str, str]:
        return self.phases


@dataclass(frozen=True)
class DirLabCopd(_DirLab):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    pairs: str = "official"

    layout: ClassVar = Layout(
        name="dirlab-copd",
        looks_for="copd1/copd1/copd1_iBHCT.img",
        family="dirlab-copd",
    )
    cases: ClassVar = _CASES_COPD

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The folder of the cases, or of one."""
        return {"path": str(folder)} if _found(folder, _IMAGE_COPD) else None

    def _listed(self) -> list[ListedScan]:
        points = _found(self.folder, _POINTS_COPD)
        return [
            self._scan("copd", number, f"{phase[0].lower()}BH", path, points.get((number, phase)))
            for (number, phase), path in _found(self.folder, _IMAGE_COPD).items()
        ]

    def _sides(self) -> tuple[str, str]:
        return "iBH", "eBH"


_IMAGE_4DCT = re.compile(r"case(\d{1,2})_(t\d0).*\.img", re.IGNORECASE)
_POINTS_4DCT = re.compile(r"case(\d{1,2})_(?:dirlab)?300_(t\d0)_xyz.*\.txt", re.IGNORECASE)
_SAMPLED_4DCT = re.compile(r"case(\d{1,2})_4d-?75_(t\d0).*\.txt", re.IGNORECASE)
_IMAGE_COPD = re.compile(r"copd(\d{1,2})_([ie]bh)ct\.img", re.IGNORECASE)
_POINTS_COPD = re.compile(r"copd(\d{1,2})_300_([ie]bh)_xyz.*\.txt", re.IGNORECASE)


def _found(root: Path, name: re.Pattern[str]) -> dict[tuple[str, str], Path]:
    """The files below a folder whose names say a case and a phase, by both, in the order of the cases."""
    found: dict[tuple[str, str], Path] = {}
    for folder in walked(root, _DEPTH):
        for path in files_in(folder):
            match = name.fullmatch(path.name)
            if match:
                found.setdefault((str(int(match[1])), match[2].upper()), path)
    return dict(sorted(found.items(), key=lambda item: (int(item[0][0]), item[0][1])))


def raw_volume(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A volume of little-endian int16 without a header, the first axis fastest; DatasetError if its size is another."""
    check_exists(path)
    size, expected = path.stat().st_size, 2 * int(np.prod(shape))
    if size != expected:
        words = "x".join(map(str, shape))
        raise DatasetError(f"{path}: has {size} bytes; {words} voxels of int16 are {expected}; copy it again")
    return np.fromfile(path, dtype="<i2").reshape(shape, order="F")


def one_based_points(path: Path, grid: Grid) -> Landmarks:
    """The points of a text file of voxel indices from one, in RAS mm; DatasetError if it holds something else."""
    check_exists(path)
    try:
        points = np.loadtxt(path, ndmin=2, dtype=float)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as rows of x y z ({error}); copy it again") from None
    if points.shape[1] != grid.ndim:
        raise DatasetError(f"{path}: has {points.shape[1]} columns; a point has {grid.ndim}")
    return Landmarks(grid.to_world(points - 1.0))
