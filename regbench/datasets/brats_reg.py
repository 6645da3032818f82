"""`brats-reg`: brain tumour scans before and after treatment, in four contrasts, with landmarks.

    root/BraTSReg_002/BraTSReg_002_00_0000_t1.nii.gz, _t1ce, _t2, _flair      before the operation (day 0000)
                      BraTSReg_002_01_0262_t1.nii.gz, ...                      at follow-up (day 0262)
                      BraTSReg_002_00_0000_landmarks.csv, ..._01_0262_landmarks.csv       Landmark,X,Y,Z

240x240x155 voxels of 1 mm, skull-stripped. Landmarks are physical points in LPS mm. `contrast` is one of t1, t1ce, t2,
flair. Pairs: `official` moves the follow-up onto the first scan of each subject, and landmarks of both are matched
by their row, which their numbers confirm. The data hold no masks of the tumour, so nothing is excluded from scores but
landmarks outside of their image; give masks of your own as a CSV with the columns `fixed_excluded`, `moving_excluded`.

How to obtain: https://www.synapse.org/brats_reg. Licence: for research, see there.
Citation: Baheti et al., arXiv:2112.06979.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from regbench.datasets.folder_dataset import FolderDataset
from regbench.datasets.listing import Layout, ListedScan, files_in, folders_in, matching
from regbench.errors import DatasetError
from regbench.volume import Grid, Landmarks


@dataclass(frozen=True)
class BratsReg(FolderDataset):
    """The data set; see `regbench.datasets.folder_dataset` for the parameters of all folders."""

    pairs: str = "official"
    contrast: Literal["t1", "t1ce", "t2", "flair"] = "t1ce"

    layout: ClassVar = Layout(
        name="brats-reg",
        looks_for="BraTSReg_002/BraTSReg_002_00_0000_t1ce.nii.gz",
        family="brats-reg",
    )

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """The folder of the subjects."""
        for inner, _ in matching(folders_in(folder), r"BraTSReg_\d+"):
            if matching(files_in(inner), r"BraTSReg_\d+_\d\d_\d{4}_(t1|t1ce|t2|flair)\.nii(\.gz)?"):
                return {"path": str(folder)}
        return None

    def _listed(self) -> list[ListedScan]:
        scans = []
        for folder, subject in matching(folders_in(self.folder), r"BraTSReg_(\d+)"):
            pattern = rf"(BraTSReg_{subject[1]}_(\d\d)_(\d{{4}}))_{self.contrast}\.nii(\.gz)?"
            for path, match in matching(files_in(folder), pattern):
                points = folder / f"{match[1]}_landmarks.csv"
                tags = {"visit": match[2], "day": int(match[3]), "modality": self.contrast}
                name = f"{subject[1]}-{match[2]}"
                landmarks = points if points.is_file() else None
                scans.append(ListedScan(name, path, landmarks=landmarks, subject=subject[1], tags=tags))
        return scans

    def _official(self, scans: Mapping[str, ListedScan]) -> list[tuple[str, str]]:
        visits: dict[str, list[str]] = {}
        for scan in scans.values():
            visits.setdefault(scan.of, []).append(scan.name)
        return [(names[0], later) for names in visits.values() for later in names[1:]]

    def _points_of(self, scan: ListedScan, path: Path, grid: Grid) -> Landmarks:
        return lps_points(path)


def lps_points(path: Path) -> Landmarks:
    """The points of a CSV with the columns Landmark,X,Y,Z in LPS mm, as RAS mm, in the order of their numbers.

    The number of a landmark is its row, from 1, so that rows of two files correspond; DatasetError otherwise.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [{str(k).strip().lower(): v for k, v in row.items()} for row in csv.DictReader(stream)]
        numbers = [int(float(row["landmark"])) for row in rows]
        points = np.array([[float(row[axis]) for axis in "xyz"] for row in rows]).reshape(-1, 3)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: cannot be read as Landmark,X,Y,Z ({error!r}); copy it again") from None
    if sorted(numbers) != list(range(1, len(numbers) + 1)):
        raise DatasetError(f"{path}: landmarks are not numbered 1 to {len(numbers)}; rows of two files must correspond")
    return Landmarks(points[np.argsort(numbers)] * (-1.0, -1.0, 1.0))
